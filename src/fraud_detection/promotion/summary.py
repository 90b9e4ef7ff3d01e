"""A decision in a few lines of Markdown, as MLflow shows it beside the model version."""

import math
from collections.abc import Iterable

from fraud_detection.promotion.checks import definition, guarded, told_apart
from fraud_detection.promotion.explanation import explain_measurement
from fraud_detection.promotion.refit import refit_line
from fraud_detection.promotion.rule import shown_look
from fraud_detection.schema import Check, CheckVerdict, Decision, LookRecord, RefitRecord, Span


def summarise(decision: Decision) -> str:
    """What was decided and why, on which data, by which code; at most 15 lines of Markdown."""
    look = shown_look(decision.looks)
    facts = (
        ("Effect", _effect(decision, look)),
        ("Limits", _limits(look)),
        ("Guardrails", _guardrails(decision.checks)),
        ("Training", _span(decision.training)),
        ("Refit", _refit(decision.refit)),
        ("Hold-out", _span(decision.holdout) + (f" on {look.fraud_cards:,} cards" if look and look.by_card else "")),
        ("Alerts", _alerts(look)),
        ("Code revision", _code(decision.code_revision)),
        ("Report", _code(decision.report)),
    )
    lines = [f"- **{name}**: {fact}" for name, fact in facts if fact]
    return "\n".join([f"**{_title(decision)}**", "", *lines])


def _title(decision: Decision) -> str:
    outcome = decision.outcome.value.replace("_", " ").upper()
    champion = decision.champion_version
    against = "no champion in service" if champion is None else f"compared with v{champion}"
    return f"{outcome} as of {decision.as_of:%Y-%m-%d %H:%M} UTC, {against}"


def _effect(decision: Decision, look: LookRecord | None) -> str:
    if decision.difference is None:
        return ""
    level = f"{100 * decision.difference.confidence:.5g} % interval, {_unit(look)}s resampled"
    models = [metrics.average_precision for metrics in (decision.champion, decision.challenger) if metrics is not None]
    values = " → ".join(f"{value:.3f}" for value in models)
    return f"{explain_measurement(decision.difference, decision.floor)} ({level}), {values}"


def _unit(look: LookRecord | None) -> str:
    return "card" if look is None or look.by_card else "transaction"


def _limits(look: LookRecord | None) -> str:
    if look is None or look.limits is None or look.root is None or look.difference is None:
        return ""
    limits = look.limits
    root, least_root = told_apart(look.root, limits.root, decimals=2)
    least = (limits.difference_for_unseen_cards, limits.difference_that_matters)
    difference, unseen, matters = told_apart(look.difference.value, *least, decimals=3)
    return (
        f"look {look.number}: R_EL {root} of {least_root}; difference {difference} of {unseen} (what no"
        f" {_unit(look)} has shown) and {matters} (minimum effect)"
    )


def _guardrails(checks: Iterable[Check]) -> str:
    """The guardrails by what was found of them, each named."""
    found: dict[str, list[str]] = {}
    for check in checks:
        known = definition(check.name)
        if known is not None and known.is_guardrail:
            found.setdefault(_finding(check), []).append(guarded(check))
    return "; ".join(f"{finding}: {', '.join(names)}" for finding, names in found.items())


def _finding(check: Check) -> str:
    if check.value is None:
        return "not measured"
    words = {
        CheckVerdict.FAILED: "harmful",
        CheckVerdict.UNDECIDED: "undecided, too few frauds to tell",
        CheckVerdict.PASSED: "harmless",
    }
    return words[check.verdict]


def _span(span: Span) -> str:
    counts = f"{span.transactions:,} transactions, {span.frauds:,} frauds"
    return f"{span.start:%Y-%m-%d %H:%M} … {span.end:%Y-%m-%d %H:%M}, {counts}"


def _alerts(look: LookRecord | None) -> str:
    """From which score on a transaction alerts, and what that gives on the days that check it."""
    threshold = None if look is None else look.threshold
    if threshold is None:
        return ""
    if not math.isfinite(threshold.probability):
        return "none: at no score are the reviews worth what they save"
    found, kind = (threshold.fitted, "fitted") if threshold.checked is None else (threshold.checked, "checked")
    precision = "" if found.precision is None else f", {found.precision:.0%} of them compromised"
    recall = "" if found.recall is None else f"; {found.recall:.0%} of the compromised {_unit(look)}s found"
    return (
        f"from score {threshold.probability:.4g} on; {kind}: {found.alerts_a_day:.1f} {_unit(look)}s a day{precision}"
        f"{recall}; frauds of {found.value_a_day.value:,.0f} a day caught"
    )


def _refit(refit: RefitRecord | None) -> str:
    return "" if refit is None else f"{refit_line(refit)} ({_span(refit.refit.training)})"


def _code(text: str | None) -> str:
    return "" if text is None else f"`{text}`"
