"""The guards of a winner's refit: pure functions of labels and scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fraud_detection.promotion.refit import LARGEST_LOSS, LEAST_AGREEMENT, check_refit, top_agreement

RNG = np.random.default_rng(0)
FRAUD = (RNG.random(5_000) < 0.02).astype(np.int8)
WINNER = np.where(FRAUD == 1, RNG.normal(2.0, 1.0, 5_000), RNG.normal(0.0, 1.0, 5_000))


def verdicts(refit: NDArray[np.float64] | None) -> dict[str, bool]:
    return {check.name: check.passed for check in check_refit(FRAUD, WINNER, refit)}


def test_a_refit_that_ranks_like_the_winner_passes_every_guard() -> None:
    """Fails when a sound refit is held back, and the new pattern's youngest frauds are not learned."""
    near = WINNER + RNG.normal(0.0, 0.05, len(WINNER))
    assert verdicts(near) == {"refit_reloads": True, "refit_average_precision": True, "refit_agreement": True}


def test_a_refit_that_cannot_be_loaded_back_fails() -> None:
    """Fails when a model whose files are damaged is brought into service."""
    assert verdicts(None) == {"refit_reloads": False}


def test_a_refit_that_loses_average_precision_fails() -> None:
    """Fails when a refit that unsound labels have spoiled replaces the model that won."""
    spoiled = np.where(FRAUD == 1, WINNER - 1.0, WINNER)
    assert not verdicts(spoiled)["refit_average_precision"]


def test_the_loss_that_is_allowed_is_that_of_the_rule() -> None:
    """Fails when the guard allows another loss of average precision than it documents."""
    (check,) = (one for one in check_refit(FRAUD, WINNER, WINNER) if one.name == "refit_average_precision")
    assert check.value is not None
    assert check.limit == pytest.approx(check.value - LARGEST_LOSS)
    assert pytest.approx(0.01) == LARGEST_LOSS
    assert pytest.approx(0.8) == LEAST_AGREEMENT


def test_a_refit_that_orders_the_alarms_differently_fails_though_its_precision_is_the_same() -> None:
    """Fails when investigators get other cards first than the model that was evaluated would have given them."""
    top = np.argsort(-WINNER)[:50]
    shuffled = WINNER.copy()
    shuffled[top] = RNG.permutation(WINNER[top])
    assert not verdicts(shuffled)["refit_agreement"]


def test_a_refit_that_scores_all_alarms_alike_fails() -> None:
    """Fails when an agreement that cannot be computed counts as one."""
    assert not verdicts(np.zeros(len(WINNER)))["refit_agreement"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=12, max_size=60))
def test_agreement_is_spearmans_correlation_on_the_winners_top_rows(pairs: list[tuple[int, int]]) -> None:
    """Fails when ties, or the choice of rows, change the correlation that the limit refers to."""
    winner, refit = np.array(pairs, dtype=np.float64).T
    top = np.argsort(-winner, kind="stable")[:10]
    found = top_agreement(winner, refit)
    if len(set(winner[top])) == 1 or len(set(refit[top])) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(winner[top], refit[top]).statistic)


@settings(deadline=None)
@given(st.integers(0, 1_000))
def test_agreement_does_not_depend_on_the_scale_of_the_scores(seed: int) -> None:
    """Fails when a refit is refused because its probabilities are higher, which ranks nothing differently."""
    winner, refit = np.random.default_rng(seed).random((2, 2_000))
    assert top_agreement(winner, np.exp(3 * refit)) == pytest.approx(top_agreement(winner, refit))
