"""`make import-variables` with a real Airflow's API server, and with fakes of both API versions without one."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployment.airflow import Airflow
from deployment.errors import UNREACHABLE, DeploymentError
from deployment.http import basic
from deployment.paths import ROOT, VARIABLES_EXAMPLE
from deployment.variables import create_connections, import_variables, read

AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
USER, PASSWORD = "admin", "a pass:word"
CONTENT: dict[str, Any] = json.loads(VARIABLES_EXAMPLE.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Started:
    """A real Airflow: its address, and its command line."""

    url: str
    environment: dict[str, str]

    def variable(self, name: str) -> str:
        """The value that a DAG gets. The API would hide it if its name looks secret."""
        done = subprocess.run(
            [str(AIRFLOW), "variables", "get", name], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Airflow's API server on SQLite, with the simple auth manager that the local stack uses."""
    if not AIRFLOW.exists():
        pytest.skip("Airflow is not installed here: make test-cloud")
    home = tmp_path_factory.mktemp("airflow")
    (home / "users.json").write_text(json.dumps({USER: PASSWORD}))
    port = _free_port()
    options = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "users.json"),
        "API__SECRET_KEY": "only-for-this-test",
        "API_AUTH__JWT_SECRET": "only-for-this-test-and-long-enough-for-a-signature-of-512-bits-0123456789",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
    }
    environment = {
        "AIRFLOW_HOME": str(home),
        "HOME": str(home),
        "PATH": f"{AIRFLOW.parent}:/usr/local/bin:/usr/bin:/bin",
        **{f"AIRFLOW__{name}": value for name, value in options.items()},
    }
    subprocess.run([str(AIRFLOW), "db", "migrate"], env=environment, check=True, capture_output=True)
    command = [str(AIRFLOW), "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = home / "api-server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            _wait(f"http://127.0.0.1:{port}/api/v2/version", process, log)
            yield Started(f"http://127.0.0.1:{port}", environment)
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            urllib.request.urlopen(url, timeout=5)  # noqa: S310
        except OSError:
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"{url} does not answer: {log.read_text(errors='replace')[-3000:]}")


@pytest.mark.slow
@pytest.mark.proof  # in CI the rehearsal gives a real Airflow its variables
def test_a_real_airflow_gets_the_variables_whole_also_a_second_time(started: Started, tmp_path: Path) -> None:
    """Fails when the DAGs read outdated settings after an import, or another variable is lost."""
    airflow = Airflow(started.url, USER, PASSWORD)
    import_variables(airflow, {**CONTENT, "other name/1": "text"})
    assert json.loads(started.variable("fraud_detection")) == CONTENT["fraud_detection"]
    assert started.variable("other name/1") == "text"
    changed = {"fraud_detection": {**CONTENT["fraud_detection"], "max_hours_without_decision": 11}}
    import_variables(airflow, changed)
    assert json.loads(started.variable("fraud_detection")) == changed["fraud_detection"]
    assert started.variable("other name/1") == "text", "a variable of another user is gone"


def test_the_connection_that_the_variables_name_is_made_once_and_never_changed(started: Started) -> None:
    """Fails when the first run finds no connection, or an import overwrites an existing one and its key."""
    airflow = Airflow(started.url, USER, PASSWORD)
    assert airflow.create_connection("cloud-of.mine", {"public_ssh_key": "ssh-ed25519 AAAA"})
    airflow.call(
        "PATCH",
        "connections/cloud-of.mine",
        {
            "connection_id": "cloud-of.mine",
            "conn_type": "yandexcloud",
            "description": "mine",
        },
    )
    create_connections(airflow, {"fraud_detection": {"connection": "cloud-of.mine"}, "text": "x"}, "ssh-ed25519 BBBB")
    found = airflow.call("GET", "connections/cloud-of.mine")
    assert (found["conn_type"], found["description"]) == ("yandexcloud", "mine")
    assert "AAAA" in found["extra"]


