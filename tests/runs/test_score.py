"""Whole batches of scoring: increments, the decision at the threshold, reasons, and a change of the champion."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import AS_OF, SETTINGS, CommandResult, Job

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.features import with_features
from fraud_detection.registry import load_champion
from fraud_detection.runs.progress import Stopwatch
from fraud_detection.runs.request import Request
from fraud_detection.runs.score import score_after
from fraud_detection.sampling import to_pandas
from fraud_detection.scores import ScoreStore
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.storage import open_folder
from fraud_detection.transactions.reader import read_transactions

NAME = "fraud_detection"
HOUR = timedelta(hours=1)


def _rows(output: Path) -> pa.Table:
    store = ScoreStore(open_folder(str(output)), NAME)
    manifest = store.newest()
    assert manifest is not None
    return pa.concat_tables([part for day in manifest.days if (part := store.rows(manifest, day.day)) is not None])


def _score(job: Job, source: Path, as_of: datetime, **options: object) -> CommandResult:
    return job("score", input=source, as_of=as_of.isoformat(), json=True, **options)


@pytest.fixture(scope="module")
def feed(transactions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world without every 50th transaction of its last days; `rest.parquet`, outside of it, has these."""
    folder = tmp_path_factory.mktemp("feed")
    rows = pq.read_table(transactions)
    recent = pc.greater_equal(
        rows["transaction_time"], pa.scalar(AS_OF - timedelta(days=1), rows["transaction_time"].type)
    )
    every = pa.array(np.arange(len(rows)) % 50 == 0)
    late = pc.and_(recent, every)
    (folder / "input").mkdir()
    pq.write_table(rows.filter(pc.invert(late)), folder / "input" / "rows.parquet")
    pq.write_table(rows.filter(late), folder / "rest.parquet")
    return folder


def test_each_transaction_of_a_growing_input_is_scored_once(job: Job, feed: Path, tmp_path: Path) -> None:
    """Fails when a transaction has no score, two, or one that the champion's features and threshold do not give."""
    source, output = tmp_path / "input", tmp_path / "output"
    source.mkdir()
    (source / "rows.parquet").hardlink_to(feed / "input" / "rows.parquet")
    assert job(input=source).exit_code == 0
    first = _score(job, source, AS_OF)
    assert first.exit_code == 0, first.stderr
    assert (first.json["batch"], first.json["version"], first.json["late"]) == (1, 1, 0)
    assert first.json["rows"] == _rows(output).num_rows > 1000
    states = list((output / "_store").glob("*/manifest/*"))
    assert len(states) == 1, "a batch reads the rows that the run has stored, and no file of the input again"
    _assert_as_the_champion_says(source, output, AS_OF)
    again = _score(job, source, AS_OF)
    assert (again.json["batch"], again.json["rows"]) == (2, 0), "the same time may be scored again: rows may have come"
    scored = ScoreStore(open_folder(str(output)), NAME).newest()
    assert scored is not None
    assert all(day.content.startswith("rows-") for day in scored.days), "labels of days that are over are not in it"
    assert again.json["threshold"] == first.json["threshold"]

    before = _rows(output)
    (source / "rest.parquet").hardlink_to(feed / "rest.parquet")
    later = _score(job, source, AS_OF + 6 * HOUR)
    assert later.exit_code == 0, later.stderr
    rows = _rows(output)
    ids = rows["transaction_id"].to_pylist()
    assert len(ids) == len({*ids}) == first.json["rows"] + later.json["rows"]
    assert rows.filter(pc.equal(rows["batch"], 1)).sort_by("transaction_id") == before.sort_by("transaction_id")
    given = pq.read_table(source)
    time = given["transaction_time"]
    wanted = pc.and_(
        *(
            compare(time, pa.scalar(moment, time.type))
            for compare, moment in ((pc.greater_equal, AS_OF - timedelta(days=1)), (pc.less, AS_OF + 6 * HOUR))
        )
    )
    assert {*ids} == {str(one) for one in given.filter(wanted)["transaction_id"].to_pylist()}
    was_late = rows.filter(rows["late"])
    assert was_late.num_rows == later.json["late"] > 10
    assert pc.max(was_late["transaction_time"]).as_py() < AS_OF
    back = _score(job, source, AS_OF)
    assert (back.exit_code, back.json["batch"], back.json["rows"]) == (0, None, 0)


