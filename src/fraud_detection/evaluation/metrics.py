"""Metrics of one model on one hold-out.

Arrays are one-dimensional over the same rows. `fraud` is 0 or 1, `score` finite, larger = more suspicious; where a
probability is needed it says so. Equal scores are one group: no metric depends on the order of the rows. A metric that
is not defined for its input (no frauds, no genuine rows) is NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_detection.evaluation.card_contributions import card_codes, distinct_places, score_ranks, stable_order
from fraud_detection.schema import Metrics
from fraud_detection.settings import CARDS_A_DAY

Floats = NDArray[np.float64]

CALIBRATION_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Fraud is rare: most probabilities are far below one percent, so the bins are finer there."""


@dataclass(frozen=True)
class PrecisionRecall:
    """One point for each distinct score, from the highest down: what alarms at this score and above would give."""

    precision: Floats
    recall: Floats


@dataclass(frozen=True)
class CalibrationBin:
    """The rows whose probability lies in [low, high) (the last bin: [low, high])."""

    low: float
    high: float
    transactions: int
    mean_probability: float
    fraud_rate: float


def evaluate(
    day: ArrayLike,
    card: ArrayLike | None,
    fraud: ArrayLike,
    probability: ArrayLike,
    rank: ArrayLike | None = None,
    investigated: NDArray[np.bool_] | None = None,
) -> Metrics | None:
    """All metrics of a model; None where there are no frauds or nothing but frauds, so that nothing can be measured.

    Args:
        day: the 24-hour block of each row, for card precision.
        card: the card of each row; None where the data has no cards, then every transaction is its own.
        fraud: 0 or 1.
        probability: the model's, in [0, 1].
        rank: the ranks of `probability` (`score_ranks`); computed if None.
        investigated: the rows that card precision is measured on; None for all.
    """
    labels = _fraud(fraud)
    if labels.all() or not labels.any():
        return None
    rank = score_ranks(probability)[0] if rank is None else rank
    chosen = slice(None) if investigated is None else investigated
    days, cards = np.asarray(day)[chosen], None if card is None else np.asarray(card)[chosen]
    scores = np.asarray(probability)[chosen]
    return Metrics(
        average_precision=average_precision(fraud, rank),
        roc_auc=roc_auc(fraud, rank),
        card_precision_at_100=card_precision_at_k(days, cards, labels[chosen], scores, k=CARDS_A_DAY),
        brier=brier(fraud, probability),
    )


def average_precision(fraud: ArrayLike, score: ArrayLike) -> float:
    """Area under the precision-recall curve as a step function: AP = sum over thresholds of (R_n - R_{n-1}) P_n.

    The definition of scikit-learn's `average_precision_score`.
    """
    frauds, alarms = _above(fraud, score)
    if not len(frauds) or not frauds[-1]:
        return float("nan")
    return float(np.sum(np.diff(frauds, prepend=0.0) * (frauds / alarms)) / frauds[-1])


def roc_auc(fraud: ArrayLike, score: ArrayLike) -> float:
    """The probability that a fraud scores above a genuine row; equal scores count one half (Mann-Whitney)."""
    frauds, alarms = _above(fraud, score)
    genuine = alarms - frauds
    if not len(frauds) or not frauds[-1] or not genuine[-1]:
        return float("nan")
    frauds_above = frauds - np.diff(frauds, prepend=0.0) / 2
    return float(np.sum(np.diff(genuine, prepend=0.0) * frauds_above) / (genuine[-1] * frauds[-1]))


def squared_errors(fraud: ArrayLike, probability: ArrayLike) -> Floats:
    """The Brier score of each row: (probability - fraud)^2."""
    errors: Floats = np.asarray(probability, np.float64) - _fraud(fraud)
    return errors * errors


def brier(fraud: ArrayLike, probability: ArrayLike) -> float:
    """The mean of `squared_errors`: 0 for a perfect forecast, fraud rate * (1 - fraud rate) for the best constant."""
    return float(np.mean(squared_errors(fraud, probability)))


def calibration_error(fraud: ArrayLike, probability: ArrayLike) -> float:
    """|Σ probability / Σ fraud − 1|, calibration in the large: 0 where as many frauds are expected as there are."""
    labels = _fraud(fraud)
    return (
        float(abs(np.sum(np.asarray(probability, np.float64)) / labels.sum() - 1.0)) if labels.any() else float("nan")
    )


def card_precision_at_k(
    day: ArrayLike, card: ArrayLike | None, fraud: ArrayLike, score: ArrayLike, k: int = CARDS_A_DAY
) -> float:
    """The mean over days of `card_precision_by_day`: the share of frauds' cards among k cards looked at each day."""
    by_day = card_precision_by_day(day, card, fraud, score, k)
    return float(np.mean(by_day)) if len(by_day) else float("nan")


