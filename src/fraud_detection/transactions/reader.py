"""Read the input into checked transactions."""

from dataclasses import dataclass
from datetime import datetime

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
from fraud_detection.transactions.derived_ids import with_content_ids, with_occurrences
from fraud_detection.transactions.faults import describe
from fraud_detection.transactions.files import find_files
from fraud_detection.transactions.input_file import InputFile
from fraud_detection.transactions.label_table import known_by, one_label_each, with_labels, without_transaction
from fraud_detection.transactions.profile import LabelTableProfile, Profile, measure, profile
from fraud_detection.transactions.remedies import remedies
from fraud_detection.transactions.rules import REFUND, is_rejected, order_of_copies, reasons, with_duplicates
from fraud_detection.transactions.table import translate_read_errors, typed_rows
from fraud_detection.transactions.view import View


@dataclass(frozen=True)
class Transactions:
    """The input, split into what can be used and what cannot. Both tables are lazy: each action reads the files again.

    `table` has the canonical columns in the order of `docs/data.md`. `rejected` has `reason`, all of the row, and the
    source columns as text; it is None when no row was bad.
    """

    table: DataFrame
    rejected: DataFrame | None
    profile: Profile


def read_transactions(
    spark: SparkSession,
    data: settings.Data,
    input_path: str,
    clock: datetime,
    as_of: datetime | None = None,
    earlier: datetime | None = None,
) -> Transactions:
    """Read, map and check all transactions at `input_path` as they were known at `as_of`.

    Transactions at or after `as_of` and labels known later do not exist for the result, whatever is wrong with them.
    Where `as_of` is None, everything counts, and transactions later than `clock` are rejected.

    How much was rejected is not judged here: write the quarantine first, then call `profile.require_share`.

    Args:
        clock: aware, like the other moments.
        earlier: measure also what was known at that moment, for `Profile.earlier_fingerprint`.

    Raises:
        DataError: there is no data, columns are missing or of an unexpected type, or a file is damaged.
        SettingsError: an extra column has the name of a canonical one.
    """
    source = _source(data, input_path)
    with (
        translate_read_errors(source.files, source.fields),
        translate_read_errors(source.label_files, source.label_fields),
    ):
        return _checked(spark, source, View(clock, as_of, earlier))


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


def _checked(spark: SparkSession, source: _Source, view: View) -> Transactions:
    ids = _ids(spark, source)
    rows, again, _ = _count_ids(ids)
    if rows == 0:
        raise DataError(f"the input has no rows, only {len(source.files)} file(s) without any")
    labels = _profile_labels(spark, source, view)
    plan = _Plan(
        spark,
        source,
        view,
        repeated=_repeated_ids(spark, ids) if again else None,
        labels_repeated=labels is not None and labels.superseded > 0,
    )
    fields = source.all_fields
    measured = measure(plan.rows(), fields, view)
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
    table = plan.rows()
    if len(left_out):
        table = table.where(F.col("reason").isNull())
    derived = [KEY] if source.derives_ids else []
    columns = [*derived, *(field.name for field in fields), *([HISTORY] if HISTORY in table.columns else [])]
    return Transactions(
        table=table.select(*(f"`{name}`" for name in columns)),
        rejected=plan.rejected() if some_bad else None,
        profile=found,
    )


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


@dataclass(frozen=True)
class _Plan:
    """How to get from files to checked rows; what was found not to occur is not looked for again."""

    spark: SparkSession
    source: _Source
    view: View
    repeated: DataFrame | None
    """Transaction ids that more than one row has; None where there are none."""
    labels_repeated: bool

    def rows(self, *, with_source: bool = False) -> DataFrame:
        """All rows with canonical columns, `reason`, `defect` and, on request, the source texts."""
        source = self.source
        rows = typed_rows(self.spark, source.files, source.fields, with_source=with_source)
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
            return with_occurrences(rows, order_of_copies(source.fields), self.repeated)
        return with_duplicates(rows, source.all_fields, self.repeated)

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
        rows, fields, data = self.rows(with_source=True), self.source.all_fields, self.source.data
        found = describe(rows.where(is_rejected()), fields, data)
        help_ = remedies(rows, fields, data.format, {*found}) if with_remedies else {}
        return {reason: f"{text}; next: {help_[reason]}" if reason in help_ else text for reason, text in found.items()}
