"""Harm tests: a guardrail that always fails blocks every promotion, one that never fails protects nobody."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_detection.evaluation import metrics
from fraud_detection.evaluation.harm import (
    Change,
    HarmVerdict,
    brier_change,
    calibration_change,
    card_precision_change,
    slice_changes,
)

Floats = NDArray[np.float64]
Measured = Callable[["Rows", Floats, Floats], Change | None]


class Rows:
    """Cards with several rows, some with frauds, over three days."""

    def __init__(self, seed: int, cards: int = 60) -> None:
        random = np.random.default_rng(seed)
        self.card = np.repeat(np.arange(cards), 4)
        self.fraud = ((random.random(cards) < 0.4)[self.card] & (random.random(len(self.card)) < 0.5)).astype(float)
        self.day = random.integers(0, 3, len(self.card))
        self.noise = random.normal(size=(2, len(self.card))) + random.normal(size=(2, cards))[:, self.card]

    def probability(self, model: int, skill: float) -> Floats:
        return np.asarray(1 / (1 + np.exp(-skill * self.fraud - self.noise[model])), np.float64)


def _slice(rows: Rows, champion: Floats, challenger: Floats) -> Change | None:
    masks = {"all": np.ones(len(rows.fraud), np.bool_)}
    return slice_changes(masks, rows.fraud, champion, challenger, rows.card)["all"]


MEASURED: dict[str, tuple[Measured, Callable[[Rows, Floats], float]]] = {
    "brier": (
        lambda rows, a, b: brier_change(rows.fraud, a, b, rows.card),
        lambda rows, score: -metrics.brier(rows.fraud, score),
    ),
    "calibration": (
        lambda rows, a, b: calibration_change(rows.fraud, a, b, rows.card),
        lambda rows, score: -abs(score.sum() / rows.fraud.sum() - 1),
    ),
    "card precision": (
        lambda rows, a, b: card_precision_change(rows.day, rows.fraud, a, b, rows.card, 5),
        lambda rows, score: metrics.card_precision_at_k(rows.day, rows.card, rows.fraud, score, 5),
    ),
    "slice": (_slice, lambda rows, score: metrics.average_precision(rows.fraud, score)),
}
names = pytest.mark.parametrize("name", MEASURED)


@names
@given(seed=st.integers(0, 2**32), skill=st.floats(0.0, 3.0))
@settings(max_examples=15, deadline=None)
def test_a_change_is_the_difference_of_the_metric_and_mirrors(name: str, seed: int, skill: float) -> None:
    """Fails when a guardrail tests another change than the report shows, or favours one of the models."""
    rows, (change, metric) = Rows(seed), MEASURED[name]
    champion, challenger = rows.probability(0, 1.5), rows.probability(1, skill)
    there, back = change(rows, champion, challenger), change(rows, challenger, champion)
    assert there is not None
    assert back is not None
    assert there.value == pytest.approx(metric(rows, challenger) - metric(rows, champion), abs=1e-12)
    assert there.low <= there.value <= there.high
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low), abs=1e-12)


@names
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_the_order_of_rows_changes_no_bit(name: str, seed: int) -> None:
    """Fails when another engine refuses what this one promotes."""
    rows, random = Rows(seed), np.random.default_rng(seed)
    champion, challenger, change = rows.probability(0, 1.5), rows.probability(1, 1.5), MEASURED[name][0]
    before = change(rows, champion, challenger)
    order = random.permutation(len(rows.fraud))
    rows.fraud, rows.card, rows.day = rows.fraud[order], rows.card[order], rows.day[order]
    assert change(rows, champion[order], challenger[order]) == before


@names
def test_the_bounds_hold_the_truth_as_often_as_they_say(name: str) -> None:
    """Fails when a guardrail refuses sound models more often than once in twenty, or hardly ever an unsound one."""
    change, metric = MEASURED[name]
    many = [Rows(seed, 90) for seed in range(1, 161)]
    pairs = [(rows, rows.probability(0, 1.5), rows.probability(1, 2.0)) for rows in many]
    truth = np.mean([metric(rows, challenger) - metric(rows, champion) for rows, champion, challenger in pairs])
    found = [one for one in (change(*pair) for pair in pairs) if one is not None]
    assert np.mean([one.low <= truth for one in found]) >= 0.89
    assert np.mean([one.high >= truth for one in found]) >= 0.89
    assert np.mean([one.low <= truth <= one.high for one in found]) < 0.995


def test_the_change_of_an_equal_model_is_known_exactly() -> None:
    """Fails when a model is refused for being worse than itself."""
    rows = Rows(1)
    score = rows.probability(0, 1.0)
    for change, _ in MEASURED.values():
        assert change(rows, score, score) == Change(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (Change(-0.1, -0.12, -0.08), HarmVerdict.HARMFUL),
        (Change(-0.1, -0.2, -0.05), HarmVerdict.UNDECIDED),
        (Change(0.0, -0.2, 0.2), HarmVerdict.UNDECIDED),
        (Change(0.0, -0.05, 0.2), HarmVerdict.UNDECIDED),
        (Change(0.0, -0.04, 0.04), HarmVerdict.HARMLESS),
        (Change(-0.03, -0.04, -0.02), HarmVerdict.HARMLESS),
        (Change(0.3, -math.inf, math.inf), HarmVerdict.UNDECIDED),
        (Change(math.nan, math.nan, math.nan), HarmVerdict.UNDECIDED),
    ],
)
def test_the_verdict_follows_from_the_bounds_and_the_margin(change: Change, verdict: HarmVerdict) -> None:
    """Fails when a challenger is refused for lack of data, or passes while it is surely worse."""
    assert change.verdict(0.05) is verdict


def test_frauds_of_one_card_decide_nothing() -> None:
    """Fails when a guardrail refuses a model because of one card."""
    fraud, card = np.array([1, 1, 0, 0]), np.array([1, 1, 2, 3])
    champion, challenger = np.array([0.9, 0.8, 0.1, 0.1]), np.array([0.1, 0.1, 0.9, 0.8])
    masks = {"all": np.ones(4, np.bool_), "none": np.array([False, False, True, True])}
    changes = slice_changes(masks, fraud, champion, challenger, card)
    assert changes["none"] is None
    assert changes["all"] is not None
    assert (changes["all"].low, changes["all"].high) == (-math.inf, math.inf)
    assert brier_change([0, 0], [0.1, 0.2], [0.2, 0.1], None) is None
    assert card_precision_change([0, 0], [0, 0], [0.1, 0.2], [0.2, 0.1], None) is None
    assert card_precision_change([0, 0], [1, 1], [0.1, 0.2], [0.2, 0.1], None) is not None
