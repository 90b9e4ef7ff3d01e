"""The report and other results of a run: what an interrupted run leaves, the next one completes."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
from conftest import AS_OF, SETTINGS, Job
from factories import MODEL_NAME, schedule

from fraud_detection.runs.publication import publish
from fraud_detection.schedule import write_schedule
from fraud_detection.schema import Decision
from fraud_detection.storage import disk, open_folder

LATER = AS_OF + timedelta(hours=1)

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


class Killed(BaseException):
    """Simulates the death of the process."""


@contextmanager
def _breaking_off_at(name: str, failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make writes below the folder `name` fail; yields the files that were tried."""
    original, tried = disk._temporary_file, []

    def full(path: Path, content: bytes) -> Any:
        if name in path.parts:
            tried.append(str(path))
            raise failure
        return original(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(disk, "_temporary_file", full)
        yield tried


def _assert_published(output: Path, version: int, scheduled_by: str) -> None:
    report = (output / "reports" / "fraud_detection" / "20260301T000000Z" / "report.html").read_text(encoding="utf-8")
    assert f"FIRST CHAMPION v{version}" in report
    schedule = json.loads((output / "schedule" / "fraud_detection.json").read_text())
    assert (schedule["as_of"], schedule["champion_version"]) == (scheduled_by, version)
    decided = json.loads((output / "decisions" / "fraud_detection" / "20260301T000000Z.json").read_text())
    run = mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db").get_run(decided["run_id"])
    assert run.info.status == "FINISHED"
    kept = Path(run.info.artifact_uri.removeprefix("file://"), "report.html").read_text(encoding="utf-8")
    assert kept == report


@pytest.mark.parametrize("then", [pytest.param("the same run", marks=pytest.mark.slow), "the next run"])
@pytest.mark.parametrize("folder", ["reports", "schedule"])
@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Killed(), id="kill"),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), id="full", marks=pytest.mark.slow),
    ],
)
def test_report_and_schedule_are_left_to_the_next_run(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, folder: str, then: str
) -> None:
    """Fails when a decision never gets its report, or no run follows because the schedule is outdated."""
    with _breaking_off_at(folder, failure, monkeypatch) as tried:
        if isinstance(failure, Killed):
            with pytest.raises(Killed):
                job(run_name="run-1")
        else:
            ran = job(json=True, run_name="run-1")
            assert (ran.exit_code, "no space is left" in ran.json["error"]) == (1, True)
    assert len(tried) == 1
    decided = (tmp_path / "output" / "decisions" / "fraud_detection" / "20260301T000000Z.json").read_bytes()
    as_of = AS_OF if then == "the same run" else LATER
    ran = job(json=True, as_of=as_of.isoformat(), run_name="run-1")
    assert ran.exit_code == 0, ran.stderr
    assert "PROMOTED as v1" in ran.stderr
    _assert_published(tmp_path / "output", 1, as_of.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert (tmp_path / "output" / "decisions" / "fraud_detection" / "20260301T000000Z.json").read_bytes() == decided
    outcome = json.loads((tmp_path / "output" / "outcomes" / "run-1.json").read_text())
    assert (outcome["exit_code"], outcome["as_of"]) == (0, as_of.strftime("%Y-%m-%dT%H:%M:%SZ"))


@pytest.mark.slow
def test_an_outcome_that_could_not_be_written_is_written_by_the_same_run(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the schedule never learns what a run decided that found the disk full at its end."""
    with _breaking_off_at("outcomes", OSError(errno.ENOSPC, "No space left on device"), monkeypatch):
        assert job(run_name="run-1").exit_code == 1
    assert job(run_name="run-1").exit_code == 0
    outcome = json.loads((tmp_path / "output" / "outcomes" / "run-1.json").read_text())
    assert (outcome["decision"], outcome["version"]) == ("promoted", 1)


def test_a_person_completes_what_a_killed_run_left(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a rollback completes a killed run without its report, which is then lost."""
    with _breaking_off_at("reports", Killed(), monkeypatch), pytest.raises(Killed):
        job()
    assert job("retire-champion", version=1, reason="?").exit_code == 0
    _assert_published(tmp_path / "output", 1, "2026-03-01T00:00:00Z")


def test_no_row_of_the_data_is_kept_with_the_intent(job: Job, tmp_path: Path) -> None:
    """Fails when a stored intent puts card numbers or amounts into MLflow."""
    run_id = job(json=True, settings=SETTINGS).json["run_id"]
    run = mlflow.MlflowClient(f"sqlite:///{tmp_path}/output/mlflow.db").get_run(run_id)
    kept = json.loads(Path(run.info.artifact_uri.removeprefix("file://"), "publication.json").read_text())
    assert set(kept) == {"drawing", "schedule", "known_labels"}
    assert set(kept["known_labels"]) == {"schema_version", "model_name", "as_of", "frauds", "labels"}
    curves = [curve["path"].count("L") for curve in kept["drawing"]["precision_recall"]["curves"]]
    assert max(curves) <= 301
    assert not {"amount", "fraud", "champion_score", "challenger_score", "customer_id"} & set(kept["drawing"])


def test_an_older_run_does_not_replace_a_newer_schedule(tmp_path: Path) -> None:
    """Fails when completing an older run makes the schedule pay for looks that were taken already."""
    output, path = open_folder(str(tmp_path)), tmp_path / "schedule" / f"{MODEL_NAME}.json"
    for as_of in (LATER, AS_OF):
        write_schedule(output, schedule(as_of))
    assert json.loads(path.read_text())["as_of"] == "2026-03-01T01:00:00Z"
    path.write_text("{")
    write_schedule(output, schedule(AS_OF))
    assert json.loads(path.read_text())["as_of"] == "2026-03-01T00:00:00Z"


def test_what_an_earlier_release_left_to_publish_is_published(tmp_path: Path) -> None:
    """Fails when a run that was killed before an update can no longer be completed after it."""
    old = Path(__file__).parents[1] / "fixtures" / "schema_1"
    stored = old / "decisions" / MODEL_NAME / "20260301T000000Z.json"
    decision = Decision.model_validate_json(stored.read_bytes())
    files = publish(open_folder(str(tmp_path)), decision, (old / "publication.json").read_bytes())
    report = tmp_path / "reports" / MODEL_NAME / "20260301T000000Z" / "report.html"
    assert report.read_bytes() == files["report.html"]
    assert not (tmp_path / "schedule").exists()  # the next run writes it
