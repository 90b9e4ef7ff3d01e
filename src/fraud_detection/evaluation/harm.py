"""Whether a challenger does harm in what average precision (AP) does not see: one-sided bounds of a change.

A guardrail is a metric in which a challenger must not be worse than the champion by more than a margin. A change is
challenger − champion in the direction that is better. Its bounds come from the cards' contributions to it, which vary
independently of each other; the rows of a card do not. With n cards, contributions x that sum to the change, and shares
w of what the metric is divided by (frauds, rows), its standard error is that of a ratio:

    SE² = n / (n − 1) · Σ (x − change · w)²

References:
    Cochran, Sampling techniques (1977), on ratio estimates.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_detection.evaluation.card_contributions import card_codes, card_contributions, sum_by_card
from fraud_detection.evaluation.metrics import cards_found, squared_errors
from fraud_detection.evaluation.slices import Mask
from fraud_detection.settings import CARDS_A_DAY

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""One-sided, of each bound."""


class HarmVerdict(StrEnum):
    """What the bounds of a change say about its margin."""

    HARMFUL = "harmful"
    HARMLESS = "shown harmless"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Change:
    """Challenger − champion, positive = better, with one-sided bounds.

    They are infinite where fewer than two cards have frauds.
    """

    value: float
    low: float
    high: float

    def verdict(self, margin: float) -> HarmVerdict:
        """Harmful if the change is surely below −margin, harmless if it is surely above."""
        if self.high < -margin:
            return HarmVerdict.HARMFUL
        return HarmVerdict.HARMLESS if self.low > -margin else HarmVerdict.UNDECIDED


def brier_change(
    fraud: ArrayLike, champion_probability: ArrayLike, challenger_probability: ArrayLike, card: ArrayLike | None
) -> Change | None:
    """By how much the Brier score falls; None without frauds."""
    gain = squared_errors(fraud, champion_probability) - squared_errors(fraud, challenger_probability)
    return _mean_change(np.asarray(fraud) == 1, gain, np.ones(len(gain)), card)


def calibration_change(
    fraud: ArrayLike, champion_probability: ArrayLike, challenger_probability: ArrayLike, card: ArrayLike | None
) -> Change | None:
    """By how much the expected frauds come closer to those found, as a share of them; None without frauds.

    The calibration error of a model is |Σ probability / Σ fraud − 1|: calibration in the large.
    """
    labels = np.asarray(fraud, np.float64)
    champion, challenger = (
        _signed_excess(labels, probability) for probability in (champion_probability, challenger_probability)
    )
    return _mean_change(labels == 1, champion - challenger, labels, card)


def card_precision_change(
    day: ArrayLike,
    fraud: ArrayLike,
    champion_score: ArrayLike,
    challenger_score: ArrayLike,
    card: ArrayLike | None,
    k: int = CARDS_A_DAY,
) -> Change | None:
    """By how much card precision@k rises; None without frauds.

    A card contributes 1 / (k · days) if only the challenger finds it, and the negative if only the champion does. Cards
    that compete for the k places make the bounds wider than they need be.
    """
    labels, days = np.asarray(fraud) == 1, np.asarray(day)
    codes, count = card_codes(card, len(labels))
    champion, challenger = (
        np.bincount(cards_found(days, codes, labels, score, k), minlength=count)
        for score in (champion_score, challenger_score)
    )
    gain = (challenger - champion) / (k * max(1, len(np.unique(days))))
    share = sum_by_card(np.ones(len(labels)), codes, count) / max(1, len(labels))
    return _change(gain, share, _fraud_cards(labels, codes))


def slice_changes(
    masks: Mapping[str, Mask],
    fraud: ArrayLike,
    champion_score: ArrayLike,
    challenger_score: ArrayLike,
    card: ArrayLike | None,
) -> dict[str, Change | None]:
    """The change of AP in each slice; None for a slice without frauds."""
    labels = np.asarray(fraud)
    champion, challenger = np.asarray(champion_score), np.asarray(challenger_score)
    cards = card_codes(card, len(labels))[0]
    return {
        name: _average_precision_change(labels[mask], champion[mask], challenger[mask], cards[mask])
        for name, mask in masks.items()
    }


def _average_precision_change(
    fraud: ArrayLike, champion: ArrayLike, challenger: ArrayLike, card: ArrayLike
) -> Change | None:
    found = card_contributions(fraud, champion, challenger, card)
    if found is None:
        return None
    return _change(found.contribution, found.frauds / found.total_frauds, found.fraud_cards)


def _signed_excess(labels: Floats, probability: ArrayLike) -> Floats:
    """What each row adds to |Σ probability − Σ fraud|."""
    excess = np.asarray(probability, np.float64) - labels
    return np.asarray(np.sign(math.fsum(excess)) * excess, np.float64)


def _mean_change(labels: NDArray[np.bool_], gain: Floats, weight: Floats, card: ArrayLike | None) -> Change | None:
    """The change Σ gain / Σ weight."""
    codes, count = card_codes(card, len(labels))
    total = float(weight.sum())
    by_card, share = (sum_by_card(value, codes, count) / max(total, 1.0) for value in (gain, weight))
    return _change(by_card, share, _fraud_cards(labels, codes))


def _change(contribution: Floats, share: Floats, fraud_cards: int) -> Change | None:
    """The change with its bounds, from what each card contributes and its share of the divisor."""
    from scipy.special import stdtrit

    if not fraud_cards:
        return None
    value, cards = math.fsum(contribution), len(contribution)
    if fraud_cards < 2:
        return Change(value, -math.inf, math.inf)
    variance = math.fsum(np.square(contribution - value * share)) * cards / (cards - 1)
    half = float(stdtrit(fraud_cards - 1, CONFIDENCE)) * math.sqrt(variance)
    return Change(value, value - half, value + half)


def _fraud_cards(labels: NDArray[np.bool_], codes: NDArray[np.intp]) -> int:
    return len(np.unique(codes[labels]))
