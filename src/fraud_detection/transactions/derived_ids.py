"""Transaction ids where the files have none: a hash of what the row says, and a number for rows that say the same.

An id depends on the mapped columns of its row alone, never on the order of rows and files, on the engine, or on the
label, which comes later. Equal rows are different transactions: the first keeps the hash, each further one has the hash
of it and of its number. Which of them comes first makes no difference, as all are alike; with labels, the known one.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection.transactions.columns import FLAGS, KEY, OF_LABEL, Field, Kind

_LOWEST = -1.7976931348623157e308
_ABSENT = "\x00"  # no text of a file


def with_content_ids(rows: DataFrame, fields: tuple[Field, ...]) -> DataFrame:
    """The rows of `table.typed_rows` with `transaction_id`, equal for equal rows; null without a readable time.

    Args:
        rows: as the files say, before amounts are changed or labels left out.
        fields: the mapped columns.
    """
    content = sorted((field for field in fields if field.name not in {*OF_LABEL, *FLAGS}), key=lambda field: field.name)
    hashed = F.xxhash64(*map(_hashable, content))
    return rows.withColumn(KEY, F.when(F.col("transaction_time").isNotNull(), hashed))


def with_occurrences(rows: DataFrame, order: list[Column], repeated: DataFrame) -> DataFrame:
    """The rows with an id each, and `_is_copy`: whether another row that says the same comes before.

    Args:
        rows: with the ids of `with_content_ids`.
        order: of rows with the same id.
        repeated: ids that more than one row has; only those are looked at.
    """
    alone = rows.join(repeated, KEY, "left_anti").withColumn("_is_copy", F.lit(False))
    place = F.row_number().over(Window.partitionBy(KEY).orderBy(*order))
    among = rows.join(repeated, KEY, "left_semi").withColumn("place", place)
    own = F.when(F.col("place") == 1, F.col(KEY)).otherwise(F.xxhash64(KEY, "place"))
    among = among.withColumns({KEY: own, "_is_copy": F.col("place") > 1})
    return alone.unionByName(among.drop("place"))


def _hashable(field: Field) -> Column:
    """A column without null, which hashes leave out, and as the same value whatever the type of the files."""
    column = F.col(f"`{field.name}`")
    match field.kind:
        case Kind.AMOUNT | Kind.NUMBER:
            return F.coalesce(F.when(column == 0, 0.0).otherwise(column), F.lit(_LOWEST))  # zero has two signs
        case Kind.TIME:
            return F.coalesce(F.unix_micros(column), F.lit(-1))
        case _:
            return F.coalesce(column.cast("string"), F.lit(_ABSENT))
