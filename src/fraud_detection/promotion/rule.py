"""The promotion rule: when a challenger takes the champion's place.

Pure: evidence in, verdict out. Every check is in the verdict with its value and its limit, passed or not; a check whose
value and limit are null had nothing to measure. The rule is explained for users in `docs/decision.md`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fraud_detection.evaluation.assessment import Assessment
from fraud_detection.schema import Check, Difference, Floor, Metrics, Outcome, Span
from fraud_detection.settings import Comparison, Settings

_NAMED_FAILURES = 2  # in the one line for people; the checks have them all


@dataclass(frozen=True)
class Evidence:
    """What is known before a run decides."""

    training: Span
    holdout: Span
    champion_trained_until: datetime | None
    """The end of the champion's training window; None where no champion is in service."""
    pinned: bool = False
    """Whether a rollback has pinned the champion."""
    assessment: Assessment | None = None
    """None while only `precondition_failure` is asked, before anything was trained."""


@dataclass(frozen=True)
class Verdict:
    """The outcome, one line for people, and every check that was made."""

    outcome: Outcome
    reason: str
    checks: tuple[Check, ...]


def precondition_failure(evidence: Evidence, settings: Settings) -> Verdict | None:
    """Why no decision is possible, or None. It needs no assessment: ask before training, which may be in vain."""
    checks = _prerequisites(evidence, settings)
    missing = [_missing(check, evidence) for check in checks if not check.passed]
    return Verdict(Outcome.NO_DECISION, "; ".join(missing), checks) if missing else None


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
        checks = [_floor(measured.difference)]
    elif measured.champion is None:
        raise ValueError("the champion in service was not assessed; give its scores to assess()")
    else:
        checks = _superiority(measured.difference, settings.comparison)
        checks += _guardrails(measured.champion, measured.challenger, settings.comparison)
        checks += _slices(measured, settings.comparison)
    checks.append(Check(name="not_pinned", value=None, limit=None, passed=not evidence.pinned))
    promoted = all(check.passed for check in checks)
    reason = _reason(checks, measured.difference, measured.floor)
    return Verdict(Outcome.PROMOTED if promoted else Outcome.REFUSED, reason, (*prerequisites, *checks))


def _prerequisites(evidence: Evidence, settings: Settings) -> tuple[Check, ...]:
    checks = [
        _at_least("training_frauds", evidence.training.frauds, settings.training.min_training_frauds),
        _at_least("holdout_frauds", evidence.holdout.frauds, settings.comparison.minimum_holdout_frauds),
    ]
    if evidence.champion_trained_until is not None:
        gap = evidence.holdout.start - evidence.champion_trained_until
        checks.append(_at_least("champion_before_holdout", gap / timedelta(days=1), 0.0))
    return tuple(checks)


def _floor(difference: Difference) -> Check:
    return Check(name="first_champion_floor", value=difference.low, limit=0.0, passed=difference.low > 0)


def _superiority(difference: Difference, rule: Comparison) -> list[Check]:
    return [
        Check(name="difference_lower_bound", value=difference.low, limit=0.0, passed=difference.low > 0),
        _at_least("minimum_effect", difference.value, rule.minimum_effect),
    ]


def _guardrails(champion: Metrics, challenger: Metrics, rule: Comparison) -> list[Check]:
    """Non-inferiority of what AP does not see. The area under the ROC curve is no guardrail: it moves the other way."""
    card_precision = champion.card_precision_at_100 - rule.card_precision_margin
    brier = champion.brier * (1 + rule.brier_margin)
    return [
        _at_least("card_precision_at_100", challenger.card_precision_at_100, card_precision),
        Check(name="brier", value=challenger.brier, limit=brier, passed=challenger.brier <= brier),
    ]


def _slices(measured: Assessment, rule: Comparison) -> list[Check]:
    checks = []
    for part in measured.slices:
        name = f"slice_{part.name}"
        if part.frauds < rule.minimum_slice_frauds or part.champion is None or part.challenger is None:
            checks.append(Check(name=name, value=None, limit=None, passed=True))
        else:
            checks.append(_at_least(name, part.challenger, part.champion - rule.slice_margin))
    return checks


def _at_least(name: str, value: float, limit: float) -> Check:
    return Check(name=name, value=value, limit=limit, passed=value >= limit)


def _missing(check: Check, evidence: Evidence) -> str:
    """A prerequisite that is not met, for people."""
    if check.name == "champion_before_holdout":
        until, start = evidence.champion_trained_until, evidence.holdout.start
        return f"the champion was trained until {until:%Y-%m-%d %H:%M}; the hold-out starts {start:%Y-%m-%d %H:%M}"
    training = check.name == "training_frauds"
    span = evidence.training if training else evidence.holdout
    dates = f"{'training window' if training else 'hold-out'} {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}"
    if not span.transactions:
        return f"too little history: no transactions in the {dates}"
    return f"{span.frauds or 'no'} frauds in the {dates}; at least {check.limit:.0f} are needed"


def _reason(checks: list[Check], difference: Difference, floor: Floor | None) -> str:
    interval = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    against = f" against the floor {floor.average_precision:.3f} ({floor.origin})" if floor else ""
    measured = f"average precision {interval}{against}"
    failed = sorted((check for check in checks if not check.passed), key=lambda check: check.name != "not_pinned")
    if not failed:
        return f"{measured}; every check passed"
    named = [_failure(check) for check in failed[:_NAMED_FAILURES]]
    unnamed = len(failed) - len(named)
    more = [f"{unnamed} more {'check' if unnamed == 1 else 'checks'} failed"] if unnamed else []
    return "; ".join([measured, *named, *more])


def _failure(check: Check) -> str:
    """A check that failed, for people."""
    if check.name == "not_pinned":
        return "the champion is pinned by a rollback (fraud-detection unpin)"
    if check.name == "difference_lower_bound":
        return "the lower bound is not above zero"
    if check.name == "first_champion_floor":
        return "the lower bound is not above zero (comparison.first_champion_floor sets the floor)"
    if check.name == "minimum_effect":
        return f"smaller than the minimum effect {check.limit:.3f}"
    name = check.name.replace("_", " ")
    relation = "above" if check.name == "brier" else "below"
    return f"{name} {_number(check.value)} {relation} {_number(check.limit)}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
