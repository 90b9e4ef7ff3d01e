"""The names under which MLflow keeps runs and versions: a stored format, which later releases and users search by."""

import json
from pathlib import Path

import mlflow
from conftest import Job

STORED = json.loads(Path(__file__).with_name("stored_names.json").read_text(encoding="utf-8"))


def test_runs_and_versions_keep_the_names_they_are_found_by(job: Job, tmp_path: Path) -> None:
    """Fails when an upgrade renames a tag, parameter, metric or file in MLflow, and loses the runs made before it."""
    run_id = job(json=True).json["run_id"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/output/mlflow.db")
    run, version = client.get_run(run_id), client.get_model_version("fraud_detection", "1")
    [candidate] = client.search_runs([run.info.experiment_id], 'tags."fraud_detection.candidate" LIKE "%"')
    assert {
        "aliases": sorted(client.get_registered_model("fraud_detection").aliases),
        "artifacts": sorted(file.path for file in client.list_artifacts(run_id)),
        "candidate tags": sorted(name for name in candidate.data.tags if not name.startswith("mlflow.")),
        "metrics": sorted(run.data.metrics),
        "parameters": sorted(run.data.params),
        "tags": sorted(name for name in run.data.tags if not name.startswith("mlflow.")),
        "version tags": sorted(version.tags),
    } == STORED
    assert run.data.tags["fraud_detection.model"] == "fraud_detection"
    assert run.data.tags["fraud_detection.intent"] == "closed"
    assert run.data.tags["fraud_detection.training"] == "2026-01-25T00:00:00+00:00/2026-02-15T00:00:00+00:00"
    assert run.data.tags["fraud_detection.holdout"] == "2026-02-15T00:00:00+00:00/2026-02-22T00:00:00+00:00"
