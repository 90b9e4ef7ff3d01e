"""Where the servers of a rehearsal are. Imports little, for the guard waits while they run."""

from pathlib import Path

from local_stack.settings import Stack

LOCAL = "local"
"""The folder of the servers, in that of the rehearsal."""


def stack_in(folder: Path, ports: dict[str, int]) -> Stack:
    """Settings of servers in a folder. PostgreSQL refuses root: then `nobody` runs it."""
    return Stack(schedule="0 * * * *", folder=folder, ports=ports, postgres_os_user="nobody", job_memory="1500m")
