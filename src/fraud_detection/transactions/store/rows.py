"""The store of typed rows: brought up to date with its input, and read.

Layout below the store's folder: `rows/<day>/…parquet`, `ids/…` (see `repeats`), `manifest/<number>.json.gz`. Files are
written once under new names; the manifest that names them comes last (`storage.Manifests`).
"""

import hashlib
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_detection import settings
from fraud_detection.errors import DataError, FraudDetectionError, ServiceUnavailableError
from fraud_detection.storage import InputEntry, Manifests, Storage, is_object, open_input
from fraud_detection.transactions.columns import KEY, Field
from fraud_detection.transactions.files import first_unreadable, list_entries, open_files
from fraud_detection.transactions.forgotten import Forgotten
from fraud_detection.transactions.input_file import FileKind, InputFile
from fraud_detection.transactions.store.canonical import FILE, canonical_batches, canonical_schema
from fraud_detection.transactions.store.days import DaySorter, day_content, days_of, describe_day, hashes, in_order
from fraud_detection.transactions.store.erasure import without_cards
from fraud_detection.transactions.store.manifest import NO_DAY, DamagedStoreError, Day, Manifest, SourceFile
from fraud_detection.transactions.store.repeats import (
    ENTRY_BYTES,
    DayHashes,
    Entries,
    UInts,
    find_repeats,
    grow,
    read_repeats,
    repeats_content,
)
from fraud_detection.transactions.table import id_types

STORE_VERSION = 1
"""Of the form of the store: another one reads the input anew."""
_EPOCH = date(1970, 1, 1)
_ATTEMPTS = 5
_GRACE = timedelta(days=1)  # for runs that still read a state that was replaced
_CHUNK = 1 << 20


