"""Processes of jobs whose emulator and guard were both killed: found by their environment, and ended."""

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "LOCALCLOUD_JOB"
"""An environment variable of every process of a job: the job's folder."""

_POLL = 0.05


def end_left_behind(jobs: Path, grace: float) -> int:
    """Wait for the end of all jobs' processes, which living guards see to; returns how many had to be killed.

    A job's folder names it on this machine, so nothing but this emulator's own is ended.
    """
    deadline = time.monotonic() + grace
    while (found := _marked(jobs)) and time.monotonic() < deadline:
        time.sleep(_POLL)
    killed = 0
    while found:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
                killed += 1
        psutil.wait_procs(found, timeout=1.0)
        found = _marked(jobs)  # what they started meanwhile
    return killed


def _marked(jobs: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK, "")
            if process.pid != os.getpid() and mark and Path(mark).parent == jobs and not _is_dead(process):
                found.append(process)
    return found


def _is_dead(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_ZOMBIE)
