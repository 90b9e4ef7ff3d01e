"""`make doctor`: does this machine have what the stack needs, and if not, how does it get it?

Standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deployment.errors import DeploymentError
from local_stack import ports
from local_stack.settings import PORTS, ROOT, Stack, load

_GIB = 2**30
DISK_GIB = 8.0  # three environments, and room for data
MEMORY_GIB = 4.0  # 2 for the stack, 2 for a running job
PYTHONS = ((3, 11), (3, 12))


@dataclass(frozen=True)
class Finding:
    """One requirement; `fix` is empty if it is met."""

    name: str
    found: str
    fix: str = ""


def findings(stack: Stack, running: frozenset[str] = frozenset()) -> list[Finding]:
    """Everything the stack needs of this machine; ports named in `running` are the stack's own."""
    return [
        _system(),
        python(sys.version_info[:2]),
        _uv(),
        disk(shutil.disk_usage(_existing(stack.folder)).free / _GIB, stack),
        memory(_free_memory()),
        _folder(stack),
        _postgres_user(stack),
        *_ports(stack, running),
    ]


def _system() -> Finding:
    name = platform.system()
    if name == "Linux":
        return Finding("system", name)
    return Finding("system", name, "the stack is made for Linux; elsewhere run it in a virtual machine or WSL 2")


def python(version: tuple[int, ...]) -> Finding:
    shown = ".".join(map(str, version))
    if version in PYTHONS:
        return Finding("python", shown)
    return Finding(
        "python",
        shown,
        "install Python 3.11 with venv (Debian: apt install python3.11-venv), or name one: make PYTHON=… setup",
    )


def _uv() -> Finding:
    found = shutil.which("uv") or shutil.which(str(ROOT / ".uv" / "bin" / "uv"))
    if found:
        return Finding("uv", found if "/.uv/" not in found else ".uv/bin/uv")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        return Finding(
            "uv", "missing", "install uv, or the venv module (apt install python3-venv): make setup gets it then"
        )
    return Finding("uv", "will be installed into .uv by make setup")


def disk(free_gib: float, stack: Stack) -> Finding:
    found = f"{free_gib:.0f} GiB free at {stack.shown(stack.folder)}"
    fix = "" if free_gib >= DISK_GIB else f"free up to {DISK_GIB:.0f} GiB, or set STACK_FOLDER in .env to a larger disk"
    return Finding("disk", found, fix)


def memory(free_gib: float | None) -> Finding:
    if free_gib is None:
        return Finding("memory", "unknown on this system")
    found = f"{free_gib:.1f} GiB available"
    fix = f"the stack and one job need {MEMORY_GIB:.0f} GiB: end other programs"
    return Finding("memory", found, "" if free_gib >= MEMORY_GIB else fix)


def _free_memory() -> float | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / _GIB
    except OSError:
        pass
    return None


def _folder(stack: Stack) -> Finding:
    at = _existing(stack.folder)
    shown = stack.shown(stack.folder)
    if os.access(at, os.W_OK | os.X_OK):
        return Finding("folder", shown)
    return Finding(
        "folder", f"{shown} cannot be written", f"give this user {at}, or set STACK_FOLDER in .env to another"
    )


def _postgres_user(stack: Stack) -> Finding:
    if os.geteuid() != 0:
        return Finding("postgres", f"runs as {pwd.getpwuid(os.geteuid()).pw_name}")
    try:
        pwd.getpwnam(stack.postgres_os_user)
    except KeyError:
        fix = "set POSTGRES_OS_USER in .env to an account that exists (it refuses root), or do not run make as root"
        return Finding("postgres", f"no account {stack.postgres_os_user}", fix)
    return Finding("postgres", f"runs as {stack.postgres_os_user}, since it refuses root")


def _ports(stack: Stack, running: frozenset[str]) -> Iterator[Finding]:
    for name, port in stack.ports.items():
        if name in running:
            yield Finding("port", f"{port} ({PORTS[name]}) is the running stack's")
        elif ports.is_free(port):
            yield Finding("port", f"{port} ({PORTS[name]}) is free")
        else:
            yield Finding("port", f"{port} ({PORTS[name]}) is taken", ports.complaint(name, PORTS[name], port))


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return path if path.exists() else _existing(path.parent)


def main(arguments: list[str]) -> int:
    """Print every finding; 0 if all requirements are met."""
    if sys.version_info < (3, 9):  # noqa: UP036  # that is what it is for
        print(f"python  needs 3.11 or 3.12, this is {sys.version.split()[0]}; run: make doctor PYTHON=python3.11")
        return 1
    try:
        stack = load(Path(arguments[0] if arguments else ".env"))
    except DeploymentError as error:
        print(error)
        return 2
    found = findings(stack, own_ports(stack))
    for finding in found:
        print(f"{'--' if finding.fix else 'ok'}  {finding.name:<10}{finding.found}")
        if finding.fix:
            print(f"    fix:      {finding.fix}")
    missing = sum(bool(finding.fix) for finding in found)
    print("all requirements met; next: make up" if not missing else f"{missing} to fix; then: make up")
    return int(missing > 0)


def own_ports(stack: Stack) -> frozenset[str]:
    """The ports that the stack's own supervisord holds, from its pid file."""
    try:
        os.kill(int((stack.run / "supervisord.pid").read_text()), 0)
    except (OSError, ValueError):
        return frozenset()
    return frozenset(stack.ports)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
