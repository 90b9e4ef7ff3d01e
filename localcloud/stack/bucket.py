"""What goes into the bucket: the DAGs, the job with its library and settings, the environment archive.

The layout is that of the cloud's bucket (`scripts/upload_to_s3.sh`):

    dags/
    code/fraud_detection_model.py  fraud_detection.zip  retraining.yaml  venv.tar.gz
    input_data/  output_data/
"""

import filecmp
import io
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from localcloud.stack import archive
from localcloud.stack.settings import ROOT, Stack

_EPOCH = (1980, 1, 1, 0, 0, 0)


def upload(stack: Stack) -> int:
    """Bring the bucket's files up to date; returns how many were new or different."""
    changed = sum(_put(stack.bucket / name, content) for name, content in _objects(stack))
    return changed + _copy(archive.ARCHIVE, stack.bucket / "code" / "venv.tar.gz")


def _objects(stack: Stack) -> Iterator[tuple[str, bytes]]:
    for path in sorted((ROOT / "dags").iterdir()):
        if path.is_file():
            yield f"dags/{path.name}", path.read_bytes()
    yield "code/fraud_detection_model.py", (ROOT / "src" / "fraud_detection_model.py").read_bytes()
    yield "code/fraud_detection.zip", _library(ROOT / "src")
    yield "code/retraining.yaml", (ROOT / stack.training_settings).read_bytes()


def _library(source: Path) -> bytes:
    """The library as Spark takes it: a zip file, byte for byte the same for the same sources."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((source / "fraud_detection").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                entry = zipfile.ZipInfo(path.relative_to(source).as_posix(), _EPOCH)
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
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


def _copy(source: Path, path: Path) -> bool:
    """The same for a file that is too large to hold."""
    if path.exists() and filecmp.cmp(source, path, shallow=False):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.copyfile(source, temporary)
    temporary.replace(path)
    return True
