"""Rows of forgotten cards out of a store: of the state in force, then of the states before it.

The days with such rows are written anew, and a manifest that names them is published as by any writer. Nothing of the
input is read.
"""

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.storage import Manifests, Storage, open_input
from fraud_detection.transactions.columns import KEY
from fraud_detection.transactions.forgotten import CARD, Forgotten
from fraud_detection.transactions.store.canonical import FILE
from fraud_detection.transactions.store.days import day_content, describe_day, hashes
from fraud_detection.transactions.store.manifest import NO_DAY, DamagedStoreError, Day, Manifest, Segment, SourceFile
from fraud_detection.transactions.store.repeats import Entries, UInts, load, read_repeats, repeats_content

_ATTEMPTS = 5


@dataclass(frozen=True)
class CardRows:
    """What a store holds of some cards."""

    rows: int = 0  # of the state in force
    input_files: tuple[str, ...] = ()  # that they are from
    old_files: tuple[str, ...] = ()  # of states before, or of killed writers


def id_type(storage: Storage, folder: str) -> str | None:
    """bigint or string, of the cards of a store; None where it has none."""
    manifest = newest_manifest(storage, folder)
    return None if manifest is None else manifest.ids.get(CARD)


def find_cards(storage: Storage, folder: str, cards: Forgotten) -> CardRows:
    """Look for rows of cards; nothing is written.

    Raises:
        DamagedStoreError: a file of the state in force is lost or damaged.
    """
    manifest = newest_manifest(storage, folder)
    if manifest is None:
        return CardRows()
    found = Counter[int]()
    for day in manifest.days:
        rows = _read(storage, day.file, [CARD, FILE])
        if rows is not None:
            found.update(rows.filter(cards.mask(rows[CARD]))[FILE].to_pylist())
    files = tuple(file.path for file in manifest.files if file.number in found)
    return CardRows(found.total(), files, tuple(_old_files(storage, folder, manifest, cards)))


def erase_cards(storage: Storage, folder: str, cards: Forgotten, now: datetime) -> None:
    """Erase rows of cards from all states of a store. The same call finishes what was killed.

    A run that reads a state before it finds a file missing: it, or the next run, reads the input anew.

    Raises:
        DamagedStoreError: a file of the state in force is lost or damaged.
        ServiceUnavailableError: other writers were first each time.
    """
    manifests = Manifests(storage, f"{folder}manifest/")
    for _ in range(_ATTEMPTS):
        manifest = newest_manifest(storage, folder)
        if manifest is None:
            return
        if cards.hashes <= {*manifest.forgotten}:
            break
        following = without_cards(storage, manifest, cards, now)
        if manifests.publish(following.number, following.content()):
            manifest = following
            break
    else:
        raise ServiceUnavailableError(
            f"the store {storage.url(folder)} was changed by other runs {_ATTEMPTS} times in a row; expected a moment"
            " without a run; next: run this again"
        )
    _discard_old(storage, folder, manifest, cards)


def without_cards(storage: Storage, manifest: Manifest, cards: Forgotten, now: datetime) -> Manifest:
    """The manifest without rows of cards; its files are written, and it is not published.

    Raises:
        DamagedStoreError: a file of the store is lost or damaged.
    """
    change = _Change(storage, cards, now)
    days = tuple(kept for day in manifest.days if (kept := change.day(day)) is not None)
    return manifest.model_copy(
        update={
            "number": manifest.number + 1,
            "published_at": now,
            "files": tuple(map(change.file, manifest.files)),
            "days": days,
            "segments": tuple(part for one in manifest.segments if (part := change.segment(one)) is not None),
            "repeats": change.repeats(manifest),
            "forgotten": tuple(sorted(cards.hashes)),
        }
    )


def newest_manifest(storage: Storage, folder: str) -> Manifest | None:
    """The state in force of a store; raises DamagedStoreError."""
    manifests = Manifests(storage, f"{folder}manifest/")
    newest = manifests.newest()
    return None if newest is None else _parse(storage, manifests.name(newest[0]), newest[1])


