"""Rules for the specifications of clusters and jobs beyond those in the API's description."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from yandex.cloud.dataproc.v1 import (
    cluster_pb2,
    cluster_service_pb2,
    common_pb2,
    job_pb2,
    job_service_pb2,
    subcluster_pb2,
)
from yandex.cloud.vpc.v1 import subnet_pb2

from emulator.cloud import Cloud
from emulator.errors import Violation
from emulator.keys import is_ssh_public_key

GIB = 1024**3
IMAGES = ("1.4", "2.0", "2.1", "2.2")
DEFAULT_RESOURCES = common_pb2.Resources(resource_preset_id="s2.small", disk_type_id="network-ssd", disk_size=128 * GIB)
# The names that the Airflow operators give to jobs by default.
OPERATOR_JOB_NAMES = frozenset({"Pyspark job", "Spark job", "Hive job", "Mapreduce job"})

_Service = cluster_pb2.HadoopConfig
_NEEDS = {  # service → what must be there with it
    _Service.MAPREDUCE: (_Service.YARN,),
    _Service.SPARK: (_Service.YARN,),
    _Service.LIVY: (_Service.SPARK,),
    _Service.HBASE: (_Service.HDFS, _Service.ZOOKEEPER),
}
_DEFAULT_SERVICES = (_Service.HDFS, _Service.YARN, _Service.MAPREDUCE, _Service.HIVE, _Service.SPARK)
_DISKS = ("network-hdd", "network-ssd", "network-ssd-nonreplicated", "network-ssd-io-m3")
_PRESET = re.compile(r"[a-z]+\d?\.(nano|micro|small|medium|large|\d?xlarge)|[a-z]+\d[a-z]?-c\d+-m\d+(-[a-z0-9]+)?")
_PROPERTY = re.compile(r"[a-z0-9-]+:[^\s=]+")
_URI = re.compile(r"(s3a|s3|hdfs|https?|file)://\S+|local:\S+")


def cluster_services(hadoop: cluster_pb2.HadoopConfig) -> set[int]:
    """The services of a cluster; the default set where none is named."""
    return set(hadoop.services) or set(_DEFAULT_SERVICES)


def check_cluster(request: cluster_service_pb2.CreateClusterRequest, cloud: Cloud) -> Iterator[Violation]:
    """Every reason to refuse a new cluster, except that its name is taken."""
    spec = request.config_spec
    yield from cloud.check_known("folder", request.folder_id, "folder_id")
    yield from cloud.check_known("zone", request.zone_id, "zone_id")
    yield from cloud.check_known("service-account", request.service_account_id, "service_account_id", request.folder_id)
    yield from _check_references(request, request.folder_id, cloud)
    yield from _check_version(spec.version_id)
    yield from _check_hadoop(spec.hadoop, "config_spec.hadoop")
    yield from _check_roles(spec.subclusters_spec, cluster_services(spec.hadoop))
    for index, subcluster in enumerate(spec.subclusters_spec):
        path = f"config_spec.subclusters_spec[{index}]"
        yield from check_subcluster(subcluster, request.zone_id, path, cloud)


def check_cluster_update(
    request: cluster_service_pb2.UpdateClusterRequest, folder: str, cloud: Cloud
) -> Iterator[Violation]:
    """Every reason to refuse a change of a cluster in a folder."""
    if request.service_account_id:
        yield from cloud.check_known("service-account", request.service_account_id, "service_account_id", folder)
    yield from _check_references(request, folder, cloud)


def check_subcluster(subcluster: Any, zone_id: str, path: str, cloud: Cloud) -> Iterator[Violation]:
    """A CreateSubclusterConfigSpec or CreateSubclusterRequest; `path` is "" for the latter."""
    dot = f"{path}." if path else ""
    yield from check_resources(subcluster.resources, f"{dot}resources")
    yield from cloud.check_known("subnet", subcluster.subnet_id, f"{dot}subnet_id")
    record = cloud.store.get("subnet", subcluster.subnet_id)
    if record is not None and record.message(subnet_pb2.Subnet).zone_id != zone_id:
        zone = record.message(subnet_pb2.Subnet).zone_id
        yield Violation(f"{dot}subnet_id", f"is in zone {zone}; the cluster is in {zone_id}")
    if subcluster.HasField("autoscaling_config"):
        if subcluster.role != subcluster_pb2.COMPUTENODE:
            yield Violation(f"{dot}autoscaling_config", "only a COMPUTENODE subcluster scales by itself")
        if subcluster.autoscaling_config.max_hosts_count < subcluster.hosts_count:
            yield Violation(f"{dot}autoscaling_config.max_hosts_count", "is below hosts_count")


def check_resources(resources: common_pb2.Resources, path: str) -> Iterator[Violation]:
    if resources.resource_preset_id and not _PRESET.fullmatch(resources.resource_preset_id):
        yield Violation(f"{path}.resource_preset_id", f"unknown preset {resources.resource_preset_id!r}")
    if resources.disk_type_id and resources.disk_type_id not in _DISKS:
        yield Violation(f"{path}.disk_type_id", f"unknown type; expected one of {', '.join(_DISKS)}")
    if resources.disk_size % GIB:
        yield Violation(f"{path}.disk_size", "is in bytes and must be whole GiB")


def check_job(request: job_service_pb2.CreateJobRequest, cluster: cluster_pb2.Cluster | None) -> Iterator[Violation]:
    """Every reason to refuse a new job, except the cluster's state. Without a cluster, services are not checked."""
    kind = request.WhichOneof("job_spec")
    if kind is None:
        yield Violation("job_spec", "exactly one of mapreduce_job, spark_job, pyspark_job, hive_job is required")
        return
    needed = {"mapreduce_job": _Service.MAPREDUCE, "hive_job": _Service.HIVE}.get(kind, _Service.SPARK)
    if cluster is not None and needed not in cluster_services(cluster.config.hadoop):
        yield Violation(kind, f"the cluster has no service {_Service.Service.Name(needed)}")
    yield from _check_uris(getattr(request, kind), kind)


