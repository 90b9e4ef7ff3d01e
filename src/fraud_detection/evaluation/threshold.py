"""From which score on transactions alert, and what that gives.

An alert is a card on a day, one of whose scores reaches the threshold. A compromised card that an alert has found is
blocked, so it alerts on no later day; card precision counts cards likewise. A row whose card is unknown is a card of
its own, and so is every row where the data have no cards.

The threshold is fitted on the earlier days of a hold-out and checked on the later ones. Rows are split by time since
that is how it is used: chosen on the past and applied to the future, where the number of alerts may have moved. A split
by card would hide that.

References:
    Dal Pozzolo, Boracchi, Caelen, Alippi, Bontempi, Credit card fraud detection: a realistic modeling and a novel
        learning strategy (2018), on alerts by card, a budget of them a day, and tests on later days.
    Sheng, Ling, Thresholding for making classifiers cost-sensitive (2006), on the threshold of the least cost.
    Cochran, Sampling techniques (1977), on the standard error of a total of clusters.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_detection.evaluation.assessment import SHOWN_CONFIDENCE, Holdout
from fraud_detection.evaluation.card_contributions import card_codes, distinct_places, sum_by_card
from fraud_detection.schema import AlertFigures, Estimate, Threshold
from fraud_detection.settings import Alerts

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Mask = NDArray[np.bool_]

_DAY = timedelta(days=1)


def fit_threshold(holdout: Holdout, score: ArrayLike, start: datetime, end: datetime, alerts: Alerts) -> Threshold:
    """The threshold of a model, with what it gives on both parts of the hold-out.

    With a budget alone it is the lowest score with which at most so many cards a day alert, on average. With costs it
    is the score at which the amounts saved exceed the cost of the reviews by the most, among those that keep the budget
    if there is one; infinite where no score is worth its reviews. Where more cards than the budget share the highest
    score, it is that score.

    A hold-out shorter than two days, without frauds in its earlier part or without rows in its later one is fitted as a
    whole, and not checked.

    Args:
        holdout: the rows; at least one.
        score: the model's probabilities of fraud for them, finite.
        start: of the hold-out; the first moment of its day 0.
        end: of the hold-out.
        alerts: the budget and the costs.
    """
    day, fraud = np.asarray(holdout.day), np.asarray(holdout.fraud) == 1
    days = math.ceil((end - start) / _DAY / 2)
    early = day < days
    middle = start + days * _DAY
    whole = end - start < 2 * _DAY or not fraud[early].any() or early.all()
    if whole:
        early, middle = np.ones(len(day), np.bool_), end
    earlier = _Part.of(holdout, score, early, (middle - start) / _DAY)
    probability = _choose(earlier, alerts)
    checked = None
    if not whole:
        later = _Part.of(holdout, score, ~early, (end - middle) / _DAY)
        checked = _figures(later, probability, middle, end, alerts)
    return Threshold(
        probability=probability,
        cards_a_day=alerts.cards_a_day,
        review_cost=alerts.review_cost,
        loss_share=alerts.loss_share,
        fitted=_figures(earlier, probability, start, middle, alerts),
        checked=checked,
    )


def measure_alerts(
    holdout: Holdout, score: ArrayLike, probability: float, start: datetime, end: datetime, alerts: Alerts
) -> AlertFigures:
    """What a threshold gives on rows.

    Args:
        holdout: the rows; at least one.
        score: the model's probabilities of fraud for them, finite.
        probability: the threshold; infinite where nothing alerts.
        start: of the rows, the first moment of day 0.
        end: of the rows.
        alerts: the costs.
    """
    everything = np.ones(len(np.asarray(holdout.day)), np.bool_)
    return _figures(_Part.of(holdout, score, everything, (end - start) / _DAY), probability, start, end, alerts)


def estimate_total(by_card: Floats, days: float) -> Estimate:
    """A total a day with its interval, from what each card adds to it.

    The standard error is what a bootstrap that resamples whole cards tends to, which for a total needs no resamples:
    SE² = n / (n − 1) · Σ (x − total / n)². The interval is value ± t · SE, with t Student's quantile for as many
    degrees of freedom as there are cards that add something, less one. How days differ is not in it.

    Args:
        by_card: shape (cards,), those that add nothing included.
        days: that the total is of.
    """
    from scipy.special import stdtrit

    total, cards, adding = math.fsum(by_card), len(by_card), np.count_nonzero(by_card)
    value = total / days
    if adding < 2:
        return Estimate(value=value, low=None, high=None, confidence=SHOWN_CONFIDENCE)
    variance = math.fsum(np.square(by_card - total / cards)) * cards / (cards - 1)
    half = float(stdtrit(adding - 1, (1.0 + SHOWN_CONFIDENCE) / 2.0)) * math.sqrt(variance) / days
    low = value - half if np.any(by_card < 0) else max(value - half, 0.0)
    return Estimate(value=value, low=low, high=value + half, confidence=SHOWN_CONFIDENCE)


@dataclass(frozen=True)
class _Part:
    """The rows of a part of a hold-out. Scores are known by their rank among the distinct ones."""

    day: NDArray[np.int64]
    card: Codes
    cards: int
    fraud: Mask
    amount: Floats
    scores: Floats
    """The distinct ones, ascending."""
    rank: Codes
    """Of each row, in `scores`."""
    days: float
    """Its length."""

    @classmethod
    def of(cls, holdout: Holdout, score: ArrayLike, chosen: Mask, days: float) -> "_Part":
        card = None if holdout.card_codes is None else np.asarray(holdout.card_codes)[chosen]
        codes, count = card_codes(card, int(np.count_nonzero(chosen)))
        scores, rank = np.unique(np.asarray(score, np.float64)[chosen], return_inverse=True)
        return cls(
            day=np.asarray(holdout.day)[chosen].astype(np.int64),
            card=codes,
            cards=count,
            fraud=(np.asarray(holdout.fraud) == 1)[chosen],
            amount=np.asarray(holdout.amount, np.float64)[chosen],
            scores=scores,
            rank=rank,
            days=days,
        )

    @cached_property
    def card_days(self) -> "_CardDays":
        return _CardDays.of(self)


@dataclass(frozen=True)
class _CardDays:
    """The cards of each day, sorted by card and day; arrays of one length.

    A card alerts on a day from the rank `found` (exclusive) to the rank `highest`: at lower thresholds an earlier alert
    has found it, at higher ones none of its scores of the day reaches.
    """

    card: Codes
    day: NDArray[np.int64]
    highest: Codes
    """Rank of its highest score of the day."""
    found: Codes
    """Rank of the highest threshold with which an earlier day finds it; −1 where none does."""
    compromised: Mask
    """Whether one of its rows of the day is a fraud."""

    @classmethod
    def of(cls, part: _Part) -> "_CardDays":
        day_count = int(part.day.max()) + 1
        key = part.card.astype(np.int64) * day_count + part.day
        place, count = distinct_places(key)
        keys, highest = np.empty(count, np.int64), np.full(count, -1, np.intp)
        keys[place] = key
        np.maximum.at(highest, place, part.rank)
        compromised = np.bincount(place[part.fraud], minlength=count) > 0
        card, day = keys // day_count, keys % day_count
        found = _highest_before(np.where(compromised, highest, -1), card)
        return cls(card.astype(np.intp), day, highest, found, compromised)

    def alerts_by_rank(self, ranks: int) -> Floats:
        """How many alerts there are with each distinct score as the threshold."""
        some = self.highest > self.found
        before = self.found[some]
        return _at_or_above(self.highest[some], ranks) - _at_or_above(before[before >= 0], ranks)

    def alerting(self, rank: int) -> Mask:
        """Which of them alert with a threshold."""
        return np.asarray((self.highest >= rank) & (self.found < rank), np.bool_)


def _highest_before(value: Codes, group: NDArray[np.int64]) -> Codes:
    """The largest value of those before each one in its group, −1 before the first; groups ascending, values ≥ −1."""
    offset = group * (value.max() + 2)  # makes any value of a group larger than all of the groups before it
    running = np.maximum.accumulate(value + offset) - offset
    first = np.diff(group, prepend=-1) != 0
    return np.where(first, -1, np.roll(running, 1)).astype(np.intp)


def _at_or_above(rank: Codes, ranks: int, weights: Floats | None = None) -> Floats:
    """The number, or weight, of those with at least each rank."""
    counts = np.bincount(rank, weights=weights, minlength=ranks)
    return np.cumsum(counts[::-1], dtype=np.float64)[::-1]


def _choose(part: _Part, alerts: Alerts) -> float:
    """The threshold; infinite where no alert is worth its review."""
    ranks = len(part.scores)
    by_rank = part.card_days.alerts_by_rank(ranks)
    allowed = np.ones(ranks, np.bool_)
    if alerts.cards_a_day is not None:
        allowed = by_rank <= alerts.cards_a_day * part.days
        if not allowed.any():
            allowed[-1] = True  # so many cards share the highest score
    places = np.flatnonzero(allowed)
    if alerts.review_cost is None:
        return float(part.scores[places[0]])
    saved = alerts.loss_share * _at_or_above(part.rank, ranks, np.where(part.fraud, part.amount, 0.0))
    net = (saved - alerts.review_cost * by_rank)[places][::-1]  # of equal ones the fewest alerts
    best = int(np.argmax(net))
    return float(part.scores[places[::-1][best]]) if net[best] > 0 else math.inf


def _figures(part: _Part, probability: float, start: datetime, end: datetime, alerts: Alerts) -> AlertFigures:
    """What a threshold gives on a part."""
    rank = int(np.searchsorted(part.scores, probability))
    found = part.card_days
    alerting = found.alerting(rank)
    count, hits = np.count_nonzero(alerting), np.count_nonzero(alerting & found.compromised)
    by_day = np.bincount(found.day[alerting])
    high, frauds = part.rank >= rank, part.fraud
    caught = math.fsum(part.amount[high & frauds])
    saved = alerts.loss_share * sum_by_card(part.amount[high & frauds], part.card[high & frauds], part.cards)
    net = None
    if alerts.review_cost is not None:
        reviews = np.bincount(found.card[alerting], minlength=part.cards)
        net = estimate_total(saved - alerts.review_cost * reviews, part.days)
    return AlertFigures(
        start=start,
        end=end,
        alerts_a_day=count / part.days,
        most_alerts=int(by_day.max(initial=0)),
        precision=_share(hits, count),
        recall=_share(hits, len(np.unique(found.card[found.compromised]))),
        value_precision=_share(caught, math.fsum(part.amount[high])),
        value_recall=_share(caught, math.fsum(part.amount[frauds])),
        value_a_day=estimate_total(saved, part.days),
        net_value_a_day=net,
    )


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
