"""The Spark plan of the features: repartition by card → kernel → repartition by terminal → kernel.

Written against the PySpark DataFrame API, the same for every engine. A kernel gets all rows of its keys at once: the
batches of a partition are put together first. Missing values are null.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fraud_detection.errors import SettingsError
from fraud_detection.features import kernels
from fraud_detection.labels import HISTORY, NEVER, UNKNOWN, Labels
from fraud_detection.settings import Settings
from fraud_detection.shapes import without_values
from fraud_detection.time_windows import LOOK_BACK_DAYS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

Stage = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

BASE_FEATURES = (
    "amount",
    "night",
    "weekend",
    *kernels.CARD_WINDOW_FEATURES,
    *kernels.TERMINAL_WINDOW_FEATURES,
)
"""The 15 inputs of the Fraud Detection Handbook, under our names."""

_UNEXPLAINED = "_unexplained"  # travels from the card stage to the terminal stage, and no further
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_BATCH_ROWS = 65_536


def feature_names(settings: Settings) -> tuple[str, ...]:
    """The numeric feature columns, in order. Which there are depends on the mapped columns.

    Raises:
        SettingsError: an extra column has the name of another column of the Features table.
    """
    columns = settings.data.columns
    names = _names(settings, base_only=False)
    own = {*_identity(settings), *names, "label_available_at", HISTORY, "sample_hash", _UNEXPLAINED}
    extra = {*columns.extra_numeric, *columns.extra_categorical}
    clash = sorted(name for name in extra if name.lower() in own)  # engines do not tell names apart by case
    if clash:
        raise SettingsError(f"extra columns named like columns of the features table: {', '.join(clash)}; rename them")
    return (*names, *columns.extra_numeric)


def source_columns(features: Iterable[str]) -> dict[str, str]:
    """For each numeric feature or extra column, the optional input column that it is made of."""
    made = dict.fromkeys(kernels.CARD_FEATURES, "customer_id") | dict.fromkeys(kernels.TERMINAL_FEATURES, "terminal_id")
    return {feature: made.get(feature, feature) for feature in features}


def with_features(
    transactions: "DataFrame", settings: Settings, start: datetime, end: datetime, *, base_only: bool = False
) -> "DataFrame":
    """The Features table of the transactions in [start, end), in no particular order.

    Args:
        transactions: canonical and checked; may hold any times. Only rows that a feature can depend on are read.
        start: aware.
        end: aware.
        base_only: only BASE_FEATURES; for comparison with other implementations of them.

    Returns:
        transaction_id, transaction_time, amount, fraud, [customer_id], [terminal_id], [label_available_at],
        [label_history], sample_hash, the numeric features (see `feature_names`; null is missing), the extra categorical
        columns.

    Raises:
        SettingsError: an extra column has the name of another column of the Features table.
    """
    from pyspark.sql import functions as F  # noqa: N812

    feature_names(settings)
    columns = settings.data.columns
    delay = timedelta(days=settings.windows.label_delay_days)
    look_back = timedelta(days=LOOK_BACK_DAYS)
    has_card, has_terminal = columns.customer_id is not None, columns.terminal_id is not None
    terminal_from = start - delay - look_back if has_terminal else start
    # An earlier amount was large, or a fraud explained, by what the card had done before: its past once more.
    read_from = min(terminal_from, start - look_back) - look_back if has_card else terminal_from

    time = F.col("transaction_time")
    read = [*_identity(settings), *_optional(transactions), *columns.extra_numeric, *columns.extra_categorical]
    rows = transactions.where((time >= F.lit(read_from)) & (time < F.lit(end))).select(*read)
    work = _Work(
        start=_microseconds(start),
        keep_from=_microseconds(terminal_from),
        label_delay=delay // timedelta(microseconds=1),
        base_only=base_only,
    )
    result = _result_schema(rows, settings, base_only)
    if not has_terminal:
        if not has_card:
            return rows.mapInArrow(_stage(work.finish, result), result)
        return _by_key(rows, "customer_id").mapInArrow(_stage(work.cards_only, result), result)
    if has_card:
        between = _between_schema(rows, base_only)
        rows = _by_key(rows, "customer_id").mapInArrow(_stage(work.cards, between), between)
    return _by_key(rows, "terminal_id").mapInArrow(_stage(work.terminals, result), result)


@dataclass(frozen=True)
class _Work:
    """What the engine's workers are told; times in microseconds since 1970. Each method makes one table of another."""

    start: int
    keep_from: int
    label_delay: int
    base_only: bool

    def cards(self, rows: pa.Table) -> pa.Table:
        """Rows since `keep_from` with the card features of those since `start`."""
        result = kernels.card_features(
            _codes(rows["customer_id"]),
            _times(rows["transaction_time"]),
            _ids(rows["transaction_id"]),
            kernels.to_cents(rows["amount"].to_numpy()),
            (self._labels(rows).fraud_spans()[0] != NEVER).any(axis=0),
            self.start,
            self.keep_from,
            past=not self.base_only,
        )
        return _extended(rows, result).append_column(_UNEXPLAINED, pa.array(result.unexplained))

    def cards_only(self, rows: pa.Table) -> pa.Table:
        return self.finish(self.cards(rows))

    def terminals(self, rows: pa.Table) -> pa.Table:
        """Rows since `start` with the terminal features, and what is left to add."""
        known, until = self._labels(rows).fraud_spans()
        # Without card ids nothing can explain a fraud.
        has_card = _UNEXPLAINED in rows.column_names
        unexplained = rows[_UNEXPLAINED].to_numpy() if has_card else (known != NEVER).any(axis=0)
        result = kernels.terminal_features(
            _codes(rows["terminal_id"]),
            _times(rows["transaction_time"]),
            _ids(rows["transaction_id"]),
            known,
            unexplained,
            self.start,
            self.label_delay,
            until=until,
            frauds=not self.base_only,
        )
        return self.finish(_extended(rows, result))

    def _labels(self, rows: pa.Table) -> Labels:
        columns = rows.column_names
        available = _label_times(rows["label_available_at"]) if "label_available_at" in columns else None
        history = rows[HISTORY].combine_chunks() if HISTORY in columns else None
        fraud = rows["fraud"].cast(pa.int8()).fill_null(UNKNOWN).to_numpy()
        return Labels.of(_times(rows["transaction_time"]), fraud, available, history, self.label_delay)

    def finish(self, rows: pa.Table) -> pa.Table:
        """Add what a row says by itself."""
        for name, values in kernels.calendar_features(_times(rows["transaction_time"])).items():
            rows = rows.append_column(name, pa.array(values))
        return rows.append_column("sample_hash", pa.array(_sample_hash(rows["transaction_id"])))


