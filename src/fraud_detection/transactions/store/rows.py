"""The store of typed rows: brought up to date with its input, and read.

Layout below the store's folder: `rows/<day>/…parquet`, `ids/…` (see `repeats`), `manifest/<number>.json.gz`. Files are
written once under new names; the manifest that names them comes last (`storage.Manifests`).
"""

import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.storage import InputEntry, Storage, is_object, open_input
from fraud_detection.transactions.columns import KEY
from fraud_detection.transactions.files import first_unreadable
from fraud_detection.transactions.forgotten import Forgotten
from fraud_detection.transactions.input_file import FileKind, InputFile
from fraud_detection.transactions.store.canonical import FILE, canonical_batches, canonical_schema
from fraud_detection.transactions.store.days import DaySorter, day_content, days_of, describe_day, hashes, in_order
from fraud_detection.transactions.store.erasure import without_cards
from fraud_detection.transactions.store.inputs import InputChanges, Look, StoreInput, file_digest
from fraud_detection.transactions.store.manifest import NO_DAY, DamagedStoreError, Day, Manifest, SourceFile
from fraud_detection.transactions.store.repeats import (
    DayHashes,
    Entries,
    UInts,
    find_repeats,
    grow,
    read_repeats,
    repeats_content,
)
from fraud_detection.transactions.store.states import States

if TYPE_CHECKING:
    from fraud_detection.transactions.store.labels import StoredLabels

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Snapshot:
    """A state of the store; it stays as it is while others write."""

    storage: Storage
    manifest: Manifest
    schema: pa.Schema
    """See `canonical.canonical_schema`."""
    labels: "StoredLabels | None" = None
    """Of the label table, if there is one."""

    @property
    def number(self) -> int:
        """Of this state; see `joined.JoinedStore.number`."""
        return self.manifest.number + (0 if self.labels is None else self.labels.manifest.number)

    def with_labels(self, labels: "StoredLabels") -> "Snapshot":
        """The same rows; what the manifest says of their days is said of rows with these labels in them."""
        days = tuple(map(labels.join, self.manifest.days))
        return replace(self, manifest=self.manifest.model_copy(update={"days": days}), labels=labels)

    def rows(self, day: Day) -> pa.Table:
        """The typed rows of a day, sorted by id and time.

        Raises:
            DamagedStoreError: its file is lost or damaged.
        """
        return read_day(self.storage, day, self.schema)

    def file(self, day: Day) -> InputFile:
        """The file of a day as an input file with canonical columns."""
        return InputFile(self.storage.url(day.file), FileKind.PARQUET, self._form, self._types, stored=True)

    @cached_property
    def _types(self) -> dict[str, pa.DataType]:
        return {field.name: field.type for field in self.schema if field.name != FILE}

    @cached_property
    def _form(self) -> settings.Format:
        return settings.Format()

    def days_with_repeats(self) -> set[int]:
        """The days that share an id with another day."""
        return set(read_repeats(self.storage, self.manifest).days.tolist())

    def days_between(self, start: datetime, end: datetime) -> tuple[Day, ...]:
        """The days that may have rows of [start, end)."""
        low, high = _micros(start), _micros(end)
        return tuple(
            day
            for day in self.manifest.days
            if day.first is not None and day.newest is not None and day.first < high and low <= day.newest
        )


@dataclass(frozen=True)
class Update:
    """What `RowStore.update` has found."""

    snapshot: Snapshot
    read_files: int  # new or changed
    rebuilt: bool  # all files were read: there was no store of this input with these settings, or it was damaged
    damaged: str | None = None  # the file that was lost or damaged, which is why


