"""Features of cards and terminals over sliding windows of time: pure numpy, no engine.

Both kernels take the rows of some keys (all rows of a key, in any order) and return features for the rows at or after
`start`, seeing nothing later than the row itself. Rows of a key are ordered by (time, transaction id): of two rows in
the same second the earlier id does not see the later one. Times are int64 microseconds, amounts int64 cents; every sum
is an exact integer until its last division, so a value never depends on which other keys share the call, nor on the
engine that makes it.

A window of length w is (t-w, t]. It becomes two positions, found by binary search in one integer per row that holds
key and time, and a difference of cumulative sums: O(n log n) whatever the window, also for one key with all the rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_detection.labels import NEVER

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

DAY = 86_400_000_000
"""Microseconds in a day."""
HOUR = DAY // 24
WINDOW_DAYS = (1, 7, 30)
LOOK_BACK = 30 * DAY
"""No feature reads a card's past beyond this, or a terminal's beyond this and the label delay."""
LARGEST_AMOUNT = 1e12
"""Amounts are capped here before they become cents: a window of 90,000 such rows still sums exactly."""

LAST_LABELS = (2, 3, 5)

CARD_WINDOW_FEATURES = tuple(f"card_{what}_{days}d" for days in WINDOW_DAYS for what in ("count", "mean_amount"))
CARD_PAST_FEATURES = (
    "amount_to_past_mean",
    "amount_z",
    "amount_to_past_median",
    "amount_to_past_p90",
    "amount_to_past_max",
    "card_hours_since_last",
    *(f"card_large_count_{days}d" for days in WINDOW_DAYS),
    "card_large_sum_30d",
)
TERMINAL_WINDOW_FEATURES = tuple(f"terminal_{what}_{days}d" for days in WINDOW_DAYS for what in ("count", "fraud_rate"))
TERMINAL_FRAUD_FEATURES = (
    *(f"terminal_fraud_share_last_{last}" for last in LAST_LABELS),
    "terminal_unexplained_count_30d",
    "terminal_days_since_first_unexplained",
    "terminal_days_since_last_unexplained",
    "terminal_genuine_since_unexplained",
)
CARD_FEATURES = CARD_WINDOW_FEATURES + CARD_PAST_FEATURES
TERMINAL_FEATURES = TERMINAL_WINDOW_FEATURES + TERMINAL_FRAUD_FEATURES

_BLOCK_ROWS = 1 << 16  # keys are worked through in blocks of about this many rows, which fit in a core's cache
_MOST_CENTS = 1 << 47  # above LARGEST_AMOUNT in cents; one for each row of a block still fits in an int64
_CODES = 1 << 62  # (key, time) codes stay below it


@dataclass(frozen=True)
class Rows:
    """The kept rows as positions in the input, in (key, time, id) order, and one value each per feature.

    A feature is NaN where it is missing, and for rows before `start`.
    """

    positions: NDArray[np.intp]
    features: dict[str, Floats]
    unexplained: Bools
    """Frauds that their cards' own spending does not explain (`_CardPast.unexplained`); false for all other rows."""


def to_cents(amounts: Floats) -> Ints:
    """Amounts in cents, rounded to the nearest."""
    cents: Ints = np.rint(np.minimum(amounts, LARGEST_AMOUNT) * 100.0).astype(np.int64)
    return cents


