"""Compares the newest transactions with those that the champion was trained on."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial, reduce

import numpy as np
import pandas as pd

from fraud_detection.data_health.drift import (
    Distributions,
    FineCounts,
    drift_spans,
    independent_rows,
    measure_drift,
)
from fraud_detection.features import features_between
from fraud_detection.model.bin_counts import count_bins, counted_columns, is_category
from fraud_detection.model.model import Model
from fraud_detection.registry import Champion
from fraud_detection.runs.reference_counts import Counted, keep_counts
from fraud_detection.schema import DriftRecord, ShiftedSample
from fraud_detection.settings import Settings
from fraud_detection.transactions.reader import Transactions

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
    fresh = _sample(transactions, spans.start, spans.end)
    if not fresh.transactions:
        return None
    model = champion.model
    reference_span = spans.reference_start, spans.reference_end
    count = partial(_count, transactions, model=model, missing=missing, settings=settings)
    reference = keep_counts(
        transactions, settings, model, missing, reference_span, lambda: count(_sample(transactions, *reference_span))
    )
    if not reference.sample.transactions:
        return None
    counts = reference.bins, count(fresh).bins
    columns = counted_columns(model, missing)
    fine = [_fine(name, counts, of_category=is_category(model, places)) for name, places in enumerate(columns.values())]
    score = _fine(len(columns), counts, of_category=False)
    found = Distributions(reference.sample, fresh, dict(zip(columns, fine, strict=True)), score)
    return measure_drift(found, settings.data_health)


def _count(
    transactions: Transactions, sample: ShiftedSample, *, model: Model, missing: Sequence[str], settings: Settings
) -> Counted:
    if not sample.transactions:
        return Counted(sample, pd.DataFrame(columns=["name", "bin", "rows"], dtype=np.int64))
    features = features_between(transactions, settings, sample.start, sample.end)
    return Counted(sample, count_bins(features, model.to_bytes(), missing))


def _fine(name: int, counts: Sequence[pd.DataFrame], *, of_category: bool) -> FineCounts:
    """The counts of one column in both samples, side by side."""
    rows = [table[table["name"] == name].set_index("bin")["rows"] for table in counts]
    both = pd.concat(rows, axis=1).fillna(0).sort_index().astype(np.int64)
    return FineCounts(
        both.index.to_numpy(np.int64), both.iloc[:, 0].to_numpy(), both.iloc[:, 1].to_numpy(), of_category
    )


def _sample(transactions: Transactions, start: datetime, end: datetime) -> ShiftedSample:
    """The rows of a span, and how many independent ones they are worth: by card or by terminal, the fewer.

    Without card and terminal ids every row counts as independent, and so does one whose card or terminal is unknown.
    """
    from pyspark.sql import functions as F  # noqa: N812

    rows = transactions.between(start, end)
    squares = F.when(F.col("cluster").isNull(), F.col("size")).otherwise(F.col("size") ** 2)
    keys = [name for name in _CLUSTERS if name in rows.columns]
    sizes = [rows.groupBy(F.col(key).alias("cluster")).agg(F.count("*").alias("size")) for key in keys]
    if not keys:
        sizes = [rows.agg(F.lit(None).cast("string").alias("cluster"), F.count("*").alias("size"))]
    sums = [one.agg(F.sum("size").alias("rows"), F.sum(squares.cast("double")).alias("squares")) for one in sizes]
    found = reduce(lambda one, other: one.unionByName(other), sums).toPandas().fillna(0)
    worth = [independent_rows(float(one["rows"]), float(one["squares"])) for _, one in found.iterrows()]
    total = int(found["rows"].iloc[0])
    return ShiftedSample(start=start, end=end, transactions=total, independent=round(min(worth), 1))
