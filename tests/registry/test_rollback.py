"""Rollback, pin, unpin and retirement: what a user does to the model in service holds."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from factories import decision
from fakes.registry import NAME, T1, T2, World, artifact, failed, world

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry import commit, registration, rollback
from fraud_detection.registry.aliases import Pin
from fraud_detection.registry.decision_log import Action, Intervention
from fraud_detection.registry.lease import LeaseLostError
from fraud_detection.registry.restoration import logged_service, restore_service
from fraud_detection.schema import Decision, Outcome

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def test_a_rollback_puts_the_previous_champion_back_and_pins_it(served: World) -> None:
    """Fails when the next hourly run promotes the model that was just rolled back."""
    served.record(Outcome.PROMOTED, T1)
    assert served.registry.pinned() is None
    done = served.registry.rollback(None, "alerts doubled", "anna")
    assert (done.action, done.from_version, done.to_version) == (Action.ROLLBACK, 2, 1)
    assert served.aliases() == {"champion": 1, "previous_champion": 2}
    pin = served.registry.pinned()
    assert pin is not None
    assert (pin.who, pin.reason, pin.from_version, pin.to_version) == ("anna", "alerts doubled", 2, 1)
    refused = served.record(Outcome.PROMOTED, T2, seed=2)
    assert failed(refused) == ["not_pinned"]
    assert "anna" in refused.reason
    assert "fraud-detection unpin" in refused.reason
    assert served.versions() == [1, 2]
    assert served.aliases() == {"champion": 1, "previous_champion": 2}


def test_promotion_resumes_after_unpin(served: World) -> None:
    """Fails when automatic promotion stays off after an unpin."""
    served.record(Outcome.PROMOTED, T1)
    served.registry.rollback(None, "alerts doubled", "anna")
    done = served.registry.unpin("it was the data", "boris")
    assert (done.action, done.who, done.to_version) == (Action.UNPIN, "boris", 1)
    assert served.registry.pinned() is None
    assert served.record(Outcome.PROMOTED, T2, seed=2).version == 3
    assert served.aliases() == {"champion": 3, "previous_champion": 1}
    actions = [entry.action for entry in served.log.history() if isinstance(entry, Intervention)]
    assert actions == [Action.ROLLBACK, Action.UNPIN]


def test_a_pin_keeps_the_champion(two: World) -> None:
    """Fails when a model is replaced during an audit, or a pin loses the version that a rollback would return to."""
    done = two.registry.pin("the audit", "anna")
    assert (done.action, done.from_version, done.to_version) == (Action.PIN, 2, 2)
    assert two.aliases() == {"champion": 2, "previous_champion": 1}
    refused = two.record(Outcome.PROMOTED, T2, seed=2)
    assert failed(refused) == ["not_pinned"]
    assert "version 2 is pinned by anna" in refused.reason
    with pytest.raises(FraudDetectionError, match=r"is pinned already: version 2 is pinned by anna.*rollback"):
        two.registry.pin("another audit", "boris")
    assert two.registry.rollback(None, "the audit found a fault", "anna").to_version == 1
    assert two.aliases() == {"champion": 1, "previous_champion": 2}
    two.registry.unpin("mended", "anna")
    assert two.record(Outcome.PROMOTED, T2 + timedelta(hours=1), seed=2).version == 3


@pytest.mark.parametrize("command", ["pin", "rollback", "rollback to", "retire"])
def test_a_command_that_was_killed_at_its_end_may_be_repeated(two: World, command: str) -> None:
    """Fails when the second try after a lost connection is an error, and its user believes that nothing was done."""
    commands: dict[str, Callable[[str], Intervention]] = {
        "pin": lambda who: two.registry.pin("alerts doubled", who),
        "rollback": lambda who: two.registry.rollback(None, "alerts doubled", who),
        "rollback to": lambda who: two.registry.rollback(1, "alerts doubled", who),
        "retire": lambda who: two.registry.retire(2, "alerts doubled", who),
    }
    done = commands[command]("anna")
    aliases, names = two.aliases(), two.log.names()
    damaged = next(two.output.glob("decisions/*/*Z.json"))
    damaged.write_text("{", encoding="utf-8")  # no command may depend on the rest of the log
    assert commands[command]("anna") == done
    assert (two.aliases(), two.log.names()) == (aliases, names)
    with pytest.raises(FraudDetectionError):
        commands[command]("boris")


def test_an_accepted_log_says_what_serves(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the promotion was what was lost, and the next lost lease puts the old champion back into service."""
    lost = max(path for path in two.output.glob("decisions/*/*.json"))
    lost.unlink()
    two.registry.accept_log("the disk was lost", "anna")
    assert logged_service(two.log.history()).champion == 2
    context = two.registry._context
    with context.leases.hold("a run") as lease:
        restore_service(context, lease)
    assert two.aliases() == {"champion": 2, "previous_champion": 1}


