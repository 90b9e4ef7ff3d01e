"""Read the input into checked transactions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property, partial

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.labels import HISTORY
from fraud_detection.transactions.columns import (
    CANONICAL,
    FLAGS,
    KEY,
    OF_LABEL,
    Field,
    label_fields,
    transaction_fields,
)
from fraud_detection.transactions.csv_text import UNREADABLE
from fraud_detection.transactions.derived_ids import with_content_ids, with_occurrences
from fraud_detection.transactions.faults import describe
from fraud_detection.transactions.files import find_files, open_files
from fraud_detection.transactions.forgotten import NO_CARDS, Forgotten
from fraud_detection.transactions.input_file import InputFile
from fraud_detection.transactions.label_table import known_by, one_label_each, with_labels, without_transaction
from fraud_detection.transactions.profile import LabelTableProfile, Profile, measure, profile
from fraud_detection.transactions.remedies import MOST_GOOD, remedies
from fraud_detection.transactions.rules import REFUND, is_rejected, order_of_copies, reasons, with_duplicates
from fraud_detection.transactions.store.cards import CARD, FIRST, NONE, KeptCards
from fraud_detection.transactions.store.manifest import NO_DAY, DamagedStoreError, Day, SourceFile
from fraud_detection.transactions.store.profiles import MeasuredDays, is_settled, to_micros
from fraud_detection.transactions.store.rows import Snapshot, StoreInput
from fraud_detection.transactions.table import EngineError, read_through, translate_read_errors, typed_rows
from fraud_detection.transactions.view import View


@dataclass(frozen=True)
class StoredRows:
    """Which days of a store the rows of a run come from, and what the run sees of them."""

    spark: SparkSession
    snapshot: Snapshot
    folder: str
    """Of the store, its name ending with a slash."""
    clock: datetime
    end: int
    """In microseconds since 1970: the run sees no row from then on."""
    labels_end: int | None
    """Likewise: it sees no label that became known later; None where it sees all."""
    beside: dict[str, Callable[[], object]] = field(default_factory=dict)
    """Other files that are read beside the rows, by their names below the storage; each is read through by its call."""


@dataclass(frozen=True)
class Transactions:
    """The input, split into what can be used and what cannot. Both tables are lazy: each action reads the files again.

    `rejected` has `reason`, all of the row, and the source columns as text; it is None when no row was bad.
    """

    make_table: Callable[[], DataFrame]
    rejected: DataFrame | None
    profile: Profile
    pruned: Callable[[datetime, datetime], DataFrame] | None = None
    """The table without files that have no row of a span; None where nothing is known of the files."""
    store_errors: Callable[[], AbstractContextManager[None]] = nullcontext
    """A context that turns an engine's failure over a file of the store into a `DamagedStoreError`."""
    cards: Callable[[datetime, datetime], pd.DataFrame] | None = None
    """As `first_seen`, from a store; None without one."""
    stored: StoredRows | None = None
    """Where the rows come from; None without a store, and where a label table says which are frauds."""

    @cached_property
    def table(self) -> DataFrame:
        """All rows that can be used, with the canonical columns in the order of `docs/data.md`.

        It is made where it is asked for: Apache Spark looks for each file as soon as a table names it.
        """
        return self.make_table()

    def first_seen(self, since: datetime, end: datetime) -> pd.DataFrame:
        """The first transaction before `end` of each card that has none before `since`.

        From a store, days that no later moment can change are read for it once.

        Returns:
            customer_id, and first_seen in microseconds since 1970.
        """
        if self.cards is not None:
            return self.cards(since, end)
        found = _first_of_cards(self.table, end)
        return found[found[FIRST] >= to_micros(since)]

    def between(self, start: datetime, end: datetime) -> DataFrame:
        """The rows of [start, end) of `table`; from a store, only the files of these days are read."""
        table = self.table if self.pruned is None else self.pruned(start, end)
        time = F.col("transaction_time")
        return table.where((time >= F.lit(start)) & (time < F.lit(end)))


