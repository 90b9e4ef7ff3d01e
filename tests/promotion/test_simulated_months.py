"""The benchmark of the promotion rule: what it says of the rule is only worth something if it applies that rule."""

import json

import numpy as np
import pytest
import scipy.stats

from benchmarks.promotion import (
    GAINS,
    NULLS,
    REACTIONS,
    RULES,
    SIZES,
    Found,
    Size,
    failures,
    gain_pair,
    interval,
    measured,
    median_interval,
    null_pair,
)
from benchmarks.promotion_drift import Drift, Reaction, react
from benchmarks.promotion_months import GUARDED, PROPOSED, Month, MonthlyRun, Pair, Passed, schedule_agrees, simulate
from benchmarks.promotion_scores import Model, Population, World

SMALL = World(noise=0.5, fraud_latent=3.9, frauds_per_day=12.0)


@pytest.fixture(scope="module")
def pair() -> Pair:
    """Equal models on few frauds a day."""
    population = Population.of(SMALL, 1, 100.0)
    return Pair(SMALL, Model(), Model(), (population.curve(Model()), population.curve(Model())))


@pytest.mark.slow
@pytest.mark.proof  # CI runs the benchmark itself
def test_the_simulated_schedule_is_the_projects(pair: Pair) -> None:
    """Fails when the benchmark takes other looks than a run would, and its risk is not the risk of the rule."""
    assert schedule_agrees(pair, np.random.default_rng(0)) > 50


def test_the_approximation_leaves_out_no_look_that_passes(pair: Pair) -> None:
    """Fails when the benchmark counts too few false promotions because it does not measure every look."""
    month = simulate(MonthlyRun(pair, measure_all=True), np.random.default_rng(0))
    assert month.exact == month.looks > 50
    assert month.screened_wrongly == 0
    assert abs(np.mean(month.fast_errors)) < 0.005


@pytest.mark.slow
@pytest.mark.proof  # CI runs the benchmark itself
def test_a_large_gain_is_promoted_after_a_sudden_drift() -> None:
    """Fails when the benchmark cannot promote at all, and shows no false promotions for that reason."""
    found = react(Drift(World(noise=0.5, fraud_latent=3.9), look_every=24), np.random.default_rng(0))
    assert found.first_promotion is not None
    assert 100 < found.first_promotion < 500


@pytest.mark.parametrize(("count", "of"), [(0, 100), (3, 100), (7, 20), (100, 100)])
def test_the_interval_is_clopper_and_pearsons(count: int, of: int) -> None:
    """Fails when the table shows wrong intervals."""
    expected = scipy.stats.binomtest(count, of).proportion_ci(0.95, "exact")
    assert interval(count, of) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("of", "low", "high"), [(4, 1, 4), (6, 1, 6), (40, 14, 27), (100, 40, 61)])
def test_the_interval_of_a_median_is_of_its_order(of: int, low: int, high: int) -> None:
    """Fails when a drift that is too slow is taken for chance, or chance for too slow."""
    assert median_interval([float(value) for value in range(of, 0, -1)]) == (low, high)


def _found(size: Size, false_promotions: int, days: float, first: float, guarded: int) -> Found:
    """So many false promotions in one null; every gain promoted after so many days, some without guardrails alone."""
    bad = [Month({PROPOSED: Passed(3.0, 100, 0.1)} if n < false_promotions else {}) for n in range(size.months)]
    passed = Passed(days, 100, 0.1)
    gained = [
        Month({PROPOSED: passed, GUARDED: passed} if n < guarded else {PROPOSED: passed})
        for n in range(size.gain_months)
    ]
    share = 1 - 0.001 * first  # of the new pattern that is served
    reaction = Reaction(6, [share] * 100, [1.0] * 100, first)
    return Found(
        size,
        nulls={null.name: [Month()] * size.months for null in NULLS} | {"A/A, pair i": bad},
        gains={gain.name: gained for gain in size.gains},
        reactions={one.name: [reaction] * size.reactions for one in REACTIONS},
        drop=0.28,
    )


@pytest.mark.parametrize(
    ("kind", "false_promotions", "days", "first", "guarded", "missed"),
    [
        ("check", 6, 0.9, 100.0, 30, ""),
        ("check", 7, 0.9, 100.0, 30, "A/A, pair i: promoted falsely in 7 of 50"),
        ("check", 0, 20.0, 100.0, 30, "designed: 92 %"),
        ("check", 0, 8.0, 100.0, 30, "30 of 30 not promoted within a week; allowed: 5%"),
        ("check", 0, 0.9, 500.0, 30, "drift, maturity 7 days: first promotion after 500.00; at most 300"),
        ("check", 0, 0.9, 100.0, 24, "guardrails cost 6 of 30"),
        ("full", 18, 0.9, 100.0, 95, ""),
        ("full", 20, 0.9, 100.0, 100, "A/A, pair i: 20 of 400 months; the upper bound"),
        ("full", 21, 0.9, 100.0, 100, "A/A, pair i: promoted falsely in 21 of 400"),
        ("full", 0, 0.9, 100.0, 94, "guardrails cost 6 of 100"),
        ("full", 0, 0.9, 302.0, 100, "80 % of the gain"),
    ],
)
def test_a_missed_target_is_named(
    kind: str, false_promotions: int, days: float, first: float, guarded: int, missed: str
) -> None:
    """Fails when the benchmark passes although the rule promotes falsely, too rarely or too late."""
    lines = list(failures(_found(SIZES[kind], false_promotions, days, first, guarded)))
    assert (lines == []) if not missed else any(missed in line for line in lines)


def test_looks_that_cost_too_many_hours_are_named() -> None:
    """Fails when looks every six hours answer a new fraud half a day later than hourly ones, and nobody is told."""
    size = SIZES["check"]
    found = _found(size, 0, 0.9, 100.0, size.gain_months)
    found.reactions[REACTIONS[1].name] = [Reaction(1, [0.9] * 100, [1.0] * 100, 88.0)] * size.reactions
    assert list(failures(found)) == ["drift: looks every six hours cost 12 h against hourly ones; at most 6"]


def test_many_nulls_show_what_one_cannot() -> None:
    """Fails when a rule that promotes falsely a little too often everywhere passes the quick check."""
    size = SIZES["check"]
    found = _found(size, 4, 0.9, 100.0, size.gain_months)
    found.nulls = dict.fromkeys(found.nulls, found.nulls["A/A, pair i"])
    assert list(failures(found)) == ["all nulls: promoted falsely in 52 of 650 months; allowed: 5%, at most 7.5%"]


def test_the_data_behind_the_plots_are_what_was_measured() -> None:
    """Fails when the plots of the documentation show other figures than the table beside them."""
    data = measured(_found(SIZES["check"], 3, 2.0, 100.0, 30))
    assert data["nulls"]["A/A, pair i"] == {"months": 50} | dict.fromkeys(RULES, 0) | {PROPOSED: 3}
    assert data["gains"][GAINS[0].name] == {"months": 30, "hours": [48] * 30}
    assert data["reactions"]["today"] == {"look_every": 6, "served": [0.9] * 100, "best": [1.0] * 100}
    assert json.loads(json.dumps(data)) == data


def test_the_pairs_differ_by_what_they_say() -> None:
    """Fails when equal models are not equal in truth, or a gain is another than the table names."""
    for null in (NULLS[0], NULLS[2], NULLS[-1]):
        assert null_pair(null, days=60.0)[1] == pytest.approx(-null.worse, abs=0.001)
    assert gain_pair(GAINS[3], days=60.0)[1] == pytest.approx(0.056, abs=0.003)
