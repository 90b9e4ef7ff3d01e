"""The promotion rule: when a challenger takes the champion's place.

Pure: evidence in, verdict out. Every check is in the verdict with its value and its limit, passed or not; the checks
themselves are declared in `checks`. The rule is explained for users in `docs/decision.md`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fraud_detection.evaluation.assessment import Assessment
from fraud_detection.evaluation.slices import SliceMetrics
from fraud_detection.promotion.checks import SLICE_PREFIX, measure
from fraud_detection.promotion.explanation import explain_checks, explain_measurement
from fraud_detection.schema import Check, Difference, Metrics, Outcome, Span
from fraud_detection.settings import Settings


@dataclass(frozen=True)
class Evidence:
    """What is known before a run decides."""

    training: Span
    holdout: Span
    champion_trained_until: datetime | None
    """The end of the champion's training window; None where no champion is in service."""
    pinned_version: int | None = None
    """The version that a rollback has pinned."""
    assessment: Assessment | None = None
    """None while only `precondition_failure` is asked, before anything was trained."""


@dataclass(frozen=True)
class Verdict:
    """The outcome, the reason in one line, and every check that was made."""

    outcome: Outcome
    reason: str
    checks: tuple[Check, ...]


def precondition_failure(evidence: Evidence, settings: Settings) -> Verdict | None:
    """Why no decision is possible, or None. It needs no assessment: ask before training, which may be in vain."""
    checks = _prerequisites(evidence, settings)
    if all(check.passed for check in checks):
        return None
    return Verdict(Outcome.NO_DECISION, explain_checks(checks, evidence), checks)


def decide(evidence: Evidence, settings: Settings) -> Verdict:
    """Promote the challenger, refuse it, or say why neither is possible.

    Raises:
        ValueError: a decision is possible, but the evidence holds no assessment, or none of the champion in service.
    """
    no_decision = precondition_failure(evidence, settings)
    if no_decision is not None:
        return no_decision
    prerequisites, measured = _prerequisites(evidence, settings), evidence.assessment
    if measured is None:
        raise ValueError("the hold-out was not assessed; call assess() before decide()")
    if measured.challenger is None or measured.difference is None:
        return Verdict(Outcome.NO_DECISION, "the hold-out holds nothing but frauds", prerequisites)
    if evidence.champion_trained_until is None:
        checks = [measure("first_champion_floor", measured.difference.low)]
    elif measured.champion is None:
        raise ValueError("the champion in service was not assessed; give its scores to assess()")
    else:
        checks = _superiority(measured.difference, settings)
        checks += _guardrails(measured.champion, measured.challenger, settings)
        checks += [_slice(part, settings) for part in measured.slices]
    checks.append(measure("not_pinned", evidence.pinned_version))
    promoted = all(check.passed for check in checks)
    reason = f"{explain_measurement(measured.difference, measured.floor)}; {explain_checks(checks, evidence)}"
    return Verdict(Outcome.PROMOTED if promoted else Outcome.REFUSED, reason, (*prerequisites, *checks))


def _prerequisites(evidence: Evidence, settings: Settings) -> tuple[Check, ...]:
    checks = [
        measure("training_frauds", evidence.training.frauds, settings),
        measure("holdout_frauds", evidence.holdout.frauds, settings),
    ]
    if evidence.champion_trained_until is not None:
        gap = evidence.holdout.start - evidence.champion_trained_until
        checks.append(measure("champion_before_holdout", gap / timedelta(days=1)))
    return tuple(checks)


def _superiority(difference: Difference, settings: Settings) -> list[Check]:
    return [
        measure("difference_lower_bound", difference.low),
        measure("minimum_effect", difference.value, settings),
    ]


def _guardrails(champion: Metrics, challenger: Metrics, settings: Settings) -> list[Check]:
    """Non-inferiority of what AP does not see. The area under the ROC curve is no guardrail: it moves the other way."""
    return [
        measure(name, getattr(challenger, name), settings, getattr(champion, name))
        for name in ("card_precision_at_100", "brier")
    ]


def _slice(part: SliceMetrics, settings: Settings) -> Check:
    enough = part.frauds >= settings.comparison.minimum_slice_frauds
    measured = part.challenger if enough and part.champion is not None else None
    return measure(f"{SLICE_PREFIX}{part.name}", measured, settings, part.champion)
