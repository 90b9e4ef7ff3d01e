"""The labels of a label table by the day of their transaction, so that a run reads those of the days that it looks at.

Layout below the store's folder: `days/<day>/…parquet`, `waiting/…parquet` (labels without a transaction), and
`manifest/<number>.json.gz`, as in `rows`. A state belongs to a state of the store of rows: `LabelStore.update` gives
one that fits, whichever there was before.
"""

import hashlib
import io
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.storage import InputEntry, Storage, is_object, open_input
from fraud_detection.transactions.columns import KEY, Field
from fraud_detection.transactions.files import first_unreadable, open_files
from fraud_detection.transactions.input_file import FileKind, InputFile
from fraud_detection.transactions.store.canonical import FILE, canonical_batches, canonical_schema
from fraud_detection.transactions.store.days import TIME, columns_digest, label_events
from fraud_detection.transactions.store.inputs import InputChanges, Look, StoreInput, file_digest
from fraud_detection.transactions.store.label_manifest import LabelDay, LabelFile, LabelManifest, Waiting
from fraud_detection.transactions.store.manifest import NO_DAY, DamagedStoreError, Day
from fraud_detection.transactions.store.placing import (
    AVAILABLE,
    HASH,
    ROW,
    DayIds,
    Pool,
    in_order,
    with_hashes,
    without_copies,
)
from fraud_detection.transactions.store.repeats import load, read_repeats
from fraud_detection.transactions.store.rows import Snapshot, day_name, read_day
from fraud_detection.transactions.store.states import States

_HOUR = 3_600_000_000
_GROWTH = 2  # waiting labels are written together with new ones where they are at most so many times as many


@dataclass(frozen=True)
class StoredLabels:
    """A state of the store of labels; it stays as it is while others write."""

    storage: Storage
    manifest: LabelManifest
    fields: tuple[Field, ...]
    """Of the label table."""
    url: str
    """Of the label table."""

    def files(self, days: Iterable[int]) -> tuple[InputFile, ...]:
        """The files of those of these days that have labels, as input files with canonical columns."""
        wanted = {*days}
        return tuple(self.file(day.file) for day in self.manifest.days if day.rows and day.day in wanted)

    def file(self, name: str) -> InputFile:
        """A file of the store as an input file."""
        return InputFile(self.storage.url(name), FileKind.PARQUET, settings.Format(), self._types, stored=True)

    def open_input(self, days: Iterable[int], form: settings.Format) -> tuple[InputFile, ...]:
        """The files of the label table that may have labels of some days; raises DataError where one is gone."""
        wanted = np.fromiter(days, np.int64)
        paths = [file.path for file in self.manifest.files if file.reaches(wanted)]
        return open_files(self.url, paths, self.fields, form) if paths else ()

    def join(self, day: Day) -> Day:
        """What the manifest of a store of rows would say of a day if its rows had these labels in them."""
        labels = self._by_day[day.day]
        if not labels.rows:
            return day
        digest = _sha256(f"{day.content_digest} {labels.digest}")
        return day.model_copy(
            update={
                "labels": labels.file,
                "rows_digest": _sha256(f"{day.rows_digest} {labels.digest}") if labels.bad else day.rows_digest,
                "content_digest": digest,
                "label_events": labels.events,
                "newest_label": labels.newest,
                "bad_labels": labels.bad,
            }
        )

    def repeat(self, days: Iterable[int], shared: set[int]) -> bool:
        """Whether some transaction of these days has several labels in their files.

        Args:
            days: whose files are read together.
            shared: days that have ids of other days, and so their labels.
        """
        return any(self._by_day[day].repeats or day in shared or day in self.manifest.beside_no_day for day in days)

    def day(self, number: int) -> LabelDay:
        """What is said of the labels of a day."""
        return self._by_day[number]

    def read(self, number: int) -> pa.Table:
        """The labels of a day; raises DamagedStoreError."""
        return _read(self.storage, self._by_day[number].file, self._schema)

    @cached_property
    def _by_day(self) -> dict[int, LabelDay]:
        return {day.day: day for day in self.manifest.days}

    @cached_property
    def _schema(self) -> pa.Schema:
        return _schema(self.fields, self.manifest.ids)

    @cached_property
    def _types(self) -> dict[str, pa.DataType]:
        return {field.name: field.type for field in self._schema if field.name not in {FILE, ROW}}


@dataclass(frozen=True)
class LabelUpdate:
    """What `LabelStore.update` has found."""

    labels: StoredLabels
    read_files: int  # new or changed
    rebuilt: bool  # all files were read: there was no store of this table with these settings, or it was damaged
    damaged: str | None = None  # the file that was lost or damaged, which is why


