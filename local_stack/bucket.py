"""What goes into the bucket: the DAGs, the job with its library and settings, the environment archive.

The layout is that of the cloud's buckets (`deployment.bucket`), in one:

    dags/*.py  dags/fraud_detection_common/*.py  dags/.airflowignore
    code/REVISION/fraud_detection_model.py  fraud_detection.zip  retraining.yaml
    code/venvs/DIGEST.tar.gz
    code/current.json  code/shutdown_host.sh
    input_data/  output_data/
"""

import filecmp
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from deployment import archive, paths
from deployment.bucket import (
    CURRENT,
    SHUTDOWN,
    archive_name,
    code_files,
    code_folder,
    current,
    dag_files,
    shutdown_file,
)
from deployment.locked import CLOUD, this_machine
from deployment.revision import checkout_revision
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
    changed = sum(_put(stack.bucket / "dags" / name, content) for name, content in dags.items())
    _delete_other_dags(stack.bucket / "dags", dags)
    return changed + _upload_code(stack, stack.bucket / "code")


def _upload_code(stack: Stack, code: Path) -> int:
    """Upload a revision beside the others, then let new runs take it: a run never mixes two."""
    files, revision = dict(code_files(ROOT / stack.training_settings)), checkout_revision(ROOT)
    folder, archive_object = code_folder(files, revision), archive_name(ARCHIVE)
    changed = int(_copy(ARCHIVE, code / archive_object))
    changed += sum(_put(code / folder / name, content) for name, content in files.items())
    changed += _put(code / SHUTDOWN, shutdown_file())
    return changed + _put(code / CURRENT, current(folder, archive_object, revision))


def _delete_other_dags(folder: Path, dags: Mapping[str, bytes]) -> None:
    """Delete DAG files of an earlier release: Airflow would go on loading them."""
    for path in folder.rglob("*.py"):
        if path.relative_to(folder).as_posix() not in dags:
            path.unlink()


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
