"""The environment archive `venvs/venv.tar.gz`: the job's packages as a cluster gets them.

    uv.lock ─ locked wheels for the target ─→ sorted tar without times and owners ─ gzip ─→ inspected, published

It holds no interpreter, no Spark and no Java: a cluster unpacks it as `./venv`, puts that on PYTHONPATH and runs it
with its image's own Python. The same lock file gives the same bytes everywhere: Python writes the tar, and the pinned
`deflate` packs it instead of the system's zlib, whose output differs between systems.
"""

import argparse
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import deflate

from deployment.errors import log, run
from deployment.inspection import inspect
from deployment.locked import CLOUD, Target, locked_requirements, this_machine, uv
from deployment.paths import ARCHIVE, given_path, shown, write_atomic

GZIP_LEVEL = 6  # 147 MB in 4 s; level 4 gives 151 MB in 3 s
FORMAT = 1
"""Goes into the record of what an archive was made of; raise it when archives are made differently."""

# What an installer writes about this machine, not about the packages.
_ABOUT_THIS_MACHINE = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", ".lock"})


def create(archive: Path = ARCHIVE, target: Target = CLOUD) -> bool:
    """Create the archive unless it is up to date with the locked versions; True if it was created.

    Raises:
        DeploymentError: uv is missing, a wheel cannot be had, or the archive does not pass its inspection.
    """
    requirements = locked_requirements()
    made_of = archive.with_name(f"{archive.name}.made-of")
    wanted = hashlib.sha256(f"{FORMAT} {GZIP_LEVEL} {target} {requirements}".encode()).hexdigest()
    if archive.exists() and made_of.exists() and made_of.read_text(encoding="utf-8") == wanted:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=archive.parent, prefix=".venv-") as name:
        packages, candidate = Path(name) / "packages", Path(name) / archive.name
        _install(requirements, target, packages)
        write_atomic(candidate, packed(packages))
        inspect(candidate, target, requirements)
        made_of.unlink(missing_ok=True)
        candidate.replace(archive)
    made_of.write_text(wanted, encoding="utf-8")
    return True


def packed(folder: Path) -> bytes:
    """The files of a folder as a tar.gz that depends on their names and contents alone."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in _shipped(folder):
            entry = tarfile.TarInfo(name)  # its time, owner and group are 0, its mode 0644
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return bytes(deflate.gzip_compress(content.getbuffer(), GZIP_LEVEL))  # its header has neither a time nor a name


def _shipped(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths, in the order of the names' code points, which no locale changes."""
    found: dict[str, Path] = {}
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.is_dir() or path.suffix == ".pyc" or inside.parts[0] == "bin":
            continue
        if path.name in _ABOUT_THIS_MACHINE and (len(inside.parts) == 1 or inside.parts[0].endswith(".dist-info")):
            continue
        found[inside.as_posix()] = path
    yield from sorted(found.items())


def _install(requirements: str, target: Target, folder: Path) -> None:
    listed = folder.with_name("requirements.txt")
    listed.write_text(requirements, encoding="utf-8")
    uv(
        *("pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--no-compile-bytecode", *target.uv_options, "--target", str(folder), "--requirement", str(listed)),
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description="Make the environment archive of the job from uv.lock.")
    parser.add_argument("--output", type=given_path, default=ARCHIVE)
    parser.add_argument(
        "--for", dest="target", choices=("cloud", "this-machine"), default="cloud", help="whose Python runs it"
    )
    chosen = parser.parse_args()
    made = create(chosen.output, CLOUD if chosen.target == "cloud" else this_machine())
    content = chosen.output.read_bytes()
    state = "created" if made else "is up to date"
    log(f"{shown(chosen.output)} {state}: {len(content) / 1e6:.0f} MB, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    run(_main)
