"""A whole run on object storage: input, output and MLflow artifacts in buckets, on Sail and on Spark with S3A."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import AS_OF, SETTINGS, Job
from fakes.object_storage import KEY, SECRET, TOKEN, Metadata, Server, serving, use, use_keys

from fraud_detection import storage
from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.settings import Columns, Format
from fraud_detection.spark_session import Engine, session
from fraud_detection.transactions.columns import transaction_fields
from fraud_detection.transactions.files import find_files
from fraud_detection.transactions.table import typed_rows

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
INPUT, OUTPUT = "s3a://bucket/input", "s3a://bucket/output"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("--key", KEY) as running:
        yield running


def _upload(folder: Path, url: str) -> None:
    target = storage.open_folder(url)
    for path in folder.rglob("*"):
        if path.is_file():
            target.write_atomic(path.relative_to(folder).as_posix(), path.read_bytes())


def _comparable(decision: dict[str, Any]) -> dict[str, Any]:
    return {name: decision[name] for name in ("decision", "training", "holdout", "challenger", "difference", "checks")}


def test_on_yandex_cloud_the_whole_job_needs_no_key(
    job: Job, transactions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a job in the cloud needs a static key, or cannot work with a bucket alone."""
    expected = job(json=True).json
    with serving("--token", TOKEN) as server, Metadata().running() as metadata:
        use(
            monkeypatch,
            AWS_ENDPOINT_URL_S3=server.endpoint,
            YC_METADATA_ADDR=metadata.address,
            MLFLOW_DEFAULT_ARTIFACT_ROOT="s3a://bucket/mlflow",
        )
        _upload(transactions, INPUT)
        places = {"input": INPUT, "output": OUTPUT, "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
        first = job(json=True, **places)
        assert first.exit_code == 0, first.stderr
        assert _comparable(first.json) == _comparable(expected), "the place of the data must not decide"
        again = job(json=True, **places)
        assert again.json["run_id"] == first.json["run_id"], "a T is decided once"
        later = job(json=True, as_of="2026-03-01T01:00:00", **places)
        assert (later.json["decision"], later.json["champion_version"]) == ("refused", 1), later.stderr
        assert "PROMOTED as v1" in job("decisions", output=OUTPUT).stdout

        assert first.json["report"] == f"{OUTPUT}/reports/fraud_detection/20260301T000000Z/report.html"
        bucket = storage.open_folder("s3a://bucket")
        assert any(name.startswith("mlflow/") and name.endswith("/model.ubj") for name in bucket.names())
        assert b"FIRST CHAMPION v1" in (bucket.read(first.json["report"].removeprefix("s3a://bucket/")) or b"")
        assert not any(TOKEN.encode() in (bucket.read(name) or b"") for name in bucket.names("output/"))
        assert all(TOKEN not in ran.stdout + ran.stderr for ran in (first, again, later))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "output", "retraining.yaml"]


def test_an_output_in_a_bucket_asks_for_a_tracking_uri(job: Job) -> None:
    """Fails when the message for an output in a bucket does not name the missing --tracking-uri."""
    ran = job(output=OUTPUT)
    assert ran.exit_code == 2
    assert "--tracking-uri" in ran.stderr


def test_a_storage_that_is_away_ends_the_job_with_75(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an unavailable storage ends with an exit code that the schedule does not retry."""
    use_keys(monkeypatch, "http://127.0.0.1:9")
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    ran = job(input=INPUT, output=OUTPUT, tracking_uri=tracking)
    assert ran.exit_code == 75
    assert "cannot be reached" in ran.stderr
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/mlflow")
    ran = job(tracking_uri=f"{tracking}.other")
    assert ran.exit_code == 75, "artifacts that cannot be written are a service that is away"
    assert "artifacts of MLflow" in ran.stderr


def test_an_outage_while_the_engine_reads_is_worth_another_try(
    server: Server, transactions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an outage during a read looks like bad data or a bug, and is not retried."""
    use_keys(monkeypatch, server.endpoint)
    _upload(next(transactions.iterdir()).parent, INPUT)
    fields = transaction_fields(Columns(label_available_at="label_available_at"))
    with pytest.raises(ServiceUnavailableError), session(Engine.SAIL) as spark:
        rows = typed_rows(spark, find_files(INPUT, fields, Format()), fields)
        server.outage(status=503, times=10_000, method="GET")
        rows.count()


@pytest.fixture(scope="session")
def s3a_classpath() -> Path:
    """The jars of S3A, fetched once into the repository's .s3a."""
    folder = Path(os.environ.get("S3A_CLASSPATH") or ROOT / ".s3a")
    program = [sys.executable, str(ROOT / "scripts" / "prepare_s3a.py"), "--folder", str(folder)]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    if ran.returncode == 75 and not os.environ.get("TEST_EXTRA"):
        pytest.skip(f"the jars of S3A: {ran.stderr.strip().splitlines()[-1]}; run: make test-extra")
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.needs
def test_spark_reads_and_decides_alike_with_real_s3a(
    job: Job, server: Server, s3a_classpath: Path, transactions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when Spark on a bucket gives another decision than Sail on a laptop."""
    expected = job(json=True).json
    use_keys(monkeypatch, server.endpoint, S3A_CLASSPATH=str(s3a_classpath))
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/mlflow")
    rows, bucket = pq.read_table(transactions), storage.open_folder("s3a://bucket")
    for part, chosen in enumerate((slice(0, 40_000), slice(40_000, None))):
        table = rows.drop_columns(["fraud", "label_available_at"])[chosen]
        pq.write_table(table, sink := pa.BufferOutputStream())
        bucket.write_atomic(f"input/month={part}/part 0.parquet", sink.getvalue().to_pybytes())
    frauds = rows.filter(pc.equal(rows["fraud"], 1)).select(["transaction_id", "fraud", "label_available_at"])
    pyarrow.csv.write_csv(frauds, sink := pa.BufferOutputStream())
    bucket.write_atomic("labels/chargebacks.csv", sink.getvalue().to_pybytes())
    config = tmp_path / "spark.yaml"
    data = {"columns": {"fraud": None}, "labels": {"path": "s3://bucket/labels"}}
    config.write_text(yaml.safe_dump({**SETTINGS, "data": data}), encoding="utf-8")
    words = [str(ROOT / "src" / "fraud_detection_model.py"), "--config", str(config), "--as-of", AS_OF.isoformat()]
    words += ["--input", INPUT, "--output", OUTPUT, "--tracking-uri", f"sqlite:///{tmp_path}/spark.db"]
    ran = subprocess.run(
        [sys.executable, *words, "--engine", "spark", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    decision = json.loads(ran.stdout)
    assert decision["decision"] == "promoted"
    assert _comparable(decision) == _comparable(expected)
    assert any(name.endswith("/model.ubj") for name in bucket.names("mlflow/")), "the champion is in the bucket"
    assert bucket.read(decision["report"].removeprefix("s3a://bucket/"))
    reads = [entry for entry in server.requests() if "/input/month=0" in entry and entry.startswith("GET")]
    assert reads
    assert SECRET not in ran.stdout + ran.stderr
    log = "output/decisions/fraud_detection/"
    assert bucket.names("output/decisions/") == [f"{log}20260301T000000Z-opening.json", f"{log}20260301T000000Z.json"]
