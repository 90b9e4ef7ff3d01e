"""A request with a single invalid field is refused, and the response names that field."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from fakes.emulated_cloud import GIB, Api, emulated, violated_fields
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given
from hypothesis import settings as checked
from hypothesis import strategies as st
from yandex.cloud import validation_pb2
from yandex.cloud.dataproc.v1 import (
    cluster_pb2,
    cluster_service_pb2,
    common_pb2,
    job_pb2,
    job_service_pb2,
    subcluster_pb2,
    subcluster_service_pb2,
)
from yandex.cloud.lockbox.v1 import payload_service_pb2, secret_service_pb2

from emulator.validation import in_range, violations

Create = cluster_service_pb2.CreateClusterRequest
quick = checked(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with emulated(tmp_path_factory.mktemp("cloud") / "state", rules={"operator_job_names": False}) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(api: Api) -> cluster_pb2.Cluster:
    return api.create_cluster("for-jobs")


def whole(request: Create) -> Any:
    return request


def spec(request: Create) -> Any:
    return request.config_spec


def hadoop(request: Create) -> Any:
    return request.config_spec.hadoop


def master(request: Create) -> Any:
    return request.config_spec.subclusters_spec[0]


def compute(request: Create) -> Any:
    return request.config_spec.subclusters_spec[1]


def disk(request: Create) -> Any:
    return compute(request).resources


def scaling(request: Create) -> Any:
    return compute(request).autoscaling_config


def put(**values: object) -> Callable[[Any], object]:
    """A change that sets fields, or clears those given as None."""

    def change(message: Any) -> None:
        for name, value in values.items():
            message.ClearField(name)
            if value is not None:
                message.MergeFrom(type(message)(**{name: value}))

    return change


SERVICES = cluster_pb2.HadoopConfig
COMPUTE = "config_spec.subclusters_spec[1]"
TOO_SHORT = Duration(seconds=59)
# The field that the refusal must name, where a sound request is changed, and how.
BROKEN: list[tuple[str, Callable[[Create], Any], Callable[[Any], object]]] = [
    ("folder_id", whole, put(folder_id=None)),
    ("folder_id", whole, put(folder_id="b" * 51)),
    ("folder_id", whole, put(folder_id="b1gother")),
    ("name", whole, put(name=None)),
    ("name", whole, put(name="scheduled__2026-01-01T00:00")),
    ("name", whole, put(name="a" * 64)),
    ("name", whole, put(name="ends-with-")),
    ("description", whole, put(description="d" * 257)),
    ("key of labels[Run]", whole, put(labels={"Run": "1"})),
    ("labels[run]", whole, put(labels={"run": "scheduled__2026-01-01T00:00:00+00:00"})),
    ("labels[run]", whole, put(labels={"run": "a" * 64})),
    ("labels", whole, put(labels={f"l{number}": "" for number in range(65)})),
    ("config_spec", whole, put(config_spec=None)),
    ("zone_id", whole, put(zone_id=None)),
    ("zone_id", whole, put(zone_id="ru-central1-c")),
    ("service_account_id", whole, put(service_account_id=None)),
    ("service_account_id", whole, put(service_account_id="ajeother")),
    ("security_group_ids[0]", whole, put(security_group_ids=["enpother"])),
    ("bucket", whole, put(bucket="no-such-bucket")),
    ("environment", whole, put(environment=7)),
    ("config_spec.version_id", spec, put(version_id="9.9")),
    ("config_spec.hadoop.services", hadoop, put(services=[SERVICES.YARN, SERVICES.LIVY])),
    ("config_spec.hadoop.services", hadoop, put(services=[SERVICES.YARN, SERVICES.YARN])),
    ("config_spec.hadoop.services[1]", hadoop, put(services=[SERVICES.YARN, 99])),
    ("config_spec.hadoop.ssh_public_keys", hadoop, put(ssh_public_keys=None)),
    ("config_spec.hadoop.ssh_public_keys[0]", hadoop, put(ssh_public_keys=["ssh-rsa AAAA"])),
    ("config_spec.hadoop.properties[spark.x]", hadoop, put(properties={"spark.x": "1"})),
    ("config_spec.hadoop.initialization_actions[0].uri", hadoop, put(initialization_actions=[{"uri": "halt.sh"}])),
    ("config_spec.subclusters_spec", hadoop, put(services=[SERVICES.HDFS, SERVICES.YARN, SERVICES.SPARK])),
    ("config_spec.subclusters_spec", spec, lambda message: message.subclusters_spec.pop(0)),
    ("config_spec.subclusters_spec", spec, lambda message: message.subclusters_spec.pop(1)),
    ("config_spec.subclusters_spec", compute, put(role=subcluster_pb2.DATANODE)),
    ("config_spec.subclusters_spec", compute, put(name="master")),
    ("config_spec.subclusters_spec[0].name", master, put(name="Master")),
    ("config_spec.subclusters_spec[0].role", master, put(role=None)),
    (f"{COMPUTE}.hosts_count", compute, put(hosts_count=0)),
    (f"{COMPUTE}.subnet_id", compute, put(subnet_id=None)),
    (f"{COMPUTE}.subnet_id", compute, put(subnet_id="e9bother")),
    (f"{COMPUTE}.resources", compute, put(resources=None)),
    (f"{COMPUTE}.resources.resource_preset_id", disk, put(resource_preset_id="big")),
    (f"{COMPUTE}.resources.disk_type_id", disk, put(disk_type_id="ssd")),
    (f"{COMPUTE}.resources.disk_size", disk, put(disk_size=32)),
    (f"{COMPUTE}.resources.disk_size", disk, put(disk_size=-GIB)),
    (f"{COMPUTE}.autoscaling_config.measurement_duration", scaling, put(max_hosts_count=2)),
    (f"{COMPUTE}.autoscaling_config.measurement_duration", scaling, put(measurement_duration=TOO_SHORT)),
    (f"{COMPUTE}.autoscaling_config.max_hosts_count", scaling, put(max_hosts_count=101)),
]


@pytest.mark.parametrize(
    ("field", "where", "change"), BROKEN, ids=[f"{number}-{case[0]}" for number, case in enumerate(BROKEN)]
)
def test_a_broken_field_of_a_cluster_is_refused_by_name(
    api: Api, field: str, where: Callable[[Create], Any], change: Callable[[Any], object]
) -> None:
    """Fails when a request that the cloud refuses is accepted, or the error does not name the field."""
    request = api.cluster_request("broken")
    change(where(request))
    with pytest.raises(grpc.RpcError) as error:
        api.clusters.Create(request)
    assert field in violated_fields(error)
    assert field in str(error.value)
    assert "broken" not in api.names()


@quick
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=70))
def test_a_cluster_is_named_as_documented_or_not_made(api: Api, name: str) -> None:
    """Fails when a name that the cloud refuses, such as one made from a run id, is accepted."""
    request = api.cluster_request()
    request.name = name
    allowed = 3 <= len(name) <= 63 and name[0] in "abcdefghijklmnopqrstuvwxyz" and not name.endswith("-")
    allowed = allowed and all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in name)
    broken = [violation.field for violation in violations(request)]
    assert broken == ([] if allowed else ["name"] * len(broken))
    assert bool(broken) is not allowed


@quick
@given(
    args=st.integers(0, 2502),
    longest=st.sampled_from([1, 100_000, 100_001]),
    uris=st.sampled_from([0, 100, 101]),
    value=st.sampled_from([0, 10_000, 10_001]),
    key=st.sampled_from(["spark.x", "1spark", "spark x", "s" * 129]),
)
def test_a_job_keeps_every_documented_limit_or_its_broken_fields_are_named(
    args: int, longest: int, uris: int, value: int, key: str
) -> None:
    """Fails when a job too large for the API is noticed only in the cloud."""
    job = job_pb2.PysparkJob(
        main_python_file_uri="s3a://demo/main.py",
        args=["a"] * args + ["a" * longest],
        python_file_uris=["s3a://demo/a.py"] * uris,
        properties={key: "v" * value},
    )
    request = job_service_pb2.CreateJobRequest(cluster_id="c9q", name="job", pyspark_job=job)
    expected = set()
    if args + 1 > 2500:
        expected.add("pyspark_job.args")
    if longest > 100_000:
        expected.add(f"pyspark_job.args[{args}]")
    if uris > 100:
        expected.add("pyspark_job.python_file_uris")
    if value > 10_000:
        expected.add(f"pyspark_job.properties[{key}]")
    if key != "spark.x":
        expected.add(f"key of pyspark_job.properties[{key}]")
    assert {violation.field for violation in violations(request)} == expected


def job_spec(request: job_service_pb2.CreateJobRequest) -> Any:
    return request.pyspark_job


BROKEN_JOBS: list[tuple[str, Callable[[Any], Any], Callable[[Any], object]]] = [
    ("name", lambda request: request, put(name="Pyspark job")),
    ("name", lambda request: request, put(name="train_1")),
    ("cluster_id", lambda request: request, put(cluster_id=None)),
    ("job_spec", lambda request: request, put(pyspark_job=None)),
    ("hive_job", lambda request: request, put(hive_job=job_pb2.HiveJob(query_file_uri="s3a://demo/query.sql"))),
    ("pyspark_job.main_python_file_uri", job_spec, put(main_python_file_uri=None)),
    ("pyspark_job.main_python_file_uri", job_spec, put(main_python_file_uri="src/main.py")),
    ("pyspark_job.archive_uris[0]", job_spec, put(archive_uris=["venv.tar.gz#venv"])),
]


@pytest.mark.parametrize(
    ("field", "where", "change"), BROKEN_JOBS, ids=[f"{number}-{case[0]}" for number, case in enumerate(BROKEN_JOBS)]
)
def test_a_broken_field_of_a_job_is_refused_by_name(
    api: Api, cluster: cluster_pb2.Cluster, field: str, where: Callable[[Any], Any], change: Callable[[Any], object]
) -> None:
    """Fails when a job that the cloud refuses is accepted, or the error does not name the field."""
    request = api.job_request(cluster.id)
    change(where(request))
    with pytest.raises(grpc.RpcError) as error:
        api.jobs.Create(request)
    assert field in violated_fields(error)


def test_all_broken_fields_of_a_cluster_are_in_one_answer(api: Api) -> None:
    """Fails when a cluster's invalid fields are reported one per request."""
    request = api.cluster_request("Broken_", bucket="no-such-bucket", zone_id="ru-central1-x", labels={"Run": "1"})
    request.config_spec.version_id = "9.9"
    request.config_spec.hadoop.properties["spark.x"] = "1"
    request.config_spec.subclusters_spec[1].hosts_count = 0
    request.config_spec.subclusters_spec[1].resources.disk_size = 32
    with pytest.raises(grpc.RpcError) as error:
        api.clusters.Create(request)
    assert set(violated_fields(error)) == {
        "name",  # these by the API's own description
        "key of labels[Run]",
        f"{COMPUTE}.hosts_count",
        "bucket",  # and these by the rules on top of it
        "zone_id",
        "config_spec.version_id",
        "config_spec.hadoop.properties[spark.x]",
        f"{COMPUTE}.resources.disk_size",
        "config_spec.subclusters_spec[0].subnet_id",  # of another zone than the cluster's
        f"{COMPUTE}.subnet_id",
    }


