"""The commands named in the registry's messages are complete and fit the state of the registry."""

import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fakes.registry import NAME, T0, T1, World, publish, world

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry import Registry
from fraud_detection.registry.aliases import PIN_TAG
from fraud_detection.schema import Outcome

COMMAND = re.compile(r"fraud-detection (?:rollback|unpin|retire-champion|accept-log|retrain)[^;]*")

_NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "FRAUD_DETECTION_USER", "MLFLOW_TRACKING_URI")

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="module")
def _two(tmp_path_factory: pytest.TempPathFactory) -> World:
    here = world(tmp_path_factory.mktemp("two"))
    here.record(Outcome.PROMOTED, T0, seed=0)
    here.record(Outcome.PROMOTED, T1, seed=1)
    return here


@pytest.fixture
def two(tmp_path: Path, _two: World) -> World:
    """Version 2 serves, version 1 served before it."""
    here = world(tmp_path, _two)
    here.registry = Registry(
        here.tracking_uri,
        NAME,
        here.log,
        leases=here.leases,
        publish=publish,
        config="my settings.yaml",
        output=str(here.output),
    )
    return here


def _champion_without_tags(here: World) -> None:
    here.client.delete_model_version_tag(NAME, "2", "sha256")
    here.registry.champion()


def _rollback_to_one_without_tags(here: World) -> None:
    here.client.delete_model_version_tag(NAME, "1", "sha256")
    here.registry.rollback(None, "worse", "anna")


def _rollback_twice(here: World) -> None:
    here.registry.rollback(None, "worse", "anna")
    here.registry.rollback(None, "still worse", "anna")


def _rollback_without_previous(here: World) -> None:
    here.client.delete_registered_model_alias(NAME, "previous_champion")
    here.registry.rollback(None, "worse", "anna")


def _garbled_tag(here: World) -> None:
    here.client.set_registered_model_tag(NAME, PIN_TAG, "yes please")
    here.registry.pinned()


def _retire_twice(here: World) -> None:
    here.registry.retire(2, "gone", "anna")
    here.registry.retire(2, "gone for good", "anna")


def _retire_another(here: World) -> None:
    here.registry.retire(1, "gone", "anna")


@pytest.mark.parametrize(
    "harm",
    [
        _champion_without_tags,
        _rollback_to_one_without_tags,
        _rollback_twice,
        _rollback_without_previous,
        _garbled_tag,
        _retire_twice,
        _retire_another,
    ],
)
def test_a_named_command_finds_this_registry(two: World, harm: Callable[[World], None]) -> None:
    """Fails when a command in a message acts on the default folder and settings, and so on another model or none."""
    with pytest.raises(FraudDetectionError) as raised:
        harm(two)
    commands = COMMAND.findall(str(raised.value))
    assert commands, raised.value
    for command in commands:
        words = shlex.split(command)
        options = {"--config": "my settings.yaml", "--output": str(two.output), "--tracking-uri": two.tracking_uri}
        for option, value in options.items():
            assert option in words, f"{option} is missing: {command}"
            assert words[words.index(option) + 1] == value
        assert ("--reason" in words) is (words[1] != "retrain"), f"cannot be run as shown: {command}"


def test_an_unloadable_target_of_a_rollback_does_not_name_it_for_retirement(two: World) -> None:
    """Fails when the message proposes to retire the rollback's target instead of the champion."""
    with pytest.raises(FraudDetectionError) as raised:
        _rollback_to_one_without_tags(two)
    assert "retire-champion" in str(raised.value)
    assert "--version 2" in str(raised.value)
    assert "--version 1" not in str(raised.value)


_NOBODY = """
import os, pwd
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from fraud_detection.cli import main
main()
"""


@pytest.mark.slow
def test_a_user_without_name_and_home_can_use_the_command_line(tmp_path: Path) -> None:
    """Fails when every command that opens MLflow ends in a stack trace in a container whose user has no name."""
    (tmp_path / "settings.yaml").touch()
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "notes.txt").touch()
    words = ["retire-champion", "--config", "settings.yaml", "--output", "output", "--version", "1", "--reason", "x"]
    without = {name: value for name, value in os.environ.items() if name not in _NAMES}
    done = subprocess.run(
        [sys.executable, "-c", _NOBODY, *words], cwd=tmp_path, env=without, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error       fraud_detection has no champion to retire"), done.stderr


def test_a_full_disk_under_mlflow_says_what_to_do(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the message about a full disk does not say what to do next."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/output/mlartifacts/model.ubj")

    monkeypatch.setattr(two.connection.client, "log_artifacts", full)
    with pytest.raises(FraudDetectionError, match=r"No space left on device.*make room on the disk, then run"):
        two.record(Outcome.REFUSED, T1 + timedelta(hours=1))
