"""The cards' contributions to a difference: a promotion is decided by them."""

from time import process_time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_detection.evaluation.card_contributions import (
    CardContributions,
    average_precision_influence,
    card_contributions,
    score_ranks,
)
from fraud_detection.evaluation.metrics import average_precision

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rows = tuple[Ints, Floats, Floats, Ints]


@st.composite
def scored_rows(draw: st.DrawFn) -> Rows:
    """Fraud, two scores with ties or without, card."""
    size, steps = draw(st.integers(1, 60)), draw(st.sampled_from([2, 5, 1000]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    fraud = (random.random(size) < draw(st.sampled_from([0.1, 0.5, 1.0]))).astype(np.int64)
    assume(fraud.any())
    champion, challenger = random.integers(0, steps, size=(2, size)) / steps
    return fraud, champion, challenger, random.integers(0, 8, size)


def _contributions(rows: Rows) -> CardContributions:
    found = card_contributions(*rows)
    assert found is not None
    return found


@given(scored_rows())
@settings(deadline=None)
def test_the_contributions_sum_to_the_difference(rows: Rows) -> None:
    """Fails when a promotion is decided on another difference than the report shows."""
    fraud, champion, challenger, card = rows
    expected = average_precision(fraud, challenger) - average_precision(fraud, champion)
    found = _contributions(rows)
    assert abs(found.difference - expected) <= 1e-12
    assert len(found.contribution) == len(np.unique(card))
    assert found.total_frauds == fraud.sum()
    assert found.fraud_cards == len(np.unique(card[fraud == 1]))


@given(scored_rows(), st.sampled_from([1, -1, 10**6, 2**40]))
@settings(deadline=None)
def test_ranks_count_as_their_scores_and_numbers_as_names(rows: Rows, unit: int) -> None:
    """Fails when scores that are sorted once, or cards that are numbers, give another result."""
    fraud, champion, challenger, card = rows
    ranks = (score_ranks(champion)[0], score_ranks(challenger)[0])
    named = card_contributions(fraud, champion, challenger, np.char.add("card ", card.astype(str)))
    found = card_contributions(fraud, *ranks, card * unit)
    assert found is not None
    assert named is not None
    assert found.contribution.tolist() == named.contribution.tolist()
    assert found.frauds.tolist() == named.frauds.tolist()
    for rank, score in zip(ranks, (champion, challenger), strict=True):
        assert average_precision(fraud, rank) == average_precision(fraud, score)


@given(scored_rows())
@settings(deadline=None)
def test_each_row_has_the_influence_of_its_definition(rows: Rows) -> None:
    """Fails when the fast calculation credits the wrong cards with a difference, above all where scores tie."""
    fraud, score, *_ = rows
    at_or_above = score[:, np.newaxis] <= score  # [i, j]: row j at or above row i
    count = at_or_above.sum(axis=1)
    precision = (at_or_above * fraud).sum(axis=1) / count
    expected = [
        fraud[j] * precision[j]
        + sum((fraud[j] - precision[i]) / count[i] for i in np.flatnonzero(fraud) if score[i] <= score[j])
        for j in range(len(fraud))
    ]
    np.testing.assert_allclose(average_precision_influence(fraud, score) * fraud.sum(), expected, atol=1e-12)


@given(scored_rows(), st.booleans())
@settings(deadline=None)
def test_swapped_roles_give_the_exact_negative(rows: Rows, has_cards: bool) -> None:
    """Fails when the comparison favours the champion or the challenger, even by rounding."""
    fraud, champion, challenger, card = rows
    there = card_contributions(fraud, champion, challenger, card if has_cards else None)
    back = card_contributions(fraud, challenger, champion, card if has_cards else None)
    assert there is not None
    assert back is not None
    assert np.array_equal(np.sort(-back.contribution), there.contribution)
    assert back.difference == -there.difference


@given(scored_rows())
@settings(deadline=None)
def test_a_model_against_itself_contributes_nothing(rows: Rows) -> None:
    """Fails when rounding makes a model better than itself."""
    fraud, champion, _, card = rows
    found = _contributions((fraud, champion, champion, card))
    assert not found.contribution.any()
    assert found.difference == 0.0


@given(scored_rows(), st.integers(0, 2**32))
@settings(deadline=None)
def test_neither_row_order_nor_card_names_change_a_bit(rows: Rows, seed: int) -> None:
    """Fails when another engine, which delivers rows in another order, takes another decision."""
    random = np.random.default_rng(seed)
    fraud, champion, challenger, card = rows
    order, names = random.permutation(len(fraud)), random.permutation(8).astype(str)
    found, other = (
        _contributions(rows),
        _contributions((fraud[order], champion[order], challenger[order], names[card[order]])),
    )
    assert np.array_equal(found.contribution, other.contribution)
    assert np.array_equal(found.frauds, other.frauds)


@given(scored_rows())
@settings(deadline=None)
def test_only_the_ranking_matters(rows: Rows) -> None:
    """Fails when a model wins because its probabilities are larger, not because it ranks better."""
    fraud, champion, challenger, card = rows
    found, other = _contributions(rows), _contributions((fraud, 3 * champion - 7, np.exp(challenger), card))
    assert np.array_equal(found.contribution, other.contribution)


def test_without_cards_each_row_is_its_own() -> None:
    """Fails when data without cards cannot be compared, or counts as one card."""
    found = card_contributions([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.1], [0.9, 0.2, 0.8, 0.1], None)
    assert found is not None
    assert len(found.contribution) == 4
    assert (found.fraud_cards, found.total_frauds) == (2, 2)
    assert found.difference == pytest.approx(1 - (1 + 2 / 3) / 2)


def test_no_frauds_have_no_contributions() -> None:
    """Fails when a hold-out without frauds is reported as a difference of zero."""
    assert card_contributions([0, 0], [0.1, 0.2], [0.2, 0.1], None) is None
    assert card_contributions([], [], [], None) is None


def test_a_large_holdout_is_quick() -> None:
    """Fails when looking at 29 candidates makes a run minutes longer."""
    random = np.random.default_rng(0)
    fraud, card = random.random(200_000) < 0.002, random.integers(0, 20_000, 200_000)
    began = process_time()
    card_contributions(fraud, random.random(200_000), random.random(200_000), card)
    assert process_time() - began < 1.0
