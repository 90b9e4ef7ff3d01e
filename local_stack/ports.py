"""Whether a port is free, and who has it where it is not."""

from __future__ import annotations

import errno
import socket
from pathlib import Path


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def complaint(name: str, service: str, port: int) -> str:
    """The message about a port that is not free; `name` is its variable in `.env`."""
    owner = _owner(port)
    by = f" by {owner}" if owner else ""
    return f"port {port} ({service}) is taken{by}; end that, or set {name} in .env to a free port"


def _owner(port: int) -> str | None:
    """`postgres (process 123)`, where Linux lets this user see it."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listeners(Path("/proc/net") / table, port)}
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        try:
            if any(_target(link) in inodes for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:  # gone meanwhile, or another user's
            continue
    return None


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile, as the one with which this process looks at its own
        return ""


def _listeners(table: Path, port: int) -> set[str]:
    if not table.exists():
        return set()
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    listening = "0A"
    return {f"socket:[{row[9]}]" for row in rows if row[3] == listening and row[1].endswith(f":{port:04X}")}
