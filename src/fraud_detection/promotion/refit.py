"""Whether a winner's refit may serve in its place.

The refit has the winner's recipe and seed, and knows younger rows, which no hold-out has judged. Two guards hold it to
the winner, on the winner's hold-out; the refit was trained on those rows, too, so they say nothing of its quality. The
third asks the winner, which knows none of the young rows, whether their labels make sense. They find labels that are
missing or belong to other rows; a single unsound day and broken inputs are for the data's health. Pure functions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.promotion.checks import measure, measure_against
from fraud_detection.schema import Check, RefitRecord

LARGEST_LOSS = 0.01
"""Of average precision, against the winner."""
LARGEST_FACTOR = 2.0
"""Between the mean scores of refit and winner: the refit learnt from far more frauds, or far fewer."""
LEAST_YOUNG_SHARE = 0.2
"""Of the winner's average precision on its hold-out, on the rows that are younger."""


@dataclass(frozen=True)
class RefitScores:
    """What the guards of a refit compare."""

    fraud: NDArray[np.int8]
    """Of the rows of the winner's hold-out."""
    winner: NDArray[np.float64]
    refit: NDArray[np.float64]
    """Of the refit as it was loaded back."""
    young_fraud: NDArray[np.int8]
    """Of the rows from the hold-out's end to the end of the refit's training, as known to it; may be empty."""
    young_winner: NDArray[np.float64]


def check_refit(scores: RefitScores | None) -> tuple[Check, ...]:
    """The guards of a refit; None if it could not be loaded back."""
    if scores is None:
        return (measure("refit_reloads", None),)
    precision = average_precision(scores.fraud, scores.winner)
    checks = (
        measure("refit_reloads", 0),
        measure_against(
            "refit_average_precision", average_precision(scores.fraud, scores.refit), precision - LARGEST_LOSS
        ),
        measure_against("refit_mean_score", _factor(scores.winner.mean(), scores.refit.mean()), LARGEST_FACTOR),
    )
    if not len(scores.young_fraud):  # where the labels of all of the refit's rows have matured
        return checks
    young = average_precision(scores.young_fraud, scores.young_winner) if scores.young_fraud.any() else 0.0
    return (*checks, measure_against("refit_young_rows", young, LEAST_YOUNG_SHARE * precision))


def refit_line(record: RefitRecord) -> str:
    """Whether a refit serves, for a decision's reason."""
    if record.serves:
        return f"its refit on the labels known by then serves, trained to {record.refit.training.end:%Y-%m-%d %H:%M}"
    return "its refit failed a guard, so the winner serves as it was evaluated"


def _factor(one: float, other: float) -> float:
    """How many times the larger is the smaller."""
    return float(max(one, other) / min(one, other))
