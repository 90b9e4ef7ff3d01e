"""When frozen candidates are compared with the champion, at what risk, and which of them may replace it.

A candidate's hold-out grows as labels mature. A look, one statistical test, is due whenever its frauds have grown by a
factor; there are few looks, and each has the same share of the risk of a false promotion. Looks are counted in the log
of what was opened: a look is charged when it is opened, is never repeated, and its risk never comes back.

Pure: entries of the log and a time in, values out. Nothing is remembered between runs, entries may come in any order,
and entries after the as-of time are not read. The rule and its evidence: `docs/promotion.md`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

from fraud_detection.evaluation.card_contributions import CardContributions
from fraud_detection.evaluation.empirical_likelihood import required_root, signed_root, unseen_card_bound
from fraud_detection.schema import CandidateKey, RetirementReason
from fraud_detection.settings import RISK_PERIOD_DAYS, ComparisonSettings

RISK_PERIOD = timedelta(days=RISK_PERIOD_DAYS)
"""The looks of any such period together promote falsely with a probability of at most the risk."""

BACKFILL = timedelta(days=7)
"""How much older the second candidate is that a run opens where runs are rare."""

UNSEEN_SHARE = 0.2
"""Of the risk of a look: that a challenger has lost a pattern that no card of the hold-out has shown."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SMALLEST_GROWTH = 1.5  # looks closer to each other see almost the same evidence


@dataclass(frozen=True)
class SequentialRule:
    """How candidates are opened and looked at; the defaults are those of the settings."""

    risk: float = 0.05
    """Of any false promotion in `RISK_PERIOD`."""
    candidate_every: timedelta = timedelta(days=1)
    looks: int = 9
    """At one candidate, against one champion."""
    first_look_frauds: int = 40
    shadow: timedelta = timedelta(days=28)
    """How long a candidate lives."""
    minimum_effect: float = 0.01
    minimum_fraud_cards: int = 15
    """With frauds on fewer cards no look is due."""
    most_alive: int = 29
    """Beyond them the one whose neighbours are closest to it, for its age, makes room."""
    unseen_card_bound: bool = True

    @classmethod
    def of(cls, settings: ComparisonSettings) -> Self:
        """The rule that the settings describe."""
        return cls(
            risk=settings.risk,
            candidate_every=timedelta(hours=settings.candidate_every_hours),
            looks=settings.looks,
            first_look_frauds=settings.first_look_frauds,
            shadow=timedelta(days=settings.shadow_days),
            minimum_effect=settings.minimum_effect,
            unseen_card_bound=settings.unseen_card_bound,
        )

    @property
    def risk_per_look(self) -> float:
        """risk · candidate_every / (RISK_PERIOD · looks): it pays for all looks at the candidates of a period."""
        return self.risk * (self.candidate_every / (RISK_PERIOD * self.looks))

    @property
    def looks_in_period(self) -> int:
        """How many looks the risk pays for."""
        return (RISK_PERIOD * self.looks) // self.candidate_every

    def growth(self, expected_frauds: float) -> float:
        """The factor between the frauds of two looks, so that the last one is due by the end of a candidate's life.

        Args:
            expected_frauds: matured frauds in `shadow`, at the present volume.
        """
        if self.looks < 2:
            return _SMALLEST_GROWTH
        ratio = max(expected_frauds / self.first_look_frauds, 1.0)
        return max(_SMALLEST_GROWTH, math.pow(ratio, 1 / (self.looks - 1)))

    def frauds_needed(self, number: int, growth: float) -> int:
        """Matured frauds with which look `number`, from 1, is due."""
        return math.ceil(self.first_look_frauds * growth ** (number - 1) - 1e-9)

    def highest_due(self, frauds: int, growth: float) -> int:
        """The last look for which there are frauds enough; 0 for none."""
        return sum(frauds >= self.frauds_needed(number, growth) for number in range(1, self.looks + 1))


@dataclass(frozen=True)
class Candidate:
    """Log entry: a model was frozen."""

    key: CandidateKey
    training_end: datetime
    growth: float
    """See `SequentialRule.growth`; fixed when the candidate is opened."""
    opened_at: datetime
    """The as-of time of the run that opened it."""


@dataclass(frozen=True, order=True)
class Look:
    """Log entry: a look was opened. It is written before anything is measured."""

    as_of: datetime
    candidate: CandidateKey
    champion_version: int
    number: int


@dataclass(frozen=True)
class LookResult:
    """What a look measured."""

    difference: float
    """AP(challenger) − AP(champion)."""
    root: float
    """Signed root of the empirical likelihood ratio."""
    frauds: int
    fraud_cards: int


@dataclass(frozen=True)
class ClosedLook:
    """Log entry: a look has its result."""

    look: Look
    result: LookResult
    passed: bool
    """The limits of the look and every other check."""


