"""What the decision log says for people: the candidates in shadow, and what served on a date and why."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from fraud_detection.registry.aliases import Pin
from fraud_detection.registry.candidate_names import candidate_name
from fraud_detection.registry.decision_log import (
    Action,
    DecisionLog,
    Entry,
    Intervention,
    LogEntry,
    changes_service,
    entry_time,
)
from fraud_detection.registry.log_view import recent_since
from fraud_detection.registry.restoration import logged_service
from fraud_detection.registry.reviews import open_reviews, opened_candidates, settled_candidates
from fraud_detection.schema import CandidateKey, CandidateRecord, Decision, LookRecord, Stored
from fraud_detection.settings import Settings


class ShadowCandidate(Stored):
    """A candidate in shadow, with the looks that were taken at it."""

    name: str  # as `approve`, `reject` and `promote` take it
    record: CandidateRecord
    looks: tuple[LookRecord, ...]  # oldest first
    waits_until: datetime | None  # for approval

    @property
    def row(self) -> tuple[str, ...]:
        last = self.looks[-1] if self.looks else None
        difference = f"{last.difference.value:+.3f}" if last is not None and last.difference is not None else ""
        passed = "" if last is None else "passed" if last.passed else "not passed"
        until = self.waits_until
        state = "in shadow" if until is None else f"waits for approval until {until:%Y-%m-%d %H:%M}"
        trained = f"{self.record.training.end:%Y-%m-%d %H:%M}"
        return (self.name, trained, str(last.number if last else 0), difference, passed, state)


class ServicePeriod(Stored):
    """What was in service for a while, and why."""

    version: int | None  # None: nothing was
    since: datetime
    until: datetime | None  # None: it still is
    entry: Decision | Intervention  # that put it there
    pins: tuple[Pin, ...]  # that kept it there at the time that was asked for

    @property
    def lines(self) -> tuple[str, ...]:
        version = "no model" if self.version is None else f"v{self.version}"
        until = "now" if self.until is None else f"{self.until:%Y-%m-%d %H:%M}"
        first = f"{version} served from {self.since:%Y-%m-%d %H:%M} to {until} UTC: {_cause(self.entry)}"
        return (first, *(pin.text for pin in self.pins))


def entries_of_candidates(log: DecisionLog, settings: Settings) -> tuple[LogEntry, ...]:
    """The entries of a log that may be about candidates in shadow, or about those that wait for approval."""
    newest = log.newest_as_of()
    if newest is None:
        return log.entries()
    return log.entries(recent_since(newest, settings) - timedelta(days=settings.promotion.approval_days))


def shadow_candidates(entries: Sequence[LogEntry], now: datetime, approval_days: int) -> tuple[ShadowCandidate, ...]:
    """The candidates that are neither retired, nor rejected or promoted, oldest first."""
    records, settled, waiting = opened_candidates(entries), settled_candidates(entries), open_reviews(entries)
    looks: dict[CandidateKey, list[LookRecord]] = {key: [] for key in records}
    for entry in entries:
        for look in entry.looks if isinstance(entry, Decision) else ():
            looks.setdefault(look.candidate, []).append(look)
    found = []
    for key in sorted(records.keys() - settled.keys()):
        until = waiting[key].expires_at(approval_days) if key in waiting else None
        waits_until = until if until is not None and now <= until else None
        found.append(
            ShadowCandidate(
                name=candidate_name(key, records),
                record=records[key],
                looks=tuple(looks[key]),
                waits_until=waits_until,
            )
        )
    return tuple(found)


def served_between(history: Sequence[Entry], start: datetime, end: datetime) -> tuple[ServicePeriod, ...]:
    """What served at some time of [start, end], by the times at which entries came into force; oldest first."""
    changes = [entry for entry in history if _changes(entry)]
    states = [logged_service(changes[: place + 1]) for place in range(len(changes))]
    times: list[datetime | None] = [*map(entry_time, changes), None]
    found: list[ServicePeriod] = []
    champion = None
    for place, (entry, state) in enumerate(zip(changes, states, strict=True)):
        since, until = entry_time(entry), times[place + 1]
        if changes_service(entry) or state.champion != champion:
            found.append(ServicePeriod(version=state.champion, since=since, until=until, entry=entry, pins=()))
        champion = state.champion
        if not found:
            continue
        asked = since <= end and (until is None or until > start)
        pin = state.change if isinstance(state.change, Pin) and asked else None
        pins = found[-1].pins if pin is None else (*found[-1].pins, pin)
        found[-1] = found[-1].model_copy(update={"until": until, "pins": pins})
    return tuple(one for one in found if one.since <= end and (one.until is None or one.until > start))


def _changes(entry: Entry) -> bool:
    others = (Action.PIN, Action.UNPIN, Action.ACCEPT_LOG)
    return changes_service(entry) or (isinstance(entry, Intervention) and entry.action in others)


def _cause(entry: Decision | Intervention) -> str:
    """Why a version came into service."""
    if isinstance(entry, Decision):
        return f"the run of {entry.as_of:%Y-%m-%d %H:%M} promoted it ({entry.reason})"
    words = {
        Action.ROLLBACK: "rolled back to it",
        Action.RETIRE: f"retired v{entry.from_version}",
        Action.APPROVE: "approved it",
        Action.PROMOTE: "promoted it as an override",
        Action.ACCEPT_LOG: "accepted a log that does not say how it came into service",
    }
    return f"{entry.who} {words[entry.action]} ({entry.reason})"
