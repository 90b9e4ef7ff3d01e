"""The guards of a winner's refit: pure functions of labels and scores."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.promotion import RefitScores, check_refit
from fraud_detection.promotion.refit import LARGEST_FACTOR, LARGEST_LOSS, LEAST_YOUNG_SHARE

RNG = np.random.default_rng(0)
FRAUD = (RNG.random(5_000) < 0.02).astype(np.int8)
WINNER = np.where(FRAUD == 1, RNG.beta(4, 2, 5_000), RNG.beta(1, 60, 5_000))
SOUND = RefitScores(FRAUD, WINNER, WINNER * RNG.uniform(0.95, 1.05, len(WINNER)), FRAUD[:2_000], WINNER[:2_000])
PASSED = {"refit_reloads": True, "refit_average_precision": True, "refit_mean_score": True, "refit_young_rows": True}


def verdicts(**changes: Any) -> dict[str, bool]:
    return {check.name: check.passed for check in check_refit(replace(SOUND, **changes))}


def test_a_refit_that_scores_like_the_winner_passes_every_guard() -> None:
    """Fails when a sound refit is held back, and the new pattern's youngest frauds are not learned."""
    assert verdicts() == PASSED


def test_a_refit_that_cannot_be_loaded_back_fails() -> None:
    """Fails when a model whose files are damaged is brought into service."""
    assert [(check.name, check.passed) for check in check_refit(None)] == [("refit_reloads", False)]


def test_a_refit_that_loses_average_precision_fails() -> None:
    """Fails when a refit that unsound labels have spoiled replaces the model that won."""
    spoiled = np.where(FRAUD == 1, WINNER / 50, WINNER * 1.5)
    assert not verdicts(refit=spoiled)["refit_average_precision"]


def test_the_limits_are_those_of_the_documentation() -> None:
    """Fails when the guards allow another loss than they document."""
    limits = {check.name: check.limit for check in check_refit(SOUND)}
    checks = {check.name: check for check in check_refit(replace(SOUND, refit=WINNER))}
    precision = checks["refit_average_precision"].value
    assert precision is not None
    assert checks["refit_average_precision"].limit == pytest.approx(precision - 0.01)
    assert limits["refit_mean_score"] == 2
    assert limits["refit_young_rows"] == pytest.approx(0.2 * precision)
    assert (LARGEST_LOSS, LARGEST_FACTOR, LEAST_YOUNG_SHARE) == (0.01, 2.0, 0.2)


@given(st.floats(0.01, 100))
def test_a_refit_that_expects_far_more_or_fewer_frauds_fails(factor: float) -> None:
    """Fails when a refit that learnt from a day of swapped labels, or from days without labels, serves."""
    assert verdicts(refit=WINNER * factor)["refit_mean_score"] == (0.5 <= factor <= 2)


def test_young_labels_that_are_unlike_all_earlier_ones_are_found() -> None:
    """Fails when a refit serves that learnt labels which belong to other rows: it fits them as well as sound ones."""
    young = RNG.permutation(SOUND.young_fraud)
    assert verdicts(young_fraud=young) == PASSED | {"refit_young_rows": False}
    assert not verdicts(young_fraud=np.zeros_like(young))["refit_young_rows"]


def test_without_younger_rows_nothing_is_asked_of_them() -> None:
    """Fails when data without label times, whose refit has no younger rows, never have a refit in service."""
    nothing = {"young_fraud": FRAUD[:0], "young_winner": WINNER[:0]}
    assert verdicts(**nothing) == {name: True for name in PASSED if name != "refit_young_rows"}