def read_transactions(
    spark: SparkSession,
    data: settings.Data,
    input_path: str,
    clock: datetime,
    as_of: datetime | None = None,
    earlier: datetime | None = None,
    forgotten: Forgotten | None = None,
) -> Transactions:
    """Read, map and check all transactions at `input_path` as they were known at `as_of`.

    Transactions at or after `as_of` and labels known later do not exist for the result, whatever is wrong with them.
    Where `as_of` is None, everything counts, and transactions later than `clock` are rejected.

    How much was rejected is not judged here: write the quarantine first, then call `profile.require_share`.

    Args:
        clock: aware, like the other moments.
        earlier: measure also what was known at that moment, for `Profile.earlier_fingerprint`.
        forgotten: cards whose rows are left out.

    Raises:
        DataError: there is no data, columns are missing or of an unexpected type, or a file is damaged.
        SettingsError: an extra column has the name of a canonical one.
    """
    source = _source(data, input_path)
    with (
        translate_read_errors(source.files, source.fields),
        translate_read_errors(source.label_files, source.label_fields),
    ):
        return _checked(spark, source, View(clock, as_of, earlier), forgotten or NO_CARDS)


@dataclass(frozen=True)
class _Source:
    """The files of transactions and labels, with their mapped columns; no label files without a label table."""

    data: settings.Data
    files: tuple[InputFile, ...]
    fields: tuple[Field, ...]
    label_files: tuple[InputFile, ...] = ()
    label_fields: tuple[Field, ...] = ()

    @property
    def all_fields(self) -> tuple[Field, ...]:
        """Of the joined table, in canonical order."""
        labels = [field for field in self.label_fields if field.name != KEY]
        place = {name: index for index, name in enumerate(CANONICAL)}
        return tuple(sorted([*self.fields, *labels], key=lambda field: place.get(field.name, len(place))))

    def with_stored(self, files: tuple[InputFile, ...]) -> "_Source":
        """The same transactions, read from files of the store."""
        return replace(self, files=files, fields=tuple(Field(f.name, f.name, f.kind) for f in self.fields))

    @property
    def derives_ids(self) -> bool:
        """Whether the files have no transaction id."""
        return self.fields[0].name != KEY

    @property
    def dates_labels(self) -> bool:
        """Whether the input says when labels became known."""
        return any(field.name == "label_available_at" for field in self.all_fields)


_SENT_IDS = 200_000
_NOISE = 1e-4  # so few bad rows have no common cause that a setting could remove; looking for one reads the files again


def _source(data: settings.Data, input_path: str) -> _Source:
    fields = transaction_fields(data.columns)
    if data.labels is None:
        return _Source(data, find_files(input_path, fields, data.format), fields)
    labels = label_fields(data.labels)
    label_files = find_files(data.labels.path, labels, data.format)
    files = find_files(input_path, fields, data.format, leave_out=data.labels.path)
    return _Source(data, files, fields, label_files, labels)


def _checked(spark: SparkSession, source: _Source, view: View, forgotten: Forgotten) -> Transactions:
    ids = _ids(spark, source)
    rows, again, _ = _count_ids(ids)
    _require_rows(rows, len(source.files))
    labels = _profile_labels(spark, source, view)
    plan = _Plan(
        spark,
        source,
        view,
        repeated=cache(partial(_repeated_ids, spark, ids)) if again else None,
        labels_repeated=labels is not None and labels.superseded > 0,
        forgotten=forgotten,
    )
    return _judged(plan, measure(plan.rows(), source.all_fields, view), labels)


