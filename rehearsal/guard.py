"""Runs a command in a session and a folder of its own, and leaves neither a process nor a file of it, however it ends.

The command ends by SIGTERM when its guard is interrupted, and when its guard is killed. What it leaves, since it was
killed itself or had no time, the guard ends and removes.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from emulator.guard import end_all
from local_stack import postgres
from rehearsal.folders import LOCAL, stack_in

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None)
_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 20.0  # seconds between SIGTERM and SIGKILL for each process that is left
_ORDERLY = 120.0  # seconds that an interrupted command may take to end its servers


def guarded(command: Sequence[str]) -> int:
    """Run a command with a new folder as its last word; returns its exit code, 128 + N after signal N."""
    adopt_orphans()
    interrupted: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    def end(number: int, _: object) -> None:
        interrupted.append(number)
        for process in started:
            _interrupt(process, again=len(interrupted) > 1)

    for number in _INTERRUPTIONS:
        signal.signal(number, end)
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's account passes through it to its own folder
        temporary = folder / "tmp"  # of all that it starts: removed with the folder
        temporary.mkdir(mode=0o700)
        process = subprocess.Popen(
            [*command, name],
            env={**os.environ, "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        started.append(process)
        if interrupted:
            _interrupt(process, again=False)
        exit_code = process.wait()
        leave_nothing(process.pid, folder)
    if interrupted:
        return 128 + interrupted[0]
    return 128 - exit_code if exit_code < 0 else exit_code


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none is lost."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """For the command: SIGTERM ends it like an error. At its end it does what the guard does, which may be gone."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)  # further ones do not disturb the end
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    adopt_orphans()
    try:
        yield
    finally:
        leave_nothing(os.getpid(), folder)


def leave_nothing(session: int, folder: Path) -> None:
    """End the processes of a session and all descendants of this one, and remove the rehearsal's folders."""
    end_all(session, os.getpid(), _GRACE)
    paths = [folder]
    if (folder / LOCAL).exists():  # PostgreSQL's own may lie elsewhere
        paths.insert(0, postgres.server(stack_in(folder / LOCAL, {})).data.parent)
    for path in paths:
        if path.exists():
            shutil.rmtree(path)


def _interrupt(process: "subprocess.Popen[bytes]", *, again: bool) -> None:
    if again:
        process.kill()
        return
    sys.stderr.write("make rehearse: interrupted; ending what it has started\n")
    process.terminate()
    late = threading.Timer(_ORDERLY, process.kill)
    late.daemon = True
    late.start()


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
