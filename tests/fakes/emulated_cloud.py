"""Shared by the emulator's tests: an emulator with short delays, and the real SDK as its client."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import yandexcloud
from google.rpc import error_details_pb2, status_pb2
from yandex.cloud.dataproc.v1 import (
    cluster_pb2,
    cluster_service_pb2,
    common_pb2,
    job_pb2,
    job_service_pb2,
    subcluster_pb2,
)
from yandex.cloud.dataproc.v1.cluster_service_pb2_grpc import ClusterServiceStub
from yandex.cloud.dataproc.v1.job_service_pb2_grpc import JobServiceStub
from yandex.cloud.dataproc.v1.subcluster_service_pb2_grpc import SubclusterServiceStub
from yandex.cloud.lockbox.v1.payload_service_pb2_grpc import PayloadServiceStub
from yandex.cloud.lockbox.v1.secret_service_pb2_grpc import SecretServiceStub
from yandex.cloud.operation.operation_pb2 import Operation
from yandex.cloud.operation.operation_service_pb2 import GetOperationRequest
from yandex.cloud.operation.operation_service_pb2_grpc import OperationServiceStub

from emulator.client import Emulator, serving

BUCKET = "demo"
QUICK = {
    "create_cluster": 0.05,
    "delete_cluster": 0.05,
    "start_cluster": 0.05,
    "stop_cluster": 0.05,
    "update_cluster": 0.05,
    "job_provisioning": 0.02,
    "job_pending": 0.02,
    "job_grace": 1.0,
}
ON_YARN = {
    "spark.submit.deployMode": "cluster",
    "spark.yarn.appMasterEnv.PYTHONPATH": "./venv",
    "spark.executorEnv.PYTHONPATH": "./venv",
}
"""Properties of a job whose archive is unpacked as `venv`."""
DEADLINE = 15.0  # seconds that anything here may take
GIB = 1024**3


def settings(**changes: object) -> dict[str, object]:
    """Settings of a quick emulator with one bucket and stub jobs."""
    base: dict[str, object] = {
        "names": {"buckets": [BUCKET]},
        "timing": QUICK,
        "jobs": {"runner": "stub", "stub": {"seconds": 0.05}},
    }
    return {**base, **changes}


@contextmanager
def emulated(state: Path, **changes: object) -> Iterator["Api"]:
    with serving(state, settings(**changes)) as emulator:
        yield Api(emulator)
        assert {event["event"] for event in emulator.events()} <= documented_events()


def documented_events() -> set[str]:
    """The events of the table in docs/emulator.md. No test may see the emulator log another one."""
    text = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
    table = text.partition("| `event` |")[2].partition("\n\n")[0]
    names = re.findall(r"^\| ([^|]*) \|", table, flags=re.MULTILINE)
    return set(re.findall(r"`(.+?)`", " ".join(names)))


class Api:
    """The real SDK's stubs against an emulator, logged in as the service account `airflow`."""

    def __init__(self, emulator: Emulator, key: Mapping[str, str] | None = None) -> None:
        self.emulator = emulator
        self.cloud = emulator.cloud
        self.key = dict(key) if key else self.account_key("airflow")
        self.sdk = yandexcloud.SDK(
            endpoint=self.cloud["endpoint"],
            service_account_key=self.key,
            root_certificates=Path(self.cloud["ca"]).read_bytes(),
        )

    def account_key(self, name: str) -> dict[str, str]:
        content: dict[str, str] = json.loads(Path(self.cloud["service_accounts"][name]["key"]).read_text())
        return content

    @property
    def folder_id(self) -> str:
        return str(self.cloud["folder_id"])

    @property
    def clusters(self) -> ClusterServiceStub:
        return self.sdk.client(ClusterServiceStub)

    @property
    def subclusters(self) -> SubclusterServiceStub:
        return self.sdk.client(SubclusterServiceStub)

    @property
    def jobs(self) -> JobServiceStub:
        return self.sdk.client(JobServiceStub)

    @property
    def operations(self) -> OperationServiceStub:
        return self.sdk.client(OperationServiceStub)

    @property
    def secrets(self) -> SecretServiceStub:
        return self.sdk.client(SecretServiceStub)

    @property
    def payloads(self) -> PayloadServiceStub:
        return self.sdk.client(PayloadServiceStub)

    def wrapper(self) -> Any:
        """The class whose methods the Airflow operators call, set up as their hook does."""
        return self.sdk.wrappers.Dataproc(  # type: ignore[no-untyped-call]
            default_folder_id=self.folder_id, default_public_ssh_key=self.cloud["ssh_public_key"]
        )

    def cluster_request(self, name: str = "train", **changes: object) -> cluster_service_pb2.CreateClusterRequest:
        """A valid request for a lightweight cluster, as the wrapper makes it."""
        zone = "ru-central1-b"
        subcluster = cluster_service_pb2.CreateSubclusterConfigSpec(
            name="master",
            role=subcluster_pb2.MASTERNODE,
            resources=common_pb2.Resources(
                resource_preset_id="s2.small", disk_type_id="network-ssd", disk_size=32 * GIB
            ),
            subnet_id=self.cloud["subnets"][zone],
            hosts_count=1,
        )
        compute = cluster_service_pb2.CreateSubclusterConfigSpec()
        compute.CopyFrom(subcluster)
        compute.name, compute.role = "compute", subcluster_pb2.COMPUTENODE
        hadoop = cluster_pb2.HadoopConfig(
            services=[cluster_pb2.HadoopConfig.YARN, cluster_pb2.HadoopConfig.SPARK],
            properties={"spark:spark.sql.shuffle.partitions": "2"},
            ssh_public_keys=[self.cloud["ssh_public_key"]],
        )
        fields: dict[str, Any] = {
            "folder_id": self.folder_id,
            "name": name,
            "labels": {"run": name},
            "config_spec": cluster_service_pb2.CreateClusterConfigSpec(
                version_id="2.2", hadoop=hadoop, subclusters_spec=[subcluster, compute]
            ),
            "zone_id": zone,
            "service_account_id": self.cloud["service_accounts"]["dataproc"]["id"],
            "bucket": BUCKET,
        }
        return cluster_service_pb2.CreateClusterRequest(**{**fields, **changes})

    def create_cluster(self, name: str = "train", **changes: object) -> cluster_pb2.Cluster:
        """A running cluster."""
        operation = self.done(self.clusters.Create(self.cluster_request(name, **changes)))
        cluster = cluster_pb2.Cluster()
        assert operation.response.Unpack(cluster), operation.error.message
        return cluster

    def job_request(self, cluster_id: str, name: str = "job", **spec: object) -> job_service_pb2.CreateJobRequest:
        fields: dict[str, Any] = {"main_python_file_uri": f"s3a://{BUCKET}/main.py", **spec}
        return job_service_pb2.CreateJobRequest(
            cluster_id=cluster_id, name=name, pyspark_job=job_pb2.PysparkJob(**fields)
        )

    def create_job(self, cluster_id: str, name: str = "job", **spec: object) -> tuple[str, Operation]:
        """Request a job; returns its id and its operation."""
        operation = self.jobs.Create(self.job_request(cluster_id, name, **spec))
        metadata = job_service_pb2.CreateJobMetadata()
        assert operation.metadata.Unpack(metadata)
        return metadata.job_id, operation

    def job(self, cluster_id: str, job_id: str) -> job_pb2.Job:
        return self.jobs.Get(job_service_pb2.GetJobRequest(cluster_id=cluster_id, job_id=job_id))

    def job_status(self, cluster_id: str, job_id: str) -> str:
        return job_pb2.Job.Status.Name(self.job(cluster_id, job_id).status)

    def delete_cluster(self, cluster_id: str) -> Operation:
        request = cluster_service_pb2.DeleteClusterRequest(cluster_id=cluster_id)
        return self.done(self.clusters.Delete(request))

    def names(self) -> list[str]:
        request = cluster_service_pb2.ListClustersRequest(folder_id=self.folder_id)
        return [cluster.name for cluster in self.clusters.List(request).clusters]

    def done(self, operation: Operation, deadline: float = DEADLINE) -> Operation:
        """The operation once it is done."""
        end = time.monotonic() + deadline
        while not operation.done:
            assert time.monotonic() < end, f"operation {operation.id} is not done after {deadline} s"
            time.sleep(0.02)
            operation = self.operations.Get(GetOperationRequest(operation_id=operation.id))
        return operation


def code(error: Any) -> grpc.StatusCode:
    found: grpc.StatusCode = error.value.code()
    return found


def violated_fields(error: Any) -> list[str]:
    """Names of the broken fields in the details of an INVALID_ARGUMENT."""
    assert code(error) is grpc.StatusCode.INVALID_ARGUMENT, error.value.details()
    trailing = dict(error.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(bad)
    return [violation.field for violation in bad.field_violations]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False
