"""What the settings of `data.format` accept: each check returns the value to use, or says what to set instead."""

import codecs
import io
import re
from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

_SAMPLE = datetime.fromisoformat("2025-11-28T13:45:56.789+00:00")
_LINE_ENDS = "\r\n"
_SPELLED = {"\\t": "\t", "tab": "\t"}
_ZERO, _ONE = frozenset({"0", "false"}), frozenset({"1", "true"})
_LABEL_KINDS = ("fraud_values", "genuine_values", "unknown_values")


def separator(text: str) -> str:
    r"""One ASCII character that separates fields; `\t` spelled out is a tab.

    Raises:
        ValueError: it is another text.
    """
    text = _SPELLED.get(text, text)
    if len(text) != 1 or not text.isascii() or text in _LINE_ENDS or text.isalnum() or text == "\0":
        raise ValueError(
            'expected one ASCII character that is no letter, digit or line end, such as ";", "|" or "\\t" for a tab'
        )
    return text


def quote(text: str) -> str:
    """One ASCII character that encloses fields.

    Raises:
        ValueError: it is another text.
    """
    if len(text) != 1 or not text.isascii() or text in _LINE_ENDS or text.isalnum() or text in "\0\t ":
        raise ValueError(
            "expected one ASCII character that is no letter, digit, space or line end, such as '\"'; null: none"
        )
    return text


def encoding(name: str) -> str:
    """A text encoding of Python that can be read as a stream, by the name that was given.

    Raises:
        ValueError: Python does not have it, or it is not an encoding of text.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name).close()  # refuses codecs that are not of text, such as hex
        codecs.getincrementaldecoder(name)("strict").decode(b"", final=True)
    except (LookupError, ValueError, TypeError) as error:
        raise ValueError(
            "not a text encoding of Python; expected one such as utf-8, latin-1, cp1251 or utf-16"
        ) from error
    return name


def time_format(form: str) -> str:
    """A form of `strptime` that reads a day back as it writes it.

    Raises:
        ValueError: it is none, or lacks the day, the month or the year.
    """
    try:
        found = datetime.strptime(_SAMPLE.strftime(form), form)  # noqa: DTZ007  (only the day is looked at)
    except (ValueError, re.error) as error:  # a directive that occurs twice is the latter
        raise ValueError(f"{form!r} is not a form of strptime; {_such_as()}") from error
    if found.date() != _SAMPLE.date():
        raise ValueError(f"{form!r} does not say day, month and year; {_such_as()}")
    return form


def _such_as() -> str:
    return 'expected one such as "%d.%m.%Y %H:%M"'


def time_zone(name: str) -> str:
    """The name of a time zone.

    Raises:
        ValueError: the IANA database has no such zone.
    """
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise ValueError("not a time zone of the IANA database; expected one such as UTC or Europe/Berlin") from error
    return name


def mark(text: str) -> str:
    """A decimal or thousands mark.

    Raises:
        ValueError: it is not one character, or one that numbers have anyway.
    """
    if len(text) != 1 or text.isalnum() or text in "+-\r\n":
        raise ValueError('expected one character that is no letter, digit or sign, such as "," or "."')
    return text


def currency(texts: Iterable[str]) -> tuple[str, ...]:
    """Texts beside an amount, without white space around them.

    Raises:
        ValueError: one is empty, or holds digits, signs or marks of a number.
    """
    found = tuple(text.strip() for text in texts)
    for text in found:
        if not text or any(character.isdigit() or character in "+-,\r\n" for character in text) or text == ".":
            raise ValueError(f'{text!r} cannot stand beside an amount; expected texts such as "$" or "EUR"')
    return found


def label_value(value: object) -> str:
    """A value of the label column as text.

    Raises:
        ValueError: YAML made true, false or nothing of it, so it is not known what was written.
    """
    if isinstance(value, bool) or value is None:
        raise ValueError(f'YAML reads this as {str(value).lower()}; put it in quotes, such as "yes" or "no"')
    return str(value)


def plain_label(text: str, decimal_mark: str = ".") -> str:
    """A label as values are compared: trimmed, in lower case, and 1.0 as 1."""
    plain = text.strip().lower()
    for point in (".", decimal_mark):
        whole, found, rest = plain.rpartition(point)
        if found and not rest.strip("0") and rest and whole.lstrip("+-").isdigit():
            return whole
    return plain


def require_disjoint_labels(values: dict[str, tuple[str, ...]], decimal_mark: str) -> None:
    """Refuse label values that mean two things.

    Raises:
        ValueError: a value is in two lists; or 0 means fraud, or 1 genuine, and its counterpart is not listed.
    """
    plain = {kind: {plain_label(text, decimal_mark) for text in values[kind]} for kind in _LABEL_KINDS}
    listed = [text for kind in _LABEL_KINDS for text in plain[kind]]
    twice = sorted({text for text in listed if listed.count(text) > 1})
    if twice:
        raise ValueError(
            f"{', '.join(twice)} is in more than one of {', '.join(_LABEL_KINDS)}; each value has one meaning"
        )
    for kind, other, reverse, counterpart in (
        ("fraud_values", "genuine_values", _ZERO, _ONE),
        ("genuine_values", "fraud_values", _ONE, _ZERO),
    ):
        if plain[kind] & reverse and not {*listed} & counterpart:
            found, opposite = sorted(plain[kind] & reverse)[0], sorted(counterpart)[0]
            raise ValueError(f"{kind} lists {found}; say in {other} or unknown_values what {opposite} means then")
