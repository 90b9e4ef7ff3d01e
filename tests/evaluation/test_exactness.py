"""The quick ways of counting against the plain ones that they stand for: a decision must not differ by a bit."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_detection.evaluation.card_contributions import (
    average_precision_influence,
    card_contributions,
    score_ranks,
    stable_order,
)
from fraud_detection.evaluation.metrics import card_precision_by_day, cards_found, evaluate

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def influence(fraud: Ints, score: Floats) -> Floats:
    """The formula of `evaluation.card_contributions`, step by step over all scores."""
    distinct, rank = np.unique(score, return_inverse=True)
    step = len(distinct) - 1 - rank
    frauds = np.bincount(step, weights=fraud)
    rows = np.cumsum(np.bincount(step))
    precision = np.cumsum(frauds) / rows
    weight = np.cumsum((frauds / rows)[::-1])[::-1]
    penalty = np.cumsum((frauds * precision / rows)[::-1])[::-1]
    value = np.where(fraud == 1, (precision + weight - penalty)[step], -penalty[step])
    return np.asarray(value / fraud.sum(), np.float64)


def by_card(value: Floats, card: Ints) -> Floats:
    """The sum of each card's values, added in ascending order."""
    codes = np.unique(card, return_inverse=True)[1]
    order = np.lexsort((value, codes))
    return np.asarray(np.bincount(codes[order], weights=value[order]), np.float64)


def hits(day: Ints, card: Ints, fraud: Ints, score: Floats, k: int) -> Iterator[Ints]:
    """The compromised cards among the top k of each day, by sorting all cards of the day."""
    found: set[int] = set()
    for today in np.unique(day):
        rows = [row for row in np.flatnonzero(day == today) if card[row] not in found]
        highest = {one: max(score[row] for row in rows if card[row] == one) for one in card[rows]}
        top = sorted(highest, key=lambda one: (-highest[one], one))[:k]
        compromised = [one for one in top if any(fraud[row] and card[row] == one for row in rows)]
        found |= set(compromised)
        yield np.array(compromised, np.int64)


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[Ints, Ints, Ints, Floats, Floats]:
    """Day, card, fraud (one at least) and two scores, with ties or without."""
    size, steps = draw(st.integers(2, 120)), draw(st.sampled_from([2, 7, 10**9]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    fraud = (random.random(size) < draw(st.sampled_from([0.05, 0.4]))).astype(np.int64)
    fraud[random.integers(0, size)] = 1
    champion, challenger = random.integers(0, steps, (2, size)) / steps
    return random.integers(0, 4, size) * 3, random.integers(0, 30, size), fraud, champion, challenger


@settings(deadline=None)
@given(scored_rows())
def test_influence_and_contributions_are_the_formulas_to_the_last_bit(
    rows: tuple[Ints, Ints, Ints, Floats, Floats],
) -> None:
    """Fails when what makes a look cheap moves a promotion's evidence, so that a repeated run decides otherwise."""
    _, card, fraud, champion, challenger = rows
    for score in (champion, challenger):
        assert np.array_equal(average_precision_influence(fraud, score), influence(fraud, score))
    found = card_contributions(fraud, champion, challenger, card)
    assert found is not None
    plain = by_card(influence(fraud, challenger), card) - by_card(influence(fraud, champion), card)
    assert np.array_equal(found.contribution, np.sort(plain))


@settings(deadline=None)
@given(scored_rows(), st.integers(1, 12))
def test_card_precision_finds_the_cards_that_sorting_finds(
    rows: tuple[Ints, Ints, Ints, Floats, Floats], k: int
) -> None:
    """Fails when a tie at the k-th place, or a day without new cards, counts other cards than the definition."""
    day, card, fraud, score, _ = rows
    plain = list(hits(day, card, fraud, score, k))
    assert card_precision_by_day(day, card, fraud, score, k).tolist() == [len(one) / k for one in plain]
    places = np.searchsorted(np.unique(card), np.concatenate(plain))
    assert cards_found(day, card, fraud, score, k).tolist() == places.tolist()


@settings(deadline=None)
@given(scored_rows())
def test_a_score_that_was_ranked_before_measures_the_same(rows: tuple[Ints, Ints, Ints, Floats, Floats]) -> None:
    """Fails when ranking once for all measurements changes one of them."""
    day, card, fraud, score, _ = rows
    assert evaluate(day, card, fraud, score, score_ranks(score)[0]) == evaluate(day, card, fraud, score)


@pytest.mark.parametrize("count", [3, 2**16, 2**16 + 1, 2**20])
def test_places_are_sorted_stably_whatever_their_number(count: int) -> None:
    """Fails when a hold-out of more than 65,536 cards adds their rows in another order."""
    places = np.random.default_rng(count).integers(0, count, 5_000)
    places[:2] = count - 1
    assert np.array_equal(stable_order(places, count), np.argsort(places, kind="stable"))
