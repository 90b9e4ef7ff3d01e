"""Operators that survive a lost worker: create and delete a run's cluster, delete forgotten ones, run the job."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
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
from yandexcloud.operations import OperationError

from fraud_detection_common import clusters
from fraud_detection_common.clusters import Deletion, delete_clusters, find_clusters, list_jobs, translate_errors
from fraud_detection_common.costs import ClusterSpan, hosts_of
from fraud_detection_common.naming import IDLE, LIFETIME, RUN, as_of, duration_of_label, run_label
from fraud_detection_common.outputs import RunOutputs, failure
from fraud_detection_common.spending import change_ledger, prices_of, read_ledger, spent_by_run

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_SHARE_OF_TASK = 0.9  # the share of a task's time limit after which it stops waiting and reports what it has done
_CHANGING_CLUSTER = (Cluster.CREATING, Cluster.STARTING, Cluster.STOPPING)
_GONE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)  # of what is gone the cloud may say either
_RUNNING_JOB = (Job.PROVISIONING, Job.PENDING, Job.RUNNING, Job.CANCELLING)


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
        "host_prices",
        "currency",
    )

    def __init__(
        self,
        *,
        shutdown_script: str = "",
        shutdown_minutes: str = "240",
        host_prices: str = "{}",
        currency: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shutdown_script = shutdown_script
        self.shutdown_minutes = shutdown_minutes
        self.host_prices = host_prices
        self.currency = currency

    def execute(self, context: Context) -> str:
        hook = DataprocHook(yandex_conn_id=self.yandex_conn_id)
        self._read_settings(hook)
        try:
            with translate_errors():
                for cluster in find_clusters(hook, self.folder_id, self.labels):
                    self._record(context, cluster.name, cluster.created_at.ToDatetime(UTC), seen=True)
                    if self._is_up(hook, cluster):
                        self.log.info("Cluster %s of an earlier try is used", cluster.id)
                        return str(cluster.id)
                # Before the request: a worker that is lost after it leaves a cluster that costs money.
                self._record(context, self.cluster_name, datetime.now(UTC), seen=False)
                cluster_id = str(super().execute(context))
        except AirflowTaskTimeout as error:
            raise AirflowException(f"the cluster was not up within {self.execution_timeout}") from error
        change_ledger(lambda ledger, _: ledger.seen(self.cluster_name))
        return cluster_id

    def _record(self, context: Context, name: str, created_at: datetime, *, seen: bool) -> None:
        """Record a cluster for the run's costs, with the prices of now."""
        hosts = hosts_of(
            self.masternode_resource_preset,
            self.computenode_resource_preset,
            self.computenode_count,
            preemptible=self.computenode_preemptible,
        )
        span = ClusterSpan(
            name=name,
            run=self.labels[RUN],
            as_of=as_of(context["dag_run"]),
            created_at=created_at.isoformat(),
            hosts=hosts,
            price_per_hour=prices_of(self.host_prices, self.currency).of_an_hour(hosts),
            currency=self.currency,
            seen=seen,
        )
        change_ledger(lambda ledger, now: ledger.opened(span, now))

    def _is_up(self, hook: DataprocHook, cluster: Cluster) -> bool:
        """Whether the cluster is running, after waiting for its creation. The teardown deletes one that failed."""
        service = hook.sdk.client(ClusterServiceStub)
        while cluster.status == Cluster.CREATING:
            time.sleep(clusters.POLL_SECONDS)
            cluster = service.Get(cluster_service_pb2.GetClusterRequest(cluster_id=cluster.id))
        return bool(cluster.status == Cluster.RUNNING)

    def _read_settings(self, hook: DataprocHook) -> None:
        self.folder_id = self.folder_id or hook.default_folder_id
        self.security_group_ids = [group for group in self.security_group_ids or () if group]
        for name in ("masternode_disk_size", "computenode_disk_size", "computenode_count"):
            setattr(self, name, int(getattr(self, name)))
        self.oslogin_enabled = is_true(self.oslogin_enabled)
        self.computenode_preemptible = is_true(self.computenode_preemptible)
        if self.computenode_preemptible:
            # The API allows preemptible nodes only in an autoscaled subcluster: minimum and maximum are its size.
            self.computenode_max_hosts_count = self.computenode_count
            self.computenode_measurement_duration = Duration(seconds=60)
        if self.shutdown_script:
            action = InitializationAction(uri=self.shutdown_script, args=[str(self.shutdown_minutes)], timeout=60)
            self.initialization_actions = [action]


