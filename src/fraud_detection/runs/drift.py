"""Compares the newest transactions with those that the champion was trained on."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fraud_detection.data_health.drift import (
    Distributions,
    DriftSpans,
    FineCounts,
    drift_spans,
    independent_rows,
    measure_drift,
)
from fraud_detection.features import features_between
from fraud_detection.model.bin_counts import count_bins, counted_columns, is_category
from fraud_detection.model.model import Model
from fraud_detection.registry import Champion
from fraud_detection.sampling import within
from fraud_detection.schema import DriftRecord, ShiftedSample
from fraud_detection.settings import Settings
from fraud_detection.transactions.reader import Transactions

if TYPE_CHECKING:
    from pyspark.sql import Column

_CLUSTERS = ("customer_id", "terminal_id")


def find_drift(
    transactions: Transactions, champion: Champion | None, missing: Sequence[str], as_of: datetime, settings: Settings
) -> DriftRecord | None:
    """PSI of the champion's inputs and scores; None where nothing can be compared.

    Args:
        transactions: as known at the as-of time.
        champion: in service.
        missing: columns that it reads and the data no longer have.
        as_of: of the run.
        settings: of the run.
    """
    if champion is None:
        return None
    spans = drift_spans(champion.training.end, transactions.profile.first, as_of, settings)
    if spans is None:
        return None
    reference, fresh = _samples(transactions, spans)
    if not reference.transactions or not fresh.transactions:
        return None
    counts = [_count(transactions, sample, champion.model, missing, settings) for sample in (reference, fresh)]
    columns = counted_columns(champion.model, missing)
    fine = [
        _fine(name, counts, of_category=is_category(champion.model, places))
        for name, places in enumerate(columns.values())
    ]
    score = _fine(len(columns), counts, of_category=False)
    found = Distributions(reference, fresh, dict(zip(columns, fine, strict=True)), score)
    return measure_drift(found, settings.data_health)


def _count(
    transactions: Transactions, sample: ShiftedSample, model: Model, missing: Sequence[str], settings: Settings
) -> pd.DataFrame:
    features = features_between(transactions, settings, sample.start, sample.end)
    return count_bins(features, model.to_bytes(), missing)


def _fine(name: int, counts: Sequence[pd.DataFrame], *, of_category: bool) -> FineCounts:
    """The counts of one column in both samples, side by side."""
    rows = [table[table["name"] == name].set_index("bin")["rows"] for table in counts]
    both = pd.concat(rows, axis=1).fillna(0).sort_index().astype(np.int64)
    return FineCounts(
        both.index.to_numpy(np.int64), both.iloc[:, 0].to_numpy(), both.iloc[:, 1].to_numpy(), of_category
    )


def _samples(transactions: Transactions, spans: DriftSpans) -> tuple[ShiftedSample, ShiftedSample]:
    """Both samples with their rows, and how many independent ones these are worth: by card or by terminal, the fewer.

    Without card and terminal ids every row counts as independent, and so does one whose card or terminal is unknown.
    """
    from pyspark.sql import functions as F  # noqa: N812

    bounds = (spans.reference_start, spans.reference_end), (spans.start, spans.end)
    table = transactions.between(min(bounds)[0], max(end for _, end in bounds))
    fresh = _in(*bounds[1])
    rows = table.where(_in(*bounds[0]) | fresh)
    squares = F.when(F.col("cluster").isNull(), F.col("size")).otherwise(F.col("size") ** 2)
    worth = []
    for key in (name for name in _CLUSTERS if name in table.columns):
        sizes = rows.groupBy(F.col(key).alias("cluster"), fresh.alias("fresh")).agg(F.count("*").alias("size"))
        sums = sizes.groupBy("fresh").agg(F.sum("size").alias("rows"), F.sum(squares).alias("squares"))
        worth.append(sums.toPandas().set_index("fresh"))
    if not worth:
        sums = rows.groupBy(fresh.alias("fresh")).agg(F.count("*").alias("rows"), F.count("*").alias("squares"))
        worth.append(sums.toPandas().set_index("fresh"))

    def sample(start: datetime, end: datetime, *, fresh: bool) -> ShiftedSample:
        found = [sums.loc[fresh] for sums in worth if fresh in sums.index]
        independent = min((independent_rows(float(one["rows"]), float(one["squares"])) for one in found), default=0.0)
        total = int(found[0]["rows"]) if found else 0
        return ShiftedSample(start=start, end=end, transactions=total, independent=round(independent, 1))

    return sample(*bounds[0], fresh=False), sample(*bounds[1], fresh=True)


def _in(start: datetime, end: datetime) -> "Column":
    from pyspark.sql import functions as F  # noqa: N812

    column: Column = within(F.col("transaction_time"), F.lit(start), F.lit(end))
    return column
