"""The paired bootstrap: an interval that is too narrow promotes models by luck."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_detection.evaluation import Holdout, compare, measure_alone, new_cards
from fraud_detection.evaluation import bootstrap as module
from fraud_detection.evaluation.bootstrap import (
    first_champion_floor,
    floor_difference,
    one_sided_confidence,
    paired_difference,
)
from fraud_detection.evaluation.card_contributions import score_ranks
from fraud_detection.evaluation.metrics import average_precision, card_precision_at_k, evaluate
from fraud_detection.evaluation.slices import measure_slices, slice_masks
from fraud_detection.schema import Difference
from fraud_detection.settings import ComparisonSettings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rows = tuple[Ints, Floats, Floats, Ints]


@st.composite
def scored_rows(draw: st.DrawFn) -> Rows:
    """Fraud, two scores with ties, card."""
    size = draw(st.integers(3, 40))
    tops = (1, 4, 4, 6)
    drawn = [draw(st.lists(st.integers(0, top), min_size=size, max_size=size)) for top in tops]
    fraud, champion, challenger, card = (np.array(column) for column in drawn)
    assume(fraud.any())
    return fraud, champion / 4, challenger / 4, card


def _compare(rows: Rows, resamples: int = 100, confidence: float = 0.95) -> Difference:
    found = paired_difference(*rows, confidence=confidence, resamples=resamples, seed=7)
    assert found is not None
    return found


def _simulated(seed: int, cards: int, lead: float) -> Rows:
    """Compromised cards with several frauds each; two scores with noise per row and per card."""
    random = np.random.default_rng(seed)
    card = np.repeat(np.arange(cards), 8)
    fraud = (random.random(cards) < 0.12)[card] & (random.random(len(card)) < 0.4)
    shared = 0.8 * random.normal(size=cards)[card] + 0.6 * random.normal(size=len(card))
    noise = 0.5 * random.normal(size=(2, len(card))) + 0.5 * random.normal(size=(2, cards))[:, card]
    champion, challenger = 1.8 * fraud + shared + noise[0], (1.8 + lead) * fraud + shared + noise[1]
    return fraud.astype(np.int64), champion, challenger, card


@given(scored_rows())
@settings(max_examples=50, deadline=None)
def test_each_resample_scores_what_its_repeated_rows_score(rows: Rows) -> None:
    """Fails when the fast calculation gives another average precision than the resampled rows."""
    fraud, score, _, card = rows
    names, codes = np.unique(card, return_inverse=True)
    times = np.random.default_rng(3).integers(0, 3, size=(len(names), 20))
    fast = module._Ranking(fraud == 1, score_ranks(score)[0], codes, len(names)).average_precision(
        times.astype(np.float64)
    )
    slow = [average_precision(np.repeat(fraud, n), np.repeat(score, n)) for n in times[codes].T]
    np.testing.assert_allclose(fast, slow)


@given(scored_rows(), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_neither_row_order_nor_card_names_change_the_interval(rows: Rows, seed: int) -> None:
    """Fails when the same data give another decision because rows come in another order or cards are renamed."""
    random = np.random.default_rng(seed)
    fraud, champion, challenger, card = rows
    order, names = random.permutation(len(fraud)), random.permutation(7)
    other = (fraud[order], champion[order], challenger[order], names[card[order]])
    assert _compare(other) == _compare(rows)


@given(scored_rows())
@settings(max_examples=50, deadline=None)
def test_swapping_the_roles_mirrors_the_interval(rows: Rows) -> None:
    """Fails when the comparison favours the champion or the challenger."""
    fraud, champion, challenger, card = rows
    there, back = _compare(rows), _compare((fraud, challenger, champion, card))
    assert back.value == -there.value
    if there.value != 0:
        assert (back.low, back.high) == (-there.high, -there.low)


@given(scored_rows())
@settings(max_examples=30, deadline=None)
def test_the_interval_holds_the_difference_and_stays_in_range(rows: Rows) -> None:
    """Fails when the report shows an interval that does not contain its own difference or exceeds [-1, 1]."""
    found = _compare(rows)
    assert -1.0 <= found.low <= found.value <= found.high <= 1.0
    fraud, champion, challenger, _ = rows
    assert found.value == average_precision(fraud, challenger) - average_precision(fraud, champion)


def test_the_interval_widens_with_its_confidence() -> None:
    """Fails when a higher confidence gives a narrower interval, and promotes more easily."""
    rows = _simulated(1, 300, 0.5)
    narrow, wide = _compare(rows, confidence=0.9), _compare(rows, confidence=0.9999)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_models_differ_by_nothing() -> None:
    """Fails when a model compared with itself looks like an improvement."""
    fraud, champion, _, card = _simulated(1, 100, 0.0)
    found = _compare((fraud, champion, champion, card))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_frauds_of_a_single_card_prove_nothing() -> None:
    """Fails when three hundred frauds of one card count as three hundred independent observations."""
    fraud = np.zeros(1000, np.int64)
    fraud[:300] = 1
    card = np.concatenate([np.zeros(300, np.int64), np.arange(1, 701)])
    champion = np.random.default_rng(0).normal(size=1000)
    found = _compare((fraud, champion, champion + 2 * fraud, card))
    assert found.value > 0.1
    assert (found.low, found.high) == (-1.0, 1.0)


def test_resampling_cards_is_wider_than_resampling_rows() -> None:
    """Fails when transactions of one card count as independent, and the interval is too narrow."""
    widths = []
    for card_known in (True, False):
        rows = _simulated(2, 400, 0.0)
        found = paired_difference(*rows[:3], rows[3] if card_known else None, 0.95, 400, 7)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] > 1.1 * widths[1]


def test_no_frauds_give_no_difference() -> None:
    """Fails when a hold-out without frauds is reported as a difference of zero."""
    assert paired_difference([0, 0], [0.1, 0.2], [0.2, 0.1], None, 0.95, 100, 7) is None
    assert floor_difference([0, 0], [1.0, 2.0], [0.2, 0.1], 2.0, None, 0.95, 100, 7) is None


def test_chunks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a memory limit changes a decision."""
    rows = _simulated(3, 100, 0.2)
    whole = _compare(rows)
    monkeypatch.setattr(module, "_CHUNK_WEIGHTS", 700)
    parts = _compare(rows)
    assert parts.low == pytest.approx(whole.low, abs=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Fails when a 90 % interval misses the true difference more often than once in ten, and promotes by luck."""
    fraud, champion, challenger, _ = _simulated(0, 100_000, 0.4)
    truth = average_precision(fraud, challenger) - average_precision(fraud, champion)
    found = [_compare(_simulated(seed, 200, 0.4), confidence=0.9) for seed in range(1, 201)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.84 <= covered <= 0.96


def test_equally_good_models_rarely_look_better() -> None:
    """Fails when the interval beside a look excludes zero for equally good models more often than it says."""
    better = [_compare(_simulated(seed, 150, 0.0), confidence=0.9).low > 0 for seed in range(200)]
    assert np.mean(better) <= 0.10


@pytest.mark.parametrize(
    ("amount", "multiple", "floor"),
    [(0.0, 2.0, 0.0), (0.13, 2.0, 0.26), (1 / 3, 2.0, 2 / 3), (0.52, 2.0, 0.76), (1.0, 2.0, 1.0), (0.5, 1.0, 0.5)],
)
def test_the_floor_is_a_multiple_of_ranking_by_amount_that_a_model_can_exceed(
    amount: float, multiple: float, floor: float
) -> None:
    """Fails when the floor is above a perfect model, and no first champion can ever be promoted."""
    assert first_champion_floor(amount, multiple) == pytest.approx(floor)


def test_a_perfect_model_exceeds_the_floor_where_amount_alone_ranks_well() -> None:
    """Fails when no first champion can be promoted on data where the amount alone finds most frauds."""
    fraud, _, _, card = _simulated(5, 300, 0.0)
    amount = fraud + np.random.default_rng(0).random(len(fraud))
    amount[np.flatnonzero(fraud)[::3]] = 0.1
    assert average_precision(fraud, amount) > 0.5
    found = floor_difference(fraud, amount, fraud.astype(np.float64), 2.0, card, 0.9, 200, 7)
    assert found is not None
    assert found.low > 0


def test_each_resample_has_a_floor_of_its_own() -> None:
    """Fails when the floor counts as known exactly, and the first champion's interval is too narrow."""
    fraud, amount, _, card = _simulated(5, 300, 0.0)
    names, codes = np.unique(card, return_inverse=True)
    for multiple in (1.5, 20.0):  # the multiple, and half the way to 1
        found = floor_difference(fraud, amount, amount + fraud, multiple, card, 0.9, 400, 7)
        assert found is not None
        random, differences = np.random.default_rng(1), []
        for _ in range(400):
            drawn = random.integers(0, len(names), len(names))
            rows = np.repeat(np.arange(len(fraud)), np.bincount(drawn, minlength=len(names))[codes])
            floor = first_champion_floor(average_precision(fraud[rows], amount[rows]), multiple)
            differences.append(average_precision(fraud[rows], (amount + fraud)[rows]) - float(floor))
        fraud_cards = len(np.unique(card[fraud == 1]))
        half = scipy.stats.t.ppf(0.95, fraud_cards - 1) * np.std(differences, ddof=1)
        assert found.value - found.low == pytest.approx(half, rel=0.15)


def test_a_first_champion_that_just_reaches_the_floor_is_refused_in_19_of_20_cases() -> None:
    """Fails when the one-sided 95 % confidence is really another, and a first champion is promoted by luck or never."""
    fraud, amount, challenger, _ = _simulated(0, 100_000, 0.0)
    just_reached = average_precision(fraud, challenger) / average_precision(fraud, amount)
    promoted = 0
    for seed in range(1, 201):
        fraud, amount, challenger, card = _simulated(seed, 200, 0.0)
        found = floor_difference(fraud, amount, challenger, just_reached, card, one_sided_confidence(0.95), 100, 7)
        assert found is not None
        assert found.confidence == 0.9
        promoted += found.low > 0
    assert 3 <= promoted <= 20


def test_amount_quarters_hold_every_row_once() -> None:
    """Fails when a transaction belongs to no amount slice, and nothing protects it from a worse model."""
    amount = np.array([1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 9.0, 100.0])
    masks = slice_masks(amount, None)
    assert list(masks) == [f"amount_quarter_{i}" for i in (1, 2, 3, 4)]
    assert (np.sum(list(masks.values()), axis=0) == 1).all()
    assert list(amount[masks["amount_quarter_1"]]) == [1.0, 1.0]
    assert list(np.flatnonzero(slice_masks([5.0, 5.0, 5.0], None)["amount_quarter_1"])) == [0, 1, 2]
    assert amount[masks["amount_quarter_4"]].min() > amount[masks["amount_quarter_1"]].max()
    assert all(not mask.any() for mask in slice_masks(np.array([]), None).values())


def test_a_card_is_new_only_where_the_data_can_tell() -> None:
    """Fails when every card at the beginning of the data counts as new."""
    data_start = np.datetime64("2024-01-01")
    time = data_start + np.array([60, 60, 10]).astype("timedelta64[D]")
    first_seen = data_start + np.array([40, 1, 5]).astype("timedelta64[D]")
    assert list(new_cards(time, first_seen, data_start, 30)) == [True, False, False]


def test_slices_without_frauds_are_not_measured() -> None:
    """Fails when a slice without frauds gets an average precision, and decides something."""
    masks = {"with": np.array([True, True, False]), "without": np.array([False, False, True])}
    some, none = measure_slices(masks, [1, 0, 0], None, [0.9, 0.1, 0.5])
    assert (some.transactions, some.frauds, some.champion, some.challenger) == (2, 1, None, 1.0)
    assert (none.transactions, none.frauds, none.champion, none.challenger) == (1, 0, None, None)


def test_a_look_compares_with_the_champion_and_a_first_test_with_the_floor() -> None:
    """Fails when a first champion is not compared with ranking by amount, or a later one not with the champion."""
    fraud, champion, challenger, card = _simulated(6, 200, 0.6)
    rule = ComparisonSettings(resamples=100)
    holdout = Holdout(np.arange(len(fraud)) % 7, fraud, np.ones(len(fraud)), card.astype(str), card < 50)
    champion, challenger = 1 / (1 + np.exp(-champion)), 1 / (1 + np.exp(-challenger))
    both, first = compare(holdout, champion, challenger, rule), measure_alone(holdout, challenger, rule)
    assert both is not None
    assert first is not None
    assert both.difference == paired_difference(fraud, champion, challenger, card, 0.95, 100, rule.seed)
    assert both.difference.value == both.challenger.average_precision - both.champion.average_precision
    assert both.contributions.difference == pytest.approx(both.difference.value)
    assert first.floor.amount_average_precision == pytest.approx(fraud.mean())
    assert first.floor.average_precision == pytest.approx(2 * fraud.mean())
    assert first.difference.value == first.challenger.average_precision - first.floor.average_precision
    assert first.difference.confidence == 0.9  # one-sided 95 %, and not shared with the looks
    assert [part.name for part in both.slices][-1] == [part.name for part in first.slices][-1] == "new_cards"


def test_a_holdout_of_nothing_but_frauds_measures_nothing() -> None:
    """Fails when a hold-out of frauds only ends in a stack trace instead of a decision that says so."""
    score = np.array([0.2, 0.4, 0.6])
    holdout = Holdout(np.zeros(3), np.ones(3), np.ones(3), np.arange(3))
    rule = ComparisonSettings(resamples=100)
    assert compare(holdout, score, score[::-1], rule) is None
    assert measure_alone(holdout, score, rule) is None


@given(scored_rows(), st.sampled_from([None, np.nan]), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_row_without_a_card_is_a_card_of_its_own(rows: Rows, null: float | None, seed: int) -> None:
    """Fails when all payments without a card are resampled as one giant card, and the interval means nothing."""
    fraud, champion, challenger, card = rows
    unknown = np.random.default_rng(seed).random(len(card)) < 0.4
    with_gaps = np.array([null if gap else one for one, gap in zip(card.tolist(), unknown, strict=True)], dtype=object)
    apart = np.where(unknown, 1000 + np.arange(len(card)), card)
    holdout = Holdout(day=card % 2, fraud=fraud, amount=champion, card=with_gaps)
    found = compare(holdout, champion, challenger, ComparisonSettings(resamples=100))
    expected = compare(replace(holdout, card=apart), champion, challenger, ComparisonSettings(resamples=100))
    assert (found is None) == (expected is None)
    if found is None or expected is None:
        return
    assert found.difference == expected.difference
    np.testing.assert_array_equal(found.contributions.contribution, expected.contributions.contribution)
    assert found.slice_changes == expected.slice_changes
    if unknown.all():
        return
    known = ~unknown
    for score in (champion, challenger):
        precision = card_precision_at_k((card % 2)[known], card[known], fraud[known], score[known])
        measured = evaluate(card % 2, apart, fraud, score, investigated=known)
        assert measured is not None
        assert measured.card_precision_at_100 == precision