def calendar_features(times: Ints) -> dict[str, Floats]:
    """`night`: hour of the day at most 6; `weekend`: Saturday or Sunday; both in UTC, 0 or 1."""
    hour = times // HOUR % 24
    weekday = (times // DAY + 3) % 7  # 1970-01-01 was a Thursday, and Monday is 0
    return {"night": (hour <= 6).astype(np.float64), "weekend": (weekday >= 5).astype(np.float64)}


# ---------------------------------------------------------------------------------------------------------- cards


def card_features(
    cards: Ints,
    times: Ints,
    ids: NDArray[np.generic],
    cents: Ints,
    fraud: Bools,
    start: int,
    keep_from: int,
    *,
    past: bool = True,
) -> Rows:
    """Features of each transaction against its own card's past.

    Windows (t-w, t] include the transaction; its past is the rows of its card in (t-30 days, t) and earlier in order,
    and without any, what compares with it is missing.

    Args:
        cards: codes 0..m-1, int64[n].
        ids: of any sortable type; they order rows of one card in the same microsecond.
        start: rows before it get no features.
        keep_from: rows before it are left out of the result.
        past: False leaves the features against the card's past out, and `unexplained` is false everywhere.
    """
    order = time_order(cards, times, ids)
    cards, times, cents, fraud = cards[order], times[order], cents[order], fraud[order]
    names = CARD_WINDOW_FEATURES + (CARD_PAST_FEATURES if past else ())
    features = {name: np.full(len(order), np.nan) for name in names}
    unexplained = np.zeros(len(order), dtype=np.bool_)
    for block in _blocks(cards, times):
        line = _Timeline(cards[block], times[block])
        wanted = np.flatnonzero(line.times >= start)
        firsts = {days: line.after(wanted, days * DAY) for days in WINDOW_DAYS}
        values = _card_windows(cents[block], wanted, firsts)
        if past:
            # Wanted rows count the large amounts of their look-back, and terminals judge every fraud.
            judged = np.flatnonzero((line.times > start - LOOK_BACK) | fraud[block])
            card_past = _CardPast(line, cents[block], judged)
            values |= _against_past(card_past, wanted, firsts[30])
            values |= _large_amounts(card_past, wanted, firsts)
            unexplained[block] = card_past.unexplained(fraud[block])
        _fill(features, block.start + wanted, values)
    return _kept(order, features, unexplained, times >= keep_from)


def _card_windows(cents: Ints, wanted: Ints, firsts: dict[int, Ints]) -> dict[str, Floats]:
    spent = _running(cents)
    values = {}
    for days, first in firsts.items():
        count = wanted + 1 - first
        values[f"card_count_{days}d"] = count.astype(np.float64)
        values[f"card_mean_amount_{days}d"] = (spent[wanted + 1] - spent[first]) / count / 100.0
    return values


class _CardPast:
    """The rows of a block of cards, with the median of the past of `judged` ones and whether they were large for it."""

    def __init__(self, line: "_Timeline", cents: Ints, judged: Ints) -> None:
        self.line = line
        self.cents = cents
        self.amounts = _ByAmount(line, cents)
        self.median = np.full(len(cents), -1)
        """-1 where there is no past."""
        self.median[judged] = self.amounts.quantile(line.after(judged, LOOK_BACK), judged, 1, 2)
        self.large = (self.median >= 0) & (2 * cents > 5 * self.median)

    def unexplained(self, fraud: Bools) -> Bools:
        """The frauds that say something about the terminal, as their card was not spending unusually by then.

        A fraud is explained by its card where its own amount, or at least two of the card's in the 7 days before, were
        above 2.5 times the median of the card's past. A fraud without any past is not explained.
        """
        rows = np.flatnonzero(fraud & ~self.large)
        first = self.line.after(rows, 7 * DAY)
        second_largest = self.amounts.smallest(first, rows, rows - first - 2)
        unexplained = np.zeros(len(fraud), dtype=np.bool_)
        unexplained[rows] = 2 * second_largest <= 5 * self.median[rows]
        unexplained[rows] |= self.median[rows] < 0
        return unexplained


def _against_past(card: _CardPast, wanted: Ints, first: Ints) -> dict[str, Floats]:
    own, times = card.cents[wanted], card.line.times
    spent = _running(card.cents)
    count = wanted - first
    since_last = np.where(count > 0, times[wanted] - times[wanted - 1], -1)
    return {
        "amount_to_past_mean": _ratio(own, (spent[wanted] - spent[first]) / _or_nan(count)),
        "amount_z": _z_of_logs(card.cents, wanted, first),
        "amount_to_past_median": _ratio(own, card.median[wanted]),
        "amount_to_past_p90": _ratio(own, card.amounts.quantile(first, wanted, 9, 10)),
        "amount_to_past_max": _ratio(own, card.amounts.quantile(first, wanted, 1, 1)),
        "card_hours_since_last": np.where(since_last >= 0, since_last, np.nan) / HOUR,
    }


def _large_amounts(card: _CardPast, wanted: Ints, firsts: dict[int, Ints]) -> dict[str, Floats]:
    count, spent = _running(card.large), _running(np.where(card.large, card.cents, 0))
    values = {
        f"card_large_count_{days}d": (count[wanted + 1] - count[first]).astype(np.float64)
        for days, first in firsts.items()
    }
    values["card_large_sum_30d"] = _ratio(spent[wanted + 1] - spent[firsts[30]], card.median[wanted])
    return values


def _z_of_logs(cents: Ints, rows: Ints, first: Ints) -> Floats:
    """How many standard deviations the logarithm of an amount lies above those of its past.

    The bits of a float64 read as an integer are its base-2 logarithm with linear interpolation; the upper ones give it
    in steps of 1/256, so that squares and sums are exact integers.
    """
    logs = (cents + 1).astype(np.float64).view(np.int64) >> 44
    logs -= 1023 << 8
    count = rows - first
    total = _running(logs)
    squares = _running(logs * logs)
    total, squares = total[rows] - total[first], squares[rows] - squares[first]
    spread = np.sqrt((count * squares - total * total).astype(np.float64))
    return (count * logs[rows] - total) / _or_nan(spread)


# ------------------------------------------------------------------------------------------------------ terminals


def terminal_features(
    terminals: Ints,
    times: Ints,
    ids: NDArray[np.generic],
    known: Ints,
    unexplained: Bools,
    start: int,
    label_delay: int,
    *,
    until: Ints | None = None,
    frauds: bool = True,
) -> Rows:
    """Features of each transaction's terminal, from labels known at that time.

    Windows (t-D-w, t-D] count every transaction, and as frauds those of them known at t. Unexplained frauds count while
    they are known and their transaction lies in (t-D-30 days, t].

    Args:
        terminals: codes 0..m-1, int64[n].
        known: from when each row is known as a fraud, NEVER for the others: (n,), or (k, n) where a label can change
            more than once (`Labels.fraud_spans`).
        unexplained: frauds that their cards do not explain, as the card kernel says.
        label_delay: D in microseconds.
        until: when a row stops being known as one; None where that never happens.
        frauds: False leaves out all but the windows.
    """
    order = time_order(terminals, times, ids)
    terminals, times, unexplained = terminals[order], times[order], unexplained[order]
    known, until = np.atleast_2d(known)[:, order], None if until is None else np.atleast_2d(until)[:, order]
    names = TERMINAL_WINDOW_FEATURES + (TERMINAL_FRAUD_FEATURES if frauds else ())
    features = {name: np.full(len(order), np.nan) for name in names}
    for block in _blocks(terminals, times):
        line = _Timeline(terminals[block], times[block])
        wanted = np.flatnonzero(line.times >= start)
        fraud = _Frauds(line, known[:, block], None if until is None else until[:, block], label_delay)
        matured = line.after(wanted, label_delay)
        firsts = {days: line.after(wanted, label_delay + days * DAY) for days in WINDOW_DAYS}
        values = _terminal_windows(fraud, wanted, matured, firsts)
        if frauds:
            values |= _last_labels(fraud, wanted, matured, firsts[30])
            values |= _unexplained(fraud, wanted, matured, unexplained[block])
        _fill(features, block.start + wanted, values)
    return _kept(order, features, unexplained, times >= start)


class _Frauds:
    """The frauds of a block of terminals: rows (int64[f], in the block's order), and when each is known as one.

    A row whose label changed more than once is there once for each time it was known as a fraud.
    """

    def __init__(self, line: "_Timeline", known: Ints, until: Ints | None, label_delay: int) -> None:
        self.line = line
        self.delay = label_delay
        self._layers = list(zip(known, [None] * len(known) if until is None else until, strict=True))
        self.rows, place = np.nonzero(known.T != NEVER)
        self.known = known[place, self.rows]
        self.until = None if until is None else until[place, self.rows]

    def is_known(self, rows: Ints, moments: Ints) -> Bools:
        """Whether each of the rows is known as a fraud at its moment."""
        found = np.zeros(len(rows), dtype=np.bool_)
        for known, until in self._layers:
            now = known[rows] <= moments
            found |= now if until is None else now & (moments < until[rows])
        return found

    def leaves(self, moments: Ints) -> Ints:
        """The moments at which the frauds leave a window, or are taken back if that is earlier."""
        return moments if self.until is None else np.minimum(moments, self.until)

    def seen(self, rows: Ints, at: Ints, enters: Ints, leaves: Ints) -> Ints:
        """How many of the frauds `rows` of a row's terminal have entered and not left at the rows `at`: int64[len(at)].

        Those that would leave before they enter never enter.
        """
        ever = enters < leaves
        rows = rows[ever]
        entered = np.sort(self.line.code(rows, enters[ever]))
        left = np.sort(self.line.code(rows, leaves[ever]))
        moments = self.line.codes[at]
        seen: Ints = np.searchsorted(entered, moments, side="right") - np.searchsorted(left, moments, side="right")
        return seen


def _terminal_windows(fraud: _Frauds, wanted: Ints, matured: Ints, firsts: dict[int, Ints]) -> dict[str, Floats]:
    happened = fraud.line.times[fraud.rows]
    enters = np.maximum(happened + fraud.delay, fraud.known)
    values = {}
    for days, first in firsts.items():
        count = matured - first
        frauds = fraud.seen(fraud.rows, wanted, enters, fraud.leaves(happened + fraud.delay + days * DAY))
        values[f"terminal_count_{days}d"] = count.astype(np.float64)
        values[f"terminal_fraud_rate_{days}d"] = frauds / np.maximum(count, 1)
    return values


def _last_labels(fraud: _Frauds, wanted: Ints, matured: Ints, first: Ints) -> dict[str, Floats]:
    """The share of known frauds among the last matured transactions of the terminal; missing where there is none."""
    now = fraud.line.times[wanted]
    available = matured - first
    frauds = np.zeros(len(wanted), dtype=np.int64)
    values = {}
    for back in range(1, max(LAST_LABELS) + 1):
        frauds += (available >= back) & fraud.is_known(np.maximum(matured - back, 0), now)
        if back in LAST_LABELS:
            values[f"terminal_fraud_share_last_{back}"] = frauds / _or_nan(np.minimum(available, back))
    return values


def _unexplained(fraud: _Frauds, wanted: Ints, matured: Ints, unexplained: Bools) -> dict[str, Floats]:
    line = fraud.line
    chosen = unexplained[fraud.rows]
    rows, known = fraud.rows[chosen], fraud.known[chosen]
    leaves = fraud.leaves(line.times[fraud.rows] + fraud.delay + LOOK_BACK)[chosen]
    count = fraud.seen(rows, wanted, known, leaves)
    values = {name: np.full(len(wanted), np.nan) for name in TERMINAL_FRAUD_FEATURES[-3:]}
    values["terminal_unexplained_count_30d"] = count.astype(np.float64)

    some = np.flatnonzero(count)
    if len(some):
        now = line.codes[wanted[some]]
        by_known = np.argsort(line.code(rows, known), kind="stable")
        rows, known, leaves = rows[by_known], known[by_known], line.code(rows, leaves)[by_known]
        # Of those known by now, the first and the last that have not left: one exists, so both are of this terminal.
        first = np.searchsorted(np.maximum.accumulate(leaves), now, side="right")
        last = _last_above(leaves, np.searchsorted(line.code(rows, known), now, side="right") - 1, now)
        times = line.times[wanted[some]]
        values["terminal_days_since_first_unexplained"][some] = np.minimum(times - known[first], LOOK_BACK) / DAY
        values["terminal_days_since_last_unexplained"][some] = np.minimum(times - known[last], LOOK_BACK) / DAY
        since = _genuine_between(fraud, rows[last] + 1, matured[some], times)
        values["terminal_genuine_since_unexplained"][some] = since
    return values


def _genuine_between(fraud: _Frauds, first: Ints, end: Ints, now: Ints) -> Ints:
    """Rows in [first, end) of the block that are not known as frauds at `now`."""
    end = np.maximum(first, end)
    low, high = np.searchsorted(fraud.rows, first), np.searchsorted(fraud.rows, end)
    genuine: Ints = end - first - _count_by(fraud.known, low, high, now)
    return genuine if fraud.until is None else genuine + _count_by(fraud.until, low, high, now)


def _count_by(moments: Ints, first: Ints, end: Ints, now: Ints) -> Ints:
    """How many of the moments at the positions [first, end) have come by `now`."""
    ranks = np.argsort(moments, kind="stable")
    rank = np.empty_like(ranks)
    rank[ranks] = np.arange(len(ranks))
    limit = np.searchsorted(moments[ranks], now, side="right")
    return _WaveletMatrix(rank, len(ranks)).count_below(first, end, limit)


def _last_above(values: Ints, last: Ints, limit: Ints) -> Ints:
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


# ---------------------------------------------------------------------------------------------------------- tools


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


def _blocks(keys: Ints, times: Ints) -> Iterator[slice]:
    """Cut sorted rows between keys into blocks that fit in a core's cache and whose codes fit in an int64."""
    if len(keys) == 0:
        return
    starts = np.append(np.flatnonzero(np.append(True, keys[1:] != keys[:-1])), len(keys))
    most_keys = _CODES // (int(times.max()) - int(times.min()) + 3)
    key = 0
    while key < len(starts) - 1:
        until = int(np.searchsorted(starts, starts[key] + _BLOCK_ROWS, side="right")) - 1
        until = max(key + 1, min(until, key + most_keys))
        yield slice(int(starts[key]), int(starts[until]))
        key = until


class _Timeline:
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
        return np.searchsorted(self.codes, self.code(rows, self.times[rows] - length), side="right")


class _WaveletMatrix:
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


class _ByAmount:
    """Quantiles of the amounts in any range of one card's rows."""

    def __init__(self, line: _Timeline, cents: Ints) -> None:
        key_change = np.append(True, np.diff(line.base) != 0)
        starts = np.flatnonzero(key_change)
        keys = np.cumsum(key_change) - 1
        by_amount = np.argsort(keys * _MOST_CENTS + cents)
        self._sorted = cents[by_amount]
        self._start = starts[keys]
        rank = np.empty(len(cents), dtype=np.int64)
        rank[by_amount] = np.arange(len(cents))
        longest = int(np.diff(np.append(starts, len(cents))).max(initial=0))
        self._ranks = _WaveletMatrix(rank - self._start, longest)

    def quantile(self, first: Ints, end: Ints, share: int, of: int) -> Ints:
        """The smallest amount in [first, end) that share/of of the amounts do not exceed; -1 where the range is empty.

        `end` is also a row of the card itself: the transaction whose past the range is.
        """
        return self.smallest(first, end, ((end - first) * share + of - 1) // of - 1)

    def smallest(self, first: Ints, end: Ints, k: Ints) -> Ints:
        """The k-th smallest amount (from 0) in [first, end), with `end` as above; -1 where k is negative."""
        result = np.full(len(first), -1)
        some = np.flatnonzero(k >= 0)
        first, end, k = first[some], end[some], k[some]
        result[some] = self._sorted[self._start[end] + self._ranks.kth_smallest(first, end, k)]
        return result


def _running(values: Ints | Bools) -> Ints:
    """Sums of the first 0, 1, … n values. It may wrap around; differences over a window are still exact."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def _or_nan(values: Ints | Floats) -> Floats:
    return np.where(values > 0, values, np.nan)


def _ratio(values: Ints, base: Ints | Floats) -> Floats:
    return values / _or_nan(base)


def _fill(features: dict[str, Floats], rows: Ints, values: dict[str, Floats]) -> None:
    for name, column in values.items():
        features[name][rows] = column


def _kept(order: NDArray[np.intp], features: dict[str, Floats], unexplained: Bools, keep: Bools) -> Rows:
    if keep.all():
        return Rows(order, features, unexplained)
    return Rows(order[keep], {name: values[keep] for name, values in features.items()}, unexplained[keep])