def _judged(plan: "_Plan", measured: pd.DataFrame, labels: LabelTableProfile | None) -> Transactions:
    """The rows of a plan, split by what `profile.measure` says of them."""
    view, fields = plan.view, plan.source.all_fields
    left_out = measured["reason"].dropna()
    some_bad = bool((left_out != REFUND).any())
    share = float(measured["rows"][left_out.index[left_out != REFUND]].sum() / max(measured["rows"].sum(), 1))
    faults = plan.faults(with_remedies=share > _NOISE) if some_bad else {}
    found = profile(measured, faults, labels, view, columns=fields)
    if found.rows == 0 and found.refunds:
        raise DataError(f"all {found.refunds:,} rows have a negative amount, which data.refunds leaves out")
    if found.rows == 0:
        raise DataError(
            f"the input has no transaction before {view.as_of:%Y-%m-%d %H:%M} UTC, the moment to decide at;"
            " give earlier data, or a later --as-of"
        )
    return Transactions(
        make_table=partial(plan.good_rows, some_left_out=len(left_out) > 0),
        rejected=plan.rejected() if some_bad else None,
        profile=found,
    )


def _require_rows(rows: int, files: int) -> None:
    if rows == 0:
        raise DataError(f"the input has no rows, only {files} file(s) without any")


def _ids(spark: SparkSession, source: _Source) -> DataFrame:
    """The id of each row; derived ones are equal for equal rows."""
    if not source.derives_ids:
        return typed_rows(spark, source.files, source.fields[:1])
    content = tuple(field for field in source.fields if field.name not in {*OF_LABEL, *FLAGS})
    return with_content_ids(typed_rows(spark, source.files, content), content).select(KEY)


def _count_ids(rows: DataFrame) -> tuple[int, int, int]:
    """Rows, rows beyond the first of each id, and rows without an id."""
    counts = rows.groupBy("transaction_id").count()
    missing = F.col("transaction_id").isNull()
    sums = counts.agg(
        F.sum("count"), F.sum(F.when(~missing, F.col("count") - 1)), F.sum(F.when(missing, F.col("count")))
    )
    total, repeated, empty = sums.collect()[0]
    return int(total or 0), int(repeated or 0), int(empty or 0)


def _repeated_ids(spark: SparkSession, ids: DataFrame) -> DataFrame:
    """The ids that more than one row has: found once and sent along, unless they are very many."""
    repeated = ids.groupBy("transaction_id").count().where("count > 1").select("transaction_id")
    found = repeated.where(F.col("transaction_id").isNotNull()).limit(_SENT_IDS + 1).toPandas()
    return repeated if len(found) > _SENT_IDS else F.broadcast(spark.createDataFrame(found, repeated.schema))


def _profile_labels(spark: SparkSession, source: _Source, view: View) -> LabelTableProfile | None:
    if not source.label_files:
        return None
    counted = tuple(field for field in source.label_fields if field.name != "fraud")
    labels = typed_rows(spark, source.label_files, counted)
    if source.dates_labels and view.as_of is not None:
        labels = labels.where(known_by(view.as_of))
    rows, superseded, without_id = _count_ids(labels)
    ids = typed_rows(spark, source.files, source.fields[:2])
    orphan_labels = without_transaction(labels.where(F.col(KEY).isNotNull()), ids.where(view.counts())).count()
    return LabelTableProfile(rows, without_id, superseded, orphan_labels)


