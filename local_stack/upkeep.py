"""What keeps a stack that runs for months at work, and from growing for as long.

It restarts Airflow's jobs that hang, and drops old rows and logs of Airflow and the outcomes of old runs. The emulator
forgets by itself (its settings have the same number of days), supervisord bounds the components' logs.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from local_stack import airflow
from local_stack.components import base_environment
from local_stack.passwords import passwords
from local_stack.settings import ROOT, Stack, StackError
from local_stack.watch import Watch

_TABLES = ("dag_run", "task_instance", "task_instance_history", "task_reschedule", "xcom", "log", "job", "import_error")
"""Airflow's tables that grow with its runs, and with its own work."""
_LOOK_SECONDS = 15.0  # between two looks at the heartbeats
_FIRST_TIDYING = 600.0  # seconds after a start, when the first run is over
_DAY = 86_400.0


def keep_up(stack: Stack) -> None:
    """Look after a running stack until the process is ended."""
    watch = Watch(stack)
    next_tidying = time.monotonic() + _FIRST_TIDYING
    while True:
        time.sleep(_LOOK_SECONDS)
        for name in watch.look(time.time()):
            click.echo(f"{_clock()} {name} gave no sign of life and was restarted")
        if time.monotonic() > next_tidying:
            next_tidying = time.monotonic() + _DAY
            try:
                click.echo(f"{_clock()} {tidy(stack, datetime.now(UTC))}")
            except StackError as error:  # the next day it may go better, and the heartbeats are looked at until then
                click.echo(f"{_clock()} {error}", err=True)


def _clock() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def tidy(stack: Stack, now: datetime) -> str:
    """Delete what is older than KEEP_DAYS; returns what was done. Raises StackError where Airflow's rows stay."""
    oldest = now - timedelta(days=stack.keep_days)
    dropped = _drop(_old(stack, oldest))
    _clean_tables(stack, oldest)
    return f"everything before {oldest:%Y-%m-%d %H:%M} is dropped: {dropped} logs and outcomes"


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
