"""Metrics: models are promoted by these numbers, so they must equal those of scikit-learn and the Handbook."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from fraud_detection.evaluation import Holdout, compare, metrics
from fraud_detection.promotion.rule import check_look
from fraud_detection.promotion.sequential import LookLimits
from fraud_detection.settings import ComparisonSettings, Settings

Labelled = tuple[NDArray[np.int64], NDArray[np.float64]]

LIMITS = LookLimits(1.0, 0.01, 0.01)


@st.composite
def labelled_scores(draw: st.DrawFn) -> Labelled:
    """Labels of both classes, probabilities with many ties."""
    size = draw(st.integers(2, 60))
    fraud = np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    assume(0 < fraud.sum() < size)
    steps = draw(st.sampled_from([2, 5, 1000]))
    score = np.array(draw(st.lists(st.integers(0, steps), min_size=size, max_size=size))) / steps
    return fraud, score


@given(labelled_scores())
def test_average_precision_auc_and_brier_are_scikit_learns(data: Labelled) -> None:
    """Fails when a metric in the report cannot be reproduced with scikit-learn."""
    fraud, score = data
    assert metrics.average_precision(fraud, score) == pytest.approx(reference.average_precision_score(fraud, score))
    assert metrics.roc_auc(fraud, score) == pytest.approx(reference.roc_auc_score(fraud, score))
    assert metrics.brier(fraud, score) == pytest.approx(reference.brier_score_loss(fraud, score))


@given(labelled_scores())
def test_the_curve_is_scikit_learns(data: Labelled) -> None:
    """Fails when the plotted precision-recall curve does not belong to the printed average precision."""
    fraud, score = data
    curve = metrics.precision_recall_curve(fraud, score)
    precision, recall, _ = reference.precision_recall_curve(fraud, score)
    np.testing.assert_allclose(curve.precision, precision[-2::-1])
    np.testing.assert_allclose(curve.recall, recall[-2::-1])


@given(labelled_scores(), st.integers(0, 2**32))
def test_the_order_of_the_rows_does_not_matter(data: Labelled, seed: int) -> None:
    """Fails when ties make a metric depend on the order of rows, and so on the engine."""
    fraud, score = data
    order = np.random.default_rng(seed).permutation(len(fraud))
    assert metrics.average_precision(fraud, score) == metrics.average_precision(fraud[order], score[order])
    assert metrics.roc_auc(fraud, score) == metrics.roc_auc(fraud[order], score[order])


def _handbook_card_precision(table: pd.DataFrame, k: int) -> float:
    """The definition of the Fraud Detection Handbook (4.4), day by day."""
    found: set[int] = set()
    precisions = []
    for day in sorted(table["day"].unique()):
        today = table[(table["day"] == day) & ~table["card"].isin(found)]
        cards = today.groupby("card")[["score", "fraud"]].max().sort_values("score", ascending=False, kind="stable")
        hits = cards.head(k)[cards.head(k)["fraud"] == 1].index
        precisions.append(len(hits) / k)
        found |= set(hits)
    return float(np.mean(precisions))


@given(labelled_scores(), st.integers(0, 2**32), st.integers(1, 8))
@settings(deadline=None)
def test_card_precision_is_the_handbooks(data: Labelled, seed: int, k: int) -> None:
    """Fails when card precision counts transactions, or a card twice, and makes a model look better than it is."""
    fraud, score = data
    random = np.random.default_rng(seed)
    day, card = random.integers(0, 3, len(fraud)), random.integers(0, 12, len(fraud))
    table = pd.DataFrame({"day": day, "card": card, "fraud": fraud, "score": score})
    assert metrics.card_precision_at_k(day, card, fraud, score, k) == pytest.approx(_handbook_card_precision(table, k))
    order = random.permutation(len(fraud))
    shuffled = metrics.card_precision_at_k(day[order], card[order], fraud[order], score[order], k)
    assert shuffled == metrics.card_precision_at_k(day, card, fraud, score, k)


def test_a_card_once_found_is_not_found_again() -> None:
    """Fails when a card that was found, and so blocked, counts again on the next day."""
    by_day = metrics.card_precision_by_day([0, 1, 1], ["a", "a", "b"], [1, 1, 1], [0.9, 0.9, 0.5], k=1)
    assert list(by_day) == [1.0, 1.0]
    assert list(metrics.card_precision_by_day([0, 1], ["a", "a"], [1, 1], [0.9, 0.9], k=1)) == [1.0, 0.0]


def test_without_cards_every_transaction_is_its_own_card() -> None:
    """Fails when a model of data without card ids cannot be judged."""
    assert metrics.card_precision_at_k([0, 0, 0], None, [1, 1, 0], [0.9, 0.8, 0.7], k=2) == 1.0


@given(labelled_scores())
def test_calibration_counts_every_row_once(data: Labelled) -> None:
    """Fails when the calibration leaves out rows, such as those with the highest probabilities."""
    fraud, score = data
    bins = metrics.calibration(fraud, score)
    assert sum(part.transactions for part in bins) == len(fraud)
    assert sum(part.transactions * part.fraud_rate for part in bins) == pytest.approx(fraud.sum())
    assert sum(part.transactions * part.mean_probability for part in bins) == pytest.approx(score.sum())
    assert all(part.low - 1e-12 <= part.mean_probability <= part.high + 1e-12 for part in bins)


@pytest.mark.parametrize("fraud", [[0, 0, 0], [1, 1, 1]])
def test_one_class_alone_is_not_measured(fraud: list[int]) -> None:
    """Fails when a hold-out of one class gets made-up metrics that are compared with real ones."""
    assert metrics.evaluate([0, 0, 0], None, fraud, [0.1, 0.2, 0.3]) is None
    assert math.isnan(metrics.roc_auc(fraud, [0.1, 0.2, 0.3]))


def test_without_frauds_average_precision_is_not_a_number() -> None:
    """Fails when a hold-out without frauds shows an average precision of zero, which reads as a bad model."""
    assert math.isnan(metrics.average_precision([0, 0], [0.1, 0.2]))
    assert math.isnan(metrics.average_precision([], []))


def test_all_metrics_come_together() -> None:
    """Fails when the metrics of one model are calculated from different rows."""
    found = metrics.evaluate([0, 0, 1, 1], ["a", "b", "c", "c"], [1, 0, 1, 0], [0.9, 0.2, 0.6, 0.1])
    assert found is not None
    assert found.average_precision == found.roc_auc == 1.0
    assert found.card_precision_at_100 == 0.01  # one card of a hundred on each day
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.16 + 0.01) / 4)


@pytest.mark.parametrize(
    ("cards", "days", "apart"), [(200, 1, True), (199, 1, False), (200, 3, True), (100, 2, False), (None, 1, False)]
)
def test_card_precision_tells_models_apart_among_two_hundred_cards_a_day(
    cards: int | None, days: int, apart: bool
) -> None:
    """Fails when a shop of 150 cards a day is shown a card precision@100 that every ranking reaches."""
    day = np.repeat(np.arange(days), 3 * (cards or 60))
    card = None if cards is None else np.tile(np.arange(cards), 3 * days)
    assert metrics.tells_models_apart(day, card) is apart


def test_what_cannot_tell_models_apart_is_not_measured_and_refuses_nothing() -> None:
    """Fails when a guardrail that any model passes or fails by chance refuses a better one."""
    rows = np.arange(400)
    fraud, score = (rows % 20 == 0).astype(int), (rows * 7919 % 400) / 400
    found = compare(Holdout(rows // 100, fraud, rows, rows), score, score[::-1], ComparisonSettings(resamples=100))
    assert found is not None
    assert found.challenger.card_precision_at_100 is None
    checks = {check.name: check for check in check_look(found, 0.0, LIMITS, Settings())}
    assert (checks["card_precision_at_100"].value, checks["card_precision_at_100"].passed) == (None, True)
    many = compare(Holdout(rows // 200, fraud, rows, rows), score, score[::-1], ComparisonSettings(resamples=100))
    assert many is not None
    assert many.challenger.card_precision_at_100 is not None
