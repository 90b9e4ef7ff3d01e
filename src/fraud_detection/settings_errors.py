"""What is wrong with a settings file, in the words of the file: the setting, what was expected and what was found."""

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import date
from enum import Enum
from typing import Any

from pydantic import BaseModel, ValidationError

from fraud_detection.masking import mask

_CLOSE = 0.7  # of 1: how alike two names are of which one is suggested for the other
_LONGEST = 200
_NAME = re.compile(r"[\w.-]{1,100}")  # anything else may hold a password
_KINDS = (
    ("int_", "an integer"),
    ("float_", "a number"),
    ("bool_", "true or false"),
    ("datetime_", "a date, such as 2026-12-20, or a time, such as 2026-12-20T12:00"),
    ("date_", "a date, such as 2026-12-20"),
    ("timezone_", "a date, such as 2026-12-20, or a time, such as 2026-12-20T12:00"),
    ("string_type", "a text"),
    ("string_unicode", "a text"),
    ("tuple_type", "a list, such as [a, b]"),
    ("model_", "a section: names with values"),
    ("finite_number", "a finite number"),
)
"""By the beginning of pydantic's name of an error: what was expected. The first that fits counts."""
_RELATIONS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def broken_rules(error: ValidationError, model: type[BaseModel], removed: Mapping[str, str]) -> list[str]:
    """Each broken rule in one line, `setting: problem (found value)`; forms of one setting's value are one rule.

    Args:
        error: of the validation.
        model: that was validated.
        removed: settings of earlier releases, by their dotted names, with what to set instead.
    """
    found: dict[tuple[str, str], None] = {}
    for one in error.errors():
        path, is_form = _setting(model, one["loc"])
        where = ".".join(_shown_name(part) for part in path) or "file"
        if one["type"] == "extra_forbidden" and where in removed:
            problem = f"this setting was removed; {removed[where]}"
        elif is_form:  # pydantic reports each form that a value may have
            problem = "expected the name of a column, or a list of names, such as [DATE, TIME]"
        else:
            problem = _problem(one, path, model)
        found[(where, f"{problem}{'' if is_form else _found(one)}")] = None
    return [f"{where}: {problem}" for where, problem in found]


def _setting(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[tuple[int | str, ...], bool]:
    """The part of a location that a settings file has, and whether pydantic added one of several forms to it."""
    section: type[BaseModel] | None = model
    for place, part in enumerate(location):
        if isinstance(part, int):
            continue
        if section is None:
            return location[:place], True
        section = _section_of(section, part) if part in _names(section) else None
    return location, False


def _names(section: type[BaseModel]) -> dict[str, str]:
    """The names of a section's settings in a file, with those of its fields."""
    return {field.alias or name: name for name, field in section.model_fields.items()}


def _section_of(section: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section that a setting is, or that its list consists of."""
    waiting = [section.model_fields[_names(section)[name]].annotation]
    while waiting:
        kind: Any = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        waiting += getattr(kind, "__args__", ())
    return None


def _problem(one: Mapping[str, Any], path: tuple[int | str, ...], model: type[BaseModel]) -> str:
    kind, context = one["type"], one.get("ctx", {})
    if kind == "extra_forbidden":
        return f"there is no such setting{_meant(str(path[-1]), _known(model, path[:-1]), path[:-1])}"
    if kind == "missing":
        return "a value is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "invalid_key":
        return "expected the name of a setting"
    if kind == "enum":
        words = str(context["expected"]).replace("'", "")
        near = difflib.get_close_matches(str(one["input"]).lower(), re.split(", | or ", words), n=1, cutoff=_CLOSE)
        return f"expected {words}" + (f"; did you mean {near[0]}?" if near else "")
    if kind in _RELATIONS:
        key, relation = _RELATIONS[kind]
        return f"expected {relation} {context[key]}"
    if kind in {"too_short", "too_long"}:
        limit = "at least" if kind == "too_short" else "at most"
        return f"expected {limit} {context.get('min_length', context.get('max_length'))} value(s)"
    if kind == "string_pattern_mismatch":
        return "expected letters, digits, _ and - alone"
    expected = next((words for start, words in _KINDS if kind.startswith(start)), None)
    return f"expected {expected}" if expected else str(one["msg"]).replace("Input should be", "expected")


def _known(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The dotted names of all settings, those of the section at `path` first."""
    start = ".".join(part for part in path if isinstance(part, str))
    return sorted(_all_names(model, ""), key=lambda name: name.rpartition(".")[0] != start)


def _all_names(section: type[BaseModel], before: str) -> Iterator[str]:
    for name in _names(section):
        yield f"{before}{name}"
        inner = _section_of(section, name)
        if inner is not None:
            yield from _all_names(inner, f"{before}{name}.")


def _meant(name: str, known: list[str], path: tuple[int | str, ...]) -> str:
    """The known setting whose name is nearest; of equally near ones that of the same section."""
    section = ".".join(part for part in path if isinstance(part, str))
    last = {full: full.rpartition(".")[2] for full in known}
    inside = [short for full, short in last.items() if full.rpartition(".")[0] == section]
    plain = _plain(name)
    for names in (inside, list(dict.fromkeys(last.values()))):
        near = difflib.get_close_matches(plain, list(map(_plain, names)), n=1, cutoff=_CLOSE)
        if near:
            return f"; did you mean {_full(near[0], last, section)}?"
    return ""


def _full(plain: str, last: Mapping[str, str], section: str) -> str:
    alike = [full for full, short in last.items() if _plain(short) == plain]
    return next((full for full in alike if full.rpartition(".")[0] == section), alike[0])


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.casefold())


def _shown_name(part: int | str) -> str:
    return str(part) if _NAME.fullmatch(str(part)) else "…"


def _found(one: Mapping[str, Any]) -> str:
    """The value as YAML writes it; of lists and sections only that they are some."""
    value = one["input"]
    if one["type"] in {"missing", "invalid_key"} or (one["type"] == "value_error" and isinstance(value, dict)):
        return ""
    return f" (found {_shown(value)})"


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, int | float | date):
        return str(value)
    if isinstance(value, str):
        text = mask(value)
        return f'"{text}"' if len(text) <= _LONGEST else f'"{text[:_LONGEST]}…"'
    if isinstance(value, dict | BaseModel):
        return "a section"
    if isinstance(value, list | tuple | set | frozenset):
        return f"a list of {len(value)}"
    return "binary data" if isinstance(value, bytes) else "a value"