class RowStore:
    """The typed rows of one input by day."""

    def __init__(
        self,
        storage: Storage,
        folder: str,
        source: StoreInput,
        clock: Callable[[], datetime],
        forgotten: Callable[[], Forgotten] = Forgotten,
    ) -> None:
        """Nothing is read yet.

        Args:
            storage: where the store is.
            folder: of this store, its name ending with a slash.
            source: what it holds the rows of.
            clock: gives the time, aware.
            forgotten: gives the cards to keep out.
        """
        self._storage, self._folder, self._source, self._clock = storage, folder, source, clock
        self._states = States(storage, folder, ("rows/", "ids/"), Manifest.parse, clock)
        self._forgotten = forgotten

    @property
    def number(self) -> int:
        """Of the newest state, also of a damaged one; 0 before the first one."""
        return self._states.number

    def update(self, damaged: DamagedStoreError | None = None) -> Update:
        """Read the files that are new or changed, and publish what the input holds now.

        A lost or damaged file of the store makes it read all files of the input.

        Args:
            damaged: what a reader has found.

        Raises:
            DataError: there is no data, or a file breaks the contract.
            ServiceUnavailableError: other writers were first each time.
            FraudDetectionError: the output cannot be written.
        """
        return self._states.update(self._attempt, damaged)

    def _attempt(self, damaged: DamagedStoreError | None) -> Update | None:
        manifest = self._empty(self._states.number) if damaged is not None else self._states.newest() or self._empty()
        # Read after the manifest, so that they are at least the cards that it is without.
        forgotten = self._forgotten()
        if not forgotten.hashes <= {*manifest.forgotten} and manifest.files:
            manifest = without_cards(self._storage, manifest, forgotten, self._clock())
            if not self._states.publish(manifest):
                return None
        rebuilt = not manifest.number or damaged is not None
        look = Look.at(self._source, manifest.files, manifest.ids)
        if not rebuilt and not look.changes.any:
            return Update(self._snapshot(manifest), 0, rebuilt=False)
        if look.is_other:
            manifest, rebuilt = self._empty(manifest.number), True
        manifest = manifest.model_copy(update={"ids": look.ids})
        writer = _Writer(self._storage, self._folder, self._source, self._clock(), forgotten)
        following = writer.apply(manifest, look.changes, look.opened)
        if not self._states.publish(following):
            return None
        if manifest.published_at.date() != following.published_at.date():  # once a day: it lists all files
            self._states.discard_unused(following)
        return Update(self._snapshot(following), len(look.changes.read), rebuilt, damaged.file if damaged else None)

    def _snapshot(self, manifest: Manifest) -> Snapshot:
        return Snapshot(self._storage, manifest, canonical_schema(self._source.fields, manifest.ids))

    def _empty(self, number: int = 0) -> Manifest:
        return Manifest(
            number=number,
            published_at=self._clock(),
            ids={},
            files=(),
            days=(),
            next_file=0,
            segments=(),
            repeats=None,
        )


