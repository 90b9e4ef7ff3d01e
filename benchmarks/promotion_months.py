"""Months in which the promotion rule looks at challengers, in a world of scores.

A month begins in the steady state: candidates of the four weeks before are in shadow, and each day opens another. The
first look that passes ends it. Times are in days since the hold-out of the candidate of day 0 began to mature, so the
label maturity, which is the same for all, does not appear.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.promotion_scores import Curve, Floats, Model, Rows, World
from fraud_detection.evaluation.card_contributions import CardContributions, card_contributions
from fraud_detection.evaluation.empirical_likelihood import required_root
from fraud_detection.evaluation.harm import HarmVerdict, brier_change, card_precision_change, slice_changes
from fraud_detection.evaluation.metrics import brier
from fraud_detection.evaluation.slices import slice_masks
from fraud_detection.promotion.sequential import (
    Candidate,
    Champion,
    HoldoutCounts,
    LogEntry,
    Look,
    LookState,
    SequentialRule,
    alive_candidates,
    look_limits,
    measure_look,
    next_looks,
)
from fraud_detection.schema import CandidateKey
from fraud_detection.settings import ComparisonSettings

MONTH = 30
RULE = SequentialRule()
MARGINS = ComparisonSettings()
SHADOW = RULE.shadow / timedelta(days=1)
HOUR = 1 / 24
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

# The rule before, and two that nobody should use: hourly looks at the candidate of the day on the last seven days.
TODAY, NAIVE, NAIVE_EFFECT, EACH_95 = "today", "metric > metric", "metric > metric + .01", "95 % a look"
ROLLING = (NAIVE, NAIVE_EFFECT, EACH_95, TODAY)
WITH_STANDARD_ERROR, PROPOSED, GUARDED = "Δ/SE in place of R", "the rule", "the rule with guardrails"
TODAY_RISK = RULE.risk / 720 / 2  # of a look, one-sided: a month of hourly looks shares a two-sided risk
_ROLLING_DAYS = 7.0
_ROLLING_FRAUDS = 200  # as `comparison.minimum_holdout_frauds`


@dataclass(frozen=True)
class Pair:
    """A champion and challengers of one kind, in one world."""

    world: World
    champion: Model
    challenger: Model
    curves: tuple[Curve, Curve]
    """Of champion and challenger."""
    steady: bool = True
    """Whether there are candidates of before the month."""


@dataclass(frozen=True)
class Opened:
    """A candidate with its scores: rows of its life, in time order."""

    at: float
    part: slice
    score: Floats
    influence: Floats
    """Of the challenger less that of the champion, per fraud: a fast approximation of the contributions."""


@dataclass(frozen=True)
class PlannedLook:
    """A look that is due, with what the approximation says of it."""

    at: float
    candidate: Opened
    number: int
    rows: int
    frauds: int
    fraud_cards: int
    fast_difference: float


@dataclass(frozen=True)
class Passed:
    """The look that ended a month."""

    at: float
    frauds: int
    difference: float


@dataclass
class Month:
    """What each rule did in one month."""

    passed: dict[str, Passed] = field(default_factory=dict)
    looks: int = 0
    exact: int = 0
    """Looks that were measured exactly."""
    fast_errors: list[float] = field(default_factory=list)
    """Fast less exact difference of the looks that were measured exactly."""
    screened_wrongly: int = 0
    """Looks that pass, and that the approximation would have left out; counted where all are measured."""


@dataclass(frozen=True)
class MonthlyRun:
    """How months are simulated."""

    pair: Pair
    look_every: float = HOUR
    """In days."""
    other_rules: bool = False
    """Whether the other rules look as well."""
    measure_all: bool = False
    """Measure every look exactly, to check the approximation."""
    guardrails: bool = False
    """Whether the rule with guardrails is one more rule."""


def simulate(run: MonthlyRun, random: np.random.Generator) -> Month:
    """One month."""
    rows = run.pair.world.rows(random, -SHADOW, SHADOW + MONTH + _ROLLING_DAYS)
    everything = slice(0, len(rows.day))
    champion = run.pair.world.score(rows, everything, run.pair.champion, random)
    known = run.pair.curves[0].influence(rows.fraud, champion)
    opened = [
        _open(run.pair, rows, known, at, SHADOW, random) for at in np.arange(-SHADOW if run.pair.steady else 0.0, MONTH)
    ]
    month = Month()
    growth = RULE.growth(run.pair.world.frauds_per_day * SHADOW)
    looks = sorted(
        (look for one in opened for look in _planned(rows, one, growth, run.look_every)), key=lambda look: look.at
    )
    _take(run, rows, champion, looks, month)
    if run.other_rules:
        month.passed |= dict(_rolling(run.pair, rows, known, random))
    return month


def _open(pair: Pair, rows: Rows, known: Floats, at: float, days: float, random: np.random.Generator) -> Opened:
    part = rows.between(at, at + days)
    score = pair.world.score(rows, part, pair.challenger, random)
    influence = pair.curves[1].influence(rows.fraud[part], score) - known[part]
    return Opened(at, part, score, influence)


def _planned(rows: Rows, one: Opened, growth: float, look_every: float) -> Iterator[PlannedLook]:
    """The looks at a candidate that fall into the month; `schedule_agrees` holds them to the project's schedule."""
    days, fraud, card = rows.day[one.part], rows.fraud[one.part], rows.card[one.part]
    frauds, gained = np.cumsum(fraud), np.cumsum(one.influence)
    places = np.flatnonzero(fraud)
    first_of_card = np.zeros(len(days), np.bool_)
    first_of_card[places[np.unique(card[places], return_index=True)[1]]] = True
    cards = np.cumsum(first_of_card)
    taken = 0
    for number in range(1, RULE.looks + 1):
        needed = RULE.frauds_needed(number, growth)
        if number <= taken or needed > len(places):
            continue
        at = np.ceil(days[places[needed - 1]] / look_every) * look_every
        while (rows_then := int(np.searchsorted(days, at))) and cards[rows_then - 1] < RULE.minimum_fraud_cards:
            at += look_every
        count = int(frauds[rows_then - 1])
        taken = RULE.highest_due(count, growth)
        if at - one.at > SHADOW:
            return
        if 0 <= at < MONTH:
            difference = gained[rows_then - 1] / count
            yield PlannedLook(at, one, taken, rows_then, count, int(cards[rows_then - 1]), float(difference))