def _stage(work: Callable[[pa.Table], pa.Table], schema: "StructType") -> Stage:
    """A function for `mapInArrow` that does the work on a whole partition and orders the columns by the schema."""
    names = schema.fieldNames()

    def stage(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        filled = [batch for batch in batches if batch.num_rows]
        if filled:
            rows = pa.Table.from_batches(filled).combine_chunks()  # one chunk a column: engines send thousands of rows
            yield from work(rows).select(names).to_batches(_BATCH_ROWS)

    return without_values(stage)


def _by_key(rows: "DataFrame", key: str) -> "DataFrame":
    """All rows of a key in one partition.

    Apache Spark sizes the partitions itself (AQE, from spark.sql.shuffle.partitions down). The embedded Sail, a Spark
    Connect server in this process, takes the number it is told: one for each core.
    """
    if type(rows).__module__.startswith("pyspark.sql.connect"):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return rows.repartition(cores, key)
    return rows.repartition(key)


# -------------------------------------------------------------------------------------------------------- columns


def _names(settings: Settings, *, base_only: bool) -> tuple[str, ...]:
    columns = settings.data.columns
    names = ["amount", "night", "weekend"]
    if columns.customer_id is not None:
        names += kernels.CARD_WINDOW_FEATURES if base_only else kernels.CARD_FEATURES
    if columns.terminal_id is not None:
        names += kernels.TERMINAL_WINDOW_FEATURES if base_only else kernels.TERMINAL_FEATURES
    return tuple(names)


def _identity(settings: Settings) -> tuple[str, ...]:
    """The columns that say which transaction a row is, and its label."""
    columns = settings.data.columns
    names = ["transaction_id", "transaction_time", "amount", "fraud"]
    names += ["customer_id"] if columns.customer_id is not None else []
    names += ["terminal_id"] if columns.terminal_id is not None else []
    return tuple(names)


def _optional(rows: "DataFrame") -> tuple[str, ...]:
    return tuple(name for name in ("label_available_at", HISTORY) if name in rows.columns)


def _result_schema(rows: "DataFrame", settings: Settings, base_only: bool) -> "StructType":
    from pyspark.sql.types import DoubleType, StructField, StructType

    columns = settings.data.columns
    given = {field.name: field for field in rows.schema.fields}
    kept = [*_identity(settings), *_optional(rows)]
    added = ["sample_hash", *_names(settings, base_only=base_only)[1:]]
    fields = [given[name] for name in kept]
    fields += [StructField(name, DoubleType()) for name in added]
    fields += [given[name] for name in (*columns.extra_numeric, *columns.extra_categorical)]
    return StructType(fields)


def _between_schema(rows: "DataFrame", base_only: bool) -> "StructType":
    from pyspark.sql.types import BooleanType, DoubleType, StructField, StructType

    names = kernels.CARD_WINDOW_FEATURES if base_only else kernels.CARD_FEATURES
    features = [StructField(name, DoubleType()) for name in names]
    return StructType([*rows.schema.fields, *features, StructField(_UNEXPLAINED, BooleanType())])


def _extended(rows: pa.Table, result: kernels.Rows) -> pa.Table:
    """The result's rows with its features, NaN as null."""
    table = rows.take(pa.array(result.positions))
    for name, values in result.features.items():
        table = table.append_column(name, pa.array(values, from_pandas=True))
    return table


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _times(column: pa.ChunkedArray) -> kernels.Ints:
    times: kernels.Ints = _as_microseconds(column).to_numpy()
    return times


def _label_times(column: pa.ChunkedArray) -> kernels.Ints:
    times: kernels.Ints = _as_microseconds(column).fill_null(NEVER).to_numpy()
    return times


def _as_microseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())


def _codes(column: pa.ChunkedArray) -> kernels.Ints:
    """Keys of any type as small integers."""
    codes: kernels.Ints = column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _ids(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[Any]]:
    ids: np.ndarray[Any, np.dtype[Any]] = column.to_numpy()
    return ids


def _sample_hash(ids: pa.ChunkedArray) -> kernels.Floats:
    """A number in [0, 1) from each id, evenly spread and the same on every engine and machine."""
    import pandas as pd

    hashes = pd.util.hash_array(_ids(ids), categorize=False)
    return (hashes >> np.uint64(11)) * 2.0**-53  # 53 bits: all that a double holds below 1
