"""MLflow's machine: what cloud-init installs, and that the service is a working MLflow with TLS and authentication."""

import base64
import configparser
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_machine import certificates, cloud, postgres, storage
from terraform_runs import INFRA, PASSWORD, ROOT, outcome, required, sensitive

from rehearsal.machine import Boot, Machine, boot_of, machine_in, started
from rehearsal.processes import answers, free_port, running, wait_for

FILES = INFRA / "modules" / "mlflow-server" / "files"
BUCKET = "acme-fraud-mlflow"
DATABASE_PASSWORD = "p%40s:w/o?r#d@1"  # noqa: S105  (whatever Connection Manager makes up)
PASSWORDS = {
    "admin": "admin-password-of-lockbox",
    "job": "job-password-of-lockbox",
    "session": "session-key-of-lockbox",
}
S3_KEY = {"access_key": "access-key-of-lockbox", "secret_key": "secret-key-of-lockbox"}
SECRETS = (DATABASE_PASSWORD, *PASSWORDS.values(), *S3_KEY.values())


@pytest.fixture(scope="module")
def boot() -> Boot:
    """The cloud-init of the defaults, as applied by Terraform's tests."""
    machine = outcome().runs["defaults/apply"].one("module.mlflow_server.yandex_compute_instance.this")
    return boot_of(machine.values["metadata"]["user-data"])


def test_cloud_init_fits_into_the_metadata_and_opens_no_way_in(boot: Boot) -> None:
    """Fails when MLflow's machine cannot boot from its metadata, or somebody can log in who was not allowed to."""
    assert boot.size < 65536  # the metadata of a machine is limited; the limit is not published for this key
    assert boot.cloud_config["ssh_pwauth"] is False
    assert not [user for user in boot.cloud_config["users"] if user.keys() - {"name", "system", "shell"}]


def test_every_service_is_started_at_the_first_boot(boot: Boot) -> None:
    """Fails when MLflow's machine boots without one of its services, or with a program that it may not run."""
    commands = boot.cloud_config["runcmd"]
    units = {path.name: _unit(boot.files[str(path)]) for path in map(Path, boot.files) if path.suffix == ".service"}
    enabled = [unit for words in commands if {"enable", "--now"} <= set(words) for unit in words if unit in units]
    wanted = [other for unit in enabled for other in units[unit]["Unit"].get("Wants", "").split()]
    assert {*enabled, *wanted} >= set(units)
    assert commands.index(["systemctl", "daemon-reload"]) == 0, "systemd does not know the units yet"
    assert all("Install" in units[unit] for unit in enabled), "it would not be started at the next boot"
    programs = [unit["Service"]["ExecStart"].split()[0] for unit in units.values()]
    assert {boot.modes[program] for program in programs if program in boot.files} == {"0755"}


def test_cloud_init_holds_no_secret(boot: Boot) -> None:
    """Fails when a secret is in the machine's metadata, which its processes and Terraform's state can read."""
    found = outcome()
    applied = found.runs["defaults/apply"]
    secrets = {
        str(value)
        for resource in applied.resources
        if resource.type in found.schema
        for _, value in sensitive(found.schema[resource.type]["block"], resource.values, resource.address)
    } - {"job"}  # the user's name
    assert PASSWORD in secrets
    assert not [path for path, text in boot.files.items() for secret in secrets if secret in text]
    ids = set(json.loads(boot.files["/etc/mlflow/server.json"])["secret_ids"].values())
    made = {secret.values["id"] for secret in applied.of("yandex_lockbox_secret")}
    assert len(ids - made) == 1, "all but that of Connection Manager's are ids of Terraform's secrets"
    for path, text in boot.files.items():
        if path != "/etc/mlflow/server.json":  # every other file is the repository's own, the same for everybody
            assert text == (FILES / Path(path).name).read_text()


def _unit(text: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    return unit


def test_job_gets_a_new_password_each_time() -> None:
    """Fails when two installations share the job's password, or it is too short."""
    script = FILES / "password.sh"
    made = {subprocess.run([str(script)], capture_output=True, text=True, check=True).stdout for _ in range(20)}
    assert len(made) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9]{40}", password) for password in made)


