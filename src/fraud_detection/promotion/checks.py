"""Every check of a promotion, declared once: what is measured, its relation to which limit, and how it reads.

The promotion rule and the registry's late checks make their checks from this table; the report and the progress lines
take their words from it; a test holds the tables of `docs/decision.md` to it.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol

from fraud_detection.evaluation.harm import Change, HarmVerdict
from fraud_detection.evaluation.slices import SLICES
from fraud_detection.schema import Check, Span
from fraud_detection.settings import Settings

SLICE_PREFIX = "slice_"


class Spans(Protocol):
    """What was trained on and compared on: a decision, or the evidence for one."""

    @property
    def training(self) -> Span: ...
    @property
    def holdout(self) -> Span: ...


class Relation(StrEnum):
    """How a value has to relate to its limit."""

    AT_LEAST = "≥"
    ABOVE = ">"
    AT_MOST = "≤"
    EQUAL = "="

    def holds(self, value: float | None, limit: float | None) -> bool:
        """Whether it does; None equals None and relates to nothing else."""
        if self is Relation.EQUAL:
            return value == limit
        return value is not None and limit is not None and bool(_COMPARE[self](value, limit))


_COMPARE = {Relation.AT_LEAST: operator.ge, Relation.ABOVE: operator.gt, Relation.AT_MOST: operator.le}


class Limit(Enum):
    """How a limit follows from the setting of a check, and for a relative limit from a value of the champion."""

    ABSOLUTE = "the setting; 0 without one"
    HOLDOUT = "follows from the hold-out"
    HISTORY = "follows from the data before, and from what chance moves"
    NONE = "no version"
    CHAMPION = "the champion's"
    CHAMPION_LESS_MARGIN = "the champion's − the setting"
    CHAMPION_PLUS_MARGIN = "the champion's + the setting"
    CHAMPION_PLUS_SHARE = "the champion's · (1 + the setting)"


def _beyond(check: Check, _: Spans) -> str:
    known = definition(check.name)
    relation = "above" if known is not None and known.relation is Relation.AT_MOST else "below"
    return f"{check.name.replace('_', ' ')} {_number(check.value)} {relation} {_number(check.limit)}"


def _harm(check: Check, spans: Spans) -> str:
    if check.high is None:  # a decision of an earlier release
        return _beyond(check, spans)
    return (
        f"harm to {guarded(check)}: {_number(check.value)} where {_number(check.limit)} is accepted;"
        f" at best the change is {check.high:+.2g} (95 % bound)"
    )


def _too_few_frauds(check: Check, spans: Spans) -> str:
    training = check.name == "training_frauds"
    span = spans.training if training else spans.holdout
    dates = f"{'training window' if training else 'hold-out'} {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}"
    if not span.transactions:
        return f"too little history: no transactions in the {dates}"
    return f"{span.frauds or 'no'} frauds in the {dates}; {CHECKS[check.name].setting} is {check.limit:.0f}"


def _unit(spans: Spans) -> str:
    """Of what a look or a decision has resampled."""
    looks = getattr(spans, "looks", (spans,))
    return "card" if all(getattr(look, "by_card", True) for look in looks) else "transaction"


def _too_small(check: Check, _: Spans) -> str:
    limit = check.limit or 0.0
    if not limit:
        return "the difference is below zero"
    rounded = f"{limit:.3f}"
    return f"smaller than the minimum effect {rounded if float(rounded) == limit else _number(limit)}"


def _champion_changed(check: Check, _: Spans) -> str:
    compared, now = _version(check.limit), _version(check.value)
    return f"the champion has changed meanwhile: compared with {compared}, now {now} serves"


def _other_scores(check: Check, _: Spans) -> str:
    if check.value is None:
        return "the registered model cannot be loaded"
    return f"the registered model scores {check.value:.0f} rows differently"


@dataclass(frozen=True)
class CheckDefinition:
    """One check: its name in a decision, the relation between value and limit, and how it reads."""

    name: str
    phrase: str
    """What passes."""
    relation: Relation
    setting: str | None = None
    """The setting that holds the limit, or the margin of a relative one; dotted, as in the settings file."""
    limit: Limit = Limit.ABSOLUTE
    failure: Callable[[Check, Spans], str] = _beyond
    """What is wrong where it failed."""
    metric: str | None = None
    """Of a guardrail, a test for harm: the metric in which the challenger must not be worse."""

    @property
    def is_guardrail(self) -> bool:
        return self.metric is not None

    def limit_for(self, settings: Settings | None, champion: float | None) -> float | None:
        """The limit under these settings, for this value of the champion."""
        setting = 0.0 if self.setting is None else float(operator.attrgetter(self.setting)(settings))
        if self.limit is Limit.ABSOLUTE:
            return setting
        if self.limit in (Limit.NONE, Limit.HISTORY, Limit.HOLDOUT) or champion is None:
            return None
        relative = {
            Limit.CHAMPION: champion,
            Limit.CHAMPION_LESS_MARGIN: champion - setting,
            Limit.CHAMPION_PLUS_MARGIN: champion + setting,
            Limit.CHAMPION_PLUS_SHARE: champion * (1 + setting),
        }
        return relative[self.limit]


def _slice_check(name: str, phrase: str) -> CheckDefinition:
    return CheckDefinition(
        name,
        f"{phrase}: average precision not below the champion's less a margin",
        Relation.AT_LEAST,
        "comparison.slice_margin",
        Limit.CHAMPION_LESS_MARGIN,
        _harm,
        f"average precision in “{phrase}”",
    )


def _health_check(name: str, phrase: str, relation: Relation) -> CheckDefinition:
    return CheckDefinition(name, phrase, relation, limit=Limit.HISTORY)


_DEFINITIONS = (
    _health_check("volume_floor", "Not too few transactions for these hours of the week", Relation.AT_LEAST),
    _health_check("volume_ceiling", "Not too many transactions for these hours of the week", Relation.AT_MOST),
    _health_check("fraud_rate_floor", "No matured day with too few frauds", Relation.AT_LEAST),
    _health_check("fraud_rate_ceiling", "No matured day with too many frauds", Relation.AT_MOST),
    _health_check("label_delay", "Labels as soon as before: largest share known later", Relation.AT_MOST),
    _health_check("known_frauds_kept", "Known frauds that are missing now", Relation.AT_MOST),
    _health_check("known_labels_kept", "Known labels that are missing now", Relation.AT_MOST),
    _health_check("input_psi", "The champion's inputs as in its training: largest PSI", Relation.AT_MOST),
    _health_check("score_psi", "The champion's scores as in its training: PSI", Relation.AT_MOST),
    CheckDefinition(
        "no_leaking_feature",
        "No input alone gives the frauds away: largest average precision of one",
        Relation.AT_MOST,
        "data_health.leaking_average_precision",
    ),
    CheckDefinition(
        "training_frauds",
        "Enough frauds to train on",
        Relation.AT_LEAST,
        "training.min_training_frauds",
        failure=_too_few_frauds,
    ),
    CheckDefinition(
        "holdout_frauds",
        "Enough matured frauds in the hold-out",
        Relation.AT_LEAST,
        "comparison.minimum_holdout_frauds",
        failure=_too_few_frauds,
    ),
    CheckDefinition(
        "first_champion_floor",
        "Significantly above the floor: lower bound of the difference",
        Relation.ABOVE,
        failure=lambda *_: "the lower bound is not above zero (comparison.first_champion_floor sets the floor)",
    ),
    CheckDefinition(
        "significance",
        "Significant: signed root of the empirical likelihood ratio",
        Relation.AT_LEAST,
        limit=Limit.HOLDOUT,
        failure=lambda check, _: f"not significant: R_EL {_of(check)}",
    ),
    CheckDefinition(
        "unseen_cards",
        "More than a pattern that no card of the hold-out has shown could cost: the difference",
        Relation.AT_LEAST,
        limit=Limit.HOLDOUT,
        failure=lambda check, spans: (
            f"smaller than {check.limit or 0.0:.3f}, what a pattern could cost that no {_unit(spans)} of the hold-out"
            " has shown"
        ),
    ),
    CheckDefinition(
        "minimum_effect",
        "Large enough to matter: the difference",
        Relation.AT_LEAST,
        "comparison.minimum_effect",
        failure=_too_small,
    ),
    CheckDefinition(
        "card_precision_at_100",
        "Card precision@100 not below the champion's less a margin",
        Relation.AT_LEAST,
        "comparison.card_precision_margin",
        Limit.CHAMPION_LESS_MARGIN,
        _harm,
        "card precision@100",
    ),
    CheckDefinition(
        "calibration",
        "Expected frauds as close to those found as the champion's, less a margin",
        Relation.AT_MOST,
        "comparison.calibration_margin",
        Limit.CHAMPION_PLUS_MARGIN,
        _harm,
        "calibration",
    ),
    CheckDefinition(
        "brier",
        "Brier score not above the champion's plus a margin",
        Relation.AT_MOST,
        "comparison.brier_margin",
        Limit.CHAMPION_PLUS_SHARE,
        _harm,
        "the Brier score",
    ),
    *(_slice_check(f"{SLICE_PREFIX}{name}", phrase) for name, phrase in SLICES.items()),
    CheckDefinition(
        "refit_reloads",
        "The refit's files, loaded back, are those that were trained: differing files",
        Relation.EQUAL,
        failure=lambda *_: "the refit's files cannot be loaded back",
    ),
    CheckDefinition(
        "refit_average_precision",
        "Average precision of the refit not below the winner's less .01",
        Relation.AT_LEAST,
        limit=Limit.HOLDOUT,
        failure=lambda check, _: f"average precision {_number(check.value)} below {_number(check.limit)}",
    ),
    CheckDefinition(
        "refit_mean_score",
        "The mean scores of refit and winner, as a factor",
        Relation.AT_MOST,
        limit=Limit.HOLDOUT,
        failure=lambda check, _: (
            f"its mean score differs from the winner's by a factor of {_number(check.value)}; at most"
            f" {_number(check.limit)} expected"
        ),
    ),
    CheckDefinition(
        "refit_young_rows",
        "Average precision of the winner on the rows younger than its hold-out",
        Relation.AT_LEAST,
        limit=Limit.HOLDOUT,
        failure=lambda check, _: (
            f"the winner's average precision on the refit's youngest rows, {_number(check.value)}, is below"
            f" {_number(check.limit)}: their labels are unlike all earlier ones"
        ),
    ),
    CheckDefinition(
        "not_pinned",
        "No version is pinned",
        Relation.EQUAL,
        limit=Limit.NONE,
        failure=lambda *_: "the champion is pinned",
    ),
    CheckDefinition(
        "champion_unchanged",
        "The champion in service is the one compared with",
        Relation.EQUAL,
        limit=Limit.CHAMPION,
        failure=_champion_changed,
    ),
    CheckDefinition(
        "registered_model_identical",
        "Rows that the registered model scores differently",
        Relation.EQUAL,
        failure=_other_scores,
    ),
)
CHECKS = {definition.name: definition for definition in _DEFINITIONS}


def definition(name: str) -> CheckDefinition | None:
    """What is declared of a check; None where only another release knows it.

    A slice of `comparison.slices` is named like its column and value, and is declared as all slices are.
    """
    if name.startswith(SLICE_PREFIX) and name not in CHECKS:
        column, _, value = name.removeprefix(SLICE_PREFIX).partition("=")
        return _slice_check(name, f"Rows with {column} {value}")
    return CHECKS.get(name)


def measure(name: str, value: float | None, settings: Settings | None = None, champion: float | None = None) -> Check:
    """Hold a value against the limit of a check.

    Args:
        name: of the check.
        value: what was measured. Where there was nothing to measure it is None, and the check passes, unless it asks
            for equality.
        settings: hold the limit or its margin; only a check without a setting needs none.
        champion: the champion's value, for a limit relative to it.
    """
    known = CHECKS[name]
    if value is None and known.relation is not Relation.EQUAL:
        return Check(name=name, value=None, limit=None, passed=True)
    return measure_against(name, value, known.limit_for(settings, champion))


def measure_against(name: str, value: float | None, limit: float | None) -> Check:
    """Hold a value against a limit that follows from the hold-out."""
    return Check(name=name, value=value, limit=limit, passed=CHECKS[name].relation.holds(value, limit))


def measure_harm(name: str, value: float | None, change: Change | None, settings: Settings, champion: float) -> Check:
    """Hold a change against the margin of a guardrail: it fails only if the challenger is surely worse than that.

    Args:
        name: of the check; its limit is relative to the champion.
        value: the challenger's; None where there was nothing to measure, and the check passes.
        change: of the same metric, with its bounds.
        settings: hold the margin.
        champion: the champion's value.
    """
    known = definition(name)
    limit = None if known is None else known.limit_for(settings, champion)
    if value is None or change is None or limit is None:
        return Check(name=name, value=None, limit=None, passed=True)
    verdict = change.verdict(abs(limit - champion))
    return Check(
        name=name,
        value=value,
        limit=limit,
        passed=verdict is not HarmVerdict.HARMFUL,
        undecided=verdict is HarmVerdict.UNDECIDED,
        low=change.low if math.isfinite(change.low) else None,
        high=change.high if math.isfinite(change.high) else None,
    )


def failure(check: Check, spans: Spans) -> str:
    """What is wrong where a check failed; also one that only another release knows."""
    known = definition(check.name)
    if known is None:
        return f"{check.name.replace('_', ' ')} failed: {_number(check.value)} against {_number(check.limit)}"
    return known.failure(check, spans)


def guarded(check: Check) -> str:
    """What a guardrail protects; its name where only another release knows it."""
    known = definition(check.name)
    return known.metric if known is not None and known.metric is not None else check.name.replace("_", " ")


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _of(check: Check) -> str:
    if check.value is None or check.limit is None:
        return f"{_number(check.value)} of {_number(check.limit)}"
    return " of ".join(told_apart(check.value, check.limit, decimals=2))


def told_apart(value: float, *limits: float, decimals: int, sign: str = "") -> list[str]:
    """A value and its limits with so many decimals, or as many as it takes to tell the value from each of them.

    Every text that shows a value beside its limit takes both from here, so that all show the same digits.
    """
    others = [limit for limit in limits if limit != value]

    def shown(number: float, digits: int) -> str:
        return f"{number:{sign}.{digits}f}"

    enough = (d for d in range(decimals, 9) if all(shown(value, d) != shown(other, d) for other in others))
    digits = next(enough, decimals)
    return [shown(number, digits) for number in (value, *limits)]


def _version(value: float | None) -> str:
    return "no champion" if value is None else f"version {value:.0f}"
