"""What the API's description says of a kind of resource: its message, its key, its parent, its operations' types."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from yandex.cloud.api import operation_pb2

from emulator.access import Need

_ON_THE_PARENT = ("Create", "List")


@dataclass(frozen=True)
class Kind:
    """One row of the catalogue. A record of the store is of a kind, and its owner is the parent's id."""

    name: str
    service: ServiceDescriptor
    prefix: str
    """Of the ids; "" where the name is the id."""
    permissions: str
    """Prefix of its permissions, such as `vpc.networks`; "" where any account may call."""
    parent: str = "folder"
    parent_field: str = "folder_id"
    usable: bool = False
    """Whether a request that names such a resource needs the permission to use it."""
    keeps: tuple[str, ...] = ()
    """Kinds that refer to it and thereby prevent its deletion."""
    at_once: bool = False
    """Its operations are done when the call returns, whatever the settings say."""

    @cached_property
    def message(self) -> type[Message]:
        return GetMessageClass(self.service.methods_by_name["Get"].output_type)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The fields that name a resource in a request: those of Get, except how much of it to show."""
        fields = self.service.methods_by_name["Get"].input_type.fields
        return tuple(field.name for field in fields if field.enum_type is None)

    def id_in(self, request: Any) -> str:
        """The id of the resource that a request names, as its record has it."""
        values = [str(getattr(request, key, "")) for key in self.keys]
        return "/".join(values) if not self.prefix else values[-1]

    def id_of(self, resource: Any) -> str:
        """The id of a resource, as its record has it."""
        parents = [str(getattr(resource, key)) for key in self.keys[:-1]]
        return "/".join([*parents, resource.name]) if not self.prefix else str(resource.id)

    def types(self, method: str) -> tuple[type[Message], type[Message]]:
        """The metadata and the response of a method's operations, by its operation option."""
        option = self.service.methods_by_name[method].GetOptions().Extensions[operation_pb2.operation]
        return _message_class(option.metadata, self.service), _message_class(option.response, self.service)

    def spec(self, request: Any) -> Message:
        """The part of a request that describes the resource: `user_spec` for a User, otherwise the request itself."""
        name = f"{self.message.DESCRIPTOR.name.lower()}_spec"
        found: Message = getattr(request, name, request)
        return found

    def needs(self, method: str, request: Any) -> Iterator[Need]:
        """The permission that a call of this kind's service needs."""
        if not self.permissions:
            return
        permission = f"{self.permissions}.{method[0].lower()}{method[1:]}"
        if method in _ON_THE_PARENT:
            yield Need(permission, self.parent, str(getattr(request, self.parent_field)))
        elif id_ := getattr(request, "resource_id", ""):
            yield Need(permission, self.name, id_)
        else:
            yield Need(permission, self.name, self.id_in(request))


def listed(method: MethodDescriptor) -> Any:
    """The field that holds what a List method lists; None for any other method."""
    if not method.name.startswith("List"):
        return None
    fields = [field for field in method.output_type.fields if field.is_repeated and field.message_type is not None]
    return fields[0] if len(fields) == 1 else None


def _message_class(name: str, service: ServiceDescriptor) -> type[Message]:
    """The class of a message that an option names relative to its service's package."""
    package = service.full_name.rpartition(".")[0]
    pool: Any = descriptor_pool.Default()  # type: ignore[no-untyped-call]
    for full_name in (f"{package}.{name}", f"yandex.cloud.{name}", name):
        try:
            return GetMessageClass(pool.FindMessageTypeByName(full_name))
        except KeyError:
            continue
    raise LookupError(f"{service.full_name} names a message that no description has: {name}")
