"""The emulator's command line, as a person or a supervisor uses it."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.emulated_cloud import BUCKET, Api, emulated, settings
from yandex.cloud.lockbox.v1 import payload_service_pb2, secret_service_pb2

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "emulator", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with emulated(tmp_path_factory.mktemp("cloud") / "state") as found:
        yield found


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """Fails when `make up` on a machine with a taken port fails without naming it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = run("serve", "--state", tmp_path / "state", "--port", str(port))
    assert ended.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    """Fails when a misspelt setting silently falls back to its default."""
    config = tmp_path / "settings.yaml"
    config.write_text("timing:\n  create: 5\n")
    ended = run("serve", "--state", tmp_path / "state", "--config", config)
    assert ended.returncode == 1
    assert "timing.create" in ended.stderr
    config.write_text("jobs:\n  runner: spark\n")
    ended = run("serve", "--state", tmp_path / "state", "--config", config, "--port", "0")
    assert ended.returncode == 1
    assert "jobs.spark.python is not set" in ended.stderr


def test_init_shows_the_cloud_and_keeps_it(tmp_path: Path) -> None:
    """Fails when the stack cannot learn the ids that it configures, or a second `init` replaces its keys."""
    config = tmp_path / "settings.yaml"
    config.write_text(json.dumps(settings(port=18443, names={"folder_id": "b1gmine", "buckets": [BUCKET]})))
    first = run("init", "--state", tmp_path / "state", "--config", config)
    cloud = json.loads(first.stdout)
    assert (cloud["folder_id"], cloud["endpoint"]) == ("b1gmine", "127.0.0.1:18443")
    assert set(cloud["service_accounts"]) == {"airflow", "dataproc"}
    key = Path(cloud["service_accounts"]["airflow"]["key"]).read_text()
    assert json.loads(run("init", "--state", tmp_path / "state", "--config", config).stdout) == cloud
    assert Path(cloud["service_accounts"]["airflow"]["key"]).read_text() == key
    config.write_text(json.dumps(settings(names={"folder_id": "b1gother"})))
    other = run("init", "--state", tmp_path / "state", "--config", config)
    assert other.returncode == 1
    assert "b1gmine" in other.stderr


def test_health_tells_whether_the_emulator_answers(api: Api, tmp_path: Path) -> None:
    """Fails when a supervisor takes a dead emulator for a healthy one."""
    assert run("health", "--state", api.emulator.state).returncode == 0
    assert run("health", "--state", tmp_path / "none").returncode == 75


def test_faults_are_armed_shown_and_disarmed(api: Api) -> None:
    """Fails when an engineer cannot try a fault by hand, or cannot end it."""
    state = api.emulator.state
    armed = run("fault", "create-refused", "--state", state, "--times", "3", "--match", "cli-*")
    assert armed.returncode == 0, armed.stderr
    shown = json.loads(run("fault", "list", "--state", state).stdout)
    assert (shown["kind"], shown["left"], shown["match"]) == ("create-refused", 3, "cli-*")
    assert "disarmed 1" in run("fault", "clear", "--state", state).stdout
    wrong = run("fault", "create-slow", "--state", state)
    assert wrong.returncode == 1
    assert "needs seconds" in wrong.stderr


def test_clusters_jobs_and_events_are_shown(api: Api) -> None:
    """Fails when an engineer cannot see what the emulated cloud holds."""
    state = api.emulator.state
    cluster = api.create_cluster("shown")
    job_id, operation = api.create_job(cluster.id, "shown-job")
    api.done(operation)
    (line,) = run("clusters", "--state", state).stdout.splitlines()
    assert all(word in line for word in (cluster.id, "RUNNING", "shown", "run=shown"))
    (line,) = run("jobs", "--state", state).stdout.splitlines()
    assert all(word in line for word in (job_id, "DONE", "exit 0", "shown-job"))
    assert run("jobs", job_id, "--state", state).returncode == 0
    lines = run("events", "--state", state, "--kind", "job", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["PROVISIONING", "PENDING", "RUNNING", "DONE"]


def test_a_secret_is_put_without_being_an_argument(api: Api, tmp_path: Path) -> None:
    """Fails when a password must be given as an argument, which every user of the machine can see."""
    file = tmp_path / "password.txt"
    for value in ("first", "second"):
        file.write_text(f"{value}\n")
        put = run("secret", "airflow/connections/mlflow", "password", "--file", file, "--state", api.emulator.state)
        assert put.returncode == 0, put.stderr
    secret_id = put.stdout.strip()
    payload = api.payloads.Get(payload_service_pb2.GetPayloadRequest(secret_id=secret_id))
    assert {entry.key: entry.text_value for entry in payload.entries} == {"password": "second"}
    wrong = run("secret", "mlflow", "a key with spaces", "--file", file, "--state", api.emulator.state)
    assert wrong.returncode == 1
    assert "version_payload_entries[0].key" in wrong.stderr


def test_no_secret_gets_into_the_event_log_or_the_description(tmp_path: Path) -> None:
    """Fails when a log attached to a bug report holds keys, tokens or passwords."""
    password = "correct-horse-battery"  # noqa: S105
    with emulated(tmp_path / "state", metadata_port=0) as api:
        entry = secret_service_pb2.PayloadEntryChange(key="password", text_value=password)
        request = secret_service_pb2.CreateSecretRequest(
            folder_id=api.folder_id, name="mlflow", version_payload_entries=[entry]
        )
        api.secrets.Create(request)
        cluster = api.create_cluster("secretive")
        api.done(api.create_job(cluster.id, args=[f"--password={password}"])[1])
        api.emulator.add_fault("create-refused", match="*")
        api.wrapper()
        public = [api.emulator.state / name for name in ("events.jsonl", "cloud.json", "serve.log")]
        texts = "\n".join(path.read_text() for path in public)
        private = [password, (api.emulator.state / "control.token").read_text(), "BEGIN PRIVATE KEY", "t1."]
        private += [json.dumps(api.account_key(name)["private_key"]) for name in ("airflow", "dataproc")]
        assert [secret for secret in private if secret in texts] == []
        assert b"t1." not in (api.emulator.state / "store.sqlite").read_bytes()
