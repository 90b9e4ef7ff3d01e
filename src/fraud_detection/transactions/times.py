"""Texts and numbers into times in UTC: ISO 8601, forms of `strptime`, or a count of units since an origin.

Vectorised: Python looks only at texts that no common form fits, and at each quarter of an hour of a time zone once.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_detection.settings import Format, TimeUnit
from fraud_detection.transactions.strptime import parse

TIME = pa.timestamp("us", "UTC")
"""The type of all times."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE = pa.timestamp("us")
_MICROS = {
    TimeUnit.MICROSECONDS: 1,
    TimeUnit.MILLISECONDS: 1_000,
    TimeUnit.SECONDS: 1_000_000,
    TimeUnit.MINUTES: 60_000_000,
    TimeUnit.HOURS: 3_600_000_000,
    TimeUnit.DAYS: 86_400_000_000,
}
_QUARTER = 900_000_000  # microseconds; since 1970 all clocks were changed at a quarter of an hour
_FIRST_QUARTER, _LAST_QUARTER = -60 * 365 * 96, 8000 * 365 * 96  # what `datetime` can hold, with a margin
_FURTHEST = 2.0**62  # microseconds; beyond it a number is no time
_WHOLE = r"^\s*[+-]?[0-9]{1,18}\s*$"
_NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d+))?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)
# The common forms, tight enough that every text of a form converts: one bad value must not slow down its neighbours.
_DAY = (
    r"\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    r"[ T]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
)
_ISO_FORMS = {rf"^{_DAY}$": _NAIVE, rf"^{_DAY}(Z|[+-](0\d|1[0-4]):[0-5]\d)$": TIME}


def read_times(texts: pa.StringArray, form: Format) -> pa.TimestampArray:
    """Times in UTC, microseconds; null for a text that is none. Fractions are cut.

    A time before 1970 is none: cards were not read by machines then, and it is what an unset field turns into.
    """
    if form.time_formats:
        found = pa.nulls(len(texts), TIME)
        for written in form.time_formats:
            naive, offsets = parse(pc.if_else(pc.is_null(found), texts, None), written)
            found = pc.coalesce(found, _with_offsets(naive, offsets, form.time_zone))
        return _since_1970(found)
    found = _iso_times(texts, form.time_zone)
    if form.time_unit is not None:
        found = pc.coalesce(counted_times(_numbers(texts, form.decimal_mark), form), found)
    return _since_1970(found)


def counted_times(numbers: pa.Array, form: Format) -> pa.TimestampArray:
    """Times of numbers, integer or floating point, that count `form.time_unit` since `form.time_origin`."""
    origin = form.time_origin if form.time_origin.tzinfo else form.time_origin.replace(tzinfo=UTC)
    start = (origin - _EPOCH) // timedelta(microseconds=1)
    known = pc.is_valid(numbers)
    if pa.types.is_integer(numbers.type) and form.time_unit is not TimeUnit.NANOSECONDS:
        scale = float(_MICROS[form.time_unit or TimeUnit.SECONDS])
        whole = pc.fill_null(numbers, 0).cast(pa.int64(), safe=False).to_numpy(zero_copy_only=False)
        near = np.abs(whole.astype(np.float64)) * scale < _FURTHEST
        micros = np.where(near, whole, 0) * int(scale) + start
        return _times(micros, known.to_numpy(zero_copy_only=False) & near)
    values = pc.fill_null(numbers.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False)
    if form.time_unit is TimeUnit.NANOSECONDS:
        exact = pc.fill_null(numbers, 0).cast(pa.int64(), safe=False).to_numpy(zero_copy_only=False) // 1000
        scaled = np.where(pa.types.is_integer(numbers.type), exact, values / 1000)
    else:
        with np.errstate(over="ignore"):  # what is too large is sorted out below
            scaled = values * _MICROS[form.time_unit or TimeUnit.SECONDS]
    near = np.abs(scaled) < _FURTHEST
    micros = np.rint(np.where(near, scaled, 0)).astype(np.int64) + start
    return _times(micros, near)


