"""Which calls need which grant of infra/: each grant is really removed, and every call is made again.

    python -m benchmarks.grants --check --output benchmarks/results/grants.md

The real Terraform applies infra/ in the emulated cloud. Then the accounts make the calls of the system: Airflow's
for a run, the job's, those of MLflow's machine, of an upload, and of the services themselves. A grant is needed if some
call is denied without it. A grant that no call needs must be justified in KEPT, and in docs/security.md.
"""

import argparse
import http.client
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from yandex.cloud.access import access_pb2
from yandex.cloud.airflow.v1 import cluster_service_pb2 as airflow_pb2
from yandex.cloud.airflow.v1 import cluster_service_pb2_grpc as airflow_grpc
from yandex.cloud.dataproc.v1 import cluster_pb2, cluster_service_pb2, common_pb2, subcluster_pb2
from yandex.cloud.dataproc.v1 import cluster_service_pb2_grpc as dataproc_grpc
from yandex.cloud.iam.v1 import service_account_service_pb2_grpc as accounts_grpc
from yandex.cloud.kms.v1 import symmetric_key_service_pb2, symmetric_key_service_pb2_grpc
from yandex.cloud.lockbox.v1 import (
    payload_service_pb2,
    payload_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
)
from yandex.cloud.operation import operation_pb2
from yandex.cloud.resourcemanager.v1 import folder_service_pb2_grpc
from yandex.cloud.storage.v1 import bucket_service_pb2, bucket_service_pb2_grpc

from emulator.carry import carry
from emulator.client import wait_for
from rehearsal.cloud import TERRAFORM_ACCOUNT, RehearsalError, RehearsedCloud, rehearsed_cloud
from rehearsal.grants import uses
from rehearsal.terraform import terraform_in

PASSWORD = "Not-a-Real-1-Password"  # noqa: S105  # of an Airflow that does not run
VARIABLES = {"bucket_prefix": "grants", "airflow_admin_password": PASSWORD, "deletion_protection": False}
PROJECT = "fraud-detection-"
OWN_SECRETS = ("mlflow-admin", "mlflow-job", "mlflow-session", "mlflow-s3", "of Connection Manager")
KEPT = {
    ("airflow", "storage.viewer", "bucket code"): "Managed Airflow's page on creating a cluster asks for READ on it",
    ("airflow", "storage.viewer", "bucket output"): "the DAG's own need, whatever the service's role includes",
    ("dataproc", "dataproc.provisioner", "the folder"): "Yandex's pages on clusters ask for it",
    ("deployer", "iam.serviceAccounts.ephemeralAccessKeyAdmin", "account deployer"): (
        "uploads from GitHub; their endpoint, which exchanges tokens, is not emulated"
    ),
}
"""Grants that no call needs here, and why they are kept; docs/security.md has the sources."""

AT_ONCE = {"create_cluster": 0.0, "delete_cluster": 0.0}
_FORBIDDEN = 403
_OK = (200, 204)
_NO_PROXY = (("grpc.enable_http_proxy", 0),)  # the emulator is on this machine
_GIB = 1024**3

Key = tuple[str, str, str]
"""Account, role, on what, in the words of docs/security.md."""


@dataclass(frozen=True)
class Grant:
    """One access binding, with the stub that can change it."""

    key: Key
    subject: str
    on: str
    stub: Any


@dataclass(frozen=True)
class Call:
    """What one account does. `denied` makes the call, and says whether it was refused for want of a grant."""

    what: str
    denied: Callable[[], bool]


class Api:
    """The emulated cloud's API, as any of its accounts."""

    def __init__(self, cloud: RehearsedCloud, channel: grpc.Channel) -> None:
        self._cloud = cloud
        self._channel = channel
        self._tokens: dict[str, str] = {}

    def call(self, account: str, stub: Any, method: str, request: Any) -> Any:
        metadata = (("authorization", f"Bearer {self._token(account)}"),)
        return getattr(stub(self._channel), method)(request, metadata=metadata)

    def denied(self, account: str, stub: Any, method: str, request: Any) -> bool:
        """Make a call; anything but success or a denial is an error."""
        try:
            self.call(account, stub, method, request)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                return True
            raise
        return False

    def s3_denied(self, account: str, method: str, target: str) -> bool:
        """Likewise a request to Object Storage."""
        connection = http.client.HTTPConnection(urlsplit(self._cloud.emulator.cloud["storage"]).netloc, timeout=120)
        try:
            body = b"x" if method == "PUT" else b""
            connection.request(method, target, body, {"X-YaCloud-SubjectToken": self._token(account)})
            status = connection.getresponse().status
        finally:
            connection.close()
        if status not in (*_OK, _FORBIDDEN):
            raise RehearsalError(f"{method} {target} answered {status}; expected: {_OK} or {_FORBIDDEN}")
        return status == _FORBIDDEN

    def _token(self, account: str) -> str:
        if account not in self._tokens:
            self._tokens[account] = self._cloud.emulator.token(account)
        return self._tokens[account]


