"""Which process of which machine holds a lease, and whether it has ended."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc")


class ProcessIdentity(BaseModel):
    """A process, told from every other one, also from a later one with its number."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    boot: str
    """Of the machine's kernel, new at each start."""
    namespace: str
    """Of process numbers: containers of one machine have their own."""
    pid: int
    started: int
    """In clock ticks since the machine's start."""

    def has_ended(self) -> bool:
        """Whether it ran here and does no more; False also for a process of another machine or container."""
        here = this_process()
        if here is None or (here.boot, here.namespace) != (self.boot, self.namespace):
            return False
        return _started(self.pid) != self.started


def this_process() -> ProcessIdentity | None:
    """The calling process; None on a system without Linux's /proc."""
    pid = os.getpid()
    started = _started(pid)
    try:
        boot = (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
        namespace = str((_PROC / "self" / "ns" / "pid").readlink())
    except OSError:
        return None
    if started is None:
        return None
    return ProcessIdentity(boot=boot, namespace=namespace, pid=pid, started=started)


def _started(pid: int) -> int | None:
    """When a process was started, see proc(5); None if there is none, or if it has ended but is still listed."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()  # the name before may contain spaces and parentheses
    return None if state in ("Z", "X") else int(fields[18])
