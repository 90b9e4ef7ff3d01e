"""The runbooks' calls to Airflow, against a fake Airflow with scripted answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from deployment import runs
from deployment.airflow import Airflow
from deployment.errors import UNREACHABLE, DeploymentError
from deployment.http import HttpError


class Scripted(Airflow):
    """A fake Airflow whose active runs follow a script, one entry per request; it records changes."""

    def __init__(self, *active: list[str], airflow_2: bool = False) -> None:
        self._api = "api/v1" if airflow_2 else "api/v2"
        self.paused = False
        self.changes: list[object] = []
        self.xcoms: dict[str, dict[str, Any]] = {}
        self.ends_as = "success"
        self._active: Iterator[list[str]] = iter(active)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        if method != "GET":
            self.changes.append(body)
            self.paused = body.get("is_paused", self.paused)
            return body
        if "?state=" in path:
            return {"dag_runs": [{"dag_run_id": run_id} for run_id in next(self._active)]}
        if "/xcomEntries/" in path:
            return {"value": self._xcom(path.split("/taskInstances/")[1].split("/")[0])}
        if path.endswith("/taskInstances"):
            return {"task_instances": [{"task_id": "train", "state": self.ends_as}]}
        return {"state": self.ends_as, "is_paused": self.paused}

    def _xcom(self, task: str) -> dict[str, Any]:
        if task not in self.xcoms:
            raise HttpError("nothing there", 404)
        return self.xcoms[task]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_POLL", 0.001)


def test_the_training_is_paused_between_two_runs_only(capfd: pytest.CaptureFixture[str]) -> None:
    """Fails when an upgrade pauses a run half-way, and its remaining tasks are never scheduled."""
    airflow = Scripted(["a"], ["a"], [], ["b"], ["b"], [], [])
    runs.pause(airflow, minutes=1)
    assert airflow.paused
    assert airflow.changes == [{"is_paused": True}, {"is_paused": False}, {"is_paused": True}]
    output = capfd.readouterr().out
    assert "waiting for a, " in output
    assert "waiting for b, " in output


def test_a_run_that_does_not_end_is_named_and_nothing_is_paused() -> None:
    """Fails when a hanging run blocks the runbook without being named, or is paused half-way."""
    airflow = Scripted(*[["a"]] * 1000)
    with pytest.raises(DeploymentError, match="a still running after 0 min; not paused; next: "):
        runs.pause(airflow, minutes=0)
    assert airflow.changes == []


@pytest.mark.parametrize("airflow_2", [False, True])
def test_a_test_run_trains_although_little_is_new_and_shows_its_decision(
    airflow_2: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails when the test run after an upgrade is skipped for lack of new frauds, and looks like a success."""
    airflow = Scripted(airflow_2=airflow_2)
    airflow.xcoms["outcome"] = {"summary": "10:00: promoted as v3"}
    runs.test_run(airflow, minutes=1)
    [wanted] = airflow.changes
    assert isinstance(wanted, dict)
    assert wanted["conf"] == {"force": True}
    assert ("logical_date" in wanted) is not airflow_2, "Airflow 3 demands it, Airflow 2 refuses null"
    assert "10:00: promoted as v3" in capfd.readouterr().out


def test_a_test_run_in_a_decided_hour_says_when_to_try_again() -> None:
    """Fails when a test run that trained nothing is taken as proof that an upgrade works."""
    airflow = Scripted()
    airflow.ends_as = "failed"
    airflow.xcoms["check_schedule"] = {"reason": "2026-05-24 10:00 is decided already"}
    with pytest.raises(
        DeploymentError, match=r"10:00 is decided already.*next: make test-run in the next hour"
    ) as error:
        runs.test_run(airflow, minutes=1)
    assert error.value.exit_code == UNREACHABLE


def test_a_test_run_that_fails_or_could_not_begin_is_an_error() -> None:
    """Fails when a broken upgrade passes its test run, or the command waits for hours for a paused DAG."""
    airflow = Scripted()
    airflow.ends_as = "failed"
    with pytest.raises(DeploymentError, match="ended as failed; next: "):
        runs.test_run(airflow, minutes=1)
    airflow.paused, airflow.changes = True, []
    with pytest.raises(DeploymentError, match=r"paused.*next: make resume-training"):
        runs.test_run(airflow, minutes=1)
    assert airflow.changes == []
