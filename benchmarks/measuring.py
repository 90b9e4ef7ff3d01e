"""What a command costs with all its descendants: seconds, processor seconds, memory, bytes read.

The command runs below a supervisor, which inherits every orphan (PR_SET_CHILD_SUBREAPER) and waits for all of them. So
the kernel's own accounts hold processes that outlive their parents, such as a Java machine and its workers. Linux only.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SUBREAPER = 36  # linux/prctl.h
_EVERY = 0.1  # seconds between two looks at the memory
_ORPHANS = 30.0  # seconds that descendants may outlive the command


@dataclass(frozen=True)
class Cost:
    """What one execution of a command took."""

    wall: float
    """Seconds, start of the interpreter included."""
    cpu: float
    """User and system seconds of all processes."""
    memory: int
    """Bytes: the highest proportional set size (shared pages divided among those who share them) of all together."""
    read: int
    """Bytes that all read calls returned, from the page cache too, pipes included (`rchar`); not what is mapped."""
    output: str
    """Standard output."""


def measure(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a folder; SystemExit with the end of its error output where it fails."""
    with tempfile.TemporaryDirectory() as temporary:
        account, errors = Path(temporary) / "account.json", Path(temporary) / "errors"
        with (
            errors.open("wb") as sink,
            subprocess.Popen(
                [sys.executable, __file__, str(account), *command], stdout=subprocess.PIPE, stderr=sink, cwd=folder
            ) as process,
        ):
            memory = _peak_memory(process)
            output = process.communicate()[0].decode()
        if process.returncode:
            error = errors.read_text(errors="replace")[-4000:]
            raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}\n{error}")
        return Cost(memory=memory, output=output, **json.loads(account.read_text()))


def _peak_memory(process: "subprocess.Popen[bytes]") -> int:
    """Watch the descendants of a process until it ends."""
    import psutil

    def memory(one: psutil.Process) -> int:
        try:
            return int(one.memory_full_info().pss)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return 0

    peak, root = 0, psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, sum(map(memory, root.children(recursive=True))))
        time.sleep(_EVERY)
    return peak


def _supervise(account: str, command: Sequence[str]) -> int:
    """Run the command, wait for it and all its orphans, and write what they took."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    read, began = _bytes_read(), time.perf_counter()
    process = subprocess.Popen(command)
    code = process.wait()
    wall = time.perf_counter() - began
    _await_orphans()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "read": _bytes_read() - read}
    Path(account).write_text(json.dumps(found))
    return code


def _await_orphans() -> None:
    until = time.monotonic() + _ORPHANS
    while time.monotonic() < until:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if ended == 0:
            time.sleep(0.05)
    raise SystemExit(f"a descendant still runs {_ORPHANS:.0f} s after the command has ended")


def _bytes_read() -> int:
    """Of this process and of all descendants that were waited for."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line.partition(":")[2] for line in lines if line.startswith("rchar")))


if __name__ == "__main__":
    raise SystemExit(_supervise(sys.argv[1], sys.argv[2:]))
