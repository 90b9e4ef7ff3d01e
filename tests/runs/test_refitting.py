"""A whole run that refits its winner: the refit serves where its guards hold, and the winner where they do not."""

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from conftest import AS_OF, SETTINGS, Job

REFIT: dict[str, Any] = {**SETTINGS, "promotion": {"refit_winner": True}}


def _serving(output: Path) -> Any:
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db")
    return client.get_model_version_by_alias("fraud_detection", "champion")


def _candidate_states(output: Path, kind: str) -> list[str]:
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db")
    runs = client.search_runs(["1"], f"tags.`fraud_detection.kind` = '{kind}'")
    return [run.data.tags["fraud_detection.candidate_state"] for run in runs]


def test_the_refit_serves_and_the_winner_stays_a_candidate_against_it(job: Job, tmp_path: Path) -> None:
    """Fails when the winner serves although its refit is sound, the log or MLflow hide that it is a refit, a killed
    run's repetition would give another model, or the winner is retired and cannot return.
    """
    found = job(json=True, settings=REFIT).json
    refit = found["refit"]
    assert found["decision"] == "promoted", found["reason"]
    assert refit["serves"], refit["checks"]
    assert refit["refit"]["training"]["end"] == "2026-03-01T00:00:00Z"
    assert found["training"]["end"] == "2026-02-15T00:00:00Z", "the evidence is the winner's"
    assert "its refit on the labels known by then serves" in found["reason"]
    tags = _serving(tmp_path / "output").tags
    assert tags["sha256"] == refit["refit"]["sha256"]
    assert datetime.fromisoformat(tags["training_end"]) == AS_OF
    assert datetime.fromisoformat(tags["refit_of"]) == datetime.fromisoformat(refit["winner"]["label_cutoff"])
    again = job(json=True, settings=REFIT, output=tmp_path / "again").json
    assert again["refit"]["refit"]["sha256"] == refit["refit"]["sha256"]

    later = job(json=True, settings=REFIT, as_of=(AS_OF + timedelta(days=1)).isoformat()).json
    assert later["opened"] == [], "no candidate is younger than the refit"
    assert later["retired_candidates"] == []


def test_labels_of_a_poisoned_day_let_the_winner_serve(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a refit that young labels have spoiled serves, or nobody learns why it does not."""
    poisoned = tmp_path / "poisoned"
    shutil.copytree(transactions, poisoned)
    _call_all_but_frauds_frauds(poisoned / "transactions" / f"{AS_OF - timedelta(days=2):%Y-%m-%d}.parquet")
    ran = job(json=True, settings=REFIT, input=poisoned)
    found = json.loads(ran.stdout)
    refit = found["refit"]
    assert found["decision"] == "promoted", found["reason"]
    assert not refit["serves"]
    assert [check["name"] for check in refit["checks"] if not check["passed"]]
    assert any("the refit of the winner does not serve" in warning for warning in found["warnings"])
    tags = _serving(tmp_path / "output").tags
    assert "refit_of" not in tags
    assert datetime.fromisoformat(tags["training_end"]) == AS_OF - timedelta(days=14)
    assert _candidate_states(tmp_path / "output", "refit") == ["retired"], "its files are deleted"


def test_nothing_is_refitted_unless_it_is_asked_for(job: Job) -> None:
    """Fails when a model that no hold-out has judged serves by default."""
    found = job(json=True).json
    assert (found["decision"], found["refit"]) == ("promoted", None)


def _call_all_but_frauds_frauds(path: Path) -> None:
    """An import that swaps the labels of a day: its genuine transactions are known as frauds, its frauds as genuine."""
    table = pq.read_table(path)
    genuine = pc.equal(table["fraud"], 0)
    known = pa.array([AS_OF - timedelta(hours=6)] * len(table), table.schema.field("label_available_at").type)
    table = table.set_column(table.schema.get_field_index("fraud"), "fraud", genuine.cast(pa.int8()))
    place = table.schema.get_field_index("label_available_at")
    pq.write_table(table.set_column(place, "label_available_at", known), path)
