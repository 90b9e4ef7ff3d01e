"""An output folder in which a weak champion serves and a better candidate is due for its look, and what it decides."""

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from conftest import AS_OF, SETTINGS

from fraud_detection.cli import main

NAME = "fraud_detection"
EASY = {
    **SETTINGS,
    "comparison": {**SETTINGS["comparison"], "first_champion_floor": 1, "risk": 0.4},
    "promotion": {"trust_past_evidence": True},
}
WEAK = {**EASY, "training": {**SETTINGS["training"], "trees": 1, "max_depth": 1}}
BACKFILLED = "2026-02-22T00:00:00Z"
"""The label cut-off of the candidate that is looked at at AS_OF."""


def later(hours: int) -> str:
    """An as-of time."""
    return (AS_OF + timedelta(hours=hours)).isoformat()


def first_champion(folder: Path, settings: dict[str, Any], transactions: Path) -> Path:
    """An output folder in which a version 1 serves that these settings have trained, 192 hours before AS_OF."""
    config = folder / "retraining.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    options = {"--config": config, "--output": folder / "output", "--input": transactions, "--as-of": later(-192)}
    words = [str(word) for option in options.items() for word in option]
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        ran = CliRunner().invoke(main, ["retrain", *words], catch_exceptions=False)
    assert "PROMOTED as v1" in ran.output, ran.output
    return folder / "output"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, transactions: Path) -> Path:
    """An output folder in which a weak version 1 serves; at AS_OF a candidate has frauds for a look, and passes it."""
    return first_champion(tmp_path_factory.mktemp("weak-champion"), WEAK, transactions)


@pytest.fixture
def output(tmp_path: Path, template: Path) -> Path:
    """A copy of the template, where the fixture `job` works; its artifacts are shared."""
    return copy(template, tmp_path / "output")


def copy(template: Path, folder: Path) -> Path:
    """A copy of an output folder whose artifacts stay where they are."""
    folder.mkdir()
    shutil.copy(template / "mlflow.db", folder)
    shutil.copytree(template / "decisions", folder / "decisions")
    return folder


@pytest.fixture(scope="session")
def expected(template: Path, tmp_path_factory: pytest.TempPathFactory, transactions: Path) -> dict[str, Any]:
    """The decision at AS_OF of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    copy(template, folder / "output")
    (folder / "retraining.yaml").write_text(yaml.safe_dump(EASY), encoding="utf-8")
    options = {"config": folder / "retraining.yaml", "output": folder / "output", "input": transactions}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        CliRunner().invoke(main, ["retrain", *words, "--as-of", AS_OF.isoformat()], catch_exceptions=False)
    return decided(folder / "output")


def decided(output: Path, at: datetime = AS_OF) -> dict[str, Any]:
    """The logged decision, without what differs between two runs that decide alike."""
    found: dict[str, Any] = entry(output, f"{at:%Y%m%dT%H%M%SZ}")
    for of_the_run in ("seconds", "run_id", "decided_at", "committed_at", "report", "previous_entry"):
        found.pop(of_the_run)
    return found


def entry(output: Path, name: str) -> dict[str, Any]:
    """An entry of the decision log."""
    found: dict[str, Any] = json.loads((output / "decisions" / NAME / f"{name}.json").read_text(encoding="utf-8"))
    return found


def opening_of(output: Path) -> dict[str, Any]:
    """What the run at AS_OF has opened."""
    return entry(output, f"{AS_OF:%Y%m%dT%H%M%SZ}-opening")
