"""Checks any request against the rules that the API's own description carries.

Yandex Cloud writes its documented limits into the protobuf descriptors as options (`yandex.cloud.required`, `length`,
`pattern`, `value`, `size`, `unique`, `map_key`, `bytes`, `exactly_one`); this module reads and enforces them. Patterns
must match the whole text. A rule such as `<=50`, `1-63` or `1m-10m` is a range; `a,b,c` is a list of values.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from yandex.cloud import validation_pb2

from emulator.errors import Violation

# google.protobuf's descriptors: classes that differ between its implementations.
FieldDescriptor = Any
OneofDescriptor = Any

_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER = r"-?\d+(?:\.\d+)?[smhd]?"


def violations(message: Message, path: str = "") -> list[Violation]:
    """Every broken rule of a message and of the messages in it."""
    found = [violation for oneof in message.DESCRIPTOR.oneofs for violation in _check_oneof(message, oneof, path)]
    for descriptor in message.DESCRIPTOR.fields:
        found.extend(_check_field(message, descriptor, _join(path, descriptor.name)))
    return found


def in_range(rule: str, number: float) -> bool:
    """Whether a number keeps a rule: `>0`, `<=50`, `1-63`, `1m-10m` (seconds), `8,16`, or one number.

    Raises ValueError for a rule that cannot be read: no server starts with a rule that it does not enforce.
    """
    text = rule.strip()
    if "," in text:
        return any(in_range(part, number) for part in text.split(","))
    if match := re.fullmatch(rf"(<=|>=|<|>)\s*({_NUMBER})", text):
        bound = _number(match[2])
        return {"<=": number <= bound, ">=": number >= bound, "<": number < bound, ">": number > bound}[match[1]]
    if match := re.fullmatch(rf"({_NUMBER})\s*-\s*({_NUMBER})", text):
        return _number(match[1]) <= number <= _number(match[2])
    return number == _number(text)


def _number(text: str) -> float:
    return float(text[:-1]) * _UNIT_SECONDS[text[-1]] if text[-1] in _UNIT_SECONDS else float(text)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _check_oneof(message: Message, oneof: OneofDescriptor, path: str) -> Iterator[Violation]:
    if oneof.GetOptions().Extensions[validation_pb2.exactly_one] and message.WhichOneof(oneof.name) is None:
        names = ", ".join(member.name for member in oneof.fields)
        yield Violation(_join(path, oneof.name), f"exactly one of {names} is required")


def _check_field(message: Message, descriptor: FieldDescriptor, path: str) -> Iterator[Violation]:
    if _is_map(descriptor):
        yield from _check_map(getattr(message, descriptor.name), descriptor, path)
    elif descriptor.is_repeated:
        yield from _check_list(getattr(message, descriptor.name), descriptor, path)
    elif descriptor.has_presence and not message.HasField(descriptor.name):
        if _option(descriptor, validation_pb2.required):
            yield Violation(path, "is required")
    else:
        yield from _check_single(getattr(message, descriptor.name), descriptor, path)


def _check_single(value: Any, descriptor: FieldDescriptor, path: str) -> Iterator[Violation]:
    if _option(descriptor, validation_pb2.required) and not isinstance(value, Message) and not value:
        yield Violation(path, "is required")
    else:
        yield from _check_value(value, descriptor, path)


def _check_list(values: Iterable[Any], descriptor: FieldDescriptor, path: str) -> Iterator[Violation]:
    items = list(values)
    yield from _check_size(len(items), descriptor, path)
    if _option(descriptor, validation_pb2.unique) and len({repr(item) for item in items}) < len(items):
        yield Violation(path, "values must be unique")
    for index, item in enumerate(items):
        yield from _check_value(item, descriptor, f"{path}[{index}]")


def _check_map(values: Mapping[Any, Any], descriptor: FieldDescriptor, path: str) -> Iterator[Violation]:
    yield from _check_size(len(values), descriptor, path)
    key_rule = _option(descriptor, validation_pb2.map_key)
    value_descriptor = descriptor.message_type.fields_by_name["value"]
    for key, value in values.items():
        at = f"{path}[{key}]"
        yield from _check_text(str(key), f"key of {at}", key_rule.pattern, key_rule.length)
        if isinstance(value, Message):
            yield from violations(value, at)
        else:
            yield from _check_value(value, value_descriptor, at, rules=descriptor)


def _check_size(size: int, descriptor: FieldDescriptor, path: str) -> Iterator[Violation]:
    if _option(descriptor, validation_pb2.required) and not size:
        yield Violation(path, "is required")
    rule = _option(descriptor, validation_pb2.size)
    if rule and not in_range(rule, size):
        yield Violation(path, f"has {size} elements; must have {rule}")


def _check_value(
    value: Any, descriptor: FieldDescriptor, path: str, rules: FieldDescriptor | None = None
) -> Iterator[Violation]:
    """One value; `rules` is the field whose options hold for it (a map's, for the map's values)."""
    rules = rules or descriptor
    if isinstance(value, Duration):
        yield from _check_number(value.seconds + value.nanos / 1e9, rules, path)
    elif isinstance(value, Message):
        yield from violations(value, path)
    elif isinstance(value, str):
        yield from _check_text(
            value, path, _option(rules, validation_pb2.pattern), _option(rules, validation_pb2.length)
        )
    elif isinstance(value, bytes):
        rule = _option(rules, validation_pb2.bytes) or _option(rules, validation_pb2.length)
        if rule and not in_range(rule, len(value)):
            yield Violation(path, f"has {len(value)} bytes; must have {rule}")
    elif descriptor.enum_type is not None:
        if value not in descriptor.enum_type.values_by_number:
            yield Violation(path, f"unknown value {value}")
    else:
        yield from _check_number(value, rules, path)


def _check_number(value: float, rules: FieldDescriptor, path: str) -> Iterator[Violation]:
    rule = _option(rules, validation_pb2.value)
    if rule and not in_range(rule, value):
        yield Violation(path, f"is {value:g}; must be {rule}")


def _check_text(value: str, path: str, pattern: str, length: str) -> Iterator[Violation]:
    if length and not in_range(length, len(value)):
        yield Violation(path, f"is {len(value)} characters long; must be {length}")
    if pattern and not _compiled(pattern).fullmatch(value):
        yield Violation(path, f"does not match the pattern {pattern}")


def _is_map(descriptor: FieldDescriptor) -> bool:
    return descriptor.message_type is not None and bool(descriptor.message_type.GetOptions().map_entry)


def _option(descriptor: FieldDescriptor, extension: Any) -> Any:
    return descriptor.GetOptions().Extensions[extension]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