class Installation:
    """An applied infra/, and the calls of its accounts."""

    def __init__(self, cloud: RehearsedCloud, outputs: Mapping[str, Any], api: Api) -> None:
        self.cloud = cloud
        self.api = api
        self.ids: dict[str, str] = outputs["service_account_ids"]
        self._buckets: dict[str, str] = outputs["bucket_names"]
        self._settings: dict[str, Any] = outputs["variables"]["fraud_detection"]
        self._airflow_id: str = outputs["airflow_id"]
        self.admin: str = cloud.emulator.cloud["service_accounts"][TERRAFORM_ACCOUNT]["id"]
        self._folder: str = cloud.emulator.cloud["folder_id"]
        self._secrets = self._named(
            secret_service_pb2_grpc.SecretServiceStub,
            secret_service_pb2.ListSecretsRequest(folder_id=self._folder),
            "secrets",
        )
        self._made = 0

    def grants(self) -> list[Grant]:
        """What Terraform granted, in the order of the accounts."""
        places = dict(self._places())
        names = {id_: name for name, id_ in self.ids.items()}
        found = [
            Grant((names[grant["subject"]], grant["role"], places[grant["on"]][0]), grant["subject"], grant["on"], stub)
            for grant in self.cloud.emulator.grants()
            if grant["subject"] in names
            for stub in (places[grant["on"]][1],)
        ]
        return sorted(found, key=lambda grant: grant.key)

    def uses(self) -> dict[tuple[str, str, str], bool]:
        """By subject, role and resource: whether by the event log some call needed the grant."""
        emulator = self.cloud.emulator
        return {(use.subject, use.role, use.on): use.is_needed for use in uses(emulator.grants(), emulator.events())}

    def calls(self) -> list[Call]:
        """Everything that the accounts do."""
        return [
            Call("airflow: creates and deletes a cluster", self._cluster_denied),
            Call("Managed Airflow: makes its own cluster", self._airflow_denied),
            *self._objects("airflow", "code", "GET"),
            *self._objects("airflow", "output", "GET"),
            self._payload("airflow", "mlflow-job"),
            *self._objects("dataproc", "code", "GET"),
            *self._objects("dataproc", "input", "GET"),
            *self._objects("dataproc", "output", "PUT", "GET"),
            *self._objects("dataproc", "work", "PUT", "GET", "DELETE"),
            self._payload("dataproc", "mlflow-job"),
            *self._objects("mlflow", "mlflow", "PUT", "GET", "DELETE"),
            *(self._payload("mlflow", name) for name in OWN_SECRETS),
            *self._objects("deployer", "code", "PUT", "GET", "DELETE"),
            *self._objects("deployer", "input", "PUT", "GET", "DELETE"),
            *self._objects("deployer", "output", "GET"),
        ]

    @contextmanager
    def without(self, grant: Grant) -> Iterator[None]:
        """The cloud while a grant is really removed."""
        self._change(grant, access_pb2.REMOVE)
        try:
            yield
        finally:
            self._change(grant, access_pb2.ADD)

    def fill(self) -> None:
        """Put an object where each account reads one."""
        for purpose in ("code", "input", "output", "work", "mlflow"):
            if self.api.s3_denied(self.admin, "PUT", self._object(purpose)):
                raise RehearsalError(f"the administrator may not write into bucket {purpose}; expected: role admin")

    def _change(self, grant: Grant, action: Any) -> None:
        binding = access_pb2.AccessBinding(
            role_id=grant.key[1], subject=access_pb2.Subject(id=grant.subject, type="serviceAccount")
        )
        delta = access_pb2.AccessBindingDelta(action=action, access_binding=binding)
        request = access_pb2.UpdateAccessBindingsRequest(resource_id=grant.on, access_binding_deltas=[delta])
        operation: operation_pb2.Operation = self.api.call(self.admin, grant.stub, "UpdateAccessBindings", request)
        if not operation.done:
            raise RehearsalError(f"the change of a grant on {grant.key[2]} is not done; expected: timing.resource 0")

    def _places(self) -> Iterator[tuple[str, tuple[str, Any]]]:
        """By the id that grants are on: what it is called, and the service that changes them."""
        yield self._folder, ("the folder", folder_service_pb2_grpc.FolderServiceStub)
        for name, id_ in self.ids.items():
            yield id_, (f"account {name}", accounts_grpc.ServiceAccountServiceStub)
        for name, id_ in self._secrets.items():
            yield id_, (f"secret {name}", secret_service_pb2_grpc.SecretServiceStub)
        keys = symmetric_key_service_pb2_grpc.SymmetricKeyServiceStub
        listed = symmetric_key_service_pb2.ListSymmetricKeysRequest(folder_id=self._folder)
        for name, id_ in self._named(keys, listed, "keys").items():
            yield id_, (f"key {name}", keys)
        buckets = bucket_service_pb2_grpc.BucketServiceStub
        for purpose, name in self._buckets.items():
            found = self.api.call(self.admin, buckets, "Get", bucket_service_pb2.GetBucketRequest(name=name))
            yield found.resource_id, (f"bucket {purpose}", buckets)

    def _named(self, stub: Any, request: Any, field: str) -> dict[str, str]:
        """Ids by name; Connection Manager names its secret itself."""
        found = getattr(self.api.call(self.admin, stub, "List", request), field)
        return {
            one.name.removeprefix(PROJECT) if one.name.startswith(PROJECT) else "of Connection Manager": one.id
            for one in found
        }

    def _object(self, purpose: str) -> str:
        return f"/{self._buckets[purpose]}/a-file"

    def _objects(self, account: str, purpose: str, *methods: str) -> Iterator[Call]:
        for method in methods:
            target = self._object(purpose) + ("-of-its-own" if "DELETE" in methods else "")
            yield Call(
                f"{account}: {method} in bucket {purpose}",
                lambda method=method, target=target: self.api.s3_denied(self.ids[account], method, target),  # type: ignore[misc]
            )

    def _payload(self, account: str, secret: str) -> Call:
        request = payload_service_pb2.GetPayloadRequest(secret_id=self._secrets[secret])
        stub = payload_service_pb2_grpc.PayloadServiceStub
        return Call(
            f"{account}: reads secret {secret}", lambda: self.api.denied(self.ids[account], stub, "Get", request)
        )

    def _cluster_denied(self) -> bool:
        """Airflow creates a cluster for a run, which works as the account dataproc, and deletes it."""
        stub, airflow = dataproc_grpc.ClusterServiceStub, self.ids["airflow"]
        try:
            operation = self.api.call(airflow, stub, "Create", self._cluster_request())
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                return True
            raise
        metadata = cluster_service_pb2.CreateClusterMetadata()
        operation.metadata.Unpack(metadata)
        emulator = self.cloud.emulator
        wanted = {"id": metadata.cluster_id, "status": "RUNNING"}
        if not wait_for(lambda: any(wanted.items() <= cluster.items() for cluster in emulator.clusters()), 60):
            raise RehearsalError(f"cluster {metadata.cluster_id} is not RUNNING; found: {emulator.clusters()}")
        request = cluster_service_pb2.DeleteClusterRequest(cluster_id=metadata.cluster_id)
        return self.api.denied(airflow, stub, "Delete", request)

    def _cluster_request(self) -> cluster_service_pb2.CreateClusterRequest:
        """As the DAG asks for it, with what Terraform made."""
        settings, self._made = self._settings, self._made + 1
        resources = common_pb2.Resources(
            resource_preset_id=settings["master_preset"], disk_type_id="network-ssd", disk_size=32 * _GIB
        )
        roles = {"master": subcluster_pb2.MASTERNODE, "compute": subcluster_pb2.COMPUTENODE}
        subclusters = [
            cluster_service_pb2.CreateSubclusterConfigSpec(
                name=name, role=role, resources=resources, subnet_id=settings["subnet_id"], hosts_count=1
            )
            for name, role in roles.items()
        ]
        hadoop = cluster_pb2.HadoopConfig(
            services=[cluster_pb2.HadoopConfig.YARN, cluster_pb2.HadoopConfig.SPARK],
            ssh_public_keys=[self.cloud.emulator.cloud["ssh_public_key"]],
        )
        return cluster_service_pb2.CreateClusterRequest(
            folder_id=self._folder,
            name=f"run-{self._made}",
            config_spec=cluster_service_pb2.CreateClusterConfigSpec(
                version_id=settings["image_version"], hadoop=hadoop, subclusters_spec=subclusters
            ),
            zone_id=settings["zone"],
            service_account_id=settings["service_account_id"],
            bucket=settings["bucket"],
            security_group_ids=[settings["security_group_id"]],
            log_group_id=settings["log_group_id"],
        )

    def _airflow_denied(self) -> bool:
        """Managed Airflow makes a cluster like Terraform's, which works as the account airflow; it is deleted again."""
        stub, self._made = airflow_grpc.ClusterServiceStub, self._made + 1
        request = airflow_pb2.GetClusterRequest(cluster_id=self._airflow_id)
        wanted = airflow_pb2.CreateClusterRequest()
        carry(self.api.call(self.admin, stub, "Get", request), wanted)
        wanted.name, wanted.admin_password = f"airflow-{self._made}", PASSWORD
        wanted.deletion_protection = False
        try:
            operation = self.api.call(self.admin, stub, "Create", wanted)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                return True
            raise
        metadata = airflow_pb2.CreateClusterMetadata()
        operation.metadata.Unpack(metadata)
        self.api.call(self.admin, stub, "Delete", airflow_pb2.DeleteClusterRequest(cluster_id=metadata.cluster_id))
        return False


