"""How the emulated Data Proc runs the job: real Spark on this machine, with the buckets behind S3A."""

from pathlib import Path
from typing import Any

from fraud_detection.proxies import exempt_loopback
from local_stack.components import spark
from rehearsal.cloud import RehearsalError

_EVENT_LOG_BYTES = 500_000_000  # every decision of the rehearsal, for the table of grants


def emulator_settings(s3a: Path) -> dict[str, Any]:
    """Settings of an emulator whose jobs are Spark's. Raises RehearsalError without the jars of S3A."""
    if not any(s3a.glob("*hadoop-aws*.jar")):
        raise RehearsalError(f"the jars of S3A are missing; found: none in {s3a}; next: make s3a")
    direct: dict[str, str] = {}
    exempt_loopback(direct)
    properties = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "1500m",
        "spark.driver.extraClassPath": f"{s3a}/*",
        "spark.sql.shuffle.partitions": "2",
        "spark.hadoop.fs.s3a.directory.marker.retention": "keep",
    }
    return {
        "retention": {"event_log_bytes": _EVENT_LOG_BYTES},
        "jobs": {"runner": "spark", "spark": {**spark(), "properties": properties}, "environment": direct},
    }
