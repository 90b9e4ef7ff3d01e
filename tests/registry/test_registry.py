"""The registry: one version per promotion, the model that was compared, and a rollback that works."""

import json
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import decision
from fakes.registry import NAME, T0, T1, T2, T3, World, leases_in, model, publish, rows, world

from fraud_detection.cli import default_tracking_uri
from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError, SettingsError
from fraud_detection.model.encoding import FloatArray
from fraud_detection.model.model import Model
from fraud_detection.registry import Pin, Registry, RunRecord, commit, recording, rollback
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.decision_log import Action, DecisionLog, Intervention
from fraud_detection.registry.lease import LeaseLostError
from fraud_detection.schema import Decision, Outcome
from fraud_detection.storage import open_folder

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="session")
def _empty(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = world(tmp_path_factory.mktemp("empty"))
    made.registry.resume_open_intents()
    (made.output / "decisions").mkdir()
    return made


@pytest.fixture
def empty(tmp_path: Path, _empty: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An MLflow without a run. Its artifacts are shared between tests; each run has a folder of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return world(tmp_path / "output", _empty)


@pytest.fixture
def served(empty: World) -> World:
    """Version 1 has been in service since T0."""
    empty.record(Outcome.PROMOTED, T0, seed=0)
    return empty


def artifact(here: World, version: int, name: str) -> Path:
    """A file of a registered version."""
    uri = here.client.get_model_version_download_uri(NAME, str(version))
    return Path(uri.removeprefix("file://")) / name


def failed(decided: Decision) -> list[str]:
    return [check.name for check in decided.checks if not check.passed]


# Logging and promotion


def test_a_first_champion_is_registered_logged_and_decided(empty: World) -> None:
    """Fails when the first run leaves no version, MLflow run or decision for later runs to compare with."""
    assert empty.registry.champion() is None
    decided = empty.record(Outcome.PROMOTED, T1)
    assert (decided.version, decided.champion_version) == (1, None)
    assert empty.log.find(T1) == decided
    assert empty.versions() == [1]
    assert empty.aliases() == {"champion": 1}
    (run,) = empty.runs()
    assert run.info.run_id == decided.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == {"training.trees": "5", "model_name": NAME}
    assert run.data.metrics["challenger_average_precision"] == 0.7
    assert run.data.metrics["difference_low"] == 0.011
    assert run.data.metrics["holdout_frauds"] == 60
    assert run.data.tags["fraud_detection.as_of"] == "2018-08-22T00:00:00+00:00"
    assert run.data.tags["fraud_detection.code_version"] == "0.1.0"
    assert run.data.tags["fraud_detection.outcome"] == "promoted"
    files = {file.path for file in empty.client.list_artifacts(run.info.run_id)}
    assert {"report.html", "decision.json", "intent.json", "verification.parquet"} <= files


def test_the_champion_is_the_model_that_was_compared(served: World) -> None:
    """Fails when the model in service is not the one that won the comparison."""
    champion = served.registry.champion()
    assert champion is not None
    assert champion.model.to_bytes() == model(0).to_bytes()
    assert champion.model.inputs == model(0).inputs
    np.testing.assert_array_equal(champion.model.predict(rows()), model(0).predict(rows()))
    assert champion.training == decision(Outcome.PROMOTED, T0).training
    assert champion.as_of == T0
    assert champion.run_id == served.runs()[0].info.run_id


def test_anyone_with_mlflow_and_xgboost_can_predict(served: World) -> None:
    """Fails when serving needs this package installed, or gives other scores than the comparison did."""
    import mlflow

    assert served.registry.pinned() is None  # MLflow's global address is now that of this world
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    features = model(0).inputs_of(rows()).astype("float64").assign(another_column="ignored")
    np.testing.assert_array_equal(loaded.predict(features), model(0).predict(rows()))
    assert loaded.input_example is not None
    np.testing.assert_array_equal(loaded.predict(loaded.input_example), model(0).predict(loaded.input_example))
    with pytest.raises(mlflow.MlflowException, match="mean_7d"):
        loaded.predict(features.drop(columns="mean_7d"))


def test_a_version_holds_no_code(served: World) -> None:
    """Fails when loading a model from a shared bucket can run code that somebody put there."""
    names = {file.name for file in artifact(served, 1, "").iterdir()}
    assert "model.ubj" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".cloudpickle", ".py", ".joblib"))]
    description = artifact(served, 1, "MLmodel").read_text()
    assert "loader_module: mlflow.xgboost" in description
    assert "xgboost" in artifact(served, 1, "requirements.txt").read_text()


