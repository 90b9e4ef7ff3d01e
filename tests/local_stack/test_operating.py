"""How the stack is stopped and started again, with fake components."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from local_stack import airflow, components, runs, stopping
from local_stack.cli import main
from local_stack.console import Progress
from local_stack.settings import REAPER_DAG, Stack, StackError, load


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    env = tmp_path / ".env"
    env.write_text(f"STACK_FOLDER={tmp_path / 'stack'}\n")
    found = load(env)
    found.run.mkdir(parents=True)
    found.airflow_home.mkdir()
    return found


class Airflow:
    """Its REST API, with these runs, newest first."""

    def __init__(self, *states: str, paused: tuple[str, ...] = ()) -> None:
        self.states = list(states)
        self.paused = paused
        self.cleared: list[str] = []

    def is_paused(self, dag: str) -> bool:
        return dag in self.paused or "all" in self.paused

    def last_runs(self, _dag: str, _count: int) -> list[dict[str, Any]]:
        return [{"dag_run_id": f"run-{number}", "state": state} for number, state in enumerate(self.states)]

    def tasks(self, _dag: str, _run_id: str) -> dict[str, str]:
        return {"create_cluster": "success", "train": "failed", "outcome": "upstream_failed"}

    def clear(self, _dag: str, run_id: str) -> None:
        self.cleared.append(run_id)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Airflow]:
    """An Airflow with such runs, and a cloud with such clusters and jobs."""

    def made(
        *states: str,
        paused: tuple[str, ...] = (),
        clusters: tuple[str, ...] = (),
        jobs: Mapping[str, str] | None = None,
    ) -> Airflow:
        found = Airflow(*states, paused=paused)
        cloud = SimpleNamespace(
            clusters=lambda: [{"id": cluster} for cluster in clusters],
            jobs=lambda: [{"id": job, "status": status} for job, status in (jobs or {}).items()],
        )
        monkeypatch.setattr(airflow, "connect", lambda *_: found)
        monkeypatch.setattr(runs, "Emulator", lambda _: cloud)
        return found

    return made


def test_the_scheduler_begins_once_the_api_server_answers(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a start wastes the last try of a re-queued task because the API server is not ready yet."""
    answers = iter([False, False, True])
    monkeypatch.setattr(airflow, "answers", lambda _: next(answers))
    monkeypatch.setattr("local_stack.airflow.time.sleep", lambda _: None)
    before = components.BY_NAME["scheduler"].launch(stack).before
    assert before is not None
    before()
    assert next(answers, None) is None, "it did not wait"


def test_a_scheduler_without_an_api_server_says_what_to_look_at(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the scheduler waits for ever for the API server, and its log is empty."""
    monkeypatch.setattr(airflow, "answers", lambda _: False)
    monkeypatch.setattr("local_stack.airflow.time.sleep", lambda _: None)
    with pytest.raises(
        StackError, match=r"does not answer at http.*after 0 s.*\nnext: make logs COMPONENT=airflow-api"
    ):
        airflow.wait_for_api(stack, deadline=0.0)


@pytest.mark.parametrize(
    ("states", "paused", "clusters", "message"),
    [
        (
            ("running", "success"),
            ("fraud_detection_training",),
            ("c1",),
            "paused during a run, cluster c1 alive: run-0; ",
        ),
        (("running", "success"), ("fraud_detection_training",), (), "paused during a run, no cluster: run-0; "),
        (("success",), ("fraud_detection_training",), (), "paused; next: make up"),
        (("running", "failed", "success", "failed"), (), (), "run-1 at train; next: make clear-run"),
        (("success",), (REAPER_DAG,), (), "nothing deletes lost clusters; next: make up"),
        (("running", "success", "failed"), (), ("c1",), None),
    ],
)
def test_what_needs_a_person_is_reported_with_the_next_command(
    stack: Stack,
    world: Callable[..., Airflow],
    states: tuple[str, ...],
    paused: tuple[str, ...],
    clusters: tuple[str, ...],
    message: str | None,
) -> None:
    """Fails when `make status` and `make up` do not report a lost cluster or run with the next command."""
    world(*states, paused=paused, clusters=clusters)
    lines = [f"{what} {text}" for what, text in runs.attention(stack, runs.training(stack))]
    if message is None:
        assert lines == []
    else:
        [line] = lines
        assert message in line
        assert "next: make " in line


def test_a_lost_run_is_cleared_by_the_command_that_is_named(stack: Stack, world: Callable[..., Airflow]) -> None:
    """Fails when the command in the message has no effect, or repeats a run that succeeded."""
    env = stack.folder.parent / ".env"
    lost = world("running", "failed", "success", "failed")
    done = CliRunner().invoke(main, ["clear-run", "--env", str(env)])
    assert done.exit_code == 0, done.output
    assert lost.cleared == ["run-1"]
    well = world("success", "failed")
    refused = CliRunner().invoke(main, ["clear-run", "--env", str(env)])
    assert refused.exit_code == 1
    assert "no run has failed since the last successful one" in refused.output
    assert well.cleared == []


class Supervisord:
    """A fake that cannot stop the scheduler."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    def is_up(self) -> bool:
        return "shutdown" not in self.stopped

    def stop(self, name: str) -> None:
        if name == "scheduler":
            raise StackError("supervisord: stopProcess scheduler: does not end")
        self.stopped.append(name)

    def shut_down(self) -> None:
        self.stopped.append("shutdown")


def _down(stack: Stack, monkeypatch: pytest.MonkeyPatch, *, wait: bool = False) -> Supervisord:
    supervisord = Supervisord()
    monkeypatch.setattr(stopping, "Supervisor", lambda _: supervisord)
    monkeypatch.setattr(stopping, "wait_gone", lambda _: True)
    stopping.down(stack, wait=wait)
    return supervisord


def test_down_says_which_job_it_cancels_and_ends_everything_that_can_be_ended(
    stack: Stack, world: Callable[..., Airflow], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fails when `make down` cancels a training silently, or one hanging component keeps the others running."""
    world("running", jobs={"j1": "DONE", "j2": "RUNNING"})
    supervisord = _down(stack, monkeypatch)
    output = capsys.readouterr().out
    assert "job j2 of run run-0 is cancelled; after make up the run continues with another try" in output
    assert "j1" not in output
    assert "not stopped by supervisord" in output
    assert supervisord.stopped[-2:] == ["postgres", "shutdown"]


def test_down_waits_for_the_run_where_it_is_asked_to(
    stack: Stack, world: Callable[..., Airflow], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fails when `make down WAIT=1` cancels the job nevertheless."""
    found = world("running")
    monkeypatch.setattr("local_stack.runs.time.sleep", lambda _: found.states.__setitem__(0, "success"))
    _down(stack, monkeypatch, wait=True)
    output = capsys.readouterr().out
    assert "for run run-0, at most 15 min" in output
    assert "cancelled" not in output


def test_down_does_not_wait_for_ever(stack: Stack, world: Callable[..., Airflow]) -> None:
    """Fails when a hanging run, or one of a paused DAG, keeps `make down` from stopping the stack."""
    world("running")
    runs.wait_for_run(stack, Progress(), seconds=0.0)
    world("running", paused=("all",))
    runs.wait_for_run(stack, Progress(), seconds=60.0)