def needed(installation: Installation) -> dict[Key, list[str]]:
    """By grant: the calls that are denied without it. With all grants every call must be allowed."""
    installation.fill()
    calls = installation.calls()
    if refused := [call.what for call in calls if call.denied()]:
        raise RehearsalError(f"calls are denied with all grants; found: {', '.join(refused)}; expected: none")
    logged = installation.uses()
    found: dict[Key, list[str]] = {}
    for grant in installation.grants():
        with installation.without(grant):
            found[grant.key] = [call.what for call in calls if call.denied()]
        if bool(found[grant.key]) != logged[grant.subject, grant.key[1], grant.on]:
            raise RehearsalError(
                f"the log of decisions and the removal of {' '.join(grant.key)} disagree; "
                f"found: {found[grant.key] or 'no call'} denied without it; expected: what the log says"
            )
    return found


def table(found: Mapping[Key, Sequence[str]]) -> str:
    """The page: each grant and the calls that fail without it."""
    rows = [
        f"| `{account}` | `{role}` | {on} | {'; '.join(calls) or f'none; kept: {_reason((account, role, on))}'} |"
        for (account, role, on), calls in found.items()
    ]
    count = sum(bool(calls) for calls in found.values())
    return "\n".join(
        [
            "# Grants and the calls that need them",
            "",
            f"Of {len(found)} grants of infra/ {count} are needed: without each of them some call of the system is",
            "denied in the emulated cloud, and by the decisions in its log no other grant allows that call. The others",
            "are kept for the reason given. By `python -m benchmarks.grants` (`make prove`).",
            "",
            "| account | role | on | denied without it |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def unjustified(found: Mapping[Key, Sequence[str]]) -> list[str]:
    """Grants that no call needs and that nobody justified, and reasons for what is needed or not granted."""
    idle = {key for key, calls in found.items() if not calls}
    return [
        *(
            f"no call needs {' '.join(key)}, and KEPT does not say why it is granted"
            for key in sorted(idle - set(KEPT))
        ),
        *(f"KEPT justifies {' '.join(key)}, which is needed or not granted" for key in sorted(set(KEPT) - idle)),
    ]


def _reason(key: Key) -> str:
    return KEPT.get(key, "no reason")


def measure() -> dict[Key, list[str]]:
    """Apply infra/ in a new emulated cloud, and remove its grants one after the other."""
    with (
        tempfile.TemporaryDirectory(prefix="grants-") as name,
        rehearsed_cloud(Path(name), {"timing": AT_ONCE}) as cloud,
    ):
        outputs = terraform_in(Path(name) / "infra", cloud, VARIABLES).apply()
        described = cloud.emulator.cloud
        credentials = grpc.ssl_channel_credentials(Path(described["ca"]).read_bytes())
        with grpc.secure_channel(described["endpoint"], credentials, options=_NO_PROXY) as channel:
            return needed(Installation(cloud, outputs, Api(cloud, channel)))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if a grant is neither needed nor justified")
    parser.add_argument("--output", type=Path, help="write the table here, too")
    options = parser.parse_args(arguments)
    found = measure()
    page = table(found)
    print(page)
    if options.output:
        options.output.write_text(page, encoding="utf-8")
    wrong = unjustified(found) if options.check else []
    for line in wrong:
        print(f"benchmarks.grants: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except RehearsalError as error:
        sys.exit(f"benchmarks.grants: {error}")