def test_a_real_airflow_refuses_a_wrong_password_and_nothing_is_shown_of_it(started: Started, tmp_path: Path) -> None:
    """Fails when a mistyped password is printed, or looks like a success."""
    env_file = tmp_path / ".env"
    env_file.write_text(f"AIRFLOW_URL={started.url}\nAIRFLOW_ADMIN_PASSWORD=wrong-one\nPUBLIC_SSH_KEY=ssh\n")
    done = _command(env_file, VARIABLES_EXAMPLE)
    assert done.returncode == 1
    assert "does not accept admin and this password (401)" in done.stderr
    assert "wrong-one" not in done.stdout + done.stderr
    env_file.write_text(f"AIRFLOW_URL={started.url}\nAIRFLOW_ADMIN_PASSWORD='{PASSWORD}'\nPUBLIC_SSH_KEY=ssh\n")
    done = _command(env_file, VARIABLES_EXAMPLE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fraud_detection: created" in done.stdout or "fraud_detection: replaced" in done.stdout
    assert "connection yandexcloud_default:" in done.stdout


def _command(env_file: Path, variables: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployment.variables", "--env", str(env_file), "--file", str(variables), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@contextmanager
def old_airflow(password: str = PASSWORD) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """The used part of Airflow 2's API, as the managed service has it: address, variables, cloud tokens seen."""
    kept = {"kept": "old", "replaced": "old"}
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
            tokens.append(self.headers.get("X-Cloud-Authorization", ""))
            name = self.path.removeprefix("/api/v1/variables").removeprefix("/")
            if not self.path.startswith("/api/v1/variables"):
                self._answer(404, {"title": "Not Found"})
            elif self.headers.get("Authorization") != basic(USER, password):
                self._answer(401, {"title": "Unauthorized"})
            elif self.command == "GET":
                self._answer(*((200, {"key": name, "value": kept[name]}) if name in kept else (404, {})))
            elif (body["key"] in kept) == (self.command == "PATCH"):
                kept[body["key"]] = body["value"]
                self._answer(200, body)
            else:
                self._answer(409, {"title": "Conflict"})

        do_GET = do_POST = do_PATCH = _handle  # noqa: N815

        def _answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kept, tokens
    finally:
        server.shutdown()
        server.server_close()


def test_airflow_2_is_spoken_to_in_its_own_way_with_the_clouds_token() -> None:
    """Fails when variables cannot be imported into a managed Airflow 2."""
    with old_airflow() as (url, kept, tokens):
        import_variables(Airflow(url, USER, PASSWORD, "t1.token"), {"replaced": {"a": 1}, "new": [1, 2]})
        assert kept["replaced"] == '{\n  "a": 1\n}'
        assert kept["kept"] == "old"
        assert json.loads(kept["new"]) == [1, 2]
        assert set(tokens) == {"Bearer t1.token"}
        with pytest.raises(DeploymentError, match="auth_backends"):
            import_variables(Airflow(url, USER, "wrong", "t1.token"), {"kept": "x"})


def test_nobody_at_the_address_is_worth_another_try() -> None:
    """Fails when a script cannot tell an Airflow that is still starting from a wrong password."""
    with pytest.raises(DeploymentError, match="connection failed") as failed:
        Airflow("http://127.0.0.1:9", USER, PASSWORD)
    assert failed.value.exit_code == UNREACHABLE


@pytest.mark.parametrize(
    ("content", "said"), [("[]", "contains no variables"), ("{", "is not JSON"), (None, "make env")]
)
def test_an_invalid_file_is_reported_before_airflow_is_asked(content: str | None, said: str, tmp_path: Path) -> None:
    """Fails when a missing or damaged variables.json is imported, and replaces Airflow's settings."""
    path = tmp_path / "variables.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DeploymentError, match=said):
        read(path)


def test_a_cluster_that_nobody_could_log_in_to_is_reported_before_the_first_run(tmp_path: Path) -> None:
    """Fails when a missing SSH key shows only in the first run, as Data Proc's refusal."""
    env_file = tmp_path / ".env"
    env_file.write_text("AIRFLOW_URL=http://127.0.0.1:9\nAIRFLOW_ADMIN_PASSWORD=x\n")
    variables = json.loads(VARIABLES_EXAMPLE.read_text(encoding="utf-8"))
    variables["fraud_detection"]["os_login"] = False
    path = tmp_path / "variables.json"
    path.write_text(json.dumps(variables))
    done = _command(env_file, path)
    assert done.returncode == 1
    assert "PUBLIC_SSH_KEY is not set: Data Proc needs one of them" in done.stderr
    done = _command(env_file, VARIABLES_EXAMPLE)
    assert "connection failed" in done.stderr, "OS Login, the default, needs no key"


def test_a_missing_password_key_or_token_is_reported_before_the_uploads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when `make deploy-full` uploads for minutes before it reports a missing password, key or token."""
    for name in ("YC_TOKEN", "AIRFLOW_ADMIN_PASSWORD", "TF_VAR_airflow_admin_password", "PUBLIC_SSH_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # without yc
    variables = json.loads(VARIABLES_EXAMPLE.read_text(encoding="utf-8"))
    variables["fraud_detection"]["os_login"] = False
    without_os_login = tmp_path / "variables.json"
    without_os_login.write_text(json.dumps(variables))
    env_file = tmp_path / ".env"
    said = "AIRFLOW_URL=https://c-1.airflow.yandexcloud.net\n"
    for file, more, message in (
        (VARIABLES_EXAMPLE, "", "AIRFLOW_ADMIN_PASSWORD is not set"),
        (without_os_login, "AIRFLOW_ADMIN_PASSWORD=x\n", "PUBLIC_SSH_KEY is not set"),
        (VARIABLES_EXAMPLE, "", "yc is not installed"),
        (without_os_login, "PUBLIC_SSH_KEY='ssh-ed25519 AAAA'\nYC_TOKEN=t1.token\n", ""),
    ):
        said += more
        env_file.write_text(said)
        done = _command(env_file, file, "--check")
        assert message in done.stderr
        assert done.returncode == 0 if not message else done.returncode != 0, done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ["nobody will be notified of failed runs", "nobody will notice if Airflow itself stops"]),
        ({"webhook_connection": "hook"}, ["nobody will notice if Airflow itself stops"]),
        ({"webhook_connection": "hook", "heartbeat_connection": "beat"}, []),
    ],
)
def test_a_deployment_ends_with_what_nobody_will_be_told(
    given: dict[str, str], said: list[str], tmp_path: Path
) -> None:
    """Fails when an installation without notifications looks complete, and its first failure stays unseen for weeks."""
    content = {"fraud_detection": json.loads(VARIABLES_EXAMPLE.read_text())["fraud_detection"] | given}
    (tmp_path / "variables.json").write_text(json.dumps(content))
    words = ["-m", "deployment.variables", "--silences", "--file", str(tmp_path / "variables.json")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(said)
    assert [words for words in said if words not in done.stdout] == []
