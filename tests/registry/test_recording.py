"""Recording a run: one version per promotion, the model that was compared, and what MLflow keeps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import decision
from fakes.registry import (
    NAME,
    T0,
    T1,
    T2,
    World,
    artifact,
    failed,
    model,
    rows,
)

from fraud_detection.model.encoding import FloatArray
from fraud_detection.model.model import Model
from fraud_detection.registry import RunRecord, commit, registration
from fraud_detection.schema import DataCounts, Outcome

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


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


def test_mlflow_shows_how_fresh_the_data_of_a_run_were(empty: World) -> None:
    """Fails when a feed that thins out, or labels that come later each week, are no curve in MLflow."""
    counts = dict.fromkeys(("rows", "rejected_rows", "refunds", "unknown_cards", "unknown_terminals"), 9)
    counts |= dict.fromkeys(("matured", "matured_frauds", "matured_unlabelled"), 3)
    fresh = DataCounts(**counts, last_day=7, age_hours=1.5, label_delay_days=4.25)
    empty.record(Outcome.REFUSED, T1, data_counts=fresh)
    empty.record(Outcome.REFUSED, T2, data_counts=DataCounts(**counts))
    found = [{name: value for name, value in run.data.metrics.items() if name[:5] == "data_"} for run in empty.runs()]
    metrics = {"data_last_day_transactions": 7, "data_age_hours": 1.5, "data_label_delay_days": 4.25}
    assert sorted(found, key=len) == [{}, metrics]


def test_a_version_says_in_mlflow_why_it_serves(served: World) -> None:
    """Fails when a person who finds a version in MLflow has to look elsewhere for why it was promoted."""
    description = served.client.get_model_version(NAME, "1").description
    assert description.startswith("**PROMOTED as of 2018-08-21 23:00 UTC, no champion in service**")
    assert "Effect**: average precision +0.020 [+0.011, +0.030]" in description


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
    monkeypatch.setattr(registration, "load_model", lambda *_: Model.from_bytes(model(seed).to_bytes()))
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
        registration.register_version(run)
        artifact(served, 2, "model.ubj").write_bytes(b"{L")

    steps = tuple(break_file if step is registration.register_version else step for step in commit.PROTOCOL)
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
    assert decided.reason == "the champion has changed meanwhile: compared with version 1, now version 2 serves"
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
