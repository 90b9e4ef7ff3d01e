"""What the DAGs share: names and labels of clusters, operators that survive a lost worker, and the job's results.

It imports nothing of the library, because Airflow does not have it: a job tells how it ended by small JSON objects in
its output folder (`docs/orchestration.md`), since Data Proc itself knows only DONE and ERROR.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import grpc
import requests
import yandexcloud.auth
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseNotifier,
    BaseOperator,
)
from airflow.providers.yandex.hooks.dataproc import DataprocHook
from airflow.providers.yandex.operators.dataproc import (
    DataprocCreateClusterOperator,
    DataprocCreatePysparkJobOperator,
    DataprocDeleteClusterOperator,
    InitializationAction,
)
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.dataproc.v1 import cluster_service_pb2, job_service_pb2
from yandex.cloud.dataproc.v1.cluster_pb2 import Cluster
from yandex.cloud.dataproc.v1.cluster_service_pb2_grpc import ClusterServiceStub
from yandex.cloud.dataproc.v1.job_pb2 import Job
from yandex.cloud.dataproc.v1.job_service_pb2_grpc import JobServiceStub
from yandex.cloud.operation import operation_service_pb2
from yandex.cloud.operation.operation_service_pb2_grpc import OperationServiceStub
from yandexcloud.operations import OperationError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from yandex.cloud.operation.operation_pb2 import Operation

PROJECT, RUN, LIFETIME, IDLE = "project", "run", "lifetime-minutes", "idle-minutes"
"""The labels of a cluster: its project, its DAG run, how old it may become, and how long it may be without a job."""

POLL_SECONDS = 5.0
"""Between two looks at a cluster that is busy, or at a job that another try began."""

_CALL_SECONDS = 60.0  # that one call to the cloud may take
_BOUND_OF_TASK = 0.9  # the part of a task's time limit after which it gives up waiting, to report what it has done
_HTTP_TIMEOUT = (10, 60)  # seconds to connect, and to wait for an answer
_S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_DECISION = re.compile(r"(\d{8}T\d{6}Z)\.json")

# A call that is refused for one of these is refused again.
_FINAL_CODES = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
)
# A deletion that is refused for one of these may succeed later: the cluster is busy, or the API is unavailable.
_PASSING_CODES = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_CHANGING_CLUSTER = (Cluster.CREATING, Cluster.STARTING, Cluster.STOPPING)
_RUNNING_JOB = (Job.PROVISIONING, Job.PENDING, Job.RUNNING, Job.CANCELLING)


# Names. One run of the DAG has one name, on every try and after being cleared, so that what it made can be found again.


def moment(dag_run: Any) -> datetime:
    """When the run was due: all that a run by hand has on Airflow 3; on Airflow 2 it is the end of the interval."""
    found: datetime = getattr(dag_run, "run_after", None) or dag_run.data_interval_end
    return found.astimezone(UTC)


def as_of(dag_run: Any) -> str:
    """T, the moment the run decides at: a whole hour."""
    return moment(dag_run).replace(minute=0, second=0, microsecond=0).isoformat()


def run_label(dag_run: Any) -> str:
    """A label that no other run has: labels and names allow neither the colons nor the length of a run's id."""
    digest = hashlib.sha256(f"{dag_run.dag_id} {dag_run.run_id}".encode()).hexdigest()
    return f"{moment(dag_run):%Y%m%dt%H%M%S}-{digest[:6]}"


# Clusters.


def clusters(hook: DataprocHook, folder_id: str, labels: Mapping[str, str]) -> list[Cluster]:
    """The clusters of a folder that bear all of these labels, whatever their status."""
    service, found, page = hook.sdk.client(ClusterServiceStub), [], ""
    while True:
        request = cluster_service_pb2.ListClustersRequest(folder_id=folder_id, page_token=page)
        answer = service.List(request)
        found += [cluster for cluster in answer.clusters if labels.items() <= dict(cluster.labels).items()]
        page = answer.next_page_token
        if not page:
            return found


