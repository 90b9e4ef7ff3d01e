"""Settings of `data.format` that would read the texts for which rows are rejected, beside those that are read now."""

import re
from collections import Counter
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection.settings import Format
from fraud_detection.transactions import fitting
from fraud_detection.transactions.columns import Field, Kind
from fraud_detection.transactions.rules import is_infinite

_REASONS = {
    Kind.TIME: ("unparseable_time", "future_time"),
    Kind.AMOUNT: ("bad_amount",),
    Kind.LABEL: ("bad_label",),
    Kind.NUMBER: ("bad_number",),
}
_LABELS = ("fraud_values", "genuine_values", "unknown_values")
_SETTINGS = {
    Kind.TIME: ("time_formats", "time_unit", "time_origin"),
    Kind.AMOUNT: ("decimal_mark", "thousands_mark", "currency"),
    Kind.NUMBER: ("decimal_mark", "thousands_mark", "currency"),
    Kind.LABEL: _LABELS,
}
_MOST_BAD, _MOST_GOOD = 5000, 2000
_MOST_GUESSES = 2


def remedies(rows: DataFrame, fields: tuple[Field, ...], form: Format, reasons: set[str]) -> dict[str, str]:
    """By reason, the settings that would help, as a message names them; nothing where none is known.

    Args:
        rows: all rows with `reason`, the canonical columns and the source texts.
        fields: the mapped columns.
        form: the present settings.
        reasons: those that some row has.
    """
    found: dict[str, list[str]] = {}
    for field in fields:
        reason = next((reason for reason in _REASONS.get(field.kind, ()) if reason in reasons), None)
        if reason is not None and (reason != "future_time" or form.time_unit is not None):
            text = _remedy(rows, field, form)
            found.setdefault(reason, []).extend([text] if text else [])
    return {reason: ", ".join(dict.fromkeys(texts)) for reason, texts in found.items() if texts}


def _remedy(rows: DataFrame, field: Field, form: Format) -> str | None:
    text = F.col(f"`source_{field.name}`").alias("text")
    at_fault = rows.where(_unread(field) & text.isNotNull()).select(text)
    bad = [row["text"] for row in at_fault.limit(_MOST_BAD).collect()]
    if not bad:
        return None
    good = [
        row["text"] for row in rows.where(~_unread(field) & text.isNotNull()).select(text).limit(_MOST_GOOD).collect()
    ]
    guesses = _guesses(field.kind, [*bad, *good], form)
    if not guesses and field.kind is not Kind.LABEL:
        guesses = _guesses(field.kind, [*_commonest(bad), *good], form)
    if guesses and "time_formats" not in guesses[0]:  # of dates alone it may be open which number is the day
        guesses = guesses[:1]
    settings = [
        fitting.as_setting(changes)
        for guess in guesses[:_MOST_GUESSES]
        if (changes := _changes(field.kind, guess, form))
    ]
    return " or ".join(settings) or None


def _unread(field: Field) -> Column:
    """Whether a row has a text of which no value came."""
    column = F.col(f"`{field.name}`")
    if field.kind is Kind.TIME:
        late = F.coalesce(F.col("reason").contains("future_time"), F.lit(False))
        return column.isNull() | late if field.name == "transaction_time" else column.isNull()
    return F.coalesce(column > 1 if field.kind is Kind.LABEL else is_infinite(field), F.lit(False))


def _guesses(kind: Kind, texts: list[str], form: Format) -> Sequence[fitting.Guess]:
    match kind:
        case Kind.TIME:
            return fitting.times(texts)
        case Kind.LABEL:
            return _labels(texts, form)
        case _:
            return fitting.amounts(texts)


def _labels(texts: list[str], form: Format) -> list[fitting.Guess]:
    """What the words say of the values that are not listed yet, added to those that are."""
    listed = {name: list(getattr(form, name)) for name in _LABELS}
    known = {text.strip().lower() for texts in listed.values() for text in texts}
    guess = fitting.labels({text for text in texts if text.strip().lower() not in known})
    if not guess:
        return []
    return [{name: [*listed[name], *_strings(guess.get(name))] for name in _LABELS}]


def _strings(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


def _commonest(texts: list[str]) -> list[str]:
    """The texts that are alike but for their digits, of which there are most."""
    shapes = [re.sub(r"\d+", "9", text) for text in texts]
    [(most, _)] = Counter(shapes).most_common(1)
    return [text for text, shape in zip(texts, shapes, strict=True) if shape == most]


def _changes(kind: Kind, guess: fitting.Guess, form: Format) -> fitting.Guess:
    """What of a guess differs from the present settings."""
    present, default = form.model_dump(mode="json"), Format().model_dump(mode="json")
    wanted = {name: guess.get(name, default[name]) for name in _SETTINGS[kind]}
    return {name: value for name, value in wanted.items() if value != present[name]}
