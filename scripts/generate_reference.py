"""Generate the reference pages of commands and settings from the code: `make reference`."""

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import click
import yaml
from pydantic import BaseModel
from reference_pages import ROOT, table, write_pages

sys.path.insert(0, str(ROOT))

from emulator.cli import main as emulator
from emulator.settings import Settings as EmulatorSettings
from fraud_detection.cli import main as fraud_detection
from fraud_detection.settings import Settings
from local_stack.cli import main as local_stack

PROGRAMS = {
    "fraud-detection": fraud_detection,
    "python -m emulator": emulator,
    "python -m local_stack": local_stack,
}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
TYPES = {
    "span": "days or text such as `12h`",
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "null": "null",
}
COMMANDS_INTRO = """\
# Command-line reference

Generated from the code by `make reference`. What the commands mean together, exit codes and JSON: [cli.md](cli.md). The
emulator: [emulator.md](emulator.md). `python -m local_stack` is what `make up` and its kind call:
[local_stack.md](local_stack.md). `make help` lists the targets of the Makefile.
"""
SETTINGS_INTRO = """\
# Settings reference

Generated from the code by `make reference`. Unknown and repeated names are refused. Secrets are not settings.
[../.env.example](../.env.example) lists the settings of the local stack and of the deployment;
[orchestration.md](orchestration.md#settings) those of the DAGs.
"""


def commands_page() -> str:
    """Every command with its arguments and options."""
    parts = [COMMANDS_INTRO]
    for program, group in PROGRAMS.items():
        parts.append(f"## `{program}`\n\n{group.help}\n")
        parts += [_command(program, command) for command in commands(group) if not command.hidden]
    return "\n".join(parts)


def settings_page() -> str:
    """Every setting of a run and of the emulator."""
    run = _settings(Settings, "## A retraining run: `--config` of `fraud-detection`")
    cloud = _settings(EmulatorSettings, "## The emulator: `--config` of `python -m emulator`")
    return "\n".join([SETTINGS_INTRO, *run, *cloud])


def commands(group: click.Group) -> list[click.Command]:
    """The commands of a group by name, also those that other packages register."""
    context = click.Context(group)
    found = (group.get_command(context, name) for name in group.list_commands(context))
    return [command for command in found if command is not None]


def _settings(model: type[BaseModel], title: str) -> Iterator[str]:
    schema = model.model_json_schema()
    return _section(schema, schema["$defs"], "", title)


def _command(program: str, command: click.Command) -> str:
    rows = [_parameter(parameter) for parameter in command.params]
    options = table(("option", "value", "default", ""), rows)
    return f"### `{program} {command.name}`\n\n{inspect.cleandoc(command.help or '')}\n{options}"


def _parameter(parameter: click.Parameter) -> tuple[str, str, str, str]:
    if isinstance(parameter, click.Argument):
        required = "required" if parameter.required else ""
        return f"`{(parameter.name or '').upper()}`", _value(parameter.type), required, ""
    flag = getattr(parameter, "is_flag", False)
    names = " / ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    text, _, stated = (getattr(parameter, "help", None) or "").partition("  [default: ")
    found = parameter.to_info_dict()["default"]
    default = "" if flag or found is None else f"`{found}`"
    names = " / ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.envvar:
        text = f"{text.rstrip('.')}. Environment: `{parameter.envvar}`."
    required = "required" if parameter.required else ""
    return names, "" if flag else _value(parameter.type), stated.rstrip("]") or default or required, text


def _value(kind: click.ParamType[Any]) -> str:
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    if isinstance(kind, click.DateTime):
        return "date" if "%H" not in kind.formats[0] else "time"
    if isinstance(kind, click.IntRange | click.FloatRange):
        return f"{kind.name.removesuffix(' range')}, {_limits(kind)}"
    return kind.name


def _limits(kind: click.IntRange | click.FloatRange) -> str:
    return ", ".join(f"{sign} {bound:,}" for sign, bound in (("≥", kind.min), ("≤", kind.max)) if bound is not None)


def _section(schema: dict[str, Any], definitions: dict[str, Any], prefix: str, title: str) -> Iterator[str]:
    """A table of the plain settings of a section, then its sections; from pydantic's JSON schema."""
    properties: dict[str, dict[str, Any]] = schema["properties"]
    sections = {name: found for name, field in properties.items() if (found := _reference(field, definitions))}
    rows = [
        (f"`{prefix}{name}`", _kind(field, definitions), _default(field), field.get("description", ""))
        for name, field in properties.items()
        if name not in sections
    ]
    yield f"{title}\n\n{schema['description']}\n{table(('setting', 'type', 'default', ''), rows)}"
    for name, found in sections.items():
        suffix = "[]" if properties[name].get("type") == "array" else ""
        default = "" if _default(properties[name]) != "`null`" else " (default: `null`)"
        path = f"{prefix}{name}{suffix}"
        yield from _section(definitions[found], definitions, f"{path}.", f"### `{path}`{default}")


def _reference(field: dict[str, Any], definitions: dict[str, Any]) -> str | None:
    """The section that a setting holds: alone, optional or in a list."""
    for schema in (field, *field.get("anyOf", ()), field.get("items", {})):
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name and "properties" in definitions[name]:
            return name
    return None


def _kind(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_kind(each, definitions) for each in field["anyOf"])
    if "$ref" in field:
        return _kind(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        items = field.get("items") or field["prefixItems"][0]
        return f"list of {_kind(items, definitions)}"
    name = field["format"] if field.get("format") in ("path", "date", "date-time") else TYPES[field["type"]]
    limits = [f"{sign} {_number(field[key])}" for key, sign in LIMITS.items() if key in field]
    return ", ".join([name, *limits]) + (f", `{field['pattern']}`" if "pattern" in field else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else str(value)


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "required"
    text = yaml.safe_dump(field["default"], default_flow_style=True, width=1000)
    return f"`{text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}`"


PAGES = {"docs/reference_cli.md": commands_page, "docs/reference_settings.md": settings_page}


if __name__ == "__main__":
    write_pages(PAGES)
