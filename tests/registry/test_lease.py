"""Two processes in the last steps of one model: whatever their order, the decision log and the registry agree."""

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from factories import decision
from fakes.mlflow_registry import FakeMlflow
from fakes.object_storage import KEY, SECRET, Server, serving
from fakes.registry import NAME, T0, T1, T2, publish

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.registry import Leases, Registry, champion, commit
from fraud_detection.registry.artifacts import ModelVersionTags
from fraud_detection.registry.decision_log import Action, DecisionLog, Intervention
from fraud_detection.registry.lease import CLOCK_SKEW, DURATION, PATIENCE, Lease
from fraud_detection.schema import Decision, Outcome
from fraud_detection.storage import Storage, open_folder

SAMPLE = pd.DataFrame({"amount": [1.0, 2.0], commit.SCORE: [0.1, 0.9]})
CHANGES = ("create_", "set_", "delete_", "log_")
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A time that passes only while a process waits."""

    def __init__(self) -> None:
        self.time = BEGINNING

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


# One lease


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(tmp_path: Path, clock: Clock) -> Leases:
    return Leases(open_folder(str(tmp_path)), NAME, clock=clock.now, sleep=clock.sleep)


def test_a_released_lease_is_taken_without_waiting(leases: Leases, clock: Clock) -> None:
    """Fails when each run waits for the one before it, although that has long ended."""
    for generation in (1, 2):
        with leases.hold("a run") as held:
            held.require_held()
        assert leases.exists(generation)
    assert clock.time - BEGINNING < timedelta(seconds=1)


def test_a_lease_that_was_never_released_is_taken_over_when_it_has_expired(leases: Leases, clock: Clock) -> None:
    """Fails when a killed run stops every later one for good, or when its lease is taken while it may be alive."""
    killed = leases.hold("a run")
    first = killed.__enter__()
    with leases.hold("the next run") as second:
        assert clock.time - BEGINNING > DURATION + CLOCK_SKEW
        second.require_held()
        with pytest.raises(ServiceUnavailableError, match=r"00000001\.json.*run the same command again") as error:
            first.require_held()
        assert error.value.exit_code == 75


def test_a_wait_for_a_lease_names_its_holder_once(leases: Leases, caplog: pytest.LogCaptureFixture) -> None:
    """Fails when a command that waits for minutes after a kill says nothing, or repeats itself each second."""
    leases._acquire("the run of 12:00")
    with leases.hold("the run of 13:00"):
        pass
    (record,) = caplog.records
    assert "waiting: the run of 12:00 is in the last steps of fraud_detection since" in record.getMessage()


def test_an_expired_lease_is_not_used_although_nobody_has_taken_it_over(leases: Leases, clock: Clock) -> None:
    """Fails when a process that hung continues at the moment at which another takes over."""
    with leases.hold("a run") as held:
        clock.sleep(DURATION.total_seconds())
        with pytest.raises(ServiceUnavailableError):
            held.require_held()


def test_a_lease_is_renewed_at_each_step(leases: Leases, clock: Clock) -> None:
    """Fails when a slow MLflow makes a healthy run lose its lease half-way."""
    with leases.hold("a run") as held:
        for _ in range(10):
            clock.sleep(DURATION.total_seconds() * 0.9)
            held.require_held()


def test_a_lease_that_others_keep_is_waited_for_no_longer_than_the_patience(leases: Leases, clock: Clock) -> None:
    """Fails when a run waits for ever, or when its error does not say what it waits for."""
    with leases.hold("rollback by anna") as held:

        def renewing(seconds: float) -> None:
            clock.sleep(seconds)
            held.require_held()

        leases._sleep = renewing
        with pytest.raises(ServiceUnavailableError, match=r"rollback by anna \(process \d+ on .*00000001\.json"):
            leases.hold("a run").__enter__()
    assert PATIENCE < clock.time - BEGINNING < PATIENCE + timedelta(minutes=1)


def test_of_two_that_want_the_same_lease_one_gets_it(leases: Leases, clock: Clock, tmp_path: Path) -> None:
    """Fails when two runs that look at the same moment both believe that they hold the lease."""
    other = Leases(open_folder(str(tmp_path)), NAME, clock=clock.now, sleep=clock.sleep)
    quicker, newest = leases.hold("the quicker"), other._newest
    taken: list[Lease] = []

    def late() -> Any:
        found = newest()
        if not taken:
            taken.append(quicker.__enter__())
        return found

    other._newest = late  # type: ignore[method-assign]
    with other.hold("the slower"):
        assert clock.time - BEGINNING > DURATION  # it waited
        with pytest.raises(ServiceUnavailableError):
            taken[0].require_held()


def test_a_broken_lease_is_named(leases: Leases, tmp_path: Path) -> None:
    """Fails when a stack trace stands for the name of the file to look at."""
    with leases.hold("a run"):
        pass
    (tmp_path / "leases" / NAME / "00000001.json").write_text("{")
    with pytest.raises(FraudDetectionError, match=r"00000001\.json is not a readable lease.*move it away"):
        leases.hold("a run").__enter__()


# Two processes


class Process:
    """One process as a thread. It stops at its points (steps of the protocol, changes) and goes on when it is told."""

    current = threading.local()

    def __init__(self, work: Callable[[], object]) -> None:
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._left = 0
        self.ended = self.waits = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], object]) -> None:
        self.current.process = self
        self._turn.acquire()
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (the test looks at it)
            self.error = error
        self.ended = True
        self._back.release()

    def advance(self, points: int) -> None:
        """Let it go on past so many points, or to its end, or until it has to wait for the lease."""
        if not self.ended:
            self._left, self.waits = points, False
            self._turn.release()
            assert self._back.acquire(timeout=60)

    def stop(self, *, waits: bool = False) -> None:
        self._left -= 1
        if self._left < 0 or waits:
            self.waits = waits
            self._back.release()
            self._turn.acquire()

    @classmethod
    def point(cls, *, waits: bool = False) -> None:
        process = getattr(cls.current, "process", None)
        if process is not None:
            process.stop(waits=waits)


ALL = 10_000


def finish(*processes: Process) -> None:
    """Let all of them end, each as far as it comes."""
    for _ in range(20):
        for process in processes:
            process.advance(ALL)
    assert all(process.ended for process in processes)


def _pausing(owner: Any, *names: str) -> None:
    for name in names:
        original = getattr(owner, name)

        def paused(*arguments: Any, _original: Callable[..., Any] = original, **named: Any) -> Any:
            Process.point()
            return _original(*arguments, **named)

        setattr(owner, name, paused)


class Stage:
    """Version 2 is in service and was compared with version 1; processes meet at its MLflow and its output folder."""

    def __init__(self, storage: Callable[[], Storage], *, frozen: bool) -> None:
        """`frozen`: time passes while a process waits, so that it takes over from one that hangs."""
        self.clock, self._frozen, self._storage = Clock(), frozen, storage
        self.client = FakeMlflow()
        self.log = DecisionLog(storage(), NAME)
        for version, as_of in ((1, T0 - timedelta(hours=1)), (2, T0)):
            given = decision(Outcome.PROMOTED, as_of, champion_version=version - 1 or None, decided_at=self.clock.now())
            tags = ModelVersionTags(as_of, given.training, "sha").as_tags()
            self.client.create_model_version(NAME, "", run_id=f"run-{version}", tags=tags)
            assert self.log.write(given.model_copy(update={"version": version, "run_id": f"run-{version}"}))
        self.client.aliases = {"champion": 2, "previous_champion": 1}
        _pausing(self.client, *(name for name in dir(self.client) if name.startswith(CHANGES)))

    def _sleep(self, seconds: float) -> None:
        if self._frozen:
            self.clock.sleep(10 * seconds)
        else:
            Process.point(waits=True)

    def registry(self) -> Registry:
        """That of a new process."""
        storage = self._storage()
        _pausing(storage, "write_atomic", "write_once")
        leases = Leases(storage, NAME, clock=self.clock.now, sleep=self._sleep)
        made = Registry("sqlite:////unused/mlflow.db", NAME, DecisionLog(storage, NAME), leases=leases, publish=publish)
        vars(made._context.connection).update(client=self.client, experiment_id="0")
        return made

    def promotion(self, as_of: datetime) -> Callable[[], Decision]:
        """A run that has found a better model than version 2, and is about to bring it into service."""
        run_id = f"run of {as_of:%H}"
        given = decision(Outcome.PROMOTED, as_of, champion_version=2, decided_at=self.clock.now(), run_id=run_id)
        model = commit.LoggedModel(model_id="m", sha256="sha")
        intent = commit.Intent(decision=given, model=model, publishes=True)
        run = self.client.add_run(run_id, **{commit.INTENT_TAG: commit.OPEN, "intent": intent.model_dump_json()})
        context = self.registry()._context
        return lambda: commit.apply_intent(context, run, intent, SAMPLE)

    def resume(self) -> None:
        """What the next run begins with."""
        self._frozen = True
        self.registry().resume_open_intents()

    def decided(self, *moments: datetime) -> list[Decision]:
        found = [self.log.find(as_of) for as_of in moments]
        return [one for one in found if one is not None]

    def logged_champion(self) -> int | None:
        """The version that the log says is in service."""
        last = self.log.last_change()
        return last.to_version if isinstance(last, Intervention) else None if last is None else last.version

    def assert_agrees(self) -> None:
        assert self.client.aliases["champion"] == self.logged_champion()
        serving = None
        for entry in self.log.history():
            if isinstance(entry, Intervention):
                serving = entry.to_version
            elif entry.outcome is Outcome.PROMOTED:
                assert entry.champion_version == serving  # it replaced the model that it was compared with
                serving = entry.version
        for run in self.client.runs.values():
            assert run.data.tags[commit.INTENT_TAG] == commit.CLOSED
            assert run.info.status == "FINISHED"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of models are out of this: they score as expected. Processes stop before each step."""
    model = SimpleNamespace(predict=lambda rows: SAMPLE[commit.SCORE].to_numpy()[: len(rows)])
    monkeypatch.setattr(commit, "load_model", lambda *_: model)
    monkeypatch.setattr(champion, "load_model", lambda *_: model)
    monkeypatch.setattr(commit, "download", _artifact)
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def pausing(step: Callable[[commit.Commit], None]) -> Callable[[commit.Commit], None]:
        def paused(run: commit.Commit) -> None:
            Process.point()
            step(run)

        return paused

    monkeypatch.setattr(commit, "PROTOCOL", tuple(map(pausing, commit.PROTOCOL)))