def card_precision_by_day(
    day: ArrayLike, card: ArrayLike | None, fraud: ArrayLike, score: ArrayLike, k: int = CARDS_A_DAY
) -> Floats:
    """The share of compromised cards among the k most suspicious cards of each day, shape (days,), days ascending.

    The card precision top-k of the Fraud Detection Handbook (4.4): a card is as suspicious as its highest score of the
    day, and compromised where one of its transactions of the day is a fraud. A card so found is not looked at again on
    later days. The divisor is k also on a day with fewer cards. Of equally suspicious cards the smaller id comes first.
    """
    return np.array([len(hits) / k for hits in _hits_by_day(day, card, fraud, score, k)])


def tells_models_apart(day: ArrayLike, card: ArrayLike | None, k: int = CARDS_A_DAY) -> bool:
    """Whether card precision@k can differ between models: on the mean day there are at least 2 k cards.

    Among fewer cards any ranking finds most of the compromised ones. Without cards each transaction is one.
    """
    days, day_count = distinct_places(np.asarray(day))
    cards, card_count = card_codes(card, len(days))
    pairs = len(np.unique(days.astype(np.int64) * card_count + cards))
    return pairs >= 2 * k * max(1, day_count)


def cards_found(
    day: ArrayLike, card: ArrayLike | None, fraud: ArrayLike, score: ArrayLike, k: int = CARDS_A_DAY
) -> NDArray[np.intp]:
    """The compromised cards that `card_precision_by_day` counts: places in the sorted distinct cards, each once."""
    return np.concatenate([np.zeros(0, np.intp), *_hits_by_day(day, card, fraud, score, k)])


def _hits_by_day(
    day: ArrayLike, card: ArrayLike | None, fraud: ArrayLike, score: ArrayLike, k: int
) -> Iterator[NDArray[np.intp]]:
    """The compromised cards among the k most suspicious ones of each day, days ascending."""
    days, fraud, score = np.asarray(day), _fraud(fraud), np.asarray(score, np.float64)
    cards, count = card_codes(card, len(score))
    found = np.zeros(count, dtype=np.bool_)
    for today in _rows_by_day(days):
        rows = today[~found[cards[today]]]
        local, distinct = distinct_places(cards[rows])
        seen, highest = np.empty(distinct, np.intp), np.full(distinct, -np.inf)
        seen[local] = cards[rows]
        np.maximum.at(highest, local, score[rows])
        compromised = np.bincount(local, weights=fraud[rows], minlength=distinct) > 0
        top = _largest(highest, k)
        hits = seen[top[compromised[top]]]
        found[hits] = True
        yield hits


def _rows_by_day(days: NDArray[Any]) -> list[NDArray[np.intp]]:
    """The rows of each day, days ascending."""
    place, count = distinct_places(days)
    ends = np.cumsum(np.bincount(place, minlength=count))
    return np.split(stable_order(place, count), ends)[:count]


def _largest(values: Floats, k: int) -> NDArray[np.intp]:
    """The places of the k largest values, largest first, of equal ones the earlier first."""
    if len(values) <= k:
        return np.argsort(-values, kind="stable")
    limit = np.partition(values, len(values) - k)[len(values) - k]
    among = np.flatnonzero(values >= limit)
    best: NDArray[np.intp] = among[np.argsort(-values[among], kind="stable")[:k]]
    return best


def precision_recall_curve(fraud: ArrayLike, score: ArrayLike) -> PrecisionRecall:
    """Precision and recall at every distinct score, highest first; recall is NaN without frauds."""
    frauds, alarms = _above(fraud, score)
    total = frauds[-1:] if len(frauds) and frauds[-1] else np.full(1, np.nan)
    return PrecisionRecall(frauds / alarms, frauds / total)


def calibration(
    fraud: ArrayLike, probability: ArrayLike, edges: tuple[float, ...] = CALIBRATION_EDGES
) -> tuple[CalibrationBin, ...]:
    """How often rows of about one probability are frauds; bins without rows are left out.

    Args:
        fraud: 0 or 1.
        probability: in [edges[0], edges[-1]].
        edges: ascending.
    """
    labels, probabilities = _fraud(fraud), np.asarray(probability, np.float64)
    bins = np.clip(np.searchsorted(edges, probabilities, side="right") - 1, 0, len(edges) - 2)
    rows = np.bincount(bins, minlength=len(edges) - 1)
    frauds = np.bincount(bins, weights=labels, minlength=len(edges) - 1)
    expected = np.bincount(bins, weights=probabilities, minlength=len(edges) - 1)
    return tuple(
        CalibrationBin(edges[i], edges[i + 1], int(rows[i]), float(expected[i] / rows[i]), float(frauds[i] / rows[i]))
        for i in np.flatnonzero(rows)
    )


def _above(fraud: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """How many frauds and how many rows score at or above each distinct score, from the highest down."""
    rank, count = score_ranks(score)
    frauds = np.bincount(rank, weights=_fraud(fraud), minlength=count)[::-1]
    return np.cumsum(frauds), np.cumsum(np.bincount(rank, minlength=count)[::-1], dtype=np.float64)


def _fraud(fraud: ArrayLike) -> Floats:
    return np.asarray(fraud, np.float64)
