"""Whether the frauds of each matured day are as many as the days around it let expect."""

from datetime import date
from typing import cast

import numpy as np

from fraud_detection.data_health.counts import CountBand, DailyCounts, Ints
from fraud_detection.data_health.finding import Finding
from fraud_detection.data_health.overdispersion import chance_limits, dispersion, middle_rate
from fraud_detection.promotion.checks import measure_against
from fraud_detection.settings import DataHealth

NEIGHBOURS = 56
"""Days that a day is compared with: the nearest ones, earlier or later, all matured."""
LEAST_NEIGHBOURS = 14


def fraud_band(matured: DailyCounts, settings: DataHealth, *, unlabelled_is_genuine: bool) -> CountBand:
    """Between which limits the frauds of each matured day are expected.

    The expectation follows the day's transactions, so that a busy day may have more frauds. A day with too few
    neighbours has no limits.
    """
    labelled = matured.labelled(unlabelled_is_genuine=unlabelled_is_genuine)
    found = [_expected(place, matured.frauds, labelled) for place in range(len(matured.days))]
    expected, spread = np.array(found, np.float64).reshape(-1, 2).T
    low, high = chance_limits(expected, spread, settings.false_alarm)
    factor = settings.fraud_rate_factor
    return CountBand(
        matured.days, matured.frauds, expected, np.minimum(low, expected / factor), np.maximum(high, expected * factor)
    )


def check_fraud_rate(band: CountBand) -> tuple[Finding, ...]:
    """The checks of a band: one for each side of every day outside it, or one each of the day closest to the limit."""
    return (*_check_side(band, "fraud_rate_floor"), *_check_side(band, "fraud_rate_ceiling"))


def _expected(place: int, frauds: Ints, labelled: Ints) -> tuple[float, float]:
    """The mean of a day's frauds, and the variance as a multiple of it; NaN where too few days are near."""
    distance = np.abs(np.arange(len(frauds)) - place)
    near = np.argsort(distance, kind="stable")[1 : NEIGHBOURS + 1]
    near = near[labelled[near] > 0]
    if len(near) < LEAST_NEIGHBOURS or labelled[place] <= 0:
        return float("nan"), float("nan")
    events, exposure = frauds[near].astype(np.float64), labelled[near].astype(np.float64)
    rate = middle_rate(events, exposure)
    return rate * float(labelled[place]), dispersion(events, rate * exposure)


def _check_side(band: CountBand, name: str) -> tuple[Finding, ...]:
    limits = band.low if name == "fraud_rate_floor" else band.high
    judged = np.flatnonzero(~np.isnan(limits))
    if not len(judged):
        return ()
    excess = (band.count - limits)[judged] * (-1 if name == "fraud_rate_floor" else 1)
    beyond = judged[excess > 0]
    shown = beyond if len(beyond) else judged[[int(np.argmax(excess))]]
    return tuple(_finding(band, int(place), name, float(limits[place])) for place in shown)


def _finding(band: CountBand, place: int, name: str, limit: float) -> Finding:
    day = cast("date", band.days[place].item())
    count = int(band.count[place])
    text = (
        f"{count:,} frauds on {day}; {band.low[place]:.0f} to {band.high[place]:.0f} are expected after the days around"
        " it: are its labels right?"
    )
    return Finding(measure_against(name, count, limit), day, day, text)
