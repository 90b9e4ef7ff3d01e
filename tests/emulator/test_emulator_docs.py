"""`docs/emulator.md` documents every command, option, fault, setting and event."""

from pathlib import Path

import click
import pytest
from fakes.emulated_cloud import documented_events, emulated

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


def test_every_documented_event_of_a_job_is_logged(tmp_path: Path) -> None:
    """Fails when a test waits for an event that the documentation names and the emulator does not log."""
    with emulated(tmp_path / "state") as api:
        api.emulator.add_fault("create-slow", seconds=0.1)
        cluster = api.create_cluster()
        _, operation = api.create_job(cluster.id)
        api.done(operation)
        api.delete_cluster(cluster.id)
        api.emulator.clear_faults()
        seen = {event["event"] for event in api.emulator.events()}
    # The first two need a real job, or a request of their kind, the last an S3 server.
    assert documented_events() - seen <= {"metadata-token", "note", "object"}
