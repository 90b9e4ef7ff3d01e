"""The command itself: a champion in MLflow, rows in a store, another process that serves them."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import AS_OF, Job

from fraud_detection.scores import ScoreStore
from fraud_detection.storage import open_folder


@contextmanager
def _served(config: Path, source: Path, output: Path) -> Iterator[HTTPConnection]:
    words = ["serve", "--config", config, "--input", source, "--output", output, "--port", "0"]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("fraud-detection"), *map(str, words)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert port is not None, line
        yield HTTPConnection("127.0.0.1", int(port[1]), timeout=60)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def _scored(connection: HTTPConnection, row: dict[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in row.items() if name not in {"fraud", "label_available_at"}}
    body["transaction_time"] = row["transaction_time"].astimezone(UTC).isoformat()
    connection.request("POST", "/v1/score", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    assert answer.status == 200, content
    found: dict[str, Any] = content
    return found


@pytest.mark.slow
def test_served_scores_are_those_of_the_batch(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a transaction gets another score, decision or reason online than in the next batch."""
    source, output = tmp_path / "input", tmp_path / "output"
    source.mkdir()
    rows = pq.read_table(transactions).sort_by([("transaction_time", "ascending"), ("transaction_id", "ascending")])
    time = rows["transaction_time"]
    known = pc.less(time, pa.scalar(AS_OF, time.type))
    pq.write_table(rows.filter(known), source / "known.parquet")
    assert job(input=source).exit_code == 0
    fresh = rows.filter(pc.invert(known)).slice(0, 60)
    with _served(tmp_path / "retraining.yaml", source, output) as connection:
        answers = [_scored(connection, row) for row in fresh.to_pylist()]

    pq.write_table(fresh, source / "fresh.parquet")
    until = fresh["transaction_time"].to_pylist()[-1] + timedelta(hours=1)
    assert job("score", input=source, as_of=until.isoformat()).exit_code == 0
    store = ScoreStore(open_folder(str(output)), "fraud_detection")
    manifest = store.newest()
    assert manifest is not None
    batch = {row["transaction_id"]: row for day in manifest.days for row in _of_day(store, manifest, day.day)}
    for answer in answers:
        row = batch[answer["transaction_id"]]
        assert (answer["probability"], answer["alert"]) == (pytest.approx(row["probability"], abs=0), row["alert"])
        assert answer["reasons"] == row["reasons"]


def _of_day(store: ScoreStore, manifest: Any, day: Any) -> list[dict[str, Any]]:
    rows = store.rows(manifest, day)
    found: list[dict[str, Any]] = [] if rows is None else rows.to_pylist()
    return found
