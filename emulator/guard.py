"""Runs one job's command, and ends all of its processes with the job or with the emulator.

A program of its own, started by path, with nothing but the standard library:

    python guard.py RESULT LOG GRACE COMMAND...

The command gets a session of its own. The guard ends it, with all of its descendants, on a line on its standard
input, or when that input closes: the emulator holds the other end, so its jobs end even if it is killed. What is left
over after the command's own end is ended too. The outcome is written to RESULT as JSON: `{"exit_code": 0, "ended":
""}`, where `ended` is "" (by itself), "requested" or "orphaned".
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_POLL = 0.05


def main(arguments: list[str]) -> int:
    result, log, grace = Path(arguments[0]), Path(arguments[1]), float(arguments[2])
    _adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the pipe ends a job. A handler instead of SIG_IGN, which the command would inherit and ignore SIGTERM.
        signal.signal(number, lambda *_: None)
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(  # the emulator's own command
                arguments[3:], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            output.write(f"cannot start {arguments[3]}: {error}\n".encode())
            _write(result, 127, "")
            return 0
    print(process.pid, flush=True)  # noqa: T201  # the emulator reads the session's id
    ended: list[str] = []
    threading.Thread(target=_await_order, args=(process.pid, grace, ended), daemon=True).start()
    exit_code = process.wait()
    end_all(process.pid, os.getpid(), grace if ended else 0.0)
    _write(result, exit_code, ended[0] if ended else "")
    return 0


def _await_order(session: int, grace: float, ended: list[str]) -> None:
    line = sys.stdin.readline()
    ended.append("requested" if line else "orphaned")
    end_all(session, os.getpid(), grace)


def end_all(session: int, guard: int, grace: float) -> None:
    """SIGTERM, then after `grace` seconds SIGKILL, to all that remains of a job.

    `guard` is the job's guard, whose descendants are all of the job: never a process with other children.
    """
    deadline = time.monotonic() + grace
    asked: set[int] = set()
    while remaining := members(session, guard):
        if time.monotonic() >= deadline:
            _signal(remaining, signal.SIGKILL)
        else:
            _signal(remaining - asked, signal.SIGTERM)
            asked |= remaining
        time.sleep(_POLL)


def members(session: int, guard: int) -> set[int]:
    """Living processes of a session, and all that descend from it or were left to its guard."""
    table = _processes()
    found = {pid for pid, (_, of_session, _) in table.items() if of_session == session}
    family = {guard, session, *found}
    grown = True
    while grown:
        more = {pid for pid, (parent, _, _) in table.items() if parent in family} - family
        grown = bool(more)
        family |= more
    return {pid for pid in family - {guard} if pid in table and not table[pid][2]}


def _processes() -> dict[int, tuple[int, int, bool]]:
    """By pid: parent, session, whether it is dead already (a zombie)."""
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        return processes_by_ps()
    table = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # gone meanwhile
        table[int(entry.name)] = (int(parent), int(session), state in "ZX")
    return table


def processes_by_ps() -> dict[int, tuple[int, int, bool]]:
    """Where there is no /proc the process group stands in for the session."""
    command = ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in lines]
    return {int(pid): (int(parent), int(group), stat.startswith("Z")) for pid, parent, group, stat in rows}


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in sorted(pids):  # parents first, mostly: one that sees its child die first might end before it is asked to
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue  # ended meanwhile; the number may be another's by now


def _adopt_orphans() -> None:
    """Make processes whose parent dies children of the guard, so that none is lost (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _write(path: Path, exit_code: int, ended: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({"exit_code": exit_code, "ended": ended}))
    part.replace(path)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
