"""Where the bad rows of each reason are bad: the columns at fault, and the masked shapes of their values."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection import settings, shapes
from fraud_detection.transactions.columns import Field, Kind
from fraud_detection.transactions.numbers import MISSING
from fraud_detection.transactions.rules import SEPARATOR, is_infinite

MOST_LABELS = 10
"""So many distinct values of the label column are shown as they are; of a column with more only shapes."""

_MOST_SHAPES = 3
# Labels are words and small numbers. Long values and long rows of digits are of a column that was mapped by mistake.
_LABEL = r"^[\p{L}\p{M}_ +-]{0,16}[0-9]{0,3}([.][0-9])?$"
_WORDS = [*sorted(MISSING - {""}), "inf", "+inf", "-inf"]


@dataclass(frozen=True)
class _Fault:
    """One way to be bad."""

    applies: Column
    column: Column
    """The column at fault, or several."""
    value: Column
    """Its text; null where that says nothing."""


def describe(rows: DataFrame, fields: tuple[Field, ...], data: settings.Data) -> dict[str, str]:
    """For each reason the columns at fault with the most frequent shapes of their values: `amount: $99.99 or 9,99`.

    Args:
        rows: bad rows with `reason` (one or several), `defect`, the canonical columns and the source texts.
        fields: the mapped columns.
        data: says which ids a row must have.
    """
    rows = rows.withColumn("reason", F.explode(F.split("reason", SEPARATOR)))
    faults = _faults(fields, data, with_lines="broken_line" in rows.columns)
    column = F.coalesce(*(F.when(fault.applies, fault.column) for fault in faults))
    value = F.coalesce(*(F.when(fault.applies, fault.value) for fault in faults))
    is_label = (F.col("reason") == "bad_label") & value.rlike(_LABEL)
    seen = rows.select("reason", column.alias("column"), F.when(is_label, value).otherwise(_shape(value)).alias("seen"))
    place = F.row_number().over(Window.partitionBy("reason").orderBy(F.desc("count"), "column", "seen"))
    counts = seen.groupBy("reason", "column", "seen").count().withColumn("place", place)
    found: dict[str, dict[str, list[str]]] = {}
    for row in counts.where(F.col("place") <= MOST_LABELS + 1).orderBy("place").collect():
        columns = found.setdefault(row["reason"], {}).setdefault(row["column"], [])
        columns += [] if row["seen"] is None else [row["seen"]]
    return {reason: _text(columns, labels=reason == "bad_label") for reason, columns in found.items()}


def _text(columns: dict[str, list[str]], *, labels: bool) -> str:
    """Columns with what was seen in them; of labels all values, or shapes where there are too many to be labels."""
    parts = []
    for column, seen in columns.items():
        shown = seen if labels else seen[:_MOST_SHAPES]
        if len(shown) > MOST_LABELS:
            shown = list(dict.fromkeys(shapes.shape(value) for value in seen))[:_MOST_SHAPES]
        parts.append(f"{column}: {' or '.join(shown)}" if shown else column)
    return ", ".join(parts)


def _faults(fields: tuple[Field, ...], data: settings.Data, *, with_lines: bool) -> list[_Fault]:
    """In the order in which they apply."""
    by_name = {field.name: field for field in fields}
    required = [field for field in fields if field.name in data.required_ids]
    time, late = by_name["transaction_time"], by_name.get("label_available_at")
    found = [
        _Fault(_is("null_id"), F.concat_ws(", ", *map(_when_null, required)), F.lit("")),
        _at("bad_amount", by_name["amount"]),
        _at("bad_label", by_name["fraud"]),
        _at("future_time", time),
    ]
    if (key := by_name.get("transaction_id")) is not None:
        found.append(_Fault(_is("duplicate_id"), F.lit(key.source), _nothing()))
    found += [_at("bad_flag", field, F.col(field.name) > 1) for field in fields if field.kind is Kind.FLAG]
    found += [_at("bad_number", field, is_infinite(field)) for field in fields if field.kind is Kind.NUMBER]
    if late is not None:
        found += [
            _Fault(_is("label_before_transaction"), F.lit(f"{late.source} before {time.source}"), _nothing()),
            _at("unparseable_time", late, F.col("transaction_time").isNotNull() & F.col("defect").isNotNull()),
        ]
    found.append(_at("unparseable_time", time))
    return [*found, _Fault(_is("broken_line"), F.lit("line"), F.col("broken_line"))] if with_lines else found


def _at(reason: str, field: Field, when: Column | None = None) -> _Fault:
    applies = _is(reason) if when is None else _is(reason) & when
    return _Fault(applies, F.lit(field.source), F.coalesce(F.col(f"`source_{field.name}`"), F.lit("")))


def _is(reason: str) -> Column:
    return F.col("reason") == reason


def _nothing() -> Column:
    return F.lit(None).cast("string")


def _when_null(field: Field) -> Column:
    return F.when(F.col(f"`{field.name}`").isNull(), field.source)


def _shape(value: Column) -> Column:
    """As `shapes.shape`, by the engine; words that stand for a missing or an infinite number say no more than that."""
    word = F.regexp_replace(F.lower(F.trim(value)), "infinity", "inf")  # engines spell it differently
    masked = F.substring(value, 1, shapes.LONGEST)
    for pattern, becomes in shapes.CLASSES:
        masked = F.regexp_replace(masked, pattern, becomes)
    masked = F.when(F.length(value) > shapes.LONGEST, F.concat(masked, F.lit("…"))).otherwise(masked)
    return F.when(word == "", "empty").when(word.isin(_WORDS), word).otherwise(masked)
