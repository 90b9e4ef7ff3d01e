"""`docs/emulator.md` documents every command, option, fault, setting and event."""

import re
from pathlib import Path

import click
import pytest

from emulator.cli import main
from emulator.faults import FaultKind

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_command_and_option_is_documented(verb: str) -> None:
    """Fails when a command or option of the emulator cannot be found in its documentation."""
    assert f"python -m emulator {verb}" in TEXT
    for parameter in main.commands[verb].params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in TEXT, parameter.opts[0]


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_is_documented(kind: FaultKind) -> None:
    """Fails when a fault of the emulator cannot be found in its documentation."""
    assert f"| `{kind.value}` |" in TEXT


def test_every_event_is_documented() -> None:
    """Fails when the author of a test must guess which events the emulator logs."""
    sources = [path.read_text() for path in (ROOT / "emulator").rglob("*.py")]
    written = {kind for source in sources for kind in re.findall(r'events\.write\(\s*"([a-z-]+)"', source)}
    assert written
    assert [kind for kind in sorted(written) if f"`{kind}`" not in TEXT] == []