class Deletion:
    """The deletion of one cluster, a step at a time, so that several go on side by side."""

    def __init__(self, hook: DataprocHook, cluster_id: str) -> None:
        self.cluster_id = cluster_id
        self.problem = ""
        """Why the cluster is still there; empty where it is gone."""
        self._clusters = hook.sdk.client(ClusterServiceStub)
        self._operations = hook.sdk.client(OperationServiceStub)
        self._operation: Operation | None = None

    def request(self) -> None:
        """Ask for the deletion. Raises grpc.RpcError."""
        wanted = cluster_service_pb2.DeleteClusterRequest(cluster_id=self.cluster_id)
        self._operation = self._clusters.Delete(wanted, timeout=_CALL_SECONDS)

    def is_over(self) -> bool:
        """Take the next step; True once the cluster is gone, or the cloud has refused for good."""
        try:
            return self._step()
        except grpc.RpcError as error:
            code = error.code()
            gone = code is grpc.StatusCode.NOT_FOUND
            self.problem = "" if gone else f"{code.name}: {error.details()}"
            return gone or code not in _PASSING_CODES

    def _step(self) -> bool:
        if self._operation is None:
            self.request()
            return False
        wanted = operation_service_pb2.GetOperationRequest(operation_id=self._operation.id)
        self._operation = self._operations.Get(wanted, timeout=_CALL_SECONDS)
        self.problem = self._operation.error.message if self._operation.done else "its deletion is under way"
        return bool(self._operation.done)


def delete_clusters(hook: DataprocHook, cluster_ids: Sequence[str], bound: timedelta) -> list[str]:
    """Delete clusters side by side, each within the bound; one that is being created or deleted is waited for.

    Raises:
        AirflowException: some are still there; it says which, and why, after all have had their time.
    """
    deletions = [Deletion(hook, cluster_id) for cluster_id in cluster_ids]
    end, pending = time.monotonic() + bound.total_seconds(), deletions
    while pending := [deletion for deletion in pending if not deletion.is_over()]:
        if time.monotonic() > end:
            break
        time.sleep(POLL_SECONDS)
    failures = [
        f"{deletion.cluster_id}: {f'not gone after {bound}: ' if deletion in pending else ''}{deletion.problem}"
        for deletion in deletions
        if deletion.problem
    ]
    if failures:
        raise AirflowException(f"{len(failures)} of {len(deletions)} cluster(s) not deleted: {'; '.join(failures)}")
    return [deletion.cluster_id for deletion in deletions]


def list_jobs(hook: DataprocHook, cluster_id: str) -> list[Job]:
    """The jobs of a cluster; those of one run fit on one page."""
    request = job_service_pb2.ListJobsRequest(cluster_id=cluster_id, page_size=100)
    return list(hook.sdk.client(JobServiceStub).List(request, timeout=_CALL_SECONDS).jobs)


@contextmanager
def no_useless_retries() -> Iterator[None]:
    """Fail for good where the cloud refuses a request that it would refuse again."""
    try:
        yield
    except grpc.RpcError as error:
        if error.code() in _FINAL_CODES:
            raise AirflowFailException(f"the cloud refused: {error.code().name}: {error.details()}") from error
        raise