@dataclass(frozen=True)
class Retirement:
    """Log entry: a candidate was retired."""

    candidate: CandidateKey
    at: datetime
    reason: RetirementReason


@dataclass(frozen=True)
class Rejection:
    """Log entry: a person rejected a candidate; the next run retires it."""

    candidate: CandidateKey
    at: datetime


LogEntry = Candidate | Look | ClosedLook | Retirement | Rejection


@dataclass(frozen=True)
class Champion:
    """The version in service."""

    version: int
    training_end: datetime
    refit_of: CandidateKey | None = None
    """The candidate whose refit it is; that one stays a challenger though it is older."""


@dataclass(frozen=True)
class HoldoutCounts:
    """Matured frauds of a candidate's hold-out, and the cards that have them."""

    frauds: int
    fraud_cards: int


class LookState(StrEnum):
    """Whether a look can be opened, or what it waits for."""

    DUE = "due"
    WAITS_FOR_FRAUDS = "waits for frauds"
    WAITS_FOR_CARDS = "waits for frauds on more cards"
    WAITS_FOR_RISK = "waits until earlier looks are older than the risk period"


@dataclass(frozen=True)
class NextLook:
    """The next look of one candidate."""

    look: Look
    state: LookState
    counts: HoldoutCounts
    frauds_needed: int


@dataclass(frozen=True)
class RiskLedger:
    """Looks of the last `RISK_PERIOD`, whatever their recipe and champion. Counted, since sums of risks would round."""

    opened: int
    allowed: int

    @property
    def left(self) -> int:
        return max(0, self.allowed - self.opened)


@dataclass(frozen=True)
class LookLimits:
    """What a look has to reach; all of it."""

    root: float
    difference_for_unseen_cards: float
    difference_that_matters: float

    @property
    def least_difference(self) -> float:
        return max(self.difference_for_unseen_cards, self.difference_that_matters)

    def reached_by(self, result: LookResult) -> bool:
        return result.root >= self.root and result.difference >= self.least_difference


def risk_ledger(entries: Iterable[LogEntry], as_of: datetime, rule: SequentialRule) -> RiskLedger:
    """The looks opened in the period that ends at `as_of`, and how many the risk pays for."""
    recent = {look for look in _looks(entries, as_of) if as_of - look.as_of < RISK_PERIOD}
    return RiskLedger(len(recent), rule.looks_in_period)


def alive_candidates(
    entries: Iterable[LogEntry], champion: Champion, as_of: datetime, rule: SequentialRule
) -> tuple[Candidate, ...]:
    """The candidates in shadow, oldest first; without those that `due_retirements` names."""
    return tuple(one for one, reason in _in_shadow(tuple(entries), champion, as_of, rule) if reason is None)


def due_retirements(
    entries: Iterable[LogEntry], champion: Champion, as_of: datetime, rule: SequentialRule
) -> tuple[Retirement, ...]:
    """The candidates to retire, oldest first, with the reason of each."""
    candidates = _in_shadow(tuple(entries), champion, as_of, rule)
    return tuple(Retirement(one.key, as_of, reason) for one, reason in candidates if reason is not None)


def candidates_to_open(
    entries: Iterable[LogEntry],
    recipe: str,
    champion: Champion,
    as_of: datetime,
    rule: SequentialRule,
    maturity: timedelta,
) -> tuple[CandidateKey, ...]:
    """The candidates of a recipe that the run at `as_of` opens.

    One on each point of the grid. Where the last one is older than the distance of the grid (runs are rare, or this is
    the first beside a champion), a second one `BACKFILL` before the as-of time starts with a hold-out that has matured
    already. None that was opened before, and none that `due_retirements` would name at once.

    Args:
        entries: the log.
        recipe: of the candidates.
        champion: in service.
        as_of: of the run.
        rule: how candidates are opened.
        maturity: from the end of a candidate's training to its label cut-off.
    """
    log = tuple(entries)
    newest = max((one.key.label_cutoff for one in _candidates(log, as_of) if one.key.recipe == recipe), default=None)
    cutoff = _floor(as_of, rule.candidate_every)
    cutoffs = [cutoff]
    if newest is None or newest < cutoff - rule.candidate_every:
        cutoffs.append(as_of - BACKFILL)
    known = {one.key for one in _candidates(log, as_of)}
    opened: list[Candidate] = []
    for key in (CandidateKey(at, recipe) for at in cutoffs):
        one = Candidate(key, key.label_cutoff - maturity, _SMALLEST_GROWTH, as_of)
        if key not in known and one in alive_candidates([*log, *opened, one], champion, as_of, rule):
            opened.append(one)
    return tuple(one.key for one in opened)


