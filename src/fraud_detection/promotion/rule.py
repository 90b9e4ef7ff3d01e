"""The promotion rule: when a challenger takes the champion's place.

Pure: measurements in, checks out. Every check is in the result with its value and its limit, passed or not; the checks
themselves are declared in `checks`, and when a look is due says `sequential`. For users the rule is explained in
`docs/promotion.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fraud_detection.evaluation import Comparison, FirstTest
from fraud_detection.promotion.checks import SLICE_PREFIX, measure, measure_against, measure_harm
from fraud_detection.promotion.sequential import LookLimits
from fraud_detection.schema import CandidateKey, Check, LookRecord, Span
from fraud_detection.settings import Settings


@dataclass(frozen=True)
class Evidence:
    """What a candidate was trained on, and compared on."""

    training: Span
    holdout: Span


def check_first_champion_possible(evidence: Evidence, settings: Settings) -> tuple[Check, ...]:
    """Whether a first champion can be judged on this hold-out at all: there is no decision if one of these fails."""
    return (
        *check_training_possible(evidence.training, settings),
        measure("holdout_frauds", evidence.holdout.frauds, settings),
    )


def check_training_possible(training: Span, settings: Settings) -> tuple[Check, ...]:
    """Whether a candidate can be trained at all."""
    return (measure("training_frauds", training.frauds, settings),)


def check_first_champion(measured: FirstTest) -> tuple[Check, ...]:
    """The one test of a model where no champion is in service."""
    return (measure("first_champion_floor", measured.difference.low),)


def check_look(measured: Comparison, root: float, limits: LookLimits, settings: Settings) -> tuple[Check, ...]:
    """What a look has to pass: that the challenger is better, by enough, and does no harm.

    Args:
        measured: on the rows of the look.
        root: signed, of the empirical likelihood ratio.
        limits: of the look.
        settings: hold the margins.
    """
    difference = measured.contributions.difference
    better = (
        measure_against("significance", root, limits.root),
        measure_against("unseen_cards", difference, limits.difference_for_unseen_cards),
        measure("minimum_effect", difference, settings),
    )
    return (*better, *_guardrails(measured, settings), *_slices(measured, settings))


def shown_look(looks: Sequence[LookRecord]) -> LookRecord | None:
    """The look whose measurements a decision shows: the winner, else the one that speaks most for its candidate.

    Among those that passed, or else among all, that is the one with the largest root, then difference, then the
    youngest candidate. Each look has paid for its risk, so any choice among those that passed is valid.
    """
    return max(looks, key=_evidence, default=None)


def _evidence(look: LookRecord) -> tuple[bool, float, float, CandidateKey]:
    root = -math.inf if look.root is None else look.root
    difference = -math.inf if look.difference is None else look.difference.value
    return look.passed, root, difference, look.candidate


def _guardrails(measured: Comparison, settings: Settings) -> list[Check]:
    """Harm in what AP does not see. The area under the ROC curve is no guardrail: it moves the other way."""
    return [
        measure_harm(name, rail.challenger, rail.change, settings, rail.champion or 0.0)
        for name, rail in measured.guardrails.items()
    ]


def _slices(measured: Comparison, settings: Settings) -> list[Check]:
    found = []
    for part in measured.slices:
        enough = part.frauds >= settings.comparison.minimum_slice_frauds and part.champion is not None
        value = part.challenger if enough else None
        change = measured.slice_changes[part.name]
        found.append(measure_harm(f"{SLICE_PREFIX}{part.name}", value, change, settings, part.champion or 0.0))
    return found
