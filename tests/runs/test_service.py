"""Batches of scoring measure the weeks of service whose labels have matured, from the stored scores."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import AS_OF, Job

from fraud_detection.errors import FraudDetectionError
from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.monitoring.service_weeks import ServiceWeek, read_service_weeks
from fraud_detection.outputs import service_weeks_file
from fraud_detection.registry import Registry
from fraud_detection.scores import ScoreStore
from fraud_detection.storage import open_folder

pytest_plugins = ["weak_champion"]
# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

NAME = "fraud_detection"
MONDAY = datetime(2026, 2, 16, tzinfo=UTC)
END = MONDAY + timedelta(days=7)
MATURED = END + timedelta(days=7)


def _weeks(output: Path) -> tuple[ServiceWeek, ...]:
    return read_service_weeks(open_folder(str(output)), NAME).weeks


def _scores(output: Path) -> pa.Table:
    store = ScoreStore(open_folder(str(output)), NAME)
    scored = store.newest()
    assert scored is not None
    days = (day.day for day in scored.days if MONDAY.date() <= day.day < END.date())
    return pa.concat_tables([rows for day in days if (rows := store.rows(scored, day)) is not None])


def test_a_week_is_measured_once_when_its_labels_have_matured(
    job: Job, output: Path, transactions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when nobody learns what the champion was worth, or a week is measured with labels that are not final."""
    source = output.parent / "growing"
    shutil.copytree(transactions, source)

    def score(as_of: datetime) -> str:
        done = job("score", input=source, output=output, as_of=as_of.isoformat())
        assert done.exit_code == 0, done.stderr
        return done.stdout

    assert MATURED > AS_OF
    score(MONDAY + timedelta(days=1))
    assert "service " not in score(MATURED - timedelta(hours=1))
    assert _weeks(output) == ()
    told = score(MATURED)
    assert "service     v1 in the week of 2026-02-16: " in told
    assert "estimate    v1 since 2026-02-23: " in told
    [week] = _weeks(output)
    again = score(MATURED + timedelta(hours=1))
    assert "service " not in again
    assert "estimate " not in again, "a day is estimated once"
    estimate = read_service_weeks(open_folder(str(output)), NAME).estimate
    assert estimate is not None
    assert estimate.end == MATURED
    assert estimate.expected is not None
    assert 0 < estimate.expected < 1
    assert (week.start, week.end, week.version) == (MONDAY, END, 1)

    scores = _scores(output).drop_columns(["reasons"])
    given = pq.read_table(source, columns=["transaction_id", "fraud"])
    given = given.set_column(0, "transaction_id", given["transaction_id"].cast(pa.string()))
    rows = scores.join(given, "transaction_id").to_pandas()
    assert 0.8 * len(rows) < week.transactions <= len(rows), "known compromised cards are left out"
    assert 0 < week.frauds <= rows["fraud"].sum()
    assert week.average_precision is not None
    whole = average_precision(rows["fraud"].to_numpy(), rows["probability"].to_numpy())
    assert week.average_precision.value == pytest.approx(whole, abs=0.1)
    assert (week.alerts is None) == bool(pc.any(pc.is_null(scores["alert"])).as_py())

    client = mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db")
    run_id = str(client.get_model_version(NAME, "1").run_id)
    [metric] = client.get_metric_history(run_id, "service_average_precision")
    assert metric.value == pytest.approx(week.average_precision.value)
    assert metric.timestamp == END.timestamp() * 1000

    thursday = MONDAY + timedelta(days=3)
    monkeypatch.setattr(Registry, "trained_until", lambda _registry, _version: thursday)
    (output / service_weeks_file(NAME)).unlink()
    score(MATURED + timedelta(hours=2))
    [measured] = _weeks(output)
    late = pc.sum(pc.greater_equal(scores["transaction_time"], pa.scalar(thursday))).as_py()
    assert 0.8 * late < measured.transactions <= late, "what a version was trained on says nothing of its worth"

    def is_gone(_registry: Registry, version: int) -> datetime:
        raise FraudDetectionError(f"version {version} was removed for its age")

    monkeypatch.setattr(Registry, "trained_until", is_gone)
    (output / service_weeks_file(NAME)).unlink()
    assert "what v1 was worth in service is not measured: version 1 was" in score(MATURED + timedelta(hours=3))
    assert _weeks(output) == ()
    assert "in service" not in score(MATURED + timedelta(hours=4)), "the week is read once"
