"""The parts of the rehearsal that need neither Terraform nor a cloud: what a failing stage says, TLS, the machine."""

import base64
import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from emulator.keys import make_certificates
from rehearsal import machine
from rehearsal.airflow import errors_of_tasks
from rehearsal.cloud import RehearsalError
from rehearsal.database import encrypted
from rehearsal.folders import stack_in
from rehearsal.jobs import emulator_settings
from rehearsal.processes import finished, free_port, running, wait_for
from rehearsal.stages import Rehearsal, Stage, run

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


def test_the_first_failing_stage_ends_the_rehearsal() -> None:
    """Fails when the rehearsal goes on after a stage that failed, or does not show which it was."""
    lines: list[str] = []

    def fail(_: Rehearsal) -> str:
        raise RehearsalError("MLflow has ended with 1; found: …")

    stages = (Stage("first", lambda _: "done"), Stage("second", fail), Stage("third", lambda _: "never"))
    with pytest.raises(RehearsalError, match="MLflow has ended"):
        run(stages, cast("Rehearsal", None), lines.append)
    assert [line.split()[0] for line in lines] == ["first", "second"]
    assert lines[0].endswith("done")
    assert lines[1].endswith("FAILED")


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while content := connection.recv(1 << 16):
                        connection.sendall(content)

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


def test_the_database_takes_encrypted_connections_alone(echo: int, tmp_path: Path) -> None:
    """Fails when MLflow would get a password through in clear, or a certificate that its settings do not trust."""
    make_certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    content = b"x" * 1_000_000
    with encrypted(tmp_path, echo) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(b"\x00\x00\x00\x08\x00\x03\x00\x00")
            assert plain.recv(1) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(SSL_REQUEST)
            assert plain.recv(1) == b"S"
            with trusting.wrap_socket(plain, server_hostname="localhost") as wrapped:
                sending = threading.Thread(target=wrapped.sendall, args=(content[:60_000],))
                sending.start()
                found = b""
                while len(found) < 60_000:
                    found += wrapped.recv(1 << 16)
                sending.join()
    assert found == content[:60_000]


def user_data(program: str) -> str:
    """A cloud-init with the two services of MLflow's machine."""
    units = {
        f"/etc/systemd/system/{name}.service": f"[Service]\nExecStart={program} /opt/mlflow/{script} "
        f"{machine.SETTINGS}\n"
        for name, script in (("mlflow", "serve.py"), ("mlflow-accounts", "accounts.py"))
    }
    texts = {**units, "/opt/mlflow/serve.py": "raise SystemExit(3)\n", machine.SETTINGS: json.dumps({"port": 5000})}
    files: list[dict[str, Any]] = [
        {"path": path, "permissions": "0644", "content": base64.b64encode(text.encode()).decode()}
        for path, text in texts.items()
    ]
    return f"#cloud-config\n{yaml.safe_dump({'write_files': files})}"


def test_the_machine_runs_the_commands_of_its_units(tmp_path: Path) -> None:
    """Fails when the rehearsal starts MLflow otherwise than its machine would, or hides why it does not start."""
    boot = machine.boot_of(user_data("/opt/mlflow/venv/bin/python"))
    made = machine.machine_in(tmp_path / "machine", boot, {"port": free_port()}, sys.executable)
    folder = tmp_path / "machine"
    assert made.services["mlflow"] == [sys.executable, str(folder / "serve.py"), str(folder / "server.json")]
    with pytest.raises(RehearsalError, match="MLflow has ended with 3"), machine.started(made):
        pass
    with pytest.raises(RehearsalError, match="starts /usr/bin/python3; expected: /opt/mlflow/venv/bin/python"):
        machine.machine_in(tmp_path / "other", machine.boot_of(user_data("/usr/bin/python3")), {"port": 1})
    with pytest.raises(RehearsalError, match="not of cloud-init"):
        machine.boot_of("#!/bin/sh")


def test_a_process_ends_with_its_children(tmp_path: Path) -> None:
    """Fails when servers of a rehearsal go on after it."""
    log = tmp_path / "log"
    script = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"
    )
    with running([sys.executable, "-c", script], {"PATH": "/usr/bin:/bin"}, log) as process:
        wait_for(lambda: bool(log.read_text()), "the child", process=process, log=log)
        child = Path("/proc") / log.read_text().strip()
        assert child.exists()
    wait_for(lambda: not child.exists() or "Z" in (child / "stat").read_text().split()[2], "its end", seconds=10)


def test_a_command_that_does_not_end_is_named_with_what_it_printed(tmp_path: Path) -> None:
    """Fails when a rehearsal that hangs ends with a stack trace instead of the command and its last words."""
    words = [sys.executable, "-c", "import time; print('Still creating...', flush=True); time.sleep(600)"]
    with pytest.raises(RehearsalError, match=r"terraform apply has not ended after 5 s; found:\nStill creating"):
        finished(words, "terraform apply", 5.0, tmp_path, {})


def test_the_errors_of_airflow_s_tasks_are_shown(tmp_path: Path) -> None:
    """Fails when a missing grant only shows as a failed task, whose log has gone with the rehearsal."""
    log = tmp_path / "logs" / "airflow" / "dag_id=d" / "run_id=r" / "task_id=create_cluster" / "attempt=1.log"
    log.parent.mkdir(parents=True)
    causes = [{"exc_type": "_InactiveRpcError", "exc_value": "PERMISSION_DENIED: vpc.subnets.use"}]
    entries: list[dict[str, Any]] = [
        {"level": "info", "event": "begun"},
        {"level": "error", "event": "Task failed with exception", "error_detail": causes},
    ]
    log.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    said = "Task failed with exception; _InactiveRpcError: PERMISSION_DENIED: vpc.subnets.use"
    assert errors_of_tasks(stack_in(tmp_path, {})) == [f"create_cluster: {said}"]


def test_missing_jars_are_named_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    """Fails when a rehearsal without the jars of S3A ends with Spark's own words, many minutes later."""
    with pytest.raises(RehearsalError, match=r"found: none in .*; next: make s3a"):
        emulator_settings(tmp_path)
    (tmp_path / "org.apache.hadoop_hadoop-aws-3.3.4.jar").touch()
    assert emulator_settings(tmp_path)["jobs"]["spark"]["properties"]["spark.driver.extraClassPath"] == f"{tmp_path}/*"