def test_all_broken_fields_of_a_job_are_in_one_answer(api: Api, cluster: cluster_pb2.Cluster) -> None:
    """Fails when a job's invalid fields are reported one per request."""
    request = api.job_request(
        cluster.id, "Train_1", main_python_file_uri="main.py", archive_uris=["a.zip"], properties={"1": ""}
    )
    with pytest.raises(grpc.RpcError) as error:
        api.jobs.Create(request)
    spec = "pyspark_job"
    expected = ["name", f"key of {spec}.properties[1]", f"{spec}.main_python_file_uri", f"{spec}.archive_uris[0]"]
    assert sorted(violated_fields(error)) == sorted(expected)


def test_all_broken_fields_of_other_requests_are_in_one_answer(api: Api, cluster: cluster_pb2.Cluster) -> None:
    """Fails when invalid fields of an update, a subcluster, a secret or a list are reported one per request."""
    change = cluster_service_pb2.UpdateClusterRequest(
        cluster_id=cluster.id, description="d" * 257, service_account_id="ajeother", bucket="no-such-bucket"
    )
    with pytest.raises(grpc.RpcError) as error:
        api.clusters.Update(change)
    assert sorted(violated_fields(error)) == ["bucket", "description", "service_account_id"]
    subcluster = subcluster_service_pb2.CreateSubclusterRequest(
        cluster_id=cluster.id,
        name="UPPER",
        role=subcluster_pb2.COMPUTENODE,
        resources=common_pb2.Resources(resource_preset_id="s2.small", disk_size=1),
        subnet_id="e9bother",
        hosts_count=1,
    )
    with pytest.raises(grpc.RpcError) as error:
        api.subclusters.Create(subcluster)
    assert sorted(violated_fields(error)) == ["name", "resources.disk_size", "subnet_id"]
    entry = secret_service_pb2.PayloadEntryChange(key="twice", text_value="1")
    secret = secret_service_pb2.CreateSecretRequest(
        folder_id="b1gother", name="n" * 101, version_payload_entries=[entry, entry, entry]
    )
    with pytest.raises(grpc.RpcError) as error:
        api.secrets.Create(secret)
    entries = [f"version_payload_entries[{index}].key" for index in (1, 2)]
    assert sorted(violated_fields(error)) == ["folder_id", "name", *entries]
    listing = cluster_service_pb2.ListClustersRequest(
        folder_id=api.folder_id,
        page_size=1001,
        page_token="none",  # noqa: S106  # of a page
        filter="labels.run=1",
    )
    with pytest.raises(grpc.RpcError) as error:
        api.clusters.List(listing)
    assert sorted(violated_fields(error)) == ["filter", "page_size", "page_token"]


