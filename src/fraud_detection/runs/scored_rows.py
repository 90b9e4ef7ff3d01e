"""The transactions of a batch on the engine: which there are, and their scores; both come to the driver as Arrow.

Ids travel as text, so that ids of earlier batches compare with them whatever the type of the files is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection.commands import Commands
from fraud_detection.features import features_between
from fraud_detection.model.reasons import ALERT, PROBABILITY, REASONS, AlertRule, with_alerts
from fraud_detection.registry import Champion
from fraud_detection.runs.retired_columns import missing_columns
from fraud_detection.scores.increments import day_of, days_of, spans
from fraud_detection.settings import Settings
from fraud_detection.time_windows import LOOK_BACK_DAYS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from fraud_detection.transactions.reader import Transactions

_DAY_MICROS = 86_400_000_000
_EPOCH = date(1970, 1, 1)
_TYPES = {
    "transaction_id": pa.string(),
    "transaction_time": pa.timestamp("us", "UTC"),
    "amount": pa.float64(),
    "customer_id": pa.string(),
    PROBABILITY: pa.float32(),
    ALERT: pa.bool_(),
    REASONS: pa.list_(pa.string()),
}


@dataclass(frozen=True)
class ScoredRows:
    """New transactions with their scores."""

    table: pa.Table
    """transaction_id, transaction_time, amount, [customer_id], probability, alert, reasons."""
    retired_columns: tuple[str, ...]
    """Which the champion reads, and was scored without."""


def read_keys(transactions: "Transactions", start: datetime, end: datetime, days: Sequence[date]) -> pa.Table:
    """transaction_id and transaction_time of the transactions of some days, in [start, end)."""
    first, last = min(days), max(days) + timedelta(days=1)
    table = transactions.between(max(_midnight(first), start), min(_midnight(last), end))
    return _to_arrow(table.where(_on(days)), ["transaction_id", "transaction_time"])


def score_rows(
    transactions: "Transactions",
    new: pa.Table,
    end: datetime,
    champion: Champion,
    settings: Settings,
    commands: Commands,
) -> ScoredRows:
    """Score transactions with the features that they have in the input as it is known now.

    Args:
        transactions: the input.
        new: transaction_id and transaction_time of those to score.
        end: no transaction at or after it is read.
        champion: scores all of them.
        settings: of the run.
        commands: for messages.

    Raises:
        FraudDetectionError: the champion reads columns that the data no longer have; see `retired_columns`.
    """
    days = [day_of(number) for number in pc.unique(days_of(new["transaction_time"])).to_pylist()]
    card = [] if settings.data.columns.customer_id is None else ["customer_id"]
    keep = ["transaction_id", "transaction_time", "amount", *card]
    threshold = None if champion.threshold is None else champion.threshold.probability
    rule = AlertRule(threshold, settings.scoring.reasons)
    parts: list[pa.Table] = []
    retired: tuple[str, ...] = ()
    for first, last in spans(days, gap=LOOK_BACK_DAYS):
        features = features_between(transactions, settings, first, min(last, end))
        retire = commands.retire_champion(champion.version)
        missing = missing_columns(champion, features.columns, settings.data.retired_columns, retire)
        retired = missing.columns
        content = champion.model.to_bytes()
        scored = with_alerts(features.where(_on(days)), content, keep, rule, missing.features)
        parts.append(_to_arrow(scored, [*keep, PROBABILITY, ALERT, REASONS]))
    none = pa.table({name: pa.array([], _TYPES[name]) for name in (*keep, PROBABILITY, ALERT, REASONS)})
    table = pa.concat_tables([none, *parts])
    return ScoredRows(table.filter(pc.is_in(table["transaction_id"], new["transaction_id"])), retired)


def _on(days: Sequence[date]) -> "Column":
    """Whether a transaction is of one of the days, UTC."""
    from pyspark.sql import functions as F  # noqa: N812

    numbers = [(day - _EPOCH).days for day in days]
    return F.floor(F.unix_micros("transaction_time") / _DAY_MICROS).isin(numbers)


def _to_arrow(rows: "DataFrame", columns: Sequence[str]) -> pa.Table:
    """Some columns of rows on the driver, ids as text and times as UTC."""
    from pyspark.sql import functions as F  # noqa: N812

    chosen = [
        F.unix_micros(name).alias(name)
        if name == "transaction_time"
        else F.col(name).cast("string").alias(name)
        if name in {"transaction_id", "customer_id"}
        else F.col(name)
        for name in columns
    ]
    found = rows.select(*chosen).toPandas()
    return pa.table({name: _array(found[name], name) for name in columns})


def _array(values: "pd.Series[Any]", name: str) -> pa.Array:
    if name == "transaction_time":
        return pa.array(values, pa.int64()).cast(_TYPES[name])
    if name == REASONS:  # lists come as arrays
        return pa.array([None if value is None else list(value) for value in values], _TYPES[name])
    return pa.array(values, _TYPES[name], from_pandas=True)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
