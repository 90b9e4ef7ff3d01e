"""The fields of any request to create a resource are carried over to it, as the API's descriptions name them."""

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.wrappers_pb2 import Int64Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yandex.cloud.mdb.postgresql.v1.cluster_pb2 import Cluster
from yandex.cloud.mdb.postgresql.v1.cluster_service_pb2 import UpdateClusterRequest
from yandex.cloud.mdb.postgresql.v1.user_pb2 import User, UserSpec
from yandex.cloud.mdb.postgresql.v1.user_service_pb2 import UpdateUserRequest

from emulator.carry import carry, update
from emulator.catalogue import KINDS
from emulator.kinds import Kind

NOT_SHOWN = {
    "airflow-cluster": {"adminPassword", "maintenanceWindows"},
    "disk": {"imageId", "snapshotId", "snapshotScheduleIds", "kmsKeyId"},
    "image": {"imageId", "diskId", "snapshotId", "uri"},
    "instance": {"hostname", "diskSpec", "kmsKeyId"},
    "postgresql-cluster": {"databaseSpecs", "userSpecs", "hostSpecs", "retentionPolicies"},
    "postgresql-user": {"password", "generatePassword"},
    "secret": {"versionDescription", "versionPayloadEntries", "createVersion"},
}
"""What a request says and the resource does not show: passwords, and what makes resources of their own."""


def requests(kind: Kind) -> st.SearchStrategy[Message]:
    """Requests to create a resource of a kind, with any of their fields set."""
    return messages(GetMessageClass(kind.service.methods_by_name["Create"].input_type), 4)


def messages(type_: type[Message], depth: int) -> st.SearchStrategy[Message]:
    fields = [field for field in type_.DESCRIPTOR.fields if field.message_type is None or depth]
    chosen = st.lists(st.sampled_from(fields), unique=True, max_size=5) if fields else st.just([])
    return chosen.flatmap(
        lambda some: st.tuples(*(values(field, depth) for field in some)).map(
            lambda found: type_(**{field.name: value for field, value in zip(some, found, strict=True)})
        )
    )


def values(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = single(field.message_type.fields_by_name["value"], depth)
        return st.dictionaries(st.text("abc", min_size=1), value, min_size=1, max_size=2)
    one = single(field, depth)
    return st.lists(one, min_size=1, max_size=2) if field.is_repeated else one


def single(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.Struct":
            return st.just({"a": 1.0})
        return messages(GetMessageClass(field.message_type), depth - 1)
    if field.enum_type is not None:
        return st.sampled_from(sorted(field.enum_type.values_by_number))
    if field.cpp_type == field.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return st.sampled_from([0.5, 2.0])
    if field.type == field.TYPE_BYTES:
        return st.binary(max_size=3)
    return st.text("xyz", min_size=1) if field.cpp_type == field.CPPTYPE_STRING else st.integers(1, 999)


def unshown(asked: Any, shown: Any, path: str = "") -> list[str]:
    """What a request sets and a resource does not show, in their JSON; names may lose `Spec` and `Specs`."""
    if isinstance(asked, Mapping) and isinstance(shown, Mapping):
        shown = shown.get("userConfig", shown)
        found = []
        for name, value in asked.items():
            names = (name, name.removesuffix("Spec"), f"{name.removesuffix('Specs')}s")
            place = next((one for one in names if one in shown), None)
            found += [f"{path}.{name}"] if place is None else unshown(value, shown[place], f"{path}.{name}")
        return found
    if isinstance(asked, list) and isinstance(shown, list) and len(asked) == len(shown):
        return [more for pair in zip(asked, shown, strict=True) for more in unshown(*pair, path)]
    return [] if asked == shown else [path]


@pytest.mark.parametrize("name", KINDS)
def test_what_create_takes_the_resource_shows(name: str) -> None:
    """Fails when Terraform's next plan shows a change, because the emulator lost a field of what was created."""
    kind = KINDS[name]

    @settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None, database=None)
    @given(requests(kind))
    def check(request: Message) -> None:
        resource = kind.message()
        carry(kind.spec(request), resource)
        shown = MessageToDict(resource, always_print_fields_with_no_presence=True)  # a number that is 0, too
        lost = unshown(MessageToDict(kind.spec(request)), shown)
        assert {path.rpartition(".")[2] for path in lost} <= NOT_SHOWN.get(name, set())

    check()


def test_a_mask_replaces_what_it_names_alone() -> None:
    """Fails when a change of one setting of PostgreSQL resets the others, or a removed label stays."""
    cluster = Cluster(name="mlflow", labels={"old": "1"}, deletion_protection=True)
    cluster.config.version = "16"
    cluster.config.backup_retain_period_days.value = 7
    request = UpdateClusterRequest(labels={"new": "2"})
    request.config_spec.backup_retain_period_days.value = 14
    update(request, cluster, ["labels", "deletion_protection", "config_spec.backup_retain_period_days"])
    assert dict(cluster.labels) == {"new": "2"}
    assert not cluster.deletion_protection
    assert (cluster.name, cluster.config.version, cluster.config.backup_retain_period_days.value) == (
        "mlflow",
        "16",
        14,
    )


def test_numbers_and_their_wrappers_stand_for_each_other() -> None:
    """Fails when a limit of connections is shown as 0, so that every plan wants to set it again."""
    user = User()
    carry(UserSpec(name="mlflow", conn_limit=Int64Value(value=60)), user)
    assert user.conn_limit == 60
    changed = UpdateUserRequest(conn_limit=50)
    update(changed, user, ["conn_limit"])
    assert user.conn_limit == 50
