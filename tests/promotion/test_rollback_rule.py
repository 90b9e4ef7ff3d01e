"""The rule that rolls a champion back: that of promotions with roles swapped, and a risk of its own."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.evaluation.card_contributions import card_contributions
from fraud_detection.promotion.rollback_rule import due_look, risk_of_look, rollback_limits
from fraud_detection.promotion.sequential import HoldoutCounts, SequentialRule, limits_at_risk, measure_look
from fraud_detection.settings import Settings

RULE = SequentialRule()
RISK = Settings().automatic_rollback.risk


def rolled_back(seed: int, advantage: float, risk: float, looks: int = 6) -> bool:
    """Whether a champion is rolled back at any look of its life, on simulated rows of one fraud or two for each card.

    Args:
        seed: of the rows.
        advantage: of the champion, in standard deviations of the predecessor's noise; 0: equal models.
        risk: of the rule.
        looks: how many there are.
    """
    rng = np.random.default_rng(seed)
    cards = math.ceil(RULE.first_look_frauds * 1.5 ** (looks - 1) / 1.5) + 1
    card = np.concatenate([np.repeat(np.arange(cards), rng.integers(1, 3, cards)), np.arange(cards, 5 * cards)])
    fraud = card < cards
    signal = 2.0 * fraud
    champion, predecessor = (signal + rng.normal(size=len(card)) * scale for scale in (1.0, 1.0 + advantage))
    order = rng.permutation(5 * cards)
    arrives, taken = order[card], 0
    for share in (1.5**step for step in range(1 - looks, 1)):
        seen = arrives < share * 5 * cards
        counts = HoldoutCounts(int(fraud[seen].sum()), len(np.unique(card[seen & fraud])))
        number = due_look(counts, taken, RULE)
        measured = card_contributions(fraud[seen], champion[seen], predecessor[seen], card[seen])
        if number is None or measured is None:
            continue
        taken = number
        if rollback_limits(counts.fraud_cards, number, risk, RULE).reached_by(measure_look(measured)):
            return True
    return False


@given(risk=st.floats(1e-4, 0.4), looks=st.integers(1, 500))
def test_all_looks_of_a_life_spend_no_more_than_the_risk(risk: float, looks: int) -> None:
    """Fails when a champion that serves for long is rolled back by chance more often than the setting says."""
    shares = [risk_of_look(risk, number) for number in range(1, looks + 1)]
    assert math.fsum(shares) <= risk
    assert all(later < earlier for earlier, later in pairwise(shares))


@given(frauds=st.integers(0, 100_000), cards=st.integers(0, 1000), taken=st.integers(0, 30))
def test_a_look_is_due_once_and_only_with_enough_frauds(frauds: int, cards: int, taken: int) -> None:
    """Fails when the same evidence is looked at twice, or a handful of cards decides."""
    number = due_look(HoldoutCounts(frauds, cards), taken, RULE)
    if number is None:
        return
    assert number > taken
    assert cards >= RULE.minimum_fraud_cards
    assert frauds >= RULE.first_look_frauds * 1.5 ** (number - 1) - 1e-6
    assert due_look(HoldoutCounts(frauds, cards), number, RULE) is None


@given(seed=st.integers(0, 10_000), shift=st.floats(-2.0, 2.0), risk=st.floats(0.001, 0.4))
def test_swapped_roles_see_the_same_evidence(seed: int, shift: float, risk: float) -> None:
    """Fails when a rollback needs more or less than a promotion at the same risk, or both models win at once."""
    rng = np.random.default_rng(seed)
    fraud = np.arange(300) < 60
    champion = rng.normal(size=300) + fraud
    predecessor = rng.normal(size=300) + fraud * (1 + shift)
    there = card_contributions(fraud, champion, predecessor, None)
    back = card_contributions(fraud, predecessor, champion, None)
    assert there is not None
    assert back is not None
    one, other = measure_look(there), measure_look(back)
    assert one.difference == -other.difference
    assert one.root == pytest.approx(-other.root)
    limits = rollback_limits(60, 1, risk, RULE)
    assert limits == limits_at_risk(risk / 2, 60, RULE)
    assert not (limits.reached_by(one) and limits.reached_by(other))


def test_a_champion_that_is_no_worse_is_kept() -> None:
    """Fails when chance alone takes good champions out of service more often than the risk says."""
    assert sum(rolled_back(seed, 0.0, RISK) for seed in range(150)) <= 6  # 1.5 at most are expected; 7 with p < 0.001
    assert not any(rolled_back(seed, 0.3, RISK) for seed in range(50))


def test_a_champion_that_is_much_worse_is_rolled_back() -> None:
    """Fails when the rule never rolls anything back."""
    assert all(rolled_back(seed, -0.7, RISK) for seed in range(10))