def early_candidate(
    entries: Iterable[LogEntry],
    recipe: str,
    champion: Champion,
    as_of: datetime,
    rule: SequentialRule,
    maturity: timedelta,
) -> CandidateKey | None:
    """The candidate that drift opens at `as_of`, before the next point of the grid; arguments as `candidates_to_open`.

    None where the run opens one anyway, or where one was opened early within the last `candidate_every`: drift that
    lasts opens at most one in each such period.
    """
    log, key = tuple(entries), CandidateKey(as_of, recipe)
    if candidates_to_open(log, recipe, champion, as_of, rule, maturity):
        return None
    own = [one for one in _candidates(log, as_of) if one.key.recipe == recipe]
    if any(one.key == key for one in own):
        return None
    if any(_is_early(one, rule) and as_of - one.opened_at < rule.candidate_every for one in own):
        return None
    candidate = Candidate(key, as_of - maturity, _SMALLEST_GROWTH, as_of)
    return key if candidate in alive_candidates([*log, candidate], champion, as_of, rule) else None


def next_opening(as_of: datetime, rule: SequentialRule) -> datetime:
    """The first point of the grid after `as_of`, at which a candidate is opened."""
    return _floor(as_of, rule.candidate_every) + rule.candidate_every


def risk_returns(entries: Iterable[LogEntry], as_of: datetime, rule: SequentialRule) -> datetime | None:
    """When the next look can be paid for; None where one can be now."""
    if risk_ledger(entries, as_of, rule).left > 0:
        return None
    recent = sorted(look.as_of for look in _looks(entries, as_of) if as_of - look.as_of < RISK_PERIOD)
    return recent[len(recent) - rule.looks_in_period] + RISK_PERIOD


def holdout_start(
    candidate: Candidate,
    champion: Champion,
    recipe_first_seen: datetime | None = None,
    training_gap: timedelta = timedelta(0),
) -> datetime:
    """The first row on which both models can be compared: neither was trained on it, nor within the gap before it.

    Args:
        candidate: of the comparison.
        champion: of the comparison.
        recipe_first_seen: when the candidate's settings were first seen; they may have been tuned on earlier rows. None
            where earlier rows are trusted.
        training_gap: the setting `windows.training_gap_days`.
    """
    start = max(candidate.training_end, champion.training_end) + training_gap
    return start if recipe_first_seen is None else max(start, recipe_first_seen)


def next_looks(
    entries: Iterable[LogEntry],
    champion: Champion,
    counts: Mapping[CandidateKey, HoldoutCounts],
    as_of: datetime,
    rule: SequentialRule,
) -> tuple[NextLook, ...]:
    """The next look of each candidate alive, those with the most frauds first.

    After a pause only the highest look is due; those below it are not made up for. Where the risk left does not pay for
    all that are due, those with the most frauds come first.
    """
    log = tuple(entries)
    left, taken = risk_ledger(log, as_of, rule).left, _last_numbers(log, champion, as_of)
    found = []
    for one in alive_candidates(log, champion, as_of, rule):
        counted = counts.get(one.key, HoldoutCounts(0, 0))
        found.append(_next_look(one, taken.get(one.key, 0), champion, counted, as_of, rule))
    found.sort(key=lambda one: (-one.counts.frauds, one.look.candidate))
    due = [one for one in found if one.state is LookState.DUE]
    return tuple(replace(one, state=LookState.WAITS_FOR_RISK) if one in due[left:] else one for one in found)


def measure_look(contributions: CardContributions) -> LookResult:
    """What a look says of the cards' contributions to the difference of AP."""
    return LookResult(
        contributions.difference,
        signed_root(contributions.contribution),
        contributions.total_frauds,
        contributions.fraud_cards,
    )


def look_limits(fraud_cards: int, rule: SequentialRule) -> LookLimits:
    """What a look at a hold-out with frauds on so many cards has to reach.

    A look can err in two ways, which share its risk: by chance in what the cards have shown, and by what none has.
    """
    return limits_at_risk(rule.risk_per_look, fraud_cards, rule)


def limits_at_risk(risk: float, fraud_cards: int, rule: SequentialRule) -> LookLimits:
    """What a look has to reach at a risk of its own; see `look_limits`."""
    if not rule.unseen_card_bound:
        return LookLimits(required_root(risk, fraud_cards), 0.0, rule.minimum_effect)
    root = required_root((1 - UNSEEN_SHARE) * risk, fraud_cards)
    return LookLimits(root, unseen_card_bound(UNSEEN_SHARE * risk, fraud_cards), rule.minimum_effect)


