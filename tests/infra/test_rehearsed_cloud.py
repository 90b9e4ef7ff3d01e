"""The start of the rehearsal's cloud, on a busy machine too."""

import sys
from pathlib import Path

import pytest

from rehearsal import cloud

HANGS_UP_ONCE = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[-1]))) as server:
    server.accept()[0].close()
    while True:
        caller = server.accept()[0]
        caller.recv(1000)
        caller.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
        caller.close()
"""


def test_a_server_that_does_not_answer_at_first_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when `make rehearse` ends with a traceback, because the machine was busy while the S3 server started."""
    server = tmp_path / "server"
    server.write_text(f"#!{sys.executable}\n{HANGS_UP_ONCE}")
    server.chmod(0o755)
    monkeypatch.setattr(cloud, "MOTO", server)
    with cloud.rehearsed_cloud(tmp_path / "state") as found:
        assert found.emulator.health()
