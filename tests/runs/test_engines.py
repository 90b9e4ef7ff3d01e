"""The same job on Sail and, through spark-submit, on Apache Spark: the engine must not change the decision."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SETTINGS, Job
from pyspark.errors import PySparkException
from spark_job import submit

from fraud_detection.errors import FraudDetectionError
from fraud_detection.scores import ScoreStore
from fraud_detection.spark_session import Engine, session
from fraud_detection.storage import open_folder

pytestmark = pytest.mark.slow


def test_sail_and_spark_decide_alike(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a laptop and a cluster give another model, decision or scores for the same data."""
    on_spark = submit(transactions, tmp_path / "spark", SETTINGS)
    on_sail = job(json=True, score=True).json
    for found in (on_spark, on_sail):
        for of_the_run in ("seconds", "run_id", "decided_at", "committed_at", "report", "previous_entry"):
            found.pop(of_the_run)
    assert on_spark == on_sail
    assert on_sail["decision"] == "promoted"
    sail_model, spark_model = (next((tmp_path / name).rglob("model.ubj")) for name in ("output", "spark"))
    assert sail_model.read_bytes() == spark_model.read_bytes()
    scored = [ScoreStore(open_folder(str(tmp_path / name)), "fraud_detection").newest() for name in ("output", "spark")]
    [sail, spark] = [(found.rows, found.alerts, found.sha256) for found in scored if found is not None]
    assert sail == spark
    assert sail[0] > 1000


FAILING_WORKER = """
import sys
from fraud_detection.spark_session import Engine, session
from fraud_detection.errors import FraudDetectionError
from fraud_detection.shapes import without_values

def work(batches):
    for batch in batches:
        float("-".join(["CANARY", "7731"]))
        yield batch

with session(Engine(sys.argv[1])) as spark:
    try:
        spark.range(3).mapInArrow(without_values(work), "id bigint").collect()
    except Exception as error:
        print(error, file=sys.stderr)
        raise
"""


@pytest.mark.parametrize("engine", Engine)
def test_what_fails_in_a_worker_is_logged_without_values(engine: Engine) -> None:
    """Fails when the log of a cluster's task contains the value of a row that a worker could not convert."""
    ran = subprocess.run([sys.executable, "-c", FAILING_WORKER, engine], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "could not convert string to float: 'AAAAAA-9999'" in ran.stderr
    assert "CANARY-7731" not in ran.stdout + ran.stderr


def test_an_engine_s_error_comes_without_the_values_it_quotes() -> None:
    """Fails when a value that Spark quotes in an error becomes part of the run's message."""
    with pytest.raises(FraudDetectionError, match="The value 'Aaaaa 9999' of the type") as caught, session(Engine.SAIL):
        raise PySparkException("[CAST_INVALID_INPUT] The value 'Smith 4929' of the type STRING cannot be cast")
    assert "CAST_INVALID_INPUT" in str(caught.value)


def test_a_stopped_session_leaves_the_next_one_alone() -> None:
    """Fails when a program that retrains more than once breaks in its second run."""
    from pyspark.sql.connect.client.reattach import ExecutePlanResponseReattachableIterator as Queries

    with session(Engine.SAIL) as first:
        assert first.range(3).count() == 3
    with session(Engine.SAIL) as second:
        assert second.range(3).count() == 3
        threads = Queries._release_thread_pool
        first.__del__()  # type: ignore[attr-defined]
        assert Queries._release_thread_pool is threads is not None
        assert second.range(3).count() == 3