def store_input(data: settings.Data, input_path: str) -> StoreInput:
    """What a store of the transactions at a path holds.

    Raises:
        SettingsError: an extra column has the name of a canonical one.
    """
    leave_out = None if data.labels is None else data.labels.path
    return StoreInput(input_path, transaction_fields(data.columns), data.format, leave_out)


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
        snapshot: see `store.rows.RowStore.update`.
        measured_days: of the same store and settings.
        forgotten: cards that the snapshot has no rows of; those of the input's own files are left out.

    Raises:
        DataError: as `read_transactions`.
        DamagedStoreError: a file of the store is lost or damaged.
    """
    source = _Source(data, (), transaction_fields(data.columns))
    if data.labels is not None:
        labels = label_fields(data.labels)
        files = find_files(data.labels.path, labels, data.format)
        source = replace(source, label_files=files, label_fields=labels)
    view = View(clock, as_of, earlier)
    seen = frozenset(day.day for day in snapshot.manifest.days if _is_over(day, view))
    originals = _Originals(input_path, snapshot.manifest.files, seen, forgotten or NO_CARDS)
    with translate_read_errors(source.label_files, source.label_fields), _translate_store_errors(source, snapshot):
        return _checked_from_store(spark, source, view, snapshot, measured_days, originals)


@contextmanager
def _translate_store_errors(
    source: "_Source", snapshot: Snapshot, beside: Mapping[str, Callable[[], object]] | None = None
) -> Iterator[None]:
    """Turn an engine's failure over a file of the store into a `DamagedStoreError`; see `translate_read_errors`.

    The file is discarded, so that the next run finds it missing and makes it anew.
    """
    try:
        yield
    except EngineError as error:
        read = partial(read_through, fields=source.with_stored(()).fields)
        files = {day.file: partial(read, snapshot.file(day)) for day in snapshot.manifest.days}
        for name, read_file in (files | dict(beside or {})).items():
            try:
                read_file()
            except (DataError, *UNREADABLE):
                snapshot.storage.discard(name)
                raise DamagedStoreError(snapshot.storage.url(name)) from error
        raise


def _checked_from_store(
    spark: SparkSession,
    source: _Source,
    view: View,
    snapshot: Snapshot,
    measured_days: MeasuredDays,
    originals: "_Originals",
) -> Transactions:
    every_day = snapshot.manifest.days
    _require_rows(sum(day.rows for day in every_day), len(snapshot.manifest.files))
    days = tuple(day for day in every_day if _may_count(day, view)) or every_day[:1]
    shared = snapshot.days_with_repeats()
    labels = _profile_labels(spark, source.with_stored(tuple(map(snapshot.file, every_day))), view)

    def plan(days: Sequence[Day]) -> _Plan:
        repeating = tuple(snapshot.file(day) for day in days if day.repeats or day.day in shared)

        @cache
        def repeated() -> DataFrame:
            return _repeated_ids(spark, _ids(spark, source.with_stored(repeating)))

        return _Plan(
            spark,
            source,
            view,
            repeated=repeated if repeating else None,
            labels_repeated=labels is not None and labels.superseded > 0,
            stored=tuple(map(snapshot.file, days)),
            originals=originals,
            forgotten=originals.forgotten,
        )

    def settled(day: Day) -> bool:
        return labels is None and day.day not in shared and is_settled(day, view)

    known, measured_before = measured_days.known([day for day in days if settled(day)], view)
    fresh = tuple(day for day in days if day.file not in known)
    parts = [measured_before] if known else []
    if fresh:
        found = measure(plan(fresh).rows(), source.all_fields, view, by_day=True)
        measured_days.keep({day.file: found[found["day"] == day.day] for day in fresh if settled(day)}, every_day)
        parts.append(found)
    measured = pd.concat(parts, ignore_index=True)
    checked = _judged(replace(plan(days), bad_days=_bad_days(measured, shared)), measured, labels)

    def rows_of(chosen: Sequence[Day]) -> DataFrame:
        some_left_out = checked.rejected is not None or checked.profile.refunds > 0 or checked.profile.future > 0
        return plan(chosen or days[:1]).good_rows(some_left_out=some_left_out)

    def pruned(start: datetime, end: datetime) -> DataFrame:
        near = {day.day for day in snapshot.days_between(start, end)}
        return rows_of([day for day in days if day.day in near or day.day in shared])

    def cards(since: datetime, end: datetime) -> pd.DataFrame:
        kept = KeptCards(measured_days.storage, measured_days.folder, measured_days.data)
        return _first_seen(since, end, days, {day.file for day in days if settled(day)}, rows_of, kept)

    stored = None if source.label_files else _stored_rows(spark, source, snapshot, measured_days.folder, view)
    errors = partial(_translate_store_errors, source, snapshot, stored.beside if stored else None)
    return replace(checked, pruned=pruned, store_errors=errors, cards=cards, stored=stored)


def _stored_rows(spark: SparkSession, source: "_Source", snapshot: Snapshot, folder: str, view: View) -> StoredRows:
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
        settled: the files of those of which no later moment changes which rows are good; they share no id with others.
        rows_of: the good rows of some days, or of more.
        kept: what earlier looks have found.
    """
    start = to_micros(since)
    before = [day for day in days if day.first is not None and day.first < start]
    fixed = {day.file for day in before} & settled
    seen = kept.read()
    if not seen.files <= fixed | {day.file for day in days if day.first is not None and day.first >= start}:
        seen = NONE  # days were changed since, or the view is of an earlier moment
    fresh = [day for day in before if day.file in fixed - seen.files]
    if fresh:
        seen = seen.with_days({day.file for day in fresh}, _first_of_cards(rows_of(fresh)))
        kept.keep(seen)
    # A card is new by its rows since then; those of the other days before may still become good or bad.
    rest = [day for day in days if day.file not in fixed or (day.newest is not None and day.newest >= start)]
    found = _first_of_cards(rows_of(rest), end)
    found = found[found[FIRST] >= start]
    return found[~seen.seen_before(start, found[CARD])].reset_index(drop=True)