class LabelStore:
    """The labels of one label table by the day of their transaction."""

    def __init__(self, storage: Storage, folder: str, source: StoreInput, clock: Callable[[], datetime]) -> None:
        """Nothing is read yet.

        Args:
            storage: where the store is, and the store of rows.
            folder: of this store, its name ending with a slash.
            source: the label table.
            clock: gives the time, aware.
        """
        self._storage, self._folder, self._source, self._clock = storage, folder, source, clock
        self._states = States(storage, folder, ("days/", "waiting/"), LabelManifest.parse, clock)

    def has(self, url: str) -> bool:
        """Whether a file, named by its path or URL, is of this store."""
        return self._states.has(url)

    @property
    def number(self) -> int:
        """Of the newest state, also of a damaged one; 0 before the first one."""
        return self._states.number

    def update(self, rows: Snapshot, damaged: DamagedStoreError | None = None) -> LabelUpdate:
        """Read the files that are new or changed, and publish where the labels of some rows are.

        Args:
            rows: the transactions.
            damaged: the file of this store that a reader has found damaged: all files are read.

        Raises:
            DataError: there is no data, or a file breaks the contract.
            DamagedStoreError: a file of the rows is lost or damaged.
            ServiceUnavailableError: other writers were first each time.
            FraudDetectionError: the output cannot be written.
        """
        return self._states.update(lambda found: self._attempt(rows, found), damaged)

    def _attempt(self, rows: Snapshot, damaged: DamagedStoreError | None) -> LabelUpdate | None:
        number = self._states.number
        before = None if damaged is not None else self._states.newest()
        if before is None or before.row_ids != rows.manifest.ids:
            before = self._empty(number, rows)
        look = Look.at(self._source, before.files, before.ids)
        if look.is_other:
            before = self._empty(before.number, rows)
        rebuilt = not before.files
        if rebuilt or look.changes.any or _moved(before, rows):
            before = before.model_copy(update={"ids": look.ids})
            writer = _Writer((self._storage, self._folder), self._source, self._clock(), rows, before)
            following = writer.apply(look.changes, look.opened)
            if not self._states.publish(following):
                return None
            if before.published_at.date() != following.published_at.date():  # once a day: it lists all files
                self._states.discard_unused(following)
            before = following
        labels = StoredLabels(self._storage, before, self._source.fields, self._source.url)
        return LabelUpdate(labels, len(look.changes.read), rebuilt, damaged.file if damaged else None)

    def _empty(self, number: int, rows: Snapshot) -> LabelManifest:
        return LabelManifest(
            number=number,
            published_at=self._clock(),
            ids={},
            row_ids=rows.manifest.ids,
            files=(),
            days=(),
            beside_no_day=(),
            waiting=(),
            next_file=0,
        )


def _moved(before: LabelManifest, rows: Snapshot) -> set[int]:
    """The days that have other rows than a manifest says, none any more, or now some."""
    had = {day.day: day.rows_file for day in before.days}
    has = {day.day: day.file for day in rows.manifest.days}
    return {number for number in had.keys() | has.keys() if had.get(number) != has.get(number)}


