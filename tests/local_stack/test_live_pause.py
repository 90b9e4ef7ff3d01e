"""the training is paused, during a run and by the runbook, under the real scheduler. Slow: `make test-stack`."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
from live_stack import ENDED, Live, Run, eventually

from local_stack.settings import REAPER_DAG, ROOT, TRAINING_DAG

pytest_plugins = ["live_fixtures"]
pytestmark = pytest.mark.stack


@pytest.fixture
def pausable(quiet: Live) -> Iterator[Live]:
    yield quiet
    quiet.api.set_paused(TRAINING_DAG, paused=False)


def _pause(live: Live) -> None:
    live.api.call("PATCH", f"dags/{TRAINING_DAG}?update_mask=is_paused", {"is_paused": True})


def _reaped(live: Live, run: Run) -> bool:
    """Whether the cluster is gone after a run of the reaper."""
    reaper = live.api.trigger(REAPER_DAG, "test")
    eventually("the reaper ends", lambda: live.api.run_state(REAPER_DAG, reaper) in ENDED)
    return bool(run.events("cluster", "DELETED"))


@pytest.mark.proof
def test_a_run_paused_before_its_training_gives_its_cluster_back(pausable: Live) -> None:
    """Fails when a DAG that is paused while its cluster comes up keeps the cluster until somebody unpauses it."""
    run = Run(pausable, "paused_before")
    pausable.emulator.add_fault("create-slow", seconds=10)
    run.start()
    eventually("the cluster is made", lambda: run.events("cluster", "CREATING"))
    _pause(pausable)
    [cluster] = {event["cluster_id"] for event in run.events("cluster", "CREATING")}
    eventually("the cluster is up", lambda: run.tasks.get("create_cluster") == "success")
    assert f"paused during a run, cluster {cluster} alive: {run.run_id}; next: make up" in pausable.command("status")
    eventually("the reaper deletes the cluster", lambda: _reaped(pausable, run), 600.0)
    assert run.jobs() == [], "the training was scheduled though the DAG is paused"
    pausable.api.set_paused(TRAINING_DAG, paused=False)
    assert run.ended() == "failed", run.tasks
    run.require_no_leak()


@pytest.mark.proof
def test_a_run_paused_during_its_training_gives_its_cluster_back_and_ends_well(pausable: Live) -> None:
    """Fails when a DAG that is paused during a training keeps the cluster until somebody unpauses it."""
    run = Run(pausable, "paused_during").start()
    run.running_job()
    _pause(pausable)
    eventually("the cluster is deleted", lambda: run.events("cluster", "DELETED"), 600.0)
    assert run.state == "running", "the DAG was not paused"
    assert f"paused during a run, no cluster: {run.run_id}; next: make up" in pausable.command("status")
    pausable.api.set_paused(TRAINING_DAG, paused=False)
    assert run.ended() == "success", run.tasks
    run.require_no_leak()
    run.require_one_decision()


@pytest.mark.proof
def test_the_runbook_of_an_upgrade_does_what_it_says(pausable: Live) -> None:
    """Fails when the upgrade runbook pauses a run half-way, or its test run trains nothing and looks successful."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("\n## Upgrade Managed Airflow\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^ +(make [\w-]+)$", section, re.M)
    assert commands == ["make pause-training", "make resume-training", "make test-run"]
    run = Run(pausable, "upgrade").start()
    run.running_job()
    assert "no run is active" in _make(pausable, commands[0])
    assert (run.state, pausable.emulator.clusters()) == ("success", []), "it was paused during a run"
    _make(pausable, commands[1])
    refused = _make(pausable, commands[2], ends_with=2)
    assert "is decided already" in refused
    assert "no cluster was created; next: make test-run in the next hour" in refused
    run.require_no_leak()
    following = Run(pausable, "upgraded").set_up()
    output = _make(pausable, commands[2])
    assert "train: success" in output
    assert "promoted as v1" in output
    following.require_one_decision()


def _make(live: Live, command: str, ends_with: int = 0) -> str:
    """The output of a command of the page, with this stack's Airflow in place of the one in the cloud."""
    env = live.env.with_name("cloud.env")
    lines = (f"AIRFLOW_URL={live.stack.airflow_url}", f"AIRFLOW_ADMIN_PASSWORD={live.secrets['airflow_admin']}")
    env.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [*command.split(), f"ENV_FILE={env}"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAKE"))},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == ends_with, done.stdout + done.stderr
    return done.stdout + done.stderr
