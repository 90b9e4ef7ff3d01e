"""Order statistics of any range of a sequence, many ranges at once. Pure numpy."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fraud_detection.features.timeline import Floats, Ints, Timeline

_FEW = 1 << 15
"""Ranges times rows: so few are looked at one by one, which a wavelet matrix only repays for more."""
_MOST_CENTS = 1 << 47  # above LARGEST_AMOUNT in cents; one for each row of a block still fits in an int64


class WaveletMatrix:
    """Order statistics of any range of a sequence of integers in [0, bound), O(log bound) each, vectorised.

    Level by level from the highest bit, values are moved apart, those with a zero first, keeping their order
    (Claude, Navarro, Ordonez: The wavelet matrix, 2015). `zeros[i]` counts the zero bits before position i.
    """

    def __init__(self, values: Ints, bound: int) -> None:
        self.levels: list[tuple[int, NDArray[np.int32]]] = []
        values = values.astype(np.int32)
        for shift in reversed(range(max(bound - 1, 0).bit_length())):
            is_zero = (values >> shift) & 1 == 0
            zeros = np.zeros(len(values) + 1, dtype=np.int32)
            np.cumsum(is_zero, out=zeros[1:])
            self.levels.append((shift, zeros))
            values = np.concatenate((values[is_zero], values[~is_zero]))

    def kth_smallest(self, first: Ints, end: Ints, k: Ints) -> Ints:
        """The k-th smallest (from 0) of the values in [first, end); k must be in [0, end - first)."""
        low, high, k = first.astype(np.int32), end.astype(np.int32), k.astype(np.int32)
        found = np.zeros(len(first), dtype=np.int32)
        for shift, zeros in self.levels:
            zeros_low, zeros_high = zeros[low], zeros[high]
            count = zeros_high - zeros_low
            one = k >= count
            k -= np.where(one, count, 0)
            found += one.astype(np.int32) << shift
            low = np.where(one, low - zeros_low + zeros[-1], zeros_low)
            high = np.where(one, high - zeros_high + zeros[-1], zeros_high)
        return found.astype(np.int64)

    def count_below(self, first: Ints, end: Ints, limit: Ints) -> Ints:
        """How many of the values in [first, end) are below `limit`; limit may be anything up to the bound."""
        below = np.zeros(len(first), dtype=np.int64)
        all_below = limit >= 1 << len(self.levels)
        below[all_below] = (end - first)[all_below]
        for shift, zeros in self.levels:
            low, high = zeros[first], zeros[end]
            one = (limit >> shift) & 1 == 1
            below += np.where(one & ~all_below, high - low, 0)
            first = np.where(one, first - low + zeros[-1], low)
            end = np.where(one, end - high + zeros[-1], high)
        return below


class RangeQuantiles:
    """Quantiles of the amounts in any range of one card's rows."""

    def __init__(self, line: Timeline, cents: Ints) -> None:
        key_change = np.append(True, np.diff(line.base) != 0)
        starts = np.flatnonzero(key_change)
        keys = np.cumsum(key_change) - 1
        self._by_amount = np.argsort(keys * _MOST_CENTS + cents)
        self._sorted = cents[self._by_amount]
        self._start = starts[keys]
        self._longest = int(np.diff(np.append(starts, len(cents))).max(initial=0))

    def quantile(self, first: Ints, end: Ints, share: int, of: int) -> Ints:
        """The smallest amount in [first, end) that share/of of the amounts do not exceed; -1 where there is none."""
        return self.smallest(first, end, ((end - first) * share + of - 1) // of - 1)

    def smallest(self, first: Ints, end: Ints, k: Ints) -> Ints:
        """The k-th smallest amount (from 0) in [first, end), all of one card; -1 where k is negative."""
        result = np.full(len(first), -1)
        some = np.flatnonzero(k >= 0)
        first, end, k = first[some], end[some], k[some]
        if len(some) * len(self._sorted) <= _FEW:
            result[some] = self._sorted[self._places(first, end, k)]
        else:
            result[some] = self._sorted[self._start[first] + self._ranks.kth_smallest(first, end, k)]
        return result

    @cached_property
    def _ranks(self) -> WaveletMatrix:
        """The ranks of the amounts among those of their card."""
        rank = np.empty(len(self._sorted), dtype=np.int64)
        rank[self._by_amount] = np.arange(len(rank))
        return WaveletMatrix(rank - self._start, self._longest)

    def _places(self, first: Ints, end: Ints, k: Ints) -> Ints:
        """Where in the order of amounts the k-th smallest of each range is, found by looking at all rows."""
        inside = (self._by_amount >= first[:, np.newaxis]) & (self._by_amount < end[:, np.newaxis])
        places: Ints = np.argmax(np.cumsum(inside, axis=1, dtype=np.int32) > k[:, np.newaxis], axis=1)
        return places


def count_by(moments: Ints, first: Ints, end: Ints, now: Ints) -> Ints:
    """How many of the moments at the positions [first, end) have come by `now`."""
    ranks = np.argsort(moments, kind="stable")
    rank = np.empty_like(ranks)
    rank[ranks] = np.arange(len(ranks))
    limit = np.searchsorted(moments[ranks], now, side="right")
    return WaveletMatrix(rank, len(ranks)).count_below(first, end, limit)


def least_of_spans(enters: Ints, leaves: Ints, values: Floats, now: Ints) -> Floats:
    """Per query the smallest of the values whose span [enters, leaves) holds `now`; NaN where there is none.

    The moments of all spans cut time into pieces. A span is two runs of 2^k pieces that may overlap, and the least
    value of a run passes to its halves, level by level: a sparse table filled from its top.
    """
    some = (enters < leaves) & ~np.isnan(values)
    if not some.any():
        return np.full(len(now), np.nan)
    moments = np.unique(np.concatenate((enters[some], leaves[some])))
    first, end = np.searchsorted(moments, enters[some]), np.searchsorted(moments, leaves[some])
    power = np.frexp(end - first)[1].astype(np.int64) - 1
    least = np.full((int(power.max()) + 1, len(moments)), np.inf)
    for start in (first, end - (1 << power)):
        np.minimum.at(least, (power, start), values[some])
    for level in range(len(least) - 1, 0, -1):
        half, below = 1 << (level - 1), least[level - 1]
        np.minimum(below, least[level], out=below)
        np.minimum(below[half:], least[level][:-half], out=below[half:])
    found = np.append(least[0], np.inf)[np.searchsorted(moments, now, side="right") - 1]  # before all: the last one
    return np.where(np.isinf(found), np.nan, found)


def last_above(values: Ints, last: Ints, limit: Ints) -> Ints:
    """Per query the largest position at most `last` whose value is above `limit`; there must be one."""
    maxima = [values]  # maxima[k][i] is the largest of the 2^k values that end at i
    while (1 << len(maxima)) <= len(values):
        step = 1 << (len(maxima) - 1)
        widest = maxima[-1].copy()
        np.maximum(widest[step:], maxima[-1][:-step], out=widest[step:])
        maxima.append(widest)
    last = last.astype(np.int64)
    for power in reversed(range(len(maxima))):
        skip = maxima[power][last] <= limit
        last[skip] -= 1 << power
    return last
