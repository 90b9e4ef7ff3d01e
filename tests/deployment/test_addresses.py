"""Addresses of services: wrong ones are refused before they are used, and never repeated in a message."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment.bucket import S3cmd
from deployment.environment import _SECRET_VALUE
from deployment.errors import DeploymentError
from deployment.http import call
from deployment.identity import StorageKey
from deployment.paths import ROOT

SIGNS = st.text(st.sampled_from("#/@?%:&=+[]\\'\" .é密0a"), min_size=1, max_size=4)


@given(SIGNS, SIGNS)
def test_an_address_with_a_password_is_refused_without_it(first: str, second: str) -> None:
    """Fails when a password in AIRFLOW_URL or S3_ENDPOINT is printed by the command that cannot use it."""
    address = f"http://anna:K1xQ{first}K2xQ{second}@host:8080"
    for use in (lambda: call("GET", address), lambda: S3cmd(address, StorageKey("k", "s"))):
        with pytest.raises(DeploymentError, match="without a user or a password") as raised:
            use()
        assert "xQ" not in str(raised.value)
    assert _SECRET_VALUE.search(address), "nor may it reach Airflow's variables"


def test_an_import_of_variables_shows_no_password(tmp_path: Path) -> None:
    """Fails when `make import-variables` shows the password of a wrong address."""
    (tmp_path / "variables.json").write_text('{"a": {"b": "c"}}')
    (tmp_path / ".env").write_text("AIRFLOW_URL='http://anna:K1xQ#K2xQ@host'\nAIRFLOW_PASSWORD=p\n")
    command = [sys.executable, "-m", "deployment.variables", "--env", str(tmp_path / ".env")]
    done = subprocess.run(
        [*command, "--file", str(tmp_path / "variables.json")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert "AIRFLOW_URL is not the address of a web service" in done.stderr
    assert "xQ" not in done.stdout + done.stderr


def test_a_service_on_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a company's proxy is asked for the local stack's Airflow."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        threading.Thread(target=answer, daemon=True).start()
        assert call("GET", f"http://127.0.0.1:{server.getsockname()[1]}/") == {}
