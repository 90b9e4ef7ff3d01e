"""Whether one input alone gives the frauds away, as a column does that was filled in after they were known."""

from collections.abc import Iterable, Iterator

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


def check_leakage(
    rows: pd.DataFrame, weights: NDArray[np.float64] | None, span: Span, inputs: Iterable[str], settings: Settings
) -> tuple[Finding, ...]:
    """Rank the training rows by each input alone; the one that ranks best is the finding.

    Args:
        rows: the training sample, with `fraud`.
        weights: of the rows; None where nothing was left out.
        span: that the rows are of.
        inputs: columns of `rows`, numbers or categories.
        settings: of the run.
    """
    fraud = rows["fraud"].to_numpy() == 1
    weight = np.ones(len(rows)) if weights is None else weights
    if fraud.sum() < LEAST_FRAUDS or fraud.all():
        return ()
    ranked = {name: _best_precision(rows[name], fraud, weight) for name in inputs}
    if not ranked:
        return ()
    name = max(ranked, key=lambda one: (ranked[one], one))
    text = (
        f"the input {name} alone ranks the frauds of the training window with an average precision of"
        f" {ranked[name]:.2f}; it may have been filled in once they were known, and then be missing when it is needed"
    )
    found = measure("no_leaking_feature", ranked[name], settings)
    return (Finding(found, span.start.date(), span.end.date(), text),)


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