def test_services_name_files_that_are_there_and_restart_for_ever(boot: Boot) -> None:
    """Fails when a service of MLflow's machine names a missing file, or is not restarted after a crash."""
    units = {path: text for path, text in boot.files.items() if path.endswith(".service")}
    assert units
    for path, text in units.items():
        unit = _unit(text)
        assert unit["Service"]["Restart"] in ("always", "on-failure"), path
        assert unit["Unit"]["StartLimitIntervalSec"] == "0", path
        words = [word for word in unit["Service"]["ExecStart"].split() if not word.startswith("/opt/mlflow/venv/")]
        assert set(words) <= set(boot.files), path
        wanted = unit["Unit"].get("Wants", "").split() + unit["Unit"].get("After", "").split()
        for other in wanted:
            assert other == "network-online.target" or f"/etc/systemd/system/{other}" in units


def test_a_secret_that_cannot_be_read_is_named() -> None:
    """Fails when MLflow's machine does not start, and its log says 404 or 403 and not for which secret."""
    spec = importlib.util.spec_from_file_location("serve", FILES / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    with cloud({}) as address, pytest.raises(SystemExit) as ended:
        settings = {"metadata_endpoint": address, "lockbox_endpoint": address, "secret_ids": {"admin": "e6q0admin"}}
        serve.secret(settings, "admin")
    said = str(ended.value)
    assert "secret e6q0admin (admin) cannot be read; found: 403" in said
    assert "Permission denied" in said
    assert "lockbox.payloadViewer" in said


@pytest.mark.parametrize("failing", ["head", "tr"])
def test_no_password_is_made_where_a_step_fails(failing: str, tmp_path: Path) -> None:
    """Fails when a broken source of randomness gives the job an empty password, or a short one."""
    _program(tmp_path / "bin" / failing, "exit 1")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.defpath}"}
    done = subprocess.run([str(FILES / "password.sh")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == ""


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@dataclass(frozen=True)
class Installation:
    """A folder that stands for /opt/mlflow, with a package to install, and a curl that does not use the network."""

    folder: Path

    def run(self, requirement: str) -> bool:
        """Run install.sh with this line in requirements.txt; whether it succeeded."""
        (self.folder / "requirements.txt").write_text(f"{requirement}\n")
        script = self.folder / "install.sh"
        script.write_text((FILES / "install.sh").read_text().replace("=/opt/mlflow", f"={self.folder}"))
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.folder), "PIP_CONFIG_FILE": os.devnull}
        environment = {"PATH": f"{self.folder / 'bin'}:{os.defpath}", **offline}
        done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is (self.folder / "installed").exists(), done.stderr
        return done.returncode == 0

    def has(self, package: str) -> bool:
        return any(self.folder.glob(f"venv/lib/python*/site-packages/{package}.py"))


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    folder = tmp_path / "opt"
    _program(folder / "bin" / "curl", f"echo authority > {folder}/ca.part")
    (folder / "bin" / "python3").symlink_to(sys.executable)
    for name, needs in (("small", "Requires-Dist: other\n"), ("other", "")):
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            info = f"{name}-1.0.dist-info"
            wheel.writestr(f"{name}.py", "")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return Installation(folder)


def _hash(path: Path) -> str:
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.slow
def test_the_machine_installs_what_was_tested_and_nothing_more(installation: Installation) -> None:
    """Fails when MLflow's machine installs a changed package, one without a hash, or another one that it asks for."""
    wheel = installation.folder / "small-1.0-py3-none-any.whl"
    assert not installation.run("small==1.0"), "no hash"
    assert not installation.run(f"small==1.0 --hash=sha256:{'0' * 64}"), "another content"
    assert not installation.has("small")
    assert installation.run(f"small==1.0 {_hash(wheel)}")
    assert installation.has("small")
    assert not installation.has("other")


@pytest.mark.parametrize("failing", ["curl", "python3", "mv"])
def test_a_failed_step_leaves_the_machine_to_be_installed_again(failing: str, installation: Installation) -> None:
    """Fails when a failed download counts as installed, and MLflow's machine never gets a working server."""
    (installation.folder / "bin" / failing).unlink(missing_ok=True)
    _program(installation.folder / "bin" / failing, '[ "$1" = -c ]')  # python3 has ensurepip, and fails then
    wheel = installation.folder / "small-1.0-py3-none-any.whl"
    assert not installation.run(f"small==1.0 {_hash(wheel)}")


