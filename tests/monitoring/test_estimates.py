"""Estimates before labels mature: one that is wrong raises a false alarm, or keeps silent about a blind champion."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.monitoring.estimates import (
    expected_average_precision,
    provisional_average_precision,
    share_known,
)

Floats = NDArray[np.float64]
ROWS = 20_000
DELAY_HOURS = 72.0
"""Mean of the simulated label delays, which are exponential."""

labelled = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=1, max_size=40)


class Week:
    """A week of transactions with calibrated probabilities, whose frauds become known in time."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.probability = 1 / (1 + np.exp(6.5 - 2.0 * self.random.normal(size=ROWS)))
        self.fraud = (self.random.random(ROWS) < self.probability).astype(np.int8)
        self.age = self.random.uniform(0, 168, ROWS)
        self.delay = self.random.exponential(DELAY_HOURS, ROWS)

    @property
    def known_fraud(self) -> NDArray[np.int8]:
        return np.where(self.delay <= self.age, self.fraud, 0).astype(np.int8)

    @property
    def share(self) -> Floats:
        return np.asarray(1 - np.exp(-self.age / DELAY_HOURS))

    def truth(self, least: float = 0.0) -> float:
        old = self.share >= least
        return average_precision(self.fraud[old], self.probability[old])


@given(labelled)
def test_with_all_labels_known_both_are_the_average_precision(rows: list[tuple[int, int]]) -> None:
    """Fails when the estimate of a week does not end at the value that it estimates, once all labels are known."""
    fraud, score = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    found = provisional_average_precision(fraud, score, np.ones(len(fraud)))
    assert found == pytest.approx(average_precision(fraud, score), nan_ok=True)
    certain = expected_average_precision(fraud)  # probabilities of 0 and 1
    assert certain == pytest.approx(1.0 if fraud.any() else math.nan, nan_ok=True)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=40), st.integers(0, 2**32))
def test_estimates_are_shares_and_know_no_order(values: list[float], seed: int) -> None:
    """Fails when the page shows a precision above 1, or another one after the rows were shuffled."""
    probability = np.array(values)
    found = expected_average_precision(probability)
    assert 0 < found <= 1 + 1e-9
    order = np.random.default_rng(seed).permutation(len(values))
    assert expected_average_precision(probability[order]) == pytest.approx(found)
    fraud, share = np.arange(len(values)) % 2, np.linspace(0.1, 1, len(values))
    early = provisional_average_precision(fraud, probability, share)
    assert provisional_average_precision(fraud[order], probability[order], share[order]) == pytest.approx(
        early, nan_ok=True
    )


@given(
    st.lists(st.floats(0, 500), min_size=1, max_size=30),
    st.lists(st.integers(1, 9), min_size=30, max_size=30),
    st.lists(st.floats(0, 600), max_size=20),
)
def test_the_share_known_counts_the_delays_that_are_over(
    delays: list[float], counts: list[int], ages: list[float]
) -> None:
    """Fails when early frauds are weighted by another share than the one that becomes known by their age."""
    frauds = np.array(counts[: len(delays)])
    found = share_known(ages, delays, frauds)
    expected = [frauds[np.array(delays) <= age].sum() / frauds.sum() for age in ages]
    assert found == pytest.approx(np.array(expected))
    assert share_known([600.0], delays) == [1.0]


def test_both_are_unbiased_in_a_world_without_drift() -> None:
    """Fails when the estimates of quiet weeks differ from what the matured labels show, on average."""
    weeks = [Week(seed) for seed in range(60)]
    promised = np.array([expected_average_precision(week.probability) - week.truth() for week in weeks])
    least = 0.1
    early = np.array(
        [
            provisional_average_precision(week.known_fraud, week.probability, week.share, least) - week.truth(least)
            for week in weeks
        ]
    )
    naive = np.array([average_precision(week.known_fraud, week.probability) - week.truth() for week in weeks])
    for errors in (promised, early):
        assert abs(errors.mean()) < 3 * errors.std(ddof=1) / math.sqrt(len(errors))
        assert errors.std(ddof=1) < 0.05
    assert naive.mean() < -0.05  # what counting the unknown as genuine would show


def test_delays_that_were_measured_do_as_well_as_known_ones() -> None:
    """Fails when F from the frauds of matured weeks gives another estimate than the true F."""
    week, past = Week(1), np.random.default_rng(2).exponential(DELAY_HOURS, 3_000)
    found = provisional_average_precision(week.known_fraud, week.probability, share_known(week.age, past))
    assert found == pytest.approx(
        provisional_average_precision(week.known_fraud, week.probability, week.share), abs=0.01
    )


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("twice too high", 0.05, 0.5), ("blind to a new fraud", 0.05, 0.5), ("quiet", -0.04, 0.04)],
)
def test_scores_alone_do_not_see_that_calibration_broke_and_early_labels_do(kind: str, low: float, high: float) -> None:
    """Fails when the docstring promises a limitation that is none, or the estimate from labels shares it."""
    promised, early = [], []
    for seed in range(20):
        week = Week(seed)
        probability = week.probability
        if kind == "twice too high":  # the world has half the frauds
            week.fraud = np.where(week.random.random(ROWS) < 0.5, week.fraud, 0).astype(np.int8)
        elif kind == "blind to a new fraud":  # it looks like anything else
            week.fraud[week.random.choice(ROWS, 200, replace=False)] = 1
        promised.append(expected_average_precision(probability) - week.truth())
        early.append(provisional_average_precision(week.known_fraud, probability, week.share) - week.truth(0.1))
    assert low < np.mean(promised) < high
    assert abs(np.mean(early)) < 3 * np.std(early) / math.sqrt(20) + 0.01


def test_delays_that_depend_on_the_score_make_early_labels_promise_too_much() -> None:
    """Fails when alerts that are investigated at once do not bias the estimate, as its docstring says."""
    errors = []
    for seed in range(20):
        week = Week(seed)
        alerts = week.probability >= np.quantile(week.probability, 0.99)
        week.delay[alerts] = 1.0
        settled = week.delay[week.fraud == 1]
        share = share_known(week.age, settled)
        errors.append(provisional_average_precision(week.known_fraud, week.probability, share) - week.truth())
    assert np.mean(errors) > 0.03


def test_rows_that_are_too_young_are_left_out() -> None:
    """Fails when one fraud of this morning that is known already stands for a thousand."""
    fraud, score, share = np.array([1, 0, 1, 0]), np.array([0.1, 0.9, 0.8, 0.2]), np.array([0.001, 0.001, 0.5, 0.5])
    assert provisional_average_precision(fraud, score, share) == 1.0
    assert math.isnan(provisional_average_precision(fraud, score, np.full(4, 0.01)))


def test_what_cannot_be_estimated_is_refused_or_not_a_number() -> None:
    """Fails when a week without frauds, or data without label times, break the page or show a number."""
    assert math.isnan(expected_average_precision([]))
    assert math.isnan(expected_average_precision([0.0, 0.0]))
    assert math.isnan(provisional_average_precision([0, 0], [0.1, 0.2], [1.0, 1.0]))
    with pytest.raises(ValueError, match="no label delays"):
        share_known([1.0], [])
    with pytest.raises(ValueError, match="least_share is 0"):
        provisional_average_precision([1], [0.1], [1.0], 0)
