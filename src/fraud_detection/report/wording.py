"""Numbers and names in human-readable form."""

import math
from datetime import UTC, datetime, timedelta

from fraud_detection.evaluation.slices import SLICES

MISSING = "–"
MINUS = "−"


def number(value: float | None, decimals: int = 3) -> str:
    """A plain number, `–` where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def signed(value: float | None, decimals: int = 3) -> str:
    """A difference, always with its sign."""
    if value is None or not math.isfinite(value):
        return MISSING
    if round(value, decimals) == 0:
        return f"±{number(0, decimals)}"
    return f"{value:+,.{decimals}f}".replace("-", MINUS)


def count(value: int) -> str:
    """A whole number with its thousands set apart."""
    return f"{value:,}"


def significant(value: float | None, digits: int = 3) -> str:
    """A number of unknown size: whole ones whole, others with three decimals or three significant digits."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == int(value):
        return number(value, 0)
    return _trimmed(number(value, max(digits, min(12, digits - 1 - math.floor(math.log10(abs(value)))))))


def _trimmed(text: str) -> str:
    """Without the zeros that end a decimal fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(part: float, whole: float) -> str:
    """`part` of `whole` in percent, `–` where there is nothing to share."""
    if whole == 0:
        return MISSING
    return percent(part / whole)


def percent(value: float) -> str:
    """A share in percent with two significant digits, so that a rate of 0.04 % does not read as zero."""
    if not math.isfinite(value):
        return MISSING
    hundredths = abs(value) * 100
    decimals = 0 if hundredths == 0 or hundredths >= 10 else min(6, 1 - math.floor(math.log10(hundredths)))
    return f"{_trimmed(number(value * 100, decimals))} %"


def confidence(value: float) -> str:
    """A level near one, with enough digits to differ from one: 95 %, 99.993 %."""
    doubt = (1 - value) * 100
    decimals = 2 if doubt >= 0.1 else min(6, -math.floor(math.log10(max(doubt, 1e-6))))
    return f"{_trimmed(number(value * 100, decimals))} %"


def moment(value: datetime) -> str:
    """A time in UTC to the minute."""
    return f"{_utc(value):%Y-%m-%d %H:%M}"


def machine_moment(value: datetime) -> str:
    """The same time as ISO 8601, for the `datetime` attribute."""
    return f"{_utc(value):%Y-%m-%dT%H:%M:%SZ}"


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def duration(value: timedelta) -> str:
    """A length in days, or in hours where it is no whole number of days."""
    hours = value / timedelta(hours=1)
    return f"{hours / 24:,.0f} d" if hours % 24 == 0 else f"{hours:,.0f} h"


def words(name: str) -> str:
    """A snake_case name as a phrase: `score_reload` → `Score reload`."""
    phrase = name.replace("_", " ").strip()
    return phrase[:1].upper() + phrase[1:]


def slice_phrase(name: str) -> str:
    """What part of the hold-out a slice is."""
    return SLICES.get(name) or words(name)


def value_and_limit(value: float | None, limit: float | None) -> tuple[str, str]:
    """Both with so many digits that they differ where the numbers do: `0.5 ≥ 0.5` must not fail."""
    for digits in range(3, 12):
        texts = significant(value, digits), significant(limit, digits)
        if texts[0] != texts[1] or value == limit:
            break
    return texts
