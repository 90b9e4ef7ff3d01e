"""Faults during a training on real Spark under the real scheduler. Slow: `make test-stack`.

Each case is a run of a model of its own, so it ends with a first champion, or with nothing at all.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from live_stack import Live, Run, eventually, kill_tree, proxy

from local_stack.settings import TRAINING_DAG

pytest_plugins = ["live_fixtures"]
pytestmark = pytest.mark.stack


@contextmanager
def mlflow_stopped(live: Live) -> Iterator[None]:
    """Stop MLflow during the block, and start it again however the test ends."""
    live.supervisor.stop("mlflow")
    try:
        yield
    finally:
        live.supervisor.start("mlflow")


def test_scheduler_and_its_tasks_are_killed_during_training(quiet: Live) -> None:
    """Fails when the loss of Airflow's machine during training loses the job's work or starts a second job."""
    run = Run(quiet, "scheduler_killed").start()
    job = run.running_job()
    killed = quiet.supervisor.state("scheduler").pid
    kill_tree(killed)
    eventually("supervisord starts another", lambda: quiet.supervisor.state("scheduler").pid not in (0, killed))
    assert run.ended() == "success", run.tasks
    assert run.jobs() == [job]
    run.require_no_leak()
    run.require_one_decision()


@pytest.mark.proof
def test_a_scheduler_that_hangs_is_restarted(quiet: Live) -> None:
    """Fails when a scheduler that waits for ever, as one without a database, starts no run."""
    hung = quiet.supervisor.state("scheduler").pid
    os.kill(hung, signal.SIGSTOP)
    eventually("another scheduler works", lambda: quiet.is_ready("scheduler") and not psutil.pid_exists(hung))


@pytest.mark.proof
def test_postgresql_is_restarted_during_training(quiet: Live) -> None:
    """Fails when a restart of the database during training fails the run, or loses MLflow's records."""
    run = Run(quiet, "postgres_restarted").start()
    job = run.running_job()
    quiet.supervisor.stop("postgres")
    quiet.supervisor.start("postgres")
    assert run.ended() == "success", run.tasks
    assert run.jobs() == [job]
    run.require_no_leak()
    run.require_one_decision()


def test_training_is_marked_failed_by_a_person(quiet: Live) -> None:
    """Fails when a training that an operator stops goes on, decides, or keeps its cluster."""
    run = Run(quiet, "marked_failed").start()
    job = run.running_job()
    path = f"dags/{TRAINING_DAG}/dagRuns/{run.run_id}/taskInstances/train"
    quiet.api.call("PATCH", path, {"new_state": "failed"})
    assert run.ended() == "failed", run.tasks
    assert run.tasks["delete_cluster"] == "success"
    assert run.jobs() == [job]
    assert run.job_status(job) != "DONE"
    run.require_no_leak()
    run.require_no_decision()


@pytest.mark.proof
def test_two_runs_are_triggered_at_once(quiet: Live) -> None:
    """Fails when a second run, triggered beside the first, creates a cluster or decides again."""
    run = Run(quiet, "two_at_once").start()
    again = f"{run.run_id}_again"
    wanted = {"dag_run_id": again, "logical_date": None, "conf": {"force": True}}
    quiet.api.call("POST", f"dags/{TRAINING_DAG}/dagRuns", wanted)
    run.running_job()
    assert quiet.api.run_state(TRAINING_DAG, again) == "queued"
    assert run.ended() == "success", run.tasks
    eventually("the second run is refused", lambda: quiet.api.run_state(TRAINING_DAG, again) == "failed", 240.0)
    assert quiet.api.tasks(TRAINING_DAG, again)["check_schedule"] == "failed"
    assert len(run.jobs()) == 1
    run.require_no_leak()
    run.require_one_decision()


@pytest.mark.proof
def test_mlflow_is_down_at_the_start(quiet: Live) -> None:
    """Fails when a run is lost because MLflow was unavailable at its start, or pays for a cluster meanwhile."""
    run = Run(quiet, "mlflow_down")
    with mlflow_stopped(quiet):
        run.start()
        eventually("the check waits", lambda: run.tasks.get("check_schedule") == "up_for_retry")
        assert run.events("cluster", "CREATING") == []
    assert run.ended() == "success", run.tasks
    assert len(run.jobs()) == 1
    run.require_no_leak()
    run.require_one_decision()


@pytest.mark.proof
def test_mlflow_goes_down_during_the_registration(quiet: Live) -> None:
    """Fails when an outage of MLflow during registration makes the next try decide a second time."""
    run = Run(quiet, "mlflow_lost")
    with proxy(quiet.stack.ports["MLFLOW_PORT"]) as before:
        before.instead_of("POST", "/model-versions/create", lambda: quiet.supervisor.stop("mlflow"))
        run.start(before.url)
        eventually("the job registers a version", lambda: before.struck.is_set() or run.state == "failed")
        first = run.jobs()[0]
        with mlflow_stopped(quiet):
            eventually("the first job gives up", lambda: run.job_status(first) == "ERROR")
        assert run.ended() == "success", run.tasks
    assert len(run.jobs()) == 2
    run.require_no_leak()
    run.require_one_decision()


def test_the_job_is_killed_between_registration_and_alias(quiet: Live) -> None:
    """Fails when a job killed after registering a version makes its retry register a second one."""
    run = Run(quiet, "killed_before_alias")
    with proxy(quiet.stack.ports["MLFLOW_PORT"]) as before:
        before.instead_of("POST", "/registered-models/alias", lambda: run.driver().kill())
        run.start(before.url)
        eventually("the job sets the alias", lambda: before.struck.is_set() or run.state == "failed")
        assert quiet.versions(run.model) == ["1"]
        assert quiet.champion(run.model) is None
        assert run.ended() == "success", run.tasks
    assert len(run.jobs()) == 2
    run.require_no_leak()
    run.require_one_decision()