def localized(naive: pa.TimestampArray, zone: str) -> pa.TimestampArray:
    """Local times in UTC.

    A time that a clock shows twice, when summer time ends, is the first of the two. A time that no clock shows, when
    summer time begins, is as long after the change as it would have been without it.
    """
    if zone == "UTC":
        return naive.cast(TIME)
    micros = pc.fill_null(naive.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    quarters, place = np.unique(micros // _QUARTER, return_inverse=True)
    offsets = np.array([_offset(zone, int(quarter)) for quarter in quarters], np.int64)
    return _times(micros - (offsets[place] if len(micros) else 0), pc.is_valid(naive).to_numpy(zero_copy_only=False))


@lru_cache(maxsize=1 << 18)
def _offset(zone: str, quarter: int) -> int:
    """Microseconds that the local time of a zone is ahead of UTC in a quarter of an hour since 1970."""
    within = min(max(quarter, _FIRST_QUARTER), _LAST_QUARTER)
    local = _EPOCH.replace(tzinfo=ZoneInfo(zone)) + timedelta(minutes=15 * within)
    return (local.utcoffset() or timedelta()) // timedelta(microseconds=1)


def _times(micros: NDArray[np.int64], valid: NDArray[np.bool_]) -> pa.TimestampArray:
    return pa.array(micros, pa.int64(), mask=~valid).cast(TIME)


def _since_1970(found: pa.TimestampArray) -> pa.TimestampArray:
    return pc.if_else(pc.less(found, pa.scalar(0, pa.int64()).cast(TIME)), pa.scalar(None, TIME), found)


def _with_offsets(naive: pa.TimestampArray, offsets: pa.Int64Array | None, zone: str) -> pa.TimestampArray:
    """In UTC: what has an offset of its own by that, the rest by the zone."""
    if offsets is None:
        return localized(naive, zone)
    own = pc.subtract(naive.cast(pa.int64()), offsets).cast(TIME)
    return pc.coalesce(own, localized(naive, zone))


def _numbers(texts: pa.StringArray, decimal_mark: str) -> pa.Array:
    """Plain numbers, as integers where all are whole; null for other texts."""
    plain = texts if decimal_mark == "." else pc.replace_substring(texts, decimal_mark, ".", max_replacements=1)
    fits = pc.fill_null(pc.match_substring_regex(plain, _NUMBER), False)
    chosen = pc.utf8_trim_whitespace(pc.if_else(fits, plain, None))
    whole = pc.all(pc.match_substring_regex(chosen, _WHOLE)).as_py()
    if whole is False:
        return chosen.cast(pa.float64())
    return pc.replace_substring_regex(chosen, r"^\+", "").cast(pa.int64())


def _iso_times(texts: pa.StringArray, zone: str) -> pa.TimestampArray:
    """All at once where they are in one form, else form by form and the rest one by one."""
    for kind in _ISO_FORMS.values():
        try:
            found = pc.cast(texts, kind)
        except pa.ArrowInvalid:
            continue
        return found if kind == TIME else localized(found, zone)
    found = pa.nulls(len(texts), TIME)
    rest = pc.is_valid(texts)
    for pattern, kind in _ISO_FORMS.items():
        fits = pc.and_(rest, pc.fill_null(pc.match_substring_regex(texts, pattern), False))
        some = pc.if_else(fits, texts, None).cast(kind)
        found = pc.coalesce(found, some if kind == TIME else localized(some, zone))
        rest = pc.and_not(rest, fits)
    default = UTC if zone == "UTC" else ZoneInfo(zone)
    values = pa.array([_iso_time(text.strip(), default) for text in texts.filter(rest).to_pylist()], TIME)
    return pc.replace_with_mask(found, rest, values)


def _iso_time(text: str, default: tzinfo) -> datetime | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    *numbers, fraction, zone = match.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        year, month, day, hour, minute, second = (int(number or 0) for number in numbers)
        moment = datetime(year, month, day, hour, minute, second, micros, tzinfo=_zone(zone, default))
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # such as 30 February
        return None


def _zone(text: str | None, default: tzinfo) -> tzinfo:
    if text is None:
        return default
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return timezone(-offset if text[0] == "-" else offset)