def _take(run: MonthlyRun, rows: Rows, champion: Floats, looks: list[PlannedLook], month: Month) -> None:
    """Take looks until every variant of the rule that is asked for has promoted."""
    asked = ((PROPOSED, True), (WITH_STANDARD_ERROR, run.other_rules), (GUARDED, run.guardrails))
    wanted = {name for name, is_asked in asked if is_asked}
    for look in looks:
        month.looks += 1
        near = _near(look)
        if wanted <= month.passed.keys() or not (near or run.measure_all):
            continue
        part = slice(look.candidate.part.start, look.candidate.part.start + look.rows)
        scores = champion[part], look.candidate.score[: look.rows]
        found = card_contributions(rows.fraud[part], *scores, rows.card[part])
        assert found is not None  # noqa: S101  (a look has frauds)
        month.exact += 1
        month.fast_errors.append(look.fast_difference - found.difference)
        passing = _variants(found)
        month.screened_wrongly += bool(passing) and not near
        if run.guardrails and PROPOSED in passing and not _refused(run.pair, rows, part, *scores):
            passing.append(GUARDED)
        for name in passing:
            month.passed.setdefault(name, Passed(look.at, look.frauds, found.difference))


def _near(look: PlannedLook) -> bool:
    """Whether the approximation leaves it open that a look passes: the difference alone decides most of them."""
    return look.fast_difference >= 0.6 * look_limits(look.fraud_cards, RULE).least_difference - 0.01


def _variants(found: CardContributions) -> list[str]:
    """The variants of the rule that a look passes."""
    limits = look_limits(found.fraud_cards, RULE)
    passing = []
    if found.difference >= limits.least_difference:
        if limits.reached_by(measure_look(found)):
            passing.append(PROPOSED)
        if found.difference >= limits.root * standard_error(found):
            passing.append(WITH_STANDARD_ERROR)
    return passing


def _refused(pair: Pair, rows: Rows, part: slice, champion: Floats, challenger: Floats) -> bool:
    """Whether a guardrail surely shows harm."""
    fraud, card = rows.fraud[part], rows.card[part]
    probabilities = pair.world.probability(champion, pair.champion), pair.world.probability(challenger, pair.challenger)
    day = np.floor(rows.day[part])
    brier_margin = MARGINS.brier_margin * brier(fraud, probabilities[0])
    slices = slice_changes(slice_masks(rows.amount[part], None), fraud, champion, challenger, card)
    changes = [
        (card_precision_change(day, fraud, champion, challenger, card), MARGINS.card_precision_margin),
        (brier_change(fraud, *probabilities, card), brier_margin),
        *((change, MARGINS.slice_margin) for change in slices.values()),
    ]
    return any(change is not None and change.verdict(margin) is HarmVerdict.HARMFUL for change, margin in changes)


