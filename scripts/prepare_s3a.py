"""Bring what Spark on this machine needs to read s3a:// into a folder, once: `make s3a`.

Nine jars, 6.5 MB, instead of the 281 MB that hadoop-aws draws in by itself. Spark's own resolver fetches them from
Maven's repository (or from another that DEFAULT_ARTIFACT_REPOSITORY names). Exit code 75 where they cannot be had.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import click
from pyspark.errors import PySparkException

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.spark_session import Engine, session
from fraud_simulation.command import GivenPath

_AWS = "1.12.262"
COORDINATES = (
    "org.apache.hadoop:hadoop-aws:3.3.4",  # the Hadoop of Spark 3.5
    f"com.amazonaws:aws-java-sdk-core:{_AWS}",
    f"com.amazonaws:aws-java-sdk-s3:{_AWS}",
    f"com.amazonaws:aws-java-sdk-dynamodb:{_AWS}",  # S3A refers to its classes, and to those of sts and kms
    f"com.amazonaws:aws-java-sdk-kms:{_AWS}",
    f"com.amazonaws:aws-java-sdk-sts:{_AWS}",
    f"com.amazonaws:jmespath-java:{_AWS}",
    "software.amazon.ion:ion-java:1.0.2",
    "com.fasterxml.jackson.dataformat:jackson-dataformat-cbor:2.12.6",
)
_NOT_GIVEN = re.compile(r"(unresolved dependency|not found|download failed)[^\]]*")
_AUTHORITIES = Path("/etc/ssl/certs/java/cacerts")  # where a Debian machine keeps those that its owner trusts


@click.command()
@click.option("--folder", type=GivenPath(path_type=Path), default=Path(".s3a"), show_default=True, help="Where to.")
def main(folder: Path) -> None:
    """Prepare the classpath of S3A for Spark on this machine."""
    if is_complete(folder):
        click.echo(f"{folder} is complete; use it by: export S3A_CLASSPATH={folder.absolute()}")
        return
    folder = folder.absolute()  # Ivy takes no other
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.tmp-", dir=folder.parent) as temporary:
        try:
            _resolve(Path(temporary, "ivy"))
        except ServiceUnavailableError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        ready = Path(temporary, "ready")
        ready.mkdir()
        for jar in Path(temporary, "ivy", "jars").glob("*.jar"):
            shutil.copy2(jar, ready)
        if folder.exists():
            shutil.rmtree(folder)
        ready.rename(folder)
    size = sum(jar.stat().st_size for jar in folder.iterdir()) / 1e6
    click.echo(f"{folder}: {len(COORDINATES)} jars, {size:.1f} MB; use it by: export S3A_CLASSPATH={folder}")


def is_complete(folder: Path) -> bool:
    """Whether every jar is there; the folder appears whole, so a name that is there stands for a whole file."""
    return all((folder / _file_name(coordinate)).exists() for coordinate in COORDINATES)


def _file_name(coordinate: str) -> str:
    group, name, version = coordinate.split(":")
    return f"{group}_{name}-{version}.jar"


def _resolve(ivy: Path) -> None:
    options = f"-Dspark.jars.ivy='{ivy}'"  # quoted: a path may have spaces
    if _AUTHORITIES.exists():
        options += f" -Djavax.net.ssl.trustStore={_AUTHORITIES} -Djavax.net.ssl.trustStorePassword=changeit"
    os.environ["JAVA_TOOL_OPTIONS"] = f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} {options}".strip()
    with session(Engine.SPARK) as spark:
        for coordinate in COORDINATES:
            try:
                spark.sql(f"ADD JAR ivy://{coordinate}?transitive=false")
            except PySparkException as error:
                found = _NOT_GIVEN.search(str(error))
                if found is None:
                    raise
                raise ServiceUnavailableError(
                    f"Maven's repository does not give the jars of S3A ({found[0]}); try later"
                ) from error


if __name__ == "__main__":
    main()