def test_accepting_a_log_ends_no_pin(two: World) -> None:
    """Fails when a pin is gone after a late request, because a person had accepted a broken log meanwhile."""
    two.registry.rollback(None, "alerts doubled", "anna")
    (rolled_back,) = [entry for entry in two.log.history() if isinstance(entry, Intervention)]
    accepted = rolled_back.model_copy(update={"action": Action.ACCEPT_LOG, "from_version": 1, "to_version": 1})
    assert logged_service([rolled_back, accepted]) == logged_service([rolled_back])


def test_a_pin_without_a_champion_is_explained(empty: World) -> None:
    """Fails when a pin of nothing ends in MLflow's RESOURCE_DOES_NOT_EXIST, or stops the first promotion."""
    with pytest.raises(FraudDetectionError, match="no champion to pin; train one: fraud-detection retrain"):
        empty.registry.pin("r", "anna")
    assert empty.record(Outcome.PROMOTED, T1).version == 1


def test_a_rollback_can_name_any_version(served: World) -> None:
    """Fails when two bad promotions in a row cannot be rolled back."""
    served.record(Outcome.PROMOTED, T1, seed=1)
    served.record(Outcome.PROMOTED, T2, seed=2)
    served.registry.rollback(None, "bad", "anna")
    assert served.registry.rollback(1, "still bad", "anna").from_version == 2
    assert served.aliases() == {"champion": 1, "previous_champion": 2}
    pin = served.registry.pinned()
    assert pin is not None
    assert pin.reason == "still bad"


def test_a_rollback_that_makes_no_sense_is_explained(served: World) -> None:
    """Fails when a mistyped rollback or unpin changes the champion, or does not say which versions exist."""
    rollback = served.registry.rollback
    with pytest.raises(
        FraudDetectionError, match=r"no previous champion; .* existing versions: 1; the champion is version 1"
    ):
        rollback(None, "r", "anna")
    served.record(Outcome.PROMOTED, T1)
    with pytest.raises(FraudDetectionError, match="has no version 7; existing versions: 1, 2"):
        rollback(7, "r", "anna")
    with pytest.raises(
        FraudDetectionError, match=r"version 2 of fraud_detection is in service already.*existing versions: 1, 2"
    ):
        rollback(2, "r", "anna")
    with pytest.raises(FraudDetectionError, match="is not pinned"):
        served.registry.unpin("r", "anna")
    assert served.aliases() == {"champion": 2, "previous_champion": 1}
    rollback(None, "alerts doubled", "anna")
    with pytest.raises(FraudDetectionError, match=r"was rolled back already: version 1 is pinned by anna.*unpin"):
        rollback(None, "again", "boris")  # it would bring the bad version back
    assert served.aliases() == {"champion": 1, "previous_champion": 2}


def test_a_rollback_without_any_model_is_explained(empty: World) -> None:
    """Fails when a rollback in a new installation ends in MLflow's RESOURCE_DOES_NOT_EXIST."""
    with pytest.raises(FraudDetectionError, match="no champion to roll back; train one: fraud-detection retrain"):
        empty.registry.rollback(None, "r", "anna")


def test_a_rollback_to_a_version_that_cannot_be_loaded_changes_nothing(served: World) -> None:
    """Fails when a rollback replaces a bad model with one that cannot be loaded at all."""
    served.record(Outcome.PROMOTED, T1)
    artifact(served, 1, "model.ubj").unlink()
    with pytest.raises(FraudDetectionError, match=r"version 1 of fraud_detection .* cannot be loaded"):
        served.registry.rollback(None, "r", "anna")
    assert served.aliases() == {"champion": 2, "previous_champion": 1}
    assert served.registry.pinned() is None


