"""A label table: labels that arrive later than transactions and separately, joined by transaction id.

What a table with several labels for a transaction says about it at a moment: `fraud_detection.labels`.
"""

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection.labels import EARLIER_HISTORY, HISTORY, TIME_DIGITS, UNKNOWN
from fraud_detection.transactions.columns import Field

_TIME = "label_available_at"


def known_by(moment: datetime) -> Column:
    """Whether a label was known at a moment; one that does not say when it became known is taken as said."""
    return F.col(_TIME).isNull() | (F.col(_TIME) <= F.lit(moment))


def label_text(fraud: Column, available: Column) -> Column:
    """One label as in `label_history`; a label older than 1970 is as bad as one of 1970."""
    micros = F.coalesce(F.greatest(F.unix_micros(available), F.lit(1)), F.lit(0))
    said = F.coalesce(fraud.cast("string"), F.lit("-"))
    return F.concat(F.lpad(micros.cast("string"), TIME_DIGITS, "0"), F.lit("="), said)


def one_label_each(labels: DataFrame, fields: tuple[Field, ...], earlier: datetime | None = None) -> DataFrame:
    """One row for each id: the label that became known last, and before it what it had been, as `label_history`.

    Of labels known at the same time, fraud counts before genuine before unknown. The history is null where the id never
    had another label. Where the table does not say when labels became known, there is no history.

    Args:
        labels: with an id each.
        earlier: adds `earlier_label_history`, what was known at that moment.
    """
    order = [F.col(field.name).desc_nulls_last() for field in reversed(fields) if field.name != "transaction_id"]
    last = F.row_number().over(Window.partitionBy("transaction_id").orderBy(*order, F.col("defect").asc_nulls_first()))
    repeated = labels.groupBy("transaction_id").count().where("count > 1").select("transaction_id")
    among = labels.join(repeated, "transaction_id", "left_semi")
    lasts = among.withColumn("place", last).where("place = 1").drop("place")
    alone = labels.join(repeated, "transaction_id", "left_anti")
    if not any(field.name == _TIME for field in fields):
        return alone.unionByName(lasts)
    lasts = lasts.join(_histories(among, earlier), "transaction_id", "left")
    lasts = lasts.withColumn(_TIME, F.coalesce("changed_at", _TIME)).drop("changed_at")
    histories = [HISTORY] if earlier is None else [HISTORY, EARLIER_HISTORY]
    absent = {name: F.lit(None).cast("string") for name in histories}
    return alone.withColumns(absent).unionByName(lasts)


def _histories(labels: DataFrame, earlier: datetime | None) -> DataFrame:
    """For each id its history, since when the last label is what it is, and what was known at the moment `earlier`."""
    said = F.col("fraud").isNotNull() | F.col(_TIME).isNotNull()
    usable = labels.where(said & F.col("defect").isNull() & (F.coalesce("fraud", F.lit(UNKNOWN)) <= 1))
    once = usable.groupBy("transaction_id", _TIME).agg(F.max("fraud").alias("fraud"))
    by_time = Window.partitionBy("transaction_id").orderBy(F.col(_TIME).asc_nulls_first())
    before = once.withColumn("before", F.coalesce(F.lag("fraud").over(by_time), F.lit(UNKNOWN)))
    before = before.withColumn("dated", F.lag(_TIME).over(by_time).isNotNull())
    same = F.col("dated") & (F.coalesce("fraud", F.lit(UNKNOWN)) == F.col("before"))
    text = label_text(F.col("fraud"), F.col(_TIME))
    found = [
        F.when(F.count(F.lit(1)) > 1, _joined(text)).alias(HISTORY),
        F.max(_TIME).alias("changed_at"),
    ]
    if earlier is not None:
        found.append(_joined(F.when(known_by(earlier), text)).alias(EARLIER_HISTORY))
    return before.where(~same).groupBy("transaction_id").agg(*found)


def _joined(texts: Column) -> Column:
    return F.concat_ws(" ", F.sort_array(F.collect_list(texts)))


def with_labels(transactions: DataFrame, labels: DataFrame) -> DataFrame:
    """Transactions with the columns of their label, null where they have none."""
    transactions, labels = _same_ids(transactions, labels)
    labels = labels.withColumnRenamed("defect", "label_defect").drop("source_transaction_id", "broken_line")
    joined = transactions.join(labels, "join_id", "left")
    return joined.withColumn("defect", F.coalesce("defect", "label_defect")).drop("join_id", "label_defect")


def without_labels(transactions: DataFrame, fields: tuple[Field, ...], *, with_source: bool) -> DataFrame:
    """As `with_labels` where no transaction has one."""
    types = {"fraud": "tinyint", _TIME: "timestamp"}
    absent = {field.name: types[field.name] for field in fields if field.name in types}
    if _TIME in absent:
        absent[HISTORY] = "string"
    if with_source:
        absent |= {f"source_{name}": "string" for name in absent if name != HISTORY}
    return transactions.withColumns({name: F.lit(None).cast(kind) for name, kind in absent.items()})


def without_transaction(labels: DataFrame, transactions: DataFrame) -> DataFrame:
    """The labels whose id no transaction has."""
    transactions, labels = _same_ids(transactions, labels)
    return labels.join(transactions.select("join_id"), "join_id", "left_anti")


def _same_ids(transactions: DataFrame, labels: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Both with a `join_id` of one type (ids of different types meet as text), `labels` without their own id."""
    types = {dict(table.dtypes)["transaction_id"] for table in (transactions, labels)}
    key = F.col("transaction_id").cast("bigint" if types == {"bigint"} else "string")
    return transactions.withColumn("join_id", key), labels.withColumn("join_id", key).drop("transaction_id")
