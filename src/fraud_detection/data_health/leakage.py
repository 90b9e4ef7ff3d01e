"""Whether one input alone gives the frauds away, as a column does that was filled in after they were known."""

from collections.abc import Iterable, Iterator
from datetime import UTC, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.data_health.counts import Bools, Floats
from fraud_detection.data_health.finding import Finding
from fraud_detection.promotion.checks import measure
from fraud_detection.schema import Span
from fraud_detection.settings import Settings

LEAST_FRAUDS = 20
"""With fewer any column may separate them."""

NEWEST, LEAST_NEWEST_FRAUDS = timedelta(days=7), 40
"""The end of the window is looked at by itself too: a leak that has just begun is drowned in the whole of it. It asks
for more frauds, since it is looked at anew with every candidate.
"""


def check_leakage(
    rows: pd.DataFrame, weights: NDArray[np.float64] | None, span: Span, inputs: Iterable[str], settings: Settings
) -> tuple[Finding, ...]:
    """Rank the training rows, and the newest of them, by each input alone; the one that ranks best is the finding.

    Args:
        rows: the training sample, with `transaction_time` (without a zone, in UTC) and `fraud`.
        weights: of the rows; None where nothing was left out.
        span: that the rows are of.
        inputs: columns of `rows`, numbers or categories.
        settings: of the run.
    """
    weight = np.ones(len(rows)) if weights is None else weights
    inputs, week = tuple(inputs), span.end - NEWEST
    newest = (rows["transaction_time"] >= week.astimezone(UTC).replace(tzinfo=None)).to_numpy()
    parts = (
        ("the training window", span.start, np.ones(len(rows), bool), LEAST_FRAUDS),
        (f"its last {NEWEST.days} days", week, newest, LEAST_NEWEST_FRAUDS),
    )
    ranked = [
        (precision, name, where, start)
        for where, start, of_part, least in parts
        for name, precision in _precisions(rows[of_part], weight[of_part], inputs, least)
    ]
    if not ranked:
        return ()
    precision, name, where, start = max(ranked)
    text = (
        f"the input {name} alone ranks the frauds of {where} with an average precision of {precision:.2f};"
        " it may have been filled in once they were known, and then be missing when it is needed"
    )
    if name == "amount":
        text += "; nor can a model exceed it by much, as comparison.first_champion_floor asks of a first champion"
    found = measure("no_leaking_feature", precision, settings)
    return (Finding(found, start.date(), span.end.date(), text),)


def _precisions(rows: pd.DataFrame, weight: Floats, inputs: Iterable[str], least: int) -> Iterator[tuple[str, float]]:
    """Of each input alone; nothing where there are too few frauds."""
    fraud = rows["fraud"].to_numpy() == 1
    if fraud.sum() >= least and not fraud.all():
        for name in inputs:
            yield name, _best_precision(rows[name], fraud, weight)


def _best_precision(column: "pd.Series[float]", fraud: Bools, weight: Floats) -> float:
    return max(ranking_precision(score, fraud, weight) for score in _rankings(column, fraud, weight))


def _rankings(column: "pd.Series[float]", fraud: Bools, weight: Floats) -> Iterator[Floats]:
    """Upwards, downwards and by absence; a category ranks by its share of frauds."""
    missing = column.isna().to_numpy()
    if missing.any():
        yield missing.astype(np.float64)
        yield (~missing).astype(np.float64)
    if isinstance(column.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        codes = pd.factorize(column.astype("string"))[0] + 1
        total = np.bincount(codes, weights=weight)
        yield (np.bincount(codes, weights=weight * fraud) / np.maximum(total, 1e-300))[codes]
        return
    values = column.to_numpy(np.float64, na_value=np.nan)
    for direction in (values, -values):
        yield np.where(missing, -np.inf, direction)


def ranking_precision(score: Floats, fraud: Bools, weight: Floats) -> float:
    """Average precision of a ranking of weighted rows; equal scores are one step."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    caught = np.cumsum((weight * fraud)[order])[last]
    alarmed = np.cumsum(weight[order])[last]
    return float((np.diff(caught, prepend=0.0) * caught / alarmed).sum() / caught[-1])
