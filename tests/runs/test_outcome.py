"""The run outcome that a job leaves for the schedule; the DAG reads these fields."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import AS_OF, SETTINGS, Job
from factories import candidate_record, decision, look_record

from fraud_detection.runs.outcome import RunOutcome, record_run_outcome
from fraud_detection.schema import Difference, Outcome

SHARED = {"schema_version", "decision", "reason", "version", "as_of", "difference", "checks", "looks", "report"} | {
    "decided_at",
    "code_revision",
    "alarms",
    "drift",
}
FIELDS = SHARED | {"exit_code", "error", "retry", "completed", "retention", "scores"}


def _outcome(folder: Path, name: str = "run-1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "output" / "outcomes" / f"{name}.json").read_text())
    assert set(found) == FIELDS
    return found


def test_a_decision_is_recorded_for_the_scheduler(job: Job, tmp_path: Path) -> None:
    """Fails when the schedule cannot read the decision, and shows a green run without saying what it did."""
    ran = job(json=True, run_name="run-1")
    found = _outcome(tmp_path)
    for field in SHARED:
        assert found[field] == ran.json[field]
    assert (found["schema_version"], found["exit_code"], found["error"], found["retry"]) == (2, 0, None, False)
    [look] = found["looks"]
    assert (look["passed"], look["champion_version"]) == (True, None)
    assert found["difference"] == look["difference"]
    assert found["checks"][: len(look["checks"])] == look["checks"]  # those of the registration follow


def test_a_run_before_the_next_look_says_how_many_frauds_are_missing(job: Job, tmp_path: Path) -> None:
    """Fails when a run without a look is an error, or does not say what it waits for, or is repeated with another."""
    job()
    later = {**SETTINGS, "comparison": {**SETTINGS["comparison"], "first_look_frauds": 1000}}
    ran = job(json=True, run_name="run-1", settings=later, as_of=(AS_OF + timedelta(hours=1)).isoformat())
    assert ran.exit_code == 0, ran.stderr
    found = _outcome(tmp_path)
    assert (found["decision"], found["exit_code"], found["difference"], found["looks"]) == ("no_decision", 0, None, [])
    assert re.search(r"^\d+ of 1000 frauds for look 1 at the candidate of 2026-02-", found["reason"])
    assert f"NO DECISION · {found['reason']}" in ran.stderr
    assert len(ran.json["opened"]) == 2, "runs are rare here, so a backfilled candidate is opened, too"

    log = sorted(path.name for path in (tmp_path / "output" / "decisions" / "fraud_detection").iterdir())
    again = job(json=True, settings=later, as_of=(AS_OF + timedelta(hours=1)).isoformat())
    assert (again.exit_code, again.json["reason"]) == (0, found["reason"])
    early = job(json=True, settings=later, as_of=(AS_OF - timedelta(hours=1)).isoformat())
    assert (early.exit_code, early.json["decision"], early.json["looks"]) == (0, "no_decision", [])
    assert "is before 2026-03-01 01:00" in early.json["reason"]
    assert sorted(path.name for path in (tmp_path / "output" / "decisions" / "fraud_detection").iterdir()) == log


def test_difference_and_checks_are_those_of_the_look_with_the_largest_root(tmp_path: Path) -> None:
    """Fails when the schedule shows another look than the one that speaks most for its candidate, or an old one."""
    key = candidate_record(AS_OF - timedelta(days=9)).key
    looks = tuple(
        look_record(key, AS_OF, number, root=root, difference=Difference(value=value, low=0, high=1, confidence=0.95))
        for number, root, value in ((1, 0.2, 0.01), (2, 2.5, 0.03), (3, 1.1, 0.02))
    )
    shown = looks[1]
    with record_run_outcome(str(tmp_path / "output"), "run-1") as results:
        results.decision = decision(
            Outcome.REFUSED,
            AS_OF,
            1,
            schema_version=2,
            looks=looks,
            difference=shown.difference,
            checks=shown.checks,
        )
    found = _outcome(tmp_path)
    assert [look["root"] for look in found["looks"]] == [0.2, 2.5, 1.1]
    assert found["difference"]["value"] == 0.03
    assert [check["name"] for check in found["checks"]] == ["not_pinned"]


def test_outcomes_of_earlier_releases_are_read() -> None:
    """Fails when an upgrade cannot read how the last run of the release before it ended."""
    stored = {
        "decision": "refused",
        "reason": "no better",
        "version": None,
        "as_of": "2026-03-01T00:00:00Z",
        "difference": {"value": 0.01, "low": -0.02, "high": 0.04, "confidence": 0.99993},
        "report": "r.html",
        "exit_code": 0,
        "error": None,
        "retry": False,
    }
    found = RunOutcome.model_validate(stored)
    assert (found.schema_version, found.decision, found.looks, found.checks) == (1, Outcome.REFUSED, (), ())


@pytest.mark.slow
def test_a_repeated_run_records_the_same_decision(job: Job, tmp_path: Path) -> None:
    """Fails when a retry of a decided run reports another outcome to the schedule."""
    job(run_name="run-1")
    job(run_name="run-2")
    assert _outcome(tmp_path, "run-2") == _outcome(tmp_path, "run-1")


def test_wrong_settings_and_broken_data_are_not_worth_another_try(job: Job, tmp_path: Path) -> None:
    """Fails when the schedule retries a run that cannot succeed, and pays for a cluster each time."""
    assert job(run_name="run-1", settings={"windows": {"holdout_days": 0}}).exit_code == 2
    found = _outcome(tmp_path)
    assert (found["decision"], found["exit_code"], found["retry"]) == (None, 2, False)
    assert "holdout_days" in found["error"]
    (tmp_path / "empty").mkdir()
    assert job(run_name="run-2", input=tmp_path / "empty").exit_code == 65
    found = _outcome(tmp_path, "run-2")
    assert (found["decision"], found["exit_code"], found["retry"]) == (None, 65, False)
    assert "empty" in found["error"]


def test_a_service_that_cannot_be_reached_is_worth_another_try(job: Job, tmp_path: Path) -> None:
    """Fails when a restart of MLflow makes the schedule give up the hour."""
    assert job(run_name="run-1", tracking_uri="http://127.0.0.1:9").exit_code == 75
    found = _outcome(tmp_path)
    assert (found["decision"], found["exit_code"], found["retry"]) == (None, 75, True)


def test_a_defect_is_recorded_without_its_message(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a bug looks like a lost node and is retried, or its message reveals a secret."""

    def broken(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("fraud_detection.runs.retrain.retrain", broken)
    assert job(run_name="run-1").exit_code == 1
    found = _outcome(tmp_path)
    assert (found["exit_code"], found["retry"]) == (1, False)
    assert found["error"] == "RuntimeError; see the log of the job"


@pytest.mark.parametrize("name", ["../run", "a/b", "", ".hidden"])
def test_a_run_name_cannot_leave_its_folder(job: Job, name: str) -> None:
    """Fails when a run name with a slash writes outside the outcomes folder."""
    assert job(run_name=name).exit_code == 2
