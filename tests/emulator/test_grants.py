"""Grants: every call is allowed or denied by access bindings, and the log says by which."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from fakes.emulated_cloud import BUCKET, Api, code, emulated
from yandex.cloud.access import access_pb2
from yandex.cloud.dataproc.v1 import cluster_service_pb2 as dataproc
from yandex.cloud.iam.v1.service_account_service_pb2_grpc import ServiceAccountServiceStub
from yandex.cloud.lockbox.v1.payload_service_pb2 import GetPayloadRequest
from yandex.cloud.lockbox.v1.secret_service_pb2_grpc import SecretServiceStub
from yandex.cloud.resourcemanager.v1.folder_service_pb2_grpc import FolderServiceStub

from emulator.roles import LOOKED_UP, ROLES, allows

ACCOUNTS = {"admin": None, "airflow": None, "dataproc": None}
AIRFLOW_ROLES = ("dataproc.editor", "vpc.user")


@pytest.fixture(scope="module")
def administered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A cloud whose one account with roles is `admin`; the client is that account."""
    names = {"buckets": [BUCKET], "service_accounts": ACCOUNTS}
    grants = [{"account": "admin", "role": "admin"}]
    with emulated(tmp_path_factory.mktemp("cloud") / "state", names=names, grants=grants) as api:
        yield Api(api.emulator, api.account_key("admin"))


@pytest.fixture
def cloud(administered: Api) -> Api:
    """The same, after a test before it: no cluster, and no role but the administrator's."""
    clusters = administered.clusters.List(dataproc.ListClustersRequest(folder_id=administered.folder_id)).clusters
    for cluster in clusters:
        administered.delete_cluster(cluster.id)
    account = administered.cloud["service_accounts"]["dataproc"]["id"]
    admin = access_pb2.Subject(id=administered.cloud["service_accounts"]["admin"]["id"], type="serviceAccount")
    kept: dict[Any, Any] = {
        FolderServiceStub: (administered.folder_id, [access_pb2.AccessBinding(role_id="admin", subject=admin)]),
        ServiceAccountServiceStub: (account, []),
    }
    for stub, (resource, bindings) in kept.items():
        request = access_pb2.SetAccessBindingsRequest(resource_id=resource, access_bindings=bindings)
        administered.done(administered.sdk.client(stub).SetAccessBindings(request))
    return administered


def change(api: Api, stub: Any, resource: str, role: str, account: str, action: str) -> None:
    """Add or remove one binding, as Terraform does."""
    subject = access_pb2.Subject(id=api.cloud["service_accounts"][account]["id"], type="serviceAccount")
    delta = access_pb2.AccessBindingDelta(
        action=access_pb2.AccessBindingAction.Value(action),
        access_binding=access_pb2.AccessBinding(role_id=role, subject=subject),
    )
    request = access_pb2.UpdateAccessBindingsRequest(resource_id=resource, access_binding_deltas=[delta])
    api.done(api.sdk.client(stub).UpdateAccessBindings(request))


def on_the_folder(api: Api, role: str, account: str, action: str = "ADD") -> None:
    change(api, FolderServiceStub, api.folder_id, role, account, action)


def use_of_the_account(api: Api, action: str = "ADD") -> None:
    account = api.cloud["service_accounts"]["dataproc"]["id"]
    change(api, ServiceAccountServiceStub, account, "iam.serviceAccounts.user", "airflow", action)


def grant_all(api: Api) -> Api:
    """What infra/ grants for a cluster; returns Airflow's client."""
    for role in AIRFLOW_ROLES:
        on_the_folder(api, role, "airflow")
    on_the_folder(api, "dataproc.agent", "dataproc")
    use_of_the_account(api)
    return Api(api.emulator, api.account_key("airflow"))


