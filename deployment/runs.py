"""`make pause-training`, `resume-training`, `test-run`: what the runbooks ask of Airflow (docs/operations.md)."""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deployment.errors import FAILED, UNREACHABLE, DeploymentError, run, told
from deployment.http import HttpError
from deployment.paths import ENV_FILE
from deployment.settings import load
from deployment.variables import Access, Airflow

DAG = "dags/fraud_detection_training"
_POLL = 2.0


def pause(airflow: Airflow, minutes: float) -> None:
    """Pause the training between two runs: Airflow schedules no further task of a paused DAG, a teardown included.

    Raises:
        DeploymentError: a run is still going on after so many minutes; the DAG is not paused.
    """
    end, shown = time.monotonic() + 60 * minutes, set[str]()
    while True:
        active = _active_runs(airflow)
        if not active:
            _set_paused(airflow, paused=True)
            if not _active_runs(airflow):
                told("paused; no run is going on. The reaper stays on. Next: make resume-training")
                return
            _set_paused(airflow, paused=False)  # a run began in between: it has to end first
        elif time.monotonic() > end:
            raise DeploymentError(
                f"{', '.join(active)} still going on after {minutes:g} min; not paused; next: look at it in Airflow"
            )
        for run_id in set(active) - shown:
            told(f"waiting for {run_id}, at most {minutes:g} min")
        shown |= set(active)
        time.sleep(_POLL)


def resume(airflow: Airflow) -> None:
    """Let the schedule go on."""
    _set_paused(airflow, paused=False)
    told("the schedule goes on; next: make test-run")


def test_run(airflow: Airflow, minutes: float) -> None:
    """Trigger a run with force, follow it to its end, and show what was decided.

    Raises:
        DeploymentError: it failed, or its hour is decided already; the message gives the next one.
    """
    if airflow.call("GET", DAG)["is_paused"]:
        raise DeploymentError("the DAG is paused, so no run would begin; next: make resume-training")
    run_id = f"test__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    body: dict[str, object] = {"dag_run_id": run_id, "conf": {"force": True}}
    airflow.call("POST", f"{DAG}/dagRuns", body if airflow.is_airflow_2 else {**body, "logical_date": None})
    told(f"triggered {run_id}")
    state = _followed(airflow, run_id, minutes)
    found = _xcom(airflow, run_id, "outcome")
    if state == "success" and found:
        told(str(found["summary"]))
        return
    check = _xcom(airflow, run_id, "enough_new_frauds") or {}
    if "is decided already" in check.get("reason", ""):
        raise DeploymentError(
            f"{check['reason']}, by the schedule or by hand, and no cluster was made; next: make test-run in the next "
            "hour, unless its scheduled run has shown by then that all is well",
            UNREACHABLE,
        )
    raise DeploymentError(f"run {run_id} ended as {state}; next: look at its tasks in Airflow", FAILED)


def _active_runs(airflow: Airflow) -> list[str]:
    answer = airflow.call("GET", f"{DAG}/dagRuns?state=running&state=queued")
    return [str(found["dag_run_id"]) for found in answer["dag_runs"]]


def _set_paused(airflow: Airflow, *, paused: bool) -> None:
    airflow.call("PATCH", f"{DAG}?update_mask=is_paused", {"is_paused": paused})


def _followed(airflow: Airflow, run_id: str, minutes: float) -> str:
    """The state in which a run ends."""
    end, seen = time.monotonic() + 60 * minutes, dict[str, str]()
    path = f"{DAG}/dagRuns/{quote(run_id)}"
    while time.monotonic() < end:
        state = str(airflow.call("GET", path)["state"])
        for task in airflow.call("GET", f"{path}/taskInstances")["task_instances"]:
            name, now = task["task_id"], task["state"]
            if now in ("running", "success", "failed", "skipped", "up_for_retry") and seen.get(name) != now:
                told(f"{name}: {now}")
                seen[name] = now
        if state in ("success", "failed"):
            return state
        time.sleep(_POLL)
    raise DeploymentError(f"run {run_id} has not ended after {minutes:g} min; next: look at it in Airflow")


def _xcom(airflow: Airflow, run_id: str, task: str) -> dict[str, Any] | None:
    """What a task returned; None where it returned nothing."""
    path = f"{DAG}/dagRuns/{quote(run_id)}/taskInstances/{task}/xcomEntries/return_value"
    try:
        value = airflow.call("GET", path if airflow.is_airflow_2 else f"{path}?stringify=false")["value"]
    except HttpError as error:
        if error.status == 404:
            return None
        raise
    return dict(json.loads(value) if isinstance(value, str) else value)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Pause, resume and try out the training in Airflow.")
    parser.add_argument("verb", choices=("pause", "resume", "test"))
    parser.add_argument("--env", type=Path, default=ENV_FILE)
    parser.add_argument("--minutes", type=float, default=200.0, help="that a run is waited for (default 200)")
    chosen = parser.parse_args()
    airflow = Access.of(load(chosen.env)).connect()
    if chosen.verb == "pause":
        pause(airflow, chosen.minutes)
    elif chosen.verb == "resume":
        resume(airflow)
    else:
        test_run(airflow, chosen.minutes)


if __name__ == "__main__":
    run(_main)