def _assert_as_the_champion_says(source: Path, output: Path, as_of: datetime) -> None:
    settings = Settings.model_validate(SETTINGS)
    champion = load_champion(f"sqlite:///{output}/mlflow.db", NAME)
    assert champion.threshold is not None
    with session(Engine.SAIL) as spark:
        known = read_transactions(spark, settings.data, str(source), datetime.now(UTC), as_of)
        features = to_pandas(with_features(known.table, settings, as_of - timedelta(days=1), as_of))
    features = features.assign(id=features["transaction_id"].astype(str)).set_index("id")
    rows = _rows(output).to_pandas().set_index("transaction_id")
    expected = champion.model.predict(features.loc[rows.index])
    assert np.array_equal(rows["probability"].to_numpy(), expected)
    assert np.array_equal(rows["alert"].to_numpy(bool), expected.astype(float) >= champion.threshold.probability)
    alerts = rows[rows["alert"].astype(bool)]
    assert len(alerts) > 0
    assert all(1 <= len(reasons) <= 3 and {*reasons} <= {*champion.model.inputs} for reasons in alerts["reasons"])
    assert rows[~rows["alert"].astype(bool)]["reasons"].isna().all()
    [listed] = (output / "scores" / NAME / "alerts").glob("*.csv")
    assert len(listed.read_text().splitlines()) == len(alerts) + 1


