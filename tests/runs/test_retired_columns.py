"""A column that the champion reads disappears from the data: people decide, and retraining can go on."""

import re
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import AS_OF, SETTINGS, Job

from fraud_detection.cli import main

EXTRA = {
    "label_available_at": "label_available_at",
    "extra_numeric": ["V1"],
    "extra_categorical": ["channel"],
}
WITHOUT = {"label_available_at": "label_available_at", "terminal_id": None}
LATER = (AS_OF + timedelta(hours=1)).isoformat()


def _settings(columns: dict[str, Any], retired: tuple[str, ...] = ()) -> dict[str, Any]:
    easy = {**SETTINGS["comparison"], "first_champion_floor": 1, "risk": 0.4}
    trusted = {"trust_past_evidence": True}
    return {
        **SETTINGS,
        "comparison": easy,
        "promotion": trusted,
        "data": {"columns": columns, "retired_columns": list(retired)},
    }


@pytest.fixture
def extended(transactions: Path, tmp_path: Path) -> Path:
    """The transactions with two columns of their own."""
    folder = tmp_path / "extended"
    folder.mkdir()
    rows = pq.read_table(transactions)
    channel = pc.if_else(pc.greater(rows["amount"], 40), "web", "shop")
    rows = rows.append_column("V1", pc.multiply(rows["amount"], 0.5)).append_column("channel", channel)
    pq.write_table(rows, folder / "all.parquet")
    return folder


def test_a_column_that_the_champion_reads_is_gone(job: Job, extended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the message does not name the setting and command to go on with, or a model is trained first."""
    job(input=extended, settings=_settings(EXTRA))

    def paid(*_: object) -> None:
        raise AssertionError("a challenger was trained in vain")

    monkeypatch.setattr("fraud_detection.runs.training.fit", paid)
    ran = job(json=True, input=extended, settings=_settings(WITHOUT), as_of=LATER)
    assert ran.exit_code == 1
    message = ran.json["error"]
    assert "the schema changed: version 1, the champion, was trained with V1, channel, terminal_id" in message
    assert "data.retired_columns: [V1, channel, terminal_id]" in message
    assert "terminal_count_1d" in message
    assert "fraud-detection retire-champion" in message


def test_a_champion_is_scored_without_a_retired_column(job: Job, extended: Path, tmp_path: Path) -> None:
    """Fails when a declared change of the schema still ends the run, or the decision does not mention it."""
    whole = job(json=True, input=extended, settings=_settings(EXTRA)).json
    same = job(json=True, input=extended, settings=_settings(EXTRA), as_of=LATER, output=tmp_path / "output").json
    later = (AS_OF + timedelta(hours=2)).isoformat()
    declared = _settings(WITHOUT, ("terminal_id", "V1", "channel"))
    ran = job(json=True, input=extended, settings=declared, as_of=later)
    assert ran.exit_code == 0, ran.stderr
    found = ran.json
    assert (found["champion_version"], found["retired_version"]) == (whole["version"], None)
    assert found["champion"]["average_precision"] != same["champion"]["average_precision"]
    warnings = [warning for warning in found["warnings"] if "retired column" in warning]
    assert [warning.split()[-1] for warning in warnings] == ["V1", "channel", "terminal_id"]
    assert "retired column terminal_id" in ran.stderr


def test_a_successor_starts_after_the_retirement(job: Job, extended: Path) -> None:
    """Fails when the command in the message does not lead to a champion for the new data."""
    job(input=extended, settings=_settings(EXTRA))
    message = job(json=True, input=extended, settings=_settings(WITHOUT), as_of=LATER).json["error"]
    (command,) = re.findall(r'fraud-detection (retire-champion [^;]*--reason "…")', message)
    retired = CliRunner().invoke(main, shlex.split(command), catch_exceptions=False)
    assert retired.exit_code == 0, retired.output
    found = job(json=True, input=extended, settings=_settings(WITHOUT), as_of=LATER).json
    assert (found["decision"], found["champion_version"], found["retired_version"]) == ("promoted", None, 1)
    assert "version 1 was retired by" in found["reason"]
    assert "first_champion_floor" in [check["name"] for check in found["checks"]]
    later = (AS_OF + timedelta(hours=2)).isoformat()
    following = job(json=True, input=extended, settings=_settings(WITHOUT), as_of=later).json
    assert following["champion_version"] == found["version"]


def test_a_column_missing_from_the_files_names_the_setting(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when the message names a missing column but not the setting to go on without it."""
    folder = tmp_path / "gone"
    folder.mkdir()
    pq.write_table(pq.read_table(transactions).drop_columns(["terminal_id"]), folder / "all.parquet")
    ran = job(json=True, input=folder)
    assert ran.exit_code == 65
    assert "missing column: terminal_id\n" in ran.json["error"]
    assert "data.retired_columns: [terminal_id]" in ran.json["error"]


@pytest.mark.parametrize("columns", [{}, {"terminal_id": None, "extra_numeric": ["V1"]}])
def test_a_retired_column_that_is_mapped_is_a_wrong_setting(job: Job, columns: dict[str, Any]) -> None:
    """Fails when two settings contradict each other and one of them silently wins."""
    ran = job(settings=_settings(columns, ("terminal_id", "V1")))
    assert ran.exit_code == 2
    assert "retired_columns lists" in ran.stderr
