"""What goes into the bucket: the DAGs, the job with its library and settings, the environment archive.

The layout is that of the cloud's buckets (`deployment.bucket`), in one:

    dags/*.py  dags/fraud_detection_common/*.py  dags/.airflowignore
    code/fraud_detection_model.py  fraud_detection.zip  retraining.yaml  venv.tar.gz
    input_data/  output_data/
"""

import filecmp
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from deployment import archive, paths
from deployment.bucket import code_files, dag_files
from deployment.locked import CLOUD, this_machine
from local_stack.settings import ROOT, Stack

TARGET = this_machine()
"""What the archive is for: this machine's Python and system, mostly those of the cloud."""

ARCHIVE = paths.ARCHIVE if TARGET == CLOUD else paths.ARCHIVE.with_name("venv.this-machine.tar.gz")


def create_archive() -> bool:
    """Create the job's environment archive unless it is up to date; True if created. Raises DeploymentError."""
    return archive.create(ARCHIVE, TARGET)


def upload(stack: Stack) -> int:
    """Bring the bucket's files up to date; returns how many were new or different."""
    dags = dict(dag_files())
    changed = sum(_put(stack.bucket / name, content) for name, content in _objects(stack, dags))
    _delete_other_dags(stack.bucket / "dags", dags)
    return changed + _copy(ARCHIVE, stack.bucket / "code" / "venv.tar.gz")


def _delete_other_dags(folder: Path, dags: Mapping[str, bytes]) -> None:
    """Delete DAG files of an earlier release: Airflow would go on loading them."""
    for path in folder.rglob("*.py"):
        if path.relative_to(folder).as_posix() not in dags:
            path.unlink()


def _objects(stack: Stack, dags: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    yield from ((f"dags/{name}", content) for name, content in dags.items())
    yield from ((f"code/{name}", content) for name, content in code_files(ROOT / stack.training_settings))


def _put(path: Path, content: bytes) -> bool:
    """Write an object unless it is unchanged; True if written."""
    if path.exists() and path.read_bytes() == content:
        return False
    paths.write_atomic(path, content)
    return True


def _copy(source: Path, path: Path) -> bool:
    """Copy a file that is too large for memory unless it is unchanged; True if copied."""
    if path.exists() and filecmp.cmp(source, path, shallow=False):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.copyfile(source, temporary)
    temporary.replace(path)
    return True
