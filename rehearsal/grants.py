"""Which grant is needed for what, from the decisions in the emulator's event log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Use:
    """One access binding, and the permissions that calls needed it for."""

    subject: str
    role: str
    on: str
    alone: tuple[str, ...]
    """Permissions that no other binding would have allowed: without it those calls fail."""
    shared: tuple[str, ...]
    """Permissions that another binding allows, too."""

    @property
    def is_needed(self) -> bool:
        return bool(self.alone)


def uses(grants: Iterable[Mapping[str, str]], events: Iterable[Mapping[str, Any]]) -> list[Use]:
    """Each binding with what it was used for; `events` are those of the log."""
    alone: dict[tuple[str, str, str], set[str]] = {}
    shared: dict[tuple[str, str, str], set[str]] = {}
    for event in events:
        for decision in event.get("allowed", ()):
            found = [(grant["subject"], grant["role"], grant["on"]) for grant in decision["grants"]]
            for key in found:
                (alone if len(found) == 1 else shared).setdefault(key, set()).add(decision["permission"])
    keys = [(grant["subject"], grant["role"], grant["on"]) for grant in grants]
    return [Use(*key, tuple(sorted(alone.get(key, ()))), tuple(sorted(shared.get(key, ())))) for key in keys]