@dataclass(frozen=True)
class StoreInput:
    """The files that a store holds the rows of."""

    url: str
    fields: tuple[Field, ...]
    form: settings.Format
    leave_out: str | None = None
    """A path whose files are not part of it."""

    @property
    def key(self) -> str:
        """A hash of all that decides what the typed rows are, beside the content of the files."""
        said = [STORE_VERSION, self.url, self.leave_out, *self.fields, self.form.model_dump_json()]
        return hashlib.sha256("\n".join(map(repr, said)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Snapshot:
    """A state of the store; it stays as it is while others write."""

    storage: Storage
    manifest: Manifest
    schema: pa.Schema
    """See `canonical.canonical_schema`."""

    def rows(self, day: Day) -> pa.Table:
        """The typed rows of a day, sorted by id and time.

        Raises:
            DamagedStoreError: its file is lost or damaged.
        """
        return _read_day(self.storage, day, self.schema)

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
        self._manifests = Manifests(storage, f"{folder}manifest/")
        self._forgotten = forgotten

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
        for _ in range(_ATTEMPTS):
            try:
                found = self._attempt(damaged)
            except DamagedStoreError as error:
                if damaged is not None:
                    raise
                damaged = error
                continue
            if found is not None:
                return found
        raise ServiceUnavailableError(
            f"the store {self._storage.url(self._folder)} was changed by other runs {_ATTEMPTS} times in a row;"
            " expected one run at a time; next: run this again"
        )

    def _attempt(self, damaged: DamagedStoreError | None) -> Update | None:
        newest = self._manifests.newest()
        if newest is None or damaged is not None:
            manifest = self._empty(newest[0] if newest else 0)
        else:
            manifest = self._parse(*newest)
            self._require_files(manifest)
        # Read after the manifest, so that they are at least the cards that it is without.
        forgotten = self._forgotten()
        if not forgotten.hashes <= {*manifest.forgotten} and manifest.files:
            manifest = without_cards(self._storage, manifest, forgotten, self._clock())
            if not self._publish(manifest):
                return None
        rebuilt = not manifest.number or damaged is not None
        entries = list_entries(self._source.url, self._source.leave_out)
        changes = _Changes.between(manifest, entries)
        if not rebuilt and not changes.any:
            return Update(self._snapshot(manifest), 0, rebuilt=False)
        source = self._source
        opened = self._open(changes.read, entries)
        ids = id_types(opened, source.fields) if opened else manifest.ids
        if manifest.files and ids != manifest.ids:  # the files disagree, or they all are new
            opened = self._open(entries, entries)
            ids = id_types(opened, source.fields)
            if ids != manifest.ids:
                manifest, rebuilt = self._empty(manifest.number), True
            changes = _Changes.between(manifest, entries)
        manifest = manifest.model_copy(update={"ids": ids})
        by_path = {file.path: file for file in opened}
        writer = _Writer(self._storage, self._folder, source, self._clock(), forgotten)
        following = writer.apply(manifest, changes, by_path)
        if not self._publish(following):
            return None
        if manifest.published_at.date() != following.published_at.date():  # once a day: it lists all files
            self._discard_unused(following)
        return Update(self._snapshot(following), len(changes.read), rebuilt, damaged.file if damaged else None)

    def _publish(self, manifest: Manifest) -> bool:
        return self._manifests.publish(manifest.number, manifest.content())

    def _parse(self, number: int, content: bytes) -> Manifest:
        try:
            return Manifest.parse(content)
        except ValueError as error:
            raise DamagedStoreError(self._storage.url(self._manifests.name(number))) from error

    def _require_files(self, manifest: Manifest) -> None:
        """Raise DamagedStoreError where a file is not there or has another size."""
        sizes = self._sizes("rows/") | self._sizes("ids/")
        expected = {day.file: day.size for day in manifest.days}
        expected |= {segment.file: ENTRY_BYTES * segment.rows for segment in manifest.segments}
        for name, size in expected.items():
            if sizes.get(name) != size:
                raise DamagedStoreError(self._storage.url(name))

    def _discard_unused(self, newest: Manifest) -> None:
        """Discard manifests that were replaced more than a day ago, and the files that they alone name.

        Files of a killed writer are named by none. Emptied files count as discarded: see `Storage.discard`.
        """
        since = self._clock() - _GRACE
        needed, in_force = newest.names(), newest.published_at
        sizes = self._sizes("manifest/")
        for number in reversed(self._manifests.numbers()):
            name = self._manifests.name(number)
            if number >= newest.number or not sizes.get(name):
                continue
            if in_force < since:
                self._storage.discard(name)
                continue
            try:
                manifest = self._parse(number, self._storage.read(name) or b"")
            except DamagedStoreError:  # nobody can read it
                self._storage.discard(name)
                continue
            needed |= manifest.names()
            in_force = manifest.published_at
        oldest = f"{since.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        for kind in ("rows/", "ids/"):
            for name, size in self._sizes(kind).items():
                if size and name not in needed and name.rpartition("/")[2] < oldest:
                    self._storage.discard(name)

    def _sizes(self, kind: str) -> dict[str, int]:
        return {found.name: found.size for found in self._storage.objects(self._folder + kind)}

    def _open(self, read: Sequence[InputEntry], entries: Sequence[InputEntry]) -> tuple[InputFile, ...]:
        """Some of all files; a problem of one of them is reported as a problem of the whole input."""
        source = self._source
        try:
            return open_files(source.url, [entry.path for entry in read], source.fields, source.form)
        except DataError:
            open_files(source.url, [entry.path for entry in entries], source.fields, source.form)
            raise

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
class _Changes:
    """How an input differs from what a manifest says."""

    read: tuple[InputEntry, ...]  # new files, and those with other content
    same: tuple[SourceFile, ...]  # as they are now
    gone: tuple[SourceFile, ...]  # removed, or with other content now
    renewed: bool  # whether some files have another time and the same content

    @property
    def any(self) -> bool:
        return bool(self.read or self.gone or self.renewed)

    @classmethod
    def between(cls, manifest: Manifest, entries: list[InputEntry]) -> "_Changes":
        known = {file.path: file for file in manifest.files}
        read, same, renewed = [], [], False
        for entry in entries:
            file = known.get(entry.path)
            if file is None or file.size != entry.size:
                read.append(entry)
            elif file.version == entry.version:
                same.append(file)
            elif file.sha256 is not None and file.sha256 == _sha256(entry.path):
                same.append(file.model_copy(update={"version": entry.version}))
                renewed = True
            else:
                read.append(entry)
        kept = {file.number for file in same}
        gone = tuple(file for file in manifest.files if file.number not in kept)
        return cls(tuple(read), tuple(same), gone, renewed)


@dataclass(frozen=True)
class _Writer:
    """Writes the files of one manifest."""

    storage: Storage
    folder: str
    source: StoreInput
    now: datetime
    forgotten: Forgotten

    def apply(self, manifest: Manifest, changes: _Changes, opened: dict[str, InputFile]) -> Manifest:
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
        digest = None if is_object(entry.path) else _sha256(entry.path)
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
        name, content = self._writer.name(f"rows/{_day_name(number)}/", ".parquet"), day_content(rows)
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
        return _read_day(self._writer.storage, day, schema)


def _read_day(storage: Storage, day: Day, schema: pa.Schema) -> pa.Table:
    """Some columns of a day; raises DamagedStoreError."""
    url = storage.url(day.file)
    try:
        with open_input(url) as file:
            return pq.read_table(file, columns=schema.names).cast(schema)
    except (OSError, pa.ArrowException) as error:
        raise DamagedStoreError(url) from error


def _day_name(number: int) -> str:
    return "no-time" if number == NO_DAY else f"{_EPOCH + timedelta(days=number)}"


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _sha256(path: str) -> str:
    found = hashlib.sha256()
    try:
        with open_input(path) as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except OSError as error:
        raise FraudDetectionError(f"{path}: cannot be read: {error.strerror}; expected a file that stays") from error
    return found.hexdigest()