class _Writer:
    """Writes the files of one manifest."""

    def __init__(
        self, store: tuple[Storage, str], source: StoreInput, now: datetime, rows: Snapshot, before: LabelManifest
    ) -> None:
        self._storage, self._folder = store
        self._source, self._now, self._rows, self._before = source, now, rows, before
        self._row_days = {day.day: day for day in rows.manifest.days}
        self._had = {day.day: day for day in before.days}
        self._schema = _schema(source.fields, before.ids)
        self._reached: dict[int, set[int]] = {}  # days by the number of the file that labels are from

    def apply(self, changes: InputChanges[LabelFile], opened: Mapping[str, InputFile]) -> LabelManifest:
        """The manifest after the changes; its files are written, and it is not published."""
        before, moved = self._before, _moved(self._before, self._rows)
        self._gone = pa.array(sorted(file.number for file in changes.gone), pa.int32())
        files, new = self._read_files(changes.read, opened)
        moved.add(NO_DAY)  # its ids are not in the index
        ids = {number: self._ids(number) for number in sorted(moved & self._row_days.keys())}
        untouched, waited = self._waiting_for(ids.values())
        old = [self._old(number) for number in sorted(moved & self._had.keys())]
        pool = Pool([self._hashed(self._schema.empty_table()), *new, *waited, *old, *self._shared(ids)])
        days = {number: day for number, day in self._had.items() if number in self._row_days}
        lost = self._days_of(changes.gone, days)
        other = pool.candidates(self._rows.storage, self._rows.manifest, ids) | lost
        beside = list[int]()
        for number in sorted(ids.keys() | other):
            own = ids[number] if number in ids else self._ids(number)
            if NO_DAY in ids and pool.has(np.intersect1d(own.hashes, ids[NO_DAY].hashes)):
                beside.append(number)
            kept = [] if number in ids else [self._old(number)]
            labels = without_copies(pa.concat_tables([pool.place(own.hashes), *kept]))
            days[number] = self._day(number, own, in_order(labels))
        return before.model_copy(
            update={
                "number": before.number + 1,
                "published_at": self._now,
                "files": tuple(map(self._with_days, sorted([*changes.same, *files], key=lambda file: file.path))),
                "days": tuple(days[number] for number in sorted(days)),
                "beside_no_day": tuple(beside),
                "waiting": self._put(untouched, pool.waiting()),
                "next_file": max([before.next_file, *(file.number + 1 for file in files)]),
            }
        )

    def _days_of(self, files: Iterable[LabelFile], days: Iterable[int]) -> set[int]:
        """Those of the days that may have labels of some files."""
        numbers = np.fromiter(days, np.int64)
        found = np.zeros(len(numbers), np.bool_)
        for file in files:
            found |= file.days_among(numbers)
        return {*numbers[found].tolist()}

    def _read_files(
        self, entries: Sequence[InputEntry], opened: Mapping[str, InputFile]
    ) -> tuple[list[LabelFile], list[pa.Table]]:
        numbers, following = {file.path: file.number for file in self._before.files}, self._before.next_file
        files, tables = list[LabelFile](), list[pa.Table]()
        for entry in entries:
            number = numbers.get(entry.path, following)
            following = max(following, number + 1)
            digest = None if is_object(entry.path) else file_digest(entry.path)
            labels = self._read_file(opened[entry.path], number)
            tables.append(self._hashed(labels))
            files.append(
                LabelFile(
                    path=entry.path,
                    size=entry.size,
                    version=entry.version,
                    sha256=digest,
                    number=number,
                    rows=labels.num_rows,
                )
            )
        return files, tables

    def _read_file(self, file: InputFile, number: int) -> pa.Table:
        schema, batches = self._schema.remove(self._schema.get_field_index(ROW)), list[pa.RecordBatch]()

        def read(file: InputFile) -> None:
            batches.extend(canonical_batches(file, number, self._source.fields, schema))

        if problem := first_unreadable((file,), read):
            raise DataError(f"a file of the input cannot be read\n  {problem}")
        labels = pa.Table.from_batches(batches, schema)
        return labels.append_column(ROW, pa.array(np.arange(labels.num_rows)))

    def _ids(self, number: int) -> DayIds:
        wanted = pa.schema([self._rows.schema.field(name) for name in (KEY, TIME)])
        return DayIds.of(read_day(self._rows.storage, self._row_days[number], wanted))

    def _old(self, number: int) -> pa.Table:
        """The labels that a day had, without those of files that are gone."""
        day = self._had.get(number)
        if day is None or not day.rows:
            return self._hashed(self._schema.empty_table())
        return self._hashed(self._still_there(_read(self._storage, day.file, self._schema)))

    def _still_there(self, labels: pa.Table) -> pa.Table:
        return labels.filter(pc.invert(pc.is_in(labels[FILE], self._gone))) if len(self._gone) else labels

    def _hashed(self, labels: pa.Table) -> pa.Table:
        return with_hashes(labels, self._rows.schema.field(KEY).type)

    def _shared(self, ids: Mapping[int, DayIds]) -> Iterator[pa.Table]:
        """The labels of other days whose ids these days have, too."""
        storage, rows = self._rows.storage, self._rows.manifest
        repeats = read_repeats(storage, rows)
        shared = np.unique(repeats.hashes[np.isin(repeats.days, np.fromiter(ids, np.uint16))])
        days = {*repeats.days[np.isin(repeats.hashes, shared)].tolist()}
        if NO_DAY in ids:
            shared = np.union1d(shared, ids[NO_DAY].hashes)
            days.update(*(load(storage, one).of_hashes(ids[NO_DAY].hashes).days.tolist() for one in rows.segments))
        for number in sorted(days - ids.keys()):
            labels = self._old(number)
            yield labels.filter(pa.array(np.isin(labels[HASH].to_numpy(), shared)))

    def _waiting_for(self, ids: Iterable[DayIds]) -> tuple[list[Waiting], list[pa.Table]]:
        """Files without any of these ids, and the labels of all others; where files are gone, of all."""
        wanted = np.concatenate([np.empty(0, np.uint64), *(day.hashes for day in ids)])
        untouched, taken = list[Waiting](), list[pa.Table]()
        for part in self._before.waiting:
            hashes = pa.schema([pa.field(HASH, pa.uint64())])
            found = _read(self._storage, part.file, hashes)[HASH].drop_null().to_numpy()
            if len(self._gone) or np.isin(found, wanted).any():
                taken.append(self._hashed(self._still_there(_read(self._storage, part.file, self._schema))))
            else:
                untouched.append(part)
        return untouched, taken

    def _put(self, parts: list[Waiting], labels: pa.Table) -> tuple[Waiting, ...]:
        """Write labels that found no day, together with files that are not much larger."""
        if not labels.num_rows:
            return tuple(parts)
        while parts and parts[-1].rows <= _GROWTH * labels.num_rows:
            labels = pa.concat_tables([self._hashed(_read(self._storage, parts.pop().file, self._schema)), labels])
        labels = labels.take(pc.sort_indices(labels, [(HASH, "ascending")]))
        name, size = self._write("waiting/", labels)
        return (*parts, Waiting(file=name, size=size, rows=labels.num_rows, hours=tuple(_hours(labels))))

    def _day(self, number: int, ids: DayIds, labels: pa.Table) -> LabelDay:
        """Write the labels of a day, unless it has the same already."""
        for file in pc.unique(labels[FILE]).to_pylist():
            self._reached.setdefault(file, set()).add(number)
        had, file, size = self._had.get(number), "", 0
        plain = labels.drop_columns([HASH])
        if (
            had is not None
            and had.rows == labels.num_rows
            and (not had.rows or _read(self._storage, had.file, self._schema).equals(plain))
        ):
            file, size = had.file, had.size
        elif labels.num_rows:
            file, size = self._write(f"days/{day_name(number)}/", plain)
        dated = AVAILABLE in labels.column_names
        times = labels[AVAILABLE].cast(pa.int64()) if dated else pa.array([], pa.int64())
        limits = pc.min_max(times).as_py()
        content = [name for name in plain.column_names if name not in {FILE, ROW}]
        return LabelDay(
            day=number,
            rows_file=self._row_days[number].file,
            file=file,
            size=size,
            rows=labels.num_rows,
            digest=columns_digest(labels, content)[:32] if labels.num_rows else "",
            events=label_events(labels),
            first=limits["min"] if dated and not times.null_count else None,
            newest=limits["max"],
            bad=ids.some_bad(labels),
            repeats=pc.count_distinct(labels[HASH]).as_py() < labels.num_rows,
        )

    def _write(self, kind: str, labels: pa.Table) -> tuple[str, int]:
        """Name and size of a new file; its name begins with the time, which tells how old an unused file is."""
        name = f"{self._folder}{kind}{self._now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex}.parquet"
        text = io.BytesIO()
        pq.write_table(labels, text, compression="zstd", write_statistics=[KEY])
        self._storage.write_atomic(name, text.getvalue())
        return name, text.tell()

    def _with_days(self, file: LabelFile) -> LabelFile:
        """A file, with the days that its labels have found now."""
        days = self._reached.get(file.number, set())
        with_time = [*days - {NO_DAY}, *(day for day in (file.first, file.last) if day is not None)]
        return file.model_copy(
            update={
                "first": min(with_time, default=None),
                "last": max(with_time, default=None),
                "no_day": file.no_day or NO_DAY in days,
            }
        )


def _schema(fields: tuple[Field, ...], ids: Mapping[str, str]) -> pa.Schema:
    return canonical_schema(fields, ids).append(pa.field(ROW, pa.int64()))


def _read(storage: Storage, name: str, schema: pa.Schema) -> pa.Table:
    """Some columns of a file of the store; raises DamagedStoreError."""
    url = storage.url(name)
    try:
        with open_input(url) as file:
            return pq.read_table(file, columns=schema.names).cast(schema)
    except (OSError, pa.ArrowException) as error:
        raise DamagedStoreError(url) from error


def _hours(labels: pa.Table) -> list[tuple[int, int, int]]:
    """See `Waiting.hours`."""
    hour = np.full(labels.num_rows, -1, np.int64)
    if AVAILABLE in labels.column_names:
        times = labels[AVAILABLE].cast(pa.int64())
        hour = np.where(times.is_valid().to_numpy(), -(-times.fill_null(0).to_numpy() // _HOUR), -1)
    hours, place = np.unique(hour, return_inverse=True)
    rows = np.bincount(place)
    without_id = np.bincount(place, labels[KEY].is_null().to_numpy()).astype(np.int64)
    return list(zip(hours.tolist(), rows.tolist(), without_id.tolist(), strict=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
