"""Rows into the files of their days: split, sorted, and described by digests."""

import hashlib
import io
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraud_detection.labels import UNKNOWN
from fraud_detection.transactions.columns import FLAGS, KEY, OF_LABEL
from fraud_detection.transactions.store.canonical import FILE
from fraud_detection.transactions.store.manifest import NO_DAY, Day

TIME = "transaction_time"
_AVAILABLE = "label_available_at"
_DAY_MICROS = 86_400_000_000
_IN_MEMORY = 4_000_000  # rows that are held before they are put on disk
_SEEDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
UInts = NDArray[np.uint64]
Days = NDArray[np.int64]


class DaySorter:
    """Takes rows in any order and gives them by day. Many of them wait on disk, so that memory is bounded."""

    def __init__(self, schema: pa.Schema, folder: Path) -> None:
        """`folder`: for rows that wait; it is empty, and the caller removes it."""
        self.schema, self._folder = schema, folder
        self._held: list[pa.Table] = []
        self._rows = 0
        self._spilled: dict[int, list[Path]] = {}

    def add(self, rows: pa.Table) -> None:
        """Take rows."""
        self._held.append(rows)
        self._rows += rows.num_rows
        if self._rows > _IN_MEMORY:
            self._spill()

    def days(self) -> Iterator[tuple[int, pa.Table]]:
        """The rows of each day, in no order, by rising day."""
        if not self._spilled:
            yield from split_days(self._together())
            return
        self._spill()
        for day in sorted(self._spilled):
            parts = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in self._spilled.pop(day)]
            yield day, pa.concat_tables(parts)

    def _spill(self) -> None:
        for day, rows in split_days(self._together()):
            path = self._folder / uuid.uuid4().hex
            with path.open("wb") as file, pa.ipc.new_file(file, self.schema) as writer:
                writer.write_table(rows)
            self._spilled.setdefault(day, []).append(path)

    def _together(self) -> pa.Table:
        rows = pa.concat_tables(self._held) if self._held else self.schema.empty_table()
        self._held, self._rows = [], 0
        return rows


def days_of(rows: pa.Table) -> Days:
    """The day of each row since 1970; `NO_DAY` without a time from 1970 to 2149."""
    times = rows[TIME].cast(pa.int64())
    day = np.floor_divide(times.fill_null(-1).to_numpy(), _DAY_MICROS)
    return np.where((day >= 0) & (day < NO_DAY), day, NO_DAY)


