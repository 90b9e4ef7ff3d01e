"""Data Proc clusters and their subclusters. Only calls create, change, start, stop or delete them.

Like the real service, the emulator never deletes a cluster by itself.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from yandex.cloud.dataproc.v1 import (
    cluster_pb2,
    cluster_service_pb2,
    common_pb2,
    subcluster_pb2,
    subcluster_service_pb2,
)
from yandex.cloud.operation.operation_pb2 import Operation

from emulator.access import Need
from emulator.cloud import Cloud
from emulator.errors import ApiError, Violation, failed_precondition
from emulator.faults import FaultKind
from emulator.gateway import Check, Method
from emulator.iam import Caller
from emulator.ids import DATAPROC, new_id
from emulator.jobs import Jobs
from emulator.kinds import Kind
from emulator.paging import check_filter, name_filter, page, page_of_messages
from emulator.specs import check_cluster, check_cluster_update, check_resources, check_subcluster, resources_or_default
from emulator.store import Record

Cluster = cluster_pb2.Cluster
Subcluster = subcluster_pb2.Subcluster

_DELETE_RETRY = 0.2  # seconds between looks at a deleted cluster's jobs
_UPDATABLE = frozenset(
    {
        "description",
        "labels",
        "name",
        "service_account_id",
        "bucket",
        "ui_proxy",
        "security_group_ids",
        "deletion_protection",
        "log_group_id",
        "autoscaling_service_account_id",
    }
)


class Clusters:
    """ClusterService."""

    def __init__(self, cloud: Cloud, jobs: Jobs, kind: Kind) -> None:
        self._cloud = cloud
        self._jobs = jobs
        self._kind = kind
        for action, function in (
            ("cluster.create", self._created),
            ("cluster.create-failed", self._create_failed),
            ("cluster.delete", self._deleted),
            ("cluster.delete-failed", self._delete_failed),
            ("cluster.start", self._started),
            ("cluster.stop", self._stopped),
            ("cluster.update", self._updated),
        ):
            cloud.clock.register(action, function)

    @property
    def methods(self) -> dict[str, Method]:
        return {
            "Get": self.get,
            "List": self.list,
            "Create": self.create,
            "Update": self.update,
            "Delete": self.delete,
            "Start": self.start,
            "Stop": self.stop,
            "ListOperations": self.list_operations,
            "ListHosts": self.list_hosts,
            "ListUILinks": self.list_ui_links,
        }

    @property
    def checks(self) -> dict[str, Check]:
        return {
            "List": check_filter,
            "Create": lambda request: check_cluster(request, self._cloud),
            "Update": self._check_update,
            "ListHosts": check_filter,
        }

    def needs(self, method: str, request: Any) -> Iterator[Need]:
        """What a call needs, and, at a creation, what the cluster's own account needs to work."""
        yield from self._kind.needs(method, request)
        if method == "Create":
            yield from _creation_needs(request)

    def get(self, request: cluster_service_pb2.GetClusterRequest, _caller: Caller) -> Cluster:
        return self._cloud.store.require("cluster", request.cluster_id).message(Cluster)

    def list(
        self, request: cluster_service_pb2.ListClustersRequest, _caller: Caller
    ) -> cluster_service_pb2.ListClustersResponse:
        records = self._cloud.store.find("cluster", owner=request.folder_id, name=name_filter(request.filter))
        clusters, token = page_of_messages(records, request, Cluster)
        return cluster_service_pb2.ListClustersResponse(clusters=clusters, next_page_token=token)

    def create(self, request: cluster_service_pb2.CreateClusterRequest, caller: Caller) -> Operation:
        if self._cloud.store.find("cluster", owner=request.folder_id, name=request.name):
            message = f"Cluster with name {request.name!r} already exists in folder {request.folder_id!r}"
            raise ApiError(grpc.StatusCode.ALREADY_EXISTS, message)
        if fault := self._cloud.faults.take(FaultKind.CREATE_REFUSED, request.name):
            raise ApiError(grpc.StatusCode[fault.status], "The cluster cannot be created (a fault of the emulator)")
        cluster = _new_cluster(request)
        metadata = cluster_service_pb2.CreateClusterMetadata(cluster_id=cluster.id)
        operation = self._operation(caller, "cluster.create", cluster.id, "Create Data Proc cluster", metadata)
        self._cloud.store.put(
            "cluster", cluster.id, cluster, owner=cluster.folder_id, name=cluster.name, data={"operation": operation.id}
        )
        self._cloud.store.put("cluster-request", cluster.id, request, owner=cluster.folder_id)  # outlives the cluster
        for spec in request.config_spec.subclusters_spec:
            subcluster = _new_subcluster(cluster.id, spec)
            self._cloud.store.put("subcluster", subcluster.id, subcluster, owner=cluster.id, name=subcluster.name)
        self._log(cluster, "CREATING", labels=dict(cluster.labels))
        if request.config_spec.hadoop.initialization_actions:
            self._note(cluster, "initialization actions are not run")
        self._schedule_creation(cluster)
        return operation

    def update(self, request: cluster_service_pb2.UpdateClusterRequest, caller: Caller) -> Operation:
        record = self._cloud.store.require("cluster", request.cluster_id)
        cluster = record.message(Cluster)
        self._require_quiet(cluster)
        paths = list(request.update_mask.paths) or [name.name for name, _ in request.ListFields()]
        paths = [path for path in paths if path not in ("cluster_id", "update_mask", "decommission_timeout")]
        unknown = [path for path in paths if path not in _UPDATABLE]
        if unknown:
            raise ApiError(grpc.StatusCode.UNIMPLEMENTED, f"update of {', '.join(unknown)} is not emulated")
        if "name" in paths and request.name != cluster.name:
            raise ApiError(grpc.StatusCode.UNIMPLEMENTED, "update of name is not emulated")
        for path in paths:
            cluster.ClearField(path)  # type: ignore[arg-type]  # one of _UPDATABLE
        cluster.MergeFrom(Cluster(**{path: getattr(request, path) for path in paths}))
        return self._change(record, cluster, caller, "update", cluster_service_pb2.UpdateClusterMetadata)

    def delete(self, request: cluster_service_pb2.DeleteClusterRequest, caller: Caller) -> Operation:
        record = self._cloud.store.require("cluster", request.cluster_id)
        cluster = record.message(Cluster)
        if cluster.deletion_protection:
            raise failed_precondition(f"Cluster {cluster.id} has deletion protection")
        if not (cluster.status == Cluster.CREATING and self._cloud.settings.rules.delete_while_creating):
            self._require_quiet(cluster)
        if fault := self._cloud.faults.take(FaultKind.DELETE_REFUSED, cluster.name):
            raise ApiError(grpc.StatusCode[fault.status], "The cluster cannot be deleted (a fault of the emulator)")
        self._cloud.clock.cancel(cluster.id)
        self._abandon_creation(record)
        fails = self._cloud.faults.take(FaultKind.DELETE_FAILS, cluster.name)
        metadata = cluster_service_pb2.DeleteClusterMetadata(cluster_id=cluster.id)
        operation = self._operation(caller, "cluster.delete", cluster.id, "Delete Data Proc cluster", metadata)
        if fails is None:
            cluster.status, cluster.health = Cluster.STATUS_UNKNOWN, common_pb2.HEALTH_UNKNOWN
            self._jobs.end_all(cluster.id)
            self._log(cluster, "DELETING")
        self._cloud.store.save(record, cluster, operation=operation.id)
        action = "cluster.delete" if fails is None else "cluster.delete-failed"
        slow = self._cloud.faults.take(FaultKind.DELETE_SLOW, cluster.name)
        delay = self._cloud.settings.timing.delete_cluster + (slow.seconds if slow else 0.0)
        self._cloud.clock.schedule(delay, action, cluster.id)
        return operation

    def start(self, request: cluster_service_pb2.StartClusterRequest, caller: Caller) -> Operation:
        record = self._cloud.store.require("cluster", request.cluster_id)
        cluster = record.message(Cluster)
        self._require_status(cluster, Cluster.STOPPED)
        cluster.status = Cluster.STARTING
        return self._change(record, cluster, caller, "start", cluster_service_pb2.StartClusterMetadata)

    def stop(self, request: cluster_service_pb2.StopClusterRequest, caller: Caller) -> Operation:
        record = self._cloud.store.require("cluster", request.cluster_id)
        cluster = record.message(Cluster)
        self._require_status(cluster, Cluster.RUNNING)
        cluster.status = Cluster.STOPPING
        self._jobs.end_all(cluster.id)
        return self._change(record, cluster, caller, "stop", cluster_service_pb2.StopClusterMetadata)

    def list_operations(
        self, request: cluster_service_pb2.ListClusterOperationsRequest, _caller: Caller
    ) -> cluster_service_pb2.ListClusterOperationsResponse:
        self._cloud.store.require("cluster", request.cluster_id)
        shown, token = page(self._cloud.operations.of(request.cluster_id), request)
        return cluster_service_pb2.ListClusterOperationsResponse(operations=shown, next_page_token=token)

    def list_hosts(
        self, request: cluster_service_pb2.ListClusterHostsRequest, _caller: Caller
    ) -> cluster_service_pb2.ListClusterHostsResponse:
        cluster = self._cloud.store.require("cluster", request.cluster_id).message(Cluster)
        hosts = []
        for record in self._cloud.store.find("subcluster", owner=cluster.id):
            subcluster = record.message(Subcluster)
            hosts += [_host(cluster, subcluster, number) for number in range(subcluster.hosts_count)]
        wanted = name_filter(request.filter)
        shown, token = page([host for host in hosts if wanted in (None, host.name)], request)
        return cluster_service_pb2.ListClusterHostsResponse(hosts=shown, next_page_token=token)

    def list_ui_links(
        self, request: cluster_service_pb2.ListUILinksRequest, _caller: Caller
    ) -> cluster_service_pb2.ListUILinksResponse:
        self._cloud.store.require("cluster", request.cluster_id)
        return cluster_service_pb2.ListUILinksResponse()  # there are no web interfaces

    def _check_update(self, request: cluster_service_pb2.UpdateClusterRequest) -> Iterable[Violation]:
        record = self._cloud.store.get("cluster", request.cluster_id)
        return check_cluster_update(request, record.owner, self._cloud) if record else ()

    def _schedule_creation(self, cluster: Cluster) -> None:
        delay = self._cloud.settings.timing.create_cluster
        if fault := self._cloud.faults.take(FaultKind.CREATE_SLOW, cluster.name):
            delay += fault.seconds
        fails = self._cloud.faults.take(FaultKind.CREATE_FAILS, cluster.name)
        self._cloud.clock.schedule(delay, "cluster.create-failed" if fails else "cluster.create", cluster.id)

    def _change(
        self, record: Record, cluster: Cluster, caller: Caller, verb: str, metadata: Callable[..., Message]
    ) -> Operation:
        """Begin a change that the clock ends; the cluster's new state is set already."""
        description = f"{verb.capitalize()} Data Proc cluster"
        operation = self._operation(caller, f"cluster.{verb}", cluster.id, description, metadata(cluster_id=cluster.id))
        self._cloud.store.save(record, cluster, operation=operation.id)
        self._log(cluster, Cluster.Status.Name(cluster.status))
        delay: float = getattr(self._cloud.settings.timing, f"{verb}_cluster")
        self._cloud.clock.schedule(delay, f"cluster.{verb}", cluster.id)
        return operation

    def _abandon_creation(self, record: Record) -> None:
        """End the creation of a cluster that is deleted meanwhile, as an error."""
        running = self._cloud.operations.running(record.id)
        if running is not None:
            self._cloud.operations.fail(running, grpc.StatusCode.CANCELLED, "The cluster was deleted meanwhile")

    def _created(self, cluster_id: str) -> None:
        self._settle(cluster_id, Cluster.RUNNING, common_pb2.ALIVE)

    def _started(self, cluster_id: str) -> None:
        self._settle(cluster_id, Cluster.RUNNING, common_pb2.ALIVE)

    def _stopped(self, cluster_id: str) -> None:
        self._settle(cluster_id, Cluster.STOPPED, common_pb2.HEALTH_UNKNOWN)

    def _updated(self, cluster_id: str) -> None:
        record = self._cloud.store.require("cluster", cluster_id)
        self._cloud.operations.succeed(record.data["operation"], record.message(Cluster))

    def _create_failed(self, cluster_id: str) -> None:
        """Leave the cluster in the state ERROR; it costs money until it is deleted."""
        record = self._settle(cluster_id, Cluster.ERROR, common_pb2.DEAD, ends=False)
        message = f"Cluster {cluster_id} could not be created (a fault of the emulator)"
        self._cloud.operations.fail(record.data["operation"], grpc.StatusCode.INTERNAL, message)

    def _delete_failed(self, cluster_id: str) -> None:
        record = self._cloud.store.require("cluster", cluster_id)
        message = f"Cluster {cluster_id} could not be deleted (a fault of the emulator)"
        self._cloud.operations.fail(record.data["operation"], grpc.StatusCode.INTERNAL, message)

    def _deleted(self, cluster_id: str) -> None:
        record = self._cloud.store.require("cluster", cluster_id)
        if self._jobs.any_alive(cluster_id):
            self._cloud.clock.schedule(_DELETE_RETRY, "cluster.delete", cluster_id)
            return
        for subcluster in self._cloud.store.find("subcluster", owner=cluster_id):
            self._cloud.store.delete("subcluster", subcluster.id)
        self._cloud.store.delete("cluster", cluster_id)
        self._log(record.message(Cluster), "DELETED")
        self._cloud.operations.succeed(record.data["operation"], Empty())

    def _settle(self, cluster_id: str, status: Cluster.Status.ValueType, health: int, *, ends: bool = True) -> Record:
        record = self._cloud.store.require("cluster", cluster_id)
        cluster = record.message(Cluster)
        cluster.status = status
        cluster.health = health  # type: ignore[assignment]  # a value of common_pb2.Health
        self._cloud.store.save(record, cluster)
        self._log(cluster, Cluster.Status.Name(status))
        if ends:
            self._cloud.operations.succeed(record.data["operation"], cluster)
        return record

    def _operation(
        self, caller: Caller, action: str, cluster_id: str, description: str, metadata: Message
    ) -> Operation:
        return self._cloud.operations.start(DATAPROC, caller, action, cluster_id, description, metadata)

    def _require_quiet(self, cluster: Cluster) -> None:
        """Raises FAILED_PRECONDITION while another operation runs on the cluster."""
        if running := self._cloud.operations.running(cluster.id):
            status = Cluster.Status.Name(cluster.status)
            raise failed_precondition(f"Cluster {cluster.id} is {status}: operation {running} is still running")

    def _require_status(self, cluster: Cluster, status: Cluster.Status.ValueType) -> None:
        self._require_quiet(cluster)
        require_status(cluster, status)

    def _log(self, cluster: Cluster, status: str, **fields: object) -> None:
        self._cloud.events.write("cluster", cluster_id=cluster.id, name=cluster.name, status=status, **fields)

    def _note(self, cluster: Cluster, text: str) -> None:
        self._cloud.events.write("note", cluster_id=cluster.id, note=text)


