"""Whether the newest transactions are as many as those of the same hours of the week before.

A quarter of a day's normal volume is an outage, and stops at once. Half of it may be a holiday, and stops only when
three days in a row are that low.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from fraud_detection.data_health.counts import CountBand, Floats, HourlyCounts
from fraud_detection.data_health.finding import Finding
from fraud_detection.data_health.overdispersion import chance_limits, dispersion
from fraud_detection.promotion.checks import measure_against
from fraud_detection.settings import DataHealth

WEEKS = 8
"""Earlier weeks that are compared with."""
LEAST_WEEKS = 4
DAYS_SHOWN = 56
_WEEK_HOURS = 7 * 24


@dataclass(frozen=True)
class _Window:
    """Some of the newest hours, and the share of the expected volume that they must reach and must not exceed."""

    hours: int
    least: float
    most: float


def check_volume(counts: HourlyCounts, as_of: datetime, settings: DataHealth) -> tuple[Finding, ...]:
    """The volume of the newest day, and of the newest three days."""
    end = as_of - timedelta(hours=settings.late_transactions_hours)
    three_days = _Window(72, settings.least_three_day_volume, settings.most_day_volume)
    return (*_check(counts, end, _one_day(settings), settings), *_check(counts, end, three_days, settings))


def volume_band(counts: HourlyCounts, as_of: datetime, settings: DataHealth) -> CountBand:
    """What was expected of each of the last days (24 hours), after the weeks before it."""
    end = as_of - timedelta(hours=settings.late_transactions_hours)
    ends = [end - timedelta(days=back) for back in range(DAYS_SHOWN)][::-1]
    return _band(
        counts, [moment for moment in ends if _start(counts) <= _hour(moment) - 24], _one_day(settings), settings
    )


def _one_day(settings: DataHealth) -> _Window:
    return _Window(24, settings.least_day_volume, settings.most_day_volume)


def _check(counts: HourlyCounts, end: datetime, window: _Window, settings: DataHealth) -> tuple[Finding, ...]:
    band = _band(counts, [end], window, settings)
    count, expected, low, high = int(band.count[0]), float(band.expected[0]), float(band.low[0]), float(band.high[0])
    if np.isnan(expected):
        return ()
    first, last = _day(end - timedelta(hours=window.hours)), _day(end - timedelta(hours=1))
    text = (
        f"{count:,} transactions in the {window.hours} hours before {end:%Y-%m-%d %H:%M}; about {expected:,.0f} are"
        f" expected after the same hours of the weeks before, and {low:,.0f} to {high:,.0f} pass: is the input whole?"
    )
    checks = measure_against("volume_floor", count, low), measure_against("volume_ceiling", count, high)
    return tuple(Finding(check, first, last, text) for check in checks)


def _band(counts: HourlyCounts, ends: list[datetime], window: _Window, settings: DataHealth) -> CountBand:
    """Counts and limits of the windows that end at some moments; NaN where the history is too short."""
    count = np.array([_sum(counts, end, window.hours) for end in ends], np.int64)
    found = [_expected(_earlier(counts, end, window.hours)) for end in ends]
    expected, spread = np.array(found, np.float64).reshape(-1, 2).T
    low, high = chance_limits(expected, spread, settings.false_alarm)
    days = np.array([(end - timedelta(hours=window.hours)).replace(tzinfo=None) for end in ends], "datetime64[D]")
    return CountBand(
        days, count, expected, np.minimum(low, window.least * expected), np.maximum(high, window.most * expected)
    )


def _expected(earlier: Floats) -> tuple[float, float]:
    """The mean of a window's transactions, and the variance as a multiple of it; NaN where too few weeks are known."""
    if len(earlier) < LEAST_WEEKS or np.median(earlier) <= 0:
        return float("nan"), float("nan")
    expected = float(np.median(earlier))
    return expected, dispersion(earlier, np.full(len(earlier), expected))


def _earlier(counts: HourlyCounts, end: datetime, hours: int) -> Floats:
    """The counts of the same window in each of the weeks before that the data cover."""
    ends = [end - timedelta(hours=_WEEK_HOURS * back) for back in range(1, WEEKS + 1)]
    covered = [moment for moment in ends if _hour(moment) - hours >= _start(counts)]
    return np.array([_sum(counts, moment, hours) for moment in covered], np.float64)


def _sum(counts: HourlyCounts, end: datetime, hours: int) -> int:
    last = _hour(end) - _start(counts)
    first = last - hours
    return int(counts.transactions[max(0, first) : max(0, last)].sum())


def _start(counts: HourlyCounts) -> int:
    """The first hour of the data, since 1970; beyond the last hour there are no transactions."""
    return int(counts.hours[0].astype(np.int64)) if len(counts.hours) else np.iinfo(np.int64).max


def _hour(moment: datetime) -> int:
    return int(moment.timestamp() // 3600)


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
