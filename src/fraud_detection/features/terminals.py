"""Features of the terminal of a transaction, from the labels known by then.

Pure numpy; see `timeline` for the order of rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_detection.features.definitions import (
    DAY,
    LAST_LABELS,
    LOOK_BACK,
    TERMINAL_FRAUD_FEATURES,
    TERMINAL_WINDOW_FEATURES,
    WINDOW_DAYS,
)
from fraud_detection.features.order_statistics import count_by, last_above, least_of_spans
from fraud_detection.features.timeline import (
    Bools,
    ComputedFeatures,
    Floats,
    Ints,
    Timeline,
    blocks,
    fill,
    keep_rows,
    or_nan,
    time_order,
)
from fraud_detection.labels import NEVER


@dataclass(frozen=True)
class KnownFrauds:
    """What is known of each of n rows as a fraud."""

    known: Ints
    """From when it is known as one, NEVER for genuine rows: (n,), or (k, n) where a label can change more than once."""
    until: Ints | None
    """When it stops being known as one, NEVER where it does not; None where none does (`Labels.fraud_spans`)."""
    unexplained: Bools
    """Frauds that their cards do not explain, as the card kernel says."""
    cents: Ints
    to_median: Floats
    """The amount as a multiple of the median of its card's past, as the card kernel says."""

    def at(self, rows: NDArray[np.intp] | slice) -> "KnownFrauds":
        """Some of the rows, with `known` and `until` as (k, n)."""
        known, until = np.atleast_2d(self.known), None if self.until is None else np.atleast_2d(self.until)
        return KnownFrauds(
            known[:, rows],
            None if until is None else until[:, rows],
            self.unexplained[rows],
            self.cents[rows],
            self.to_median[rows],
        )


def terminal_features(
    terminals: Ints,
    times: Ints,
    ids: NDArray[np.generic],
    frauds: KnownFrauds,
    start: int,
    label_delay: int,
    *,
    windows_only: bool = False,
) -> ComputedFeatures:
    """Features of each transaction's terminal, from labels known at that time.

    Windows (t-D-w, t-D] count every transaction, and as frauds those of them known at t. Unexplained frauds count while
    they are known and their transaction lies in (t-D-30 days, t].

    Args:
        terminals: codes 0..m-1, int64[n].
        label_delay: D in microseconds.
        windows_only: whether to leave out all but the windows.
    """
    order = time_order(terminals, times, ids)
    terminals, times, frauds = terminals[order], times[order], frauds.at(order)
    names = TERMINAL_WINDOW_FEATURES + (() if windows_only else TERMINAL_FRAUD_FEATURES)
    features = {name: np.full(len(order), np.nan) for name in names}
    for block in blocks(terminals, times):
        line = Timeline(terminals[block], times[block])
        wanted = np.flatnonzero(line.times >= start)
        of_block = frauds.at(block)
        fraud = _Frauds(line, of_block.known, of_block.until, label_delay)
        matured = line.after(wanted, label_delay)
        firsts = {days: line.after(wanted, label_delay + days * DAY) for days in WINDOW_DAYS}
        values = _terminal_windows(fraud, wanted, matured, firsts)
        if not windows_only:
            values |= _last_labels(fraud, wanted, matured, firsts[30])
            values |= _unexplained(fraud, wanted, matured, of_block)
        fill(features, block.start + wanted, values)
    return keep_rows(order, features, times >= start)


class _Frauds:
    """The frauds of a block of terminals: rows (int64[f], in the block's order), and when each is known as one.

    A row whose label changed more than once is there once for each time it was known as a fraud.
    """

    def __init__(self, line: Timeline, known: Ints, until: Ints | None, label_delay: int) -> None:
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
            values[f"terminal_fraud_share_last_{back}"] = frauds / or_nan(np.minimum(available, back))
    return values


def _unexplained(fraud: _Frauds, wanted: Ints, matured: Ints, frauds: KnownFrauds) -> dict[str, Floats]:
    """What the unexplained frauds say that are known and have not left; missing where there is none."""
    line = fraud.line
    chosen = frauds.unexplained[fraud.rows]
    rows, known = fraud.rows[chosen], fraud.known[chosen]
    leaves = fraud.leaves(line.times[fraud.rows] + fraud.delay + LOOK_BACK)[chosen]
    count = fraud.seen(rows, wanted, known, leaves)
    values = {name: np.full(len(wanted), np.nan) for name in TERMINAL_FRAUD_FEATURES[len(LAST_LABELS) :]}
    values["terminal_unexplained_count_30d"] = count.astype(np.float64)

    some = np.flatnonzero(count)
    if len(some):
        times, now = line.times[wanted[some]], line.codes[wanted[some]]
        by_known = np.argsort(line.code(rows, known), kind="stable")
        rows, known, leaves = rows[by_known], known[by_known], line.code(rows, leaves)[by_known]
        enters = line.code(rows, known)
        # Of those known by now, the first and the last that have not left: one exists, so both are of this terminal.
        first = np.searchsorted(np.maximum.accumulate(leaves), now, side="right")
        last = last_above(leaves, np.searchsorted(enters, now, side="right") - 1, now)
        found = {
            "terminal_days_since_first_unexplained": np.minimum(times - known[first], LOOK_BACK) / DAY,
            "terminal_days_since_last_unexplained": np.minimum(times - known[last], LOOK_BACK) / DAY,
            "terminal_genuine_since_unexplained": _genuine_between(fraud, rows[last] + 1, matured[some], times),
            "terminal_unexplained_least_amount": least_of_spans(enters, leaves, frauds.cents[rows] / 100.0, now),
            "terminal_unexplained_least_to_median": least_of_spans(enters, leaves, frauds.to_median[rows], now),
            "terminal_unexplained_last_amount": frauds.cents[rows[last]] / 100.0,
        }
        fill(values, some, found)
    return values


def _genuine_between(fraud: _Frauds, first: Ints, end: Ints, now: Ints) -> Ints:
    """Rows in [first, end) of the block that are not known as frauds at `now`."""
    end = np.maximum(first, end)
    low, high = np.searchsorted(fraud.rows, first), np.searchsorted(fraud.rows, end)
    genuine: Ints = end - first - count_by(fraud.known, low, high, now)
    return genuine if fraud.until is None else genuine + count_by(fraud.until, low, high, now)
