"""Create, get, list, update and delete of any kind of resource, and its access bindings, as the API describes them.

Every method of a kind's service whose name and types say what it does is answered here: its fields are carried over by
name, its operation has the annotated metadata and response. What a kind does beyond that is its `Behaviour`. A method
that neither knows is not emulated, and the gateway says so.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from yandex.cloud.access import access_pb2
from yandex.cloud.operation.operation_pb2 import Operation

from emulator.access import Need, require_known
from emulator.carry import carry, update
from emulator.cloud import Cloud
from emulator.errors import ApiError, Violation, failed_precondition, not_found
from emulator.gateway import Check, Method, Service
from emulator.iam import Caller
from emulator.ids import new_id
from emulator.kinds import Kind, listed
from emulator.paging import check_filter, name_filter, page
from emulator.store import Record

_READY = ("RUNNING", "ACTIVE", "READY", "ALIVE")
_PAGING = {"page_size", "page_token", "filter", "order_by"}
_DONE = "resource.done"


class Behaviour:
    """What the emulator does for a kind beyond keeping its fields. This one does nothing."""

    def methods(self) -> Mapping[str, Method]:
        """Methods answered by hand, in place of the generic ones."""
        return {}

    def checks(self) -> Mapping[str, Check]:
        """Rules of a method's requests that the API's description does not carry."""
        return {}

    def needs(self, method: str, request: Any) -> Iterator[Need]:  # noqa: ARG002  # a kind may need more
        """Permissions that a call needs beyond the one of its name."""
        yield from ()

    def created(self, request: Any, resource: Any) -> None:
        """Set what the service decides itself, and make what comes with the resource."""

    def metadata(self, resource: Any) -> Mapping[str, str]:  # noqa: ARG002  # a kind may make more than one thing
        """Fields of an operation's metadata beyond those of the request and the resource's key."""
        return {}

    def updated(self, request: Any, resource: Any) -> None:
        """Change what follows from a change."""

    def refuse_deletion(self, resource: Any) -> None:
        """Raise an ApiError if the resource cannot be deleted."""

    def deleted(self, resource: Any) -> None:
        """Remove what came with the resource."""


class Resources:
    """The services of all kinds of the catalogue."""

    def __init__(self, cloud: Cloud, kinds: Mapping[str, Kind], behaviours: Mapping[str, Behaviour]) -> None:
        self._cloud = cloud
        self._kinds = kinds
        self._behaviours = behaviours
        self._by_message = {kind.message.DESCRIPTOR.full_name: kind for kind in kinds.values()}
        cloud.clock.register(_DONE, self._settle)

    def services(self) -> list[Service]:
        return [self._service(kind) for kind in self._kinds.values()]

    def create(self, kind: Kind, request: Any, caller: Caller) -> Operation:
        """A new resource with the request's fields."""
        resource: Any = kind.message()
        carry(kind.spec(request), resource)
        for key in kind.keys[:-1]:
            setattr(resource, key, getattr(request, key))
        owner = str(getattr(request, kind.parent_field))
        self._refuse_taken(kind, owner, resource)
        if kind.prefix:
            resource.id = new_id(kind.prefix)
        if "created_at" in resource.DESCRIPTOR.fields_by_name:
            resource.created_at.GetCurrentTime()
        self._behaviours[kind.name].created(request, resource)
        begun = type(resource)()
        begun.CopyFrom(resource)
        _set_enum(begun, "status", ("CREATING", "PROVISIONING"))
        for field in ("status", "health"):
            _set_enum(resource, field, _READY)
        self._put(kind, begun, owner)
        return self._begin(kind, "Create", request, caller, resource)

    def get(self, kind: Kind, request: Any, _caller: Caller) -> Message:
        return self._record(kind, request).message(kind.message)

    def list(self, kind: Kind, output: type[Message], field: str, request: Any) -> Message:
        """The resources of a kind that agree with every id of the request."""
        wanted = {name.name: value for name, value in request.ListFields() if name.name not in _PAGING}
        owner = str(wanted.pop(kind.parent_field, "")) or None
        name = name_filter(getattr(request, "filter", ""))
        found = []
        for record in self._cloud.store.find(kind.name, owner, name):
            message: Any = record.message(kind.message)
            if all(getattr(message, key, value) == value for key, value in wanted.items()):
                found.append(message)
        shown, token = page(found, request)
        return output(**{field: shown, "next_page_token": token})

    def update(self, kind: Kind, request: Any, caller: Caller) -> Operation:
        """Replace the fields that the mask names; without a mask, those that the request sets."""
        resource: Any = self._record(kind, request).message(kind.message)
        self._require_quiet(kind, kind.id_of(resource))
        sent = [field.name for field, _ in request.ListFields() if field.name not in (*kind.keys, "update_mask")]
        update(request, resource, list(request.update_mask.paths) or sent)
        self._behaviours[kind.name].updated(request, resource)
        return self._begin(kind, "Update", request, caller, resource)

    def delete(self, kind: Kind, request: Any, caller: Caller) -> Operation:
        resource: Any = self._record(kind, request).message(kind.message)
        id_ = kind.id_of(resource)
        self._require_quiet(kind, id_)
        protection = getattr(resource, "deletion_protection", False)
        if getattr(protection, "value", protection):  # a bool, or a message around one
            raise failed_precondition(f"{_title(kind)} {id_} has deletion protection")
        for keeper in kind.keeps:
            if holder := self._holder(keeper, id_):
                raise failed_precondition(f"{_title(kind)} {id_} is used by {keeper} {holder}")
        self._behaviours[kind.name].refuse_deletion(resource)
        return self._begin(kind, "Delete", request, caller, resource)

    def refuse_deletion(self, kind_name: str, id_: str) -> None:
        """Raise an ApiError if a kind's own rules forbid the deletion."""
        resource = self._cloud.store.require(kind_name, id_).message(self._kinds[kind_name].message)
        self._behaviours[kind_name].refuse_deletion(resource)

    def remove(self, kind_name: str, id_: str) -> None:
        """Delete a resource with everything that is only there because of it."""
        kind = self._kinds[kind_name]
        record = self._cloud.store.require(kind_name, id_)
        for child in self._kinds.values():
            if child.parent == kind_name:
                for owned in self._cloud.store.find(child.name, owner=id_):
                    self.remove(child.name, owned.id)
        self._behaviours[kind_name].deleted(record.message(kind.message))
        self._cloud.access.forget(str(record.data.get("resource_id", id_)))
        self._cloud.store.delete(kind_name, id_)

    def operation(self, kind: Kind, method: str, request: Any, caller: Caller, id_: str, **fields: str) -> Operation:
        """A new operation of a method on a resource, with the metadata that its description names."""
        metadata: Any = kind.types(method)[0]()
        carry(request, metadata)
        if method == "Create":
            values = dict(zip(kind.keys, id_.split("/"), strict=True))
            fields = {**values, **fields}
        for name, value in fields.items():
            if name in metadata.DESCRIPTOR.fields_by_name:
                setattr(metadata, name, value)
        action = f"{kind.name}.{method.lower()}"
        return self._cloud.operations.start(
            kind.prefix or "c9q", caller, action, id_, f"{method} {_title(kind)}", metadata
        )

    def _service(self, kind: Kind) -> Service:
        behaviour = self._behaviours[kind.name]
        methods = {**dict(self._methods(kind)), **behaviour.methods()}

        def needs(method: str, request: Any) -> Iterator[Need]:
            yield from kind.needs(method, request)
            if method in ("Create", "Update"):
                yield from self._uses(kind, request)
            yield from behaviour.needs(method, request)

        checks: dict[str, Check] = {"Create": lambda request: self._unknown(kind, request)}
        for method in kind.service.methods:
            if listed(method) is not None and "filter" in method.input_type.fields_by_name:
                checks[method.name] = check_filter
        return Service(kind.service, methods, {**checks, **behaviour.checks()}, needs=needs)

    def _methods(self, kind: Kind) -> Iterator[tuple[str, Method]]:
        """The methods of a service whose names and types say what they do."""
        own: dict[str, Callable[[Kind, Any, Caller], Message]] = {
            "Get": self.get,
            "Create": self.create,
            "Update": self.update,
            "Delete": self.delete,
            "ListAccessBindings": self._list_bindings,
            "SetAccessBindings": self._set_bindings,
            "UpdateAccessBindings": self._update_bindings,
        }
        for method in kind.service.methods:
            field = listed(method)
            if function := own.get(method.name):
                if method.name != "Create" or method.output_type is Operation.DESCRIPTOR:
                    yield method.name, _bound(function, kind)
            elif field is not None and field.message_type is Operation.DESCRIPTOR:
                yield method.name, _bound(self._list_operations, kind)
            elif field is not None and (found := self._by_message.get(field.message_type.full_name)):
                yield method.name, self._lister(found, GetMessageClass(method.output_type), field.name)

    def _lister(self, kind: Kind, output: type[Message], field: str) -> Method:
        return lambda request, _caller: self.list(kind, output, field, request)

    def _list_operations(self, kind: Kind, request: Any, _caller: Caller) -> Message:
        record = self._record(kind, request)
        output = GetMessageClass(kind.service.methods_by_name["ListOperations"].output_type)
        shown, token = page(self._cloud.operations.of(record.id), request)
        return output(operations=shown, next_page_token=token)

    def _list_bindings(self, kind: Kind, request: Any, _caller: Caller) -> Message:
        self._bound_id(kind, request.resource_id)
        shown, token = page(self._cloud.access.bindings(request.resource_id), request)
        return access_pb2.ListAccessBindingsResponse(access_bindings=shown, next_page_token=token)

    def _set_bindings(self, kind: Kind, request: Any, caller: Caller) -> Operation:
        id_ = self._bound_id(kind, request.resource_id)
        require_known(binding.role_id for binding in request.access_bindings)
        self._cloud.access.forget(request.resource_id)
        for binding in request.access_bindings:
            self._cloud.access.add(request.resource_id, binding)
        return self._bindings_changed(kind, "SetAccessBindings", request, caller, id_)

    def _update_bindings(self, kind: Kind, request: Any, caller: Caller) -> Operation:
        id_ = self._bound_id(kind, request.resource_id)
        require_known(delta.access_binding.role_id for delta in request.access_binding_deltas)
        for delta in request.access_binding_deltas:
            change = (
                self._cloud.access.add
                if delta.action == access_pb2.AccessBindingAction.ADD
                else self._cloud.access.remove
            )
            change(request.resource_id, delta.access_binding)
        return self._bindings_changed(kind, "UpdateAccessBindings", request, caller, id_)

    def _bindings_changed(self, kind: Kind, method: str, request: Any, caller: Caller, id_: str) -> Operation:
        operation = self.operation(kind, method, request, caller, id_)
        return self._cloud.operations.succeed(operation.id, kind.types(method)[1]())

    def _begin(self, kind: Kind, method: str, request: Any, caller: Caller, resource: Any) -> Operation:
        """Begin a change: it is in force when its operation is done, at once or after the settings' time."""
        id_ = kind.id_of(resource)
        fields = self._behaviours[kind.name].metadata(resource)
        operation = self.operation(kind, method, request, caller, id_, **fields)
        self._cloud.store.put("change", operation.id, resource, owner=id_, name=kind.name, data={"method": method})
        delay = self._cloud.settings.timing.resource
        if delay and not kind.at_once:
            self._cloud.clock.schedule(delay, _DONE, operation.id)
            return operation
        return self._done(operation.id)

    def _settle(self, operation_id: str) -> None:
        self._done(operation_id)

    def _done(self, operation_id: str) -> Operation:
        change = self._cloud.store.require("change", operation_id)
        kind, method = self._kinds[change.name], change.data["method"]
        resource = change.message(kind.message)
        if method == "Delete":
            self.remove(kind.name, change.owner)
        else:
            self._cloud.store.save(self._cloud.store.require(kind.name, change.owner), resource)
        self._cloud.store.delete("change", operation_id)
        type_ = kind.types(method)[1]
        return self._cloud.operations.succeed(operation_id, resource if isinstance(resource, type_) else type_())

    def _put(self, kind: Kind, resource: Any, owner: str) -> None:
        data = {"resource_id": resource.resource_id} if "resource_id" in resource.DESCRIPTOR.fields_by_name else {}
        self._cloud.store.put(kind.name, kind.id_of(resource), resource, owner=owner, name=resource.name, data=data)

    def _record(self, kind: Kind, request: Any) -> Record:
        return self._cloud.store.require(kind.name, kind.id_in(request))

    def _bound_id(self, kind: Kind, resource_id: str) -> str:
        """The record's id of the resource that bindings are named for. Raises NOT_FOUND."""
        for record in self._cloud.store.find(kind.name):
            if resource_id == record.data.get("resource_id", record.id):
                return record.id
        raise not_found(_title(kind), resource_id)

    def _refuse_taken(self, kind: Kind, owner: str, resource: Any) -> None:
        taken = (
            bool(resource.name) and bool(self._cloud.store.find(kind.name, owner, resource.name))
            if kind.prefix
            else self._cloud.store.get(kind.name, kind.id_of(resource)) is not None
        )
        if taken:
            message = f"{_title(kind)} with name {resource.name!r} already exists"
            raise ApiError(grpc.StatusCode.ALREADY_EXISTS, message)

    def _require_quiet(self, kind: Kind, id_: str) -> None:
        if self._cloud.store.find("change", owner=id_):
            raise failed_precondition(f"{_title(kind)} {id_} has an operation that is still running")

    def _holder(self, kind_name: str, id_: str) -> str | None:
        """The id of a resource of a kind that refers to a resource."""
        kind = self._kinds[kind_name]
        for record in self._cloud.store.find(kind_name):
            if id_ in {value for _, value in _texts(record.message(kind.message))}:
                return record.id
        return None

    def _uses(self, kind: Kind, request: Message) -> Iterator[Need]:
        """The permission to use each resource that a request names, such as a cluster's subnet and account."""
        for field, value in _texts(request):
            used = self._named(field)
            if used is not None and used.usable and field != kind.parent_field and field not in kind.keys:
                yield Need(f"{used.permissions}.use", used.name, value)

    def _unknown(self, kind: Kind, request: Any) -> Iterator[Violation]:
        """A violation for each resource that a request names and that does not exist, and for a missing folder.

        The SDK's descriptions of VPC, Compute and Connection Manager have no annotations that would require one.
        """
        if kind.parent == "folder" and not request.folder_id:
            yield Violation("folder_id", "is required")
        for field, value in _texts(request):
            named = self._kinds[kind.parent] if field == kind.parent_field else self._named(field)
            if named is not None and value:
                yield from self._cloud.check_known(named.name, value, field)

    def _named(self, field: str) -> Kind | None:
        """The kind whose ids a field such as `subnet_id` or `security_group_ids` holds."""
        single = field.removesuffix("s")
        return next((kind for kind in self._kinds.values() if kind.prefix and kind.keys == (single,)), None)


def _bound(function: Callable[[Kind, Any, Caller], Message], kind: Kind) -> Method:
    return lambda request, caller: function(kind, request, caller)


def _title(kind: Kind) -> str:
    return kind.name.replace("-", " ").capitalize()


def _set_enum(resource: Any, name: str, wanted: tuple[str, ...]) -> None:
    """Set an enumeration to the first of these values that it has."""
    field = resource.DESCRIPTOR.fields_by_name.get(name)
    if field is None or field.enum_type is None:
        return
    for value in wanted:
        if found := field.enum_type.values_by_name.get(value):
            setattr(resource, name, found.number)
            return


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    """Every text of a message and of the messages in it, with its field's name; maps are left out."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else [value]:
            if isinstance(item, Message):
                yield from _texts(item)
            elif isinstance(item, str):
                yield field.name, item
