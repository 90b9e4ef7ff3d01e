"""Whether the champion's inputs and its scores are distributed as they were in its training.

The population stability index of two samples is PSI = Σ (p − q) ln(p / q), over bins with the shares p and q. Without
a shift it is about (1/n + 1/m) · χ² with one degree of freedom less than there are bins, for n and m independent rows
(Yurdakul and Naranjo, Statistical properties of the population stability index, Journal of Risk Model Validation 14,
2020). Rows of one card are not independent. They are counted as if they were all alike, which is the most that they
can be: rows in clusters of sizes k are then worth (Σ k)² / Σ k² independent ones (Kish, Survey Sampling, 1965, 5.4).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from fraud_detection.data_health.counts import Floats, Ints
from fraud_detection.data_health.finding import Finding
from fraud_detection.model.fine_bins import MISSING_BIN
from fraud_detection.promotion.checks import measure_against
from fraud_detection.schema import DriftRecord, Shift, ShiftedSample
from fraud_detection.settings import DataHealth, HealthCheck, Settings
from fraud_detection.time_windows import LOOK_BACK_DAYS

BINS = 10
"""Of a number: tenths of the reference. A value that many rows have, and what is missing, has a bin of its own."""
WEEK = timedelta(days=7)
REFERENCE_WEEKS = 4
_NAMED = 3


@dataclass(frozen=True)
class DriftSpans:
    """Which rows are compared, in whole weeks, so that both have the same hours of the week: half open spans."""

    reference_start: datetime
    reference_end: datetime
    start: datetime
    end: datetime


def drift_spans(training_end: datetime, first: datetime, as_of: datetime, settings: Settings) -> DriftSpans | None:
    """The newest week, and up to four weeks before the end of the champion's training.

    Args:
        training_end: of the champion.
        first: transaction of the data. What features of the first weeks look back to is not there yet.
        as_of: of the run.
        settings: of the run.

    Returns:
        None if there is no whole week of either.
    """
    end = as_of - timedelta(hours=settings.data_health.late_transactions_hours)
    complete_from = first + timedelta(days=LOOK_BACK_DAYS + settings.windows.label_delay_days)
    weeks = min(REFERENCE_WEEKS, (training_end - complete_from) // WEEK)
    if weeks < 1 or end - WEEK < training_end:
        return None
    return DriftSpans(training_end - weeks * WEEK, training_end, end - WEEK, end)


@dataclass(frozen=True, eq=False)
class FineCounts:
    """Rows of both samples by fine bin (`model.fine_bins`) of one input; parallel arrays, bins ascending."""

    bins: Ints
    reference: Ints
    fresh: Ints
    is_category: bool = False
    """Whether each bin is a category, which is not merged with others."""


@dataclass(frozen=True)
class Distributions:
    """What is compared."""

    reference: ShiftedSample
    fresh: ShiftedSample
    inputs: Mapping[str, FineCounts]
    score: FineCounts


def independent_rows(rows: float, sum_of_squares: float) -> float:
    """How many independent rows those of clusters are worth, given the sum of the squares of the clusters' sizes."""
    return rows * rows / sum_of_squares if sum_of_squares > 0 else 0.0


def measure_drift(found: Distributions, settings: DataHealth) -> DriftRecord:
    """PSI of each input and of the scores, with the limits; the inputs with the largest ratio to the limit first."""
    n, m = found.reference.independent, found.fresh.independent
    least = (0.5 * found.reference.transactions / max(n, 1.0), 0.5 * found.fresh.transactions / max(m, 1.0))

    def shift(name: str, fine: FineCounts) -> Shift:
        reference, fresh = merge_bins(fine)
        chance = chance_limit(len(reference), n, m, settings.false_alarm)
        return Shift(
            name=name,
            psi=population_stability_index(reference, fresh, least),
            drift_limit=max(settings.drift_psi, chance),
            limit=max(settings.broken_psi, chance),
        )

    shifts = [shift(name, fine) for name, fine in found.inputs.items()]
    shifts.sort(key=lambda one: (-one.ratio, one.name))
    return DriftRecord(
        reference=found.reference, fresh=found.fresh, inputs=tuple(shifts), score=shift("score", found.score)
    )