def split_days(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each day, by rising day."""
    day = days_of(rows)
    order = np.argsort(day, kind="stable")
    found, starts = np.unique(day[order], return_index=True)
    rows = rows.take(pa.array(order)) if len(found) > 1 else rows
    for number, start, end in zip(found, starts, [*starts[1:], len(day)][: len(found)], strict=True):
        yield int(number), rows.slice(start, end - start)


def in_order(rows: pa.Table) -> pa.Table:
    """The rows of a day sorted by id and time, then by all other columns: in one order, whichever file came first."""
    first = [name for name in (KEY, TIME) if name in rows.column_names]
    rows = rows.combine_chunks()
    rows = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in first]))
    if first == [KEY, TIME] and not _has_ties(rows, first):
        return rows
    bits = {name: rows[name].combine_chunks().view(pa.int64()) for name in _numbers(rows)}  # zero has two signs
    names = [*first, *(name for name in rows.column_names if name not in {*first, FILE}), FILE]
    keys = pa.table({name: bits.get(name, rows[name]) for name in names})
    return rows.take(pc.sort_indices(keys, [(name, "ascending") for name in names]))


def day_content(rows: pa.Table) -> bytes:
    """The Parquet file of a day.

    Only ids and times have statistics: of floating-point columns one engine overlooks NaN by them.
    """
    text = io.BytesIO()
    described = [name for name in (KEY, TIME) if name in rows.column_names]
    pq.write_table(rows, text, compression="zstd", write_statistics=described)
    return text.getvalue()


def describe_day(day: int, name: str, size: int, rows: pa.Table) -> Day:
    """What the manifest says of a day.

    Args:
        day: since 1970.
        name: of its file.
        size: of its file, in bytes.
        rows: see `in_order`.
    """
    times = rows[TIME].drop_null() if day != NO_DAY else pa.array([], pa.timestamp("us"))
    ids = rows[KEY] if KEY in rows.column_names else None
    integers = ids is not None and pa.types.is_integer(ids.type) and ids.null_count < len(ids)
    limits = pc.min_max(ids).as_py() if integers else None
    return Day(
        day=day,
        file=name,
        size=size,
        rows=rows.num_rows,
        rows_digest=rows_digest(rows),
        content_digest=columns_digest(rows, [name for name in rows.column_names if name != FILE]),
        label_events=label_events(rows),
        first=_extreme(pc.min(times.cast(pa.int64()))) if len(times) else None,
        newest=_extreme(pc.max(times.cast(pa.int64()))) if len(times) else None,
        newest_label=_newest_label(rows),
        bad_labels=bool(pc.any(_bad_labels(rows)).as_py()),
        repeats=_repeats(rows),
        ids=(limits["min"], limits["max"]) if limits else None,
    )


def rows_digest(rows: pa.Table) -> str:
    """Of all that features read but labels; of these only whether they make a row bad."""
    names = [name for name in rows.column_names if name not in {*OF_LABEL, FILE}]
    return columns_digest(rows.append_column("bad_label", _bad_labels(rows)), [*names, "bad_label"])


def label_events(rows: pa.Table) -> dict[int, str]:
    """By the day on which labels became known (-1: the table does not say), a digest of those labels.

    Digests of several days of transactions can be added; see `added`.
    """
    if "fraud" not in rows.column_names:
        return {}
    fraud = rows["fraud"].fill_null(UNKNOWN).to_numpy().astype(np.uint64)
    available = np.full(len(fraud), -1, np.int64)
    if _AVAILABLE in rows.column_names:
        available = rows[_AVAILABLE].cast(pa.int64()).fill_null(-1).to_numpy()
    said = (available != -1) | rows["fraud"].is_valid().to_numpy()
    if not said.any():
        return {}
    day = np.where(available == -1, -1, np.maximum(available, 0) // _DAY_MICROS)
    identity = [rows[name] for name in (KEY, TIME, "customer_id", "terminal_id") if name in rows.column_names]
    sums = []
    for seed in _SEEDS:
        hashed = np.full(len(fraud), seed, np.uint64)
        for part in (*map(hashes, identity), fraud, available.view(np.uint64)):
            hashed = _mixed(hashed ^ part)
        sums.append(hashed)
    found, place = np.unique(day[said], return_inverse=True)
    totals = [np.zeros(len(found), np.uint64) for _ in sums]
    for total, hashed in zip(totals, sums, strict=True):
        np.add.at(total, place, hashed[said])
    return {int(number): f"{a:016x}{b:016x}" for number, a, b in zip(found, *totals, strict=True)}


def added(digests: Sequence[str]) -> str:
    """The digest of several sets of label events together, whatever their order."""
    halves = [(int(one[:16], 16), int(one[16:], 16)) for one in digests]
    return "".join(f"{sum(half) % 2**64:016x}" for half in zip(*halves, strict=True)) if halves else "0" * 32


def hashes(column: pa.ChunkedArray) -> UInts:
    """A 64-bit hash of each value; of null one, too."""
    if pa.types.is_string(column.type):
        values = column.fill_null("\x00").to_numpy(zero_copy_only=False).astype(object)
    else:
        values = column.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
    hashed: UInts = pd.util.hash_array(values, categorize=False)
    return hashed


def _repeats(rows: pa.Table) -> bool:
    """Whether two rows of the day have the same id, or say the same where ids are derived."""
    if KEY in rows.column_names:
        ids = rows[KEY].drop_null()
        return bool(pc.count_distinct(ids).as_py() < len(ids))
    content = [name for name in rows.column_names if name not in {*OF_LABEL, *FLAGS, FILE, "defect"}]
    plain = {name: pc.add(rows[name], 0.0) if name in _numbers(rows) else rows[name] for name in content}
    return bool(pa.table(plain).group_by(content).aggregate([]).num_rows < rows.num_rows)


def _has_ties(rows: pa.Table, names: Sequence[str]) -> bool:
    """Whether neighbours agree in all of these columns; null agrees with null."""
    same = np.ones(max(rows.num_rows - 1, 0), np.bool_)
    for name in names:
        column = hashes(rows[name])
        same &= column[1:] == column[:-1]
    return bool(same.any())


def _numbers(rows: pa.Table) -> list[str]:
    return [field.name for field in rows.schema if pa.types.is_floating(field.type)]


def _bad_labels(rows: pa.Table) -> pa.ChunkedArray:
    bad = pc.fill_null(pc.greater(rows["fraud"], 1), False) if "fraud" in rows.column_names else None
    if _AVAILABLE in rows.column_names:
        early = pc.fill_null(pc.less(rows[_AVAILABLE], rows[TIME]), False)
        bad = early if bad is None else pc.or_(bad, early)
    return pa.chunked_array([pa.array(np.zeros(rows.num_rows, np.bool_))]) if bad is None else bad


def _newest_label(rows: pa.Table) -> int | None:
    if _AVAILABLE not in rows.column_names:
        return None
    return _extreme(pc.max(rows[_AVAILABLE].cast(pa.int64())))


def _extreme(value: pa.Scalar) -> int | None:
    found = value.as_py()
    return None if found is None else int(found)


def _mixed(values: UInts) -> UInts:
    """The finalizer of MurmurHash3 (Appleby 2011)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    mixed: UInts = values ^ (values >> np.uint64(33))
    return mixed


def columns_digest(rows: pa.Table, names: Sequence[str]) -> str:
    """SHA-256 of columns in their order, equal for equal values however Arrow holds them."""
    found = hashlib.sha256()
    for name in names:
        column = rows[name]
        found.update(f"{name} {column.type} {len(column)}\n".encode())
        found.update(np.packbits(column.is_valid().to_numpy()).tobytes())
        if pa.types.is_string(column.type):
            found.update(pc.fill_null(pc.binary_length(column), 0).to_numpy())
            found.update("".join(column.drop_null().to_pylist()).encode())
        elif pa.types.is_floating(column.type):
            found.update(column.fill_null(0.0).to_numpy())
        else:
            kind = pa.int8() if pa.types.is_boolean(column.type) else pa.int64()
            found.update(column.cast(kind).fill_null(0).to_numpy())
    return found.hexdigest()