class Subclusters:
    """SubclusterService."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        cloud.clock.register("subcluster.create", self._created)
        cloud.clock.register("subcluster.update", self._created)
        cloud.clock.register("subcluster.delete", self._deleted)

    @property
    def methods(self) -> dict[str, Method]:
        return {
            "Get": self.get,
            "List": self.list,
            "Create": self.create,
            "Update": self.update,
            "Delete": self.delete,
        }

    @property
    def checks(self) -> dict[str, Check]:
        return {
            "List": check_filter,
            "Create": self._check_create,
            "Update": lambda request: check_resources(request.resources, "resources"),
        }

    def get(self, request: subcluster_service_pb2.GetSubclusterRequest, _caller: Caller) -> Subcluster:
        record = self._cloud.store.require("subcluster", request.subcluster_id, owner=request.cluster_id)
        return record.message(Subcluster)

    def list(
        self, request: subcluster_service_pb2.ListSubclustersRequest, _caller: Caller
    ) -> subcluster_service_pb2.ListSubclustersResponse:
        self._cloud.store.require("cluster", request.cluster_id)
        wanted = name_filter(request.filter)
        records = self._cloud.store.find("subcluster", request.cluster_id, wanted)
        subclusters, token = page_of_messages(records, request, Subcluster)
        return subcluster_service_pb2.ListSubclustersResponse(subclusters=subclusters, next_page_token=token)

    def create(self, request: subcluster_service_pb2.CreateSubclusterRequest, caller: Caller) -> Operation:
        cluster = self._cloud.store.require("cluster", request.cluster_id).message(Cluster)
        require_status(cluster, Cluster.RUNNING)
        if request.role == subcluster_pb2.MASTERNODE:
            raise failed_precondition(f"Cluster {cluster.id} has its MASTERNODE subcluster already")
        if request.name and self._cloud.store.find("subcluster", cluster.id, request.name):
            raise ApiError(grpc.StatusCode.ALREADY_EXISTS, f"Subcluster with name {request.name!r} already exists")
        subcluster = _new_subcluster(cluster.id, request)
        self._cloud.store.put("subcluster", subcluster.id, subcluster, owner=cluster.id, name=subcluster.name)
        return self._begin(subcluster, caller, "create", subcluster_service_pb2.CreateSubclusterMetadata)

    def update(self, request: subcluster_service_pb2.UpdateSubclusterRequest, caller: Caller) -> Operation:
        record = self._cloud.store.require("subcluster", request.subcluster_id, owner=request.cluster_id)
        subcluster = record.message(Subcluster)
        paths = [path.split(".")[0] for path in request.update_mask.paths] or ["resources", "name", "hosts_count"]
        if "resources" in paths:
            subcluster.resources.MergeFrom(request.resources)
        if "hosts_count" in paths and request.hosts_count:
            subcluster.hosts_count = request.hosts_count
        if "autoscaling_config" in paths:
            subcluster.autoscaling_config.CopyFrom(request.autoscaling_config)
        self._cloud.store.save(record, subcluster)
        return self._begin(subcluster, caller, "update", subcluster_service_pb2.UpdateSubclusterMetadata)

    def delete(self, request: subcluster_service_pb2.DeleteSubclusterRequest, caller: Caller) -> Operation:
        record = self._cloud.store.require("subcluster", request.subcluster_id, owner=request.cluster_id)
        subcluster = record.message(Subcluster)
        if subcluster.role == subcluster_pb2.MASTERNODE:
            raise failed_precondition("A cluster's MASTERNODE subcluster cannot be deleted")
        return self._begin(subcluster, caller, "delete", subcluster_service_pb2.DeleteSubclusterMetadata)

    def _check_create(self, request: subcluster_service_pb2.CreateSubclusterRequest) -> Iterable[Violation]:
        record = self._cloud.store.get("cluster", request.cluster_id)
        return check_subcluster(request, record.message(Cluster).zone_id, "", self._cloud) if record else ()

    def _begin(self, subcluster: Subcluster, caller: Caller, verb: str, metadata: Callable[..., Message]) -> Operation:
        action, id_ = f"subcluster.{verb}", subcluster.id
        described = metadata(cluster_id=subcluster.cluster_id, subcluster_id=id_)
        operation = self._cloud.operations.start(
            DATAPROC, caller, action, id_, f"{verb.capitalize()} Data Proc subcluster", described
        )
        self._cloud.clock.schedule(self._cloud.settings.timing.update_cluster, action, id_)
        return operation

    def _created(self, subcluster_id: str) -> None:
        record = self._cloud.store.get("subcluster", subcluster_id)
        running = self._cloud.operations.running(subcluster_id)
        if running is None:
            return
        if record is None:
            self._cloud.operations.fail(running, grpc.StatusCode.NOT_FOUND, "The cluster was deleted meanwhile")
        else:
            self._cloud.operations.succeed(running, record.message(Subcluster))

    def _deleted(self, subcluster_id: str) -> None:
        self._cloud.store.delete("subcluster", subcluster_id)
        if running := self._cloud.operations.running(subcluster_id):
            self._cloud.operations.succeed(running, Empty())


def _creation_needs(request: cluster_service_pb2.CreateClusterRequest) -> Iterator[Need]:
    """What the caller hands to a cluster, and what the cluster's accounts need to work in its folder.

    https://yandex.cloud/en/docs/data-proc/security/ (2026-11-26): dataproc.agent, dataproc.provisioner to scale.
    """
    accounts = {request.service_account_id, request.autoscaling_service_account_id} - {""}
    for account in sorted(accounts):
        yield Need("iam.serviceAccounts.use", "service-account", account)
    subclusters = request.config_spec.subclusters_spec
    for subnet in sorted({spec.subnet_id for spec in subclusters}):
        yield Need("vpc.subnets.use", "subnet", subnet)
    for group in request.security_group_ids:
        yield Need("vpc.securityGroups.use", "security-group", group)
    folder, account = request.folder_id, request.service_account_id
    yield Need("dataproc.agents.report", "folder", folder, account)
    if request.log_group_id:
        yield Need("logging.records.write", "folder", folder, account)
    if any(spec.HasField("autoscaling_config") for spec in subclusters):
        scaling = request.autoscaling_service_account_id or account
        yield Need("compute.instances.create", "folder", folder, scaling)


def require_status(cluster: Cluster, status: Cluster.Status.ValueType) -> None:
    if cluster.status != status:
        found, wanted = Cluster.Status.Name(cluster.status), Cluster.Status.Name(status)
        raise failed_precondition(f"Cluster {cluster.id} is {found}; it must be {wanted}")


def _new_cluster(request: cluster_service_pb2.CreateClusterRequest) -> Cluster:
    spec = request.config_spec
    cluster = Cluster(
        id=new_id(DATAPROC),
        folder_id=request.folder_id,
        name=request.name,
        description=request.description,
        labels=request.labels,
        config=cluster_pb2.ClusterConfig(version_id=spec.version_id or "2.2", hadoop=spec.hadoop),
        health=common_pb2.HEALTH_UNKNOWN,
        status=Cluster.CREATING,
        zone_id=request.zone_id,
        service_account_id=request.service_account_id,
        bucket=request.bucket,
        ui_proxy=request.ui_proxy,
        security_group_ids=request.security_group_ids,
        host_group_ids=request.host_group_ids,
        deletion_protection=request.deletion_protection,
        log_group_id=request.log_group_id,
        environment=request.environment or Cluster.PRODUCTION,
        autoscaling_service_account_id=request.autoscaling_service_account_id,
    )
    cluster.created_at.GetCurrentTime()
    return cluster


def _new_subcluster(
    cluster_id: str,
    spec: cluster_service_pb2.CreateSubclusterConfigSpec | subcluster_service_pb2.CreateSubclusterRequest,
) -> Subcluster:
    subcluster = Subcluster(
        id=new_id(DATAPROC),
        cluster_id=cluster_id,
        name=spec.name,
        role=spec.role,
        resources=resources_or_default(spec.resources),
        subnet_id=spec.subnet_id,
        hosts_count=spec.hosts_count,
    )
    if spec.HasField("autoscaling_config"):
        subcluster.autoscaling_config.CopyFrom(spec.autoscaling_config)
    subcluster.created_at.GetCurrentTime()
    return subcluster


def _host(cluster: Cluster, subcluster: Subcluster, number: int) -> subcluster_pb2.Host:
    letter = {subcluster_pb2.MASTERNODE: "m", subcluster_pb2.DATANODE: "d"}.get(subcluster.role, "c")
    return subcluster_pb2.Host(
        name=f"rc1-dataproc-{letter}-{subcluster.id[3:15]}-{number}.mdb.yandexcloud.net",
        subcluster_id=subcluster.id,
        health=cluster.health,
        compute_instance_id=f"fhm{subcluster.id[3:16]}{number:04d}",
        role=subcluster.role,
    )
