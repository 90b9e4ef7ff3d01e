"""What static access keys do beyond keeping their fields: the secret key, which is shown once."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from yandex.cloud.iam.v1.awscompatibility import access_key_pb2
from yandex.cloud.iam.v1.awscompatibility import access_key_service_pb2 as api

from emulator.cloud import Cloud
from emulator.gateway import Method
from emulator.iam import Caller
from emulator.ids import ACCOUNT, new_id
from emulator.resources import Behaviour

KIND = "access-key"


class AccessKeys(Behaviour):
    """AccessKeyService. Its Create answers at once, without an operation."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def methods(self) -> Mapping[str, Method]:
        return {"Create": self._create}

    def _create(self, request: api.CreateAccessKeyRequest, caller: Caller) -> api.CreateAccessKeyResponse:
        account = request.service_account_id or caller.id
        self._cloud.store.require("service-account", account)
        key, secret = _new_key(self._cloud, account, request.description)
        return api.CreateAccessKeyResponse(access_key=key, secret=secret)


@contextmanager
def temporary_key(cloud: Cloud, account: str) -> Iterator[tuple[str, str]]:
    """Id and secret of a key that is deleted at the exit."""
    key, secret = _new_key(cloud, account, "temporary")
    try:
        yield key.key_id, secret
    finally:
        cloud.store.delete(KIND, key.id)


def _new_key(cloud: Cloud, account: str, description: str) -> tuple[access_key_pb2.AccessKey, str]:
    key = access_key_pb2.AccessKey(
        id=new_id(ACCOUNT),
        service_account_id=account,
        description=description,
        key_id=f"YCA{secrets.token_urlsafe(16)}",
    )
    key.created_at.GetCurrentTime()
    secret = f"YC{secrets.token_urlsafe(28)}"
    cloud.store.put(KIND, key.id, key, owner=account, name=key.key_id, data={"secret": secret})
    return key, secret