def test_a_promotion_remembers_the_champion_before(served: World) -> None:
    """Fails when a promotion does not record the champion it replaced, and a rollback has no target."""
    decided = served.record(Outcome.PROMOTED, T1)
    assert (decided.version, decided.champion_version) == (2, 1)
    assert served.aliases() == {"champion": 2, "previous_champion": 1}
    assert {"registered_model_identical", "champion_unchanged", "not_pinned"} <= {
        check.name for check in decided.checks
    }
    assert failed(decided) == []


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.NO_DECISION])
def test_what_does_not_win_is_logged_and_registers_nothing(served: World, outcome: Outcome) -> None:
    """Fails when a refused model is registered and could be served by mistake, or its run is not logged."""
    decided = served.record(outcome, T1)
    assert decided.version is None
    assert served.versions() == [1]
    assert served.aliases() == {"champion": 1}
    assert {run.data.tags["fraud_detection.outcome"] for run in served.runs()} == {"promoted", outcome.value}


def test_the_report_names_the_version(served: World) -> None:
    """Fails when the report in MLflow does not name the promoted version."""
    decided = served.record(Outcome.PROMOTED, T1)
    run = served.client.get_run(decided.run_id)
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (folder / "report.html").read_text() == "promoted 2"
    assert (folder / "intent.json").is_file()


def test_the_same_moment_is_decided_once(served: World) -> None:
    """Fails when a repeated run registers the same model twice, or contradicts the first decision."""
    first = served.record(Outcome.PROMOTED, T1, seed=1)
    again = served.record(Outcome.PROMOTED, T1, seed=2)
    assert again == first
    assert served.versions() == [1, 2]
    assert len(served.runs()) == 2


def test_a_model_that_scores_differently_once_registered_is_not_promoted(served: World) -> None:
    """Fails when a model goes into service that scores differently from the one that won."""

    class Other(Model):
        def predict(self, rows: Any) -> FloatArray:
            scores = super().predict(rows)
            scores[:3] = np.nextafter(scores[:3], np.float32(1))
            return scores

    given = decision(Outcome.PROMOTED, T1, champion_version=1)
    decided = served.registry.record(given, RunRecord(challenger=Other(model(1).booster, model(1).inputs)))
    assert (decided.outcome, decided.version) == (Outcome.REFUSED, None)
    assert failed(decided) == ["registered_model_identical"]
    assert "scores 3 of " in decided.reason
    assert served.log.find(T1) == decided
    assert served.versions() == [1]
    assert served.aliases() == {"champion": 1}


