"""The decision log: one object per entry, written once, in the output folder.

    decisions/<model name>/20180822T000000Z-opening.json            what the run at that as-of time was going to measure
    decisions/<model name>/20180822T000000Z.json                    what it decided
    decisions/<model name>/20180823T091500123456Z-rollback.json     what a user did to the model in service

It is the history: MLflow keeps no record of where an alias pointed before. Entries are linked: see `log_chain`.
"""

import shlex
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from pydantic import SerializerFunctionWrapHandler, ValidationError, model_serializer

from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import (
    DECISIONS,
    decision_file,
    decisions_folder,
    first_name_since,
    intervention_file,
    is_decision,
    is_intervention,
    is_opening,
    opening_file,
    time_in,
)
from fraud_detection.registry.aliases import Pin, Retirement
from fraud_detection.schedule import mark_schedule
from fraud_detection.schema import CandidateKey, Decision, Opening, Outcome, Stored
from fraud_detection.storage import Storage, is_object

_READERS = 8
"""Threads that read entries; the S3 client keeps ten connections."""


class Action(StrEnum):
    """What a user can do to the model in service, or to its log."""

    ROLLBACK = "rollback"
    PIN = "pin"
    UNPIN = "unpin"
    RETIRE = "retire-champion"
    APPROVE = "approve"
    REJECT = "reject"
    PROMOTE = "promote"  # an override: without a look that passed, or without waiting for it
    ACCEPT_LOG = "accept-log"


PROMOTIONS = (Action.APPROVE, Action.PROMOTE)
"""They make a candidate a version, and put it into service."""


