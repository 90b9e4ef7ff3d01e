"""Programs that a stage runs beside it: started, waited for, and ended with all of their children."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rehearsal.cloud import ROOT, RehearsalError

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_END_SECONDS = 20.0
_POLL = 0.2
_CLOSING = 3000  # characters of a log that a message shows
_SERVER_ERROR = 500


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def finished(
    words: Sequence[str],
    what: str,
    seconds: float,
    folder: Path,
    environment: Mapping[str, str],
    errors: int = subprocess.PIPE,
) -> "subprocess.CompletedProcess[str]":
    """A command that has ended; `errors` is its standard error. Raises RehearsalError if it takes too long."""
    given: dict[str, Any] = {"cwd": folder, "env": dict(environment), "stdin": subprocess.DEVNULL}
    try:
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=seconds, **given)
    except subprocess.TimeoutExpired as error:
        printed = b"\n".join(part for part in (error.stdout, error.stderr) if part).decode(errors="replace")
        raise RehearsalError(f"{what} has not ended after {seconds:.0f} s; found:\n{printed[-_CLOSING:]}") from error


@contextmanager
def running(
    words: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    folder: Path = ROOT,
    before: Callable[[], None] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a session of its own, its output in a file; it and its children are ended at the exit."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=before,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(
    ready: Callable[[], bool],
    what: str,
    seconds: float = 90.0,
    process: "subprocess.Popen[bytes] | None" = None,
    log: Path | None = None,
) -> None:
    """Poll until it is ready. Raises RehearsalError when it takes too long, or when its process has ended."""
    end = time.monotonic() + seconds
    while not ready():
        if process is not None and process.poll() is not None:
            raise RehearsalError(f"{what} has ended with {process.returncode}; {_closing(log)}")
        if time.monotonic() > end:
            raise RehearsalError(f"{what} is not ready after {seconds:.0f} s; {_closing(log)}")
        time.sleep(_POLL)


def _closing(log: Path | None) -> str:
    text = log.read_text(errors="replace")[-_CLOSING:] if log is not None and log.exists() else "no log"
    return f"found:\n{text}"


def answers(address: str) -> bool:
    """Whether an HTTP server responds."""
    try:
        with _DIRECT.open(address, timeout=5) as answer:
            return bool(answer.status < _SERVER_ERROR)
    except OSError:
        return False