def _first_of_cards(rows: DataFrame, end: datetime | None = None) -> pd.DataFrame:
    """When each card is first seen, before `end`; an unknown card is neither new nor old."""
    rows = rows.where(F.col(CARD).isNotNull())
    rows = rows if end is None else rows.where(F.col("transaction_time") < F.lit(end))
    firsts = rows.groupBy(CARD).agg(F.min("transaction_time").alias(FIRST))
    return firsts.select(CARD, F.unix_micros(FIRST).alias(FIRST)).toPandas()


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


@dataclass(frozen=True)
class _Originals:
    """The input files that a snapshot was made of."""

    url: str
    files: tuple[SourceFile, ...]
    seen: frozenset[int]
    """The days of which the view sees all rows."""
    forgotten: Forgotten
    """Cards whose rows are left out."""

    def open(self, source: _Source, days: frozenset[int], *, with_good: bool) -> tuple[InputFile, ...]:
        """Those with rows of some days; raises DataError where one is gone or has changed its columns.

        Args:
            source: the mapped columns.
            days: all that have bad rows.
            with_good: add files without bad rows until there are as many good rows as `remedies` looks at.
        """
        chosen = {file.number for file in self.files if not days.isdisjoint(file.days)}
        others = [file for file in self.files if file.number not in chosen]
        others.sort(key=lambda file: not self.seen.issuperset(file.days))  # first those that the view sees all of
        rows = 0
        for file in others if with_good else ():
            if rows >= MOST_GOOD:
                break
            chosen.add(file.number)
            rows += file.rows if self.seen.issuperset(file.days) else 0
        paths = [file.path for file in self.files if file.number in chosen]
        return open_files(self.url, paths, source.fields, source.data.format)


