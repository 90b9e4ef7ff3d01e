"""Faults on demand: what goes wrong, for which cluster or job, and how often."""

import time
import uuid
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Self

import grpc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from emulator.events import EventLog
from emulator.store import Store


class FaultKind(StrEnum):
    """What can go wrong."""

    CREATE_REFUSED = "create-refused"  # the create call is refused; no cluster
    CREATE_FAILS = "create-fails"  # the operation ends in an error; the cluster stays, in status ERROR
    CREATE_SLOW = "create-slow"  # CREATING lasts `seconds` longer
    API_UNAVAILABLE = "api-unavailable"  # every call is UNAVAILABLE for `seconds`, or `times` calls are
    REPLY_LOST = "reply-lost"  # the call does its work, the caller gets `code`
    JOB_EXIT_CODE = "job-exit-code"  # instead of the job a process ends with `exit_code` after `seconds`
    JOB_HANGS = "job-hangs"  # instead of the job a process runs until it is ended
    DELETE_FAILS = "delete-fails"  # the delete operation ends in an error; the cluster stays
    DELETE_REFUSED = "delete-refused"  # the delete call is refused
    DELETE_SLOW = "delete-slow"  # the deletion lasts `seconds` longer


_DEFAULT_CODE = {
    FaultKind.CREATE_REFUSED: "RESOURCE_EXHAUSTED",
    FaultKind.CREATE_FAILS: "INTERNAL",
    FaultKind.API_UNAVAILABLE: "UNAVAILABLE",
    FaultKind.REPLY_LOST: "UNAVAILABLE",
    FaultKind.DELETE_FAILS: "INTERNAL",
    FaultKind.DELETE_REFUSED: "UNAVAILABLE",
}


class FaultSpec(BaseModel):
    """One fault, armed `times` times."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    kind: FaultKind
    """See the table of faults in `docs/emulator.md`."""
    times: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """How often the fault strikes."""
    seconds: Annotated[float, Field(ge=0.0, le=86_400.0)] = 0.0
    """How long it lasts, by kind."""
    code: str = ""
    """Name of a gRPC status; the default depends on the kind."""
    exit_code: Annotated[int, Field(ge=0, le=255)] = 1
    """`job-exit-code`: the exit code of the driver."""
    method: str = "ClusterService/Create"
    """`reply-lost`: the call whose reply is lost."""
    match: str = "*"
    """Only clusters or jobs whose name matches this shell pattern."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.code and self.code not in grpc.StatusCode.__members__:
            raise ValueError(f"code is {self.code!r}; expected the name of a gRPC status, such as UNAVAILABLE")
        if self.kind in (FaultKind.CREATE_SLOW, FaultKind.DELETE_SLOW) and not self.seconds:
            raise ValueError(f"{self.kind.value} needs seconds")
        return self

    @property
    def status(self) -> str:
        return self.code or _DEFAULT_CODE.get(self.kind, "UNAVAILABLE")


class Faults:
    """The armed faults, kept in the store so that a restart does not disarm them."""

    def __init__(self, store: Store, events: EventLog) -> None:
        self._store = store
        self._events = events

    def add(self, spec: FaultSpec, origin: str = "control") -> str:
        fault_id = uuid.uuid4().hex[:8]
        until = time.time() + spec.seconds if spec.kind is FaultKind.API_UNAVAILABLE and spec.seconds else None
        data = {"spec": spec.model_dump(mode="json"), "left": spec.times, "until": until, "origin": origin}
        self._store.put("fault", fault_id, data=data)
        self._events.write("fault-armed", fault=spec.kind.value, fault_id=fault_id, times=spec.times, match=spec.match)
        return fault_id

    def replace_configured(self, specs: tuple[FaultSpec, ...]) -> None:
        """Arm the faults of the settings in place of those of an earlier start."""
        with self._store.transaction():
            for record in self._store.find("fault"):
                if record.data["origin"] == "settings":
                    self._store.delete("fault", record.id)
            for spec in specs:
                self.add(spec, origin="settings")

    def armed(self) -> list[dict[str, object]]:
        return [
            {"id": record.id, "left": record.data["left"], **record.data["spec"]}
            for record in self._store.find("fault")
            if not self._over(record.data["until"])
        ]

    def clear(self) -> int:
        with self._store.transaction():
            records = self._store.find("fault")
            for record in records:
                self._store.delete("fault", record.id)
        self._events.write("faults-cleared", count=len(records))
        return len(records)

    def take(self, kind: FaultKind, name: str = "", method: str = "") -> FaultSpec | None:
        """The fault that strikes now, or None; it is counted."""
        with self._store.transaction():
            for record in self._store.find("fault"):
                spec = FaultSpec.model_validate(record.data["spec"])
                if spec.kind is not kind or (method and method != spec.method) or not fnmatchcase(name, spec.match):
                    continue
                if record.data["until"] is not None:
                    if self._over(record.data["until"]):
                        self._store.delete("fault", record.id)
                        continue
                    return spec  # lasts a time, not a number of calls
                left = record.data["left"] - 1
                if left:
                    self._store.save(record, left=left)
                else:
                    self._store.delete("fault", record.id)
                self._events.write("fault", fault=kind.value, fault_id=record.id, left=left, name=name)
                return spec
        return None

    @staticmethod
    def _over(until: float | None) -> bool:
        return until is not None and time.time() >= until
