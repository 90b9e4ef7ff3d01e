"""Requests that are sent after the lease was lost: what the log says is in service afterwards."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from factories import decision, rollback_look
from fakes.registry import T0, T1, T2, lease_records
from fakes.registry_processes import ALL, CHANGES, Process, Stage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.aliases import service
from fraud_detection.registry.decision_log import PROMOTIONS, Action, Intervention
from fraud_detection.registry.log_chain import HEAD_TAG, restore_head
from fraud_detection.registry.restoration import LoggedService, exclusive, logged_service, restore_service
from fraud_detection.schema import Decision, Outcome
from fraud_detection.storage import open_folder

pytest_plugins = ["registry_fixtures"]

Work = Callable[[], object]


def promotion(stage: Stage) -> Work:
    return stage.promotion(T1)


def first_promotion(stage: Stage) -> Work:
    """That of a first champion, which ends a retirement."""
    stage.registry().retire(2, "the schema changed", "boris")
    return stage.promotion(T1, compared=None)


def refused_promotion(stage: Stage) -> Work:
    """The champion changes while its version is registered."""
    run = stage.promotion(T1)
    create = stage.client.create_model_version

    def created(*arguments: Any, **named: Any) -> None:
        create(*arguments, **named)
        stage.client.aliases["champion"] = 1

    created.__name__ = create.__name__
    stage.client.create_model_version = created  # type: ignore[method-assign]
    return run


def approval(stage: Stage) -> Work:
    return stage.approval()


def override_after_retirement(stage: Stage) -> Work:
    """It ends the retirement."""
    stage.registry().retire(2, "the schema changed", "boris")
    return stage.approval(Action.PROMOTE, compared=None)


def rollback(stage: Stage) -> Work:
    registry = stage.registry()
    return lambda: registry.rollback(1, "alerts doubled", "anna")


def automatic_rollback(stage: Stage) -> Work:
    """The newest decision has found version 1, the predecessor, better."""
    at, look = T0 + timedelta(minutes=30), rollback_look(T0)
    given = decision(Outcome.REFUSED, at, 2, decided_at=stage.clock.now(), schema_version=2, rollback_look=look)
    assert stage.log.write(given)
    registry = stage.registry()
    return registry.roll_back_automatically


def rollback_after_retirement(stage: Stage) -> Work:
    """It removes `previous_champion`, which names the version that returns."""
    stage.registry().retire(2, "the schema changed", "boris")
    registry = stage.registry()
    return lambda: registry.rollback(2, "it was the data", "anna")


def pin(stage: Stage) -> Work:
    registry = stage.registry()
    return lambda: registry.pin("the holidays begin", "anna")


def unpin(stage: Stage) -> Work:
    stage.registry().rollback(1, "alerts doubled", "boris")
    registry = stage.registry()
    return lambda: registry.unpin("it was the data", "anna")


def retirement(stage: Stage) -> Work:
    registry = stage.registry()
    return lambda: registry.retire(2, "the schema changed", "anna")


ALIAS, TAG = "set_registered_model_alias", "set_registered_model_tag"
NO_ALIAS, NO_TAG = "delete_registered_model_alias", "delete_registered_model_tag"
LEASE, LOG = "write_once", "write_once"
RELEASE = "write_atomic"
CLOSING = ["log_text", "log_text", "set_terminated", "log_batch", RELEASE]

REQUESTS: dict[Callable[[Stage], Work], list[str]] = {
    promotion: [LEASE, "create_model_version", ALIAS, ALIAS, TAG, LOG, TAG, *CLOSING],
    first_promotion: [LEASE, "create_model_version", ALIAS, NO_TAG, LOG, TAG, *CLOSING],
    approval: [LEASE, "create_model_version", ALIAS, ALIAS, TAG, LOG, TAG, "set_terminated", "log_batch", RELEASE],
    override_after_retirement: [
        LEASE,
        "create_model_version",
        ALIAS,
        NO_TAG,
        LOG,
        TAG,
        "set_terminated",
        "log_batch",
        RELEASE,
    ],
    rollback: [LEASE, TAG, ALIAS, ALIAS, TAG, LOG, TAG, RELEASE],
    automatic_rollback: [LEASE, TAG, ALIAS, ALIAS, TAG, LOG, TAG, RELEASE],
    rollback_after_retirement: [LEASE, TAG, ALIAS, NO_ALIAS, LOG, TAG, RELEASE],
    pin: [LEASE, TAG, ALIAS, TAG, LOG, TAG, RELEASE],
    unpin: [LEASE, LOG, TAG, NO_TAG, RELEASE],
    retirement: [LEASE, TAG, NO_ALIAS, ALIAS, TAG, LOG, TAG, RELEASE],
}
"""Every request that a run or a command sends. Each may be sent after its lease was lost:

