"""A rehearsal that is interrupted or killed leaves no process and no file."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.cloud import ROOT
from rehearsal.guard import guarded
from rehearsal.processes import wait_for

COMMAND = """
import os, signal, subprocess, sys, tempfile
from pathlib import Path
from rehearsal.guard import nothing_left

folder = Path(sys.argv[1])
with nothing_left(folder):
    tempfile.mkstemp()
    server = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print(folder, os.getpid(), server.pid, flush=True)
    signal.pause()
"""
GUARD = f"import sys; from rehearsal.guard import guarded; sys.exit(guarded([sys.executable, '-c', {COMMAND!r}]))"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def guard(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", GUARD],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process


@pytest.mark.skipif(sys.platform != "linux", reason="the rehearsal is for Linux")
@pytest.mark.parametrize(
    ("number", "of_the_command", "exit_code"),
    [
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGHUP, False, 129),
        (signal.SIGKILL, False, -signal.SIGKILL),
        (signal.SIGKILL, True, 137),
    ],
)
def test_nothing_is_left(
    guard: "subprocess.Popen[str]", number: signal.Signals, of_the_command: bool, exit_code: int, tmp_path: Path
) -> None:
    """Fails when servers and files of a rehearsal that was ended in its midst stay on the machine for good."""
    assert guard.stdout is not None
    folder, command, server = guard.stdout.readline().split()
    assert is_running(int(server))
    os.kill(int(command) if of_the_command else guard.pid, number)
    assert guard.wait(60) == exit_code
    wait_for(lambda: not is_running(int(server)), "the end of the server")
    wait_for(lambda: not is_running(int(command)), "the end of the command")
    wait_for(lambda: not Path(folder).exists(), "the removal of the folder")
    assert list(tmp_path.iterdir()) == [], "a program has written elsewhere"


def test_the_exit_code_is_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a rehearsal that failed is green in CI."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        assert guarded([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert list(tmp_path.iterdir()) == []
