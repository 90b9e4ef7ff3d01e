"""From files of the input, or of its store, to checked rows; nothing is read before an action."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection import settings
from fraud_detection.labels import HISTORY
from fraud_detection.transactions.columns import (
    CANONICAL,
    FLAGS,
    KEY,
    OF_LABEL,
    Field,
)
from fraud_detection.transactions.derived_ids import with_content_ids, with_occurrences
from fraud_detection.transactions.faults import describe
from fraud_detection.transactions.files import open_files
from fraud_detection.transactions.forgotten import NO_CARDS, Forgotten
from fraud_detection.transactions.input_file import InputFile
from fraud_detection.transactions.label_table import known_by, one_label_each, with_labels, without_labels
from fraud_detection.transactions.remedies import MOST_GOOD, remedies
from fraud_detection.transactions.rules import is_rejected, order_of_copies, reasons, with_duplicates
from fraud_detection.transactions.store.labels import StoredLabels
from fraud_detection.transactions.store.manifest import SourceFile
from fraud_detection.transactions.table import typed_rows
from fraud_detection.transactions.view import View

_SENT_IDS = 200_000


@dataclass(frozen=True)
class Source:
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

    def with_stored(self, files: tuple[InputFile, ...], label_files: tuple[InputFile, ...] = ()) -> "Source":
        """The same transactions and labels, read from files of the store."""
        fields, label_fields = map(_canonical, (self.fields, self.label_fields))
        return replace(self, files=files, fields=fields, label_files=label_files, label_fields=label_fields)

    @property
    def derives_ids(self) -> bool:
        """Whether the files have no transaction id."""
        return self.fields[0].name != KEY

    @property
    def dates_labels(self) -> bool:
        """Whether the input says when labels became known."""
        return any(field.name == "label_available_at" for field in self.all_fields)


def _canonical(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(Field(field.name, field.name, field.kind) for field in fields)


def ids_of(spark: SparkSession, source: Source) -> DataFrame:
    """The id of each row; derived ones are equal for equal rows."""
    if not source.derives_ids:
        return typed_rows(spark, source.files, source.fields[:1])
    content = tuple(field for field in source.fields if field.name not in {*OF_LABEL, *FLAGS})
    return with_content_ids(typed_rows(spark, source.files, content), content).select(KEY)


def count_ids(rows: DataFrame) -> tuple[int, int, int]:
    """Rows, rows beyond the first of each id, and rows without an id."""
    counts = rows.groupBy("transaction_id").count()
    missing = F.col("transaction_id").isNull()
    sums = counts.agg(
        F.sum("count"), F.sum(F.when(~missing, F.col("count") - 1)), F.sum(F.when(missing, F.col("count")))
    )
    total, repeated, empty = sums.collect()[0]
    return int(total or 0), int(repeated or 0), int(empty or 0)


def repeated_ids(spark: SparkSession, ids: DataFrame) -> DataFrame:
    """The ids that more than one row has: found once and sent along, unless they are very many."""
    repeated = ids.groupBy("transaction_id").count().where("count > 1").select("transaction_id")
    found = repeated.where(F.col("transaction_id").isNotNull()).limit(_SENT_IDS + 1).toPandas()
    return repeated if len(found) > _SENT_IDS else F.broadcast(spark.createDataFrame(found, repeated.schema))


@dataclass(frozen=True)
class Originals:
    """The input files that a snapshot was made of."""

    url: str
    files: tuple[SourceFile, ...]
    seen: frozenset[int]
    """The days of which the view sees all rows."""
    forgotten: Forgotten
    """Cards whose rows are left out."""
    labels: StoredLabels | None
    """What the files of the label table hold, if there is one."""

    def open(self, source: Source, days: frozenset[int], *, with_good: bool) -> Source:
        """The source with the files that have rows of some days, and with those of their labels.

        Raises:
            DataError: one is gone or has changed its columns.

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
        read = [file for file in self.files if file.number in chosen]
        files = open_files(self.url, [file.path for file in read], source.fields, source.data.format)
        if self.labels is None:
            return replace(source, files=files)
        # Of all their days: a row of another day would be judged by a part of its labels.
        labels = self.labels.open_input({day for file in read for day in file.days}, source.data.format)
        return replace(source, files=files, label_files=labels, label_fields=self.labels.fields)


@dataclass(frozen=True)
class Plan:
    """How to get from files to checked rows; what was found not to occur is not looked for again."""

    spark: SparkSession
    source: Source
    view: View
    repeated: Callable[[], DataFrame] | None
    """Transaction ids that more than one row has, found when asked for; None where there are none."""
    labels_repeated: bool
    stored: Source | None = None
    """Files of the store, from which rows are read that need no source texts; None without a store."""
    originals: "Originals | None" = None
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
        if self.originals is not None and with_source:
            source = self.originals.open(source, self.bad_days, with_good=self.with_good)
        elif self.stored is not None:
            source = self.stored
        rows = typed_rows(self.spark, source.files, source.fields, with_source=with_source)
        if self.forgotten.hashes and (with_source or self.stored is None):
            rows = rows.mapInArrow(self.forgotten.keep_out, rows.schema)
        rows = with_content_ids(rows, source.fields) if source.derives_ids else rows
        rows = rows.where(self.view.counts())
        if source.label_files:
            rows = with_labels(rows, self._labels(source, with_source=with_source))
        elif source.label_fields:
            rows = without_labels(rows, source.label_fields, with_source=with_source)
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

    def _labels(self, source: Source, *, with_source: bool) -> DataFrame:
        """The label table as the view shows it, one row for each id."""
        fields, as_of = source.label_fields, self.view.as_of
        labels = typed_rows(self.spark, source.label_files, fields, with_source=with_source)
        labels = labels.where(F.col("transaction_id").isNotNull())
        if not source.dates_labels:
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
