"""Everything that the promotion rule weighs, measured in one go on the rows of one hold-out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fraud_detection.evaluation.comparison import floor_difference, look_confidence, paired_difference
from fraud_detection.evaluation.metrics import evaluate
from fraud_detection.evaluation.slices import Mask, SliceMetrics, measure_slices, slice_masks
from fraud_detection.results import Difference, Metrics
from fraud_detection.settings import Comparison


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
    """Against the champion; without one, against `first_champion_floor` times the ranking by amount."""
    slices: tuple[SliceMetrics, ...]


def assess(
    holdout: Holdout, champion_score: ArrayLike | None, challenger_score: ArrayLike, rule: Comparison
) -> Assessment:
    """Measure both models (probabilities of fraud for the rows of the hold-out) and their difference."""
    card = None if holdout.card is None else np.unique(np.asarray(holdout.card), return_inverse=True)[1]
    confidence = look_confidence(rule.confidence, rule.planned_looks)
    if champion_score is None:
        floor = rule.first_champion_floor
        difference = floor_difference(
            holdout.fraud, holdout.amount, challenger_score, floor, card, confidence, rule.resamples, rule.seed
        )
        champion = None
    else:
        difference = paired_difference(
            holdout.fraud, champion_score, challenger_score, card, confidence, rule.resamples, rule.seed
        )
        champion = evaluate(holdout.day, card, holdout.fraud, champion_score)
    masks = slice_masks(holdout.amount, holdout.new_card)
    slices = measure_slices(masks, holdout.fraud, champion_score, challenger_score)
    challenger = evaluate(holdout.day, card, holdout.fraud, challenger_score)
    return Assessment(champion, challenger, difference, slices)
