"""What stops promotions for a while: a pin, a change freeze, or a promotion a short time ago."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from fraud_detection.promotion.checks import measure
from fraud_detection.promotion.freezes import freeze_end, freeze_reason
from fraud_detection.registry.aliases import Pin
from fraud_detection.registry.decision_log import PROMOTIONS, Intervention, LogEntry
from fraud_detection.schema import Check, Decision, Outcome
from fraud_detection.settings import Promotion


@dataclass(frozen=True)
class Block:
    """Why no look is taken now. Candidates are opened all the same."""

    reason: str
    checks: tuple[Check, ...] = ()
    until: datetime | None = None
    """None: until a person ends it."""


def find_block(pin: Pin | None, log: Iterable[LogEntry], as_of: datetime, settings: Promotion) -> Block | None:
    """What stops promotions at an as-of time, or None; a user's pin comes first."""
    if pin is not None:
        return Block(f"{pin.text}; next: fraud-detection unpin", (measure("not_pinned", pin.to_version),))
    last = max((at for at in _promotions(log) if at < as_of), default=None)
    reason = freeze_reason(last, as_of, settings)
    return None if reason is None else Block(reason, until=freeze_end(last, as_of, settings))


def _promotions(log: Iterable[LogEntry]) -> Iterator[datetime]:
    """When something was promoted: the as-of times of runs, and the times at which a person did it."""
    for entry in log:
        if isinstance(entry, Decision) and entry.outcome is Outcome.PROMOTED:
            yield entry.as_of
        elif isinstance(entry, Intervention) and entry.action in PROMOTIONS:
            yield entry.at
