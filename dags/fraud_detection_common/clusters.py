"""Data Proc clusters and their jobs: listing and deletion."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.yandex.hooks.dataproc import DataprocHook
from yandex.cloud.dataproc.v1 import cluster_service_pb2, job_service_pb2
from yandex.cloud.dataproc.v1.cluster_service_pb2_grpc import ClusterServiceStub
from yandex.cloud.dataproc.v1.job_service_pb2_grpc import JobServiceStub
from yandex.cloud.operation import operation_service_pb2
from yandex.cloud.operation.operation_service_pb2_grpc import OperationServiceStub

if TYPE_CHECKING:
    from yandex.cloud.dataproc.v1.cluster_pb2 import Cluster
    from yandex.cloud.dataproc.v1.job_pb2 import Job
    from yandex.cloud.operation.operation_pb2 import Operation

POLL_SECONDS = 5.0
"""Pause between two polls of a cluster that is changing, or of a job that an earlier try started."""

_CALL_SECONDS = 60.0  # time limit of one API call

# A request refused with one of these codes would be refused again.
_PERMANENT_CODES = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
)
# A deletion refused with one of these codes may succeed later: the cluster is busy, or the API is unavailable.
_TRANSIENT_CODES = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


def find_clusters(hook: DataprocHook, folder_id: str, labels: Mapping[str, str]) -> list[Cluster]:
    """The clusters of a folder with all of these labels, in any status."""
    service, found, page = hook.sdk.client(ClusterServiceStub), [], ""
    while True:
        request = cluster_service_pb2.ListClustersRequest(folder_id=folder_id, page_token=page)
        answer = service.List(request)
        found += [cluster for cluster in answer.clusters if labels.items() <= dict(cluster.labels).items()]
        page = answer.next_page_token
        if not page:
            return found


class Deletion:
    """The deletion of one cluster, one step at a time, so that several can proceed side by side."""

    def __init__(self, hook: DataprocHook, cluster_id: str) -> None:
        self.cluster_id = cluster_id
        self.problem = ""
        """Why the cluster still exists; empty once it is deleted."""
        self._clusters = hook.sdk.client(ClusterServiceStub)
        self._operations = hook.sdk.client(OperationServiceStub)
        self._operation: Operation | None = None

    def request(self) -> None:
        """Request the deletion. Raises grpc.RpcError."""
        request = cluster_service_pb2.DeleteClusterRequest(cluster_id=self.cluster_id)
        self._operation = self._clusters.Delete(request, timeout=_CALL_SECONDS)

    def is_over(self) -> bool:
        """Take the next step; True once the cluster is deleted, or the API has refused permanently."""
        try:
            return self._step()
        except grpc.RpcError as error:
            code = error.code()
            deleted = code is grpc.StatusCode.NOT_FOUND
            self.problem = "" if deleted else f"{code.name}: {error.details()}"
            return deleted or code not in _TRANSIENT_CODES

    def _step(self) -> bool:
        if self._operation is None:
            self.request()
            return False
        request = operation_service_pb2.GetOperationRequest(operation_id=self._operation.id)
        self._operation = self._operations.Get(request, timeout=_CALL_SECONDS)
        self.problem = self._operation.error.message if self._operation.done else "its deletion is in progress"
        return bool(self._operation.done)


def delete_clusters(hook: DataprocHook, cluster_ids: Sequence[str], time_limit: timedelta) -> list[str]:
    """Delete clusters side by side; waits for one that is being created or is already being deleted.

    Raises:
        AirflowException: some still exist after the time limit; the message lists them with the reasons.
    """
    deletions = [Deletion(hook, cluster_id) for cluster_id in cluster_ids]
    end, pending = time.monotonic() + time_limit.total_seconds(), deletions
    while pending := [deletion for deletion in pending if not deletion.is_over()]:
        if time.monotonic() > end:
            break
        time.sleep(POLL_SECONDS)
    failures = [
        f"{deletion.cluster_id}: {f'not gone after {time_limit}: ' if deletion in pending else ''}{deletion.problem}"
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
def translate_errors() -> Iterator[None]:
    """Turn a refusal that is permanent into AirflowFailException, which Airflow does not retry."""
    try:
        yield
    except grpc.RpcError as error:
        if error.code() in _PERMANENT_CODES:
            raise AirflowFailException(f"the cloud refused: {error.code().name}: {error.details()}") from error
        raise
