"""The environment archive of the job, as a cluster gets it: the locked wheels, and no interpreter, Spark or Java.

    venvs/venv.tar.gz ─ shipped as `#venv` → ./venv in the job's folder → PYTHONPATH=./venv of driver and executors

A cluster runs it with its image's own Python, and the emulator with the one that this environment was made from, which
has none of the packages: what is missing in the archive is missing here as well.
"""

import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from localcloud.stack.settings import ROOT, StackError

ARCHIVE = ROOT / "venvs" / "venv.tar.gz"
_GZIP_LEVEL = 4  # above it the archive takes much longer and gets hardly smaller


def create(archive: Path = ARCHIVE) -> bool:
    """Make the archive, where there is none of these locked versions; True where it was made.

    Raises:
        StackError: uv is missing, or a wheel cannot be had.
    """
    requirements, target = _requirements(), _target()
    wanted = hashlib.sha256(" ".join([requirements, *target]).encode()).hexdigest()
    made_of = archive.with_name(f"{archive.name}.made-of")
    if archive.exists() and made_of.exists() and made_of.read_text(encoding="utf-8") == wanted:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=archive.parent, prefix=".venv-") as name:
        listed, packages = Path(name) / "requirements.txt", Path(name) / "packages"
        listed.write_text(requirements, encoding="utf-8")
        install = ["pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        _uv(*install, *target, "--target", str(packages), "-r", str(listed))
        _pack(packages, archive)
    made_of.write_text(wanted, encoding="utf-8")
    return True


def _requirements() -> str:
    """What the job needs, with the lock file's versions and hashes; Spark and Java are another group."""
    return _uv(
        *("export", "--quiet", "--locked", "--no-default-groups", "--no-emit-project", "--no-header"),
        *("--format", "requirements-txt"),
    )


def _target() -> list[str]:
    """The Python and the system that run the archive on this machine; Data Proc's image has 3.11 on x86_64."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ["--python-version", version, "--python-platform", f"{platform.machine()}-manylinux_2_28"]


def _pack(folder: Path, archive: Path) -> None:
    """The folder's files in the order of their names, without times and owners."""
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}.part")
    with (
        temporary.open("wb") as file,
        gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.relative_to(folder).parts[0] != "bin":
                tar.add(path, path.relative_to(folder).as_posix(), filter=_anonymous)
    temporary.replace(archive)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


def _uv(*words: str) -> str:
    program = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    try:
        done = subprocess.run([program, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError as error:
        raise StackError(f"uv cannot be run ({program}: {error.strerror}); next: make doctor") from error
    if done.returncode != 0:
        raise StackError(
            f"uv {' '.join(words[:2])} failed, so the job has no environment:\n{done.stderr.strip()[-1500:]}\n"
            "next: check the network and uv.lock (uv lock --check), then make up again"
        )
    return done.stdout
