"""Why a run decided as it did, in one line, made from the checks and the measured difference."""

from collections.abc import Sequence

from fraud_detection.promotion.checks import Spans, failure, guarded
from fraud_detection.schema import Check, CheckVerdict, Decision, Difference, Floor

_NAMED_FAILURES = 2  # in one line; the checks of the decision hold all

_REACHABLE = 0.9
"""Of the way from ranking by amount to a perfect ranking: more than that no model covers."""


def explain_checks(checks: Sequence[Check], spans: Spans) -> str:
    """The checks that failed, the pin first; or that none did, and which guardrails have too few frauds to tell."""
    failed = sorted((check for check in checks if not check.passed), key=lambda check: check.name != "not_pinned")
    if not failed:
        return _passed(checks)
    named = [failure(check, spans) for check in failed[:_NAMED_FAILURES]]
    unnamed = len(failed) - len(named)
    more = [f"{unnamed} more {'check' if unnamed == 1 else 'checks'} failed"] if unnamed else []
    return "; ".join([*named, *more])


def _passed(checks: Sequence[Check]) -> str:
    open_questions = [guarded(check) for check in checks if check.verdict is CheckVerdict.UNDECIDED]
    if not open_questions:
        return "every check passed"
    named, unnamed = open_questions[:_NAMED_FAILURES], len(open_questions) - _NAMED_FAILURES
    more = f" and {unnamed} more" if unnamed > 0 else ""
    return f"no check failed; too few frauds to rule out harm to {', '.join(named)}{more}"


def explain_measurement(difference: Difference, floor: Floor | None) -> str:
    """The measured difference with its interval, and what it is measured against where that is no champion."""
    interval = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    against = f" against the floor {floor.average_precision:.3f} ({floor.origin})" if floor else ""
    return f"average precision {interval}{against}"


def explain_floor(difference: Difference, floor: Floor, frauds: int) -> str:
    """Why hardly any model can exceed the floor on these rows, as the end of a reason; empty where one can.

    That is where it would have to cover more than nine tenths of the way from ranking by amount to a perfect ranking:
    the floor itself, and above it what the frauds leave uncertain.
    """
    amount, uncertain = floor.amount_average_precision, difference.value - difference.low
    needed, lowest = floor.average_precision + uncertain, amount + uncertain
    if needed <= amount + _REACHABLE * (1 - amount):
        return ""
    steps = [f"set comparison.first_champion_floor to 1, which asks for about {lowest:.3f}"]
    if floor.multiple == 1 or lowest >= 1:
        steps = []
    steps.append("give the hold-out more frauds (windows.holdout_days), which leaves less uncertain")
    return (
        f"; hardly any model can exceed this floor: with {frauds} frauds, which leave {uncertain:.3f} uncertain, it"
        f" would need an average precision of about {min(needed, 1):.3f}, and ranking by amount alone has {amount:.3f};"
        f" next: {', or '.join(steps)}"
    )


def explain_decision(decision: Decision) -> str:
    """Why a decision came out as it did, without the measured difference; that is shown beside it."""
    if decision.difference is None:  # the reason says no more than why nothing was measured
        return decision.reason
    retired = decision.retired_version
    retirement = "" if retired is None else f"; version {retired} was retired before"
    return explain_checks(decision.checks, decision) + retirement