def test_every_package_has_a_hash(boot: Boot) -> None:
    """Fails when a package of MLflow's machine is without a hash or an exact version, and its installation stops."""
    lines = [line for line in boot.files["/opt/mlflow/requirements.txt"].splitlines() if not line.startswith("#")]
    pinned = r"[\w.-]+==\S+( ; python_version == '3\.1[12]')? (--hash=sha256:[0-9a-f]{64} ?)+$"
    assert [line for line in lines if not re.match(pinned, line)] == []


def test_packages_are_those_of_the_lock_file(boot: Boot, tmp_path: Path) -> None:
    """Fails when MLflow's machine runs another MLflow than the one that the tests use."""
    script, made = ROOT / "scripts" / "export_mlflow_requirements.py", tmp_path / "requirements.txt"
    words = [sys.executable, str(script), "--output", str(made), "--uv", os.environ["UV_PROGRAM"]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert boot.files["/opt/mlflow/requirements.txt"] == made.read_text(), f"run: python {script.relative_to(ROOT)}"


@pytest.fixture(scope="module")
def machine(boot: Boot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The files of cloud-init in a folder, with local addresses in its settings, and all services that it needs."""
    python = os.environ["MLFLOW_MACHINE_PYTHON"]
    folder = tmp_path_factory.mktemp("machine")
    known = boot.settings
    payloads = {known["secret_ids"][name]: {"password": value} for name, value in PASSWORDS.items()}
    payloads[known["secret_ids"]["job"]]["username"] = "job"
    payloads[known["secret_ids"]["s3"]] = S3_KEY
    payloads[known["secret_ids"]["postgres"]] = {"postgresql_password": DATABASE_PASSWORD}
    assert len(payloads) == 5, "two secrets are the same"
    port = free_port()
    with postgres(folder, DATABASE_PASSWORD) as database, storage(BUCKET) as s3, cloud(payloads) as address:
        addresses = {
            "port": port,
            "postgres_host": "localhost",
            "postgres_port": database,
            "ca_file": str(folder / "ca.pem"),
            "storage_endpoint": s3,
            "metadata_endpoint": address,
            "lockbox_endpoint": address,
        }
        yield machine_in(folder, boot, addresses, python)


@pytest.fixture(scope="module")
def server(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """The command of mlflow.service, running."""
    with started(machine) as process:
        yield process


def call(machine: Machine, path: str, user: str, password: str, body: object = None) -> tuple[int, Any]:
    """Status and content of one call of the API."""
    request = urllib.request.Request(f"{machine.url}{path}", method="GET" if body is None else "POST")  # noqa: S310
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"


def test_server_refuses_strangers_and_knows_its_administrator(
    machine: Machine, server: subprocess.Popen[bytes]
) -> None:
    """Fails when anybody in the network can read or change models, or the administrator cannot log in."""
    assert call(machine, EXPERIMENTS, "", "")[0] == 401
    assert call(machine, EXPERIMENTS, "admin", "password1234")[0] == 401
    assert call(machine, EXPERIMENTS, "admin", PASSWORDS["admin"])[0] == 200


def test_job_gets_its_account_and_logs_to_the_bucket(machine: Machine, server: subprocess.Popen[bytes]) -> None:
    """Fails when the retraining job cannot log to MLflow and its bucket, or can create accounts."""
    for _ in range(2):  # the second time the account is there already
        done = subprocess.run(
            machine.services["mlflow-accounts"], env=machine.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    script = (
        "import os, mlflow; mlflow.set_tracking_uri(os.environ['URL']); mlflow.set_experiment('retraining')\n"
        "with mlflow.start_run(): mlflow.log_metric('ap', 0.6); mlflow.log_text('a report', 'report.txt')"
    )
    account = {"MLFLOW_TRACKING_USERNAME": "job", "MLFLOW_TRACKING_PASSWORD": PASSWORDS["job"], "URL": machine.url}
    done = subprocess.run(
        [machine.python, "-c", script], env={**machine.environment, **account}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with urllib.request.urlopen(f"{machine.settings['storage_endpoint']}/{BUCKET}?list-type=2") as answer:  # noqa: S310
        assert re.search(r"<Key>artifacts/\S*report\.txt</Key>", answer.read().decode())
    status, _ = call(
        machine, "/api/2.0/mlflow/users/create", "job", PASSWORDS["job"], {"username": "x", "password": "y" * 12}
    )
    assert status == 403, "the job can make accounts"


def test_secrets_are_in_memory_alone(machine: Machine, server: subprocess.Popen[bytes]) -> None:
    """Fails when a secret can be read from process arguments, the log or a disk image."""
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode()
    assert "basic-auth" in arguments, "the process is not MLflow's server"
    log = (machine.folder / "log").read_text()
    accounts = machine.folder / "run" / "accounts.ini"
    assert accounts.stat().st_mode & 0o077 == 0
    for secret in SECRETS:
        assert secret not in arguments
        assert secret not in log
        for path in machine.folder.iterdir():
            assert not path.is_file() or secret not in path.read_text(), path


def test_server_comes_back_with_all_it_knew(machine: Machine, server: subprocess.Popen[bytes]) -> None:
    """Fails when a restarted MLflow has lost its runs, or does not start on an existing database."""
    environment = {**machine.environment, "RUNTIME_DIRECTORY": str(machine.folder / "second")}
    words = [*machine.services["mlflow"][:2], str(_elsewhere(machine))]
    with running(words, environment, machine.folder / "second.log", machine.folder / "run") as second:
        other = Machine(machine.folder, json.loads(_elsewhere(machine).read_text()), machine.python, machine.services)
        wait_for(lambda: answers(f"{other.url}/health"), "MLflow's second start", seconds=240, process=second)
        status, found = call(
            other, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default", "admin", PASSWORDS["admin"]
        )
        assert status == 200
        assert found["experiment"]["artifact_location"].startswith("mlflow-artifacts:/")


def _elsewhere(machine: Machine) -> Path:
    """The same machine's settings at another port."""
    path = machine.folder / "second.json"
    if not path.exists():
        (machine.folder / "second").mkdir(mode=0o700)
        port = free_port()
        path.write_text(json.dumps({**machine.settings, "port": port, "allowed_hosts": [f"127.0.0.1:{port}"]}))
    return path


@pytest.mark.parametrize("trouble", ["another authority", "another name"])
def test_server_does_not_trust_another_database(machine: Machine, tmp_path: Path, trouble: str) -> None:
    """Fails when MLflow sends its database password to a server whose certificate is not the right one."""
    settings = dict(machine.settings)
    if trouble == "another authority":
        settings["ca_file"] = str(certificates(tmp_path))
    else:
        settings["postgres_host"] = "127.0.0.1"  # where it is, but not what the certificate says
    (tmp_path / "server.json").write_text(json.dumps(settings))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import serve, sqlalchemy\n"
        "found = serve.read_settings(sys.argv[2])\n"
        "url = serve.database_url(found, 'mlflow', serve.password(found, 'postgres'))\n"
        "sqlalchemy.create_engine(url).connect()"
    )
    words = [machine.python, "-c", script, str(machine.folder), str(tmp_path / "server.json")]
    done = subprocess.run(words, env=machine.environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "certificate verify failed" in done.stderr or "does not match host name" in done.stderr
    assert not any(secret in done.stderr for secret in SECRETS)


def test_systemd_takes_the_units(boot: Boot, tmp_path: Path) -> None:
    """Fails when systemd ignores a misspelt line, and with it a restart or a protection."""
    program = required("systemd-analyze", "Debian's package systemd")
    for path, text in boot.files.items():
        if path.endswith(".service"):
            # The programs it names are not on this machine; /bin/true stands in for them.
            (tmp_path / Path(path).name).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text))
    units = [str(path) for path in tmp_path.glob("*.service")]
    done = subprocess.run([program, "verify", "--man=no", *units], capture_output=True, text=True)
    # The machine makes this user; a systemd that looks it up here does not find it.
    unknown_user = re.compile(r"Failed to resolve user|Unknown user|[Uu]ser '?mlflow'? (not found|does not exist)")
    ours = [line for line in done.stderr.splitlines() if "mlflow" in line and not unknown_user.search(line)]
    assert not ours, done.stderr