@dataclass(frozen=True)
class _Plan:
    """How to get from files to checked rows; what was found not to occur is not looked for again."""

    spark: SparkSession
    source: _Source
    view: View
    repeated: Callable[[], DataFrame] | None
    """Transaction ids that more than one row has, found when asked for; None where there are none."""
    labels_repeated: bool
    stored: tuple[InputFile, ...] | None = None
    """Files of the store, from which rows are read that need no source texts; None without a store."""
    originals: "_Originals | None" = None
    """The input's own files, where rows come from a store."""
    bad_days: frozenset[int] = frozenset()
    """The days for which the input's own files are read."""
    forgotten: Forgotten = NO_CARDS
    """Cards whose rows are left out; a store has none of them."""
    with_good: bool = False
    """Whether also some of the input's own files without bad rows are read."""

    def good_rows(self, *, some_left_out: bool) -> DataFrame:
        """The rows that can be used, in the columns of `Transactions.table`."""
        table = self.rows()
        if some_left_out:
            table = table.where(F.col("reason").isNull())
        derived = [KEY] if self.source.derives_ids else []
        columns = [*derived, *(field.name for field in self.source.all_fields)]
        columns += [HISTORY] if HISTORY in table.columns else []
        return table.select(*(f"`{name}`" for name in columns))

    def rows(self, *, with_source: bool = False) -> DataFrame:
        """All rows with canonical columns, `reason`, `defect` and, on request, the source texts."""
        source = self.source
        files, fields = source.files, source.fields
        if self.originals is not None and with_source:
            files = self.originals.open(source, self.bad_days, with_good=self.with_good)
        elif self.stored is not None:
            files, fields = self.stored, source.with_stored(self.stored).fields
        rows = typed_rows(self.spark, files, fields, with_source=with_source)
        if self.forgotten.hashes and (with_source or self.stored is None):
            rows = rows.mapInArrow(self.forgotten.keep_out, rows.schema)
        rows = with_content_ids(rows, source.fields) if source.derives_ids else rows
        rows = rows.where(self.view.counts())
        if source.label_files:
            rows = with_labels(rows, self._labels(with_source=with_source))
        elif source.dates_labels and self.view.as_of is not None:
            known = known_by(self.view.as_of)
            rows = rows.withColumns({name: F.when(known, F.col(name)) for name in OF_LABEL})
        rows = rows.withColumn("_is_refund", F.col("amount") < 0)
        rows = rows.withColumn("reason", reasons(source.all_fields, source.data, self.view.clock))
        if {*FLAGS} <= {field.name for field in source.fields}:  # an alert of both was let through
            blocked = F.when(F.col("control_group") == 1, 0).otherwise(F.col("blocked"))
            rows = rows.withColumn("blocked", blocked.cast("tinyint"))
        if source.data.refunds is settings.Refunds.ABSOLUTE:
            rows = rows.withColumn("amount", F.abs("amount"))
        if self.repeated is None:
            return rows
        if source.derives_ids:
            return with_occurrences(rows, order_of_copies(source.fields), self.repeated())
        return with_duplicates(rows, source.all_fields, self.repeated())

    def _labels(self, *, with_source: bool) -> DataFrame:
        """The label table as the view shows it, one row for each id."""
        fields, as_of = self.source.label_fields, self.view.as_of
        labels = typed_rows(self.spark, self.source.label_files, fields, with_source=with_source)
        labels = labels.where(F.col("transaction_id").isNotNull())
        if not self.source.dates_labels:
            return one_label_each(labels, fields) if self.labels_repeated else labels
        if as_of is not None:
            labels = labels.where(known_by(as_of))
        if self.labels_repeated:
            return one_label_each(labels, fields, self.view.earlier)
        return labels.withColumn(HISTORY, F.lit(None).cast("string"))

    def rejected(self) -> DataFrame:
        """Bad rows as text under their source names, with their reasons."""
        rows = self.rows(with_source=True).where(is_rejected())
        labels = {field.name for field in self.source.label_fields if field.name != KEY}
        texts = [
            F.col(f"`source_{field.name}`").alias(
                f"label_table_{field.source}" if field.name in labels else field.source
            )
            for field in self.source.all_fields
        ]
        return rows.select("reason", *texts, *(["broken_line"] if "broken_line" in rows.columns else []))

    def faults(self, *, with_remedies: bool) -> dict[str, str]:
        """For each reason the columns at fault, with masked shapes of their values, and settings that would help."""
        rows, fields, data = (
            replace(self, with_good=with_remedies).rows(with_source=True),
            self.source.all_fields,
            self.source.data,
        )
        found = describe(rows.where(is_rejected()), fields, data)
        help_ = remedies(rows, fields, data.format, {*found}) if with_remedies else {}
        return {reason: f"{text}; next: {help_[reason]}" if reason in help_ else text for reason, text in found.items()}
