"""What Managed PostgreSQL does beyond keeping its fields: hosts, and users with their connections and passwords."""

from collections.abc import Mapping
from typing import Any

from yandex.cloud.connectionmanager.v1.connection_pb2 import Connection
from yandex.cloud.mdb.postgresql.v1 import cluster_pb2, cluster_service_pb2
from yandex.cloud.operation.operation_pb2 import Operation

from emulator.carry import carry, update
from emulator.cloud import Cloud
from emulator.errors import failed_precondition
from emulator.gateway import Method
from emulator.iam import Caller
from emulator.ids import new_id
from emulator.kinds import Kind
from emulator.lockbox import Lockbox, new_password
from emulator.paging import page_of_messages
from emulator.resources import Behaviour, Resources

_CONNECTION = "a59"
_HOST = "postgresql-host"
PASSWORD_ENTRY = "postgresql_password"  # noqa: S105  # the name of an entry
Host = cluster_pb2.Host


class Clusters(Behaviour):
    """ClusterService: the first host is the master."""

    def __init__(self, cloud: Cloud, resources: Resources, kind: Kind) -> None:
        self._cloud = cloud
        self._resources = resources
        self._kind = kind

    def methods(self) -> Mapping[str, Method]:
        return {
            "ListHosts": self._list_hosts,
            "AddHosts": self._add_hosts,
            "UpdateHosts": self._update_hosts,
            "DeleteHosts": self._delete_hosts,
        }

    def created(self, request: Any, resource: Any) -> None:
        resource.config.performance_diagnostics.SetInParent()
        for spec in request.host_specs:
            self._add_host(resource.id, spec)

    def deleted(self, resource: Any) -> None:
        for host in self._cloud.store.find(_HOST, owner=resource.id):
            self._cloud.store.delete(_HOST, host.id)

    def _list_hosts(
        self, request: cluster_service_pb2.ListClusterHostsRequest, _caller: Caller
    ) -> cluster_service_pb2.ListClusterHostsResponse:
        self._cloud.store.require(self._kind.name, request.cluster_id)
        hosts, token = page_of_messages(self._cloud.store.find(_HOST, owner=request.cluster_id), request, Host)
        return cluster_service_pb2.ListClusterHostsResponse(hosts=hosts, next_page_token=token)

    def _add_hosts(self, request: Any, caller: Caller) -> Operation:
        self._cloud.store.require(self._kind.name, request.cluster_id)
        for spec in request.host_specs:
            self._add_host(request.cluster_id, spec)
        return self._changed("AddHosts", request, caller)

    def _update_hosts(self, request: Any, caller: Caller) -> Operation:
        for spec in request.update_host_specs:
            record = self._cloud.store.require(_HOST, spec.host_name, owner=request.cluster_id)
            host = record.message(Host)
            update(spec, host, spec.update_mask.paths)
            self._cloud.store.save(record, host)
        return self._changed("UpdateHosts", request, caller)

    def _delete_hosts(self, request: Any, caller: Caller) -> Operation:
        hosts = [self._cloud.store.require(_HOST, name, owner=request.cluster_id) for name in request.host_names]
        if any(host.message(Host).role == Host.MASTER for host in hosts):
            raise failed_precondition("The master cannot be deleted: fail over to another host first")
        for host in hosts:
            self._cloud.store.delete(_HOST, host.id)
        return self._changed("DeleteHosts", request, caller)

    def _changed(self, method: str, request: Any, caller: Caller) -> Operation:
        operation = self._resources.operation(self._kind, method, request, caller, request.cluster_id)
        return self._cloud.operations.succeed(operation.id, self._kind.types(method)[1]())

    def _add_host(self, cluster_id: str, spec: cluster_service_pb2.HostSpec) -> None:
        is_first = not self._cloud.store.find(_HOST, owner=cluster_id)
        host = Host(cluster_id=cluster_id, role=Host.MASTER if is_first else Host.REPLICA, health=Host.ALIVE)
        carry(spec, host)
        host.name = f"{spec.zone_id.replace('ru-central1-', 'rc1')}-{new_id('')}.mdb.yandexcloud.net"
        self._cloud.store.put(_HOST, host.name, host, owner=cluster_id, name=host.name)


class Users(Behaviour):
    """UserService: Connection Manager keeps a user's password in a secret, and generates it if asked to."""

    def __init__(self, cloud: Cloud, lockbox: Lockbox) -> None:
        self._cloud = cloud
        self._lockbox = lockbox

    def created(self, request: Any, resource: Any) -> None:
        spec = request.user_spec
        folder = self._cloud.store.require("postgresql-cluster", request.cluster_id).owner
        wanted = spec.user_connection_manager
        password = new_password(24, "") if spec.generate_password.value else spec.password
        connection = Connection(
            id=new_id(_CONNECTION), folder_id=wanted.connection_folder_id or folder, name=f"user-{spec.name}"
        )
        secret = self._lockbox.keep(
            wanted.secret_folder_id or folder, f"connection-{connection.id}", {PASSWORD_ENTRY: password}
        )
        connection.lockbox_secret.id = secret.id
        connection.lockbox_secret.version = secret.current_version.id
        connection.lockbox_secret.newest_version = secret.current_version.id
        connection.is_managed = True
        connection.params.postgresql.managed_cluster_id = request.cluster_id
        connection.created_at.GetCurrentTime()
        self._cloud.store.put("connection", connection.id, connection, owner=connection.folder_id, name=connection.name)
        resource.connection_manager.connection_id = connection.id
        resource.user_connection_manager.connection_id = connection.id

    def deleted(self, resource: Any) -> None:
        connection = self._cloud.store.require("connection", resource.connection_manager.connection_id)
        self._lockbox.drop(connection.message(Connection).lockbox_secret.id)
        self._cloud.store.delete("connection", connection.id)
