"""Settings of `data.format` that would read the texts for which rows are rejected, beside those that are read now."""

import re
from collections import Counter
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection.settings import Format
from fraud_detection.transactions import fitting
from fraud_detection.transactions.columns import Field, Kind
from fraud_detection.transactions.rules import is_infinite, is_rejected

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
_MOST_BAD = 5000
MOST_GOOD = 2000
"""The most good rows whose texts are looked at."""
_MOST_GUESSES = 2


def remedies(rows: DataFrame, fields: tuple[Field, ...], form: Format, reasons: set[str]) -> dict[str, str]:
    """By reason, the settings that would help, as a message names them; nothing where none is known.

    Args:
        rows: all rows with `reason`, the canonical columns and the source texts.
        fields: the mapped columns.
        form: the present settings.
        reasons: those that some row has.
    """
    wanted = {field: reason for field in fields if (reason := _reason(field, reasons, form)) is not None}
    if not wanted:
        return {}
    bad = _texts(rows.where(is_rejected()), list(wanted), _MOST_BAD, unread=True)
    good = _texts(rows.where(F.col("reason").isNull()), list(wanted), MOST_GOOD, unread=False)
    found: dict[str, list[str]] = {}
    for field, reason in wanted.items():
        text = _remedy(field.kind, bad[field.name], good[field.name], form)
        found.setdefault(reason, []).extend([text] if text else [])
    return {reason: ", ".join(dict.fromkeys(texts)) for reason, texts in found.items() if texts}


def _reason(field: Field, reasons: set[str], form: Format) -> str | None:
    """The reason that texts of the field may be rejected for, if some row has it."""
    reason = next((reason for reason in _REASONS.get(field.kind, ()) if reason in reasons), None)
    return None if reason == "future_time" and form.time_unit is None else reason


def _texts(rows: DataFrame, fields: list[Field], most: int, *, unread: bool) -> dict[str, list[str]]:
    """By field, the texts of some rows of which no value came, or of which one came."""
    chosen = [
        F.when(_unread(field) if unread else ~_unread(field), F.col(f"`source_{field.name}`")).alias(str(place))
        for place, field in enumerate(fields)
    ]
    found = rows.select(*chosen).limit(most).collect()
    return {field.name: [row[place] for row in found if row[place] is not None] for place, field in enumerate(fields)}


def _remedy(kind: Kind, bad: list[str], good: list[str], form: Format) -> str | None:
    if not bad:
        return None
    guesses = _guesses(kind, [*bad, *good], form)
    if not guesses and kind is not Kind.LABEL:
        guesses = _guesses(kind, [*_commonest(bad), *good], form)
    if guesses and "time_formats" not in guesses[0]:  # of dates alone it may be open which number is the day
        guesses = guesses[:1]
    changes = (_changes(kind, guess, form) for guess in guesses[:_MOST_GUESSES])
    return " or ".join(fitting.as_setting(found) for found in changes if found) or None


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
