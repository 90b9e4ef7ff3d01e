"""Times in text or as numbers: which form, unit and origin fit, and the moments that they give."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_detection.initialization.odd_cells import ODD_SHARE, most_odd
from fraud_detection.settings import Format
from fraud_detection.shapes import shape
from fraud_detection.transactions import fitting
from fraud_detection.transactions.times import counted_times, read_times

Micros = NDArray[np.int64]
NO_TIME = np.iinfo(np.int64).min

_LAST = fitting.YEAR_2100 * 1_000_000
_TRIED = 2_000
_FIRST, _TRIES = 50, 5
_MOSTLY = 0.9
_WORDS = {"d": ("day",), "h": ("hour", "step"), "min": ("minute",), "ms": ("milli",), "us": ("micro",)}


@dataclass(frozen=True)
class TimeForm:
    """How a column writes its times: forms of strptime, or a unit since an origin; neither: ISO 8601."""

    formats: tuple[str, ...] = ()
    unit: str | None = None
    origin: str | None = None
    """None: 1970."""
    ambiguous: bool = False
    """Whether day and month may be the other way round."""

    @property
    def has_no_time_of_day(self) -> bool:
        """Whether the forms are of dates alone."""
        return bool(self.formats) and not any("%H" in form or "%I" in form for form in self.formats)

    @property
    def settings(self) -> Format:
        """As the settings of a run have it."""
        known = {"time_unit": self.unit, "time_origin": self.origin} if self.unit else {}
        return Format.model_validate({"time_formats": self.formats} | {k: v for k, v in known.items() if v})


def find_time_form(texts: list[str]) -> TimeForm | None:
    """The form of nearly all texts; None where they are no times. Of two that fit the one whose times are in order.

    Args:
        texts: in the order of the rows.
    """
    tried = texts[:: max(1, len(texts) // _TRIED)]
    guesses = fitting.times(tried[:_FIRST]) and fitting.times(tried)
    guesses = guesses or fitting.times(_readable(tried))
    if not guesses:
        return None
    found = Format.model_validate(guesses[0])
    if found.time_unit is not None:
        return None  # plain numbers are for `find_number_time`
    return TimeForm(found.time_formats, ambiguous=len(guesses) > 1)


def find_number_time(values: NDArray[np.float64], name: str) -> TimeForm | None:
    """The unit and origin of times that are numbers; None where they are no times.

    Values that lie between 1990 and 2100 since 1970 count from there. Others count from an unknown start, in the unit
    that their name says, or in seconds.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low = float(np.quantile(known, ODD_SHARE, method="higher"))
    high = float(np.quantile(known, 1 - ODD_SHARE, method="lower"))
    if low < 0:
        return None
    since_1970 = fitting.unit_since_1970(low, high)
    if since_1970 is not None:
        return TimeForm(unit=since_1970)
    plain = name.lower()
    unit = next((unit for unit, words in _WORDS.items() if any(word in plain for word in words)), "s")
    return TimeForm(unit=unit, origin=fitting.UNSEEN_ORIGIN)


def to_micros(texts: pa.Array, form: TimeForm) -> Micros:
    """Microseconds since 1970 in UTC, (n,), `NO_TIME` where there is no time. Not for forms with a unit."""
    return _as_micros(read_times(pc.utf8_trim_whitespace(texts), form.settings))


def numbers_to_micros(values: NDArray[np.float64], form: TimeForm) -> Micros:
    """The same for times that are numbers."""
    return _as_micros(counted_times(pa.array(np.where(np.isfinite(values), values, np.nan)), form.settings))


def timestamps_to_micros(values: pa.Array) -> Micros:
    """The same for a column of timestamps or dates."""
    return _as_micros(values.cast(pa.timestamp("us"), safe=False) if pa.types.is_date(values.type) else values)


def _as_micros(values: pa.Array) -> Micros:
    """A run rejects what lies before 1970 or after its clock; nothing of the settings shall rest on it."""
    kind = pa.timestamp("us", values.type.tz)
    micros = pc.fill_null(values.cast(kind, safe=False).cast(pa.int64()), NO_TIME).to_numpy(zero_copy_only=False)
    found: Micros = np.where((micros < 0) | (micros > _LAST), NO_TIME, micros)
    return found


def _readable(texts: list[str]) -> list[str]:
    """Nearly all texts: those that a guess from some of them reads; empty where too many are no times."""
    shapes = Counter(map(shape, texts))
    most = most_odd(len(texts))
    usual = [text for text in texts if shapes[shape(text)] > most]
    if len(usual) < _MOSTLY * len(texts):
        return []
    for start in range(0, min(len(usual), _FIRST * _TRIES), _FIRST):
        for guess in fitting.times(usual[start : start + _FIRST]):
            read = read_times(pa.array([text.strip() for text in texts], pa.string()), Format.model_validate(guess))
            if read.null_count <= most:
                return [text for text, is_read in zip(texts, pc.is_valid(read).to_pylist(), strict=True) if is_read]
    return [] if len(usual) == len(texts) else usual  # in several forms, perhaps