@contextmanager
def rollback_just_before(step: Any, here: World, to: int | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An operator rolls back just before a run's next step."""
    original = commit.PROTOCOL

    def pulled_brake(run: commit.Commit) -> None:
        monkeypatch.setattr(commit, "PROTOCOL", original)
        world(here.output).registry.rollback(to, "alerts doubled", "anna")
        step(run)

    changed = tuple(pulled_brake if known is step else known for known in original)
    monkeypatch.setattr(commit, "PROTOCOL", changed)
    yield
    assert commit.PROTOCOL is original, "the person did nothing"


def test_a_rollback_at_the_moment_of_a_promotion_wins(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a run that hangs while it promotes overrides an operator's rollback afterwards."""
    served.record(Outcome.PROMOTED, T1, seed=1)
    with rollback_just_before(registration.set_champion, served, None, monkeypatch), pytest.raises(LeaseLostError):
        served.record(Outcome.PROMOTED, T2, seed=2)
    decided = served.log.find(T2)
    assert decided is not None
    assert (decided.outcome, decided.version) == (Outcome.PROMOTED, 3)  # the rollback completed it, then left it
    assert served.versions() == [1, 2, 3]
    assert served.aliases() == {"champion": 2, "previous_champion": 3}
    assert [type(entry) for entry in served.log.history()] == [Decision, Decision, Decision, Intervention]


def test_a_rollback_wins_also_where_it_cannot_complete_the_promotion(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an intent that cannot be completed prevents an operator's rollback."""
    served.record(Outcome.PROMOTED, T1, seed=1)

    def refuse(*_arguments: object) -> None:
        raise FraudDetectionError("the intent's artifacts are gone")

    champion = served.client.get_registered_model(NAME).aliases["champion"]
    promotion = decision(Outcome.PROMOTED, T2, champion_version=int(champion))
    with monkeypatch.context() as patched:
        patched.setattr(rollback, "resume_open_intents", refuse)
        with rollback_just_before(registration.set_champion, served, 1, monkeypatch), pytest.raises(LeaseLostError):
            served.record_as_it_is(promotion, seed=2)
    (decided,) = world(served.output).registry.resume_open_intents(T2)
    assert isinstance(decided, Decision)
    assert failed(decided) == ["not_pinned"]
    assert served.versions() == [1, 2]
    assert served.aliases() == {"champion": 1, "previous_champion": 2}


def test_a_pin_that_is_no_pin_is_explained(served: World) -> None:
    """Fails when a pin tag edited by hand in MLflow stops every run with a stack trace."""
    served.client.set_registered_model_tag(NAME, "fraud_detection.pin", "yes please")
    with pytest.raises(FraudDetectionError, match=r"fraud_detection\.pin is not a pin: 'yes please'"):
        served.registry.pinned()


def alias_names_missing_version(here: World, alias: str, version: int) -> None:
    """The state of a registry that keeps the aliases of a deleted version."""
    with sqlite3.connect(here.output / "mlflow.db") as database:
        database.execute(
            "INSERT OR REPLACE INTO registered_model_aliases (alias, version, name, workspace) VALUES (?, ?, ?, ?)",
            (alias, version, NAME, "default"),
        )


def rolled_back_from_a_missing_version(here: World) -> None:
    """The pin is set, the aliases are not moved, and the former champion is deleted."""
    alias_names_missing_version(here, "champion", 9)
    pin = Pin(at=datetime.now(UTC), who="anna", reason="alerts doubled", from_version=9, to_version=1)
    here.client.set_registered_model_tag(NAME, "fraud_detection.pin", pin.model_dump_json())


def rolled_back_to_a_missing_version(here: World) -> None:
    pin = Pin(at=datetime.now(UTC), who="anna", reason="alerts doubled", from_version=2, to_version=9)
    here.client.set_registered_model_tag(NAME, "fraud_detection.pin", pin.model_dump_json())


def previous_champion_is_missing(here: World) -> None:
    alias_names_missing_version(here, "previous_champion", 9)


def tag_is_garbled(here: World) -> None:
    here.client.set_registered_model_tag(NAME, "fraud_detection.pin", "yes please")


def intent_is_lost(here: World) -> None:
    """A run was killed during registration, and its artifacts are gone."""
    run = here.client.create_run(here.connection.experiment_id, tags={"fraud_detection.model": NAME}).info
    here.client.set_tag(run.run_id, registration.INTENT_TAG, registration.OPEN)


def log_is_truncated(here: World) -> None:
    (here.output / "decisions" / NAME / "20180822T000000Z.json").write_bytes(b'{"decision": "prom')


STATES = [
    rolled_back_from_a_missing_version,
    rolled_back_to_a_missing_version,
    previous_champion_is_missing,
    tag_is_garbled,
    intent_is_lost,
    log_is_truncated,
]


@pytest.mark.slow
@pytest.mark.parametrize("break_it", STATES)
def test_a_rollback_leaves_every_state(two: World, break_it: Callable[[World], None]) -> None:
    """Fails when an operator cannot roll back because of what an earlier command or run left behind."""
    break_it(two)
    fresh = world(two.output)
    target = 2 if break_it is rolled_back_from_a_missing_version else 1
    assert fresh.registry.rollback(target, "bad", "boris").to_version == target
    assert fresh.aliases()["champion"] == target
    assert fresh.registry.pinned() is not None
    assert set(fresh.aliases().values()) <= {1, 2}


@pytest.mark.slow
@pytest.mark.parametrize("break_it", STATES)
def test_an_unpin_leaves_every_state(two: World, break_it: Callable[[World], None]) -> None:
    """Fails when promotion stays off because of what an earlier command or run left behind."""
    pinning = break_it in (rolled_back_from_a_missing_version, rolled_back_to_a_missing_version, tag_is_garbled)
    if not pinning:
        two.registry.rollback(1, "alerts doubled", "anna")
    break_it(two)
    fresh = world(two.output)
    assert fresh.registry.unpin("settled", "boris").action is Action.UNPIN
    assert fresh.registry.pinned() is None
    assert fresh.registry.champion() is not None


@pytest.mark.slow
@pytest.mark.parametrize("break_it", STATES)
def test_a_retirement_leaves_every_state(two: World, break_it: Callable[[World], None]) -> None:
    """Fails when no command can retire a champion that cannot be compared with."""
    break_it(two)
    serving = 1 if break_it is rolled_back_from_a_missing_version else 2
    done = world(two.output).registry.retire(serving, "the schema changed", "boris")
    assert (done.action, done.from_version, done.to_version) == (Action.RETIRE, serving, None)
    assert two.aliases() == {"previous_champion": serving}
    retirement = two.registry.retirement()
    assert retirement is not None
    assert retirement.version == serving
    assert two.registry.champion() is None


@pytest.mark.parametrize("break_it", [rolled_back_from_a_missing_version, previous_champion_is_missing])
def test_a_run_leaves_a_state_that_it_can(two: World, break_it: Callable[[World], None]) -> None:
    """Fails when an alias that names a missing version ends every later run."""
    break_it(two)
    fresh = world(two.output)
    assert fresh.registry.resume_open_intents(T2) == ()
    champion = fresh.registry.champion()
    assert champion is not None
    assert fresh.record(Outcome.REFUSED, T2).champion_version == champion.version


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (
            rolled_back_to_a_missing_version,
            r"version 9 .* does not exist; existing versions: 1, 2; .*rollback .*--to VERSION.*unpin",
        ),
        (tag_is_garbled, r"is not a pin: 'yes please'.*fraud-detection unpin.*fraud-detection rollback .*--to VERSION"),
        (intent_is_lost, r"mlflow runs delete --run-id"),
    ],
)
def test_a_run_that_cannot_go_on_names_the_commands(two: World, break_it: Callable[[World], None], says: str) -> None:
    """Fails when no command in the message of a failed run removes the cause."""
    break_it(two)
    with pytest.raises(FraudDetectionError, match=says):
        world(two.output).registry.resume_open_intents(T2)


def test_a_promotion_ends_the_retirement(served: World) -> None:
    """Fails when a retirement outlives its successor, which would count as retired once it is lost."""
    served.registry.retire(1, "the schema changed", "anna")
    assert served.record(Outcome.PROMOTED, T1).version == 2
    assert served.registry.retirement() is None
    served.client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(FraudDetectionError, match="the champion is lost"):
        served.registry.champion()


def test_a_retirement_leaves_a_champion_without_any_file(served: World) -> None:
    """Fails when the only champion cannot be loaded, and nothing else can be put into service."""
    artifact(served, 1, "model.ubj").unlink()
    with pytest.raises(FraudDetectionError, match=r"fraud-detection retire-champion .*--version 1"):
        served.registry.champion()
    served.registry.retire(1, "its file is lost", "anna")
    assert served.registry.champion() is None
    assert served.record(Outcome.PROMOTED, T1).version == 2