def best_look(closed: Iterable[ClosedLook]) -> ClosedLook | None:
    """Of the looks that passed the one with the largest root, then difference, then the youngest candidate.

    Each look has paid for its risk, so any choice among them is valid.
    """
    passed = [one for one in closed if one.passed]
    return max(passed, key=lambda one: (one.result.root, one.result.difference, one.look.candidate), default=None)


def _next_look(
    candidate: Candidate, taken: int, champion: Champion, counts: HoldoutCounts, as_of: datetime, rule: SequentialRule
) -> NextLook:
    number = max(rule.highest_due(counts.frauds, candidate.growth), taken + 1)
    needed = rule.frauds_needed(number, candidate.growth)
    state = LookState.DUE
    if counts.frauds < needed:
        state = LookState.WAITS_FOR_FRAUDS
    elif counts.fraud_cards < rule.minimum_fraud_cards:
        state = LookState.WAITS_FOR_CARDS
    return NextLook(Look(as_of, candidate.key, champion.version, number), state, counts, needed)


def _in_shadow(
    log: tuple[LogEntry, ...], champion: Champion, as_of: datetime, rule: SequentialRule
) -> list[tuple[Candidate, RetirementReason | None]]:
    """The candidates that no entry has retired, oldest first, each with the reason to do so now."""
    retired = {entry.candidate for entry in log if isinstance(entry, Retirement) and entry.at <= as_of}
    rejected = {entry.candidate for entry in log if isinstance(entry, Rejection) and entry.at <= as_of}
    taken = _last_numbers(log, champion, as_of)
    candidates = [one for one in _candidates(log, as_of) if one.key not in retired]
    reasons = {one.key: _retirement_reason(one, taken.get(one.key, 0), champion, as_of, rule) for one in candidates}
    reasons |= {key: RetirementReason.REJECTED for key in reasons if key in rejected}
    alive = [one for one in candidates if reasons[one.key] is None]
    while len(alive) > rule.most_alive:
        crowded = _most_crowded(alive, as_of)
        alive.remove(crowded)
        reasons[crowded.key] = RetirementReason.CROWDED_OUT
    return [(one, reasons[one.key]) for one in candidates]


def _most_crowded(alive: list[Candidate], as_of: datetime) -> Candidate:
    """The candidate that leaves the smallest gap between its neighbours of the same recipe, for its age.

    So the young ones are close to each other, and the old ones cover the rest of a candidate's life. The oldest and the
    youngest of a recipe stay; where no others are alive it is the one that was opened last.
    """
    gaps = []
    for recipe in {one.key.recipe for one in alive}:
        own = sorted((one for one in alive if one.key.recipe == recipe), key=lambda one: one.key)
        for older, one, younger in zip(own, own[1:], own[2:], strict=False):
            gap = younger.key.label_cutoff - older.key.label_cutoff
            gaps.append((gap / (as_of - one.key.label_cutoff), one.key, one))
    if not gaps:
        return max(alive, key=lambda one: (one.opened_at, one.key))
    return min(gaps, key=lambda found: found[:2])[2]


def _retirement_reason(
    candidate: Candidate, taken: int, champion: Champion, as_of: datetime, rule: SequentialRule
) -> RetirementReason | None:
    if as_of - candidate.key.label_cutoff > rule.shadow:
        return RetirementReason.EXPIRED
    if candidate.training_end <= champion.training_end and candidate.key != champion.refit_of:
        return RetirementReason.OVERTAKEN
    return RetirementReason.ALL_LOOKS_TAKEN if taken >= rule.looks else None


def _last_numbers(log: tuple[LogEntry, ...], champion: Champion, as_of: datetime) -> dict[CandidateKey, int]:
    """The number of the last look at each candidate against a champion."""
    last: dict[CandidateKey, int] = {}
    for look in _looks(log, as_of):
        if look.champion_version == champion.version:
            last[look.candidate] = max(look.number, last.get(look.candidate, 0))
    return last


def _is_early(candidate: Candidate, rule: SequentialRule) -> bool:
    """Whether drift opened it: at its own label cut-off, which is no point of the grid."""
    cutoff = candidate.key.label_cutoff
    return cutoff == candidate.opened_at and cutoff != _floor(cutoff, rule.candidate_every)


def _candidates(log: tuple[LogEntry, ...], as_of: datetime) -> list[Candidate]:
    found = {entry.key: entry for entry in log if isinstance(entry, Candidate) and entry.opened_at <= as_of}
    return sorted(found.values(), key=lambda one: one.key)


def _looks(entries: Iterable[LogEntry], as_of: datetime) -> set[Look]:
    return {entry for entry in entries if isinstance(entry, Look) and entry.as_of <= as_of}


def _floor(at: datetime, step: timedelta) -> datetime:
    """The last point of the grid that is not after `at`; the grid counts from 1970."""
    return _EPOCH + (at - _EPOCH) // step * step
