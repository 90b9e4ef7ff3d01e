"""How far distributions may move by chance, and which shifts are found."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from fraud_detection.data_health.drift import (
    Distributions,
    FineCounts,
    chance_limit,
    check_drift,
    drift_spans,
    independent_rows,
    measure_drift,
    merge_bins,
    population_stability_index,
)
from fraud_detection.data_health.examination import judge
from fraud_detection.model.fine_bins import MISSING_BIN, fine_bins
from fraud_detection.schema import DriftRecord, ShiftedSample
from fraud_detection.settings import DataHealth, Settings

SETTINGS = DataHealth()
AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
COUNTS = arrays.arrays(np.float64, st.integers(1, 12), elements=st.integers(0, 10_000).map(float))

Floats = NDArray[np.float64]


def _fine(reference: Floats, fresh: Floats) -> FineCounts:
    """The counts of two samples of a number."""
    bins, place = np.unique(fine_bins(np.concatenate([reference, fresh]).astype(np.float32)), return_inverse=True)
    old, new = np.split(place, [len(reference)])
    return FineCounts(bins, np.bincount(old, minlength=len(bins)), np.bincount(new, minlength=len(bins)))


def _measure(reference: Floats, fresh: Floats, rows_per_card: float = 1.0) -> DriftRecord:
    def sample(rows: int, start: datetime) -> ShiftedSample:
        end = start + timedelta(days=7)
        return ShiftedSample(start=start, end=end, transactions=rows, independent=rows / rows_per_card)

    fine = _fine(reference, fresh)
    samples = sample(len(reference), AS_OF - timedelta(days=28)), sample(len(fresh), AS_OF - timedelta(days=8))
    return measure_drift(Distributions(*samples, {"amount": fine}, fine), SETTINGS)


@given(COUNTS, st.randoms(use_true_random=False))
def test_psi_is_symmetric_never_negative_and_zero_for_equal_shares(counts: Floats, random: object) -> None:
    """Fails when PSI depends on which sample is the reference, or two equal distributions seem to differ."""
    other = np.random.default_rng(len(counts)).permutation(counts)
    there, back = population_stability_index(counts, other), population_stability_index(other, counts)
    assert there == pytest.approx(back)
    assert there >= 0.0
    assert population_stability_index(counts, counts) == 0.0
    assert population_stability_index(counts + 1, 3 * (counts + 1)) == pytest.approx(0.0, abs=1e-12)


def test_psi_is_the_sum_of_its_definition() -> None:
    """Fails when the index is not the one that the field's thresholds are about."""
    expected = (0.5 - 0.2) * np.log(0.5 / 0.2) + (0.5 - 0.8) * np.log(0.5 / 0.8)
    assert population_stability_index(np.array([50.0, 50.0]), np.array([40.0, 160.0])) == pytest.approx(expected)


@given(arrays.arrays(np.float32, 30, elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_fine_bins_ascend_as_the_numbers_do(values: NDArray[np.float32]) -> None:
    """Fails when a bin mixes small and large amounts."""
    assert np.all(np.diff(fine_bins(np.sort(values))) >= 0)
    assert fine_bins(np.array([np.nan], np.float32))[0] == MISSING_BIN < fine_bins(values).min()


def test_numbers_are_compared_by_tenths_and_frequent_values_by_themselves() -> None:
    """Fails when most rows fall into one bin, in which no shift is seen."""
    even, _ = merge_bins(_fine(np.arange(1, 10_001.0), np.ones(1)))
    assert len(even) == 10
    assert even.min() > 600
    zeros, _ = merge_bins(_fine(np.concatenate([np.zeros(6_000), np.arange(1, 4_001.0)]), np.ones(1)))
    assert zeros.max() == 6_000


@pytest.mark.parametrize("change", ["constant", "missing", "cents", "larger than ever", "between"])
def test_a_column_that_broke_fails_the_check(change: str) -> None:
    """Fails when a run goes on with a unit that changed, or a column that is filled in no more."""
    random = np.random.default_rng(1)
    reference, fresh = (random.lognormal(3, 1, rows) for rows in (40_000, 10_000))
    broken = {
        "constant": np.full(10_000, 20.0),
        "missing": np.full(10_000, np.nan),
        "cents": fresh * 100,
        "larger than ever": fresh + 1e9,
        "between": np.zeros(10_000),
    }[change]
    reference = np.where(reference > 20, 1.0, -1.0) if change == "between" else reference
    verdict = judge(check_drift(_measure(reference, broken)), SETTINGS)
    assert {finding.check.name for finding in verdict.stops} == {"input_psi", "score_psi"}
    assert "the input amount has a PSI of" in verdict.reason
    assert "{check: input_psi, from: 2026-02-21, to: 2026-02-27" in verdict.reason


def test_a_moderate_shift_is_drift_and_stops_nothing() -> None:
    """Fails when a season's larger amounts stop a bank's runs, or go unnoticed."""
    random = np.random.default_rng(2)
    reference, fresh = random.lognormal(3, 1, 40_000), random.lognormal(3.5, 1, 10_000)
    drift = _measure(reference, fresh)
    assert drift.drifted == ("amount", "score")
    assert judge(check_drift(drift), SETTINGS).stops == ()
    assert _measure(reference, random.lognormal(3, 1, 10_000)).drifted == ()


@pytest.mark.parametrize("rows_per_card", [1, 10])
def test_chance_alone_exceeds_the_limit_as_often_as_it_says(rows_per_card: int) -> None:
    """Fails when rows that resemble each other on a card count as so many, and a small bank has drift by chance."""
    random = np.random.default_rng(3)
    exceeded, repetitions, tail = 0, 1_000, 0.01
    for _ in range(repetitions):
        old, new = (np.repeat(random.normal(size=cards), rows_per_card) for cards in (400, 100))
        reference, fresh = merge_bins(_fine(old, new))
        n, m = (independent_rows(len(one), len(one) * rows_per_card) for one in (old, new))
        psi = population_stability_index(reference, fresh, (rows_per_card / 2, rows_per_card / 2))
        exceeded += psi > chance_limit(len(reference), n, m, tail)
    assert exceeded / repetitions <= 0.03
    assert independent_rows(1_000, 1_000 * rows_per_card) == pytest.approx(1_000 / rows_per_card)


def test_few_cards_make_no_drift() -> None:
    """Fails when the limits of a bank with few cards are those of one with many."""
    drift = _measure(np.arange(400.0), np.arange(100.0) + 60, rows_per_card=10)
    assert drift.drifted == ()
    assert drift.inputs[0].drift_limit > 1.0


def test_whole_weeks_are_compared_once_the_features_look_back_on_data() -> None:
    """Fails when weekends alone look like drift, or the first weeks of the data, whose features know no past."""
    settings, first = Settings(), AS_OF - timedelta(days=90)
    trained = AS_OF - timedelta(days=21)
    spans = drift_spans(trained, first, AS_OF, settings)
    assert spans is not None
    assert (spans.end, spans.end - spans.start) == (AS_OF - timedelta(hours=24), timedelta(days=7))
    assert (spans.reference_end, spans.reference_end - spans.reference_start) == (trained, timedelta(days=28))
    young = drift_spans(trained, trained - timedelta(days=30 + 7 + 15), AS_OF, settings)
    assert young is not None
    assert young.reference_end - young.reference_start == timedelta(days=14)
    assert drift_spans(trained, trained - timedelta(days=40), AS_OF, settings) is None
    assert drift_spans(AS_OF - timedelta(days=7), first, AS_OF, settings) is None, "no week after training"
