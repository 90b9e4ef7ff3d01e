"""A label table: labels that arrive later than transactions and separately, joined by transaction id."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection.datasets.fields import Field


def one_label_each(labels: DataFrame, fields: tuple[Field, ...]) -> DataFrame:
    """The rows that have an id, one for each: the label that became available last counts.

    Of labels available at the same time, fraud counts before genuine before unknown.
    """
    labels = labels.where(F.col("transaction_id").isNotNull())
    order = [F.col(field.name).desc_nulls_last() for field in reversed(fields) if field.name != "transaction_id"]
    last = F.row_number().over(Window.partitionBy("transaction_id").orderBy(*order, F.col("defect").asc_nulls_first()))
    repeated = labels.groupBy("transaction_id").count().where("count > 1").select("transaction_id")
    among = labels.join(repeated, "transaction_id", "left_semi").withColumn("place", last).where("place = 1")
    return labels.join(repeated, "transaction_id", "left_anti").unionByName(among.drop("place"))


def with_labels(transactions: DataFrame, labels: DataFrame) -> DataFrame:
    """Transactions with the columns of their label, null where they have none."""
    transactions, labels = _same_ids(transactions, labels)
    labels = labels.withColumnRenamed("defect", "label_defect").drop("source_transaction_id", "broken_line")
    joined = transactions.join(labels, "join_id", "left")
    return joined.withColumn("defect", F.coalesce("defect", "label_defect")).drop("join_id", "label_defect")


def without_transaction(labels: DataFrame, transactions: DataFrame) -> DataFrame:
    """The labels whose id no transaction has."""
    transactions, labels = _same_ids(transactions, labels)
    return labels.join(transactions.select("join_id"), "join_id", "left_anti")


def _same_ids(transactions: DataFrame, labels: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Both with a `join_id` of one type (ids of different types meet as text), `labels` without their own id."""
    types = {dict(table.dtypes)["transaction_id"] for table in (transactions, labels)}
    key = F.col("transaction_id").cast("bigint" if types == {"bigint"} else "string")
    return transactions.withColumn("join_id", key), labels.withColumn("join_id", key).drop("transaction_id")