class Intervention(Stored):
    """What a user did, why, and which version was in service before and after."""

    action: Action
    model_name: str
    at: datetime
    who: str
    reason: str
    from_version: int | None  # None: no champion was in service
    to_version: int | None  # None: no champion is in service
    # When the pin was set, or that which an unpin removed; when a candidate's promotion was requested; of anything else
    # its own time.
    pinned_at: datetime
    candidate: CandidateKey | None = None  # that was approved, rejected or promoted
    decision_as_of: datetime | None = None  # of the decision that an approval or a rejection answers
    # SHA-256 of the log's entry before this one; where the log was accepted, of all that it held. The log fills it in.
    previous_entry: str | None = None

    @model_serializer(mode="wrap")
    def _as_its_release_wrote_it(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        content: dict[str, object] = write(self)
        later = ("candidate", "decision_as_of", "previous_entry")
        return {name: value for name, value in content.items() if name not in later or value is not None}


Entry = Decision | Intervention
"""What happened."""
LogEntry = Entry | Opening
_Kind = TypeVar("_Kind", Decision, Intervention, Opening)


class DecisionLog:
    """The decisions of one model name with their openings, and the interventions of users between them.

    Args:
        storage: the output folder.
        model_name: each has its own log.
        accept_log: the command that accepts the log as it is, for the error that names an unreadable entry.
    """

    def __init__(
        self, storage: Storage, model_name: str, accept_log: str = 'fraud-detection accept-log … --reason "…"'
    ) -> None:
        self._accept_log = accept_log
        self._storage = storage
        self._model_name = model_name
        self._folder = decisions_folder(model_name)

    def find(self, as_of: datetime) -> Decision | None:
        """The decision of the run at `as_of`, or None.

        Raises:
            FraudDetectionError: it is there and cannot be read.
        """
        return self._read(decision_file(self._model_name, as_of), Decision)

    def previous(self, as_of: datetime | None) -> Decision | None:
        """The newest decision before `as_of`, or the newest of all; None if there is none.

        Raises:
            FraudDetectionError: it is there and cannot be read.
        """
        end = decision_file(self._model_name, as_of) if as_of else None
        names = filter(is_decision, self._storage.names(self._folder))
        before = [name for name in names if end is None or name < end]
        return self._read(max(before), Decision) if before else None

    def find_opening(self, as_of: datetime) -> Opening | None:
        """What the run at `as_of` was going to measure, or None."""
        return self._read(opening_file(self._model_name, as_of), Opening)

    def newest_as_of(self) -> datetime | None:
        """The latest as-of time that was opened or decided, or None."""
        newest = max(self._of_runs(), default=None)
        return None if newest is None else time_in(newest)

    def after(self, moment: datetime) -> tuple[str, ...]:
        """The files of decisions and openings with a later as-of time, without their folder."""
        first = first_name_since(self._model_name, moment + timedelta(seconds=1))  # names have whole seconds
        return tuple(sorted(name.rpartition("/")[2] for name in self._of_runs() if name >= first))

    def _of_runs(self) -> Iterator[str]:
        """Names sort like their times, so that no time is parsed: a log of a year has some 20,000 of them."""
        return (name for name in self.names() if is_decision(name) or is_opening(name))

    def write(self, entry: LogEntry) -> bool:
        """Write the entry once. False, and nothing is written, if its as-of time or its pin has such an entry already.

        Use `log_chain.append`, which links it.
        """
        return self._storage.write_once(entry_name(entry), stored_form(entry))

    def mark_schedule(self, done: Intervention) -> None:
        """Let the schedule start a run soon: a person has changed what serves or may be promoted."""
        mark_schedule(self._storage, self._model_name, f"{done.action.value} at {done.at:%Y-%m-%d %H:%M}")

    def find_intervention(self, action: Action, pinned_at: datetime) -> Intervention | None:
        """What was done about the pin set at `pinned_at`, or None."""
        return self._read(intervention_file(self._model_name, action, pinned_at), Intervention)

    def history(self) -> tuple[Entry, ...]:
        """Every decision and intervention, in the order in which they came into force.

        Raises:
            FraudDetectionError: an object is broken; it is named.
        """
        happened = self._parsed(name for name in self.names() if not is_opening(name))
        return tuple(entry for entry in happened if not isinstance(entry, Opening))

    def newest(self, count: int) -> tuple[Entry, ...]:
        """The `count` entries of the history that came into force last, of all interventions and as many decisions.

        Their number, not the length of the log, says what is read. Interventions are all read, since the name of an
        unpin has the time of its pin.

        Raises:
            FraudDetectionError: one of them is broken; it is named.
        """
        names = self.names()
        decided = [name for name in names if is_decision(name)][-count:]
        happened = self._parsed([*decided, *filter(is_intervention, names)])
        return tuple(entry for entry in happened if not isinstance(entry, Opening))[-count:]

    def entries(self, since: datetime | None = None) -> tuple[LogEntry, ...]:
        """Every entry, in the order in which they came into force.

        Args:
            since: leaves out decisions and openings of earlier as-of times, which are then not read.

        Raises:
            FraudDetectionError: an object is broken; it is named.
        """
        first = "" if since is None else first_name_since(self._model_name, since)
        return self._parsed(name for name in self.names() if name >= first or is_intervention(name))

    def unfinished_openings(self) -> tuple[Opening, ...]:
        """The openings of runs that were killed before they decided, oldest first."""
        names = set(self.names())
        decided = {name.removesuffix(".json") + "-opening.json" for name in filter(is_decision, names)}
        found = (self._read(name, Opening) for name in sorted(filter(is_opening, names - decided)))
        return tuple(opening for opening in found if opening is not None)

    def names(self) -> list[str]:
        """The sorted names of all entries."""
        return [name for name in self._storage.names(self._folder) if name.endswith(".json")]

    def contents(self, names: Iterable[str]) -> dict[str, bytes]:
        """The content of entries by name, read several at once.

        Raises:
            FraudDetectionError: one does not exist.
        """
        wanted = list(names)
        with ThreadPoolExecutor(_READERS) as readers:
            found = dict(zip(wanted, readers.map(self._storage.read, wanted), strict=True))
        for name, content in found.items():
            if content is None:
                raise FraudDetectionError(f"{self.url(name)} vanished while the log was read; run this again")
        return {name: content for name, content in found.items() if content is not None}

    def url(self, name: str) -> str:
        """Where an entry is."""
        return self._storage.url(name)

    def other_models(self) -> tuple[str, ...]:
        """The other model names that have decisions in the same storage, sorted."""
        names = {name.split("/")[1] for name in self._storage.names(DECISIONS) if name.endswith(".json")}
        return tuple(sorted(names - {self._model_name}))

    def last_change(self) -> Entry | None:
        """The last entry that put a version into service or took one out of it: a promotion, rollback or retirement.

        Raises:
            FraudDetectionError: an object is broken; it is named.
        """
        return next((entry for entry in reversed(self.history()) if changes_service(entry)), None)

    def last_intervention(self) -> Intervention | None:
        """The last thing that a user did, or None.

        Raises:
            FraudDetectionError: an object is broken; it is named.
        """
        done = self._parsed(filter(is_intervention, self.names()))
        return next((entry for entry in reversed(done) if isinstance(entry, Intervention)), None)

    def parse(self, name: str, content: bytes) -> LogEntry:
        """The entry of that name.

        Raises:
            FraudDetectionError: it is none; it is named.
        """
        if is_decision(name):
            return self._parse(name, content, Decision)
        if is_opening(name):
            return self._parse(name, content, Opening)
        if is_intervention(name):
            return self._parse(name, content, Intervention)
        raise FraudDetectionError(
            f"{self.url(name)} is not named like a decision (20180822T000000Z.json); move it away"
        )

    def _parsed(self, names: Iterable[str]) -> tuple[LogEntry, ...]:
        found = [self.parse(name, content) for name, content in self.contents(names).items()]
        return tuple(sorted(found, key=lambda entry: (entry_time(entry), entry_name(entry))))

    def _read(self, name: str, kind: type[_Kind]) -> _Kind | None:
        content = self._storage.read(name)
        return None if content is None else self._parse(name, content, kind)

    def _parse(self, name: str, content: bytes, kind: type[_Kind]) -> _Kind:
        try:
            entry = kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise FraudDetectionError(
                f"{self._storage.url(name)} is not a readable {kind.__name__.lower()}: {where}: {first['msg']}"
                f" ({len(content)} bytes found); restore it from a copy, or go on without it:"
                f" {_set_aside(self._storage.url(name))}, then run: {self._accept_log}"
            ) from error
        expected = entry_name(entry)
        if expected != name:
            raise FraudDetectionError(
                f"{self._storage.url(name)} holds what belongs into {expected}; rename it, or move it away"
            )
        return entry


def _set_aside(url: str) -> str:
    """How to take an entry out of the log and keep it."""
    kept = f"{url}.unreadable"
    return f"rename it to {kept}" if is_object(url) else shlex.join(["mv", url, kept])


def logged_change(entry: Intervention) -> Pin | Retirement | None:
    """What the tag holds after this; None if it sets neither a pin nor a retirement."""
    if entry.action in (Action.ROLLBACK, Action.PIN) and entry.to_version is not None:
        return Pin(
            at=entry.at,
            who=entry.who,
            reason=entry.reason,
            from_version=entry.from_version,
            to_version=entry.to_version,
        )
    if entry.action is Action.RETIRE and entry.from_version is not None:
        return Retirement(at=entry.at, who=entry.who, reason=entry.reason, version=entry.from_version)
    return None


def changes_service(entry: Entry) -> bool:
    """Whether it is a promotion, by a run or a person, a rollback or a retirement."""
    if isinstance(entry, Decision):
        return entry.outcome is Outcome.PROMOTED
    return entry.action in (Action.ROLLBACK, Action.RETIRE, *PROMOTIONS)


def stored_form(entry: LogEntry) -> bytes:
    """The content of the entry's object."""
    return entry.model_dump_json(indent=2).encode()


def entry_time(entry: LogEntry) -> datetime:
    """When the entry came into force."""
    if isinstance(entry, Decision):
        return entry.committed_at or entry.decided_at
    return entry.opened_at if isinstance(entry, Opening) else entry.at


def entry_name(entry: LogEntry) -> str:
    """The name of the entry's object."""
    if isinstance(entry, Decision):
        return decision_file(entry.model_name, entry.as_of)
    if isinstance(entry, Opening):
        return opening_file(entry.model_name, entry.as_of)
    return intervention_file(entry.model_name, entry.action, entry.pinned_at)
