"""`docs/emulator.md` tells all there is."""

import re
from pathlib import Path

import click
import pytest
import yaml
from pydantic import BaseModel

from emulator.cli import main
from emulator.faults import FaultKind
from emulator.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_command_and_option_is_documented(verb: str) -> None:
    """If this fails, a command exists that nobody can find."""
    assert f"python -m emulator {verb}" in TEXT
    for parameter in main.commands[verb].params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in TEXT, parameter.opts[0]


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_is_documented(kind: FaultKind) -> None:
    """If this fails, a fault exists that nobody can find."""
    assert f"| `{kind.value}` |" in TEXT


def test_the_documented_settings_are_all_the_settings_with_their_defaults() -> None:
    """If this fails, the documentation promises settings or defaults that are not there."""
    block = TEXT.split("Defaults:\n\n")[1].split("\n\n##")[0]
    documented = Settings.model_validate(yaml.safe_load(re.sub(r"^    ", "", block, flags=re.M)))
    assert documented == Settings()
    assert _names(Settings) <= set(re.findall(r"\w+", block))


def test_every_event_is_documented() -> None:
    """If this fails, a test that reads the log has to guess."""
    sources = [path.read_text() for path in (ROOT / "emulator" / "emulator").glob("*.py")]
    written = {kind for source in sources for kind in re.findall(r'events\.write\(\s*"([a-z-]+)"', source)}
    assert written
    assert [kind for kind in sorted(written) if f"`{kind}`" not in TEXT] == []


def _names(model: type[BaseModel]) -> set[str]:
    names = set(model.model_fields)
    for info in model.model_fields.values():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names |= _names(info.annotation)
    return names
