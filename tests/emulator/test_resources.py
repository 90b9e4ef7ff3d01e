"""The generic part of the emulator: any kind of resource, as the API's descriptions have it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fakes.emulated_cloud import Api, code, emulated, violated_fields
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.wrappers_pb2 import BoolValue, Int64Value
from yandex.cloud.compute.v1 import instance_service_pb2 as instances
from yandex.cloud.compute.v1.image_service_pb2 import GetImageLatestByFamilyRequest
from yandex.cloud.compute.v1.image_service_pb2_grpc import ImageServiceStub
from yandex.cloud.compute.v1.instance_pb2 import IPV4, Instance
from yandex.cloud.compute.v1.instance_service_pb2_grpc import InstanceServiceStub
from yandex.cloud.kms.v1 import symmetric_key_service_pb2 as keys
from yandex.cloud.kms.v1.symmetric_key_pb2 import SymmetricAlgorithm, SymmetricKey
from yandex.cloud.kms.v1.symmetric_key_service_pb2_grpc import SymmetricKeyServiceStub
from yandex.cloud.lockbox.v1 import secret_pb2
from yandex.cloud.lockbox.v1 import secret_service_pb2 as secrets
from yandex.cloud.lockbox.v1.payload_service_pb2 import GetPayloadRequest
from yandex.cloud.mdb.postgresql.v1 import cluster_pb2 as postgresql
from yandex.cloud.mdb.postgresql.v1 import cluster_service_pb2 as clusters
from yandex.cloud.mdb.postgresql.v1 import user_pb2
from yandex.cloud.mdb.postgresql.v1 import user_service_pb2 as users
from yandex.cloud.mdb.postgresql.v1.cluster_service_pb2_grpc import ClusterServiceStub
from yandex.cloud.mdb.postgresql.v1.user_service_pb2_grpc import UserServiceStub
from yandex.cloud.storage.v1 import bucket_service_pb2 as buckets
from yandex.cloud.storage.v1.bucket_service_pb2_grpc import BucketServiceStub
from yandex.cloud.vpc.v1 import network_service_pb2 as networks
from yandex.cloud.vpc.v1 import security_group_service_pb2 as groups
from yandex.cloud.vpc.v1 import subnet_service_pb2 as subnets
from yandex.cloud.vpc.v1.network_pb2 import Network
from yandex.cloud.vpc.v1.network_service_pb2_grpc import NetworkServiceStub
from yandex.cloud.vpc.v1.security_group_pb2 import CidrBlocks, SecurityGroup, SecurityGroupRule
from yandex.cloud.vpc.v1.security_group_service_pb2_grpc import SecurityGroupServiceStub
from yandex.cloud.vpc.v1.subnet_pb2 import Subnet
from yandex.cloud.vpc.v1.subnet_service_pb2_grpc import SubnetServiceStub


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with emulated(tmp_path_factory.mktemp("cloud") / "state") as found:
        yield found


def made(operation: Any, type_: Any) -> Any:
    """The response of an operation that is done."""
    assert operation.done, operation
    message = type_()
    assert operation.response.Unpack(message), operation.error.message
    return message


def new_network(api: Api, name: str, **fields: Any) -> Any:
    request = networks.CreateNetworkRequest(folder_id=api.folder_id, name=name, **fields)
    return made(api.sdk.client(NetworkServiceStub).Create(request), Network)


def new_key(api: Api, name: str, **fields: Any) -> Any:
    request = keys.CreateSymmetricKeyRequest(
        folder_id=api.folder_id, name=name, default_algorithm=SymmetricAlgorithm.AES_256, **fields
    )
    return made(api.sdk.client(SymmetricKeyServiceStub).Create(request), SymmetricKey)


def new_subnet(api: Api, network_id: str, name: str) -> Any:
    request = subnets.CreateSubnetRequest(
        folder_id=api.folder_id,
        name=name,
        network_id=network_id,
        zone_id="ru-central1-b",
        v4_cidr_blocks=["10.9.0.0/24"],
    )
    return made(api.sdk.client(SubnetServiceStub).Create(request), Subnet)


def test_what_was_created_can_be_read_changed_and_deleted(api: Api) -> None:
    """Fails when Terraform cannot manage a resource that the emulator only keeps."""
    client = api.sdk.client(NetworkServiceStub)
    network = new_network(api, "life", description="one", labels={"a": "1"})
    assert client.Get(networks.GetNetworkRequest(network_id=network.id)) == network
    listed = client.List(networks.ListNetworksRequest(folder_id=api.folder_id, filter='name="life"'))
    assert list(listed.networks) == [network]
    change = networks.UpdateNetworkRequest(
        network_id=network.id, update_mask=FieldMask(paths=["labels"]), labels={"b": "2"}
    )
    changed = made(client.Update(change), Network)
    assert (changed.description, dict(changed.labels)) == ("one", {"b": "2"})
    operation = client.Delete(networks.DeleteNetworkRequest(network_id=network.id))
    assert made(operation, Empty) == Empty()
    metadata = networks.DeleteNetworkMetadata()
    assert operation.metadata.Unpack(metadata)
    assert metadata.network_id == network.id
    with pytest.raises(grpc.RpcError) as error:
        client.Get(networks.GetNetworkRequest(network_id=network.id))
    assert code(error) is grpc.StatusCode.NOT_FOUND


def test_an_operation_answers_with_the_type_that_its_method_names(api: Api) -> None:
    """Fails when the SDK refuses the reply to a deletion, because it has another type than the description says."""
    client = api.sdk.client(SymmetricKeyServiceStub)
    key = new_key(api, "types")
    assert key.primary_version.primary
    assert made(client.Delete(keys.DeleteSymmetricKeyRequest(key_id=key.id)), SymmetricKey).id == key.id


def test_a_method_that_is_not_emulated_says_so(api: Api) -> None:
    """Fails when a call that the emulator does not know seems to succeed."""
    network = new_network(api, "moved")
    request = networks.MoveNetworkRequest(network_id=network.id, destination_folder_id=api.folder_id)
    with pytest.raises(grpc.RpcError) as error:
        api.sdk.client(NetworkServiceStub).Move(request)
    assert code(error) is grpc.StatusCode.UNIMPLEMENTED


def test_requests_are_held_to_the_descriptions_and_to_what_exists(api: Api) -> None:
    """Fails when a wrong label, a missing field or an unknown network is only noticed in the cloud."""
    client = api.sdk.client(SubnetServiceStub)
    wrong = keys.CreateSymmetricKeyRequest(folder_id=api.folder_id, name="bad", labels={"Upper": "x"})
    with pytest.raises(grpc.RpcError) as error:
        api.sdk.client(SymmetricKeyServiceStub).Create(wrong)
    assert set(violated_fields(error)) == {"default_algorithm", "key of labels[Upper]"}
    with pytest.raises(grpc.RpcError) as error:
        client.Create(subnets.CreateSubnetRequest(name="nowhere"))
    assert violated_fields(error) == ["folder_id"]
    request = subnets.CreateSubnetRequest(
        folder_id=api.folder_id, network_id="enp0nothing", zone_id="ru-central1-b", v4_cidr_blocks=["10.9.0.0/24"]
    )
    with pytest.raises(grpc.RpcError) as error:
        client.Create(request)
    assert violated_fields(error) == ["network_id"]


def test_names_are_taken_and_protected_or_used_resources_stay(api: Api) -> None:
    """Fails when a destroy that the cloud would refuse in the middle passes the rehearsal."""
    network = new_network(api, "used")
    new_subnet(api, network.id, "used")
    client = api.sdk.client(NetworkServiceStub)
    with pytest.raises(grpc.RpcError) as error:
        new_network(api, "used")
    assert code(error) is grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.RpcError) as error:
        client.Delete(networks.DeleteNetworkRequest(network_id=network.id))
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION
    key = new_key(api, "kept", deletion_protection=True)
    with pytest.raises(grpc.RpcError) as error:
        api.sdk.client(SymmetricKeyServiceStub).Delete(keys.DeleteSymmetricKeyRequest(key_id=key.id))
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION


def test_operations_can_last_and_survive_a_restart(tmp_path: Path) -> None:
    """Fails when a client that does not wait for an operation passes, or a restart loses what was begun."""
    timing = {"resource": 1.0}
    with emulated(tmp_path / "state", timing=timing) as api:
        client = api.sdk.client(NetworkServiceStub)
        operation = client.Create(networks.CreateNetworkRequest(folder_id=api.folder_id, name="slow"))
        assert not operation.done
        metadata = networks.CreateNetworkMetadata()
        assert operation.metadata.Unpack(metadata)
        change = networks.UpdateNetworkRequest(network_id=metadata.network_id, description="too early")
        with pytest.raises(grpc.RpcError) as error:
            client.Update(change)
        assert code(error) is grpc.StatusCode.FAILED_PRECONDITION
    with emulated(tmp_path / "state", timing=timing) as api:
        done = api.done(operation)
        assert made(done, Network).id == metadata.network_id
        api.done(api.sdk.client(NetworkServiceStub).Update(change))


def test_a_repeated_call_with_its_key_makes_one_resource(api: Api) -> None:
    """Fails when a retry after a lost reply makes a second network."""
    client = api.sdk.client(NetworkServiceStub)
    request = networks.CreateNetworkRequest(folder_id=api.folder_id, name="once")
    both = [client.Create(request, metadata=(("idempotency-key", "k-1"),)) for _ in range(2)]
    assert both[0].id == both[1].id


def test_a_network_has_a_group_and_rules_have_ids(api: Api) -> None:
    """Fails when the default group cannot be closed, or a changed rule cannot be named."""
    network = new_network(api, "grouped")
    client = api.sdk.client(SecurityGroupServiceStub)
    default = client.Get(groups.GetSecurityGroupRequest(security_group_id=network.default_security_group_id))
    assert default.default_for_network
    spec = groups.SecurityGroupRuleSpec(
        direction=SecurityGroupRule.EGRESS, protocol_name="TCP", cidr_blocks=CidrBlocks(v4_cidr_blocks=["0.0.0.0/0"])
    )
    request = groups.CreateSecurityGroupRequest(folder_id=api.folder_id, network_id=network.id, rule_specs=[spec])
    group = made(client.Create(request), SecurityGroup)
    assert group.rules[0].id
    change = groups.UpdateSecurityGroupRulesRequest(
        security_group_id=group.id, deletion_rule_ids=[group.rules[0].id], addition_rule_specs=[spec, spec]
    )
    changed = made(client.UpdateRules(change), SecurityGroup)
    assert len({rule.id for rule in changed.rules} - {group.rules[0].id}) == 2


def test_a_machine_has_a_disk_addresses_and_a_name(api: Api) -> None:
    """Fails when Terraform crashes on a machine, or its metadata are shown to whoever does not ask for them."""
    image = api.sdk.client(ImageServiceStub).GetLatestByFamily(
        GetImageLatestByFamilyRequest(folder_id="standard-images", family="ubuntu-2404-lts")
    )
    disk = instances.AttachedDiskSpec.DiskSpec(image_id=image.id, size=20 << 30)
    interface = instances.NetworkInterfaceSpec(subnet_id=api.cloud["subnets"]["ru-central1-b"])
    interface.primary_v4_address_spec.one_to_one_nat_spec.ip_version = IPV4
    request = instances.CreateInstanceRequest(
        folder_id=api.folder_id,
        zone_id="ru-central1-b",
        platform_id="standard-v3",
        hostname="mlflow",
        resources_spec=instances.ResourcesSpec(cores=2, memory=4 << 30),
        metadata={"user-data": "x"},
        boot_disk_spec=instances.AttachedDiskSpec(auto_delete=True, disk_spec=disk),
        network_interface_specs=[interface],
    )
    client = api.sdk.client(InstanceServiceStub)
    machine = made(client.Create(request), Instance)
    assert machine.fqdn == "mlflow.ru-central1.internal"
    address = machine.network_interfaces[0].primary_v4_address
    assert address.address.startswith("10.")
    assert address.one_to_one_nat.address.startswith("203.0.113.")
    assert not client.Get(instances.GetInstanceRequest(instance_id=machine.id)).metadata
    full = client.Get(instances.GetInstanceRequest(instance_id=machine.id, view=instances.FULL))
    assert dict(full.metadata) == {"user-data": "x"}


def test_a_user_of_postgresql_has_a_connection_and_a_generated_password(api: Api) -> None:
    """Fails when MLflow finds no password in the secret of Connection Manager, or the secret outlives the user."""
    network = new_network(api, "database")
    host = clusters.HostSpec(zone_id="ru-central1-b", subnet_id=new_subnet(api, network.id, "database").id)
    spec = clusters.ConfigSpec(version="16")
    request = clusters.CreateClusterRequest(
        folder_id=api.folder_id,
        name="database",
        environment=postgresql.Cluster.PRODUCTION,
        network_id=network.id,
        config_spec=spec,
        host_specs=[host, host],
    )
    cluster = made(api.sdk.client(ClusterServiceStub).Create(request), postgresql.Cluster)
    hosts = api.sdk.client(ClusterServiceStub).ListHosts(clusters.ListClusterHostsRequest(cluster_id=cluster.id)).hosts
    assert [host.role for host in hosts] == [postgresql.Host.MASTER, postgresql.Host.REPLICA]
    client = api.sdk.client(UserServiceStub)
    wanted = user_pb2.UserSpec(name="mlflow", generate_password=BoolValue(value=True), conn_limit=Int64Value(value=60))
    user = made(client.Create(users.CreateUserRequest(cluster_id=cluster.id, user_spec=wanted)), user_pb2.User)
    assert (user.cluster_id, user.conn_limit) == (cluster.id, 60)
    listed = api.secrets.List(secrets.ListSecretsRequest(folder_id=api.folder_id)).secrets
    [secret] = [one for one in listed if one.name == f"connection-{user.connection_manager.connection_id}"]
    payload = api.payloads.Get(GetPayloadRequest(secret_id=secret.id))
    assert [(entry.key, len(entry.text_value)) for entry in payload.entries] == [("postgresql_password", 24)]
    api.done(client.Delete(users.DeleteUserRequest(cluster_id=cluster.id, user_name="mlflow")))
    with pytest.raises(grpc.RpcError) as error:
        api.payloads.Get(GetPayloadRequest(secret_id=secret.id))
    assert code(error) is grpc.StatusCode.NOT_FOUND


def test_a_secret_without_a_version_gets_its_password_with_the_first(api: Api) -> None:
    """Fails when MLflow's machine starts here with a password that the cloud would not have generated."""
    specification = secret_pb2.PasswordPayloadSpecification(
        password_key="word",  # noqa: S106  # the name of an entry
        length=40,
        include_punctuation=BoolValue(value=False),
    )
    request = secrets.CreateSecretRequest(
        folder_id=api.folder_id,
        name="later",
        password_payload_specification=specification,
        create_version=BoolValue(value=False),
    )
    secret = made(api.secrets.Create(request), secret_pb2.Secret)
    with pytest.raises(grpc.RpcError) as error:
        api.payloads.Get(GetPayloadRequest(secret_id=secret.id))
    assert code(error) is grpc.StatusCode.NOT_FOUND
    version = made(api.secrets.AddVersion(secrets.AddVersionRequest(secret_id=secret.id)), secret_pb2.Version)
    [entry] = api.payloads.Get(GetPayloadRequest(secret_id=secret.id)).entries
    assert (entry.key, len(entry.text_value), entry.text_value.isalnum()) == ("word", 40, True)
    destruction = secrets.ScheduleVersionDestructionRequest(secret_id=secret.id, version_id=version.id)
    ended = made(api.secrets.ScheduleVersionDestruction(destruction), secret_pb2.Version)
    assert ended.status == secret_pb2.Version.SCHEDULED_FOR_DESTRUCTION
    with pytest.raises(grpc.RpcError) as error:
        api.payloads.Get(GetPayloadRequest(secret_id=secret.id))
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION


def test_a_bucket_is_a_folder_and_is_deleted_when_empty(api: Api) -> None:
    """Fails when a bucket that Terraform made cannot be used by a job, or one with objects is deleted."""
    client = api.sdk.client(BucketServiceStub)
    operation = client.Create(buckets.CreateBucketRequest(name="acme-new", folder_id=api.folder_id))
    assert operation.done
    folder = Path(api.cloud["buckets"]) / "acme-new"
    (folder / "object").write_text("x")
    with pytest.raises(grpc.RpcError) as error:
        client.Delete(buckets.DeleteBucketRequest(name="acme-new"))
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION
    (folder / "object").unlink()
    api.done(client.Delete(buckets.DeleteBucketRequest(name="acme-new")))
    assert not folder.exists()
