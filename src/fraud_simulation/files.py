"""One file for each simulated day, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from fraud_simulation.transactions import day_table
from fraud_simulation.world import FileFormat, World


def write_days(
    world: World, folder: Path, start: date, days: int, dirty_share: float = 0.0, form: FileFormat = FileFormat.PARQUET
) -> Iterator[tuple[Path, pa.Table]]:
    """Write `folder`/transactions/YYYY-MM-DD.FORMAT for each day, and yield each file with its rows."""
    for day in (start + timedelta(days=offset) for offset in range(days)):
        table = day_table(world, day, dirty_share)
        path = folder / "transactions" / f"{day}.{form}"
        write_table(table, path)
        _remove_other_formats(path)
        yield path, table


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet or CSV, after the path's suffix: readers see all of it or the file there was before."""
    with _whole(path) as temporary:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, temporary)
        else:
            pq.write_table(table, temporary, compression="zstd")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and goes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_other_formats(path: Path) -> None:
    """Take away the same day in another format: read together they would count every transaction twice."""
    for form in FileFormat:
        if path.suffix != f".{form}":
            path.with_suffix(f".{form}").unlink(missing_ok=True)
