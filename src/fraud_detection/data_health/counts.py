"""Counts of the input by day, which is all that most checks need."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Dates = NDArray[np.datetime64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HourlyCounts:
    """Transactions by hour (UTC), without gaps; parallel arrays."""

    hours: Dates
    transactions: Ints
    frauds: Ints
    """Known by now."""
    unlabelled: Ints

    def by_day(self) -> "DailyCounts":
        """The same by calendar day, UTC; the last day may be incomplete."""
        days, which = np.unique(self.hours.astype("datetime64[D]"), return_inverse=True)

        def summed(counts: Ints) -> Ints:
            return np.bincount(which, weights=counts, minlength=len(days)).astype(np.int64)

        return DailyCounts(days, summed(self.transactions), summed(self.frauds), summed(self.unlabelled))


@dataclass(frozen=True, eq=False)
class DailyCounts:
    """Transactions by calendar day (UTC), without gaps; parallel arrays."""

    days: Dates
    transactions: Ints
    frauds: Ints
    unlabelled: Ints

    def between(self, first: date, last: date) -> "DailyCounts":
        """The days from `first` to `last`, both included."""
        chosen = (self.days >= np.datetime64(first, "D")) & (self.days <= np.datetime64(last, "D"))
        return DailyCounts(self.days[chosen], self.transactions[chosen], self.frauds[chosen], self.unlabelled[chosen])


@dataclass(frozen=True, eq=False)
class CountBand:
    """Counts of some days, and between which limits each was expected; parallel arrays, NaN where nothing was."""

    days: Dates
    count: Ints
    expected: Floats
    low: Floats
    high: Floats
