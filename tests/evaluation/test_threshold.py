"""The threshold of alerts: one that is wrong floods the investigators, or lets frauds pass that they had time for."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_detection.evaluation import Holdout, fit_threshold
from fraud_detection.evaluation.bootstrap import _times_drawn
from fraud_detection.evaluation.threshold import estimate_total
from fraud_detection.schema import AlertFigures, Threshold
from fraud_detection.settings import Alerts

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Rows:
    """Transactions of some cards over some days, with ties among the scores and whole amounts."""

    def __init__(self, seed: int, rows: int = 60, days: int = 4, cards: int = 8) -> None:
        random = np.random.default_rng(seed)
        self.days = days
        self.fraud = (random.random(rows) < 0.25).astype(np.int8)
        self.fraud[0] = 1
        day = random.integers(0, days, rows)
        day[0] = 0
        self.holdout = Holdout(day, self.fraud, random.integers(1, 50, rows), random.integers(0, cards, rows))
        self.score = np.round(np.clip(0.3 * self.fraud + random.random(rows) * 0.7, 0, 1), 1)

    def fit(self, days: int | None = None, **alerts: Any) -> Threshold:
        return fit_threshold(self.holdout, self.score, START, START + (days or self.days) * DAY, Alerts(**alerts))

    def part(self, chosen: NDArray[np.bool_]) -> "Simulation":
        columns = (self.holdout.day, self.holdout.card, self.fraud, self.holdout.amount, self.score)
        return Simulation(*(np.asarray(column)[chosen] for column in columns))

    @property
    def earlier(self) -> "Simulation":
        return self.part(np.asarray(self.holdout.day) < math.ceil(self.days / 2))

    @property
    def later(self) -> "Simulation":
        return self.part(np.asarray(self.holdout.day) >= math.ceil(self.days / 2))


class Simulation:
    """What investigators live through, day by day and card by card."""

    def __init__(self, day: Any, card: Any, fraud: Any, amount: Any, score: Any) -> None:
        self.day, self.card, self.fraud, self.amount, self.score = day, card, fraud, amount, score

    def alerts(self, threshold: float) -> list[tuple[int, int, bool]]:
        """The day and the card of each alert, and whether the card has a fraud on that day."""
        found: set[int] = set()
        raised = []
        for day in sorted(set(self.day)):
            for card in sorted(set(self.card)):
                own = (self.day == day) & (self.card == card)
                if card in found or not np.any(self.score[own] >= threshold):
                    continue
                compromised = bool(np.any(self.fraud[own] == 1))
                raised.append((day, card, compromised))
                if compromised:
                    found.add(card)
        return raised

    def net(self, threshold: float, cost: float, share: float = 1.0) -> float:
        caught = self.amount[(self.score >= threshold) & (self.fraud == 1)].sum()
        return float(share * caught - cost * len(self.alerts(threshold)))

    def require(self, figures: AlertFigures, threshold: float, days: float, share: float = 1.0) -> None:
        """Hold figures to what was lived through."""
        raised = self.alerts(threshold)
        hits = [card for _, card, compromised in raised if compromised]
        compromised = {card for card, fraud in zip(self.card, self.fraud, strict=True) if fraud}
        high, frauds = self.score >= threshold, self.fraud == 1
        caught, by_day = self.amount[high & frauds].sum(), [day for day, _, _ in raised]
        assert figures.alerts_a_day == pytest.approx(len(raised) / days)
        assert figures.most_alerts == max((by_day.count(day) for day in by_day), default=0)
        assert figures.precision == (pytest.approx(len(hits) / len(raised)) if raised else None)
        assert figures.recall == (pytest.approx(len(hits) / len(compromised)) if compromised else None)
        assert figures.value_precision == (pytest.approx(caught / self.amount[high].sum()) if high.any() else None)
        whole = self.amount[frauds].sum()
        assert figures.value_recall == (pytest.approx(caught / whole) if whole else None)
        assert figures.value_a_day.value == pytest.approx(share * caught / days)


@given(seed=st.integers(0, 2**32), budget=st.integers(1, 10), days=st.integers(2, 5))
@settings(max_examples=80, deadline=None)
def test_the_budget_sets_the_lowest_threshold_that_keeps_it(seed: int, budget: int, days: int) -> None:
    """Fails when investigators get more cards a day than they can review, or fewer than they have time for."""
    rows = Rows(seed, days=days)
    found = rows.fit(cards_a_day=budget)
    length = math.ceil(days / 2)
    scores = np.unique(rows.earlier.score)
    kept = [score for score in scores if len(rows.earlier.alerts(score)) <= budget * length]
    assert found.probability == (min(kept) if kept else scores[-1])
    rows.earlier.require(found.fitted, found.probability, length)
    if found.checked is not None:
        rows.later.require(found.checked, found.probability, days - length)
    assert (found.cards_a_day, found.review_cost, found.fitted.net_value_a_day) == (budget, None, None)


@given(
    seed=st.integers(0, 2**32),
    budget=st.none() | st.integers(1, 6),
    cost=st.integers(1, 60),
    share=st.sampled_from([0.5, 1.0]),
)
@settings(max_examples=80, deadline=None)
def test_costs_set_the_threshold_of_the_largest_net_value_within_the_budget(
    seed: int, budget: int | None, cost: int, share: float
) -> None:
    """Fails when reviews cost more than they save at the chosen threshold, while another would have paid."""
    rows = Rows(seed)
    found = rows.fit(cards_a_day=budget, review_cost=cost, loss_share=share)
    scores = np.unique(rows.earlier.score)
    kept = [one for one in scores if budget is None or len(rows.earlier.alerts(one)) <= budget * 2] or [scores[-1]]
    net = {score: rows.earlier.net(score, cost, share) for score in kept}
    best = max(net.values())
    assert found.probability == (max(one for one in kept if net[one] == best) if best > 0 else math.inf)
    rows.earlier.require(found.fitted, found.probability, 2, share)
    assert found.fitted.net_value_a_day is not None
    assert found.fitted.net_value_a_day.value == pytest.approx(max(best, 0) / 2)
    if found.checked is not None:
        rows.later.require(found.checked, found.probability, 2, share)
        assert found.checked.net_value_a_day is not None
        assert found.checked.net_value_a_day.value == pytest.approx(
            rows.later.net(found.probability, cost, share) / 2 if best > 0 else 0.0
        )


@given(seed=st.integers(0, 2**32), factor=st.sampled_from([0.5, 4.0]))
@settings(max_examples=30, deadline=None)
def test_order_names_currency_and_later_rows_do_not_matter(seed: int, factor: float) -> None:
    """Fails when the other engine, another currency or the days that check it give another threshold."""
    rows = Rows(seed)
    costs: dict[str, Any] = {"cards_a_day": 3, "review_cost": 8.0}
    found = rows.fit(**costs)
    order = np.random.default_rng(seed).permutation(len(rows.score))
    columns = (rows.holdout.day, rows.fraud, rows.holdout.amount, rows.holdout.card)
    day, fraud, amount, card = (np.asarray(column)[order] for column in columns)
    shuffled = Holdout(day, fraud, amount, np.array([f"card {9 - one}" for one in card]))
    assert fit_threshold(shuffled, rows.score[order], START, START + 4 * DAY, Alerts(**costs)) == found
    dear = replace(rows.holdout, amount=np.asarray(rows.holdout.amount) * factor)
    priced = Alerts(cards_a_day=3, review_cost=8.0 * factor)
    assert fit_threshold(dear, rows.score, START, START + 4 * DAY, priced).probability == found.probability
    late = np.where(np.asarray(rows.holdout.day) < 2, rows.score, 0.9)
    changed = fit_threshold(rows.holdout, late, START, START + 4 * DAY, Alerts(**costs))
    assert (changed.probability, changed.fitted) == (found.probability, found.fitted)


def test_a_model_that_gives_its_highest_score_to_many_cards_alerts_on_them() -> None:
    """Fails when a coarse model alerts on nothing, or the decision ends with an error."""
    rows = Rows(1)
    rows.score = np.where(rows.score > 0.3, 0.8, 0.1)
    found = rows.fit(cards_a_day=1)
    assert found.probability == 0.8
    assert found.fitted.alerts_a_day > 1


def test_no_alert_is_raised_where_none_is_worth_its_review() -> None:
    """Fails when a shop pays more for reviews than it could save."""
    found = Rows(2).fit(review_cost=10_000)
    assert found.probability == math.inf
    assert (found.fitted.alerts_a_day, found.fitted.precision, found.fitted.recall) == (0.0, None, 0.0)
    assert Threshold.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("hours", [7, 24, 47])
def test_a_holdout_of_less_than_two_days_is_not_split(hours: int) -> None:
    """Fails when a run that compares on a few hours ends with an error, or checks a threshold on nothing."""
    rows = Rows(3, days=math.ceil(hours / 24))
    end = START + timedelta(hours=hours)
    found = fit_threshold(rows.holdout, rows.score, START, end, Alerts(cards_a_day=20))
    assert (found.checked, found.fitted.start, found.fitted.end) == (None, START, end)
    assert found.fitted.alerts_a_day <= 20


def test_a_holdout_with_all_frauds_in_its_later_part_is_not_split() -> None:
    """Fails when a few days without frauds make a run say that no alert is worth its review."""
    rows = Rows(4)
    rows.fraud[np.asarray(rows.holdout.day) < 2] = 0
    found = rows.fit(review_cost=0.01)
    assert found.checked is None
    assert math.isfinite(found.probability)


def test_a_last_day_that_is_cut_off_counts_by_its_length() -> None:
    """Fails when a hold-out that ends in the morning makes alerts look rarer than they are."""
    rows = Rows(5, days=4)
    found = fit_threshold(rows.holdout, rows.score, START, START + timedelta(days=3, hours=6), Alerts(cards_a_day=2))
    assert found.checked is not None
    rows.later.require(found.checked, found.probability, 1.25)


def test_without_a_card_each_transaction_is_an_alert() -> None:
    """Fails when transactions without a card are one huge card, or data without cards have no threshold."""
    rows = Rows(6)
    alone = replace(rows.holdout, card=None)
    unknown = replace(rows.holdout, card=np.full(len(rows.score), None))
    for holdout in (alone, unknown):
        found = fit_threshold(holdout, rows.score, START, START + 4 * DAY, Alerts(cards_a_day=5))
        early = np.asarray(rows.holdout.day) < 2
        high = rows.score[early] >= found.probability
        assert found.fitted.alerts_a_day == high.sum() / 2
        assert found.fitted.recall == rows.fraud[early][high].sum() / rows.fraud[early].sum()


def test_the_interval_of_a_total_is_that_of_a_bootstrap_by_card() -> None:
    """Fails when the value caught is shown as more certain than resampling the cards finds it."""
    random = np.random.default_rng(7)
    by_card = np.where(random.random(400) < 0.2, random.lognormal(4, 1, 400), 0.0)
    found = estimate_total(by_card, days=5)
    drawn = random.integers(0, 400, (20_000, 400))
    resampled = by_card @ _times_drawn(drawn, 400) / 5
    assert found.value == pytest.approx(by_card.sum() / 5)
    assert found.high is not None
    assert (found.high - found.value) / 1.99 == pytest.approx(resampled.std(), rel=0.02)


def test_the_interval_holds_what_it_says() -> None:
    """Fails when one interval in five, instead of one in twenty, misses the value that is caught in the long run."""
    random = np.random.default_rng(8)
    worth = 0.1 * math.exp(4 + 0.8**2 / 2) * 2000
    held = 0
    for _ in range(400):
        found = estimate_total(np.where(random.random(2000) < 0.1, random.lognormal(4, 0.8, 2000), 0.0), days=1)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= worth <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_one_card_has_no_interval() -> None:
    """Fails when the only fraud that was caught is shown as certain."""
    found = estimate_total(np.array([0.0, 120.0, 0.0]), days=2)
    assert (found.value, found.low, found.high) == (60.0, None, None)
    assert estimate_total(np.array([1.0, 120.0, 0.0]), days=2).low == 0.0  # what is caught is never negative