SERVICES_OF_THE_API = (
    cluster_service_pb2,
    job_service_pb2,
    subcluster_service_pb2,
    secret_service_pb2,
    payload_service_pb2,
)


def breakable() -> list[Any]:
    """Each documented rule of each field of each request: the message, the field, and a value that breaks the rule."""
    found = []
    for module in SERVICES_OF_THE_API:
        for name, descriptor in module.DESCRIPTOR.message_types_by_name.items():
            if not name.endswith("Request"):
                continue
            for field in descriptor.fields:
                options = field.GetOptions().Extensions
                singular_text = field.cpp_type == field.CPPTYPE_STRING and not field.is_repeated
                if options[validation_pb2.required]:
                    found.append(pytest.param(module, name, field.name, None, id=f"{name}.{field.name}-required"))
                if singular_text and (most := re.fullmatch(r"<=?(\d+)", options[validation_pb2.length])):
                    wrong = "a" * (int(most[1]) + 1)
                    found.append(pytest.param(module, name, field.name, wrong, id=f"{name}.{field.name}-length"))
                if singular_text and options[validation_pb2.pattern]:
                    found.append(pytest.param(module, name, field.name, "É!", id=f"{name}.{field.name}-pattern"))
                if most := re.fullmatch(r"(?:<=|0-)(\d+)", options[validation_pb2.value]):
                    too_much = int(most[1]) + 1
                    found.append(pytest.param(module, name, field.name, too_much, id=f"{name}.{field.name}-value"))
    return found


