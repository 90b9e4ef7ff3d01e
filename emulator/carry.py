"""Carries the fields of a request over to a resource, by their names, as the descriptors of both say.

The API names the same thing alike in a request and in the resource that it makes. `resources_spec` becomes `resources`,
`rule_specs` becomes `rules`; a wrapper such as Int64Value may stand for a plain number on the other side.
"""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message


def carried_name(name: str, target: Message) -> str | None:
    """The field of a resource that a request's field sets; None where the resource shows none."""
    candidates = (name, name.removesuffix("_spec"), f"{name.removesuffix('_specs')}s")
    return next((found for found in candidates if found in target.DESCRIPTOR.fields_by_name), None)


def carry(source: Message, target: Message) -> None:
    """Carry every field that is set."""
    for field, _ in source.ListFields():
        carry_field(source, field.name, target)


def carry_field(source: Message, name: str, target: Message) -> None:
    """Carry one field; nothing happens where the target has no field for it."""
    to = carried_name(name, target)
    if to is None:
        return
    field = target.DESCRIPTOR.fields_by_name[to]
    value = getattr(source, name)
    if field.is_repeated:
        _extend(value, getattr(target, to), field)
    elif field.message_type is None:
        setattr(target, to, getattr(value, "value", value))
    elif isinstance(value, Message):
        _merge(value, getattr(target, to))
    else:
        getattr(target, to).value = value


def update(source: Message, target: Message, paths: Iterable[str]) -> None:
    """Replace what an update mask names by the request's values; a value that is not set clears the field."""
    for path in paths:
        _replace(source, target, path)


def _replace(source: Message, target: Message, path: str) -> None:
    name, _, rest = path.partition(".")
    to = carried_name(name, target)
    if to is None:
        return
    field = target.DESCRIPTOR.fields_by_name[to]
    if rest and field.message_type is not None and not field.is_repeated:
        _replace(getattr(source, name), getattr(target, to), rest)
        return
    target.ClearField(to)
    if not source.DESCRIPTOR.fields_by_name[name].has_presence or source.HasField(name):
        carry_field(source, name, target)


def _extend(values: Any, target: Any, field: Any) -> None:
    if field.message_type is None:
        target.extend(values)
    elif not field.message_type.GetOptions().map_entry:
        for value in values:
            _merge(value, target.add())
    elif field.message_type.fields_by_name["value"].message_type is None:
        target.update(values)
    else:
        for key, value in values.items():
            _merge(value, target[key])


def _merge(source: Message, target: Message) -> None:
    """Carry a message into a field; an empty one is set, too."""
    target.SetInParent()
    if source.DESCRIPTOR is target.DESCRIPTOR:
        target.MergeFrom(source)
        return
    shown = [name for name in ("effective_config", "user_config") if name in target.DESCRIPTOR.fields_by_name]
    for name in shown:  # settings of a database: what was asked for beside what is in force
        getattr(target, name).MergeFrom(source)
    if not shown:
        carry(source, target)