def test_without_a_champion_the_message_names_the_next_command(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a user who scores before the first promotion does not learn what to run."""
    ran = _score(job, transactions, AS_OF)
    assert ran.exit_code == 1
    assert "no version of fraud_detection is in service" in ran.json["error"]
    assert "next: fraud-detection retrain --config" in ran.json["error"]
    assert not (tmp_path / "output" / "scores").exists()


def test_a_submitted_job_opens_its_session_twice_and_stops_it_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a job on YARN decides and then fails to score: an application gets one context."""
    spark = MagicMock()
    spark.builder.appName.return_value.config.return_value.config.return_value.getOrCreate.return_value = spark
    monkeypatch.setattr("pyspark.sql.SparkSession", spark)
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    for _ in range(2):
        with session(Engine.SPARK) as found:
            assert found is spark
    spark.stop.assert_not_called()


class Killed(BaseException):
    """Ends a run as SIGKILL does: it leaves no outcome."""


def _outcome(output: Path) -> Any:
    return json.loads((output / "outcomes" / "run-1.json").read_text())


def test_a_run_that_ends_between_decision_and_scores_is_made_up_for(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a failure of scoring loses a promotion or makes it twice, is not seen, or leaves rows unscored."""
    output = tmp_path / "output"
    failures: list[BaseException] = [Killed(), ServiceUnavailableError("MLflow is unavailable")]

    def fail(*_: object) -> None:
        raise failures.pop(0)

    with monkeypatch.context() as patched:
        patched.setattr("fraud_detection.runs.score.score", fail)
        with pytest.raises(Killed):
            job(run_name="run-1", score=True)
        assert not (output / "outcomes").exists()
        log = sorted((output / "decisions" / NAME).iterdir())
        failed = job(run_name="run-1", score=True)
    assert failed.exit_code == 75
    assert "the decision stands, but scoring failed; next: the next run scores again, or: fraud-detection score" in (
        failed.stdout
    )
    found = _outcome(output)
    assert (found["decision"], found["version"], found["exit_code"], found["retry"]) == ("promoted", 1, 75, True)
    assert (found["error"], found["scores"]) == ("MLflow is unavailable", None)

    ran = job(run_name="run-1", score=True, json=True)
    assert (ran.exit_code, ran.json["decision"]) == (0, "promoted")
    assert sorted((output / "decisions" / NAME).iterdir()) == log
    found, rows = _outcome(output), _rows(output)
    assert (found["exit_code"], found["error"], found["scores"]["version"]) == (0, None, 1)
    ids = rows["transaction_id"].to_pylist()
    assert found["scores"]["rows"] == len(ids) == len({*ids}) > 1000


def test_a_run_without_a_champion_scores_nothing_and_is_no_failure(transactions: Path, tmp_path: Path) -> None:
    """Fails when runs before the first promotion are red, and are paid for until `max_failed_runs` stops them."""
    output, said = tmp_path / "output", list[tuple[str, str]]()
    request = Request(
        settings=Settings.model_validate(SETTINGS),
        config="retraining.yaml",
        input_path=str(transactions),
        output=str(output),
        tracking_uri=f"sqlite:///{output}/mlflow.db",
        as_of=None,
        engine=Engine.SAIL,
        clock=datetime.now(UTC),
    )
    assert score_after(request, AS_OF, lambda step, line: said.append((step, line)), Stopwatch()) is None
    assert said == [("scored", "nothing: no version is in service")]


PROGRAM = """
import os, signal, sys
from fraud_detection.scores import batches
from fraud_detection.storage.disk import DiskFolder
from fraud_detection.cli import main

left, place = [int(sys.argv[1])], sys.argv[2]

def mortal(write):
    def wrapped(self, name, content):
        done = write(self, name, content)
        left[0] -= "scores/" in name
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return wrapped

DiskFolder.write_atomic, DiskFolder.write_once = mortal(DiskFolder.write_atomic), mortal(DiskFolder.write_once)
main(sys.argv[3:])
"""


@pytest.mark.slow
def test_the_command_can_be_killed_at_every_published_step(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when SIGKILL between two files of a batch leaves transactions that are never scored, or scored twice."""
    assert job().exit_code == 0
    output, config = tmp_path / "output", tmp_path / "retraining.yaml"
    store = ScoreStore(open_folder(str(output)), NAME)
    for survived, batches in ((0, 0), (1, 0), (2, 1), (3, 1)):  # a file of each of two days, the manifest, a list
        as_of = AS_OF - 12 * HOUR
        given = ["--config", config, "--input", transactions, "--output", output, "--as-of", as_of.isoformat()]
        words = [str(survived), str(output), "score", *map(str, given)]
        done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        manifest = store.newest()
        assert (0 if manifest is None else manifest.number) == batches
        if batches:
            break
    assert _score(job, transactions, AS_OF - 12 * HOUR).exit_code == 0
    ids = _rows(output)["transaction_id"].to_pylist()
    assert len(ids) == len({*ids}) > 1000
    lists = (output / "scores" / NAME / "alerts").glob("*.csv")
    assert sum(len(path.read_text().splitlines()) - 1 for path in lists) == pc.sum(_rows(output)["alert"]).as_py()


@pytest.mark.slow
def test_both_engines_score_alike(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when the cluster's Spark gives other scores, reasons or late marks than Sail on a developer machine."""
    assert job().exit_code == 0
    found = {}
    for engine in Engine:
        folder = tmp_path / engine
        tracking = f"sqlite:///{tmp_path}/output/mlflow.db"
        for as_of in (AS_OF - HOUR, AS_OF):
            ran = _score(job, transactions, as_of, engine=engine, output=folder, tracking_uri=tracking)
            assert ran.exit_code == 0, ran.stderr
        rows = _rows(folder)
        found[engine] = rows.drop_columns(["scored_at"]).sort_by("transaction_id")
    assert found[Engine.SAIL] == found[Engine.SPARK]
