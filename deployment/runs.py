"""`make pause-training`, `resume-training`, `test-run`: what the runbooks ask of Airflow (docs/operations.md)."""

import argparse
import time

from deployment.airflow import Access, Airflow
from deployment.errors import FAILED, UNREACHABLE, DeploymentError, log, run
from deployment.paths import ENV_FILE, given_path
from deployment.settings import load

DAG = "fraud_detection_training"
_POLL = 2.0


def pause(airflow: Airflow, minutes: float) -> None:
    """Pause the training between two runs: Airflow schedules no further task of a paused DAG, not even a teardown.

    Raises:
        DeploymentError: a run is still running after so many minutes; the DAG is not paused.
    """
    end, shown = time.monotonic() + 60 * minutes, set[str]()
    while True:
        active = airflow.active_runs(DAG)
        if not active:
            airflow.set_paused(DAG, paused=True)
            if not airflow.active_runs(DAG):
                log("paused; no run is active. The reaper stays on. Next: make resume-training")
                return
            airflow.set_paused(DAG, paused=False)  # a run started in between; wait for it
        elif time.monotonic() > end:
            raise DeploymentError(
                f"{', '.join(active)} still running after {minutes:g} min; not paused; next: see its log in Airflow"
            )
        for run_id in set(active) - shown:
            log(f"waiting for {run_id}, at most {minutes:g} min")
        shown |= set(active)
        time.sleep(_POLL)


def resume(airflow: Airflow) -> None:
    """Unpause the training."""
    airflow.set_paused(DAG, paused=False)
    log("the training is resumed; next: make test-run")


def test_run(airflow: Airflow, minutes: float) -> None:
    """Trigger a run with force, follow it to its end, and show what was decided.

    Raises:
        DeploymentError: it failed, or its hour is decided already; the message gives the next one.
    """
    if airflow.is_paused(DAG):
        raise DeploymentError("the DAG is paused, so no run would begin; next: make resume-training")
    run_id = airflow.trigger(DAG, "test", {"force": True})
    log(f"triggered {run_id}")
    state = _follow(airflow, run_id, minutes)
    found = airflow.xcom(DAG, run_id, "outcome")
    if state == "success" and found:
        log(str(found["summary"]))
        return
    check = airflow.xcom(DAG, run_id, "check_schedule") or {}
    if "is decided already" in check.get("reason", ""):
        raise DeploymentError(
            f"{check['reason']}, by the schedule or by hand, and no cluster was created; next: make test-run in the "
            "next hour, unless its scheduled run has shown by then that all is well",
            UNREACHABLE,
        )
    raise DeploymentError(f"run {run_id} ended as {state}; next: see its tasks in Airflow", FAILED)


def _follow(airflow: Airflow, run_id: str, minutes: float) -> str:
    """The final state of a run, after logging its tasks."""
    end, seen = time.monotonic() + 60 * minutes, dict[str, str]()
    while time.monotonic() < end:
        state = airflow.run_state(DAG, run_id)
        for name, now in airflow.tasks(DAG, run_id).items():
            if now in ("running", "success", "failed", "skipped", "up_for_retry") and seen.get(name) != now:
                log(f"{name}: {now}")
                seen[name] = now
        if state in ("success", "failed"):
            return state
        time.sleep(_POLL)
    raise DeploymentError(f"run {run_id} has not ended after {minutes:g} min; next: see its log in Airflow")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Pause, resume and try out the training in Airflow.")
    parser.add_argument("verb", choices=("pause", "resume", "test"))
    parser.add_argument("--env", type=given_path, default=ENV_FILE)
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
