"""How many cores this process may use."""

import os
from pathlib import Path


def usable_cores() -> int:
    """Cores this process may really use: its affinity, cut by the quota of its cgroup (v2).

    OpenMP and the engines count the machine's cores instead; in a container with a quota their threads then spin for
    their turn.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
