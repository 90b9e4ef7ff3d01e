"""Which days have the transactions of labels.

A label is in each day that has a transaction with its id, and waits where none has. Ids are compared by 64-bit hashes,
as in `repeats`. Where the label table has ids of another type they meet as text, as in `label_table`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_detection.labels import UNKNOWN
from fraud_detection.storage import Storage
from fraud_detection.transactions.columns import KEY
from fraud_detection.transactions.store.canonical import FILE
from fraud_detection.transactions.store.days import TIME, hashes
from fraud_detection.transactions.store.manifest import NO_DAY, Day, Manifest
from fraud_detection.transactions.store.repeats import UInts, load

ROW = "_row"
"""The place of a label in its file."""
HASH = "_hash"
"""Of the id of a label, as an id of transactions; null where no transaction can have it."""
AVAILABLE = "label_available_at"
_WHOLE = r"^(0|-?[1-9][0-9]{0,18})$"
_LIMIT = 2**63


def with_hashes(labels: pa.Table, id_type: pa.DataType) -> pa.Table:
    """Labels with `HASH`.

    Args:
        labels: with their own ids.
        id_type: of the ids of transactions.
    """
    ids = _converted(labels[KEY], id_type)
    found = pa.chunked_array([pa.array(hashes(ids), pa.uint64(), mask=ids.is_null().to_numpy())])
    return labels.append_column(HASH, found)


def _converted(ids: pa.ChunkedArray, id_type: pa.DataType) -> pa.ChunkedArray:
    if ids.type == id_type:
        return ids
    if pa.types.is_string(id_type):
        return ids.cast(pa.string())
    wide = pa.decimal128(20, 0)
    numbers = pc.if_else(pc.match_substring_regex(ids, _WHOLE), ids, None).cast(wide)
    low, high = (pa.scalar(Decimal(limit), wide) for limit in (-_LIMIT, _LIMIT))
    fits = pc.and_(pc.greater_equal(numbers, low), pc.less(numbers, high))
    return pc.if_else(fits, numbers, None).cast(pa.int64())


@dataclass(frozen=True)
class DayIds:
    """The transactions of a day, as labels need them."""

    hashes: UInts
    """Of their ids, sorted, each once."""
    times: NDArray[np.int64]
    """The latest time of each, in microseconds since 1970."""

    @classmethod
    def of(cls, rows: pa.Table) -> "DayIds":
        """From ids and times."""
        rows = rows.filter(rows[KEY].is_valid())
        found, place = np.unique(hashes(rows[KEY]), return_inverse=True)
        times = np.full(len(found), np.iinfo(np.int64).min)
        np.maximum.at(times, place, rows[TIME].cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy())
        return cls(found, times)

    def some_bad(self, labels: pa.Table) -> bool:
        """Whether some label makes its transaction bad: see `rules.reasons`.

        Args:
            labels: of these transactions, with `HASH`.
        """
        fraud = labels["fraud"].fill_null(UNKNOWN).to_numpy()
        bad = (fraud > 1) | labels["defect"].is_valid().to_numpy()
        if AVAILABLE in labels.column_names:
            time = self.times[np.searchsorted(self.hashes, labels[HASH].to_numpy())]
            available = labels[AVAILABLE].cast(pa.int64()).fill_null(np.iinfo(np.int64).max).to_numpy()
            bad |= available < time
        return bool(bad.any())


class Pool:
    """Labels that look for their days."""

    def __init__(self, parts: Sequence[pa.Table]) -> None:
        """`parts`: with `HASH`; a label may be in several of them."""
        labels = without_copies(pa.concat_tables(parts))
        self.labels = labels.take(pc.sort_indices(labels, [(HASH, "ascending")]))  # null comes last
        self._count = len(labels) - labels[HASH].null_count
        self._hashes = self.labels[HASH].slice(0, self._count).to_numpy()
        self._placed = np.zeros(len(labels), np.bool_)

    def place(self, ids: UInts) -> pa.Table:
        """The labels of some ids, which then wait no longer; `ids` is sorted."""
        low, high = (np.searchsorted(self._hashes, ids, side) for side in ("left", "right"))
        counts = high - low
        before = np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(low, counts) + np.arange(int(counts.sum())) - before
        self._placed[places] = True
        return self.labels.take(pa.array(places))

    def has(self, ids: UInts) -> bool:
        """Whether some label is of one of these ids."""
        return bool(np.isin(ids, self._hashes).any())

    def waiting(self) -> pa.Table:
        """Those that found no day."""
        return self.labels.filter(pa.array(~self._placed))

    def candidates(self, storage: Storage, rows: Manifest, but: Iterable[int]) -> set[int]:
        """Days, at least all those that have the transactions of these labels; some of them may have none.

        Args:
            storage: of the store of rows.
            rows: its state.
            but: days that are not asked for.
        """
        left_out = {*but, NO_DAY}
        days = [day for day in rows.days if day.day not in left_out]
        wanted = np.unique(self._hashes)
        if not days or not len(wanted):
            return set()
        found = self._by_range(days)
        if found is None:
            parts = [load(storage, segment).of_hashes(wanted).days for segment in rows.segments]
            found = {int(day) for part in parts for day in np.unique(part)}
        return found & {day.day for day in days}

    def _by_range(self, days: Sequence[Day]) -> set[int] | None:
        """Where the ids of each day lie apart from those of all others; None otherwise."""
        ranges = sorted((*day.ids, day.day) for day in days if day.ids is not None)
        if len(ranges) < len(days) or any(one[1] >= other[0] for one, other in pairwise(ranges)):
            return None
        ids = _converted(self.labels[KEY].slice(0, self._count), pa.int64()).to_numpy()
        place = np.searchsorted([low for low, _, _ in ranges], ids, "right") - 1
        inside = (place >= 0) & (ids <= np.array([high for _, high, _ in ranges])[place])
        return {ranges[number][2] for number in np.unique(place[inside])}


def without_copies(labels: pa.Table) -> pa.Table:
    """Each label of a file once."""
    places = pd.DataFrame({name: labels[name].to_numpy() for name in (FILE, ROW)})
    repeated = places.duplicated().to_numpy()
    return labels.filter(pa.array(~repeated)) if repeated.any() else labels


def in_order(labels: pa.Table) -> pa.Table:
    """The labels of a day in one order, whatever order they came in."""
    first = [KEY, *(name for name in (AVAILABLE, "fraud", "defect") if name in labels.column_names)]
    labels = labels.combine_chunks()
    return labels.take(pc.sort_indices(labels, [(name, "ascending") for name in (*first, FILE, ROW)]))
