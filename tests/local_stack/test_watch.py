"""Which of Airflow's jobs are restarted for their silence."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_stack import airflow, supervision, upkeep, watch
from local_stack.components import SILENCE
from local_stack.settings import Stack, load
from local_stack.supervision import State
from local_stack.watch import Watch, is_silent

_PATIENCE = 180.0
_MOMENT = st.floats(1.0, 1e6)


class _Supervisor:
    """Two jobs of Airflow that run, and what is done with them."""

    def __init__(self, _: Stack) -> None:
        self.running = {"scheduler": 10, "dag-processor": 20, "mlflow": 30}
        self.done: list[str] = []

    def states(self) -> list[State]:
        return [State(name, "RUNNING", pid, 1000.0) for name, pid in self.running.items()]

    def stop(self, name: str) -> None:
        self.done.append(f"stop {name}")

    def start(self, name: str) -> None:
        self.done.append(f"start {name}")
        self.running[name] += 1


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The newest heartbeat of each job, to be changed."""
    found = {"scheduler": 2000.0, "dag_processor": 2000.0}
    monkeypatch.setattr(airflow, "heartbeat", lambda _, job: found[job])
    return found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watch:
    monkeypatch.setattr(watch, "Supervisor", _Supervisor)
    monkeypatch.setattr(watch, "descendants", lambda _: [])  # the numbers are no processes of this test
    env = tmp_path / ".env"
    env.write_text(f"STACK_FOLDER={tmp_path / 'stack'}\n")
    return Watch(load(env))


def _done(found: Watch) -> list[str]:
    supervisor = found._supervisor
    assert isinstance(supervisor, _Supervisor)
    return supervisor.done


@given(_MOMENT, _MOMENT)
def test_a_job_is_judged_only_by_a_heartbeat_that_is_known(started: float, now: float) -> None:
    """Fails when a scheduler is restarted because the API server or the database is down."""
    assert not is_silent(0.0, started, now, _PATIENCE)


@given(_MOMENT, st.floats(0.0, 1e5), st.floats(0.0, 1e5))
def test_a_job_has_more_time_for_its_first_heartbeat(started: float, before: float, age: float) -> None:
    """Fails when a slow machine never gets a scheduler up, since each is ended before its first heartbeat."""
    old = max(started - before, 0.5)
    assert is_silent(old, started, started + age, _PATIENCE) == (started + age - started > _PATIENCE)


@given(_MOMENT, st.floats(1.0, 1e5), st.floats(0.0, 1e5))
def test_a_job_that_worked_is_silent_after_a_minute(started: float, worked: float, age: float) -> None:
    """Fails when a hanging scheduler counts as working, or a working one as hanging."""
    last = started + worked
    assert is_silent(last, started, last + age, _PATIENCE) == (last + age - last > SILENCE)


def test_what_is_silent_at_two_looks_is_restarted_alone(watched: Watch, beats: dict[str, float]) -> None:
    """Fails when a hung scheduler stays, a working job is restarted, or a new process is ended for the old one."""
    assert watched.look(2030.0) == []
    beats["dag_processor"] = 2090.0
    assert watched.look(2091.0) == []
    assert watched.look(2106.0) == ["scheduler"]
    assert _done(watched) == ["stop scheduler", "start scheduler"]
    assert watched.look(2121.0) == [], "the new process is silent for the first time"


def test_what_a_hung_scheduler_has_started_ends_with_it() -> None:
    """Fails when a task outlives its scheduler, and deletes the cluster of its next try."""
    own_session = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], start_new_session=True)"
    with subprocess.Popen([sys.executable, "-c", own_session], stdin=subprocess.PIPE) as scheduler:
        while not (tasks := supervision.descendants(scheduler.pid)):
            time.sleep(0.01)
        scheduler.kill()
        supervision.kill(tasks)
        assert psutil.wait_procs(tasks, timeout=10)[1] == []


def test_a_machine_that_slept_loses_no_scheduler(watched: Watch, beats: dict[str, float]) -> None:
    """Fails when each morning's first look at a laptop ends the tasks that go on."""
    assert watched.look(40_000.0) == []
    beats["scheduler"] = beats["dag_processor"] = 40_005.0
    assert watched.look(40_015.0) == []
    assert _done(watched) == []


def test_a_restarted_job_is_not_blamed_for_the_silence_of_its_predecessor(
    watched: Watch, beats: dict[str, float]
) -> None:
    """Fails when a scheduler that supervisord has just restarted is ended once more."""
    assert watched.look(2100.0) == []
    supervisor = watched._supervisor
    assert isinstance(supervisor, _Supervisor)
    supervisor.running["scheduler"] = 11
    assert watched.look(2115.0) == ["dag-processor"]


def test_a_failed_clean_up_does_not_end_the_watch(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when Airflow's failing clean-up leaves a stack without its watch until the next day."""
    looks: list[float] = []

    class EndedError(Exception):
        """The end of an endless loop."""

    def look(_: Watch, now: float) -> list[str]:
        looks.append(now)
        return []

    def pass_time(_: float) -> None:
        clock.append(clock[-1] + 1000.0)
        if len(looks) == 3:
            raise EndedError

    clock = [0.0]
    monkeypatch.setattr("time.sleep", pass_time)
    monkeypatch.setattr("time.monotonic", lambda: clock[-1])
    monkeypatch.setattr(airflow, "program", lambda: "/bin/false")
    monkeypatch.setattr(Watch, "look", look)
    with pytest.raises(EndedError):
        upkeep.keep_up(watched._stack)
    assert len(looks) == 3
