"""What stops promotions for a while: a pin, a change freeze, or a promotion a short time ago."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fraud_detection.promotion.checks import measure
from fraud_detection.registry.aliases import Pin
from fraud_detection.registry.decision_log import LogEntry
from fraud_detection.schema import Check, Decision, Outcome
from fraud_detection.settings import Promotion


@dataclass(frozen=True)
class Block:
    """Why no look is taken now. Candidates are opened all the same."""

    reason: str
    checks: tuple[Check, ...] = ()


def find_block(pin: Pin | None, log: Iterable[LogEntry], as_of: datetime, settings: Promotion) -> Block | None:
    """What stops promotions at an as-of time, or None; a user's pin comes first."""
    if pin is not None:
        return Block(pin.text, (measure("not_pinned", pin.to_version),))
    for freeze in settings.freezes:
        if freeze.first <= as_of.date() <= freeze.last:
            return Block(f"promotions are frozen from {freeze.first} to {freeze.last}: {freeze.reason}")
    promotions = [entry.as_of for entry in log if isinstance(entry, Decision) and entry.outcome is Outcome.PROMOTED]
    last = max((at for at in promotions if at < as_of), default=None)
    hours = settings.hours_between_promotions
    if last is None or as_of - last >= timedelta(hours=hours):
        return None
    return Block(
        f"the last promotion was at {last:%Y-%m-%d %H:%M}, and promotion.hours_between_promotions is {hours}: the next"
        f" can be at {last + timedelta(hours=hours):%Y-%m-%d %H:%M}"
    )
