"""Everything that the promotion rule weighs, measured in one go on the rows of one hold-out."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fraud_detection.evaluation.bootstrap import (
    first_champion_floor,
    floor_difference,
    one_sided_confidence,
    paired_difference,
)
from fraud_detection.evaluation.card_contributions import (
    CardContributions,
    card_codes,
    card_contributions,
    investigated,
    score_ranks,
)
from fraud_detection.evaluation.harm import (
    Change,
    brier_change,
    calibration_change,
    card_precision_change,
    slice_changes,
)
from fraud_detection.evaluation.metrics import average_precision, calibration_error, evaluate, tells_models_apart
from fraud_detection.evaluation.slices import Mask, SliceMetrics, category_masks, measure_slices, slice_masks
from fraud_detection.schema import Difference, Floor, Metrics
from fraud_detection.settings import ComparisonSettings

SHOWN_CONFIDENCE = 0.95
"""Two-sided, of the bootstrap's interval that is shown beside the rule's own bound."""


@dataclass(frozen=True)
class Holdout:
    """The rows on which models are compared: one-dimensional arrays of one length."""

    day: ArrayLike
    """The 24-hour block of each row, from 0."""
    fraud: ArrayLike
    """0 or 1."""
    amount: ArrayLike
    card: ArrayLike | None = None
    """None where the data has no cards; then every transaction is its own, as is one whose card is unknown (null)."""
    new_card: Mask | None = None
    """See `slices.new_cards`; None leaves that slice out."""
    categories: Mapping[str, ArrayLike] = field(default_factory=dict)
    """By column the category of each row; each category is a slice."""

    @cached_property
    def card_codes(self) -> ArrayLike | None:
        """A number 0..n-1 for the card of each row, for all that only needs to tell cards apart; texts sort slowly."""
        return None if self.card is None else card_codes(self.card, np.shape(self.card)[0])[0]

    def masks(self) -> dict[str, Mask]:
        """The slices."""
        return slice_masks(self.amount, self.new_card) | category_masks(self.categories)


@dataclass(frozen=True)
class Guardrail:
    """A metric in which a challenger must not be worse, of both models, with the bounds of its change.

    The values are None where the hold-out cannot tell models apart in it.
    """

    champion: float | None
    challenger: float | None
    change: Change | None


@dataclass(frozen=True)
class Comparison:
    """A challenger against the champion on one hold-out."""

    champion: Metrics
    challenger: Metrics
    difference: Difference
    contributions: CardContributions
    guardrails: Mapping[str, Guardrail]
    """By the name of the check."""
    slices: tuple[SliceMetrics, ...]
    slice_changes: Mapping[str, Change | None]
    """By the name of the slice."""


@dataclass(frozen=True)
class FirstTest:
    """A first champion against the floor on one hold-out."""

    challenger: Metrics
    difference: Difference
    """Against the floor."""
    floor: Floor
    slices: tuple[SliceMetrics, ...]


def compare(
    holdout: Holdout, champion_score: ArrayLike, challenger_score: ArrayLike, rule: ComparisonSettings
) -> Comparison | None:
    """Measure both models (probabilities of fraud for the rows of the hold-out) and their difference.

    None where nothing can be measured: no frauds, or nothing but frauds.
    """
    card, fraud = holdout.card_codes, holdout.fraud
    with ThreadPoolExecutor(1) as beside:  # the bootstrap takes as long as all the rest
        _import_scipy()
        resampled = beside.submit(
            paired_difference,
            fraud,
            champion_score,
            challenger_score,
            card,
            SHOWN_CONFIDENCE,
            rule.resamples,
            rule.seed,
        )
        return _compare(holdout, card, champion_score, challenger_score, resampled)


def _import_scipy() -> None:
    """Before there are two threads: imports in both at once can deadlock."""
    import scipy.sparse
    import scipy.special  # noqa: F401


def _compare(
    holdout: Holdout,
    card: ArrayLike | None,
    champion_score: ArrayLike,
    challenger_score: ArrayLike,
    resampled: Future[Difference | None],
) -> Comparison | None:
    fraud, looked_up = holdout.fraud, investigated(holdout.card)
    scores = (champion_score, challenger_score)
    ranks = (score_ranks(champion_score)[0], score_ranks(challenger_score)[0])
    champion, challenger = (
        _evaluate(holdout, card, looked_up, score, rank) for score, rank in zip(scores, ranks, strict=True)
    )
    contributions = card_contributions(fraud, *ranks, card)
    difference = resampled.result()
    if champion is None or challenger is None or contributions is None or difference is None:
        return None
    masks = holdout.masks()
    guardrails = {
        "card_precision_at_100": Guardrail(
            champion.card_precision_at_100,
            challenger.card_precision_at_100,
            card_precision_change(*_only(looked_up, holdout.day, fraud, *scores, card)),
        ),
        "calibration": Guardrail(
            calibration_error(fraud, champion_score),
            calibration_error(fraud, challenger_score),
            calibration_change(fraud, *scores, card),
        ),
        "brier": Guardrail(champion.brier, challenger.brier, brier_change(fraud, *scores, card)),
    }
    return Comparison(
        champion,
        challenger,
        difference,
        contributions,
        guardrails,
        measure_slices(masks, fraud, *ranks),
        slice_changes(masks, fraud, *ranks, card),
    )


def _evaluate(
    holdout: Holdout,
    card: ArrayLike | None,
    looked_up: Mask | None,
    score: ArrayLike,
    rank: ArrayLike | None = None,
) -> Metrics | None:
    """The metrics of a model, without card precision where it cannot tell models apart."""
    found = evaluate(holdout.day, card, holdout.fraud, score, rank, looked_up)
    day, known = _only(looked_up, holdout.day, card)
    if found is None or tells_models_apart(day, known):
        return found
    return found.model_copy(update={"card_precision_at_100": None})


def measure_alone(holdout: Holdout, score: ArrayLike, rule: ComparisonSettings) -> FirstTest | None:
    """Measure a model where no champion is in service; None where nothing can be measured.

    There is no champion to displace: one test, whose error rate is not shared with later looks.
    """
    card = holdout.card_codes
    challenger = _evaluate(holdout, card, investigated(holdout.card), score)
    difference = floor_difference(
        holdout.fraud,
        holdout.amount,
        score,
        rule.first_champion_floor,
        card,
        one_sided_confidence(1 - rule.risk),
        rule.resamples,
        rule.seed,
    )
    if challenger is None or difference is None:
        return None
    return FirstTest(
        challenger,
        difference,
        amount_floor(holdout.fraud, holdout.amount, rule),
        measure_slices(holdout.masks(), holdout.fraud, None, score),
    )


def amount_floor(fraud: ArrayLike, amount: ArrayLike, rule: ComparisonSettings) -> Floor:
    """What a first champion has to exceed on these rows: a multiple of ranking by amount."""
    alone = average_precision(fraud, amount)
    floor = float(first_champion_floor(alone, rule.first_champion_floor))
    return Floor(average_precision=floor, amount_average_precision=alone, multiple=rule.first_champion_floor)


def _only(chosen: Mask | None, *columns: ArrayLike | None) -> tuple[Any, ...]:
    """The chosen rows of each column; all of them for None."""
    if chosen is None:
        return columns
    return tuple(None if column is None else np.asarray(column)[chosen] for column in columns)
