"""Read the input from its store into checked transactions: days that no later moment can change are read once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache, partial

import pandas as pd
from pyspark.sql import DataFrame, SparkSession

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.transactions.columns import (
    label_fields,
    transaction_fields,
)
from fraud_detection.transactions.csv_text import UNREADABLE
from fraud_detection.transactions.forgotten import NO_CARDS, Forgotten
from fraud_detection.transactions.label_counts import count_labels
from fraud_detection.transactions.plan import Originals, Plan, Source, ids_of, repeated_ids
from fraud_detection.transactions.profile import measure
from fraud_detection.transactions.reader import StoredRows, Transactions, first_of_cards, judged, require_rows
from fraud_detection.transactions.rules import REFUND
from fraud_detection.transactions.store.cards import CARD, FIRST, NONE, KeptCards
from fraud_detection.transactions.store.inputs import StoreInput
from fraud_detection.transactions.store.manifest import NO_DAY, DamagedStoreError, Day
from fraud_detection.transactions.store.profiles import MeasuredDays, is_settled, to_micros
from fraud_detection.transactions.store.rows import Snapshot
from fraud_detection.transactions.table import EngineError, read_through
from fraud_detection.transactions.view import View


def store_inputs(data: settings.Data, input_path: str) -> tuple[StoreInput, StoreInput | None]:
    """What a store of the transactions at a path holds: these, and the label table if there is one.

    Raises:
        SettingsError: an extra column has the name of a canonical one.
    """
    table = data.labels
    rows = StoreInput(input_path, transaction_fields(data.columns), data.format, table.path if table else None)
    return rows, None if table is None else StoreInput(table.path, label_fields(table), data.format)


def read_stored(
    spark: SparkSession,
    data: settings.Data,
    input_path: str,
    snapshot: Snapshot,
    measured_days: MeasuredDays,
    clock: datetime,
    as_of: datetime | None = None,
    earlier: datetime | None = None,
    forgotten: Forgotten | None = None,
) -> Transactions:
    """As `read_transactions`, from a store that is up to date.

    Days that no later moment can change are not read to be measured: what was measured before is kept. The input's own
    files are read where rows are bad, for what they say.

    Args:
        snapshot: see `store.joined.JoinedStore.update`.
        measured_days: of the same store and settings.
        forgotten: cards that the snapshot has no rows of; those of the input's own files are left out.

    Raises:
        DataError: as `read_transactions`.
        DamagedStoreError: a file of the store is lost or damaged.
    """
    labels = snapshot.labels
    source = Source(data, (), transaction_fields(data.columns), label_fields=labels.fields if labels else ())
    view = View(clock, as_of, earlier)
    seen = frozenset(day.day for day in snapshot.manifest.days if _is_over(day, view))
    originals = Originals(input_path, snapshot.manifest.files, seen, forgotten or NO_CARDS, labels)
    with _translate_store_errors(source, snapshot):
        return _checked_from_store(spark, source, view, snapshot, measured_days, originals)


@contextmanager
def _translate_store_errors(
    source: "Source", snapshot: Snapshot, beside: Mapping[str, Callable[[], object]] | None = None
) -> Iterator[None]:
    """Turn an engine's failure over a file of the store into a `DamagedStoreError`; see `translate_read_errors`.

    The file is discarded, so that the next run finds it missing and makes it anew.
    """
    try:
        yield
    except EngineError as error:
        read = partial(read_through, fields=source.with_stored(()).fields)
        files = {day.file: partial(read, snapshot.file(day)) for day in snapshot.manifest.days}
        if snapshot.labels is not None:
            read = partial(read_through, fields=source.with_stored(()).label_fields)
            files |= {file: partial(read, snapshot.labels.file(file)) for file in snapshot.labels.manifest.sizes()}
        for name, read_file in (files | dict(beside or {})).items():
            try:
                read_file()
            except (DataError, *UNREADABLE):
                snapshot.storage.discard(name)
                raise DamagedStoreError(snapshot.storage.url(name)) from error
        raise


def _checked_from_store(
    spark: SparkSession,
    source: Source,
    view: View,
    snapshot: Snapshot,
    measured_days: MeasuredDays,
    originals: "Originals",
) -> Transactions:
    every_day = snapshot.manifest.days
    require_rows(sum(day.rows for day in every_day), len(snapshot.manifest.files))
    days = tuple(day for day in every_day if _may_count(day, view)) or every_day[:1]
    shared = snapshot.days_with_repeats()
    table = snapshot.labels
    labels = None if table is None else count_labels(table, snapshot, view, shared)

    def plan(days: Sequence[Day]) -> Plan:
        numbers = {day.day for day in days}
        repeating = tuple(snapshot.file(day) for day in days if day.repeats or day.day in shared)

        @cache
        def repeated() -> DataFrame:
            return repeated_ids(spark, ids_of(spark, source.with_stored(repeating)))

        return Plan(
            spark,
            source,
            view,
            repeated=repeated if repeating else None,
            labels_repeated=table is not None and table.repeat(numbers, shared),
            stored=source.with_stored(tuple(map(snapshot.file, days)), table.files(numbers) if table else ()),
            originals=originals,
            forgotten=originals.forgotten,
        )

    def settled(day: Day) -> bool:
        return day.day not in shared and is_settled(day, view)

    known, measured_before = measured_days.known([day for day in days if settled(day)], view)
    fresh = tuple(day for day in days if day.identity not in known)
    parts = [measured_before] if known else []
    if fresh:
        found = measure(plan(fresh).rows(), source.all_fields, view, by_day=True)
        measured_days.keep({day.identity: found[found["day"] == day.day] for day in fresh if settled(day)}, every_day)
        parts.append(found)
    measured = pd.concat(parts, ignore_index=True)
    checked = judged(replace(plan(days), bad_days=_bad_days(measured, shared)), measured, labels)

    def rows_of(chosen: Sequence[Day]) -> DataFrame:
        some_left_out = checked.rejected is not None or checked.profile.refunds > 0 or checked.profile.future > 0
        return plan(chosen or days[:1]).good_rows(some_left_out=some_left_out)

    def pruned(start: datetime, end: datetime) -> DataFrame:
        near = {day.day for day in snapshot.days_between(start, end)}
        return rows_of([day for day in days if day.day in near or day.day in shared])

    def cards(since: datetime, end: datetime) -> pd.DataFrame:
        kept = KeptCards(measured_days.storage, measured_days.folder, measured_days.data)
        return _first_seen(since, end, days, {day.identity for day in days if settled(day)}, rows_of, kept)

    stored = _stored_rows(spark, source, snapshot, measured_days.folder, view)
    errors = partial(_translate_store_errors, source, snapshot, stored.beside)
    return replace(checked, pruned=pruned, store_errors=errors, cards=cards, stored=stored)


def _stored_rows(spark: SparkSession, source: "Source", snapshot: Snapshot, folder: str, view: View) -> StoredRows:
    end = view.clock if view.as_of is None else min(view.clock, view.as_of)
    labels_end = to_micros(view.as_of) if source.dates_labels and view.as_of is not None else None
    return StoredRows(spark, snapshot, folder, view.clock, to_micros(end), labels_end)


def _first_seen(
    since: datetime,
    end: datetime,
    days: Sequence[Day],
    settled: set[str],
    rows_of: Callable[[Sequence[Day]], DataFrame],
    kept: KeptCards,
) -> pd.DataFrame:
    """See `Transactions.first_seen`.

    Args:
        since: from then on cards are new.
        end: until then rows count.
        days: that the view has rows of.
        settled: the identities of those of which no later moment changes which rows are good; they share no id.
        rows_of: the good rows of some days, or of more.
        kept: what earlier looks have found.
    """
    start = to_micros(since)
    before = [day for day in days if day.first is not None and day.first < start]
    fixed = {day.identity for day in before} & settled
    seen = kept.read()
    if not seen.files <= fixed | {day.identity for day in days if day.first is not None and day.first >= start}:
        seen = NONE  # days were changed since, or the view is of an earlier moment
    fresh = [day for day in before if day.identity in fixed - seen.files]
    if fresh:
        seen = seen.with_days({day.identity for day in fresh}, first_of_cards(rows_of(fresh)))
        kept.keep(seen)
    # A card is new by its rows since then; those of the other days before may still become good or bad.
    rest = [day for day in days if day.identity not in fixed or (day.newest is not None and day.newest >= start)]
    found = first_of_cards(rows_of(rest), end)
    found = found[found[FIRST] >= start]
    return found[~seen.seen_before(start, found[CARD])].reset_index(drop=True)


def _may_count(day: Day, view: View) -> bool:
    """Whether a day may have rows that `View.counts`."""
    if day.day == NO_DAY or view.as_of is None or day.first is None or day.newest is None:
        return True
    late = not view.rejects_future and day.newest > to_micros(view.clock)
    return day.first < to_micros(view.as_of) or late


def _is_over(day: Day, view: View) -> bool:
    """Whether the view sees all rows of a day."""
    return day.day == NO_DAY or view.as_of is None or (day.newest is not None and day.newest < to_micros(view.as_of))


def _bad_days(measured: pd.DataFrame, shared: set[int]) -> frozenset[int]:
    """The days with bad rows, and those that decide which rows of these days are copies."""
    bad = measured[measured["reason"].notna() & (measured["reason"] != REFUND)]["day"].astype("float64")
    days = frozenset(int(day) for day in bad.where((bad >= 0) & (bad < NO_DAY), NO_DAY))
    return days if days.isdisjoint(shared) else days | shared
