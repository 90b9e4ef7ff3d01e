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
    blocked: Ints | None = None
    """Of the unlabelled, the blocked payments, which never get a label; None where none is."""

    def by_day(self) -> "DailyCounts":
        """The same by calendar day, UTC; the last day may be incomplete."""
        days, which = np.unique(self.hours.astype("datetime64[D]"), return_inverse=True)

        def summed(counts: Ints) -> Ints:
            return np.bincount(which, weights=counts, minlength=len(days)).astype(np.int64)

        blocked = None if self.blocked is None else summed(self.blocked)
        return DailyCounts(days, summed(self.transactions), summed(self.frauds), summed(self.unlabelled), blocked)


@dataclass(frozen=True, eq=False)
class DailyCounts:
    """Transactions by calendar day (UTC), without gaps; parallel arrays."""

    days: Dates
    transactions: Ints
    frauds: Ints
    unlabelled: Ints
    blocked: Ints | None = None

    def between(self, first: date, last: date) -> "DailyCounts":
        """The days from `first` to `last`, both included."""
        chosen = (self.days >= np.datetime64(first, "D")) & (self.days <= np.datetime64(last, "D"))
        blocked = None if self.blocked is None else self.blocked[chosen]
        counts = (self.transactions[chosen], self.frauds[chosen], self.unlabelled[chosen])
        return DailyCounts(self.days[chosen], *counts, blocked)

    def labelled(self, *, unlabelled_is_genuine: bool) -> Ints:
        """The transactions that have a label, or are presumed genuine."""
        left_out = self.blocked if unlabelled_is_genuine else self.unlabelled
        return self.transactions if left_out is None else self.transactions - left_out


@dataclass(frozen=True, eq=False)
class CountBand:
    """Counts of some days, and between which limits each was expected; parallel arrays, NaN where nothing was."""

    days: Dates
    count: Ints
    expected: Floats
    low: Floats
    high: Floats
