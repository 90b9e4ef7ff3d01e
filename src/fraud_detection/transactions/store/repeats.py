"""Ids that rows of several days have, found without reading history: a sorted index of hashes.

An entry is a 64-bit hash of an id and the day that has it: 10 bytes a row. Entries are sorted inside segments, which
are merged as they grow, so that there are few. A look-up is a binary search in a file that is mapped into memory, or
read from an object storage. Entries of rows that are gone stay: each hit is compared with the day's file.
"""

import json
import mmap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fraud_detection.locations import is_object
from fraud_detection.storage import Storage
from fraud_detection.transactions.store.manifest import ENTRY_BYTES, NO_DAY, DamagedStoreError, Day, Manifest, Segment

_GROWTH = 2  # a segment is merged with a new one that has half of its entries or more
UInts = NDArray[np.uint64]
UShorts = NDArray[np.uint16]


@dataclass(frozen=True)
class Entries:
    """Hashes of ids and the days that have them; parallel arrays."""

    hashes: UInts
    days: UShorts

    @classmethod
    def of(cls, parts: Iterable[tuple[UInts, UShorts]]) -> "Entries":
        """All parts, sorted by hash and day, each pair once."""
        found = [*parts, (np.empty(0, np.uint64), np.empty(0, np.uint16))]
        hashes, days = (np.concatenate([part[place] for part in found]) for place in (0, 1))
        order = np.lexsort((days, hashes))
        hashes, days = hashes[order], days[order]
        fresh = np.ones(len(hashes), np.bool_)
        fresh[1:] = (hashes[1:] != hashes[:-1]) | (days[1:] != days[:-1])
        return cls(hashes[fresh], days[fresh])

    def where(self, chosen: NDArray[np.bool_]) -> "Entries":
        """Some of them."""
        return Entries(self.hashes[chosen], self.days[chosen])

    def of_hashes(self, wanted: UInts) -> "Entries":
        """Those of some hashes, found by binary search; `self` and `wanted` are sorted."""
        low, high = (np.searchsorted(self.hashes, wanted, side) for side in ("left", "right"))
        counts = high - low
        before = np.repeat(np.cumsum(counts) - counts, counts)
        place = np.repeat(low, counts) + np.arange(int(counts.sum())) - before
        return Entries(self.hashes[place], self.days[place])

    def in_several_days(self) -> UInts:
        """The hashes that more than one day has."""
        found, counts = np.unique(self.hashes, return_counts=True)
        several: UInts = found[counts > 1]
        return several


@dataclass(frozen=True)
class DayHashes:
    """What changed in the days of a store, as the index needs it."""

    fresh: Entries
    """Of the new rows."""
    days: dict[int, Day]
    """All days after the change."""
    touched: set[int]
    read: Callable[[Day], UInts]
    """The sorted hashes of the ids of a day."""


def find_repeats(storage: Storage, manifest: Manifest, change: DayHashes) -> Entries:
    """The ids that rows of several days have after a change, and which days these are."""
    before, wanted = read_repeats(storage, manifest), np.unique(_looked_up(change))
    segments = manifest.segments if len(wanted) else ()  # an object storage would send them whole
    found = [load(storage, one).of_hashes(wanted) for one in segments]
    hit = Entries.of((one.hashes, one.days) for one in found)
    every = Entries.of((one.hashes, one.days) for one in (change.fresh, hit, before))
    touched = np.isin(before.days, np.fromiter(change.touched, np.uint16))
    suspects = np.union1d(
        np.intersect1d(every.in_several_days(), change.fresh.hashes), np.unique(before.hashes[touched])
    )
    confirmed = _confirmed(every.of_hashes(suspects), change)
    confirmed = confirmed.where(np.isin(confirmed.hashes, confirmed.in_several_days()))
    kept = before.where(~np.isin(before.hashes, suspects))
    return Entries.of((one.hashes, one.days) for one in (kept, confirmed))


def _looked_up(change: DayHashes) -> UInts:
    """The hashes of new rows that may be in other days: none where ids rise with time."""
    apart = [day for day in np.unique(change.fresh.days) if _stands_apart(int(day), change.days)]
    hashes: UInts = change.fresh.hashes[~np.isin(change.fresh.days, np.array(apart, np.uint16))]
    return hashes


def _stands_apart(number: int, days: dict[int, Day]) -> bool:
    """Whether the integer ids of a day lie between no two of another day."""
    own = days[number].ids
    others = [day.ids for day in days.values() if day.day not in {number, NO_DAY}]
    return own is not None and all(other is not None and (other[1] < own[0] or own[1] < other[0]) for other in others)


def _confirmed(suspects: Entries, change: DayHashes) -> Entries:
    """Those whose day has the id indeed."""
    there = np.zeros(len(suspects.hashes), np.bool_)
    for number in np.unique(suspects.days):
        day = change.days.get(int(number))
        if day is not None:
            own = suspects.days == number
            there[own] = np.isin(suspects.hashes[own], change.read(day))
    return suspects.where(there)


def grow(storage: Storage, manifest: Manifest, fresh: Entries, name: str) -> tuple[Segment, ...]:
    """The segments with the entries of new rows, which are written into the file `name`."""
    kept = list(manifest.segments)
    merged = fresh
    while kept and kept[-1].rows <= _GROWTH * len(merged.hashes):
        last = load(storage, kept.pop())
        merged = Entries.of([(last.hashes, last.days), (merged.hashes, merged.days)])
    if not len(merged.hashes):
        return tuple(kept)
    storage.write_atomic(name, merged.hashes.astype("<u8").tobytes() + merged.days.astype("<u2").tobytes())
    return (*kept, Segment(file=name, rows=len(merged.hashes)))


def load(storage: Storage, segment: Segment) -> Entries:
    """The entries of a segment; on disk only what is looked at is read.

    Raises:
        DamagedStoreError: it is lost or damaged since its size was found to be right.
    """
    url = storage.url(segment.file)
    content: bytes | mmap.mmap | None
    if is_object(url):
        content = storage.read(segment.file)
    else:
        try:
            with Path(url).open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # the latter of an empty file
            raise DamagedStoreError(url) from error
    if content is None or len(content) != ENTRY_BYTES * segment.rows:
        raise DamagedStoreError(url)
    hashes = np.frombuffer(content, "<u8", segment.rows)
    return Entries(hashes, np.frombuffer(content, "<u2", segment.rows, offset=8 * segment.rows))


def read_repeats(storage: Storage, manifest: Manifest) -> Entries:
    """The ids that rows of several days have.

    Raises:
        DamagedStoreError: the file is lost or damaged.
    """
    if manifest.repeats is None:
        return Entries.of(())
    try:
        found: dict[str, list[int]] = json.loads(storage.read(manifest.repeats) or b"")
    except ValueError as error:
        raise DamagedStoreError(storage.url(manifest.repeats)) from error
    hashes = [int(text, 16) for text, own in found.items() for _ in own]
    days = [day for own in found.values() for day in own]
    return Entries.of([(np.array(hashes, np.uint64), np.array(days, np.uint16))])


def repeats_content(entries: Entries) -> bytes:
    """As a JSON object: the days of each hash."""
    found: dict[str, list[int]] = {}
    for hashed, day in zip(entries.hashes.tolist(), entries.days.tolist(), strict=True):
        found.setdefault(f"{hashed:016x}", []).append(day)
    return json.dumps(found).encode()