class DeleteClusters(DataprocDeleteClusterOperator):
    """Delete every cluster of the run, found by its label: the id is unknown if a creation was interrupted.

    `cluster_id` is the id that the creation returned. Usually the training has already requested its deletion.
    """

    template_fields: Sequence[str] = ("yandex_conn_id", "folder_id", "labels", "cluster_id", "currency")

    def __init__(self, *, labels: dict[str, str], folder_id: str = "", currency: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = labels
        self.folder_id = folder_id
        self.currency = currency

    def execute(self, context: Context) -> list[str]:
        hook, run = DataprocHook(yandex_conn_id=self.yandex_conn_id), self.labels[RUN]
        found = find_clusters(hook, self.folder_id or hook.default_folder_id, self.labels)
        try:  # the deletion does not depend on the record of costs
            deleted = delete_clusters(hook, [cluster.id for cluster in found], _SHARE_OF_TASK * self.execution_timeout)
        finally:
            change_ledger(lambda ledger, now: ledger.settled({cluster.name for cluster in found}, now, run))
        if not found and self.cluster_id is None:
            raise AirflowSkipException("the run has no cluster")
        change_ledger(lambda ledger, now: ledger.closed(run, now))
        spent = spent_by_run(run, self.currency)
        self.log.info("The run's clusters cost %s", spent.text)
        context["ti"].xcom_push(key="cost", value=asdict(spent))
        return deleted or [str(self.cluster_id)]


class DeleteExpiredClusters(BaseOperator):
    """Delete the project's clusters that are older than their label allows, or have had no job for too long.

    Their runs are over, lost, or cannot continue. Only the cloud is asked, not Airflow: a run that was deleted, or
    whose DAG is paused, leaves a cluster without a job.
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
        expired = []
        for cluster in find_clusters(hook, self.folder_id or hook.default_folder_id, self.labels):
            reason = self._reason_to_delete(hook, cluster)
            self.log.info("Cluster %s of run %s: %s", cluster.id, cluster.labels[RUN], reason or "kept")
            expired += [cluster.id] if reason else []
        return delete_clusters(hook, expired, _SHARE_OF_TASK * self.execution_timeout)

    def _reason_to_delete(self, hook: DataprocHook, cluster: Cluster) -> str:
        """Why no run needs the cluster any more; empty if one may."""
        now = datetime.now(UTC)
        age = now - cluster.created_at.ToDatetime(UTC)
        if age > (duration_of_label(dict(cluster.labels), LIFETIME) or self.unlabelled_lifetime):
            return f"deleted: {age} old"
        allowed = duration_of_label(dict(cluster.labels), IDLE)
        idle = now - self._last_busy(hook, cluster, now) if allowed else None
        return f"deleted: without a job for {idle}" if allowed and idle and idle > allowed else ""

    def _last_busy(self, hook: DataprocHook, cluster: Cluster, now: datetime) -> datetime:
        """When the cluster was last created, changed or running a job; now, if that is unknown."""
        if cluster.status in _CHANGING_CLUSTER:
            return now
        try:
            jobs = list_jobs(hook, cluster.id)
        except grpc.RpcError as error:  # the check of its age still applies, and the other clusters are checked
            self.log.warning("The jobs of cluster %s cannot be listed: %s", cluster.id, error.details())
            return now
        if any(job.status in _RUNNING_JOB for job in jobs):
            return now
        return max(stamp.ToDatetime(UTC) for stamp in (cluster.created_at, *(job.finished_at for job in jobs)))


class Train(DataprocCreatePysparkJobOperator):
    """Run the job once: a try that follows a lost worker attaches to the job that is running already.

    Returns the name of the job, under which it recorded its outcome. The outcome alone says whether a failed job is
    worth another try.
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
        with self._request_deletion_at_the_end(hook, context):
            try:
                with translate_errors():
                    return self._train(hook, context)
            except AirflowTaskTimeout as error:
                # Another try would attach to the same job and wait as long. Deleting the cluster ends the job.
                raise AirflowFailException(
                    f"the job did not end within {self.execution_timeout}; see its log"
                ) from error

    @contextmanager
    def _request_deletion_at_the_end(self, hook: DataprocHook, context: Context) -> Iterator[None]:
        """Request the cluster's deletion once no further try needs it: Airflow does not schedule the teardown of a
        paused DAG.

        The teardown waits for it. A task that is killed requests nothing: its job continues, and a restarted worker
        attaches to it.
        """
        try:
            yield
        except Exception as error:
            task = context["ti"]
            if isinstance(error, AirflowFailException) or task.try_number > task.max_tries:
                self._request_deletion(hook, context)
            raise
        self._request_deletion(hook, context)

    def _request_deletion(self, hook: DataprocHook, context: Context) -> None:
        try:
            Deletion(hook, self.cluster_id).request()
            change_ledger(lambda ledger, now: ledger.deletion_requested(run_label(context["dag_run"]), now))
            self.log.info("Cluster %s is being deleted", self.cluster_id)
        except grpc.RpcError as error:
            self.log.warning("Cluster %s is left to the teardown: %s", self.cluster_id, error.details())

    def _train(self, hook: DataprocHook, context: Context) -> str:
        try:
            earlier = self._newest_job(hook)
            ended_well = earlier is not None and self._ended_well(hook, earlier)
        except grpc.RpcError as error:
            if error.code() not in _GONE:
                raise
            if (name := self._name_of_earlier_decision(hook)) is not None:
                return name
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                raise
            raise AirflowFailException(
                f"cluster {self.cluster_id} is gone: it had no job for too long (was the DAG paused?), or somebody "
                "deleted it; next: clear the whole run, which makes another, or wait for the next one"
            ) from error
        if earlier is not None:
            if ended_well:
                return str(earlier.name)
            require_worth_retrying(self._outputs(hook), earlier.name)
        self.args = [*(self.args or ()), *read_ledger().job_options(run_label(context["dag_run"]))]
        try:
            super().execute(context)
        except OperationError as error:
            known = require_worth_retrying(self._outputs(hook), self.name)
            raise AirflowException(f"job {self.name} failed and can be tried again: {known or error}") from error
        return str(self.name)

    def _newest_job(self, hook: DataprocHook) -> Job | None:
        """The newest job of the cluster, which belongs to this run alone; None if there is none."""
        return max(list_jobs(hook, self.cluster_id), key=lambda job: job.created_at.ToNanoseconds(), default=None)

    def _name_of_earlier_decision(self, hook: DataprocHook) -> str | None:
        """The name of the job that decided, if its try deleted the cluster and was lost before it could report."""
        run, _, number = self.name.rpartition("-")
        for name in (f"{run}-{tries}" for tries in range(int(number) - 1, 0, -1)):
            outcome = self._outputs(hook).outcome(name)
            if outcome is not None and outcome["decision"] is not None and not outcome.get("exit_code"):
                return name
        return None

    def _ended_well(self, hook: DataprocHook, job: Job) -> bool:
        self.log.info("Job %s of an earlier try is %s", job.id, Job.Status.Name(job.status))
        service = hook.sdk.client(JobServiceStub)
        request = job_service_pb2.GetJobRequest(cluster_id=self.cluster_id, job_id=job.id)
        while job.status in _RUNNING_JOB:
            time.sleep(clusters.POLL_SECONDS)
            try:
                job = service.Get(request)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                self.log.warning("The cloud cannot be reached; still waiting for the job")
        return bool(job.status == Job.DONE)

    def _outputs(self, hook: DataprocHook) -> RunOutputs:
        return RunOutputs.at(hook, self.storage_endpoint, self.output_uri)


def require_worth_retrying(outputs: RunOutputs, job_name: str) -> str:
    """How a job failed, empty if that is unknown; fail without a retry if its outcome says that none can help.

    A job without an outcome was killed, by a lost node or for lack of memory; another try may succeed.
    """
    outcome = outputs.outcome(job_name)
    if outcome is not None and not outcome["retry"]:
        raise AirflowFailException(failure(outcome))
    return failure(outcome) if outcome is not None else ""


def is_true(value: object) -> bool:
    """The value of a setting that a template has turned into text."""
    return str(value).strip().lower() in ("true", "1", "yes")
