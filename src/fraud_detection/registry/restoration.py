"""What the decision log says is in service, and the return to it after a request that was sent too late.

A process can hang inside a request to MLflow for longer than its lease. MLflow executes the request whenever it
arrives, whatever others have done meanwhile. So the process that sent it compares MLflow with the decision log
afterwards, and restores the aliases and the tag that the log implies.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce

from fraud_detection.registry.aliases import (
    CHAMPION,
    PREVIOUS_CHAMPION,
    Pin,
    Retirement,
    Service,
    delete_change,
    service,
    set_change,
)
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import (
    PROMOTIONS,
    Action,
    Entry,
    Intervention,
    LogEntry,
    changes_service,
    entry_time,
    logged_change,
)
from fraud_detection.registry.lease import CLOCK_SKEW, Lease
from fraud_detection.registry.log_chain import restore_head
from fraud_detection.schema import Decision, Opening, Outcome


@dataclass(frozen=True)
class LoggedService:
    """What is in service according to the decision log."""

    champion: int | None = None
    previous_champion: int | None = None
    change: Pin | Retirement | None = None
    """What the tag holds."""


def logged_service(history: Sequence[Entry]) -> LoggedService:
    """Repeat what each entry has changed, in the order in which they came into force.

    - A promotion, by a run or a person, puts its version into service. `previous_champion` is the version that it was
      compared with; without one it stays. A pin ends, and so does a retirement, except that of the promoted version
      itself.
    - A rollback puts its version into service and pins it. `previous_champion` is the version that left; without one
      it stays, unless it is the version that returned: then there is none.
    - A retirement leaves no champion, and the retired version as `previous_champion`.
    - A pin keeps the version in service.
    - An unpin ends the pin. Rejecting a candidate changes nothing.
    - Accepting the log says which version served then: what put it there may be what was lost.
    """
    logged = reduce(_after, history, LoggedService())
    unpinned = {
        entry.pinned_at for entry in history if isinstance(entry, Intervention) and entry.action is Action.UNPIN
    }
    if logged.change is not None and logged.change.at in unpinned:  # by a machine whose clock is behind
        return replace(logged, change=None)
    return logged


def logged_otherwise(entries: Sequence[LogEntry], champion: int | None) -> int | None:
    """The version that the log says is in service where another one is, or none.

    So it is after MLflow was restored from a backup that is older than the log, or an alias was moved by hand.

    Args:
        entries: the newest of the log, in the order in which they came into force.
        champion: the version in service.

    Returns:
        None where they agree, or where no entry of these has changed the service.
    """
    history = [entry for entry in entries if not isinstance(entry, Opening)]
    if not any(map(changes_service, history)):
        return None
    logged = logged_service(history).champion
    return None if logged == champion else logged


def is_superseded(change: Pin | Retirement, history: Sequence[Entry]) -> bool:
    """Whether others have changed the service since a person requested this.

    If so, the request was sent after its sender had lost the lease: a lease is taken over more than `CLOCK_SKEW` after
    the last request of its holder, and clocks differ by less.
    """
    return any(entry_time(entry) > change.at + CLOCK_SKEW for entry in history if _changes_service_or_pin(entry))


def restore_service(context: Context, lease: Lease) -> None:
    """Give MLflow the aliases and the tag that the decision log implies; an alias of a missing version is removed."""
    history = context.log.history()
    logged, now = logged_service(history), service(context.connection, context.name)
    if logged == LoggedService() or not now.exists:
        return
    for request in (*_tag_requests(context, now, logged, history), *_alias_requests(context, now, logged)):
        lease.require_held()
        request()


@contextmanager
def exclusive(
    context: Context, purpose: str, discard: Callable[[Lease], None] = lambda _lease: None
) -> Iterator[Lease]:
    """Hold the lease of a model name during the block; `purpose` tells other processes what they wait for.

    If the lease was lost, what the decision log says is restored: the last request may have been sent too late,
    whether it was answered or not.

    Args:
        context: the registry.
        purpose: what the lease is held for.
        discard: removes what else a late request may have left.

    Raises:
        ServiceUnavailableError: another process is in these steps and does not end, or has taken over.
    """
    with context.leases.hold(purpose) as lease:
        try:
            yield lease
        except Exception:  # whatever it was, the request may have been executed; Ctrl-C ends at once
            _restore_after_loss(context, lease, discard)
            raise
        _restore_after_loss(context, lease, discard)


def _restore_after_loss(context: Context, lease: Lease, discard: Callable[[Lease], None]) -> None:
    if lease.is_held():
        return
    lease.release()
    with exclusive(context, "restoring what the decision log says", discard) as restoring:
        restore_service(context, restoring)
        restore_head(context, restoring)
        discard(restoring)


def _after(before: LoggedService, entry: Entry) -> LoggedService:
    if isinstance(entry, Decision):
        promoted = entry.outcome is Outcome.PROMOTED
        return _after_promotion(before, entry.version, entry.champion_version) if promoted else before
    if entry.action in PROMOTIONS:
        return _after_promotion(before, entry.to_version, entry.from_version)
    change = logged_change(entry)
    if isinstance(change, Pin):
        return LoggedService(change.to_version, _previous_after_rollback(before, change), change)
    if isinstance(change, Retirement):
        return LoggedService(None, change.version, change)
    if entry.action is Action.ACCEPT_LOG and entry.to_version not in (None, before.champion):
        return LoggedService(entry.to_version, before.champion or before.previous_champion)
    return replace(before, change=None) if entry.action is Action.UNPIN else before


def _after_promotion(before: LoggedService, version: int | None, compared: int | None) -> LoggedService:
    change = before.change
    stays = isinstance(change, Retirement) and change.version == version
    previous = before.previous_champion if compared is None else compared
    return LoggedService(version, previous, change if stays else None)


def _previous_after_rollback(before: LoggedService, pin: Pin) -> int | None:
    if not pin.rolls_back:
        return before.previous_champion
    if pin.from_version is not None:
        return pin.from_version
    return None if before.previous_champion == pin.to_version else before.previous_champion


def _changes_service_or_pin(entry: Entry) -> bool:
    pins = isinstance(entry, Intervention) and entry.action in (Action.PIN, Action.UNPIN)
    return pins or changes_service(entry)


def _tag_requests(
    context: Context, now: Service, logged: LoggedService, history: Sequence[Entry]
) -> Iterator[Callable[[], None]]:
    found = now.pin or now.retirement
    if now.unreadable_tag is not None or found == logged.change or _is_open(found, history):
        return
    if logged.change is None:
        yield partial(delete_change, context.connection, context.name)
    else:
        yield partial(set_change, context.connection, context.name, logged.change)


def _is_open(change: Pin | Retirement | None, history: Sequence[Entry]) -> bool:
    """Whether this is a command that was killed half-way, which the next run or command finishes."""
    if change is None or is_superseded(change, history):
        return False
    return not any(isinstance(entry, Intervention) and entry.pinned_at == change.at for entry in history)


def _alias_requests(context: Context, now: Service, logged: LoggedService) -> Iterator[Callable[[], None]]:
    client = context.connection.client
    aliases = (
        (CHAMPION, logged.champion, now.champion),
        (PREVIOUS_CHAMPION, logged.previous_champion, now.previous_champion),
    )
    for alias, version, found in aliases:
        wanted = version if version in now.versions else None
        if wanted == found:
            continue
        if wanted is None:
            yield partial(client.delete_registered_model_alias, context.name, alias)
        else:
            yield partial(client.set_registered_model_alias, context.name, alias, str(wanted))
