"""The features of a span of the transactions of a run: of days that are over from the store, of others computed."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial, reduce
from typing import TYPE_CHECKING

import pyarrow as pa

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.features.compute import result_columns, with_features
from fraud_detection.features.definitions import DAY
from fraud_detection.features.spans import read_from
from fraud_detection.features.store.computing import (
    equal_days,
    read_days,
    read_file,
    stored_columns,
    stored_file,
    write_days,
)
from fraud_detection.features.store.files import Compute, FeatureDay, FeatureFiles, Missing, discard_features, spans_of
from fraud_detection.features.store.validity import LookBack, SeenDays, day_of, features_key, groups, midnight
from fraud_detection.outputs import features_folder
from fraud_detection.settings import Settings
from fraud_detection.shapes import without_values
from fraud_detection.storage import Storage
from fraud_detection.transactions.columns import KEY
from fraud_detection.transactions.store.repeats import read_repeats

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from fraud_detection.transactions.reader import StoredRows, Transactions


def features_between(transactions: "Transactions", settings: Settings, start: datetime, end: datetime) -> "DataFrame":
    """As `with_features`. Days that are over are computed once, and read from then on.

    Args:
        transactions: of a run.
        settings: of the run.
        start: aware.
        end: aware.

    Raises:
        ServiceUnavailableError: other writers were first each time, or a card was erased meanwhile.
    """
    others = [(start, end)]
    parts = []
    if (stored := transactions.stored) is not None and start < end:
        held = _bring_up_to_date(stored, transactions, settings, start, end)
        others = list(_others(start, end, held.keys()))
        kept = [day for day in held.values() if not any(_within(day.day, *span) for span in others)]
        parts = [_stored_part(stored, transactions, settings, start, end, kept)] if kept else []
    parts += [_computed(transactions, settings, *span) for span in others]
    return reduce(lambda one, other: one.unionByName(other), parts)


def features_columns(transactions: "Transactions", settings: Settings, end: datetime) -> list[str]:
    """The columns of `features_between`; nothing is computed.

    Args:
        transactions: of a run.
        settings: of the run.
        end: of a span that has rows.
    """
    return result_columns(transactions.between(end - timedelta(days=1), end), settings)


def features_place(transactions: "Transactions", settings: Settings) -> tuple[Storage, str] | None:
    """Where the features are kept, and in which folder, its name ending with a slash; None where none are."""
    if (stored := transactions.stored) is None:
        return None
    return stored.snapshot.storage, features_folder(stored.folder, features_key(settings))


def features_key_of(transactions: "Transactions", settings: Settings, start: datetime, end: datetime) -> str | None:
    """A hash of all that the rows of [start, end) and their features depend on; nothing is read for it.

    Args:
        transactions: of a run.
        settings: of the run.
        start: aware.
        end: aware.

    Returns:
        None where later runs may see the same span otherwise, or the rows come from no store.
    """
    if (stored := transactions.stored) is None:
        return None
    wanted, days = _days(start, end), stored.snapshot.manifest.days
    hashes = _seen_days(stored).hashes(wanted, LookBack.of(settings))
    if {day.day for day in days if day.day in wanted} != hashes.keys():
        return None
    said = f"{features_key(settings)} {start.isoformat()} {end.isoformat()} {sorted(hashes.items())}"
    return hashlib.sha256(said.encode()).hexdigest()


def good_rows_keys(transactions: "Transactions", settings: Settings, start: datetime, end: datetime) -> dict[int, str]:
    """By day since 1970, a hash of its good rows without their labels; nothing is read for it.

    Args:
        transactions: of a run.
        settings: of the run.
        start: aware.
        end: aware.

    Returns:
        Days are left out that are not over, and those whose good rows a label can still change; all without a store.
    """
    if (stored := transactions.stored) is None:
        return {}
    seen, data = _seen_days(stored), settings.data.model_dump_json()
    said = {day: rows for day in _days(start, end) if (rows := seen.good_rows(day)) is not None}
    return {day: hashlib.sha256(f"{data} {rows}".encode()).hexdigest() for day, rows in said.items()}


def _days(start: datetime, end: datetime) -> range:
    return range(day_of(start), day_of(end - timedelta(microseconds=1)) + 1)


def _computed(transactions: "Transactions", settings: Settings, start: datetime, end: datetime) -> "DataFrame":
    return with_features(transactions.between(read_from(settings, start), end), settings, start, end)


def _bring_up_to_date(
    stored: "StoredRows", transactions: "Transactions", settings: Settings, start: datetime, end: datetime
) -> dict[int, FeatureDay]:
    """The days of the span that are in the store of features; those that can be are computed first."""
    kept = KeptFeatures(stored, transactions, settings)
    return kept.bring_up_to_date(kept.wanted(start, end))


@dataclass(frozen=True)
class KeptFeatures:
    """The features that are kept of the input of a run."""

    stored: "StoredRows"
    transactions: "Transactions"
    settings: Settings

    def wanted(self, start: datetime, end: datetime) -> dict[int, str]:
        """The days of a span that can be kept, each with the hash of all that its features depend on."""
        return _seen_days(self.stored).hashes(_days(start, end), LookBack.of(self.settings))

    def held(self, wanted: Mapping[int, str]) -> dict[int, FeatureDay]:
        """Those days that are there."""
        return self._files.held(wanted)

    def bring_up_to_date(self, wanted: Mapping[int, str]) -> dict[int, FeatureDay]:
        """All these days; those that are missing are computed first.

        Raises:
            ServiceUnavailableError: other writers were first each time, or a card was erased meanwhile.
        """
        return self._checked(partial(self._files.bring_up_to_date, wanted))

    def compute(self, wanted: Mapping[int, str]) -> dict[int, FeatureDay]:
        """All these days, computed whatever was there; raises as `bring_up_to_date`."""
        return self._checked(partial(self._files.compute_days, wanted))

    def _checked(self, work: Callable[[Compute], dict[int, FeatureDay]]) -> dict[int, FeatureDay]:
        written = []

        def write(missing: Missing) -> list[tuple[int, int, int]]:
            written.append(missing)
            return self._write(missing)

        found = work(write)
        if written:
            _require_no_erasure(self.stored)
        return found

    def different(self, held: Mapping[int, FeatureDay]) -> list[int]:
        """The days whose files do not hold what is computed now; nothing is written."""
        found = []
        for first, last in spans_of(sorted(held)):
            days = [held[number] for number in sorted(held) if first <= number <= last]
            names = {day.day: day.file.removeprefix(self._folder) for day in days if day.rows}
            features = _computed(self.transactions, self.settings, midnight(first), midnight(last + 1))
            same = equal_days(features, self.settings.data.columns, self._url, names)
            found += [number for number in names if number not in same]
        return found

    def _write(self, missing: Missing) -> list[tuple[int, int, int]]:
        names = {day: name.removeprefix(self._folder) for day, name in missing.names.items()}
        features = _computed(self.transactions, self.settings, midnight(missing.first), midnight(missing.last + 1))
        return write_days(features, self.settings.data.columns, self._url, names)

    @property
    def _files(self) -> FeatureFiles:
        return FeatureFiles(self.stored.snapshot.storage, self._folder, lambda: self.stored.clock)

    @property
    def _folder(self) -> str:
        return features_folder(self.stored.folder, features_key(self.settings))

    @property
    def _url(self) -> str:
        return self.stored.snapshot.storage.url(self._folder.rstrip("/"))


def _require_no_erasure(stored: "StoredRows") -> None:
    """Discard features that were computed from rows which are erased by now: the last one sees the other."""
    from fraud_detection.transactions.store.erasure import newest_manifest

    now = newest_manifest(stored.snapshot.storage, stored.folder)
    if now is not None and now.forgotten != stored.snapshot.manifest.forgotten:
        discard_features(stored.snapshot.storage, stored.folder)
        raise ServiceUnavailableError(
            f"a card was erased from {stored.snapshot.storage.url(stored.folder)} while its features were computed;"
            " expected the same rows to the end; next: run this again"
        )


def _seen_days(stored: "StoredRows") -> SeenDays:
    manifest = stored.snapshot.manifest
    repeats = read_repeats(stored.snapshot.storage, manifest)
    sharing = groups(zip(repeats.hashes.tolist(), repeats.days.tolist(), strict=True))
    return SeenDays.of(manifest.days, sharing, stored.end, stored.labels_end)


def _others(start: datetime, end: datetime, held: Iterable[int]) -> Iterator[tuple[datetime, datetime]]:
    """Spans that hold all days of [start, end) outside of some, each of these only if others are near on both sides."""
    for first, last in spans_of(sorted({*_days(start, end)} - {*held})):
        yield max(midnight(first), start), min(midnight(last + 1), end)


def _within(day: int, start: datetime, end: datetime) -> bool:
    return start < midnight(day + 1) and midnight(day) < end


def _stored_part(
    stored: "StoredRows",
    transactions: "Transactions",
    settings: Settings,
    start: datetime,
    end: datetime,
    held: Sequence[FeatureDay],
) -> "DataFrame":
    """The rows of these days that lie in [start, end), with their features."""
    from pyspark.sql import functions as F  # noqa: N812

    columns, snapshot = settings.data.columns, stored.snapshot
    days = sorted(day.day for day in held)
    time = F.col("transaction_time")
    rows = transactions.between(midnight(days[0]), midnight(days[-1] + 1))
    rows = rows.where((time >= F.lit(start)) & (time < F.lit(end)))
    if len(days) <= days[-1] - days[0]:
        rows = rows.where(F.floor(F.unix_micros("transaction_time") / F.lit(DAY)).cast("int").isin(days))
    id_type = dict(rows.dtypes)[KEY]
    files = {day.file: stored_file(snapshot.storage, day, columns, id_type) for day in held if day.rows}
    stored.beside.update({name: partial(read_file, file, columns) for name, file in files.items()})
    features = read_days(stored.spark, list(files.values()), columns)
    # Aliased: some engines resolve the columns of both sides by name.
    joined = rows.join(features, on=KEY, how="left")
    wanted = result_columns(rows, settings)
    joined = joined.select(*wanted)
    return joined.mapInArrow(_complete(stored_columns(columns)[0]), joined.schema)


def _complete(column: str) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `mapInArrow` that fails where a row found no features."""

    def check(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.column(column).null_count:
                raise ValueError("rows of the store have no features in the store of features")
            yield batch

    return without_values(check)
