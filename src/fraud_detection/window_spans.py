"""The spans of `windows` in the settings: days, or text with a unit, on whole hours."""

import re

_HOURS = {"h": 1, "d": 24}
_MOST_DAYS = 3650
_EXPECTED = "expected days, such as 7, or text with a unit, such as 12h or 7d, on whole hours and at most 3,650 days"


def span_days(value: object) -> int | float:
    """A span in days: an integer where it is whole days.

    Raises:
        ValueError: it is no span, or not one of whole hours.
    """
    hours = _hours(value)
    if hours is None or not 0 <= hours <= _MOST_DAYS * 24:
        raise ValueError(_EXPECTED)
    return hours // 24 if hours % 24 == 0 else hours / 24


def positive_span_days(value: object) -> int | float:
    """As `span_days`, of at least an hour.

    Raises:
        ValueError: likewise, or it is zero.
    """
    days = span_days(value)
    if days == 0:
        raise ValueError(f"the span is empty; {_EXPECTED}")
    return days


def span_text(days: float) -> str:
    """A span in words: `7 days`, `12 hours`."""
    number, unit = (days, "day") if days == int(days) else (round(days * 24), "hour")
    return f"{number:.0f} {unit}" if number == 1 else f"{number:.0f} {unit}s"


def span_setting(days: float) -> str:
    """A span as the settings write it: `7`, `12h`."""
    return f"{days:.0f}" if days == int(days) else f"{round(days * 24)}h"


def _hours(value: object) -> int | None:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,6}) ?([hd])", value.strip(), re.ASCII)
        return int(match[1]) * _HOURS[match[2]] if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    hours = value * 24
    # The settings of a run are stored with 12h as 0.5 days.
    return round(hours) if abs(hours) <= _MOST_DAYS * 24 and abs(hours - round(hours)) < 1e-6 else None
