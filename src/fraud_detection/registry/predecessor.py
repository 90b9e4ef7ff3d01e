"""Which version the champion replaced, where the log allows an automatic rollback to it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fraud_detection.registry.decision_log import Action, Entry, Intervention, LogEntry, changes_service
from fraud_detection.schema import Decision, Opening, RollbackLook

AUTOMATIC_ROLLBACK = "automatic rollback"
"""Who rolls back where the rule does."""


@dataclass(frozen=True)
class Predecessor:
    """The version that the champion replaced."""

    version: int
    champion_version: int
    promoted_as_of: datetime
    """Of the run that promoted the champion."""
    judged_until: datetime
    """The end of the hold-out that promoted it: only later rows are compared."""


def find_predecessor(history: Sequence[Entry], champion_version: int) -> Predecessor | str:
    """The champion's predecessor, or why the rule leaves this champion alone.

    A person's choice is not overruled: neither a promotion by hand nor a rollback. Nothing returns to a version that
    was retired, or that served because of a rollback: two versions would take turns.

    Args:
        history: decisions and interventions, in the order in which they came into force.
        champion_version: in service.
    """
    changes = [entry for entry in history if changes_service(entry)]
    promotion = changes[-1] if changes else None
    if not isinstance(promotion, Decision) or promotion.version != champion_version:
        return f"champion v{champion_version} was put into service by a person"
    version = promotion.champion_version
    if version is None:
        return f"champion v{champion_version} has no predecessor: it was the first, or follows a retirement"
    if any(_retires(entry, version) for entry in history):
        return f"v{version}, which champion v{champion_version} replaced, was retired"
    earlier = changes[-2] if len(changes) > 1 else None
    if isinstance(earlier, Intervention) and earlier.action is Action.ROLLBACK:
        return f"v{version}, which champion v{champion_version} replaced, served because of a rollback"
    return Predecessor(version, champion_version, promotion.as_of, promotion.holdout.end)


def last_rollback_look(entries: Sequence[LogEntry], predecessor: Predecessor, before: datetime) -> int:
    """The number of the last look that runs before this as-of time have opened; 0 for none."""
    keys = (e.rollback_look for e in entries if isinstance(e, Opening) and e.as_of < before)
    pair = (predecessor.champion_version, predecessor.version)
    return max((k.number for k in keys if k and (k.champion_version, k.predecessor_version) == pair), default=0)


def rollback_due(newest: Entry | None) -> Decision | None:
    """The decision that found the predecessor better, as long as nothing has happened since."""
    if not isinstance(newest, Decision) or newest.rollback_look is None or not newest.rollback_look.passed:
        return None
    return None if changes_service(newest) else newest


def rollback_reason(look: RollbackLook, as_of: datetime) -> str:
    """The figures that an automatic rollback rests on."""
    if look.difference is None or look.root is None or look.limits is None:
        raise ValueError("the look has measured nothing")
    key, span = look.key, look.holdout
    return (
        f"v{key.predecessor_version} is better than v{key.champion_version} by {look.difference.value:+.3f} AP on"
        f" {span.transactions:,} transactions with {span.frauds:,} frauds on {look.fraud_cards:,} cards from"
        f" {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}, later than those that promoted it: R_EL {look.root:.2f},"
        f" needed {look.limits.root:.2f} at look {key.number} of the run of {as_of:%Y-%m-%d %H:%M}"
    )


def _retires(entry: Entry, version: int) -> bool:
    return isinstance(entry, Intervention) and entry.action is Action.RETIRE and entry.from_version == version