@pytest.mark.parametrize("seed", [0, 2])
def test_another_model_in_the_registered_files_is_not_promoted(
    served: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Fails when a swapped model with a matching checksum goes into service in place of the one that won."""
    monkeypatch.setattr(commit, "load_model", lambda *_: Model.from_bytes(model(seed).to_bytes()))
    decided = served.record(Outcome.PROMOTED, T1, seed=1)
    assert failed(decided) == ["registered_model_identical"]
    assert "rows differently" in decided.reason
    assert served.aliases() == {"champion": 1}


def test_what_a_promotion_leaves_holds_no_row_of_the_data(served: World) -> None:
    """Fails when MLflow's artifacts contain values of the transactions that the model was trained on."""
    verification = artifact(served, 1, ".").parents[2] / served.runs()[0].info.run_id / "artifacts"
    kept = pd.read_parquet(verification / "verification.parquet")
    example = json.loads(artifact(served, 1, "input_example.json").read_text())
    shown = {value for row in example["data"] for value in row if value is not None}
    values = {*kept["amount"].dropna().astype(float), *kept["mean_7d"].dropna().astype(float), *shown} - {0.0, 1.0}
    assert len(values) > 1000
    table = rows()[["amount", "count_1d", "mean_7d"]].astype(np.float32).astype(float)
    assert not values & set(table.to_numpy().ravel())


def test_registered_files_that_cannot_be_loaded_are_not_promoted(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when model files damaged during the upload are promoted, and serving cannot load them."""

    def break_file(run: commit.Commit) -> None:
        commit.register_version(run)
        artifact(served, 2, "model.ubj").write_bytes(b"{L")

    steps = tuple(break_file if step is commit.register_version else step for step in commit.PROTOCOL)
    monkeypatch.setattr(commit, "PROTOCOL", steps)
    decided = served.record(Outcome.PROMOTED, T1)
    assert failed(decided) == ["registered_model_identical"]
    assert "corrupted" in decided.reason
    assert served.versions() == [1]


def test_a_champion_that_changed_since_the_comparison_is_not_replaced(served: World) -> None:
    """Fails when the second of two simultaneous runs replaces a champion that it was never compared with."""
    stale = decision(Outcome.PROMOTED, T2, champion_version=1)
    served.record(Outcome.PROMOTED, T1, seed=1)
    decided = served.record_as_it_is(stale, seed=2)
    assert decided.outcome is Outcome.REFUSED
    assert failed(decided) == ["champion_unchanged"]
    assert decided.reason == "the champion changed during the run: compared with version 1, now version 2 serves"
    assert served.aliases() == {"champion": 2, "previous_champion": 1}


def test_a_decision_that_could_not_be_read_again_is_not_logged(empty: World) -> None:
    """Fails when NaN, which JSON cannot hold, gets into the decision log and breaks every later run."""
    given = decision(Outcome.REFUSED, T1)
    broken = given.model_copy(update={"challenger": given.challenger.model_copy(update={"brier": float("nan")})})  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="brier"):
        empty.record_as_it_is(broken)
    assert empty.runs() == []


def test_many_and_long_settings_are_logged(empty: World) -> None:
    """Fails when a data set with hundreds of extra columns fails after training, at MLflow's limits for parameters."""
    columns = [f"column_{i:04}" for i in range(2000)]
    parameters = {"data": {"columns": columns, "empty": {}}, "more": {f"p{i}": i for i in range(250)}}
    given = decision(Outcome.NO_DECISION, T1, champion=None, challenger=None, difference=None)
    empty.registry.record(given, RunRecord(parameters=parameters))
    (run,) = empty.runs()
    assert len(run.data.params) == 252
    assert run.data.params["more.p249"] == "249"
    assert run.data.params["data.columns"].endswith("…")


def test_nothing_is_logged_later(empty: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a variable of the shell lets MLflow log in the background, and a kill loses an intent."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    later = "mlflow.utils.async_logging.async_logging_queue.AsyncLoggingQueue.log_batch_async"
    monkeypatch.setattr(later, lambda *_, **__: pytest.fail("logged in the background"))
    assert empty.record(Outcome.PROMOTED, T1).version == 1


# A champion that cannot be loaded


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda file: file.unlink(), "model.ubj is missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "corrupted: found"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100] + bytes(100)), "corrupted: found"),
        (lambda file: file.write_bytes(b""), "corrupted: found 0 bytes"),
    ],
)
def test_a_champion_that_cannot_be_loaded_is_explained(tmp_path: Path, harm: Any, found: str, _empty: World) -> None:
    """Fails when a missing or corrupted champion ends in a stack trace, or is compared with as if it were intact."""
    here = world(tmp_path, _empty)
    here.record(Outcome.PROMOTED, T0, seed=0)
    harm(artifact(here, 1, "model.ubj"))
    with pytest.raises(FraudDetectionError) as raised:
        here.registry.champion()
    message = str(raised.value)
    assert type(raised.value) is FraudDetectionError  # exit code 1: trying again does not help
    assert found in message
    assert message.startswith(f"version 1 of {NAME} in MLflow at {here.tracking_uri} cannot be loaded")
    assert "fraud-detection rollback" in message


@pytest.mark.parametrize(
    ("tag", "value", "found"),
    [
        ("sha256", None, "its tag 'sha256' is missing"),
        ("training_end", None, "its tag 'training_end' is missing"),
        ("training_end", "yesterday", "its tags do not say what it was trained on"),
        ("as_of", "soon", "its tags do not say what it was trained on"),
    ],
)
def test_a_champion_without_its_facts_is_explained(served: World, tag: str, value: str | None, found: str) -> None:
    """Fails when a model without the tags that say what it was trained on is compared on data it may have seen."""
    if value is None:
        served.client.delete_model_version_tag(NAME, "1", tag)
    else:
        served.client.set_model_version_tag(NAME, "1", tag, value)
    with pytest.raises(FraudDetectionError, match=f"^version 1 of {NAME} .* cannot be loaded: {found}") as raised:
        served.registry.champion()
    assert "fraud-detection rollback" in str(raised.value)


def test_a_rollback_leaves_a_champion_that_cannot_be_loaded(served: World) -> None:
    """Fails when a rollback needs to load the broken champion that it is meant to replace."""
    served.record(Outcome.PROMOTED, T1)
    artifact(served, 2, "model.ubj").unlink()
    served.registry.rollback(None, "it cannot be loaded", "anna")
    champion = served.registry.champion()
    assert champion is not None
    assert champion.version == 1


# Rollback and pin


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
    """Fails when a run that stands still while it promotes overrides an operator's rollback afterwards."""
    served.record(Outcome.PROMOTED, T1, seed=1)
    with rollback_just_before(commit.set_champion, served, None, monkeypatch), pytest.raises(LeaseLostError):
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
        with rollback_just_before(commit.set_champion, served, 1, monkeypatch), pytest.raises(LeaseLostError):
            served.record_as_it_is(promotion, seed=2)
    (decided,) = world(served.output).registry.resume_open_intents(T2)
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
    here.client.set_tag(run.run_id, commit.INTENT_TAG, commit.OPEN)


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


@pytest.fixture
def two(served: World) -> World:
    """Version 2 is in service, version 1 was before."""
    served.record(Outcome.PROMOTED, T1)
    return served


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


# The service


def registry_at(uri: str, folder: Path) -> Registry:
    log = DecisionLog(open_folder(str(folder)), NAME)
    return Registry(uri, NAME, log, leases=leases_in(folder), publish=publish)


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """A service that gives the same response to every request; yields its host and port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


def test_an_mlflow_that_is_not_there_can_be_tried_again(tmp_path: Path) -> None:
    """Fails when an unavailable MLflow makes the run hang for minutes, or is not retried by the scheduler."""
    with server(200, b"{}") as gone:
        pass
    registry = registry_at(f"http://anna:s3cr3t@{gone}", tmp_path)
    with pytest.raises(ServiceUnavailableError) as raised:
        registry.resume_open_intents()  # imports MLflow, which takes its own time
    begun = monotonic()
    with pytest.raises(ServiceUnavailableError):
        registry.champion()
    assert monotonic() - begun < 15
    assert str(raised.value).startswith(f"MLflow at http://***@{gone} cannot be reached")
    assert "s3cr3t" not in str(raised.value)
    assert "Traceback" not in str(raised.value)


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, b"You are not authenticated. Please see the docs", FraudDetectionError, "MLFLOW_TRACKING_USERNAME"),
        (403, b"Permission denied", FraudDetectionError, "refuses these credentials"),
        (
            403,
            b'{"error_code": "PERMISSION_DENIED", "message": "no"}',
            FraudDetectionError,
            "refuses these credentials",
        ),
        (404, b"<html>nginx</html>", FraudDetectionError, "does not answer like MLflow"),
        (200, b"<html>welcome</html>", FraudDetectionError, "does not answer like MLflow"),
        (500, b"oops", ServiceUnavailableError, "cannot be reached"),
        (502, b"<html>bad gateway</html>", ServiceUnavailableError, "cannot be reached"),
        (
            503,
            b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}',
            ServiceUnavailableError,
            "cannot be reached",
        ),
        (429, b"slow down", ServiceUnavailableError, "cannot be reached"),
    ],
)
def test_what_the_service_answers_decides_whether_to_try_again(
    tmp_path: Path, status: int, body: bytes, kind: type[Exception], says: str
) -> None:
    """Fails when wrong credentials are retried every hour, or a restarting MLflow counts as a permanent failure."""
    with server(status, body) as host:
        registry = registry_at(f"http://anna:s3cr3t@{host}", tmp_path)
        for call in (registry.champion, registry.resume_open_intents):
            with pytest.raises(FraudDetectionError) as raised:
                call()
            assert type(raised.value) is kind
            assert says in str(raised.value)
            assert host in str(raised.value)
            assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    "uri",
    ["", "mlruns", "/srv/mlruns", "file:///srv/mlruns", "htp://localhost:5000", "http://", "http://[::1", "sqlite://",
     "sqlite:///", "sqlite:///:memory:", "sqlite:mlflow.db", "postgresql://", "databricks"],
)  # fmt: skip
def test_an_address_that_is_not_one_of_mlflow_is_a_wrong_setting(tmp_path: Path, uri: str) -> None:
    """Fails when a misspelt tracking URI silently starts a new registry in some folder."""
    with pytest.raises(SettingsError, match=r"--tracking-uri .* expected http://HOST:PORT"):
        registry_at(uri, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_address_is_named_without_its_password() -> None:
    """Fails when the password in a tracking URI appears in messages and in the scheduler's logs."""
    with pytest.raises(SettingsError) as raised:
        Connection("ftp://anna:s3cr3t@host/x", NAME)
    assert "s3cr3t" not in str(raised.value)
    connection = Connection("https://anna:p%40ss@mlflow.example:5000/", NAME)
    assert connection.shown_uri == "https://***@mlflow.example:5000"
    assert connection.masked("to https://anna:p%40ss@mlflow.example or anna:p@ss@x") == (
        "to https://***@mlflow.example or ***@x"
    )


def test_no_password_reaches_the_parameters_of_a_run(tmp_path: Path) -> None:
    """Fails when a password in a parameter's value is shown to everybody who may read MLflow."""
    registry = registry_at("http://anna:s3cr3t@mlflow.example", tmp_path)
    assert recording.loggable(
        registry._context.connection, "retrain --tracking-uri http://anna:s3cr3t@mlflow.example"
    ) == ("retrain --tracking-uri http://***@mlflow.example")


def test_a_database_that_is_something_else_is_not_overwritten(tmp_path: Path) -> None:
    """Fails when a file that is not a database is overwritten, or MLflow retries it for minutes."""
    (tmp_path / "mlflow.db").write_text("shopping list")
    with pytest.raises(FraudDetectionError, match="is not an SQLite database"):
        world(tmp_path).registry.champion()
    assert (tmp_path / "mlflow.db").read_text() == "shopping list"


def test_a_database_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Fails when a database that cannot be created ends in SQLAlchemy's stack trace after minutes of retries."""
    (tmp_path / "output").write_text("a file where a folder should be")
    with pytest.raises(FraudDetectionError, match=r"output/mlflow\.db cannot be opened for writing.*--output"):
        registry_at(f"sqlite:///{tmp_path}/output/mlflow.db", tmp_path).champion()


def test_a_deleted_experiment_is_explained(empty: World) -> None:
    """Fails when a deleted MLflow experiment breaks a run without saying how to restore it."""
    empty.client.delete_experiment(empty.connection.experiment_id)
    with pytest.raises(FraudDetectionError, match="mlflow experiments restore --experiment-id"):
        world(empty.output).registry.resume_open_intents()


def test_a_relative_address_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _empty: World) -> None:
    """Fails when a relative database path makes a run from another folder look for the artifacts there."""
    here = world(tmp_path / "a folder with # and ü")
    monkeypatch.chdir(here.output)
    registry = registry_at("sqlite:///mlflow.db", here.output)
    given = decision(Outcome.PROMOTED, T1)
    registry.record(given, RunRecord(challenger=model()))
    monkeypatch.chdir("/")
    assert registry_at(here.tracking_uri, here.output).champion() is not None
    assert artifact(here, 1, "model.ubj").name == "model.ubj"
    assert (here.output / "mlartifacts").is_dir()


