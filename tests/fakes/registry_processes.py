"""Processes that meet at one MLflow and one output folder, stopped at any step or change and woken later."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from factories import decision

from fakes.mlflow_registry import FakeMlflow
from fakes.registry import NAME, T0, publish
from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.registry import Leases, Registry, champion, commit, promotion_by_hand, registration
from fraud_detection.registry.artifacts import ModelVersionTags
from fraud_detection.registry.decision_log import Action, DecisionLog, Intervention
from fraud_detection.schema import CandidateKey, Decision, Outcome
from fraud_detection.storage import Storage

SAMPLE = pd.DataFrame({"amount": [1.0, 2.0], registration.SCORE: [0.1, 0.9]})
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


class Process:
    """One process as a thread. It stops at its points (steps of the protocol, changes) and goes on when it is told."""

    current = threading.local()

    def __init__(self, work: Callable[[], object]) -> None:
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._left = 0
        self.ended = self.waits = self.loses_answer = False
        self.at = ""
        """The step or change before which it stops."""
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

    def stop(self, before: str, *, waits: bool = False) -> None:
        self._left, self.at = self._left - 1, before
        if self._left < 0 or waits:
            self.waits = waits
            self._back.release()
            self._turn.acquire()

    @classmethod
    def receive(cls) -> None:
        """Receive the answer of a request, or the failure of the connection."""
        process = getattr(cls.current, "process", None)
        if process is not None and process.loses_answer:
            process.loses_answer = False
            raise ServiceUnavailableError("the connection failed")

    @classmethod
    def point(cls, before: str, *, waits: bool = False) -> None:
        process = getattr(cls.current, "process", None)
        if process is not None:
            process.stop(before, waits=waits)


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
            Process.point(_original.__name__)
            answer = _original(*arguments, **named)
            Process.receive()
            return answer

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
            Process.point("the lease", waits=True)

    def registry(self) -> Registry:
        """That of a new process."""
        storage = self._storage()
        _pausing(storage, "write_atomic", "write_once")
        leases = Leases(storage, NAME, clock=self.clock.now, sleep=self._sleep)
        made = Registry("sqlite:////unused/mlflow.db", NAME, DecisionLog(storage, NAME), leases=leases, publish=publish)
        vars(made._context.connection).update(client=self.client, experiment_id="0")
        return made

    def promotion(self, as_of: datetime, compared: int | None = 2) -> Callable[[], Decision]:
        """A run that has found a better model than that version, and is about to bring it into service."""
        run_id = f"run of {as_of:%d %H:%M}"
        given = decision(Outcome.PROMOTED, as_of, champion_version=compared, decided_at=self.clock.now(), run_id=run_id)
        model = registration.LoggedModel(model_id="m", sha256="sha")
        intent = commit.Intent(decision=given, model=model, publishes=True)
        run = self.client.add_run(
            run_id, **{registration.INTENT_TAG: registration.OPEN, "intent": intent.model_dump_json()}
        )
        context = self.registry()._context
        return lambda: commit.apply_intent(context, run, intent, SAMPLE)

    def approval(self, action: Action = Action.APPROVE, compared: int | None = 2) -> Callable[[], object]:
        """A person's command that is about to bring a candidate into service, in place of that version."""
        at = self.clock.now()
        request = Intervention(
            action=action,
            model_name=NAME,
            at=at,
            who="anna",
            reason="the board agreed",
            from_version=compared,
            to_version=None,
            pinned_at=at,
            candidate=CandidateKey(T0, "recipe"),
        )
        intent = promotion_by_hand.HandIntent(
            request=request,
            model=registration.LoggedModel(model_id="m", sha256="sha"),
            training=decision(Outcome.PROMOTED, T0).training,
            as_of=T0,
            description="approved",
        )
        run_id = f"approval of {at:%S.%f}"
        tags = {
            registration.INTENT_TAG: registration.OPEN,
            promotion_by_hand.KIND_TAG: promotion_by_hand.KIND,
            "intent": intent.model_dump_json(),
        }
        run = self.client.add_run(run_id, **tags)
        context = self.registry()._context
        return lambda: promotion_by_hand.apply_promotion(context, run, intent, SAMPLE)

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
            assert run.data.tags[registration.INTENT_TAG] == registration.CLOSED
            assert run.info.status == "FINISHED"


def stop_before_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop processes before each step of the protocol, and replace files of models: they score as expected."""
    model = SimpleNamespace(predict=lambda rows: SAMPLE[registration.SCORE].to_numpy()[: len(rows)])
    monkeypatch.setattr(registration, "load_model", lambda *_: model)
    monkeypatch.setattr(champion, "load_model", lambda *_: model)
    monkeypatch.setattr(registration, "download", _artifact)
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def pausing(step: Callable[[Any], None]) -> Callable[[Any], None]:
        def paused(run: registration.Registration) -> None:
            Process.point(f"step {step.__name__}")
            step(run)

        return paused

    monkeypatch.setattr(commit, "PROTOCOL", tuple(map(pausing, commit.PROTOCOL)))
    steps = tuple(map(pausing, promotion_by_hand.PROTOCOL))
    monkeypatch.setattr(promotion_by_hand, "PROTOCOL", steps)


def _artifact(connection: Any, root: str, name: str) -> bytes:
    if name == registration.INTENT_FILE:
        return str(connection.client.runs[root].data.tags["intent"]).encode()
    return SAMPLE.to_parquet(index=False) if name == registration.VERIFICATION_FILE else b"published"


def points_of(work: Callable[[], object]) -> int:
    """How many points a process has that nobody disturbs."""
    process = Process(work)
    for points in range(200):
        process.advance(0)
        if process.ended:
            assert process.error is None
            return points
    raise AssertionError("the process does not end")
