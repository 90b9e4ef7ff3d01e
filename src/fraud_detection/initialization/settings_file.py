"""The settings file that `init` writes: names and values, each guess with its reason as a comment."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

_WIDTH, _LONGEST = 46, 125


@dataclass(frozen=True)
class Entry:
    """One setting, or a comment of its own where it has no name."""

    name: str
    value: object = None
    why: str = ""


@dataclass
class Section:
    """A section of the file with its entries; sections may lie in it."""

    name: str
    why: str = ""
    entries: "list[Entry | Section]" = field(default_factory=list)

    def add(self, name: str, value: object, why: str = "") -> None:
        """Add a setting."""
        self.entries.append(Entry(name, value, why))

    def remark(self, text: str) -> None:
        """Add a comment on a line of its own."""
        self.entries.append(Entry("", why=" ".join(text.split())))


def render(head: Iterable[str], sections: Iterable[Section]) -> str:
    """The text of the file."""
    lines = [f"# {line}".rstrip() for line in head]
    for section in sections:
        if section.entries:
            lines += ["", *_section(section, "")]
    return "\n".join(lines) + "\n"


def scalar(value: object) -> str:
    """A value in YAML's flow style, which JSON is; plain words are not quoted."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, str) and _is_plain(value):
        return value
    return json.dumps(value, ensure_ascii=False)


_SPECIAL = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "~", ""}


def _is_plain(text: str) -> bool:
    """Whether YAML reads the bare text as this text."""
    bare = text.replace("_", "").replace("-", "")
    return (
        bare.isascii() and bare.isalnum() and bare[:1].isalpha() and text[0].isalpha() and text.lower() not in _SPECIAL
    )


def _section(section: Section, indent: str) -> list[str]:
    lines = [f"{indent}# {section.why}"] if section.why else []
    lines.append(f"{indent}{section.name}:")
    inner = f"{indent}  "
    for entry in section.entries:
        if isinstance(entry, Section):
            lines += _section(entry, inner) if entry.entries else []
        elif not entry.name:
            lines.append(f"{inner}# {entry.why}")
        else:
            lines += _entry(entry, inner)
    return lines


def _entry(entry: Entry, indent: str) -> list[str]:
    """The setting with its reason behind it, or before it where the line is long."""
    text = f"{indent}{entry.name}: {scalar(entry.value)}"
    if not entry.why:
        return [text]
    line = f"{text:<{_WIDTH}}  # {entry.why}"
    return [line] if len(line) <= _LONGEST else [f"{indent}# {entry.why}", text]