@dataclass(frozen=True)
class _Writer:
    """Writes the files of one manifest."""

    storage: Storage
    folder: str
    source: StoreInput
    now: datetime
    forgotten: Forgotten

    def apply(self, manifest: Manifest, changes: InputChanges[SourceFile], opened: dict[str, InputFile]) -> Manifest:
        """The manifest after the changes; its files are written, and it is not published."""
        schema = canonical_schema(self.source.fields, manifest.ids)
        with tempfile.TemporaryDirectory() as folder:
            sorter = DaySorter(schema, Path(folder))
            files = [
                self._read(entry, manifest.next_file + place, opened[entry.path], sorter)
                for place, entry in enumerate(changes.read)
            ]
            merge = _Merge(self, schema, manifest, {file.number for file in changes.gone})
            for day, rows in sorter.days():
                merge.day(day, rows)
            for day in sorted({day for file in changes.gone for day in file.days} - merge.touched):
                merge.day(day, schema.empty_table())
        days = merge.days
        segments, repeats = self._index(manifest, merge)
        return Manifest(
            number=manifest.number + 1,
            published_at=self.now,
            ids=manifest.ids,
            files=tuple(sorted([*changes.same, *files], key=lambda file: file.path)),
            days=tuple(days[number] for number in sorted(days)),
            next_file=manifest.next_file + len(files),
            segments=segments,
            repeats=repeats,
            forgotten=tuple(sorted(self.forgotten.hashes)),
        )

    def _read(self, entry: InputEntry, number: int, file: InputFile, sorter: DaySorter) -> SourceFile:
        digest = None if is_object(entry.path) else file_digest(entry.path)
        rows, days = 0, set[int]()

        def sort(file: InputFile) -> None:
            nonlocal rows
            for batch in canonical_batches(file, number, self.source.fields, sorter.schema):
                table = self.forgotten.without(pa.Table.from_batches([batch]))
                rows += table.num_rows
                days.update(np.unique(days_of(table)).tolist())
                sorter.add(table)

        if problem := first_unreadable((file,), sort):
            raise DataError(f"a file of the input cannot be read\n  {problem}")
        return SourceFile(
            path=entry.path,
            size=entry.size,
            version=entry.version,
            sha256=digest,
            number=number,
            rows=rows,
            days=tuple(sorted(days)),
        )

    def _index(self, manifest: Manifest, merge: "_Merge") -> tuple[tuple[object, ...], str | None]:
        if KEY not in merge.schema.names:
            return (), None  # equal rows have equal times, so they are of one day
        fresh = Entries.of(merge.fresh)
        found = find_repeats(self.storage, manifest, DayHashes(fresh, merge.days, merge.touched, merge.hashes_of))
        segments = grow(self.storage, manifest, fresh, self.name("ids/", ".ids"))
        if not len(found.hashes):
            return segments, None
        name = self.name("ids/", ".json")
        self.storage.write_atomic(name, repeats_content(found))
        return segments, name

    def name(self, kind: str, ending: str) -> str:
        """A name that no other file has; it begins with the time, which tells how old an unused file is."""
        return f"{self.folder}{kind}{self.now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex}{ending}"


class _Merge:
    """The days of a manifest with the rows of new files and without those of files that are gone."""

    def __init__(self, writer: _Writer, schema: pa.Schema, manifest: Manifest, gone: set[int]) -> None:
        self._writer, self.schema = writer, schema
        self._gone = pa.array(sorted(gone), pa.int32())
        self.days = {day.day: day for day in manifest.days}
        self.touched: set[int] = set()
        self.fresh: list[tuple[UInts, np.ndarray[tuple[int], np.dtype[np.uint16]]]] = []
        self._hashes: dict[str, UInts] = {}

    def day(self, number: int, added: pa.Table) -> None:
        """Write a day with some more rows."""
        self.touched.add(number)
        old = self.days.pop(number, None)
        parts = [added]
        if old is not None:
            rows = self._open(old)
            parts.append(rows.filter(pc.invert(pc.is_in(rows[FILE], self._gone))) if len(self._gone) else rows)
        rows = in_order(pa.concat_tables(parts))
        if not rows.num_rows:
            return
        name, content = self._writer.name(f"rows/{day_name(number)}/", ".parquet"), day_content(rows)
        self._writer.storage.write_atomic(name, content)
        self.days[number] = describe_day(number, name, len(content), rows)
        if KEY in self.schema.names and number != NO_DAY:
            self._hashes[name] = np.unique(hashes(rows[KEY].drop_null()))
            own = hashes(added[KEY].drop_null())
            self.fresh.append((own, np.full(len(own), number, np.uint16)))

    def hashes_of(self, day: Day) -> UInts:
        """The sorted hashes of the ids of a day."""
        if day.file not in self._hashes:
            self._hashes[day.file] = np.unique(hashes(self._open(day, [KEY])[KEY].drop_null()))
        return self._hashes[day.file]

    def _open(self, day: Day, columns: list[str] | None = None) -> pa.Table:
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        return read_day(self._writer.storage, day, schema)


def read_day(storage: Storage, day: Day, schema: pa.Schema) -> pa.Table:
    """Some columns of a day; raises DamagedStoreError."""
    url = storage.url(day.file)
    try:
        with open_input(url) as file:
            return pq.read_table(file, columns=schema.names).cast(schema)
    except (OSError, pa.ArrowException) as error:
        raise DamagedStoreError(url) from error


def day_name(number: int) -> str:
    return "no-time" if number == NO_DAY else f"{_EPOCH + timedelta(days=number)}"


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
