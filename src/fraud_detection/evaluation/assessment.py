"""Everything that the promotion rule weighs, measured in one go on the rows of one hold-out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fraud_detection.evaluation.bootstrap import (
    first_champion_floor,
    floor_difference,
    one_sided_confidence,
    paired_difference,
    per_look_confidence,
)
from fraud_detection.evaluation.metrics import average_precision, evaluate
from fraud_detection.evaluation.slices import Mask, SliceMetrics, measure_slices, slice_masks
from fraud_detection.schema import Difference, Floor, Metrics
from fraud_detection.settings import ComparisonSettings


@dataclass(frozen=True)
class Holdout:
    """The rows on which models are compared: one-dimensional arrays of one length."""

    day: ArrayLike
    """The 24-hour block of each row, from 0."""
    fraud: ArrayLike
    """0 or 1."""
    amount: ArrayLike
    card: ArrayLike | None = None
    """None where the data has no cards; then every transaction is its own."""
    new_card: Mask | None = None
    """See `slices.new_cards`; None leaves that slice out."""


@dataclass(frozen=True)
class Assessment:
    """What was measured; None where there is nothing to measure: no frauds, or no champion."""

    champion: Metrics | None
    challenger: Metrics | None
    difference: Difference | None
    """Against the champion; without one, against the floor."""
    slices: tuple[SliceMetrics, ...]
    floor: Floor | None = None
    """What the first champion has to exceed; None where there is a champion, or no frauds."""


def assess(
    holdout: Holdout, champion_score: ArrayLike | None, challenger_score: ArrayLike, rule: ComparisonSettings
) -> Assessment:
    """Measure both models (probabilities of fraud for the rows of the hold-out) and their difference."""
    card = None if holdout.card is None else np.unique(np.asarray(holdout.card), return_inverse=True)[1]
    if champion_score is None:
        # There is no champion to displace: one test, whose error rate is not shared with later looks.
        difference = floor_difference(
            holdout.fraud,
            holdout.amount,
            challenger_score,
            rule.first_champion_floor,
            card,
            one_sided_confidence(1 - rule.risk),
            rule.resamples,
            rule.seed,
        )
        champion, floor = None, _floor(holdout, rule.first_champion_floor)
    else:
        confidence = per_look_confidence(1 - rule.risk, rule.looks_in_period)
        difference = paired_difference(
            holdout.fraud, champion_score, challenger_score, card, confidence, rule.resamples, rule.seed
        )
        champion, floor = evaluate(holdout.day, card, holdout.fraud, champion_score), None
    masks = slice_masks(holdout.amount, holdout.new_card)
    slices = measure_slices(masks, holdout.fraud, champion_score, challenger_score)
    challenger = evaluate(holdout.day, card, holdout.fraud, challenger_score)
    return Assessment(champion, challenger, difference, slices, floor)


def _floor(holdout: Holdout, multiple: float) -> Floor | None:
    if not np.any(np.asarray(holdout.fraud) == 1):
        return None
    amount = average_precision(holdout.fraud, holdout.amount)
    floor = float(first_champion_floor(amount, multiple))
    return Floor(average_precision=floor, amount_average_precision=amount, multiple=multiple)