class CreateCluster(DataprocCreateClusterOperator):
    """Create the run's cluster, unless an earlier try has: its reply may be lost, or its worker.

    The provider's operator has no templated fields, so numbers and switches arrive here as text.
    """

    template_fields: Sequence[str] = (
        "yandex_conn_id",
        "folder_id",
        "cluster_name",
        "cluster_image_version",
        "subnet_id",
        "s3_bucket",
        "zone",
        "service_account_id",
        "security_group_ids",
        "log_group_id",
        "masternode_resource_preset",
        "masternode_disk_type",
        "masternode_disk_size",
        "computenode_resource_preset",
        "computenode_disk_type",
        "computenode_disk_size",
        "computenode_count",
        "computenode_preemptible",
        "oslogin_enabled",
        "properties",
        "labels",
        "shutdown_script",
        "shutdown_minutes",
    )

    def __init__(self, *, shutdown_script: str = "", shutdown_minutes: str = "240", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shutdown_script = shutdown_script
        self.shutdown_minutes = shutdown_minutes

    def execute(self, context: Context) -> str:
        hook = DataprocHook(yandex_conn_id=self.yandex_conn_id)
        self._read_settings(hook)
        try:
            with no_useless_retries():
                for cluster in clusters(hook, self.folder_id, self.labels):
                    if self._comes_up(hook, cluster):
                        self.log.info("Cluster %s of an earlier try is used", cluster.id)
                        return str(cluster.id)
                return str(super().execute(context))
        except AirflowTaskTimeout as error:
            raise AirflowException(f"the cluster was not up within {self.execution_timeout}") from error

    def _comes_up(self, hook: DataprocHook, cluster: Cluster) -> bool:
        """Wait for a cluster that is still being created. False where it failed: the teardown deletes it later."""
        service = hook.sdk.client(ClusterServiceStub)
        while cluster.status == Cluster.CREATING:
            time.sleep(POLL_SECONDS)
            cluster = service.Get(cluster_service_pb2.GetClusterRequest(cluster_id=cluster.id))
        return bool(cluster.status == Cluster.RUNNING)

    def _read_settings(self, hook: DataprocHook) -> None:
        self.folder_id = self.folder_id or hook.default_folder_id
        self.security_group_ids = [group for group in self.security_group_ids or () if group]
        for name in ("masternode_disk_size", "computenode_disk_size", "computenode_count"):
            setattr(self, name, int(getattr(self, name)))
        self.oslogin_enabled = _is_true(self.oslogin_enabled)
        self.computenode_preemptible = _is_true(self.computenode_preemptible)
        if self.computenode_preemptible:
            # The API knows preemptible nodes only where a subcluster scales by itself: from its size to its size.
            self.computenode_max_hosts_count = self.computenode_count
            self.computenode_measurement_duration = Duration(seconds=60)
        if self.shutdown_script:
            action = InitializationAction(uri=self.shutdown_script, args=[str(self.shutdown_minutes)], timeout=60)
            self.initialization_actions = [action]


class DeleteClusters(DataprocDeleteClusterOperator):
    """Delete every cluster of the run, found by its label: an id is not known where a create was cut short.

    `cluster_id` is what the creation returned. Usually the training has asked for that cluster's deletion already.
    """

    template_fields: Sequence[str] = ("yandex_conn_id", "folder_id", "labels", "cluster_id")

    def __init__(self, *, labels: dict[str, str], folder_id: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = labels
        self.folder_id = folder_id

    def execute(self, context: Context) -> list[str]:  # noqa: ARG002  (Airflow's signature)
        hook = DataprocHook(yandex_conn_id=self.yandex_conn_id)
        found = [cluster.id for cluster in clusters(hook, self.folder_id or hook.default_folder_id, self.labels)]
        if not found and self.cluster_id is None:
            raise AirflowSkipException("the run has no cluster")
        return delete_clusters(hook, found, _BOUND_OF_TASK * self.execution_timeout) or [str(self.cluster_id)]


class DeleteOutlivedClusters(BaseOperator):
    """Delete the project's clusters that are older than their label allows, or have had no job for too long.

    Their runs are over, lost, or cannot go on. That is seen in the cloud alone, so it needs nothing of Airflow: a run
    that was deleted, or whose DAG is paused, leaves a cluster without a job.
    """

    template_fields: Sequence[str] = ("yandex_conn_id", "folder_id", "labels")

    def __init__(
        self,
        *,
        labels: dict[str, str],
        unlabelled_lifetime: timedelta,
        connection_id: str | None = None,
        folder_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.labels = labels
        self.unlabelled_lifetime = unlabelled_lifetime
        self.yandex_conn_id = connection_id
        self.folder_id = folder_id

    def execute(self, context: Context) -> list[str]:  # noqa: ARG002  (Airflow's signature)
        hook = DataprocHook(yandex_conn_id=self.yandex_conn_id)
        outlived = []
        for cluster in clusters(hook, self.folder_id or hook.default_folder_id, self.labels):
            reason = self._reason_to_delete(hook, cluster)
            self.log.info("Cluster %s of run %s: %s", cluster.id, cluster.labels[RUN], reason or "is left alone")
            outlived += [cluster.id] if reason else []
        return delete_clusters(hook, outlived, _BOUND_OF_TASK * self.execution_timeout)

    def _reason_to_delete(self, hook: DataprocHook, cluster: Cluster) -> str:
        """Why no run needs the cluster any more; empty where one may."""
        now = datetime.now(UTC)
        age = now - cluster.created_at.ToDatetime(UTC)
        if age > (_minutes_label(cluster, LIFETIME) or self.unlabelled_lifetime):
            return f"deleted: {age} old"
        allowed = _minutes_label(cluster, IDLE)
        idle = now - self._last_busy(hook, cluster, now) if allowed else None
        return f"deleted: without a job for {idle}" if allowed and idle and idle > allowed else ""

    def _last_busy(self, hook: DataprocHook, cluster: Cluster, now: datetime) -> datetime:
        """When the cluster was last created, changed or running a job; now, where that cannot be known."""
        if cluster.status in _CHANGING_CLUSTER:
            return now
        try:
            jobs = list_jobs(hook, cluster.id)
        except grpc.RpcError as error:  # its age still counts, and so do the other clusters
            self.log.warning("The jobs of cluster %s cannot be listed: %s", cluster.id, error.details())
            return now
        if any(job.status in _RUNNING_JOB for job in jobs):
            return now
        return max(stamp.ToDatetime(UTC) for stamp in (cluster.created_at, *(job.finished_at for job in jobs)))


def _minutes_label(cluster: Cluster, name: str) -> timedelta | None:
    text = dict(cluster.labels).get(name, "")
    return timedelta(minutes=int(text)) if text.isdecimal() else None


def minutes_label(bound: timedelta) -> str:
    """The value of a label that says how long: whole minutes, rounded up."""
    return str(math.ceil(bound / timedelta(minutes=1)))


# The job.


class Train(DataprocCreatePysparkJobOperator):
    """Run the job once: a try that follows a lost worker attaches to the job that is running already.

    Returns the name of the job, under which it wrote its outcome. Whether a job that failed is worth another try, only
    its outcome tells.
    """

    template_fields: Sequence[str] = (
        "yandex_conn_id",
        "cluster_id",
        "name",
        "main_python_file_uri",
        "python_file_uris",
        "file_uris",
        "archive_uris",
        "args",
        "properties",
        "more_properties",
        "storage_endpoint",
        "output_uri",
    )

    def __init__(self, *, storage_endpoint: str, output_uri: str, more_properties: str = "{}", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.storage_endpoint = storage_endpoint
        self.output_uri = output_uri
        self.more_properties = more_properties

    def execute(self, context: Context) -> str:
        hook = DataprocHook(yandex_conn_id=self.yandex_conn_id)
        self.properties = {**self.properties, **json.loads(self.more_properties)}
        with self._deleting_cluster_at_the_end(hook, context):
            try:
                with no_useless_retries():
                    return self._train(hook, context)
            except AirflowTaskTimeout as error:
                # Another try would attach to the same job and wait as long; its cluster goes, and it with that.
                raise AirflowFailException(
                    f"the job did not end within {self.execution_timeout}; see its log"
                ) from error

    @contextmanager
    def _deleting_cluster_at_the_end(self, hook: DataprocHook, context: Context) -> Iterator[None]:
        """Ask for the cluster's deletion once no further try needs it: nothing schedules the teardown of a paused DAG.

        It is not waited for, which is the teardown's part. A task that is killed asks for nothing: its job goes on,
        and a restarted worker attaches to it.
        """
        try:
            yield
        except Exception as error:
            task = context["ti"]
            if isinstance(error, AirflowFailException) or task.try_number > task.max_tries:
                self._request_deletion(hook)
            raise
        self._request_deletion(hook)

    def _request_deletion(self, hook: DataprocHook) -> None:
        try:
            Deletion(hook, self.cluster_id).request()
            self.log.info("Cluster %s is being deleted", self.cluster_id)
        except grpc.RpcError as error:
            self.log.warning("Cluster %s is left to the teardown: %s", self.cluster_id, error.details())

    def _train(self, hook: DataprocHook, context: Context) -> str:
        try:
            earlier = self._newest_job(hook)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return self._decided_by_an_earlier_try(hook)
        if earlier is not None:
            self.log.info("Job %s of an earlier try is %s", earlier.id, Job.Status.Name(earlier.status))
            if self._ended_well(hook, earlier):
                return str(earlier.name)
            demand_worth_retrying(self._results(hook), earlier.name)
        try:
            super().execute(context)
        except OperationError as error:
            demand_worth_retrying(self._results(hook), self.name)
            raise AirflowException(f"job {self.name} failed and can be tried again: {error}") from error
        return str(self.name)

    def _newest_job(self, hook: DataprocHook) -> Job | None:
        """The cluster is the run's own, and so is every job on it."""
        return max(list_jobs(hook, self.cluster_id), key=lambda job: job.created_at.ToNanoseconds(), default=None)

    def _decided_by_an_earlier_try(self, hook: DataprocHook) -> str:
        """The name of the job whose try deleted the cluster and was lost before Airflow heard of its end."""
        run, _, number = self.name.rpartition("-")
        for name in (f"{run}-{tries}" for tries in range(int(number) - 1, 0, -1)):
            outcome = self._results(hook).outcome(name)
            if outcome is not None and outcome["decision"] is not None:
                return name
        raise AirflowFailException(
            f"cluster {self.cluster_id} is gone: it had no job for too long (was the DAG paused?), or somebody deleted "
            "it; next: clear the whole run, which makes another, or wait for the next one"
        )

    def _ended_well(self, hook: DataprocHook, job: Job) -> bool:
        service = hook.sdk.client(JobServiceStub)
        request = job_service_pb2.GetJobRequest(cluster_id=self.cluster_id, job_id=job.id)
        while job.status in _RUNNING_JOB:
            time.sleep(POLL_SECONDS)
            try:
                job = service.Get(request)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                self.log.warning("The cloud cannot be reached; the job is waited for all the same")
        return bool(job.status == Job.DONE)

    def _results(self, hook: DataprocHook) -> Results:
        return Results.of(hook, self.storage_endpoint, self.output_uri)


def demand_worth_retrying(results: Results, job_name: str) -> None:
    """Fail for good where a job's outcome says that another try would end the same way.

    A job without an outcome was killed: by a lost node or for want of memory, which another try may survive.
    """
    outcome = results.outcome(job_name)
    if outcome is not None and not outcome["retry"]:
        raise AirflowFailException(f"the job ended with exit code {outcome['exit_code']}: {outcome['error']}")


# What jobs leave behind.


@dataclass(frozen=True)
class Results:
    """The job's output folder, read in place: in a bucket, or in the folder that stands for it on one machine."""

    endpoint: str
    """`https://storage.yandexcloud.net`, or `file:///…`, the folder of the buckets."""
    bucket: str
    prefix: str
    credentials: Mapping[str, Any]
    """As the provider's hook has them; none at all means the service account of the machine."""

    @classmethod
    def of(cls, hook: DataprocHook, endpoint: str, output_uri: str) -> Results:
        """The folder at `s3a://BUCKET/PREFIX`."""
        parts = urlsplit(output_uri)
        if parts.scheme not in ("s3a", "s3") or not parts.netloc:
            raise AirflowFailException(f"output_uri is {output_uri!r}; expected s3a://BUCKET/FOLDER")
        prefix = unquote(parts.path).strip("/")
        return cls(endpoint.rstrip("/"), parts.netloc, f"{prefix}/" if prefix else "", hook.credentials)

    def outcome(self, job_name: str) -> dict[str, Any] | None:
        """How a job ended, in its own words; None where it could not say."""
        content = self.read(f"outcomes/{job_name}.json")
        return None if content is None else dict(json.loads(content))

    def maturity(self, model_name: str) -> dict[str, Any] | None:
        """Known frauds by the hour in which they mature, as the last deciding job saw them; None before the first."""
        content = self.read(f"maturity/{model_name}.json")
        return None if content is None else dict(json.loads(content))

    def decision(self, model_name: str, as_of: datetime) -> dict[str, Any] | None:
        """What the run at T decided; None where it did not."""
        content = self.read(f"decisions/{model_name}/{as_of:%Y%m%dT%H%M%SZ}.json")
        return None if content is None else dict(json.loads(content))

    def last_decision(self, model_name: str, since: datetime) -> datetime | None:
        """The newest T that is decided, from the names of the decisions at or after `since` alone."""
        folder = f"decisions/{model_name}/"
        names = self.names(folder, after=f"{folder}{since - timedelta(seconds=1):%Y%m%dT%H%M%SZ}.json")
        stamps = [match[1] for name in names if (match := _DECISION.fullmatch(name.removeprefix(folder)))]
        return datetime.strptime(max(stamps), "%Y%m%dT%H%M%S%z") if stamps else None

    def is_champion_retired(self, model_name: str, since: datetime) -> bool:
        """Whether a person has taken the champion out of service, by the names of the log after the decision at T."""
        folder = f"decisions/{model_name}/"
        names = self.names(folder, after=f"{folder}{since:%Y%m%dT%H%M%SZ}.json")
        return any(name.endswith("-retire-champion.json") for name in names)

    def read(self, name: str) -> bytes | None:
        """One object, or None where there is none."""
        if self._is_local:
            path = self._folder / self.prefix / name
            return path.read_bytes() if path.exists() else None
        answer = self._get(f"/{self.bucket}/{quote(self.prefix + name)}", {})
        return None if answer is None else answer.content

    def names(self, folder: str, after: str = "") -> list[str]:
        """The sorted names in a folder (`a/b/`) that come after `after`."""
        if self._is_local:
            names = [folder + path.name for path in (self._folder / self.prefix / folder).glob("*")]
            return sorted(name for name in names if name > after)
        query = {"list-type": "2", "prefix": self.prefix + folder}
        if after:
            query["start-after"] = self.prefix + after
        names = []
        while True:
            answer = self._get(f"/{self.bucket}", query)
            if answer is None:
                raise AirflowFailException(f"bucket {self.bucket} does not exist at {self.endpoint}")
            page = ElementTree.fromstring(answer.content)  # noqa: S314  (of our own storage)
            names += [(key.text or "").removeprefix(self.prefix) for key in page.iterfind(f"{_S3}Contents/{_S3}Key")]
            token = page.findtext(f"{_S3}NextContinuationToken")
            if not token:
                return names
            query["continuation-token"] = token

    @property
    def _is_local(self) -> bool:
        return self.endpoint.startswith("file://")

    @property
    def _folder(self) -> Path:
        return Path(unquote(urlsplit(self.endpoint).path)) / self.bucket

    def _get(self, path: str, query: Mapping[str, str]) -> requests.Response | None:
        """GET with an IAM token in place of static keys; None for 404."""
        token = yandexcloud.auth.get_auth_token(**self.credentials)
        headers = {"X-YaCloud-SubjectToken": token}
        answer = requests.get(self.endpoint + path, params=query, headers=headers, timeout=_HTTP_TIMEOUT)
        if answer.status_code == requests.codes.not_found:
            return None
        answer.raise_for_status()
        return answer


@dataclass(frozen=True)
class Freshness:
    """How much there is to learn since the last decision: the numbers, and what they mean for the run."""

    train: bool
    reason: str
    last_decision: str | None
    new_frauds: int | None


def freshness(results: Results, model_name: str, t: datetime, min_new_frauds: int, max_hours: float) -> Freshness:
    """Whether a run at T is worth a cluster.

    Frauds whose labels came after the last job has read the data are not counted, so after `max_hours` without a
    decision a run goes ahead whatever the count. Without a champion a run goes ahead as soon as anything has matured:
    every hour without a model costs more than a cluster.
    """
    maturity = results.maturity(model_name)
    if maturity is None:
        return Freshness(True, "no run has decided yet", None, None)
    seen = datetime.fromisoformat(maturity["as_of"])
    last = results.last_decision(model_name, since=seen) or seen
    new = sum(count for hour, count in maturity["frauds"].items() if last < datetime.fromisoformat(hour) <= t)
    numbers = f"{new} new frauds matured in {last:%Y-%m-%d %H:%M} … {t:%Y-%m-%d %H:%M}"
    if t <= last:
        return Freshness(False, f"{t:%Y-%m-%d %H:%M} is decided already", last.isoformat(), new)
    if _without_champion(results.decision(model_name, last)) or results.is_champion_retired(model_name, last):
        matured = _matured_transactions(maturity, last, t)
        if matured != 0:
            what = "transactions" if matured is None else f"{matured} transactions"
            reason = f"no champion is in service, and {what} matured in {last:%Y-%m-%d %H:%M} … {t:%Y-%m-%d %H:%M}"
            return Freshness(True, reason, last.isoformat(), new)
    if new >= min_new_frauds:
        return Freshness(True, f"{numbers}; {min_new_frauds} are enough", last.isoformat(), new)
    if t - last >= timedelta(hours=max_hours):
        return Freshness(True, f"{numbers}, but {max_hours:g} h without a decision are enough", last.isoformat(), new)
    return Freshness(False, f"{numbers}; a run needs {min_new_frauds}", last.isoformat(), new)


def _without_champion(decision: Mapping[str, Any] | None) -> bool:
    """Whether the newest decision left no model in service."""
    return decision is not None and decision["version"] is None and decision["champion_version"] is None


def _matured_transactions(maturity: Mapping[str, Any], after: datetime, until: datetime) -> int | None:
    """How many transactions have matured; None where the last job, of an earlier release, did not say."""
    by_hour = maturity.get("transactions")
    if by_hour is None:
        return None
    return sum(count for hour, count in by_hour.items() if after < datetime.fromisoformat(hour) <= until)


def require_undecided(as_of: datetime, found: Freshness) -> None:
    """Fail for good where the hour is decided: a job would train nothing, and only repeat that decision."""
    last = datetime.fromisoformat(found.last_decision) if found.last_decision else None
    if last is not None and as_of <= last:
        raise AirflowFailException(
            f"{found.reason}, and a job would train nothing; the next hour to decide is "
            f"{last + timedelta(hours=1):%Y-%m-%d %H:%M} UTC; next: trigger the run then"
        )


def is_repeated(outcome: Mapping[str, Any], dag_run: Any) -> bool:
    """Whether the decision was made before this run began: it was reported then."""
    decided = outcome.get("decided_at")  # jobs of an earlier release do not tell
    return decided is not None and datetime.fromisoformat(decided) < dag_run.start_date


def summary(outcome: Mapping[str, Any]) -> str:
    """An outcome in one line, for the run's note and for messages."""
    if outcome["decision"] is None:
        return f"no decision was reached: exit code {outcome['exit_code']}: {outcome['error']}"
    what = f"promoted as v{outcome['version']}" if outcome["version"] else outcome["decision"].replace("_", " ")
    return f"{outcome['as_of']}: {what}; {outcome['reason']}; report {outcome['report']}"


def note(context: Context, text: str) -> None:
    """Write the run's note, which its page and the grid show; only Airflow 2 lets a task do so."""
    from airflow import __version__

    if not __version__.startswith("2."):
        return
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        run = context["dag_run"]
        session.query(DagRun).filter_by(dag_id=run.dag_id, run_id=run.run_id).one().note = text


class Tell(BaseNotifier):
    """Say something through a Slack-compatible webhook, where the settings name a connection for that."""

    def __init__(self, *, connection_id: str, text: str) -> None:
        super().__init__()
        self.connection_id = connection_id
        self.text = text

    def notify(self, context: Context) -> None:
        # Rendered here: Airflow renders a notifier in place, once for all tasks that share it, and Airflow 2 keeps the
        # template itself where it says nothing.
        environment = self.get_template_env(dag=context["dag"])
        connection_id = self.render_template(self.connection_id, context, environment)
        text = self.render_template(self.text, context, environment)
        if not connection_id or not text:
            return
        # Late: parsing the DAGs is cheaper without it, and possible where the provider is not installed.
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

        SlackWebhookNotifier(slack_webhook_conn_id=connection_id, text=text).notify(context)


def _is_true(value: object) -> bool:
    return str(value).strip().lower() in ("true", "1", "yes")
