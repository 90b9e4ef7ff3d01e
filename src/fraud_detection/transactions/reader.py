"""Read the input into checked transactions."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property, partial

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.transactions.columns import (
    KEY,
    label_fields,
    transaction_fields,
)
from fraud_detection.transactions.files import find_files
from fraud_detection.transactions.forgotten import NO_CARDS, Forgotten
from fraud_detection.transactions.label_table import known_by, without_transaction
from fraud_detection.transactions.plan import Plan, Source, count_ids, ids_of, repeated_ids
from fraud_detection.transactions.profile import LabelTableProfile, Profile, measure, profile
from fraud_detection.transactions.rules import REFUND
from fraud_detection.transactions.store.cards import CARD, FIRST
from fraud_detection.transactions.store.profiles import to_micros
from fraud_detection.transactions.store.rows import Snapshot
from fraud_detection.transactions.table import translate_read_errors, typed_rows
from fraud_detection.transactions.view import View

_NOISE = 1e-4  # so few bad rows have no common cause that a setting could remove; looking for one reads the files again


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
    """Where the rows come from; None without a store."""

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
        found = first_of_cards(self.table, end)
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


def _source(data: settings.Data, input_path: str) -> Source:
    fields = transaction_fields(data.columns)
    if data.labels is None:
        return Source(data, find_files(input_path, fields, data.format), fields)
    labels = label_fields(data.labels)
    label_files = find_files(data.labels.path, labels, data.format)
    files = find_files(input_path, fields, data.format, leave_out=data.labels.path)
    return Source(data, files, fields, label_files, labels)


def _checked(spark: SparkSession, source: Source, view: View, forgotten: Forgotten) -> Transactions:
    ids = ids_of(spark, source)
    rows, again, _ = count_ids(ids)
    require_rows(rows, len(source.files))
    labels, labels_repeated = _profile_labels(spark, source, view)
    plan = Plan(
        spark,
        source,
        view,
        repeated=cache(partial(repeated_ids, spark, ids)) if again else None,
        labels_repeated=labels_repeated,
        forgotten=forgotten,
    )
    return judged(plan, measure(plan.rows(), source.all_fields, view), labels)


def judged(plan: "Plan", measured: pd.DataFrame, labels: LabelTableProfile | None) -> Transactions:
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


def require_rows(rows: int, files: int) -> None:
    if rows == 0:
        raise DataError(f"the input has no rows, only {files} file(s) without any")


def _profile_labels(spark: SparkSession, source: Source, view: View) -> tuple[LabelTableProfile | None, bool]:
    """How the rows of the label table are used, and whether some id has several."""
    if not source.label_files:
        return None, False
    counted = tuple(field for field in source.label_fields if field.name != "fraud")
    labels = typed_rows(spark, source.label_files, counted)
    if source.dates_labels and view.as_of is not None:
        labels = labels.where(known_by(view.as_of))
    rows, repeated, without_id = count_ids(labels)
    ids = typed_rows(spark, source.files, source.fields[:2])
    orphan_labels = without_transaction(labels.where(F.col(KEY).isNotNull()), ids.where(view.counts())).count()
    return LabelTableProfile(rows, without_id, orphan_labels), repeated > 0


def first_of_cards(rows: DataFrame, end: datetime | None = None) -> pd.DataFrame:
    """When each card is first seen, before `end`; an unknown card is neither new nor old."""
    rows = rows.where(F.col(CARD).isNotNull())
    rows = rows if end is None else rows.where(F.col("transaction_time") < F.lit(end))
    firsts = rows.groupBy(CARD).agg(F.min("transaction_time").alias(FIRST))
    return firsts.select(CARD, F.unix_micros(FIRST).alias(FIRST)).toPandas()
