"""Two processes in the last steps of one model: whatever their order, the decision log and the registry agree."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.object_storage import KEY, SECRET, Server, serving
from fakes.registry import NAME, T1, T2
from fakes.registry_processes import ALL, BEGINNING, Clock, Process, Stage, finish, points_of

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.registry import Leases, commit
from fraud_detection.registry.decision_log import Action, Intervention
from fraud_detection.registry.lease import CLOCK_SKEW, DURATION, PATIENCE, SETTLING, Lease, LeaseRecord
from fraud_detection.registry.processes import ProcessIdentity, _started, this_process
from fraud_detection.schema import Outcome
from fraud_detection.storage import open_folder

pytest_plugins = ["registry_fixtures"]


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


def _abandoned(leases: Leases, **changed: object) -> LeaseRecord:
    """A lease whose holder, another process of this machine, was killed; some of what is known of it is changed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = this_process()
        assert here is not None
        running = ProcessIdentity(**{**here.model_dump(), "pid": process.pid, "started": _started(process.pid)})
        assert not running.has_ended()
        process.kill()
    assert running.has_ended()
    held = leases._acquire("the run of 12:00")
    killed = held._record.model_copy(update={"process": running.model_copy(update=changed)})
    leases.write(killed)
    return killed


def test_a_killed_process_of_this_machine_blocks_the_next_for_seconds(
    leases: Leases, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails when a run after a killed one waits for minutes, or does not wait for the killed one's last request."""
    _abandoned(leases)
    with leases.hold("the run of 13:00") as held:
        assert SETTLING <= clock.time - BEGINNING < SETTLING + timedelta(seconds=2)
        held.require_held()
    (record,) = caplog.records
    assert record.getMessage().startswith("the run of 12:00 has ended without its last steps")


@pytest.mark.parametrize(
    "changed", [{"boot": "another"}, {"namespace": "pid:[1]"}], ids=["another machine", "another container"]
)
def test_a_process_elsewhere_is_never_taken_for_dead(leases: Leases, clock: Clock, changed: dict[str, str]) -> None:
    """Fails when the lease of a running job of a cluster is taken since this machine has no process of its number."""
    _abandoned(leases, **changed)
    with leases.hold("the run of 13:00"):
        assert clock.time - BEGINNING > DURATION + CLOCK_SKEW


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(leases: Leases, clock: Clock) -> None:
    """Fails when a lease stays for minutes since another program has got the number of its dead holder."""
    _abandoned(leases, pid=os.getpid())
    with leases.hold("the run of 13:00"):
        assert clock.time - BEGINNING < SETTLING + timedelta(seconds=2)


def test_a_lease_that_says_nothing_of_its_process_has_to_expire(leases: Leases, clock: Clock) -> None:
    """Fails when a lease of an earlier release cannot be read, or counts as that of a dead process."""
    leases.write(leases._acquire("the run of 12:00")._record.model_copy(update={"process": None}))
    with leases.hold("the run of 13:00"):
        assert clock.time - BEGINNING > DURATION + CLOCK_SKEW


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


def pairs(points: int, thin: int) -> Iterator[tuple[int, int]]:
    """Where the first stops, and how far the second gets meanwhile; every place of either, and each with the end."""
    for first in range(points):
        yield first, ALL
        yield from ((first, second) for second in range(points) if (first + second) % thin == 0)


@pytest.mark.slow
@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("frozen", [False, True], ids=["alive", "frozen"])
@pytest.mark.parametrize(
    "order", [(T1, T2), pytest.param((T2, T1), marks=pytest.mark.proof)], ids=["older-first", "newer-first"]
)
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
