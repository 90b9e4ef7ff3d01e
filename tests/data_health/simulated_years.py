"""Counts of simulated days as a run at any as-of time sees them, without files and engines."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from fraud_detection.data_health.counts import HourlyCounts
from fraud_detection.data_health.examination import Health, examine
from fraud_detection.data_health.label_delay import DelayCounts
from fraud_detection.schema import KnownLabels
from fraud_detection.settings import Settings
from fraud_simulation.demo import regimes
from fraud_simulation.transactions import day_table
from fraud_simulation.world import World

START = date(2025, 1, 6)
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Year:
    """Transactions and reported frauds, times in whole hours since 1970."""

    transactions: Ints
    """By hour, from the first one on."""
    first_hour: int
    fraud_hour: Ints
    known_hour: Ints

    def day_hours(self, day: date) -> slice:
        """The hours of a day in `transactions`."""
        first = _hour(datetime(day.year, day.month, day.day, tzinfo=UTC)) - self.first_hour
        return slice(first, first + 24)

    def with_volume(self, day: date, share: float) -> "Year":
        """With more or fewer transactions on a day; of its frauds the same share is left."""
        changed = self.transactions.copy()
        changed[self.day_hours(day)] = np.rint(changed[self.day_hours(day)] * share)
        hours = self.day_hours(day)
        own = (self.fraud_hour - self.first_hour >= hours.start) & (self.fraud_hour - self.first_hour < hours.stop)
        kept = ~own | (np.cumsum(own) % 100 < 100 * share)
        return replace(self, transactions=changed, fraud_hour=self.fraud_hour[kept], known_hour=self.known_hour[kept])

    def with_frauds(self, day: date, count: int) -> "Year":
        """With so many frauds on a day, known the next day."""
        hours = self.day_hours(day)
        own = (self.fraud_hour - self.first_hour >= hours.start) & (self.fraud_hour - self.first_hour < hours.stop)
        added = self.first_hour + hours.start + np.arange(count) % 24
        return replace(
            self,
            fraud_hour=np.concatenate([self.fraud_hour[~own], added]),
            known_hour=np.concatenate([self.known_hour[~own], added + 24]),
        )

    def counts(self, as_of: datetime) -> tuple[HourlyCounts, DelayCounts]:
        """As known at an as-of time."""
        hours = _hour(as_of) - self.first_hour
        known = (self.known_hour <= _hour(as_of)) & (self.fraud_hour < _hour(as_of))
        frauds = np.bincount(self.fraud_hour[known] - self.first_hour, minlength=hours)
        all_hours = (self.first_hour + np.arange(hours)).astype("datetime64[h]")
        hourly = HourlyCounts(all_hours, self.transactions[:hours], frauds, np.zeros(hours, np.int64))
        days = self.fraud_hour[known].astype("datetime64[h]").astype("datetime64[D]")
        delay = self.known_hour[known] - self.fraud_hour[known]
        return hourly, DelayCounts(days, delay, np.ones(len(delay), np.int64))

    def health(self, as_of: datetime, earlier: KnownLabels | None = None, settings: Settings | None = None) -> Health:
        """What a run at an as-of time finds."""
        return examine(*self.counts(as_of), as_of, earlier, settings or Settings())


def simulate(seed: int, days: int, transactions_per_day: int = 7_200) -> Year:
    """Simulated days from `START` on, without a change of the frauds."""
    world = World(seed=seed, transactions_per_day=transactions_per_day, regimes=regimes()[:1])
    tables = [day_table(world, START + timedelta(days=n)) for n in range(days)]
    times = np.concatenate([table["transaction_time"].to_numpy() for table in tables]).astype("datetime64[h]")
    hour = times.astype(np.int64)
    known = np.concatenate([table["label_available_at"].to_numpy() for table in tables])
    fraud = ~np.isnat(known)
    first = _hour(datetime(START.year, START.month, START.day, tzinfo=UTC))
    counts = np.bincount(hour - first, minlength=days * 24)
    known_hour = np.ceil(known[fraud].astype("datetime64[s]").astype(np.int64) / 3600).astype(np.int64)
    return Year(counts, first, hour[fraud], known_hour)


def _hour(moment: datetime) -> int:
    return int(moment.timestamp() // 3600)
