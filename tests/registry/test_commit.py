"""A run or a rollback that is killed between any two of its steps is completed by the next, exactly once.

Nothing here lists the steps: they come from the protocol itself, and from the changes that were made to MLflow and to
the decision log, so that a step added tomorrow is killed tomorrow.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from factories import decision
from fakes.registry import NAME, T0, T1, T2, Killed, World, lease_records, model, rows, world

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry import commit, recording, registration
from fraud_detection.registry.decision_log import Action, DecisionLog, Intervention
from fraud_detection.schema import Decision, Outcome

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

CHANGES = ("create_", "set_", "delete_", "log_", "finalize_")
"""How the methods of MLflow's client begin that change something."""


@pytest.fixture(scope="session")
def with_champion(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 1 has been in service since T0."""
    made = world(tmp_path_factory.mktemp("template"))
    made.record(Outcome.PROMOTED, T0, seed=0)
    return made


@pytest.fixture
def here(tmp_path: Path, with_champion: World) -> World:
    return world(tmp_path, with_champion)


def next_run(here: World, as_of: datetime, outcome: Outcome = Outcome.REFUSED) -> Decision:
    """The job's first and last calls to the registry in a run."""
    fresh = world(here.output)  # another process: nothing is remembered
    fresh.registry.resume_open_intents(as_of)
    return fresh.log.find(as_of) or fresh.record(outcome, as_of)


def assert_settled(here: World, decided: dict[datetime, Outcome], champion: int, previous: int | None) -> None:
    """Assert one decision per as-of time, one version per promotion, correct aliases, and nothing left open."""
    expected = {T0: Outcome.PROMOTED} | decided
    history = [entry for entry in here.log.history() if isinstance(entry, Decision)]
    assert {entry.as_of: entry.outcome for entry in history} == expected
    assert len(history) == len(expected)
    promoted = [entry.version for entry in history if entry.outcome is Outcome.PROMOTED]
    assert here.versions() == sorted(v for v in promoted if v is not None)
    aliases = {"champion": champion} | ({} if previous is None else {"previous_champion": previous})
    assert here.aliases() == aliases
    for run in here.runs():
        intent = run.data.tags.get(registration.INTENT_TAG)
        assert intent != registration.OPEN
        assert run.info.status == ("KILLED" if intent is None else "FINISHED")
        outcome = run.data.tags.get(registration.OUTCOME_TAG)
        if outcome not in (None, commit.SUPERSEDED):
            (own,) = [entry for entry in history if entry.run_id == run.info.run_id]
            report = Path(run.info.artifact_uri.removeprefix("file://"), "report.html").read_text()
            assert report == f"{outcome} {own.version}"
    serving = here.registry.champion()
    assert serving is not None
    assert serving.version == champion


def killed_before(step: Callable[..., None], index: int) -> tuple[Callable[..., None], ...]:
    """The protocol with a kill before the step of that index."""

    def kill(_run: object) -> None:
        raise Killed(step.__name__)

    return (*commit.PROTOCOL[:index], kill)


STEPS = [pytest.param(i, step, id=f"{i}-{step.__name__}") for i, step in enumerate(commit.PROTOCOL)]


@pytest.mark.parametrize(("index", "step"), STEPS)
def test_a_promotion_killed_before_a_step_is_completed_by_the_run_of_another_moment(
    here: World, monkeypatch: pytest.MonkeyPatch, index: int, step: Callable[..., None]
) -> None:
    """Fails when a promotion killed half-way is lost, registered twice, or put in service without a decision."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(commit, "PROTOCOL", killed_before(step, index))
        here.record(Outcome.PROMOTED, T1)
    later = next_run(here, T2)
    assert later.champion_version == 2  # it compares with the model that the killed run promoted
    assert_settled(here, {T1: Outcome.PROMOTED, T2: Outcome.REFUSED}, champion=2, previous=1)


@pytest.mark.parametrize(("index", "step"), STEPS)
def test_a_refusal_killed_before_a_step_is_not_decided_again(
    here: World, monkeypatch: pytest.MonkeyPatch, index: int, step: Callable[..., None]
) -> None:
    """Fails when a refusal killed half-way is decided a second time for the same as-of time, perhaps differently."""
    outcome = Outcome.NO_DECISION if index % 2 else Outcome.REFUSED
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(commit, "PROTOCOL", killed_before(step, index))
        here.record(outcome, T1, reason="as first decided")
    assert next_run(here, T1, Outcome.PROMOTED).reason == "as first decided"
    assert_settled(here, {T1: outcome}, champion=1, previous=None)


@pytest.fixture
def kill_before_change(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[World, int], None]]:
    """Kill a world's process before its n-th change to MLflow or to the decision log."""

    def arm(target: World, survived: int) -> None:
        left = [survived]

        def counted(change: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return change(*arguments, **named)

        for name in dir(target.client):
            if name.startswith(CHANGES):
                monkeypatch.setattr(target.client, name, partial(counted, getattr(target.client, name)))
        monkeypatch.setattr(target.log, "write", partial(counted, target.log.write))
        for name in ("write_atomic", "write_once"):
            storage = target.leases._storage
            monkeypatch.setattr(storage, name, partial(counted, getattr(storage, name)))

    yield arm


def killed_at_every_change(
    template: World,
    folder: Path,
    arm: Callable[[World, int], None],
    act: Callable[[World], object],
) -> Iterator[World]:
    """One world for each change that `act` makes, killed just before that change."""
    for survived in range(100):
        here = world(folder / str(survived), template)
        assert here.connection.experiment_id
        arm(here, survived)
        try:
            act(here)
        except Killed:
            yield here
        else:
            assert survived > 3, "nothing was changed: the kill is not armed"
            return


@pytest.mark.slow
def test_a_promotion_killed_before_any_change_is_completed_by_the_run_of_the_same_moment(
    with_champion: World, tmp_path: Path, kill_before_change: Callable[[World, int], None]
) -> None:
    """Fails when Airflow's retry of a killed task loses the promoted model or registers it twice."""
    promote = partial(World.record, outcome=Outcome.PROMOTED, as_of=T1)
    for here in killed_at_every_change(with_champion, tmp_path, kill_before_change, promote):
        assert next_run(here, T1, Outcome.PROMOTED).outcome is Outcome.PROMOTED
        assert_settled(world(here.output), {T1: Outcome.PROMOTED}, champion=2, previous=1)


@pytest.mark.slow
def test_a_completion_killed_before_any_change_is_completed_by_the_next(
    with_champion: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill_before_change: Callable[[World, int], None],
) -> None:
    """Fails when a run that is killed while it completes an earlier run leaves a state that no later run can repair."""
    begun = world(tmp_path / "begun", with_champion)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(commit, "PROTOCOL", killed_before(commit.PROTOCOL[0], 0))
        begun.record(Outcome.PROMOTED, T1)
    finish = partial(_complete, as_of=T2)
    for here in killed_at_every_change(begun, tmp_path, kill_before_change, finish):
        next_run(here, T2)
        assert_settled(world(here.output), {T1: Outcome.PROMOTED, T2: Outcome.REFUSED}, champion=2, previous=1)


def _complete(here: World, as_of: datetime) -> None:
    here.registry.resume_open_intents(as_of)


@pytest.fixture(scope="session")
def with_two(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Version 2 is in service, version 1 was before."""
    made = world(tmp_path_factory.mktemp("two"))
    made.record(Outcome.PROMOTED, T0, seed=0)
    made.record(Outcome.PROMOTED, T1, seed=1)
    return made


def _rollback(here: World) -> Intervention:
    return here.registry.rollback(None, "alerts doubled", "anna")


def interventions(log: DecisionLog) -> list[Action]:
    return [entry.action for entry in log.history() if isinstance(entry, Intervention)]


@pytest.mark.slow
@pytest.mark.parametrize("then", ["a run", "the same command"])
def test_a_killed_rollback_is_finished_and_never_undone(
    with_two: World, tmp_path: Path, kill_before_change: Callable[[World, int], None], then: str
) -> None:
    """Fails when a killed rollback lets the next run put the rolled-back model in service again."""
    for here in killed_at_every_change(with_two, tmp_path, kill_before_change, _rollback):
        fresh = world(here.output)
        begun = fresh.registry.pinned() is not None
        if then == "a run":
            outcome = next_run(here, T2, Outcome.PROMOTED).outcome
            assert outcome is (Outcome.REFUSED if begun else Outcome.PROMOTED)
        else:
            assert _rollback(fresh).to_version == 1
            begun = True
        assert interventions(fresh.log) == ([Action.ROLLBACK] if begun else [])
        assert fresh.aliases() == (
            {"champion": 1, "previous_champion": 2} if begun else {"champion": 3, "previous_champion": 2}
        )


@pytest.mark.slow
def test_a_killed_pin_is_finished(
    with_two: World, tmp_path: Path, kill_before_change: Callable[[World, int], None]
) -> None:
    """Fails when a killed pin lets the next run replace the champion, or stays without an entry in the log."""
    for here in killed_at_every_change(with_two, tmp_path, kill_before_change, _pin):
        fresh = world(here.output)
        begun = fresh.registry.pinned() is not None
        outcome = next_run(here, T2, Outcome.PROMOTED).outcome
        assert outcome is (Outcome.REFUSED if begun else Outcome.PROMOTED)
        assert interventions(fresh.log) == ([Action.PIN] if begun else [])
        assert fresh.aliases() == (
            {"champion": 2, "previous_champion": 1} if begun else {"champion": 3, "previous_champion": 2}
        )


def _pin(here: World) -> Intervention:
    return here.registry.pin("the audit", "anna")


def test_a_killed_unpin_is_finished(
    with_two: World, tmp_path: Path, kill_before_change: Callable[[World, int], None]
) -> None:
    """Fails when a killed unpin leaves automatic promotion off although the log says that it is on."""
    pinned = world(tmp_path / "pinned", with_two)
    _rollback(pinned)
    killed = [world(tmp_path / str(survived), pinned) for survived in range(3)]
    for survived, here in enumerate(killed):
        assert here.connection.experiment_id
        kill_before_change(here, survived)
        with pytest.raises(Killed):
            here.registry.unpin("mended", "anna")
        fresh = world(here.output)
        fresh.registry.resume_open_intents(T2)
        logged = survived > 1  # the first change is the lease
        assert (fresh.registry.pinned() is None) is logged
        assert interventions(fresh.log) == [Action.ROLLBACK, *([Action.UNPIN] if logged else [])]


@pytest.mark.parametrize("then", ["the same command", "a run, and the same command"])
def test_a_killed_unpin_can_be_repeated(
    with_two: World, tmp_path: Path, kill_before_change: Callable[[World, int], None], then: str
) -> None:
    """Fails when a retry of a killed unpin ends with an error although promotion is on."""
    pinned = world(tmp_path / "pinned", with_two)
    _rollback(pinned)
    for survived in range(4):  # before the lease, the log, the removal of the pin, the release of the lease
        here = world(tmp_path / str(survived), pinned)
        assert here.connection.experiment_id
        kill_before_change(here, survived)
        with suppress(Killed):
            here.registry.unpin("fixed", "anna")
        fresh = world(here.output)
        logged = [entry for entry in fresh.log.history() if isinstance(entry, Intervention)][1:]
        if then != "the same command":
            fresh.registry.resume_open_intents(T2)
        done = fresh.registry.unpin("fixed", "anna")
        assert [done] == (logged or [done])
        assert fresh.registry.pinned() is None
        assert interventions(fresh.log) == [Action.ROLLBACK, Action.UNPIN]
        with pytest.raises(FraudDetectionError, match="is not pinned"):
            fresh.registry.unpin("fixed", "boris")


PROGRAM = """
import os, signal, sys
from pathlib import Path
from fakes.registry import T1, world
from fraud_detection.registry import commit
from fraud_detection.schema import Outcome

def kill(_run):
    os.kill(os.getpid(), signal.SIGKILL)

names = [step.__name__ for step in commit.PROTOCOL]
index = names.index("write_decision")
commit.PROTOCOL = (*commit.PROTOCOL[:index], kill)
world(Path(sys.argv[1])).record(Outcome.PROMOTED, T1)
"""


@pytest.mark.slow
def test_a_process_that_is_really_killed_is_completed(here: World) -> None:
    """Fails when a real SIGKILL, after which no handler runs, leaves a promotion that the next run cannot complete."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(here.output)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [lease.released_at is None for lease in lease_records(here.output)] == [True]
    assert here.aliases()["champion"] == 2
    assert here.log.find(T1) is None
    next_run(here, T2)
    assert_settled(here, {T1: Outcome.PROMOTED, T2: Outcome.REFUSED}, champion=2, previous=1)


def test_a_run_of_another_moment_that_may_be_alive_is_left_alone(here: World) -> None:
    """Fails when a run marks another run that is still logging as killed."""
    alive = here.client.create_run(
        here.connection.experiment_id,
        tags={"fraud_detection.model": NAME, "fraud_detection.as_of": T1.isoformat()},
    ).info
    old = here.client.create_run(
        here.connection.experiment_id,
        start_time=alive.start_time - int(timedelta(days=2).total_seconds() * 1000),
        tags={"fraud_detection.model": NAME, "fraud_detection.as_of": T1.isoformat()},
    ).info
    foreign = here.client.create_run(here.connection.experiment_id, tags={"fraud_detection.model": "other"}).info
    next_run(here, T2)
    status = {run.info.run_id: run.info.status for run in here.runs()}
    assert [status[run.run_id] for run in (alive, old, foreign)] == ["RUNNING", "KILLED", "RUNNING"]
    here.registry.resume_open_intents(T1)
    assert here.client.get_run(alive.run_id).info.status == "KILLED"


def test_an_intent_with_rows_of_the_data_that_an_earlier_version_left_is_completed(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an upgrade between a kill and the next run loses the promotion."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(recording, "generated_inputs", lambda model: model.inputs_of(rows().head(50)))
        patched.setattr(commit, "PROTOCOL", killed_before(registration.register_version, 3))
        here.record(Outcome.PROMOTED, T1)
    next_run(here, T2)
    assert_settled(here, {T1: Outcome.PROMOTED, T2: Outcome.REFUSED}, champion=2, previous=1)


def test_a_champion_changed_after_the_kill_is_not_overwritten(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when completing a killed promotion replaces a champion that the model was never compared with."""
    step = registration.set_previous_champion
    index = commit.PROTOCOL.index(step)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(commit, "PROTOCOL", killed_before(step, index))
        here.record(Outcome.PROMOTED, T1)
    other = here.client.create_model_version(NAME, here.client.get_model_version(NAME, "1").source)
    here.client.set_registered_model_alias(NAME, "champion", other.version)
    (completed,) = world(here.output).registry.resume_open_intents(T2)
    assert isinstance(completed, Decision)
    assert (completed.outcome, completed.version) == (Outcome.REFUSED, None)
    assert [(c.name, c.value, c.limit) for c in completed.checks if not c.passed] == [("champion_unchanged", 3, 1)]
    assert here.versions() == [1, 3]  # the refused version is gone
    assert here.aliases() == {"champion": 3}


def test_an_intent_gives_way_to_the_decision_of_another_run(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a run promotes a model although another run's refusal is recorded for the same as-of time."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(commit, "PROTOCOL", killed_before(commit.PROTOCOL[0], 0))
        here.record(Outcome.PROMOTED, T1)
    refusal = decision(Outcome.REFUSED, T1, champion_version=1, run_id="another")
    assert here.log.write(refusal)
    assert world(here.output).registry.resume_open_intents(T2) == (refusal,)
    assert_settled(here, {T1: Outcome.REFUSED}, champion=1, previous=None)
    assert {run.data.tags[registration.OUTCOME_TAG] for run in here.runs()} == {"promoted", commit.SUPERSEDED}


def test_an_intent_without_its_artifacts_is_named_and_can_be_given_up(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an intent that lost its artifacts blocks every later run without saying which MLflow run to delete."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(commit, "PROTOCOL", killed_before(commit.PROTOCOL[0], 0))
        here.record(Outcome.REFUSED, T1)
    (run,) = [run for run in here.runs() if run.data.tags.get(registration.INTENT_TAG) == registration.OPEN]
    Path(run.info.artifact_uri.removeprefix("file://"), registration.INTENT_FILE).unlink()
    with pytest.raises(FraudDetectionError, match=f"mlflow runs delete --run-id {run.info.run_id}"):
        here.registry.resume_open_intents(T2)
    with pytest.raises(FraudDetectionError, match="no previous champion"):
        _rollback(here)
    here.client.delete_run(run.info.run_id)
    assert here.registry.resume_open_intents(T2) == ()


def test_the_model_of_the_killed_run_is_the_one_in_service(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when completing a killed promotion registers other model files than the ones that were compared."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(commit, "PROTOCOL", killed_before(commit.PROTOCOL[0], 0))
        here.record(Outcome.PROMOTED, T1, seed=3)
    next_run(here, T2)
    serving = here.registry.champion()
    assert serving is not None
    assert serving.model.to_bytes() == model(3).to_bytes() != model(0).to_bytes()
    assert serving.as_of == T1
    assert serving.training == decision(Outcome.PROMOTED, T1).training


def test_a_run_that_broke_off_before_its_intent_is_ended_by_the_next_one_of_its_hour(here: World) -> None:
    """Fails when a retrain without --as-of leaves an interrupted run of the same hour `RUNNING` in MLflow."""
    broken = here.client.create_run(
        here.connection.experiment_id, tags={"fraud_detection.model": NAME, "fraud_detection.as_of": T2.isoformat()}
    )
    here.registry.resume_open_intents(None)
    decided = here.record(Outcome.REFUSED, T2)
    assert here.client.get_run(broken.info.run_id).info.status == "KILLED"
    assert here.client.get_run(decided.run_id).info.status == "FINISHED"