@pytest.mark.parametrize("folder", ["a%20b", "a?b", "a%2fb"])
def test_an_output_folder_whose_database_mlflow_cannot_open_is_refused(tmp_path: Path, folder: str) -> None:
    """Fails when `--output a%20b` or `--output a?b` ends in an error without a next step, or in another folder."""
    with pytest.raises(SettingsError, match=r"contains \? or .* %20; rename the folder, or choose another --output"):
        registry_at(default_tracking_uri(str(tmp_path / folder)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_services_in_one_process_do_not_mix(served: World, tmp_path: Path, _empty: World) -> None:
    """Fails when one process with two outputs registers a model in the wrong MLflow."""
    other = world(tmp_path / "other", _empty)
    assert other.registry.champion() is None
    assert served.record(Outcome.PROMOTED, T1).version == 2
    assert other.record(Outcome.PROMOTED, T1).version == 1
    assert served.record(Outcome.PROMOTED, T2, seed=2).version == 3
    assert "MLFLOW_TRACKING_URI" not in os.environ


QUIET = """
import sys
from pathlib import Path
from fakes.registry import T1, T2, world
from fraud_detection.schema import Outcome
here = world(Path(sys.argv[1]))
here.registry.resume_open_intents(T1)
here.record(Outcome.PROMOTED, T1)
here.registry.champion()
here.record(Outcome.PROMOTED, T2, seed=2)
here.registry.rollback(None, "r", "anna")
"""


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path) -> None:
    """Fails when MLflow's migrations and warnings are printed into the output of `--json`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path / "output")],
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [
        "decisions",
        "leases",
        "mlartifacts",
        "mlflow.db",
    ]


def test_a_first_run_killed_while_it_makes_the_database_is_no_harm(tmp_path: Path) -> None:
    """Fails when Ctrl-C during the first run leaves a half-migrated database that no later run can use."""
    import sqlalchemy

    statements = []

    def interrupt(*_arguments: object) -> None:
        statements.append(1)
        if len(statements) == 300:
            raise KeyboardInterrupt

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            world(tmp_path).registry.resume_open_intents()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", interrupt)
    assert not (tmp_path / "mlflow.db").exists()
    assert world(tmp_path).record(Outcome.PROMOTED, T1).version == 1


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond one page."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_explained_and_the_next_run_goes_on(served: World) -> None:
    """Fails when a full disk ends in a stack trace, or leaves a champion without its files."""
    given = decision(Outcome.PROMOTED, T2, champion_version=1)
    with full_disk(), pytest.raises(FraudDetectionError) as raised:
        served.record_as_it_is(given)
    assert type(raised.value) is FraudDetectionError
    assert served.aliases() == {"champion": 1}
    assert served.log.find(T2) is None
    fresh = world(served.output)
    assert fresh.registry.resume_open_intents(T2) == ()
    assert fresh.record(Outcome.PROMOTED, T3).version == 2
