"""The decision log: one object per decision, written once, in the output folder.

    decisions/<model name>/20180822T000000Z.json                    what the run at that as-of time decided
    decisions/<model name>/20180823T091500123456Z-rollback.json     what a user did to the model in service

It is the history: MLflow keeps no record of where an alias pointed before.
"""

from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from pydantic import ValidationError

from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import (
    DECISIONS,
    decision_file,
    decisions_folder,
    intervention_file,
    is_decision,
    is_intervention,
)
from fraud_detection.registry.aliases import Pin, Retirement
from fraud_detection.schema import Decision, Outcome, Stored
from fraud_detection.storage import Storage


class Action(StrEnum):
    """What a user can do to the model in service."""

    ROLLBACK = "rollback"
    UNPIN = "unpin"
    RETIRE = "retire-champion"


class Intervention(Stored):
    """What a user did, why, and which version was in service before and after."""

    action: Action
    model_name: str
    at: datetime
    who: str
    reason: str
    from_version: int | None  # None: no champion was in service
    to_version: int | None  # None: no champion is in service
    pinned_at: datetime  # of the pin that a rollback set or an unpin removed; of a retirement its own time


Entry = Decision | Intervention
_Entry = TypeVar("_Entry", Decision, Intervention)


class DecisionLog:
    """The decisions of one model name, and the interventions of users between them."""

    def __init__(self, storage: Storage, model_name: str) -> None:
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

    def write(self, decision: Decision) -> bool:
        """Write the decision once. False, and nothing is written, if this as-of time is decided already."""
        return self._write_once(_name(decision), decision)

    def find_intervention(self, action: Action, pinned_at: datetime) -> Intervention | None:
        """What was done about the pin set at `pinned_at`, or None."""
        return self._read(intervention_file(self._model_name, action, pinned_at), Intervention)

    def write_intervention(self, intervention: Intervention) -> bool:
        """Write it once for each pin; False if it was written before."""
        return self._write_once(_name(intervention), intervention)

    def history(self) -> tuple[Entry, ...]:
        """Every decision and intervention, in the order in which they came into force.

        Raises:
            FraudDetectionError: an object is broken; it is named.
        """
        entries = [self._entry(name) for name in self._storage.names(self._folder) if name.endswith(".json")]
        return tuple(sorted(entries, key=lambda entry: (moment(entry), _name(entry))))

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
        return next((entry for entry in reversed(self.history()) if isinstance(entry, Intervention)), None)

    def _entry(self, name: str) -> Entry:
        if is_decision(name):
            entry: Entry | None = self._read(name, Decision)
        elif is_intervention(name):
            entry = self._read(name, Intervention)
        else:
            url = self._storage.url(name)
            raise FraudDetectionError(f"{url} is not named like a decision (20180822T000000Z.json); move it away")
        if entry is None:
            raise FraudDetectionError(f"{self._storage.url(name)} vanished while the history was read; read it again")
        return entry

    def _read(self, name: str, kind: type[_Entry]) -> _Entry | None:
        content = self._storage.read(name)
        if content is None:
            return None
        try:
            entry = kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise FraudDetectionError(
                f"{self._storage.url(name)} is not a readable {kind.__name__.lower()}: {where}: {first['msg']}"
                f" ({len(content)} bytes found); restore it from a copy, or move it away to go on without it"
            ) from error
        expected = _name(entry)
        if expected != name:
            raise FraudDetectionError(
                f"{self._storage.url(name)} holds what belongs into {expected}; rename it, or move it away"
            )
        return entry

    def _write_once(self, name: str, entry: Entry) -> bool:
        return self._storage.write_once(name, entry.model_dump_json(indent=2).encode())


def logged_change(entry: Intervention) -> Pin | Retirement | None:
    """What the tag holds after this; None after an unpin."""
    if entry.action is Action.ROLLBACK and entry.to_version is not None:
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
    """Whether it is a promotion, rollback or retirement."""
    if isinstance(entry, Decision):
        return entry.outcome is Outcome.PROMOTED
    return entry.action is not Action.UNPIN


def moment(entry: Entry) -> datetime:
    """When it came into force."""
    if isinstance(entry, Decision):
        return entry.committed_at or entry.decided_at
    return entry.at


def _name(entry: Entry) -> str:
    if isinstance(entry, Decision):
        return decision_file(entry.model_name, entry.as_of)
    return intervention_file(entry.model_name, entry.action, entry.pinned_at)
