"""What a check of the data has found."""

from dataclasses import dataclass
from datetime import date

from fraud_detection.schema import Check


@dataclass(frozen=True)
class Finding:
    """A check with the days of the data that it is about."""

    check: Check
    first: date
    last: date
    """Belongs to the span."""
    text: str
    """What was found and what was expected, for people."""
