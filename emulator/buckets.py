"""What Object Storage's buckets do beyond keeping their fields: each is a bucket of the S3 server, or a folder."""

from collections.abc import Iterator, Mapping
from typing import Any

from yandex.cloud.storage.v1 import bucket_pb2, bucket_service_pb2

from emulator.access import Need
from emulator.cloud import Cloud
from emulator.errors import failed_precondition
from emulator.gateway import Method
from emulator.iam import Caller
from emulator.ids import new_id
from emulator.resources import Behaviour
from emulator.s3 import S3Server

_RESOURCE = "e3e"


class Buckets(Behaviour):
    """BucketService. Where there is an S3 server, it has the objects and the settings that are made through S3."""

    def __init__(self, cloud: Cloud, server: S3Server | None) -> None:
        self._cloud = cloud
        self._server = server

    def methods(self) -> Mapping[str, Method]:
        return {"GetHTTPSConfig": self._https}

    def needs(self, method: str, request: Any) -> Iterator[Need]:
        """A caller that encrypts a bucket with a key may use that key."""
        if method in ("Create", "Update"):
            for rule in request.encryption.rules:
                yield Need("kms.keys.encrypt", "symmetric-key", rule.kms_master_key_id)

    def created(self, request: Any, resource: Any) -> None:
        resource.id = request.name
        resource.resource_id = new_id(_RESOURCE)
        if self._server is not None:
            self._server.create_bucket(request.name)
            self._set_versioning(resource)
        else:
            (self._cloud.buckets / request.name).mkdir(parents=True)

    def updated(self, request: Any, resource: Any) -> None:  # noqa: ARG002  # what counts is the outcome
        self._set_versioning(resource)

    def refuse_deletion(self, resource: Any) -> None:
        is_empty = (
            not any((self._cloud.buckets / resource.name).iterdir())
            if self._server is None
            else self._server.is_empty(resource.name)
        )
        if not is_empty:
            raise failed_precondition(f"Bucket {resource.name} is not empty")

    def deleted(self, resource: Any) -> None:
        if self._server is not None:
            self._server.delete_bucket(resource.name)
        else:
            (self._cloud.buckets / resource.name).rmdir()

    def _set_versioning(self, bucket: bucket_pb2.Bucket) -> None:
        if self._server is not None and bucket.versioning != bucket_pb2.VERSIONING_UNSPECIFIED:
            is_enabled = bucket.versioning == bucket_pb2.VERSIONING_ENABLED
            self._server.set_versioning(bucket.name, "Enabled" if is_enabled else "Suspended")

    def _https(
        self, request: bucket_service_pb2.GetBucketHTTPSConfigRequest, _caller: Caller
    ) -> bucket_pb2.HTTPSConfig:
        self._cloud.store.require("bucket", request.name)
        return bucket_pb2.HTTPSConfig(name=request.name)


def encryption_key(bucket: bucket_pb2.Bucket) -> str | None:
    """The id of the key that encrypts a bucket."""
    return next((rule.kms_master_key_id for rule in bucket.encryption.rules), None)


def encrypt(bucket: bucket_pb2.Bucket, key_id: str | None) -> None:
    """Set the key that encrypts a bucket; None is no encryption."""
    bucket.ClearField("encryption")
    if key_id is not None:
        bucket.encryption.rules.add(kms_master_key_id=key_id, sse_algorithm="aws:kms")
