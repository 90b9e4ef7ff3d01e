"""When a label is known, and which label a transaction has at a moment: the one rule for samples, features and profile.

A label is known from `label_available_at` on where that is given, otherwise from the label delay after the transaction
on; never before its transaction is over. A moment x sees what is known at x itself (known time <= x). Of several labels
of a transaction the one known last counts, until the next one is known: a correction changes nothing before its time.

A transaction's only label is in the columns `fraud` and `label_available_at`. Where a label table has several for it,
those columns hold the last one and `label_history` all of them as text, oldest first: `0001772323200000000=1` says that
fraud (1; genuine 0, withdrawn -) became known so many microseconds after 1970 (0 where the table does not say when).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Int8s = NDArray[np.int8]

HISTORY = "label_history"
"""Column of the canonical table, where labels come from a table that says when they became known."""
EARLIER_HISTORY = "earlier_label_history"
"""The history as an earlier run knew it; only the fingerprint looks at it."""
WAS_FRAUD = "=1"
"""In `label_history` where the transaction was a fraud at some time."""
TIME_DIGITS = 19
NEVER = np.iinfo(np.int64).max
"""The known time of an absent label."""
UNKNOWN = -1
"""The label of a transaction whose label is not known."""


def known_at(times: Ints, available: Ints | None, delay: int) -> Ints:
    """When labels become known, in microseconds.

    Args:
        available: when the label came, NEVER where that was not recorded; None where it was of none.
        delay: the label delay in microseconds.
    """
    presumed = times + delay
    known = presumed if available is None else np.where(available == NEVER, presumed, available)
    # A label that claims to be as old as its transaction must not reach the transaction itself.
    return np.maximum(known, times + 1)


@dataclass(frozen=True)
class Labels:
    """The labels of n transactions, k at most of each, in the order in which they count.

    A transaction with fewer labels has the others at NEVER. Nearly always k is 1.
    """

    known: Ints  # (k, n)
    fraud: Int8s  # (k, n): 1, 0, UNKNOWN

    @classmethod
    def of(cls, times: Ints, fraud: Int8s, available: Ints | None, history: pa.Array | None, delay: int) -> "Labels":
        """From the columns of the canonical table; `fraud` is UNKNOWN where it is null."""
        known, fraud = known_at(times, available, delay)[np.newaxis], fraud[np.newaxis]
        if history is None or history.null_count == len(history):
            return cls(known, fraud)
        row, place, moment, label = _events(history)
        moment = known_at(times[row], np.where(moment == 0, NEVER, moment), delay)
        count = int(place.max()) + 1
        known = np.vstack([known, np.full((count - 1, len(times)), NEVER)])
        fraud = np.vstack([fraud, np.full((count - 1, len(times)), UNKNOWN, np.int8)])
        known[place, row], fraud[place, row] = moment, label
        return cls(known, fraud)._each_change_once()

    @classmethod
    def of_frame(cls, rows: "pd.DataFrame", delay: timedelta) -> "Labels":
        """From a pandas table with naive times in UTC."""
        import pandas as pd

        fraud = rows["fraud"].astype("Int8").fillna(UNKNOWN).to_numpy(np.int8)
        available = None
        if "label_available_at" in rows:
            given = pd.to_datetime(rows["label_available_at"])
            available = np.where(given.isna(), NEVER, microseconds(given))
        history = pa.array(rows[HISTORY], pa.string(), from_pandas=True) if HISTORY in rows else None
        return cls.of(microseconds(rows["transaction_time"]), fraud, available, history, _whole_microseconds(delay))

    def at(self, moment: int) -> Int8s:
        """The label of each transaction as it was known at a moment, (n,): 1, 0, UNKNOWN."""
        found = np.full(self.known.shape[1], UNKNOWN, np.int8)
        for known, fraud in zip(self.known, self.fraud, strict=True):
            found = np.where(known <= moment, fraud, found)
        return found

    def fraud_spans(self) -> tuple[Ints, Ints | None]:
        """From when and until when each transaction is known as a fraud, both (k, n), NEVER and NEVER where it is not.

        The second is None where no fraud was ever taken back.
        """
        count = len(self.known)
        if count == 1:
            return np.where(self.fraud == 1, self.known, NEVER), None
        following = np.vstack([self.known[1:], np.full((1, self.known.shape[1]), NEVER)])
        until = np.minimum.accumulate(following[::-1])[::-1]
        counts = (self.fraud == 1) & (self.known < until)
        return np.where(counts, self.known, NEVER), np.where(counts, until, NEVER)

    def _each_change_once(self) -> "Labels":
        """Without labels that only repeat the one before: what they say was known since the first of them."""
        known = self.known.copy()
        for place in range(1, len(known)):
            same = (known[place] != NEVER) & (self.fraud[place] == self.fraud[place - 1])
            known[place, same] = np.minimum(known[place, same], known[place - 1, same])
            known[place - 1, same] = NEVER
        return Labels(known, self.fraud)


def ever_fraud(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """The rows that are, or at some time were, known as frauds."""
    fraud = rows["fraud"].eq(1).fillna(False).astype(bool)
    if HISTORY not in rows:
        return fraud
    was = rows[HISTORY].astype("string").str.contains(WAS_FRAUD, regex=False)
    return fraud | was.fillna(False).astype(bool)


def microseconds(times: Any) -> Ints:  # noqa: ANN401 - a pandas column or one moment
    """Naive times in UTC as microseconds since 1970."""
    values: Ints = np.asarray(times, dtype="datetime64[us]").astype(np.int64)
    return values


def _events(history: pa.Array) -> tuple[Ints, Ints, Ints, Int8s]:
    """Of each label in `label_history`: its row, its place among those of the row, its time and what it says."""
    lists = pc.split_pattern(history, " ")
    texts = lists.flatten()
    row = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
    place = np.arange(len(row)) - np.searchsorted(row, row)
    moment = pc.utf8_slice_codeunits(texts, 0, TIME_DIGITS).cast(pa.int64()).to_numpy()
    said = pc.utf8_slice_codeunits(texts, TIME_DIGITS + 1, TIME_DIGITS + 2)
    label = pc.replace_substring(said, "-", str(UNKNOWN)).cast(pa.int8()).to_numpy()
    return row, place, moment, label


def _whole_microseconds(delay: timedelta) -> int:
    return delay // timedelta(microseconds=1)
