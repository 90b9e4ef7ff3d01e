"""ComputedFeatures of some keys in the order of time: windows as positions, found by binary search. Pure numpy.

The kernels of cards and terminals take the rows of some keys (all rows of a key, in any order) and return features for
the rows at or after `start`, seeing nothing later than the row itself. Rows of a key are ordered by (time, transaction
id): of two rows in the same second the earlier id does not see the later one. Times are int64 microseconds, amounts
int64 cents; every sum is an exact integer until its last division, so a value never depends on which other keys share
the call, nor on the engine that makes it.

A window of length w is (t-w, t]. It becomes two positions, found by binary search in one integer per row that holds
key and time, and a difference of cumulative sums: O(n log n) whatever the window, also for one key with all the rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

BLOCK_ROWS = 1 << 16
"""Keys are processed in blocks of about this many rows, which fit in a core's cache."""
_CODES = 1 << 62  # (key, time) codes stay below it


@dataclass(frozen=True)
class ComputedFeatures:
    """The kept rows as positions in the input, in (key, time, id) order, and one value each per feature.

    A feature is NaN where it is missing, and for rows before `start`.
    """

    positions: NDArray[np.intp]
    features: dict[str, Floats]


def time_order(keys: Ints, times: Ints, ids: NDArray[np.generic]) -> NDArray[np.intp]:
    """Positions of the rows in (key, time, id) order."""
    if len(keys) == 0:
        return np.zeros(0, dtype=np.intp)
    span = int(times.max()) - int(times.min()) + 1
    order: NDArray[np.intp]
    if (int(keys.max()) + 1) * span > _CODES:
        order = np.lexsort((np.unique(ids, return_inverse=True)[1], times, keys))
        return order
    codes = keys * span + (times - times.min())
    order = np.argsort(codes)
    # Few rows tie in key and time: only those are sorted again, by id.
    codes = codes[order]
    equal = codes[1:] == codes[:-1]
    tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
    if len(tied):
        rank = np.unique(ids[order[tied]], return_inverse=True)[1]
        order[tied] = order[tied][np.lexsort((rank, codes[tied]))]
    return order


def blocks(keys: Ints, times: Ints) -> Iterator[slice]:
    """Cut sorted rows between keys into blocks that fit in a core's cache and whose codes fit in an int64."""
    if len(keys) == 0:
        return
    starts = np.append(np.flatnonzero(np.append(True, keys[1:] != keys[:-1])), len(keys))
    most_keys = _CODES // (int(times.max()) - int(times.min()) + 3)
    key = 0
    while key < len(starts) - 1:
        until = int(np.searchsorted(starts, starts[key] + BLOCK_ROWS, side="right")) - 1
        until = max(key + 1, min(until, key + most_keys))
        yield slice(int(starts[key]), int(starts[until]))
        key = until


class Timeline:
    """Rows of a block in (key, time) order, with one integer `codes` per row that sorts the same way."""

    def __init__(self, keys: Ints, times: Ints) -> None:
        self.times = times
        self._low, self._high = times.min() - 1, times.max() + 1
        span = self._high - self._low + 1
        self.base = np.append(0, np.cumsum(keys[1:] != keys[:-1])) * span - self._low
        self.codes = self.base + times

    def code(self, rows: Ints, moments: Ints) -> Ints:
        """The code of another moment for the keys of `rows`; moments outside the block's times become its ends."""
        codes: Ints = self.base[rows] + np.clip(moments, self._low, self._high)
        return codes

    def after(self, rows: Ints, length: int) -> Ints:
        """For each row the position of the first row of its key that is later than its own time less `length`."""
        return self.later_than(rows, self.times[rows] - length)

    def later_than(self, rows: Ints, moments: Ints) -> Ints:
        """For each row the position of the first row of its key that is later than the moment, or the key's end."""
        return np.searchsorted(self.codes, self.code(rows, moments), side="right")


def running_sums(values: Ints | Bools) -> Ints:
    """Sums of the first 0, 1, … n values. It may wrap around; differences over a window are still exact."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def or_nan(values: Ints | Floats) -> Floats:
    """The values, NaN where they are not above zero: a base to divide by."""
    return np.where(values > 0, values, np.nan)


def ratio(values: Ints, base: Ints | Floats) -> Floats:
    """values / base, NaN where the base is not above zero."""
    return values / or_nan(base)


def fill(features: dict[str, Floats], rows: Ints, values: dict[str, Floats]) -> None:
    """Set the values of these rows."""
    for name, column in values.items():
        features[name][rows] = column


def keep_rows(order: NDArray[np.intp], features: dict[str, Floats], keep: Bools) -> ComputedFeatures:
    """The features of the rows to keep, with their positions in the input."""
    if keep.all():
        return ComputedFeatures(order, features)
    return ComputedFeatures(order[keep], {name: values[keep] for name, values in features.items()})
