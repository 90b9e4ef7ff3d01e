"""What goes into the bucket: the DAGs, the job with its library and settings, the environment archive.

The layout is that of the cloud's bucket (`scripts/upload_to_s3.sh`):

    dags/
    code/fraud_detection_model.py  fraud_detection.zip  retraining.yaml  venv.tar.gz
    input_data/  output_data/
"""

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from localcloud.stack.settings import ROOT, Stack

SETTINGS = ROOT / "conf" / "local_stack.yaml"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def upload(stack: Stack) -> int:
    """Bring the bucket's files up to date; returns how many were new or different."""
    return sum(_put(stack.bucket / name, content) for name, content in _objects())


def _objects() -> Iterator[tuple[str, bytes]]:
    for path in sorted((ROOT / "dags").iterdir()):
        if path.is_file():
            yield f"dags/{path.name}", path.read_bytes()
    yield "code/fraud_detection_model.py", (ROOT / "src" / "fraud_detection_model.py").read_bytes()
    yield "code/fraud_detection.zip", _library(ROOT / "src")
    yield "code/retraining.yaml", SETTINGS.read_bytes()
    yield "code/venv.tar.gz", _environment()


def _library(source: Path) -> bytes:
    """The library as Spark takes it: a zip file, byte for byte the same for the same sources."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((source / "fraud_detection").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                entry = zipfile.ZipInfo(path.relative_to(source).as_posix(), _EPOCH)
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _environment() -> bytes:
    """A thin archive: on this machine jobs run with an interpreter that has the locked packages already."""
    content, text = io.BytesIO(), b"On this machine the job's packages are in the environment that runs it.\n"
    with tarfile.open(fileobj=content, mode="w") as archive:  # not compressed: gzip would write the time into it
        entry = tarfile.TarInfo("README")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return content.getvalue()


def _put(path: Path, content: bytes) -> bool:
    """Write an object whole, where it is not there like this already."""
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
    return True
