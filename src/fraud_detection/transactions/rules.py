"""The rules that a row has to meet. A bad row has every reason that applies, in the order of `REASONS`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection import settings
from fraud_detection.transactions.columns import OF_LABEL, Field, Kind

REASONS = {
    "broken_line": "a CSV line with too few or too many fields",
    "null_id": "an id is empty that a row must have",
    "unparseable_time": "a time that is empty (of a label it may be), is no time, or lies before 1970",
    "future_time": "a transaction later than the clock of the run",
    "bad_amount": "an amount that is empty, no number, negative (data.refunds), not finite, or beyond 10^12",
    "bad_label": "a label other than 0, 1 and empty",
    "bad_flag": "a flag (blocked, control_group) other than 0, 1 and empty",
    "label_before_transaction": "a label known before its transaction",
    "bad_number": "an extra number that is no number or not finite",
    "duplicate_id": "another good row has the same transaction id and was kept",
}

EXPECTED = {
    "broken_line": "as many fields as the header has",
    "null_id": "an id; data.missing_cards and data.missing_terminals: unknown take rows without a card or terminal",
    "unparseable_time": "2025-03-04T12:30:00 or similar, or a time as data.format says, from 1970 on",
    "future_time": "a time before the clock of the run",
    "bad_amount": "a number from 0 to 10^12, such as 1234.56, or as data.format says; of refunds: data.refunds",
    "bad_label": "0, 1, empty, or a value that data.format lists",
    "bad_flag": "0, 1 or empty",
    "label_before_transaction": "a label that became known after its transaction",
    "bad_number": "a finite number, plain or as data.format says, or empty",
    "duplicate_id": "each transaction once",
}
"""What a row has to hold instead; messages show it."""

MAX_AMOUNT = 1e12
"""No card transaction in any currency is larger; features count in whole cents, which must fit 64 bits."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


REFUND = "refund"
"""The reason of a good row that is left out as a refund; it is not rejected."""

SEPARATOR = ","
"""Between the reasons of one row."""


def reasons(fields: tuple[Field, ...], data: settings.Data, clock: datetime) -> Column:
    """Why a row of `table.typed_rows` is bad by itself: its reasons, joined by `SEPARATOR`; null for a good one.

    `with_duplicates` comes after. Of a broken line nothing else is known.
    """
    defect = F.col("defect")
    applying = [F.when(applies, name) for name, applies in _rules(fields, data, clock).items()]
    found = F.nullif(F.concat_ws(SEPARATOR, *applying), F.lit(""))
    if data.refunds is settings.Refunds.EXCLUDE:
        found = F.coalesce(found, F.when(F.col("amount") < 0, REFUND))
    return F.when(defect == "broken_line", "broken_line").otherwise(found)


def is_rejected() -> Column:
    """Whether a row with `reason` is bad; a good one that is left out as a refund is not."""
    return F.col("reason").isNotNull() & (F.col("reason") != REFUND)


def _rules(fields: tuple[Field, ...], data: settings.Data, clock: datetime) -> dict[str, Column]:
    """By reason, whether it applies; in the order of `REASONS`."""
    names = {field.name for field in fields}
    least = 0.0 if data.refunds is settings.Refunds.REJECT else -MAX_AMOUNT
    amount, fraud, time = F.col("amount"), F.col("fraud"), F.col("transaction_time")
    found = {
        "null_id": _any_of([F.col(name).isNull() for name in sorted(names & data.required_ids)]),
        "unparseable_time": time.isNull() | (time < F.lit(_EPOCH)) | (F.col("defect") == "unparseable_time"),
        "future_time": time > F.lit(clock),
        "bad_amount": amount.isNull() | F.isnan(amount) | (amount < least) | (amount > MAX_AMOUNT),
        "bad_label": fraud > 1,
    }
    flags = [F.col(field.name) > 1 for field in fields if field.kind is Kind.FLAG]
    if flags:
        found["bad_flag"] = _any_of(flags)
    if "label_available_at" in names:
        found["label_before_transaction"] = F.col("label_available_at") < time
    numbers = [is_infinite(field) for field in fields if field.kind is Kind.NUMBER]
    return found | ({"bad_number": _any_of(numbers)} if numbers else {})


def _any_of(conditions: Sequence[Column]) -> Column:
    """Whether one of the conditions holds; false where there are none.

    They are halved and halved again: a chain is as deep as there are columns, and engines refuse deep expressions.
    """
    if len(conditions) <= 1:
        return conditions[0] if conditions else F.lit(False)
    middle = len(conditions) // 2
    return _any_of(conditions[:middle]) | _any_of(conditions[middle:])


def with_duplicates(rows: DataFrame, fields: tuple[Field, ...], repeated: DataFrame) -> DataFrame:
    """Give all but one of the good rows with the same transaction id the reason duplicate_id.

    The first by all canonical columns in their order is kept, null first, but a known label before none: a copy that
    came with a label from after the as-of time does not replace the earlier label. Rows equal in all columns are the
    same row.
    Only the ids in `repeated` are looked at: a window over all rows would cost far more than everything else.
    """
    alone = rows.join(repeated, "transaction_id", "left_anti")
    place = F.row_number().over(Window.partitionBy("transaction_id").orderBy(*order_of_copies(fields)))
    among = rows.join(repeated, "transaction_id", "left_semi").withColumn("place", place)
    later = F.when(F.col("place") > 1, "duplicate_id")
    return alone.unionByName(among.withColumn("reason", F.coalesce("reason", later)).drop("place"))


def order_of_copies(fields: tuple[Field, ...]) -> list[Column]:
    """The order of rows with the same id: good ones first, then by all columns, a known label before none."""
    return [F.col("reason").asc_nulls_first(), *(_place(field) for field in fields)]


def _place(field: Field) -> Column:
    column = F.col(f"`{field.name}`")
    of_label = field.name in OF_LABEL
    return column.asc_nulls_last() if of_label else column.asc_nulls_first()


def is_infinite(field: Field) -> Column:
    """Whether an extra number is not finite."""
    return F.abs(F.col(f"`{field.name}`")) == float("inf")