@pytest.mark.parametrize(("module", "name", "field", "wrong"), breakable())
def test_every_documented_rule_is_held(module: Any, name: str, field: str, wrong: Any) -> None:
    """Fails when a limit that the API documents for a field is not enforced."""
    request = getattr(module, name)(**({} if wrong is None else {field: wrong}))
    said = {violation.field: violation.description for violation in violations(request)}
    assert field in said
    assert (said[field] == "is required") is (wrong is None)


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        ("<=50", (0, 50), (51,)),
        ("<256", (255,), (256,)),
        (">=1", (1, 9), (0, -1)),
        (">0", (1,), (0,)),
        ("1-63", (1, 63), (0, 64)),
        ("0-86400", (0, 86_400), (-1, 86_401)),
        ("1m-10m", (60, 600), (59.9, 601)),
        ("<=10m", (600,), (601,)),
        ("8,16,32", (8, 32), (9,)),
        ("5", (5,), (4,)),
    ],
)
def test_rules_of_the_api_description_are_read_right(
    rule: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    """Fails when a documented limit is enforced with other bounds than documented."""
    assert all(in_range(rule, number) for number in inside)
    assert not any(in_range(rule, number) for number in outside)


def test_a_rule_that_cannot_be_read_is_an_error() -> None:
    """Fails when a new kind of rule in a newer SDK is skipped in silence."""
    with pytest.raises(ValueError, match="could not convert"):
        in_range("about five", 5)
