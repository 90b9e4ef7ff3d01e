"""The benchmark of the promotion rule: what it says of the rule is only worth something if it applies that rule."""

import numpy as np
import pytest
import scipy.stats

from benchmarks.promotion import GAINS, NULLS, REACTIONS, Found, Size, failures, gain_pair, interval, null_pair
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


def _found(false_promotions: int, days: float, first: float) -> Found:
    """A hundred months and some reactions; every gain is promoted after so many days."""
    months = [Month({PROPOSED: Passed(3.0, 100, 0.1)} if n < false_promotions else {}) for n in range(100)]
    gained = Month({name: Passed(days, 100, 0.1) for name in (PROPOSED, GUARDED)})
    share = 1 - 0.001 * first  # of the new pattern that is served
    reaction = Reaction(6, [share] * 100, [1.0] * 100, first)
    return Found(
        Size(100, 100, 1, GAINS),
        nulls={"A/A": months},
        gains={gain.name: [gained] * 100 for gain in GAINS},
        reactions={one.name: [reaction] for one in REACTIONS},
        drop=0.28,
    )


@pytest.mark.parametrize(
    ("false_promotions", "days", "first", "missed"),
    [
        (5, 0.9, 100.0, ""),
        (6, 0.9, 100.0, "falsely in 6 of 100"),
        (0, 20.0, 100.0, "designed: 92 %"),
        (0, 0.9, 500.0, "300"),
    ],
)
def test_a_missed_target_is_named(false_promotions: int, days: float, first: float, missed: str) -> None:
    """Fails when the benchmark passes although the rule promotes falsely, too rarely or too late."""
    lines = list(failures(_found(false_promotions, days, first)))
    assert (lines == []) if not missed else any(missed in line for line in lines)


def test_the_pairs_differ_by_what_they_say() -> None:
    """Fails when equal models are not equal in truth, or a gain is another than the table names."""
    for null in (NULLS[0], NULLS[2], NULLS[-1]):
        assert null_pair(null, days=60.0)[1] == pytest.approx(-null.worse, abs=0.001)
    assert gain_pair(GAINS[3], days=60.0)[1] == pytest.approx(0.056, abs=0.003)
