"""The Spark plan of the features: repartition by card → kernel → repartition by terminal → kernel.

Written against the PySpark DataFrame API, the same for every engine. A kernel gets all rows of its keys at once: the
batches of a partition are put together first. Missing values are null.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fraud_detection.cores import usable_cores
from fraud_detection.errors import SettingsError
from fraud_detection.features.arrow import codes_of, ids_of, labels_of, sample_hashes, times_of, with_computed
from fraud_detection.features.calendar import calendar_features
from fraud_detection.features.cards import card_features, to_cents
from fraud_detection.features.definitions import CARD_FEATURES, CARD_WINDOW_FEATURES, feature_columns
from fraud_detection.features.spans import label_delay, read_from, terminal_from
from fraud_detection.features.terminals import KnownFrauds, terminal_features
from fraud_detection.labels import HISTORY, NEVER
from fraud_detection.settings import Settings
from fraud_detection.shapes import without_values
from fraud_detection.transactions.columns import feature_table_columns, reserved

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

Stage = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

# They travel from the card stage to the terminal stage, and no further.
_UNEXPLAINED, _TO_MEDIAN = "_unexplained", "_to_median"
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_BATCH_ROWS = 65_536


def feature_names(settings: Settings) -> tuple[str, ...]:
    """The numeric feature columns, in order. Which there are depends on the mapped columns.

    Raises:
        SettingsError: an extra column has the name of another column of the Features table.
    """
    columns = settings.data.columns
    names = feature_columns(columns)
    own = {*reserved(columns), *names, _UNEXPLAINED, _TO_MEDIAN}
    extra = {*columns.extra_numeric, *columns.extra_categorical}
    clash = sorted(name for name in extra if name.lower() in own)  # engines ignore the case of names
    if clash:
        raise SettingsError(f"extra columns named like columns of the features table: {', '.join(clash)}; rename them")
    return (*names, *columns.extra_numeric)


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
    has_card, has_terminal = columns.customer_id is not None, columns.terminal_id is not None
    time = F.col("transaction_time")
    extra = [*columns.extra_numeric, *columns.extra_categorical]
    read = [*feature_table_columns(columns), *_optional(transactions), *extra]
    rows = transactions.where((time >= F.lit(read_from(settings, start))) & (time < F.lit(end))).select(*read)
    work = Work.since(start, settings, base_only=base_only)
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
class Work:
    """The work of the engine's workers; times in microseconds since 1970. Each method turns one table into another."""

    start: int
    keep_from: int
    label_delay: int
    base_only: bool

    @classmethod
    def since(cls, start: datetime, settings: Settings, *, base_only: bool = False) -> "Work":
        """The work for rows since `start`."""
        keep_from = _microseconds(terminal_from(settings, start))
        return cls(_microseconds(start), keep_from, label_delay(settings), base_only)

    def cards(self, rows: pa.Table) -> pa.Table:
        """Rows since `keep_from` with the card features of those since `start`."""
        result = card_features(
            codes_of(rows["customer_id"]),
            times_of(rows["transaction_time"]),
            ids_of(rows["transaction_id"]),
            to_cents(rows["amount"].to_numpy()),
            labels_of(rows, self.label_delay).fraud_spans()[0].min(axis=0),
            self.start,
            self.keep_from,
            self.label_delay,
            past=not self.base_only,
        )
        table = with_computed(rows, result).append_column(_UNEXPLAINED, pa.array(result.unexplained))
        return table.append_column(_TO_MEDIAN, pa.array(result.to_median, from_pandas=True))

    def cards_only(self, rows: pa.Table) -> pa.Table:
        return self.finish(self.cards(rows))

    def terminals(self, rows: pa.Table) -> pa.Table:
        """Rows since `start` with the terminal features, and what is left to add."""
        result = terminal_features(
            codes_of(rows["terminal_id"]),
            times_of(rows["transaction_time"]),
            ids_of(rows["transaction_id"]),
            self._frauds(rows),
            self.start,
            self.label_delay,
            windows_only=self.base_only,
        )
        return self.finish(with_computed(rows, result))

    def _frauds(self, rows: pa.Table) -> KnownFrauds:
        known, until = labels_of(rows, self.label_delay).fraud_spans()
        cents = to_cents(rows["amount"].to_numpy())
        if _UNEXPLAINED in rows.column_names:
            return KnownFrauds(known, until, rows[_UNEXPLAINED].to_numpy(), cents, rows[_TO_MEDIAN].to_numpy())
        # Without card ids nothing can explain a fraud.
        return KnownFrauds(known, until, (known != NEVER).any(axis=0), cents, np.full(len(cents), np.nan))

    def finish(self, rows: pa.Table) -> pa.Table:
        """Add what a row says by itself."""
        for name, values in calendar_features(times_of(rows["transaction_time"])).items():
            rows = rows.append_column(name, pa.array(values))
        return rows.append_column("sample_hash", pa.array(sample_hashes(rows["transaction_id"])))


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
    """All rows of a key in one partition; those without a key, which have nothing in common, in any.

    Apache Spark sizes the partitions itself (AQE, from spark.sql.shuffle.partitions down). The embedded Sail, a Spark
    Connect server in this process, uses the number given here: one for each core.
    """
    from pyspark.sql import functions as F  # noqa: N812

    keys = (key, F.when(F.col(key).isNull(), F.col("transaction_id")))
    if type(rows).__module__.startswith("pyspark.sql.connect"):
        return rows.repartition(usable_cores(), *keys)
    return rows.repartition(*keys)


def _optional(rows: "DataFrame") -> tuple[str, ...]:
    return tuple(name for name in ("label_available_at", HISTORY) if name in rows.columns)


def _result_schema(rows: "DataFrame", settings: Settings, base_only: bool) -> "StructType":
    from pyspark.sql.types import DoubleType, StructField, StructType

    columns = settings.data.columns
    given = {field.name: field for field in rows.schema.fields}
    kept = [*feature_table_columns(columns), *_optional(rows)]
    added = ["sample_hash", *feature_columns(columns, base_only=base_only)[1:]]
    fields = [given[name] for name in kept]
    fields += [StructField(name, DoubleType()) for name in added]
    fields += [given[name] for name in (*columns.extra_numeric, *columns.extra_categorical)]
    return StructType(fields)


def result_columns(rows: "DataFrame", settings: Settings) -> list[str]:
    """The columns of the Features table of some rows, in order."""
    columns = settings.data.columns
    kept = [*feature_table_columns(columns), *_optional(rows)]
    return [*kept, "sample_hash", *feature_columns(columns)[1:], *columns.extra_numeric, *columns.extra_categorical]


def _between_schema(rows: "DataFrame", base_only: bool) -> "StructType":
    from pyspark.sql.types import BooleanType, DoubleType, StructField, StructType

    names = CARD_WINDOW_FEATURES if base_only else CARD_FEATURES
    features = [StructField(name, DoubleType()) for name in names]
    judged = [StructField(_UNEXPLAINED, BooleanType()), StructField(_TO_MEDIAN, DoubleType())]
    return StructType([*rows.schema.fields, *features, *judged])


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