def refusal(call: Any) -> str:
    """The message of a call that is denied."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert code(error) is grpc.StatusCode.PERMISSION_DENIED, error.value
    return str(error.value.details())


def test_an_account_without_a_role_is_denied_and_told_what_it_lacks(cloud: Api) -> None:
    """Fails when a missing grant is only noticed in the cloud, or the message does not name the permission."""
    airflow = Api(cloud.emulator, cloud.account_key("airflow"))
    message = refusal(airflow.names)
    assert "dataproc.clusters.list" in message
    assert cloud.folder_id in message


def test_the_grants_of_infra_make_a_cluster_and_the_log_says_which_was_used(cloud: Api) -> None:
    """Fails when what Terraform grants is not sufficient, or nobody can tell what a grant is for."""
    airflow = grant_all(cloud)
    cluster = airflow.create_cluster()
    assert airflow.names() == [cluster.name]
    *_, event = cloud.emulator.events("call", method="Create", service="yandex.cloud.dataproc.v1.ClusterService")
    used = {allowed["permission"]: [grant["role"] for grant in allowed["grants"]] for allowed in event["allowed"]}
    assert used == {
        "dataproc.clusters.create": ["dataproc.editor"],
        "iam.serviceAccounts.use": ["iam.serviceAccounts.user"],
        "vpc.subnets.use": ["vpc.user"],
        "dataproc.agents.report": ["dataproc.agent"],
    }


@pytest.mark.parametrize(
    ("role", "account", "permission"),
    [
        ("dataproc.editor", "airflow", "dataproc.clusters.create"),
        ("vpc.user", "airflow", "vpc.subnets.use"),
        ("dataproc.agent", "dataproc", "dataproc.agents.report"),
        ("iam.serviceAccounts.user", "airflow", "iam.serviceAccounts.use"),
    ],
)
def test_each_grant_is_needed(cloud: Api, role: str, account: str, permission: str) -> None:
    """Fails when a run would work without one of the grants, so that it can be removed."""
    airflow = grant_all(cloud)
    if role == "iam.serviceAccounts.user":
        use_of_the_account(cloud, "REMOVE")
    else:
        on_the_folder(cloud, role, account, "REMOVE")
    assert permission in refusal(lambda: airflow.clusters.Create(airflow.cluster_request()))
    assert cloud.names() == []


def test_a_cluster_with_a_log_group_asks_whether_its_logs_may_be_written(cloud: Api) -> None:
    """Fails when a cluster with a log group starts here, and its logs are lost in the cloud."""
    airflow = grant_all(cloud)
    airflow.done(airflow.clusters.Create(airflow.cluster_request(log_group_id="e23group0")))
    *_, event = cloud.emulator.events("call", method="Create", service="yandex.cloud.dataproc.v1.ClusterService")
    used = {allowed["permission"]: [grant["role"] for grant in allowed["grants"]] for allowed in event["allowed"]}
    assert used["logging.records.write"] == ["dataproc.agent"]


def test_a_payload_needs_the_role_on_its_secret(cloud: Api) -> None:
    """Fails when an account can read a secret that is another's."""
    own, other = (cloud.emulator.put_secret(name, {"password": "x"}) for name in ("own", "other"))
    change(cloud, SecretServiceStub, own, "lockbox.payloadViewer", "dataproc", "ADD")
    dataproc_account = Api(cloud.emulator, cloud.account_key("dataproc"))
    assert dataproc_account.payloads.Get(GetPayloadRequest(secret_id=own)).entries
    message = refusal(lambda: dataproc_account.payloads.Get(GetPayloadRequest(secret_id=other)))
    assert "lockbox.payloads.get" in message


def test_bindings_are_listed_and_unknown_roles_refused(cloud: Api) -> None:
    """Fails when a binding that Terraform made is not there at its next plan, or a role of unknown meaning is kept."""
    on_the_folder(cloud, "vpc.user", "airflow")
    request = access_pb2.ListAccessBindingsRequest(resource_id=cloud.folder_id)
    listed = cloud.sdk.client(FolderServiceStub).ListAccessBindings(request).access_bindings
    assert {binding.role_id for binding in listed} == {"admin", "vpc.user"}
    with pytest.raises(grpc.RpcError) as error:
        on_the_folder(cloud, "compute.osLogin", "airflow")
    assert code(error) is grpc.StatusCode.UNIMPLEMENTED


def test_what_does_not_exist_is_not_found_rather_than_denied(cloud: Api) -> None:
    """Fails when a wrong id looks like a missing grant."""
    airflow = Api(cloud.emulator, cloud.account_key("airflow"))
    with pytest.raises(grpc.RpcError) as error:
        airflow.clusters.Get(dataproc.GetClusterRequest(cluster_id="c9qnosuchcluster"))
    assert code(error) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_a_source(role: str) -> None:
    """Fails when a role's permissions are somebody's guess."""
    assert ROLES[role].source.startswith("https://github.com/yandex-cloud/docs/")
    assert LOOKED_UP


@pytest.mark.parametrize(
    ("role", "permission", "expected"),
    [
        ("storage.viewer", "storage.objects.get", True),
        ("storage.viewer", "storage.objects.put", False),
        ("storage.uploader", "storage.objects.put", True),
        ("storage.uploader", "storage.objects.delete", False),
        ("storage.editor", "storage.objects.delete", True),
        ("kms.keys.decrypter", "kms.keys.encrypt", False),
        ("kms.keys.encrypterDecrypter", "kms.keys.decrypt", True),
        ("managed-airflow.integrationProvider", "lockbox.payloads.get", False),
        ("managed-airflow.integrationProvider", "storage.objects.get", True),
        ("dataproc.provisioner", "iam.serviceAccounts.use", True),
    ],
)
def test_a_role_allows_what_its_description_says(role: str, permission: str, expected: bool) -> None:
    """Fails when a grant of infra/ allows more here than in the cloud, or less."""
    assert allows(role, permission) is expected
