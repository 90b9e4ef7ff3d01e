"""Looks and their risk: a look too many, or a repeated one, promotes by luck."""

import math
import random as chance
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.evaluation.card_contributions import CardContributions
from fraud_detection.evaluation.empirical_likelihood import signed_root
from fraud_detection.promotion.sequential import (
    BACKFILL,
    RISK_PERIOD,
    Candidate,
    Champion,
    ClosedLook,
    HoldoutCounts,
    LogEntry,
    Look,
    LookResult,
    LookState,
    NextLook,
    Rejection,
    Retirement,
    SequentialRule,
    alive_candidates,
    best_look,
    candidates_to_open,
    due_retirements,
    holdout_start,
    look_limits,
    measure_look,
    next_looks,
    next_opening,
    risk_ledger,
    risk_returns,
)
from fraud_detection.schema import CandidateKey, RetirementReason

RULE = SequentialRule()
T = datetime(2026, 3, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
MATURITY = 7 * DAY
CHAMPION = Champion(1, T - 60 * DAY)
KEY = CandidateKey(datetime(2026, 2, 20, tzinfo=UTC), "recipe")
CANDIDATE = Candidate(KEY, KEY.label_cutoff - MATURITY, 1.5, KEY.label_cutoff)


def _look(number: int, as_of: datetime = T, key: CandidateKey = KEY, version: int = 1) -> Look:
    return Look(as_of, key, version, number)


def _next(*entries: LogEntry, frauds: int, cards: int = 200, champion: Champion = CHAMPION) -> NextLook:
    counts = {KEY: HoldoutCounts(frauds, cards)}
    (found,) = next_looks([CANDIDATE, *entries], champion, counts, T, RULE)
    return found


@dataclass(frozen=True)
class History:
    """A replayed log, with the rule that made it."""

    rule: SequentialRule
    log: list[LogEntry]
    champions: list[tuple[datetime, Champion]]

    def looks(self) -> list[Look]:
        return [entry for entry in self.log if isinstance(entry, Look)]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Runs at irregular times, with pauses, changes of champion and bursts of frauds."""
    random = chance.Random(draw(st.integers(0, 2**32)))
    rule = SequentialRule(
        risk=draw(st.sampled_from([0.05, 0.2])),
        candidate_every=timedelta(hours=draw(st.sampled_from([5, 24, 72]))),
        looks=draw(st.sampled_from([1, 3, 9])),
        first_look_frauds=draw(st.sampled_from([5, 40])),
        shadow=draw(st.sampled_from([5, 28])) * DAY,
    )
    champion, now, log = Champion(1, T - 60 * DAY), T, list[LogEntry]()
    champions, volume = [(now, champion)], draw(st.sampled_from([5, 45, 450]))
    for _ in range(draw(st.integers(1, 50))):
        now += timedelta(hours=random.choice([1, 6, 24, 24, 48, 200]))
        if random.random() < 0.03:
            champion = Champion(champion.version + 1, now - random.choice([7, 14, 20]) * DAY)
            champions.append((now, champion))
        log += _run(log, champion, now, rule, volume)
    return History(rule, log, champions)


def _run(log: list[LogEntry], champion: Champion, now: datetime, rule: SequentialRule, volume: float) -> list[LogEntry]:
    """The entries that one run adds."""
    new: list[LogEntry] = [*due_retirements(log, champion, now, rule)]
    for key in candidates_to_open([*log, *new], "recipe", champion, now, rule, MATURITY):
        new.append(Candidate(key, key.label_cutoff - MATURITY, rule.growth(volume * 28), now))
    alive = alive_candidates([*log, *new], champion, now, rule)
    days = {one.key: (now - MATURITY - holdout_start(one, champion)) / DAY for one in alive}
    counts = {
        key: HoldoutCounts(max(0, int(volume * span)), max(0, int(volume * span / 2))) for key, span in days.items()
    }
    looks = next_looks([*log, *new], champion, counts, now, rule)
    return [*new, *(look.look for look in looks if look.state is LookState.DUE)]


@given(histories())
@settings(max_examples=25, deadline=None)
def test_no_look_is_repeated_and_the_risk_is_never_exceeded(history: History) -> None:
    """Fails when models that are only equally good are promoted more often than the documented 5 % of months."""
    looks, rule = history.looks(), history.rule
    assert len({(look.candidate, look.champion_version, look.number) for look in looks}) == len(looks)
    assert all(1 <= look.number <= rule.looks for look in looks)
    for end in looks:
        period = [look for look in looks if timedelta(0) <= end.as_of - look.as_of < RISK_PERIOD]
        assert len(period) * rule.risk_per_look <= rule.risk * (1 + 1e-12)
        assert risk_ledger(history.log, end.as_of, rule).opened == len(period)


@given(histories())
@settings(max_examples=15, deadline=None)
def test_looks_at_a_candidate_go_up_and_only_at_living_ones(history: History) -> None:
    """Fails when an old candidate, or one whose comparison the champion has trained on, is promoted."""
    for look in history.looks():
        champion = next(one for at, one in reversed(history.champions) if at <= look.as_of)
        candidate = next(entry for entry in history.log if isinstance(entry, Candidate) and entry.key == look.candidate)
        assert look.champion_version == champion.version
        assert candidate.training_end > champion.training_end
        assert look.as_of - look.candidate.label_cutoff <= history.rule.shadow
        assert candidate.opened_at <= look.as_of
    series: dict[tuple[CandidateKey, int], list[int]] = {}
    for look in history.looks():
        series.setdefault((look.candidate, look.champion_version), []).append(look.number)
    assert all(a < b for numbers in series.values() for a, b in pairwise(numbers))


@given(histories(), st.integers(0, 2**32), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_neither_the_order_of_entries_nor_later_ones_matter(history: History, seed: int, part: float) -> None:
    """Fails when a run at an earlier as-of time, or another listing of the log, comes to another decision."""
    log, rule = history.log, history.rule
    times = sorted({entry.as_of for entry in log if isinstance(entry, Look)} | {T + DAY})
    as_of = times[int(part * (len(times) - 1))]
    champion = next((one for at, one in reversed(history.champions) if at <= as_of), CHAMPION)
    past = [entry for entry in log if _time(entry) <= as_of]
    shuffled = chance.Random(seed).sample(log, len(log))
    counts = {entry.key: HoldoutCounts(90, 45) for entry in log if isinstance(entry, Candidate)}
    for other in (shuffled, past, [*log, *past]):
        assert next_looks(other, champion, counts, as_of, rule) == next_looks(log, champion, counts, as_of, rule)
        assert risk_ledger(other, as_of, rule) == risk_ledger(log, as_of, rule)
        assert alive_candidates(other, champion, as_of, rule) == alive_candidates(log, champion, as_of, rule)
        assert due_retirements(other, champion, as_of, rule) == due_retirements(log, champion, as_of, rule)
        assert candidates_to_open(other, "new", champion, as_of, rule, MATURITY) == candidates_to_open(
            log, "new", champion, as_of, rule, MATURITY
        )


def _time(entry: LogEntry) -> datetime:
    if isinstance(entry, Candidate):
        return entry.opened_at
    if isinstance(entry, Retirement | Rejection):
        return entry.at
    return entry.look.as_of if isinstance(entry, ClosedLook) else entry.as_of


@given(histories())
@settings(max_examples=15, deadline=None)
def test_a_second_run_at_the_same_time_adds_nothing(history: History) -> None:
    """Fails when a run that is repeated after a crash takes a second look, or opens a second candidate."""
    if history.log:
        now = max(map(_time, history.log))
        champion = history.champions[-1][1]
        again = _run(history.log, champion, now, history.rule, 0.0)
        assert [entry for entry in again if not isinstance(entry, Retirement)] == []


def test_looks_grow_by_half_and_more_at_a_larger_volume() -> None:
    """Fails when looks come so often that their risk is used up, or so rarely that the last never comes."""
    assert RULE.growth(45 * 28) == pytest.approx(1.539, abs=0.001)
    assert [RULE.frauds_needed(number, 1.5) for number in range(1, 10)] == [40, 60, 90, 135, 203, 304, 456, 684, 1026]
    assert RULE.growth(10 * 28) == 1.5
    large = RULE.growth(450 * 28)
    assert large == pytest.approx(2.05, abs=0.01)
    assert RULE.frauds_needed(9, large) == 450 * 28
    assert replace(RULE, looks=1).growth(1e6) == 1.5


def test_the_risk_is_shared_by_all_looks_of_a_period() -> None:
    """Fails when a look has another share of the risk than documented."""
    assert RULE.risk_per_look == pytest.approx(0.05 / 270)
    assert RULE.looks_in_period == 270
    hourly = replace(RULE, candidate_every=timedelta(hours=1))
    assert hourly.risk_per_look == pytest.approx(0.05 / 6480)
    assert hourly.looks_in_period == 6480
    uneven = replace(RULE, candidate_every=timedelta(hours=7))
    assert uneven.looks_in_period * uneven.risk_per_look <= 0.05


@pytest.mark.parametrize(
    ("frauds", "number", "needed"), [(0, 1, 40), (39, 1, 40), (40, 1, 40), (59, 1, 40), (90, 3, 90)]
)
def test_the_highest_look_that_frauds_allow_is_due(frauds: int, number: int, needed: int) -> None:
    """Fails when a look is taken with fewer frauds than planned, or the schedule does not say how many are missing."""
    found = _next(frauds=frauds)
    assert (found.look, found.frauds_needed) == (_look(number), needed)
    assert (found.state is LookState.DUE) == (frauds >= 40)


def test_after_a_pause_only_the_highest_look_is_due() -> None:
    """Fails when a week without runs costs the risk of every look that it skipped."""
    first = _look(1, T - 5 * DAY)
    assert _next(first, frauds=300).look.number == 5
    assert _next(first, _look(5, T - DAY), frauds=300).state is LookState.WAITS_FOR_FRAUDS
    assert _next(first, frauds=10_000).look.number == 9
    assert _next(first, frauds=10_000).state is LookState.DUE


def test_a_new_champion_starts_the_looks_anew() -> None:
    """Fails when a candidate is compared with a new champion on looks that it took against the old one."""
    taken = [_look(number, T - DAY) for number in (1, 2)]
    second = Champion(2, T - 50 * DAY)
    assert _next(*taken, frauds=45, champion=second).look == _look(1, version=2)
    assert risk_ledger([CANDIDATE, *taken], T, RULE).opened == 2


def test_few_cards_wait() -> None:
    """Fails when forty frauds of three cards count as evidence."""
    assert _next(frauds=40, cards=14).state is LookState.WAITS_FOR_CARDS
    assert _next(frauds=40, cards=15).state is LookState.DUE
    assert _next(frauds=39, cards=14).state is LookState.WAITS_FOR_FRAUDS


def test_a_look_beyond_the_risk_waits_and_the_best_come_first() -> None:
    """Fails when a busy month promotes falsely more often, or a look that waited is lost."""
    others = [CandidateKey(T - RISK_PERIOD + timedelta(hours=n), "other") for n in range(30)]
    spent = [_look(n % 9 + 1, T - 10 * DAY, others[n // 9]) for n in range(269)]
    keys = [CandidateKey(KEY.label_cutoff + n * DAY, "recipe") for n in range(3)]
    candidates = [Candidate(key, key.label_cutoff - MATURITY, 1.5, key.label_cutoff) for key in keys]
    counts = {key: HoldoutCounts(frauds, 100) for key, frauds in zip(keys, (50, 95, 70), strict=True)}
    found = next_looks([*spent, *candidates], CHAMPION, counts, T, RULE)
    assert [look.look.candidate for look in found] == [keys[1], keys[2], keys[0]]
    assert [look.state for look in found] == [LookState.DUE, LookState.WAITS_FOR_RISK, LookState.WAITS_FOR_RISK]
    later = next_looks(
        [*spent, *candidates], CHAMPION, counts, T - 10 * DAY + RISK_PERIOD, replace(RULE, shadow=60 * DAY)
    )
    assert {look.state for look in later} == {LookState.DUE}


def test_candidates_retire_for_a_reason() -> None:
    """Fails when candidates pile up, or one disappears without a reason in the log."""

    def reasons(*entries: LogEntry, champion: Champion = CHAMPION, at: datetime = T) -> list[RetirementReason]:
        return [one.reason for one in due_retirements([CANDIDATE, *entries], champion, at, RULE)]

    assert reasons() == []
    assert reasons(at=KEY.label_cutoff + 28 * DAY) == []
    assert reasons(at=KEY.label_cutoff + 28 * DAY + timedelta(hours=1)) == [RetirementReason.EXPIRED]
    assert reasons(_look(9)) == [RetirementReason.ALL_LOOKS_TAKEN]
    younger = Champion(2, CANDIDATE.training_end)
    assert reasons(champion=younger) == [RetirementReason.OVERTAKEN]
    assert reasons(champion=replace(younger, refit_of=KEY)) == []
    assert reasons(Retirement(KEY, T, RetirementReason.EXPIRED), _look(9)) == []
    assert alive_candidates([CANDIDATE, _look(9)], CHAMPION, T, RULE) == ()


def test_one_candidate_is_opened_on_each_point_of_the_grid() -> None:
    """Fails when hourly runs freeze a model each, a day passes without one, or a first champion waits a week."""
    midnight = T.replace(hour=0)

    def opened(*entries: LogEntry, at: datetime = T, recipe: str = "recipe") -> list[datetime]:
        return [key.label_cutoff for key in candidates_to_open(entries, recipe, CHAMPION, at, RULE, MATURITY)]

    yesterday = Candidate(CandidateKey(midnight - DAY, "recipe"), T - 8 * DAY, 1.5, T - DAY)
    today = Candidate(CandidateKey(midnight, "recipe"), T - 7 * DAY, 1.5, T)
    assert opened() == [midnight, T - BACKFILL]
    assert opened(yesterday) == [midnight]
    assert opened(yesterday, today) == []
    assert opened(yesterday, today, at=midnight + timedelta(hours=23)) == []
    assert opened(yesterday, today, at=midnight + DAY) == [midnight + DAY]
    assert opened(yesterday, today, recipe="new") == [midnight, T - BACKFILL]


def test_rare_runs_open_an_older_candidate_as_well() -> None:
    """Fails when a bank that retrains every three weeks always waits three weeks for its first look."""
    midnight = T.replace(hour=0)
    old = Candidate(CandidateKey(midnight - 21 * DAY, "recipe"), T - 28 * DAY, 1.5, T - 21 * DAY)
    keys = candidates_to_open([old], "recipe", CHAMPION, T, RULE, MATURITY)
    assert [key.label_cutoff for key in keys] == [midnight, T - BACKFILL]
    weekly = Candidate(CandidateKey(midnight - 7 * DAY, "recipe"), T - 14 * DAY, 1.5, T - 7 * DAY)
    keys = candidates_to_open([old, weekly], "recipe", CHAMPION, midnight, RULE, MATURITY)
    assert [key.label_cutoff for key in keys] == [midnight], "the one of a week ago was opened then"


def test_no_candidate_is_opened_beside_29() -> None:
    """Fails when many recipes fill the storage with models and a run with their scores."""
    crowd = [replace(CANDIDATE, key=CandidateKey(KEY.label_cutoff, str(n))) for n in range(29)]
    assert candidates_to_open(crowd[:28], "recipe", CHAMPION, T, RULE, MATURITY) != ()
    assert candidates_to_open(crowd, "recipe", CHAMPION, T, RULE, MATURITY) == ()


def test_a_candidate_that_the_champion_overtakes_is_not_opened() -> None:
    """Fails when each rare run trains a second model only to retire it at once."""
    midnight = T.replace(hour=0)
    for age, expected in ((14 * DAY, [midnight]), (15 * DAY, [midnight, T - BACKFILL]), (6 * DAY, [])):
        champion = Champion(1, T - age)
        keys = candidates_to_open([], "recipe", champion, T, RULE, MATURITY)
        assert [key.label_cutoff for key in keys] == expected
        opened = [Candidate(key, key.label_cutoff - MATURITY, 1.5, T) for key in keys]
        assert due_retirements(opened, champion, T, RULE) == ()


def test_hourly_candidates_cover_their_whole_life() -> None:
    """Fails when 29 models of one day fill the shadow for four weeks, and no later one learns a new fraud."""
    rule = SequentialRule(candidate_every=timedelta(hours=1))
    log: list[LogEntry] = []
    for hour in range(24 * 60):
        now = T + timedelta(hours=hour)
        (key,) = candidates_to_open(log, "recipe", CHAMPION, now, rule, MATURITY)[:1]
        assert key.label_cutoff == now, "one an hour"
        log.append(Candidate(key, now - MATURITY, 1.5, now))
        log += due_retirements(log, CHAMPION, now, rule)
        alive = alive_candidates(log, CHAMPION, now, rule)
        assert len(alive) <= rule.most_alive
        if hour > 24 * 28:
            ages = [(now - one.key.label_cutoff) / timedelta(hours=1) for one in alive]
            assert ages[0] > 24 * 14
            assert all(older <= 2 * younger + 2 for older, younger in pairwise(ages)), ages
            assert sum(age < 24 for age in ages) >= 8, ages
    reasons = {entry.reason for entry in log if isinstance(entry, Retirement)}
    assert reasons == {RetirementReason.CROWDED_OUT, RetirementReason.EXPIRED}


def test_the_candidates_of_the_default_settings_never_crowd() -> None:
    """Fails when a daily candidate is dropped before its last look, whose risk is set aside for it."""
    log: list[LogEntry] = []
    for day in range(100):
        log += _run(log, CHAMPION, T + day * DAY, RULE, 45)
    assert RetirementReason.CROWDED_OUT not in {entry.reason for entry in log if isinstance(entry, Retirement)}


def test_the_next_opening_is_the_next_point_of_the_grid() -> None:
    """Fails when the schedule pays for runs that open nothing, or lets a day pass on which one is to be opened."""
    midnight = T.replace(hour=0)
    assert next_opening(T, RULE) == midnight + DAY
    assert next_opening(midnight, RULE) == midnight + DAY
    assert next_opening(T, replace(RULE, candidate_every=timedelta(hours=1))) == T + timedelta(hours=1)


def test_spent_risk_returns_with_the_oldest_look_of_the_period() -> None:
    """Fails when the schedule pays for looks that no risk is left for, or never looks again."""
    rule = replace(RULE, candidate_every=timedelta(days=15), looks=2)
    looks = [_look(number, T - days * DAY) for number, days in ((1, 31), (2, 20), (3, 10), (4, 5), (5, 1))]
    assert risk_returns(looks[:4], T, rule) is None
    returns = risk_returns(looks, T, rule)
    assert returns == T + 10 * DAY
    assert risk_ledger(looks, returns - timedelta(hours=1), rule).left == 0
    assert risk_ledger(looks, returns, rule).left == 1


def test_models_are_compared_on_rows_that_neither_was_trained_on() -> None:
    """Fails when a model is compared on its own training rows, or a recipe on the rows it was tuned on."""
    assert holdout_start(CANDIDATE, CHAMPION) == CANDIDATE.training_end
    assert holdout_start(CANDIDATE, Champion(2, T)) == T
    assert holdout_start(CANDIDATE, CHAMPION, recipe_first_seen=T - DAY) == T - DAY
    assert holdout_start(CANDIDATE, CHAMPION, recipe_first_seen=T - 90 * DAY) == CANDIDATE.training_end
    assert holdout_start(CANDIDATE, CHAMPION, training_gap=7 * DAY) == CANDIDATE.training_end + 7 * DAY
    assert holdout_start(CANDIDATE, CHAMPION, T, 7 * DAY) == max(T, CANDIDATE.training_end + 7 * DAY)


LIMITS = [
    (0.12, 3.76, True),
    (0.12, 3.74, False),  # Student's quantile for 0.8 p is 3.7515
    (0.12, math.inf, True),
    (0.1020, 9.0, False),  # ln(5/p) / 100 = 0.10204
    (0.1021, 9.0, True),
    (-0.2, -math.inf, False),
    (math.nan, math.nan, False),
]


@pytest.mark.parametrize(("difference", "root", "passes"), LIMITS)
def test_a_look_passes_only_if_it_reaches_every_limit(difference: float, root: float, passes: bool) -> None:
    """Fails when a model is promoted that is not surely, seen on enough cards, and noticeably better."""
    assert look_limits(100, RULE).reached_by(LookResult(difference, root, 200, 100)) == passes


def test_frauds_on_many_cards_make_the_minimum_effect_the_limit() -> None:
    """Fails when a noticeable gain is refused although nothing of note can be unseen, or a negligible one promoted."""
    limits = look_limits(2000, RULE)
    assert limits.least_difference == RULE.minimum_effect
    assert not limits.reached_by(LookResult(0.009, 9.0, 2000, 2000))


def test_both_ways_to_err_share_the_risk_of_a_look() -> None:
    """Fails when a look that can err in two ways has the risk of two looks."""
    limits = look_limits(40, RULE)
    by_chance = scipy.stats.t.sf(limits.root, 39)
    unseen = math.exp(-40 * limits.difference_for_unseen_cards)
    assert by_chance + unseen == pytest.approx(RULE.risk_per_look)


def test_a_look_is_measured_by_the_cards_contributions() -> None:
    """Fails when the statistic of a look is not that of its cards."""
    cards = CardContributions(np.array([-0.01, 0.0, 0.02, 0.03]), np.array([1.0, 0.0, 3.0, 2.0]))
    result = measure_look(cards)
    assert result.difference == pytest.approx(0.04)
    assert result.root == signed_root(cards.contribution)
    assert (result.frauds, result.fraud_cards) == (6, 3)


def test_the_unseen_card_bound_can_be_switched_off() -> None:
    """Fails when the setting that gives up this protection does nothing."""
    limits = look_limits(20, replace(RULE, unseen_card_bound=False))
    assert limits.difference_for_unseen_cards == 0.0
    assert limits.least_difference == RULE.minimum_effect
    assert scipy.stats.t.sf(limits.root, 19) == pytest.approx(RULE.risk_per_look)


def test_the_winner_is_the_surest_then_the_largest_then_the_youngest() -> None:
    """Fails when the same looks in another order promote another model, or a failed look is promoted."""
    keys = [CandidateKey(KEY.label_cutoff + n * DAY, "recipe") for n in range(4)]
    results = [(0.1, 5.0, True), (0.2, 5.0, True), (0.2, 5.0, True), (0.9, math.inf, False)]
    closed = [
        ClosedLook(_look(1, key=key), LookResult(difference, root, 60, 40), passed)
        for key, (difference, root, passed) in zip(keys, results, strict=True)
    ]
    for order in (closed, closed[::-1]):
        best = best_look(order)
        assert best is not None
        assert best.look.candidate == keys[2]
    assert best_look(closed[3:]) is None
