"""The cloud's API as one of its accounts."""

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from yandex.cloud.lockbox.v1.payload_service_pb2 import GetPayloadRequest
from yandex.cloud.lockbox.v1.payload_service_pb2_grpc import PayloadServiceStub

from deployment.http import basic
from rehearsal.cloud import TERRAFORM_ACCOUNT, RehearsalError, RehearsedCloud

_NO_PROXY = (("grpc.enable_http_proxy", 0),)  # the emulator is on this machine


@dataclass(frozen=True)
class Account:
    """A service account: it may do what Terraform granted, and no more."""

    cloud: RehearsedCloud
    id: str

    def call(self, stub: Any, method: str, request: Any) -> Any:
        """One call of a service. Raises RehearsalError with the API's own words."""
        described = self.cloud.emulator.cloud
        credentials = grpc.ssl_channel_credentials(Path(described["ca"]).read_bytes())
        metadata = (("authorization", f"Bearer {self.token}"),)
        with grpc.secure_channel(described["endpoint"], credentials, options=_NO_PROXY) as channel:
            try:
                return getattr(stub(channel), method)(request, metadata=metadata)
            except grpc.RpcError as error:
                problem = f"{error.code().name}: {error.details()}"
                raise RehearsalError(f"{stub.__name__}.{method} as {self.id} failed; found: {problem}") from error

    def payload(self, secret_id: str) -> dict[str, str]:
        """The entries of a secret of Lockbox."""
        found = self.call(PayloadServiceStub, "Get", GetPayloadRequest(secret_id=secret_id))
        return {entry.key: entry.text_value for entry in found.entries}

    @property
    def token(self) -> str:
        return self.cloud.emulator.token(self.id)


def administrator(cloud: RehearsedCloud) -> Account:
    """Whoever applies."""
    return Account(cloud, cloud.emulator.cloud["service_accounts"][TERRAFORM_ACCOUNT]["id"])


def http_json(url: str, user: str, password: str) -> Any:
    """The JSON at an address of this machine, as one of a service's users."""
    request = urllib.request.Request(url, headers={"Authorization": basic(user, password)})  # noqa: S310  (http)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)
    except OSError as error:
        raise RehearsalError(f"GET {url} as {user} failed; found: {error}") from error