def check_drift(drift: DriftRecord) -> tuple[Finding, ...]:
    """The checks of shifts that no bank has by itself: one for each that fails, or of the one closest to its limit."""
    return (*_check(HealthCheck.INPUT_PSI, drift.inputs, drift), *_check(HealthCheck.SCORE_PSI, (drift.score,), drift))


def drifted_text(drifted: Sequence[str]) -> str:
    """What has drifted; of many the first three."""
    more = f" and {len(drifted) - _NAMED} more" if len(drifted) > _NAMED else ""
    return f"drift of {', '.join(drifted[:_NAMED])}{more}"


def merge_bins(fine: FineCounts) -> tuple[Floats, Floats]:
    """The rows of both samples in tenths of the reference, or by category; bins that are empty in both are left out."""
    bins = np.arange(len(fine.bins)) if fine.is_category else _tenths(fine)
    _, place = np.unique(bins, return_inverse=True)
    reference, fresh = (
        np.bincount(place, weights=counts).astype(np.float64) for counts in (fine.reference, fine.fresh)
    )
    used = (reference > 0) | (fresh > 0)
    return reference[used], fresh[used]


def population_stability_index(reference: Floats, fresh: Floats, least: tuple[float, float] = (0.5, 0.5)) -> float:
    """PSI of two samples, given their rows by bin; 0 where a sample is empty.

    Args:
        reference: rows by bin.
        fresh: likewise.
        least: rows that an emptier bin of each sample counts as, since zero has no logarithm: half an independent row.
    """
    if not reference.sum() or not fresh.sum():
        return 0.0
    p, q = np.maximum(reference, least[0]) / reference.sum(), np.maximum(fresh, least[1]) / fresh.sum()
    return float(((p - q) * np.log(p / q)).sum())


def chance_limit(bins: int, reference_rows: float, fresh_rows: float, tail: float) -> float:
    """What PSI exceeds by chance alone with a small probability; infinite without rows."""
    if reference_rows <= 0 or fresh_rows <= 0:
        return float("inf")
    if bins <= 1:
        return 0.0
    from scipy.special import chdtri  # the upper quantile of chi-squared

    return float((1 / reference_rows + 1 / fresh_rows) * chdtri(bins - 1, tail))


def _tenths(fine: FineCounts) -> Ints:
    """To which tenth of the reference each fine bin belongs: the one of its middle.

    What is missing, and what lies below or above all of the reference, belongs to bins of their own.
    """
    known = fine.bins != MISSING_BIN
    reference = np.where(known, fine.reference, 0)
    until = np.cumsum(reference)
    total = max(1, int(until[-1])) if len(until) else 1
    tenths = np.minimum((BINS * (until - reference / 2) / total).astype(np.int64), BINS - 1)
    tenths = np.where(until == 0, -1, np.where(until - reference == total, BINS, tenths))
    return np.where(known, tenths, -2)


def _check(name: HealthCheck, shifts: Iterable[Shift], drift: DriftRecord) -> tuple[Finding, ...]:
    found = sorted(shifts, key=lambda one: (one.limit - one.psi, one.name))
    broken = [one for one in found if one.psi > one.limit]
    return tuple(_finding(name, one, drift) for one in broken or found[:1])


def _finding(name: HealthCheck, shift: Shift, drift: DriftRecord) -> Finding:
    fresh, reference = drift.fresh, drift.reference
    what = "the champion's scores have" if name is HealthCheck.SCORE_PSI else f"the input {shift.name} has"
    text = (
        f"{what} a PSI of {shift.psi:.2f} between its training ({reference.start:%Y-%m-%d} to {reference.end:%Y-%m-%d})"
        f" and {fresh.start:%Y-%m-%d} to {fresh.end:%Y-%m-%d}; up to {shift.limit:.2f} passes: has a unit changed, or"
        " has a column stopped being filled in?"
    )
    check = measure_against(name.value, round(shift.psi, 4), round(shift.limit, 4))
    last = (fresh.end - timedelta(hours=1)).date()
    return Finding(check, fresh.start.date(), last, text)
