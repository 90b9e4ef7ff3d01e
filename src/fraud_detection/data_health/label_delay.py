"""Whether labels take longer to arrive than they did.

Of the frauds of the newest matured week and of the eight weeks before it, the delays up to the maturity are compared:
those are complete in both. The statistic is the one-sided Kolmogorov-Smirnov distance, the largest share of frauds that
used to be known by some delay and are not any more. Its tail is Smirnov's exp(-2 d² nm/(n+m)) (1939), with sample sizes
divided by how much more the days differ than independent frauds would: a card's frauds are reported together.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from fraud_detection.data_health.counts import Bools, Dates, Floats, Ints
from fraud_detection.data_health.finding import Finding
from fraud_detection.promotion.checks import measure_against
from fraud_detection.settings import DataHealth

RECENT_DAYS = 7
EARLIER_DAYS = 56
LEAST_FRAUDS = 30
"""In each of the two spans; with fewer there is no check."""


@dataclass(frozen=True, eq=False)
class DelayCounts:
    """Known frauds by the day of the transaction and the delay of the label; parallel arrays."""

    days: Dates
    delay_hours: Ints
    frauds: Ints

    def take(self, where: Bools) -> "DelayCounts":
        """The counts at these positions."""
        return DelayCounts(self.days[where], self.delay_hours[where], self.frauds[where])


def check_label_delay(
    counts: DelayCounts, matured: datetime, maturity_days: float, settings: DataHealth
) -> tuple[Finding, ...]:
    """Compare the delays of the newest matured week with those before."""
    end = np.datetime64(matured.date(), "D")
    complete = counts.delay_hours <= round(maturity_days * 24)
    recent = counts.take(complete & _within(counts.days, end - RECENT_DAYS, end))
    earlier = counts.take(complete & _within(counts.days, end - RECENT_DAYS - EARLIER_DAYS, end - RECENT_DAYS))
    if min(recent.frauds.sum(), earlier.frauds.sum()) < LEAST_FRAUDS:
        return ()
    distance, at = later_by(recent, earlier)
    excess = clustering(earlier, at)
    effective = excess * (1 / float(recent.frauds.sum()) + 1 / float(earlier.frauds.sum()))
    chance = math.sqrt(-math.log(settings.false_alarm) * effective / 2)
    limit = max(settings.label_delay_distance, chance)
    first = (matured - timedelta(days=RECENT_DAYS)).date()
    last = (matured - timedelta(days=1)).date()
    text = (
        f"labels arrive later: of the frauds of {first} to {last} a share smaller by {distance:.2f} was known after"
        f" {at / 24:.1f} days than in the {EARLIER_DAYS} days before; up to {limit:.2f} passes. Frauds that become"
        " known after windows.maturity_days count as genuine: raise it, or find what holds the labels up"
    )
    return (Finding(measure_against("label_delay", distance, limit), first, last, text),)


def later_by(recent: DelayCounts, earlier: DelayCounts) -> tuple[float, int]:
    """By how much smaller the known share is than it was, at the delay (hours) where that is most."""
    delays = np.unique(np.concatenate([recent.delay_hours, earlier.delay_hours]))
    behind = _known_share(earlier, delays) - _known_share(recent, delays)
    most = int(np.argmax(behind))
    return max(0.0, float(behind[most])), int(delays[most])


def clustering(counts: DelayCounts, at: int) -> float:
    """The variance between days of the share known by a delay, as a multiple of independent frauds'; at least 1."""
    _, which = np.unique(counts.days, return_inverse=True)
    total = np.bincount(which, weights=counts.frauds)
    known = np.bincount(which, weights=counts.frauds * (counts.delay_hours <= at))
    share = float(known.sum() / total.sum())
    if len(total) < 2 or not 0 < share < 1:
        return 1.0
    pearson = float((((known - total * share) ** 2) / (total * share * (1 - share))).sum())
    return max(1.0, pearson / (len(total) - 1))


def _known_share(counts: DelayCounts, delays: Ints) -> Floats:
    order = np.argsort(counts.delay_hours, kind="stable")
    cumulated = np.concatenate([[0], np.cumsum(counts.frauds[order])])
    shares: Floats = cumulated[np.searchsorted(counts.delay_hours[order], delays, side="right")] / cumulated[-1]
    return shares


def _within(days: Dates, start: np.datetime64, end: np.datetime64) -> Bools:
    found: Bools = (days >= start) & (days < end)
    return found