class _Change:
    """Writes the days and the index of a store without some cards."""

    def __init__(self, storage: Storage, cards: Forgotten, now: datetime) -> None:
        self._storage, self._cards, self._now = storage, cards, now
        self._left: dict[int, UInts] = {}  # hashes of the ids that a changed day still has
        self._rows = Counter[int]()  # erased, by the number of the input file
        self._pairs = set[tuple[int, int]]()  # input files and days without any row now

    def day(self, day: Day) -> Day | None:
        """A day; itself where it has no row of these cards, None where it has no other."""
        cards = _read(self._storage, day.file, [CARD])
        if cards is None or not pc.any(self._cards.mask(cards[CARD])).as_py():
            return day
        before = _read(self._storage, day.file)
        if before is None:
            return day
        rows = self._cards.without(before)
        self._count(day.day, before, rows)
        if KEY in rows.column_names and day.day != NO_DAY:
            self._left[day.day] = np.unique(hashes(rows[KEY].drop_null()))
        if not rows.num_rows:
            return None
        name, content = self._renamed(day.file), day_content(rows)
        self._storage.write_atomic(name, content)
        return describe_day(day.day, name, len(content), rows)

    def file(self, file: SourceFile) -> SourceFile:
        """An input file, as if it had no row of these cards."""
        days = tuple(day for day in file.days if (file.number, day) not in self._pairs)
        return file.model_copy(update={"rows": file.rows - self._rows[file.number], "days": days})

    def segment(self, segment: Segment) -> Segment | None:
        """A part of the index without ids that their day has no more."""
        if not self._left:
            return segment
        before = load(self._storage, segment)
        kept = before.where(self._there(before))
        if len(kept.hashes) == segment.rows:
            return segment
        if not len(kept.hashes):
            return None
        name = self._renamed(segment.file)
        self._storage.write_atomic(name, kept.hashes.astype("<u8").tobytes() + kept.days.astype("<u2").tobytes())
        return Segment(file=name, rows=len(kept.hashes))

    def repeats(self, manifest: Manifest) -> str | None:
        """The file of the ids that rows of several days still have."""
        if manifest.repeats is None or not self._left:
            return manifest.repeats
        before = read_repeats(self._storage, manifest)
        there = before.where(self._there(before))
        kept = there.where(np.isin(there.hashes, there.in_several_days()))
        if not len(kept.hashes):
            return None
        name = self._renamed(manifest.repeats)
        self._storage.write_atomic(name, repeats_content(kept))
        return name

    def _count(self, day: int, before: pa.Table, after: pa.Table) -> None:
        had, has = (Counter(rows[FILE].to_pylist()) for rows in (before, after))
        self._rows.update(had - has)
        self._pairs |= {(file, day) for file in had.keys() - has.keys()}

    def _there(self, entries: Entries) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        there = np.ones(len(entries.hashes), np.bool_)
        for day, left in self._left.items():
            own = entries.days == day
            there[own] = np.isin(entries.hashes[own], left)
        return there

    def _renamed(self, name: str) -> str:
        """A name that no other file has, beside another one; see `rows`."""
        stamp, ending = f"{self._now.astimezone(UTC):%Y%m%dT%H%M%SZ}", name.rpartition(".")[2]
        return f"{name.rpartition('/')[0]}/{stamp}-{uuid.uuid4().hex}.{ending}"


def _discard_old(storage: Storage, folder: str, newest: Manifest, cards: Forgotten) -> None:
    """Discard the states before the newest, so that no reader opens them, and what they alone hold of cards.

    Files of rows are looked through, whether a manifest names them or not. Manifests come last: they name the files of
    the index.
    """
    manifests = Manifests(storage, f"{folder}manifest/")
    old = [manifests.name(number) for number in manifests.numbers() if number < newest.number]
    index = set[str]()
    for name in old:
        content = storage.read(name)
        if content:
            manifest = _parse(storage, name, content)
            index |= {segment.file for segment in manifest.segments} | {manifest.repeats or ""}
    index &= {*storage.names(f"{folder}ids/")}
    for name in [*_old_files(storage, folder, newest, cards), *sorted(index - newest.names()), *old]:
        storage.discard(name)


def _old_files(storage: Storage, folder: str, newest: Manifest, cards: Forgotten) -> Iterable[str]:
    """Files that the newest state does not need and that hold rows of cards, or when they were first seen."""
    needed = newest.names()
    for found in [*storage.objects(f"{folder}rows/"), *storage.objects(f"{folder}cards/")]:
        if found.size and found.name not in needed:
            try:
                rows = _read(storage, found.name, [CARD])
            except DamagedStoreError:  # no reader can use it; what it holds is not known
                yield found.name
                continue
            if rows is not None and pc.any(cards.mask(rows[CARD])).as_py():
                yield found.name


def _read(storage: Storage, name: str, columns: list[str] | None = None) -> pa.Table | None:
    """Some columns of a file of rows; None where it has no cards."""
    url = storage.url(name)
    try:
        with open_input(url) as file, pq.ParquetFile(file) as opened:
            return opened.read(columns) if CARD in opened.schema_arrow.names else None
    except (OSError, pa.ArrowException) as error:
        raise DamagedStoreError(url) from error


def _parse(storage: Storage, name: str, content: bytes) -> Manifest:
    try:
        return Manifest.parse(content)
    except ValueError as error:
        raise DamagedStoreError(storage.url(name)) from error
