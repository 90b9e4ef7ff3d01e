"""Calls to the emulator itself: health, faults, lists of clusters and jobs. JSON over the same TLS gRPC port."""

import hmac
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from pydantic import ValidationError
from yandex.cloud.dataproc.v1.cluster_pb2 import Cluster
from yandex.cloud.dataproc.v1.cluster_service_pb2 import CreateClusterRequest
from yandex.cloud.dataproc.v1.job_pb2 import Job

from emulator.catalogue import PARENTS
from emulator.cloud import Cloud
from emulator.errors import ApiError
from emulator.faults import FaultSpec
from emulator.iam import Iam
from emulator.lockbox import Lockbox
from emulator.metadata import MetadataServers

SERVICE = "emulator.Control"
_PARTS = ("access-binding", "secret-version", "postgresql-host")  # what resources consist of


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


def from_json(content: bytes) -> Any:
    return json.loads(content)


class Control:
    """Control methods; each takes and returns a JSON object, and requires the state folder's control token."""

    def __init__(self, cloud: Cloud, iam: Iam, lockbox: Lockbox, machines: MetadataServers, token: str) -> None:
        self._cloud = cloud
        self._iam = iam
        self._machines = machines
        self._lockbox = lockbox
        self._token = token

    def handler(self) -> grpc.GenericRpcHandler:
        methods: dict[str, Callable[[dict[str, Any]], object]] = {
            "Health": self.health,
            "AddFault": self.add_fault,
            "ListFaults": self.list_faults,
            "ClearFaults": self.clear_faults,
            "Clusters": self.clusters,
            "ClusterRequests": self.cluster_requests,
            "Jobs": self.jobs,
            "PutSecret": self.put_secret,
            "Resources": self.resources,
            "Grants": self.grants,
            "Token": self.token,
            "Metadata": self.metadata,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(function), request_deserializer=from_json, response_serializer=to_json
            )
            for name, function in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def health(self, _request: dict[str, Any]) -> object:
        return {"status": "ok"}

    def add_fault(self, request: dict[str, Any]) -> object:
        return {"id": self._cloud.faults.add(FaultSpec.model_validate(request))}

    def list_faults(self, _request: dict[str, Any]) -> object:
        return self._cloud.faults.armed()

    def clear_faults(self, _request: dict[str, Any]) -> object:
        return {"cleared": self._cloud.faults.clear()}

    def clusters(self, _request: dict[str, Any]) -> object:
        return [MessageToDict(record.message(Cluster)) for record in self._cloud.store.find("cluster")]

    def cluster_requests(self, _request: dict[str, Any]) -> object:
        records = self._cloud.store.find("cluster-request")
        return [{**MessageToDict(record.message(CreateClusterRequest)), "clusterId": record.id} for record in records]

    def jobs(self, _request: dict[str, Any]) -> object:
        return [
            {**MessageToDict(record.message(Job)), "exitCode": record.data.get("exit_code")}
            for record in self._cloud.store.find("job")
        ]

    def put_secret(self, request: dict[str, Any]) -> object:
        return {"id": self._lockbox.put(str(request["name"]), dict(request["values"]))}

    def resources(self, _request: dict[str, Any]) -> object:
        """The ids of everything that calls have made, by kind."""
        store = self._cloud.store
        found = {kind: [record.id for record in store.find(kind)] for kind in (*PARENTS, *_PARTS)}
        # A job is gone with its cluster; only its record is kept (retention).
        found["job"] = [record.id for record in store.find("job") if store.get("cluster", record.owner)]
        return {kind: ids for kind, ids in found.items() if ids}

    def grants(self, _request: dict[str, Any]) -> object:
        return [asdict(grant) for grant in self._cloud.access.grants()]

    def token(self, request: dict[str, Any]) -> object:
        """An IAM token of an account, as a machine with that account gets one."""
        account = self._cloud.store.require("service-account", str(request["account"]))
        return {"token": self._iam.issue(account.id, "control")[0]}

    def metadata(self, request: dict[str, Any]) -> object:
        """The metadata endpoint of a machine with an account."""
        account = self._cloud.store.require("service-account", str(request["account"]))
        return {"address": self._machines.address(account.id)}

    def _guarded(self, function: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any], Any], object]:
        def behave(request: dict[str, Any], context: Any) -> object:
            sent = dict(context.invocation_metadata()).get("authorization", "")
            if not hmac.compare_digest(sent, f"Bearer {self._token}"):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "the control token is missing or wrong")
            try:
                return function(request)
            except ApiError as error:
                context.abort(error.code, error.message)
                raise  # not reached: abort raises
            except ValidationError as error:
                text = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
                raise  # not reached: abort raises

        return behave