def is_operator_name(violation: Violation, request: Any, cloud: Cloud) -> bool:
    """Whether the violation is an operator's default name, which the real API accepts."""
    return (
        cloud.settings.rules.operator_job_names
        and isinstance(request, job_service_pb2.CreateJobRequest)
        and violation.field == "name"
        and request.name in OPERATOR_JOB_NAMES
    )


def resources_or_default(resources: common_pb2.Resources) -> common_pb2.Resources:
    filled = common_pb2.Resources()
    filled.CopyFrom(DEFAULT_RESOURCES)
    filled.MergeFrom(resources)
    return filled


def _check_references(
    request: cluster_service_pb2.CreateClusterRequest | cluster_service_pb2.UpdateClusterRequest,
    folder: str,
    cloud: Cloud,
) -> Iterator[Violation]:
    if request.autoscaling_service_account_id:
        account = request.autoscaling_service_account_id
        yield from cloud.check_known("service-account", account, "autoscaling_service_account_id", folder)
    for index, group in enumerate(request.security_group_ids):
        yield from cloud.check_known("security-group", group, f"security_group_ids[{index}]", folder)
    if request.bucket and cloud.settings.rules.known_references and not cloud.has_bucket(request.bucket):
        yield Violation("bucket", f"bucket {request.bucket!r} does not exist; make the folder {cloud.buckets}/BUCKET")


def _check_version(version: str) -> Iterator[Violation]:
    if version and not any(version == image or version.startswith(f"{image}.") for image in IMAGES):
        yield Violation("config_spec.version_id", f"unknown image {version!r}; expected one of {', '.join(IMAGES)}")


def _check_hadoop(hadoop: cluster_pb2.HadoopConfig, path: str) -> Iterator[Violation]:
    services = cluster_services(hadoop)
    if _Service.SERVICE_UNSPECIFIED in services:
        yield Violation(f"{path}.services", "SERVICE_UNSPECIFIED is no service")
    if len(set(hadoop.services)) < len(hadoop.services):
        yield Violation(f"{path}.services", "a service is named twice")
    for service, needs in _NEEDS.items():
        missing = [_Service.Service.Name(need) for need in needs if service in services and need not in services]
        if missing:
            name = _Service.Service.Name(service)
            yield Violation(f"{path}.services", f"{name} needs {', '.join(missing)}")
    if not hadoop.ssh_public_keys and not hadoop.oslogin_enabled:
        yield Violation(f"{path}.ssh_public_keys", "is required where oslogin_enabled is false")
    for index, key in enumerate(hadoop.ssh_public_keys):
        if not is_ssh_public_key(key):
            yield Violation(f"{path}.ssh_public_keys[{index}]", "is not an OpenSSH public key")
    for key in hadoop.properties:
        if not _PROPERTY.fullmatch(key):
            yield Violation(f"{path}.properties[{key}]", "must be SERVICE:PROPERTY, such as spark:spark.sql.adaptive")
    for index, action in enumerate(hadoop.initialization_actions):
        at = f"{path}.initialization_actions[{index}]"
        if not _URI.fullmatch(action.uri):
            yield Violation(f"{at}.uri", "is not the URI of a file")
        if action.timeout < 0:
            yield Violation(f"{at}.timeout", "is negative")


def _check_roles(subclusters: Iterable[Any], services: set[int]) -> Iterator[Violation]:
    path = "config_spec.subclusters_spec"
    roles = [subcluster.role for subcluster in subclusters]
    names = [subcluster.name for subcluster in subclusters if subcluster.name]
    if roles.count(subcluster_pb2.MASTERNODE) != 1:
        yield Violation(path, "exactly one MASTERNODE subcluster is required")
    if len(set(names)) < len(names):
        yield Violation(path, "two subclusters have the same name")
    if any(spec.role == subcluster_pb2.MASTERNODE and spec.hosts_count != 1 for spec in subclusters):
        yield Violation(path, "a MASTERNODE subcluster has one host")
    data, compute = subcluster_pb2.DATANODE in roles, subcluster_pb2.COMPUTENODE in roles
    if _Service.HDFS in services and not data:
        yield Violation(path, "HDFS needs a DATANODE subcluster; a lightweight cluster has no HDFS among its services")
    if _Service.HDFS not in services and data:
        yield Violation(path, "a cluster without HDFS (lightweight) has no DATANODE subcluster")
    if _Service.HDFS not in services and not compute:
        yield Violation(path, "a cluster without HDFS (lightweight) needs a COMPUTENODE subcluster")


def _check_uris(spec: Any, path: str) -> Iterator[Violation]:
    for descriptor, value in spec.ListFields():
        name = descriptor.name
        if name.endswith("_uri") and not _URI.fullmatch(value):
            yield Violation(f"{path}.{name}", "is not the URI of a file")
        if name.endswith("_uris"):
            for index, uri in enumerate(value):
                if not _URI.fullmatch(uri):
                    yield Violation(f"{path}.{name}[{index}]", "is not the URI of a file")
    if isinstance(spec, job_pb2.MapreduceJob) and spec.WhichOneof("driver") is None:
        yield Violation(f"{path}.driver", "main_jar_file_uri or main_class is required")
    if isinstance(spec, job_pb2.HiveJob) and spec.WhichOneof("query_type") is None:
        yield Violation(f"{path}.query_type", "query_file_uri or query_list is required")