def standard_error(found: CardContributions) -> float:
    """The linear approximation of the bootstrap's standard error."""
    share = found.frauds / found.total_frauds
    return float(np.sqrt(np.sum(np.square(found.contribution - found.difference * share))))


def _rolling(pair: Pair, rows: Rows, known: Floats, random: np.random.Generator) -> Iterator[tuple[str, Passed]]:
    """The first promotion by each of the rules that look at the last seven days every hour, by the approximation."""
    passed: dict[str, Passed] = {}
    least = min(_ROLLING_FRAUDS, 4 * pair.world.frauds_per_day)
    for day in range(MONTH):
        one = _open(pair, rows, known, day - _ROLLING_DAYS, _ROLLING_DAYS + 1, random)
        days, fraud = rows.day[one.part], rows.fraud[one.part]
        frauds, gained = (np.concatenate([[0.0], np.cumsum(value)]) for value in (fraud, one.influence))
        for hour in range(24):
            at = day + hour * HOUR
            low, high = np.searchsorted(days, (at - _ROLLING_DAYS, at))
            count = frauds[high] - frauds[low]
            if count < least or passed.keys() == set(ROLLING):
                continue
            difference = (gained[high] - gained[low]) / count
            open_names = [name for name in ROLLING if name not in passed]
            window = slice(one.part.start + low, one.part.start + high)
            for name in _rolling_passes(open_names, difference, rows, window, one.influence[low:high]):
                passed[name] = Passed(at, int(count), difference)
    yield from passed.items()


def _rolling_passes(names: list[str], difference: float, rows: Rows, window: slice, influence: Floats) -> Iterator[str]:
    """Which of the rules would promote."""
    if NAIVE in names and difference > 0:
        yield NAIVE
    if difference < RULE.minimum_effect:
        return
    if NAIVE_EFFECT in names:
        yield NAIVE_EFFECT
    fraud = rows.fraud[window]
    frauds = np.bincount(rows.card[window][fraud])
    seen = frauds > 0
    by_card = np.bincount(rows.card[window][fraud], weights=influence[fraud] - difference)[seen]
    error = np.sqrt(np.sum(np.square(by_card)) + np.sum(np.square(influence[~fraud]))) / fraud.sum()
    for name, risk in ((EACH_95, RULE.risk / 2), (TODAY, TODAY_RISK)):
        if name in names and difference > required_root(risk, int(seen.sum())) * error:
            yield name


def schedule_agrees(pair: Pair, random: np.random.Generator) -> int:
    """Replay a month's schedule hour by hour from its log; the number of looks, or an error where they differ."""
    rows = pair.world.rows(random, -SHADOW, SHADOW + MONTH + 1)
    nothing = np.zeros(len(rows.day))
    growth = RULE.growth(pair.world.frauds_per_day * SHADOW)
    opened = [Opened(at, rows.between(at, at + SHADOW), nothing, nothing) for at in np.arange(-SHADOW, MONTH)]
    opened = [Opened(one.at, one.part, nothing[one.part], nothing[one.part]) for one in opened]
    planned = {
        (round(look.at * 24), round(look.candidate.at), look.number)
        for one in opened
        for look in _planned(rows, one, growth, HOUR)
    }
    log: list[LogEntry] = []
    for hour in range(round(-SHADOW * 24), MONTH * 24):
        log += _replayed_hour(hour, rows, log, growth)
    replayed = {
        (hours, (entry.candidate.label_cutoff - EPOCH).days, entry.number)
        for entry in log
        if isinstance(entry, Look) and (hours := round((entry.as_of - EPOCH) / timedelta(hours=1))) >= 0
    }
    if planned != replayed:
        raise SystemExit(f"the simulated schedule differs from the project's in {len(planned ^ replayed)} looks")
    return len(replayed)


def _replayed_hour(hour: int, rows: Rows, log: list[LogEntry], growth: float) -> list[LogEntry]:
    """The entries of one hourly run; the label maturity is 0."""
    now, champion = EPOCH + timedelta(hours=hour), Champion(1, EPOCH - timedelta(days=99))
    new: list[LogEntry] = []
    if hour % 24 == 0:
        new.append(Candidate(CandidateKey(now, "recipe"), now, growth, now))
    counts = {}
    for one in alive_candidates([*log, *new], champion, now, RULE):
        part = rows.between((one.training_end - EPOCH) / timedelta(days=1), hour * HOUR)
        cards = len(np.unique(rows.card[part][rows.fraud[part]]))
        counts[one.key] = HoldoutCounts(int(rows.fraud[part].sum()), cards)
    looks = next_looks([*log, *new], champion, counts, now, RULE)
    return [*new, *(look.look for look in looks if look.state is LookState.DUE)]
