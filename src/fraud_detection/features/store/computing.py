"""Files of features that the engine's workers write by day, and read again.

The workers write each file whole, under a name that the driver gives; nothing names it before the driver publishes it.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_detection.cores import usable_cores
from fraud_detection.features.definitions import DAY, feature_columns
from fraud_detection.features.store.files import FeatureDay
from fraud_detection.settings import Columns, Format
from fraud_detection.shapes import without_values
from fraud_detection.storage import Storage, open_folder
from fraud_detection.transactions.columns import KEY, Field, Kind
from fraud_detection.transactions.input_file import FileKind, InputFile

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ID_TYPES = {"bigint": pa.int64(), "string": pa.string()}


def stored_columns(columns: Columns) -> tuple[str, ...]:
    """The numeric columns of a file of features, beside the id of the transaction: those that labels do not change."""
    return ("sample_hash", *feature_columns(columns)[1:])


def write_days(
    features: "DataFrame", columns: Columns, url: str, names: Mapping[int, str]
) -> list[tuple[int, int, int]]:
    """Compute features, and write the files of the days that are missing.

    Args:
        features: see `compute.with_features`; of all days from the first one up to the last one.
        columns: those that the input has.
        url: the folder that the names of files are relative to.
        names: of the files of the days that are missing.

    Returns:
        day, bytes and rows of each file.
    """
    written = _by_day(features, columns).mapInArrow(_writer(url, dict(names)), "day bigint, size bigint, rows bigint")
    found = {int(row["day"]): (int(row["size"]), int(row["rows"])) for row in written.collect()}
    return [(number, *found[number]) for number in names if number in found]


def equal_days(features: "DataFrame", columns: Columns, url: str, names: Mapping[int, str]) -> set[int]:
    """Compute features; the days whose files hold the same, bit for bit.

    Args:
        features: as in `write_days`.
        columns: those that the input has.
        url: the folder that the names of files are relative to.
        names: of files, by day.
    """
    same = _by_day(features, columns).mapInArrow(_comparer(url, dict(names)), "day bigint")
    return {int(row["day"]) for row in same.collect()}


def _by_day(features: "DataFrame", columns: Columns) -> "DataFrame":
    """What files of features hold, each day in one partition, with `_DAY`."""
    from pyspark.sql import functions as F  # noqa: N812

    day = F.floor(F.unix_micros("transaction_time") / F.lit(DAY)).cast("bigint").alias(_DAY)
    rows = features.select(KEY, *stored_columns(columns), day)
    if type(rows).__module__.startswith("pyspark.sql.connect"):
        return rows.repartition(usable_cores(), _DAY)  # as in `compute`
    return rows.repartition(_DAY)


def stored_file(storage: Storage, day: FeatureDay, columns: Columns, id_type: str) -> InputFile:
    """The file of a day as an input file with canonical columns."""
    types = {KEY: _ID_TYPES[id_type]} | dict.fromkeys(stored_columns(columns), pa.float64())
    return InputFile(storage.url(day.file), FileKind.PARQUET, Format(), types, stored=True)


def read_days(spark: "SparkSession", files: Sequence[InputFile], columns: Columns) -> "DataFrame":
    """The features of days, as they are in their files: the id of the transaction and `stored_columns`."""
    from fraud_detection.transactions.table import typed_rows

    return typed_rows(spark, tuple(files), _fields(columns)).drop("defect")


def read_file(file: InputFile, columns: Columns) -> None:
    """Read a file of features to its end; raises what a task of an engine would raise."""
    from fraud_detection.transactions.table import read_through

    read_through(file, _fields(columns))


def _fields(columns: Columns) -> tuple[Field, ...]:
    return Field(KEY, KEY, Kind.ID), *(Field(name, name, Kind.NUMBER) for name in stored_columns(columns))


def day_content(rows: pa.Table) -> bytes:
    """The Parquet file of a day, by id, without statistics, by which one engine overlooks NaN."""
    rows = rows.take(pc.sort_indices(rows, [(KEY, "ascending")]))
    rows = rows.append_column("defect", pa.nulls(rows.num_rows, pa.string()))
    text = io.BytesIO()
    pq.write_table(rows, text, compression="zstd", compression_level=1, use_dictionary=False, write_statistics=False)
    return text.getvalue()


_DAY = "_day"


def _writer(url: str, names: Mapping[int, str]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `mapInArrow` that writes the days of a partition."""

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        storage, written = open_folder(url), []
        for day, rows in _days_of(batches):
            if day in names:
                content = day_content(rows)
                storage.write_atomic(names[day], content)
                written.append({"day": day, "size": len(content), "rows": rows.num_rows})
        if written:
            schema = pa.schema([("day", pa.int64()), ("size", pa.int64()), ("rows", pa.int64())])
            yield from pa.Table.from_pylist(written, schema).to_batches()

    return without_values(write)


def _comparer(url: str, names: Mapping[int, str]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `mapInArrow` that gives the days of a partition whose files hold the same."""

    def compare(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        storage = open_folder(url)
        same = [day for day, rows in _days_of(batches) if day in names and _holds(storage.read(names[day]), rows)]
        if same:
            yield pa.RecordBatch.from_arrays([pa.array(same, pa.int64())], ["day"])

    return without_values(compare)


def _holds(content: bytes | None, rows: pa.Table) -> bool:
    """Whether a file has these features, bit for bit."""
    if not content:
        return False
    try:
        kept = pq.read_table(io.BytesIO(content))
    except (OSError, pa.ArrowException):
        return False
    rows = pq.read_table(io.BytesIO(day_content(rows)))
    if kept.schema != rows.schema or kept.num_rows != rows.num_rows or not kept[KEY].equals(rows[KEY]):
        return False
    pairs = (
        (kept[name].to_numpy(), rows[name].to_numpy()) for name in rows.column_names if name not in {KEY, "defect"}
    )
    return all(np.array_equal(one.view(np.int64), other.view(np.int64)) for one, other in pairs)


def _days_of(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each day of a partition, without `_DAY`."""
    filled = [batch for batch in batches if batch.num_rows]
    if not filled:
        return
    rows = pa.Table.from_batches(filled).combine_chunks()
    days = rows[_DAY].to_numpy()
    order = np.argsort(days, kind="stable")
    found, starts = np.unique(days[order], return_index=True)
    rows = rows.drop_columns([_DAY]).take(pa.array(order))
    for day, start, end in zip(found.tolist(), starts, [*starts[1:], len(days)], strict=True):
        yield day, rows.slice(start, end - start)
