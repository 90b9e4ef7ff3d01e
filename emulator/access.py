"""Who may do what: access bindings on a resource, its folder and its cloud, and why a call is allowed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import grpc
from yandex.cloud.access import access_pb2

from emulator.errors import ApiError
from emulator.roles import allows, is_known
from emulator.store import Record, Store

BINDING = "access-binding"


@dataclass(frozen=True)
class Need:
    """A permission on a resource that a call needs."""

    permission: str
    kind: str
    id: str
    subject: str = ""
    """The account that needs it; "" is the caller."""


@dataclass(frozen=True)
class Grant:
    """One access binding."""

    role: str
    on: str
    """Id of the resource that the role is granted on."""
    subject: str


@dataclass(frozen=True)
class Allowed:
    """A need that was met, and every grant that alone would have met it."""

    need: Need
    grants: tuple[Grant, ...]

    def fields(self) -> dict[str, object]:
        grants = [{"subject": grant.subject, "role": grant.role, "on": grant.on} for grant in self.grants]
        return {"permission": self.need.permission, "resource": self.need.id, "grants": grants}


class Access:
    """The access bindings of a cloud."""

    def __init__(self, store: Store, parents: Mapping[str, str]) -> None:
        self._store = store
        self._parents = parents

    def require(self, caller: str, needs: Iterable[Need]) -> list[Allowed]:
        """How each need is met. Raises PERMISSION_DENIED for the first one that is not."""
        return [allowed for need in needs for allowed in self._meet(caller, need)]

    def grants(self, resource: str | None = None) -> list[Grant]:
        """All bindings, or those on one resource."""
        found = self._store.find(BINDING, owner=resource)
        return [Grant(str(record.data["role"]), record.owner, str(record.data["subject"])) for record in found]

    def bindings(self, resource: str) -> list[access_pb2.AccessBinding]:
        return [
            access_pb2.AccessBinding(
                role_id=record.data["role"],
                subject=access_pb2.Subject(id=record.data["subject"], type=record.data["type"]),
            )
            for record in self._store.find(BINDING, owner=resource)
        ]

    def add(self, resource: str, binding: access_pb2.AccessBinding) -> None:
        data = {"role": binding.role_id, "subject": binding.subject.id, "type": binding.subject.type}
        self._store.put(BINDING, _id(resource, binding), owner=resource, data=data)

    def remove(self, resource: str, binding: access_pb2.AccessBinding) -> None:
        self._store.delete(BINDING, _id(resource, binding))

    def forget(self, resource: str) -> None:
        """Remove every binding on a resource that is deleted."""
        for record in self._store.find(BINDING, owner=resource):
            self._store.delete(BINDING, record.id)

    def _meet(self, caller: str, need: Need) -> Iterator[Allowed]:
        chain = list(self._chain(need.kind, need.id))
        if not chain:
            return  # nothing of that id: the call itself says so
        subject = need.subject or caller
        grants = [
            grant
            for resource in chain
            for grant in self.grants(resource)
            if grant.subject == subject and allows(grant.role, need.permission)
        ]
        if not grants:
            who = f"service account {subject!r} lacks" if need.subject else "the caller lacks"
            message = f"Permission denied: {who} {need.permission} on {need.kind} {need.id!r}"
            raise ApiError(grpc.StatusCode.PERMISSION_DENIED, message)
        yield Allowed(need, tuple(grants))

    def _chain(self, kind: str, id_: str) -> Iterator[str]:
        """The ids that bindings for a resource may be on: its own, its parent's, …, the cloud's."""
        record = self._record(kind, id_)
        while record is not None:
            yield str(record.data.get("resource_id", record.id))
            parent = self._parents.get(record.kind)
            record = self._store.get(parent, record.owner) if parent else None

    def _record(self, kind: str, id_: str) -> Record | None:
        found = self._store.get(kind, id_)
        if found is None:  # named by the id of its bindings
            found = next((one for one in self._store.find(kind) if one.data.get("resource_id") == id_), None)
        return found


def require_known(roles: Iterable[str]) -> None:
    """Raises UNIMPLEMENTED for a role that is not in the table."""
    for role in roles:
        if not is_known(role):
            message = f"role {role!r} is not emulated; add it to emulator/roles.py, with its source"
            raise ApiError(grpc.StatusCode.UNIMPLEMENTED, message)


def _id(resource: str, binding: access_pb2.AccessBinding) -> str:
    return f"{resource}/{binding.role_id}/{binding.subject.type}:{binding.subject.id}"
