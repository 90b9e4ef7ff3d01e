"""What keeps a stack that runs for months from growing for as long: old rows and logs of Airflow, outcomes of old runs.

The emulator forgets by itself (its settings have the same number of days), supervisord bounds the components' logs.
"""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local_stack import airflow
from local_stack.components import base_environment
from local_stack.passwords import passwords
from local_stack.settings import ROOT, Stack, StackError

_TABLES = ("dag_run", "task_instance", "task_instance_history", "task_reschedule", "xcom", "log", "job", "import_error")
"""Airflow's tables that grow with its runs, and with its own work."""


def tidy(stack: Stack, now: datetime) -> str:
    """Delete what is older than KEEP_DAYS; returns what was done. Raises StackError where Airflow's rows stay."""
    oldest = now - timedelta(days=stack.keep_days)
    dropped = _drop(_old(stack, oldest))
    _clean_tables(stack, oldest)
    return f"{now:%Y-%m-%d %H:%M:%S} everything before {oldest:%Y-%m-%d %H:%M} is dropped: {dropped} logs and outcomes"


def _old(stack: Stack, oldest: datetime) -> Iterator[Path]:
    logs = stack.logs / "airflow"
    groups = (
        logs.glob("dag_id=*/run_id=*"),
        (logs / "dag_processor").glob("*/"),  # one folder a day
        (stack.bucket / "output_data" / "outcomes").glob("*.json"),
    )
    for paths in groups:
        yield from (path for path in paths if not path.is_symlink() and _newest(path) < oldest)


def _newest(path: Path) -> datetime:
    """When a file, or anything in a folder, was written last."""
    files = [path, *(path.rglob("*") if path.is_dir() else ())]
    return datetime.fromtimestamp(max(file.stat().st_mtime for file in files), UTC)


def _drop(paths: Iterator[Path]) -> int:
    count = 0
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        count += 1
    return count


def _clean_tables(stack: Stack, oldest: datetime) -> None:
    """Airflow's own way; the last run of each DAG stays."""
    words = ["db", "clean", "--clean-before-timestamp", oldest.isoformat(timespec="seconds"), "--tables"]
    done = subprocess.run(
        [airflow.program(), *words, ",".join(_TABLES), "--skip-archive", "--yes", "--error-on-cleanup-failure"],
        cwd=ROOT,
        env=base_environment(stack) | airflow.environment(stack, passwords(stack.passwords)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise StackError(f"airflow db clean failed:\n{tail}\nnext: make logs COMPONENT=upkeep")
