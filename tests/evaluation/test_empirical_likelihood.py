"""Empirical likelihood: the statistic by which a challenger is promoted."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_detection.evaluation.card_contributions import CardContributions
from fraud_detection.evaluation.empirical_likelihood import (
    lower_bound,
    required_root,
    signed_root,
    unseen_card_bound,
)

Floats = NDArray[np.float64]


@st.composite
def contributions(draw: st.DrawFn, least: int = 2, most: int = 40) -> Floats:
    """Contributions of both signs and a sum that is not zero, some heavy-tailed."""
    size, seed = draw(st.integers(least, most)), draw(st.integers(0, 2**32))
    random = np.random.default_rng(seed)
    x = random.normal(size=size) * np.exp(draw(st.sampled_from([0.0, 2.0])) * random.normal(size=size))
    assume(x.min() < 0 < x.max())
    return np.asarray(x, np.float64)


def _sorted(contribution: Floats, frauds: Floats) -> CardContributions:
    order = np.lexsort((frauds, contribution))
    return CardContributions(contribution[order], frauds[order])


@given(contributions(most=6))
@settings(max_examples=50, deadline=None)
def test_the_root_is_that_of_the_most_likely_weights(x: Floats) -> None:
    """Fails when the statistic is not the empirical likelihood ratio that the documentation names."""
    x = x / np.abs(x).max()
    assume(min(-x.min(), x.max()) > 0.05)
    size = len(x)
    low, high = x.argmin(), x.argmax()
    feasible = np.full(size, 0.02)  # weights that sum to 1, and to 0 with the contributions: a start for the optimiser
    feasible[[low, high]] = np.linalg.solve(
        [[1.0, 1.0], [x[low], x[high]]],
        [1 - 0.02 * (size - 2), -0.02 * (x.sum() - x[low] - x[high])],
    )
    assume(feasible.min() > 0.01)
    constraints = [{"type": "eq", "fun": lambda w: w.sum() - 1}, {"type": "eq", "fun": lambda w: w @ x}]
    found = scipy.optimize.minimize(
        lambda w: -np.log(size * w).sum(),
        feasible,
        jac=lambda w: -1 / w,
        bounds=[(1e-9, 1)] * size,
        constraints=constraints,
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assume(found.success)
    assert abs(signed_root(x)) == pytest.approx(math.sqrt(2 * found.fun), abs=1e-4)


@given(contributions())
@settings(deadline=None)
def test_the_tilted_contributions_sum_to_zero(x: Floats) -> None:
    """Fails when the search for λ ends before it has arrived, and a root is too small or too large."""
    x = x if x.sum() > 0 else -x
    size, least = len(x), -x.min()
    tilt = scipy.optimize.brentq(
        lambda u: float(np.sum(x / (1 + u * x / least))), 0.0, 1 - 1 / (size + 1) ** 2, xtol=1e-15
    )
    expected = math.sqrt(2 * np.log1p(tilt * x / least).sum())
    assert signed_root(x) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@given(contributions(), st.integers(0, 2**32), st.sampled_from([2.0**-30, 0.125, 4.0]))
@settings(deadline=None)
def test_neither_order_nor_unit_matters_and_swapped_roles_mirror_it(x: Floats, seed: int, unit: float) -> None:
    """Fails when the order of the cards, or which model is called the champion, changes the evidence."""
    order = np.random.default_rng(seed).permutation(len(x))
    assert signed_root(x[order]) == signed_root(x)
    assert signed_root(unit * x) == signed_root(x)
    assert signed_root(-x) == -signed_root(x)
    assert signed_root(np.append(x, 0.0)) == pytest.approx(signed_root(x), abs=1e-9)


@given(contributions(), st.integers(0, 39), st.floats(0.0, 2.0))
@settings(deadline=None)
def test_the_root_grows_with_every_contribution(x: Floats, index: int, more: float) -> None:
    """Fails when a challenger that does better on a card counts as less certain to be better."""
    better = x.copy()
    better[index % len(x)] += more
    assert signed_root(better) >= signed_root(x) - 1e-7


def test_many_alike_contributions_give_the_usual_statistic() -> None:
    """Fails when the statistic is off by a factor from a number of standard errors."""
    x = np.random.default_rng(0).normal(0.05, 1.0, 4000)
    assert signed_root(x) == pytest.approx(x.sum() / math.sqrt(np.square(x).sum()), rel=0.01)


@pytest.mark.parametrize(
    ("x", "root"),
    [
        ([], 0.0),
        ([0.0], 0.0),
        ([0.0, 0.0], 0.0),
        ([1.0, -1.0], 0.0),
        ([0.3], math.inf),
        ([0.3, 0.0, 0.1], math.inf),
        ([0.3, 0.1, -1e-17], math.inf),  # rounding is no loss
        ([-0.3, 0.0], -math.inf),
        ([3.0, -1.0], math.sqrt(2 * math.log(4 / 3))),  # two values: weights 1/4 and 3/4
        ([1e-200, -1e-201], math.sqrt(-2 * math.log(40 / 121))),
        ([5e-324, 1.0, -5e-324], math.inf),
    ],
)
def test_degenerate_contributions(x: list[float], root: float) -> None:
    """Fails when a hold-out with one card, or two equal models, ends a run with an error or a false certainty."""
    assert signed_root(x) == pytest.approx(root)


def test_a_rare_loss_asks_for_more_than_a_rare_gain() -> None:
    """Fails when a challenger that lost a rare pattern is promoted as easily as one that found it."""
    spread, rare = np.full(200, 0.01), np.full(4, 0.25)
    lost, found = np.append(3 * spread, -rare), np.append(-spread, 3 * rare)
    standard_errors = [x.sum() / math.sqrt(np.square(x).sum()) for x in (lost, found)]
    assert signed_root(lost) / standard_errors[0] < 0.9
    assert signed_root(found) / standard_errors[1] > 0.7


@given(contributions(least=6), st.floats(0.2, 5.0), st.integers(0, 2**32))
@settings(deadline=None)
def test_the_lower_bound_is_where_the_root_is_reached(x: Floats, root: float, seed: int) -> None:
    """Fails when the report shows a bound above zero for a challenger that was refused, or the reverse."""
    x = x / np.abs(x).sum()
    frauds = np.random.default_rng(seed).integers(0, 3, len(x)).astype(np.float64)
    assume(frauds.any())
    cards = _sorted(x, frauds)
    bound = lower_bound(cards, root)
    assert -1.0 <= bound <= cards.difference
    share = cards.frauds / cards.total_frauds
    assert signed_root(cards.contribution - (bound - 1e-8) * share) >= root - 1e-6 or bound < -0.999999
    assert signed_root(cards.contribution - (bound + 1e-8) * share) <= root + 1e-6
    if abs(signed_root(x) - root) > 1e-6:
        assert (bound > 0) == (signed_root(x) >= root)


def test_the_lower_bound_falls_with_the_required_root() -> None:
    """Fails when a higher confidence gives a narrower bound."""
    random = np.random.default_rng(1)
    cards = _sorted(random.normal(0.001, 0.004, 100), random.integers(0, 4, 100).astype(np.float64))
    bounds = [lower_bound(cards, root) for root in (0.01, 1.0, 2.0, 4.0, 8.0)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == pytest.approx(cards.difference, abs=0.001)


def test_one_card_bounds_nothing() -> None:
    """Fails when three hundred frauds of one card promote a model."""
    assert required_root(1e-4, 1) == math.inf
    assert required_root(1e-4, 0) == math.inf
    assert unseen_card_bound(1e-4, 0) == math.inf
    assert unseen_card_bound(1e-4, 1) > 1.0


@pytest.mark.parametrize("cards", [2, 15, 176])
def test_the_required_root_is_a_quantile_of_student(cards: int) -> None:
    """Fails when the risk of a look is another than the one that the ledger counts."""
    assert scipy.stats.t.sf(required_root(0.05 / 270, cards), cards - 1) == pytest.approx(0.05 / 270)


@pytest.mark.parametrize(("risk", "cards"), [(0.05, 50), (0.05 / 270, 100), (0.05 / 270, 600)])
def test_a_pattern_at_the_unseen_card_bound_stays_unseen_as_often_as_the_risk_says(risk: float, cards: int) -> None:
    """Fails when a challenger can lose a rare pattern unseen more often than the risk of a look allows."""
    share = unseen_card_bound(risk, cards)
    assert (1 - min(share, 1.0)) ** cards <= risk
    assert (1 - 0.9 * min(share, 1.0)) ** cards > risk


def test_equal_models_exceed_the_required_root_no_more_often_than_the_risk() -> None:
    """Fails when models that are only equally good are promoted more often than the risk allows."""
    random = np.random.default_rng(2)
    exceeded = 0
    for _ in range(4000):
        cards = random.poisson(60)
        exceeded += signed_root(random.normal(size=cards)) >= required_root(0.025, cards)
    assert exceeded / 4000 <= 0.032
