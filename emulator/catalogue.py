"""Which services are emulated by their descriptions, and which of their kinds do more than keep their fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yandex.cloud.airflow.v1 import cluster_service_pb2 as airflow
from yandex.cloud.compute.v1 import disk_service_pb2, image_service_pb2, instance_service_pb2
from yandex.cloud.connectionmanager.v1 import connection_service_pb2
from yandex.cloud.dataproc.v1 import cluster_service_pb2 as dataproc
from yandex.cloud.dataproc.v1 import job_service_pb2, subcluster_service_pb2
from yandex.cloud.iam.v1 import service_account_service_pb2
from yandex.cloud.iam.v1.awscompatibility import access_key_service_pb2
from yandex.cloud.kms.v1 import symmetric_key_service_pb2
from yandex.cloud.lockbox.v1 import secret_service_pb2
from yandex.cloud.logging.v1 import log_group_service_pb2
from yandex.cloud.mdb.postgresql.v1 import cluster_service_pb2 as postgresql_cluster
from yandex.cloud.mdb.postgresql.v1 import database_service_pb2, user_service_pb2
from yandex.cloud.resourcemanager.v1 import cloud_service_pb2, folder_service_pb2
from yandex.cloud.storage.v1 import bucket_service_pb2
from yandex.cloud.vpc.v1 import (
    address_service_pb2,
    gateway_service_pb2,
    network_service_pb2,
    route_table_service_pb2,
    security_group_service_pb2,
    subnet_service_pb2,
)

from emulator import ids, postgresql
from emulator.access_keys import KIND as ACCESS_KEY
from emulator.access_keys import AccessKeys
from emulator.airflow import AirflowClusters
from emulator.buckets import Buckets
from emulator.cloud import Cloud
from emulator.encryption import SymmetricKeys
from emulator.errors import Violation
from emulator.kinds import Kind
from emulator.lockbox import Lockbox
from emulator.machines import Images, Instances
from emulator.networks import Networks, SecurityGroups
from emulator.resources import Behaviour, Resources
from emulator.s3 import S3Server


def _service(module: Any, name: str) -> Any:
    return module.DESCRIPTOR.services_by_name[name]


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "cloud",
            _service(cloud_service_pb2, "CloudService"),
            ids.FOLDER,
            "resource-manager.clouds",
            "",
            "organization_id",
        ),
        Kind(
            "folder",
            _service(folder_service_pb2, "FolderService"),
            ids.FOLDER,
            "resource-manager.folders",
            "cloud",
            "cloud_id",
        ),
        Kind(
            "service-account",
            _service(service_account_service_pb2, "ServiceAccountService"),
            ids.ACCOUNT,
            "iam.serviceAccounts",
            usable=True,
        ),
        Kind(
            ACCESS_KEY,
            _service(access_key_service_pb2, "AccessKeyService"),
            ids.ACCOUNT,
            "iam.accessKeys",
            "service-account",
            "service_account_id",
        ),
        Kind(
            "network",
            _service(network_service_pb2, "NetworkService"),
            ids.NETWORK,
            "vpc.networks",
            keeps=("subnet", "route-table", "postgresql-cluster"),
        ),
        Kind(
            "subnet",
            _service(subnet_service_pb2, "SubnetService"),
            ids.SUBNET,
            "vpc.subnets",
            usable=True,
            keeps=("instance", "airflow-cluster"),
        ),
        Kind("gateway", _service(gateway_service_pb2, "GatewayService"), "enp", "vpc.gateways", keeps=("route-table",)),
        Kind(
            "route-table",
            _service(route_table_service_pb2, "RouteTableService"),
            "enp",
            "vpc.routeTables",
            keeps=("subnet",),
        ),
        Kind(
            "security-group",
            _service(security_group_service_pb2, "SecurityGroupService"),
            ids.NETWORK,
            "vpc.securityGroups",
            usable=True,
            keeps=("instance", "airflow-cluster", "postgresql-cluster"),
        ),
        Kind("address", _service(address_service_pb2, "AddressService"), "e9b", "vpc.addresses"),
        Kind("symmetric-key", _service(symmetric_key_service_pb2, "SymmetricKeyService"), "abj", "kms.keys"),
        Kind("secret", _service(secret_service_pb2, "SecretService"), ids.LOCKBOX, "lockbox.secrets"),
        # The provider reads a bucket as soon as it has the reply to its creation.
        Kind("bucket", _service(bucket_service_pb2, "BucketService"), "", "storage.buckets", at_once=True),
        Kind("disk", _service(disk_service_pb2, "DiskService"), "epd", "compute.disks"),
        Kind("image", _service(image_service_pb2, "ImageService"), "fd8", ""),
        Kind("instance", _service(instance_service_pb2, "InstanceService"), "epd", "compute.instances"),
        Kind(
            "postgresql-cluster",
            _service(postgresql_cluster, "ClusterService"),
            "c9q",
            "managed-postgresql.clusters",
        ),
        Kind(
            "postgresql-user",
            _service(user_service_pb2, "UserService"),
            "",
            "managed-postgresql.users",
            "postgresql-cluster",
            "cluster_id",
        ),
        Kind(
            "postgresql-database",
            _service(database_service_pb2, "DatabaseService"),
            "",
            "managed-postgresql.databases",
            "postgresql-cluster",
            "cluster_id",
        ),
        Kind(
            "connection",
            _service(connection_service_pb2, "ConnectionService"),
            "a59",
            "connection-manager.connections",
        ),
        Kind("airflow-cluster", _service(airflow, "ClusterService"), "c9q", "managed-airflow.clusters"),
        Kind("log-group", _service(log_group_service_pb2, "LogGroupService"), "e23", "logging.groups"),
    )
}
"""Kinds whose services are answered by `Resources`."""

DATAPROC: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("cluster", _service(dataproc, "ClusterService"), ids.DATAPROC, "dataproc.clusters"),
        Kind(
            "subcluster",
            _service(subcluster_service_pb2, "SubclusterService"),
            ids.DATAPROC,
            "dataproc.subclusters",
            "cluster",
            "cluster_id",
        ),
        Kind("job", _service(job_service_pb2, "JobService"), ids.DATAPROC, "dataproc.jobs", "cluster", "cluster_id"),
    )
}
"""Kinds whose services are written by hand; the catalogue says what permissions their calls need."""

PARENTS: Mapping[str, str] = {kind.name: kind.parent for kind in (*KINDS.values(), *DATAPROC.values())}

# By request: fields whose annotations the real API does not hold. Users and databases are resources of their own, and a
# password is generated or read from Connection Manager.
_EXCUSED = {
    postgresql_cluster.CreateClusterRequest.DESCRIPTOR.full_name: ("database_specs", "user_specs"),
    user_service_pb2.CreateUserRequest.DESCRIPTOR.full_name: ("user_spec.password",),
    user_service_pb2.UpdateUserRequest.DESCRIPTOR.full_name: ("password",),
}


def is_excused(violation: Violation, request: Any) -> bool:
    """Whether a rule of the description is one that the real API does not hold."""
    return violation.field in _EXCUSED.get(request.DESCRIPTOR.full_name, ())


@dataclass(frozen=True)
class Catalogue:
    """All kinds of one cloud, with what they do."""

    resources: Resources
    lockbox: Lockbox


def catalogue(cloud: Cloud, server: S3Server | None) -> Catalogue:
    """The kinds' services; `server` has the buckets, if the settings name an S3 server."""
    behaviours = {name: Behaviour() for name in KINDS}
    resources = Resources(cloud, KINDS, behaviours)
    lockbox = Lockbox(cloud)
    behaviours |= {
        "network": Networks(cloud),
        "security-group": SecurityGroups(cloud, resources, KINDS["security-group"]),
        "symmetric-key": SymmetricKeys(),
        "secret": lockbox,
        ACCESS_KEY: AccessKeys(cloud),
        "bucket": Buckets(cloud, server),
        "instance": Instances(cloud),
        "image": Images(cloud),
        "postgresql-cluster": postgresql.Clusters(cloud, resources, KINDS["postgresql-cluster"]),
        "postgresql-user": postgresql.Users(cloud, lockbox),
        "airflow-cluster": AirflowClusters(),
    }
    return Catalogue(resources, lockbox)
