"""Rows of the store are read in a process of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.runs.request import Request
from fraud_detection.serving import history
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine


def _killed(_request: Request) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_reader_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a machine without memory is reported as a defect of the program."""
    killed: Callable[[Request], None] = _killed
    monkeypatch.setattr(history, "read_history", killed)
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    request = Request(Settings(), "c.yaml", "in", "out", "sqlite:///out/mlflow.db", None, Engine.SAIL, moment)
    with pytest.raises(ServiceUnavailableError, match="was killed"):
        history.load_history(request)


_SERVER = """
import os, sys, time
from fraud_detection.serving import history

def read(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    history.read_history = read
    history.load_history(sys.argv[1])
"""


def test_a_reader_ends_with_its_server(tmp_path: Path) -> None:
    """Fails when each server that is killed while it reads the store leaves a process that keeps its memory."""
    (tmp_path / "server.py").write_text(_SERVER)
    found = tmp_path / "pid"
    server = subprocess.Popen([sys.executable, str(tmp_path / "server.py"), str(found)])
    end = time.monotonic() + 60
    while not (found.exists() and found.read_text()):
        assert time.monotonic() < end, "the reader did not start"
        assert server.poll() is None
        time.sleep(0.02)
    reader = psutil.Process(int(found.read_text()))
    try:
        server.kill()
        server.wait()
        reader.wait(10)
    finally:
        if reader.is_running():
            reader.kill()
