"""`strptime` for whole columns: a form becomes a regular expression, its groups become numbers, and these become times.

It reads what Python's `datetime.strptime` reads, and a.m. and p.m. as AM and PM. Forms with rarer directives, such as
`%j`, are read by Python itself, each distinct text once.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_NAIVE = pa.timestamp("us")
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_GROUPS = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "m": "1[0-2]|0[1-9]|[1-9]",
    "b": "|".join(month[:3] for month in _MONTHS),
    "B": "|".join(_MONTHS),
    "d": "3[01]|[12][0-9]|0[1-9]|[1-9]",
    "H": "2[0-3]|[01][0-9]|[0-9]",
    "I": "1[0-2]|0[1-9]|[1-9]",
    "M": "[0-5][0-9]|[0-9]",
    "S": "[0-5][0-9]|[0-9]",
    "f": "[0-9]{1,9}",
    "p": "am|pm",
    "z": "[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?|z",
}
_SKIPPED = {"a": "|".join(day[:3] for day in _DAYS), "A": "|".join(_DAYS), "Z": "utc|gmt|z"}
_FIRST_YEAR_OF_CENTURY = 69  # POSIX: 69 to 99 are of the last century

_Numbers = Callable[[str], NDArray[np.int64]]


def parse(texts: pa.StringArray, form: str) -> tuple[pa.TimestampArray, pa.Int64Array | None]:
    """Local times as the form reads them, and their own offsets from UTC in microseconds, where the form has any.

    Null where a text does not fit. White space around a text does not matter, nor does case.
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    if "%p" in form:
        trimmed = pc.replace_substring_regex(trimmed, r"(?i)\b([ap])\.\s?m\.?", r"\1m")
    pattern = _pattern(form)
    if pattern is None:
        return _by_python(trimmed, form)
    found = pc.extract_regex(trimmed, pattern)
    groups = {found.type.field(number).name: part for number, part in enumerate(found.flatten())}

    def numbers(group: str) -> NDArray[np.int64]:
        return _integers(groups[group])

    days, exist = _days(groups, numbers)
    micros = days * 86_400_000_000 + _time_of_day(groups, numbers)
    valid = pc.is_valid(found).to_numpy(zero_copy_only=False) & exist
    naive = pa.array(micros, pa.int64(), mask=~valid).cast(_NAIVE)
    if "%Z" in form:
        return naive, pa.array(np.zeros(len(texts), np.int64))
    return naive, _offsets(groups["z"]) if "z" in groups else None


@lru_cache(maxsize=64)
def _pattern(form: str) -> str | None:
    """The regular expression of a form, for RE2; None where a directive is not known here."""
    parts = []
    for token in re.findall(r"%.|\s+|[^%\s]+", form):
        directive = token[1:] if token.startswith("%") else ""
        if directive in _GROUPS:
            parts.append(f"(?P<{directive}>{_GROUPS[directive]})")
        elif directive in _SKIPPED:
            parts.append(f"(?:{_SKIPPED[directive]})")
        elif directive == "%":
            parts.append("%")
        elif directive:
            return None
        else:
            parts.append(r"\s+" if token.isspace() else re.escape(token))
    return f"(?i)^{''.join(parts)}$"


def _days(groups: dict[str, pa.Array], numbers: _Numbers) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Days since 1970, and whether there is such a day: 30 February is none."""
    if "Y" in groups:
        years = numbers("Y")
    else:
        short = numbers("y")
        years = short + np.where(short < _FIRST_YEAR_OF_CENTURY, 2000, 1900)
    months = numbers("m") if "m" in groups else _named_months(groups["b"] if "b" in groups else groups["B"])
    month = (np.maximum(years, 1) - 1970) * 12 + np.maximum(months, 1) - 1
    first = month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (month + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    days = first + np.maximum(numbers("d"), 1) - 1
    return days, (days < after) & (years > 0)


def _named_months(names: pa.StringArray) -> NDArray[np.int64]:
    short = pc.utf8_slice_codeunits(pc.utf8_lower(names), 0, 3)
    return _integers(pc.index_in(short, pa.array([month[:3] for month in _MONTHS]))) + 1


def _integers(found: pa.Array) -> NDArray[np.int64]:
    """As numbers, 0 for null."""
    numbers: NDArray[np.int64] = pc.fill_null(found.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return numbers


def _time_of_day(groups: dict[str, pa.Array], numbers: _Numbers) -> NDArray[np.int64]:
    """Microseconds since midnight."""
    zero = np.zeros(len(groups["d"]), np.int64)
    hours = numbers("H") if "H" in groups else zero
    if "I" in groups:
        hours = numbers("I") % 12
        if "p" in groups:
            hours = hours + 12 * _integers(pc.equal(pc.utf8_lower(groups["p"]), "pm"))
    minutes, seconds = (numbers(group) if group in groups else zero for group in "MS")
    whole = (hours * 60 + minutes) * 60 + seconds
    if "f" not in groups:
        return whole * 1_000_000
    cut = pc.utf8_slice_codeunits(pc.utf8_rpad(groups["f"], 6, "0"), 0, 6)
    return whole * 1_000_000 + _integers(cut)


def _offsets(texts: pa.StringArray) -> pa.Int64Array:
    digits = pc.utf8_rpad(pc.replace_substring_regex(texts, r"[^0-9]", ""), 4, "0")
    hours = pc.utf8_slice_codeunits(digits, 0, 2).cast(pa.int64())
    minutes = pc.utf8_slice_codeunits(digits, 2, 4).cast(pa.int64())
    size = pc.multiply(pc.add(pc.multiply(hours, 60), minutes), 60_000_000)
    return pc.if_else(pc.starts_with(texts, "-"), pc.negate(size), size)


def _by_python(texts: pa.StringArray, form: str) -> tuple[pa.TimestampArray, pa.Int64Array]:
    encoded = texts.dictionary_encode()
    found = [_moment(text, form) for text in encoded.dictionary.to_pylist()]
    naive = pa.array([None if one is None else one.replace(tzinfo=None) for one in found], _NAIVE)
    offsets = pa.array([_offset(one) for one in found], pa.int64())
    return naive.take(encoded.indices), offsets.take(encoded.indices)


def _moment(text: str, form: str) -> datetime | None:
    try:
        found = datetime.strptime(text, form)  # noqa: DTZ007  (the zone is a setting of its own)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if "%Z" in form else found


def _offset(moment: datetime | None) -> int | None:
    offset = None if moment is None else moment.utcoffset()
    return None if offset is None else offset // timedelta(microseconds=1)
