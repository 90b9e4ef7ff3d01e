"""Whether a winner's refit may serve in its place.

The refit has the winner's recipe and seed, and knows younger rows, which no hold-out has judged. The guards hold it to
the winner, on the winner's hold-out; the refit was trained on those rows, too, so they say nothing of its quality. They
find what unsound young labels do to it. Pure functions.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.promotion.checks import measure, measure_against
from fraud_detection.schema import Check, RefitRecord

LARGEST_LOSS = 0.01
"""Of average precision, against the winner."""
TOP_SHARE = 0.01
"""Of the hold-out: the winner's most suspicious rows, on which the two have to agree."""
LEAST_AGREEMENT = 0.8
"""Spearman's rank correlation there."""
_FEWEST_TOP_ROWS = 10  # of a tiny hold-out


def check_refit(
    fraud: NDArray[np.int8], winner: NDArray[np.float64], refit: NDArray[np.float64] | None
) -> tuple[Check, ...]:
    """The guards of a refit.

    Args:
        fraud: of the rows of the winner's hold-out.
        winner: its scores.
        refit: the scores of the refit as it was loaded back; None if it could not be loaded.
    """
    if refit is None:
        return (measure("refit_reloads", None),)
    least = average_precision(fraud, winner) - LARGEST_LOSS
    return (
        measure("refit_reloads", 0),
        measure_against("refit_average_precision", average_precision(fraud, refit), least),
        measure_against("refit_agreement", top_agreement(winner, refit), LEAST_AGREEMENT),
    )


def refit_line(record: RefitRecord) -> str:
    """Whether a refit serves, for a decision's reason."""
    if record.serves:
        return f"its refit on the labels known by then serves, trained to {record.refit.training.end:%Y-%m-%d %H:%M}"
    return "its refit failed a guard, so the winner serves as it was evaluated"


def top_agreement(winner: NDArray[np.float64], refit: NDArray[np.float64]) -> float:
    """Spearman's rank correlation of two scores on the rows that `winner` finds most suspicious.

    Equal scores have their mean rank. NaN where one score is the same on all of these rows.
    """
    count = max(_FEWEST_TOP_ROWS, math.ceil(TOP_SHARE * len(winner)))
    top = np.argsort(-winner, kind="stable")[:count]
    ranks = np.stack([_ranks(winner[top]), _ranks(refit[top])])
    if (ranks == ranks[:, :1]).all(axis=1).any():
        return math.nan
    return float(np.corrcoef(ranks)[0, 1])


def _ranks(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean ranks."""
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[group], dtype=np.float64)