def _artifact(connection: Any, root: str, name: str) -> bytes:
    if name == commit.INTENT_FILE:
        return str(connection.client.runs[root].data.tags["intent"]).encode()
    return SAMPLE.to_parquet(index=False) if name == commit.VERIFICATION_FILE else b"published"


def points_of(work: Callable[[], object]) -> int:
    """How many points a process has that nobody disturbs."""
    process = Process(work)
    for points in range(200):
        process.advance(0)
        if process.ended:
            assert process.error is None
            return points
    raise AssertionError("the process does not end")


def pairs(points: int, thin: int) -> Iterator[tuple[int, int]]:
    """Where the first stops, and how far the second gets meanwhile; every place of either, and each with the end."""
    for first in range(points):
        yield first, ALL
        yield from ((first, second) for second in range(points) if (first + second) % thin == 0)


@pytest.mark.slow
@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("frozen", [False, True], ids=["alive", "frozen"])
@pytest.mark.parametrize("order", [(T1, T2), (T2, T1)], ids=["older-first", "newer-first"])
def test_two_promotions_interleaved_anywhere_leave_one_champion_that_the_log_names(
    tmp_path: Path, order: tuple[datetime, datetime], frozen: bool
) -> None:
    """Fails when the champion in service is one that the log calls refused, or an older model replaces a newer one."""
    points = points_of(Stage(lambda: open_folder(str(tmp_path / "undisturbed")), frozen=False).promotion(T1))
    assert points > len(commit.PROTOCOL) + 6
    for first, second in pairs(points, thin=3):
        folder = tmp_path / f"{first}-{second}"
        stage = Stage(lambda folder=folder: open_folder(str(folder)), frozen=frozen)  # type: ignore[misc]
        works = [stage.promotion(as_of) for as_of in order]
        one, other = map(Process, works)
        one.advance(first)
        other.advance(second)
        finish(one, other)
        errors = [process.error for process in (one, other) if process.error is not None]
        assert all(isinstance(error, ServiceUnavailableError) for error in errors), errors
        assert frozen or not errors
        stage.resume()
        stage.assert_agrees()
        outcomes = sorted(found.outcome for found in stage.decided(*order))
        assert outcomes == [Outcome.PROMOTED, Outcome.REFUSED], (first, second)
        (promoted,) = [found for found in stage.decided(*order) if found.outcome is Outcome.PROMOTED]
        (refused,) = [found for found in stage.decided(*order) if found.outcome is Outcome.REFUSED]
        assert sorted(stage.client.versions) == [1, 2, promoted.version]
        assert stage.client.aliases == {"champion": promoted.version, "previous_champion": 2}
        failed = [(check.name, check.value) for check in refused.checks if not check.passed]
        assert ("champion_unchanged", promoted.version) in failed
        assert frozen or set(stage.client.uploads.values()) == {1}  # nothing is rendered or uploaded twice


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("frozen", [False, True], ids=["alive", "frozen"])
@pytest.mark.parametrize("first", ["the run", "the person"])
def test_a_promotion_and_a_rollback_interleaved_anywhere_agree_with_the_log(
    tmp_path: Path, first: str, frozen: bool
) -> None:
    """Fails when a person rolls back, and the model of a run that is under way serves all the same."""
    points = points_of(Stage(lambda: open_folder(str(tmp_path / "undisturbed")), frozen=False).promotion(T1))
    for place in range(points):
        folder = tmp_path / str(place)
        stage = Stage(lambda folder=folder: open_folder(str(folder)), frozen=frozen)  # type: ignore[misc]
        registry = stage.registry()
        run = Process(stage.promotion(T1))
        person = Process(lambda registry=registry: registry.rollback(None, "alerts doubled", "anna"))  # type: ignore[misc]
        one, other = (run, person) if first == "the run" else (person, run)
        one.advance(place)
        finish(other, one)
        errors = [process.error for process in (run, person) if process.error is not None]
        assert all(isinstance(error, ServiceUnavailableError) for error in errors), errors
        stage.resume()
        rolled_back = [entry for entry in stage.log.history() if isinstance(entry, Intervention)]
        if person.error is None:
            assert [entry.action for entry in rolled_back] == [Action.ROLLBACK]
        stage.assert_agrees()


@pytest.mark.slow
@pytest.mark.usefixtures("steps")
def test_two_promotions_interleaved_on_an_object_storage_agree_with_the_log(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the lease of an object storage is given to two runs at once."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for frozen in (False, True):
        for place in range(2, 30, 9):
            folder = f"s3a://bucket/{frozen}-{place}"
            stage = Stage(lambda folder=folder: open_folder(folder), frozen=frozen)  # type: ignore[misc]
            one, other = Process(stage.promotion(T1)), Process(stage.promotion(T2))
            one.advance(place)
            finish(other, one)
            stage.resume()
            stage.assert_agrees()
            outcomes = sorted(found.outcome for found in stage.decided(T1, T2))
            assert outcomes == [Outcome.PROMOTED, Outcome.REFUSED]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