- aliases and tag are restored from the decision log by the process that sent them (`restore_service`);
- so is the tag that names the log's newest entry, which follows each entry (`restore_head`);
- a version that was created too late is deleted by the same process (`discard_version`), and its description with it;
- an entry of the decision log is written once, with the time at which it was made, so the order of the history holds;
- what the closing steps upload is what another process has uploaded: it follows from the logged decision.
"""


def somebody_rolls_back(stage: Stage) -> None:
    stage.registry().resume_open_intents()
    target = 1 if stage.client.aliases.get("champion") != 1 else 2
    stage.registry().rollback(target, "alerts doubled", "carla")


def somebody_rolls_back_and_unpins(stage: Stage) -> None:
    somebody_rolls_back(stage)
    stage.registry().unpin("it was the data", "carla")


def somebody_retires(stage: Stage) -> None:
    stage.registry().resume_open_intents()
    champion = stage.client.aliases.get("champion")
    if champion is None:
        somebody_rolls_back(stage)
    else:
        stage.registry().retire(champion, "terminal ids are gone", "carla")


def the_next_run_promotes(stage: Stage) -> None:
    stage.registry().resume_open_intents()
    with suppress(FraudDetectionError):
        stage.registry().unpin("it was the data", "carla")
    stage.promotion(T2, compared=stage.client.aliases.get("champion"))()


MEANWHILE = [somebody_rolls_back, somebody_rolls_back_and_unpins, somebody_retires, the_next_run_promotes]


@dataclass(frozen=True)
class State:
    """What MLflow and the log say."""

    aliases: dict[str, int]
    tags: dict[str, str]
    versions: list[int]
    history: tuple[Decision | Intervention, ...]


def state(stage: Stage) -> State:
    client = stage.client
    return State(dict(client.aliases), dict(client.tags), sorted(client.versions), stage.log.history())


def staged(folder: Path) -> Stage:
    return Stage(lambda: open_folder(str(folder)), frozen=True)


def stopped(folder: Path, begin: Callable[[Stage], Work]) -> Iterator[tuple[Path, Stage, Process]]:
    """The work, stopped before each of its steps and requests."""
    for place in count():
        output = folder / str(place)
        stage = staged(output)
        process = Process(begin(stage))
        process.advance(place)
        if process.ended:
            assert process.error is None
            return
        yield output, stage, process


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("begin", REQUESTS)
def test_the_table_of_requests_is_complete(tmp_path: Path, begin: Callable[[Stage], Work]) -> None:
    """Fails when a new request to MLflow is not in the table that says what restores it."""
    at = [process.at for _, _, process in stopped(tmp_path, begin)]
    assert [name for name in at if name.startswith((*CHANGES, "write_"))] == REQUESTS[begin]


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("begin", [*REQUESTS, refused_promotion])
@pytest.mark.parametrize(
    "answered", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["answered", "unanswered"]
)
def test_a_late_request_changes_nothing_that_is_in_force(
    tmp_path: Path, begin: Callable[[Stage], Work], meanwhile: Callable[[Stage], None], answered: bool
) -> None:
    """Fails when a request of a process that hung undoes what a person or a run has done meanwhile."""
    restored = 0
    for output, stage, process in stopped(tmp_path, begin):
        where, before = process.at, len(stage.log.history())
        meanwhile(stage)
        expected = state(stage)
        assert len(expected.history) > before, "nothing was done meanwhile"
        process.loses_answer = not answered
        process.advance(ALL)
        assert process.ended
        assert process.error is None or isinstance(process.error, FraudDetectionError | MlflowException), where
        restored += any("restoring" in lease.holder for lease in lease_records(output))
        found = state(stage)
        if found.history == expected.history:
            assert found == expected, where
        assert_as_logged(stage, where)
        stage.resume()
        assert_as_logged(stage, where)
    assert restored, "the process never lost its lease: nothing was late"


def assert_as_logged(stage: Stage, where: str) -> None:
    history = stage.log.history()
    promoted = [entry.version for entry in history if isinstance(entry, Decision) and entry.version is not None]
    promoted += [
        entry.to_version
        for entry in history
        if isinstance(entry, Intervention) and entry.action in PROMOTIONS and entry.to_version is not None
    ]
    assert sorted(stage.client.versions) == sorted(promoted), where
    context = stage.registry()._context
    assert serving(stage) == logged_service(context.log.history()), where


def serving(stage: Stage) -> LoggedService:
    context = stage.registry()._context
    now = service(context.connection, context.name)
    return LoggedService(now.champion, now.previous_champion, now.pin or now.retirement)


def promote(stage: Stage, number: int) -> object:
    """A run finds a better model; while a version is pinned, it is refused."""
    return stage.promotion(T2 + timedelta(hours=number), compared=stage.client.aliases.get("champion"))()


def promote_of_two(stage: Stage, number: int) -> object:
    """Two runs find a better model than the same champion; the second is refused."""
    compared = stage.client.aliases.get("champion")
    runs = [stage.promotion(T2 + timedelta(hours=number, minutes=minute), compared) for minute in (0, 30)]
    return [run() for run in runs]


def approve(stage: Stage, _number: int) -> object:
    return stage.approval(compared=stage.client.aliases.get("champion"))()


def roll_back(stage: Stage, _number: int) -> object:
    return stage.registry().rollback(None, "alerts doubled", "anna")


def roll_back_to_any(stage: Stage, number: int) -> object:
    versions = sorted(stage.client.versions)
    return stage.registry().rollback(versions[number % len(versions)], "alerts doubled", "anna")


def pin_the_champion(stage: Stage, number: int) -> object:
    return stage.registry().pin(f"reason {number}", "anna")


def lift_the_pin(stage: Stage, number: int) -> object:
    return stage.registry().unpin(f"reason {number}", "anna")


def retire(stage: Stage, _number: int) -> object:
    return stage.registry().retire(stage.client.aliases.get("champion", 1), "the schema changed", "anna")


OPERATIONS = [
    promote,
    promote_of_two,
    approve,
    roll_back,
    roll_back_to_any,
    pin_the_champion,
    lift_the_pin,
    retire,
]


@pytest.mark.usefixtures("steps")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operations=st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 5)), min_size=1, max_size=8),
    aliases=st.dictionaries(st.sampled_from(["champion", "previous_champion"]), st.sampled_from([1, 2])),
    age=st.integers(0, 8),
)
def test_what_is_restored_from_the_log_is_what_the_commands_had_left(
    operations: list[tuple[Callable[[Stage, int], object], int]],
    aliases: dict[str, int],
    age: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Fails when the champion, the previous champion, the pin or the log's newest entry is not what it was before."""
    stage = staged(tmp_path_factory.mktemp("sequence"))
    heads: list[dict[str, str]] = []
    for place, (operation, choice) in enumerate(operations):
        with suppress(FraudDetectionError):  # some make no sense here, and change nothing
            operation(stage, choice if operation is roll_back_to_any else place)
        assert_as_logged(stage, operation.__name__)
        expected = state(stage)
        heads.insert(0, {name: value for name, value in expected.tags.items() if name == HEAD_TAG})
        stage.client.aliases = dict(aliases)
        stage.client.tags = dict(next(filter(None, heads[age:]), heads[0]))
        context = stage.registry()._context
        with exclusive(context, "a test") as lease:
            restore_service(context, lease)
            restore_head(context, lease)
        assert state(stage) == expected
