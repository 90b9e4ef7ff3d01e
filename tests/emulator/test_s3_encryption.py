"""A bucket that was encrypted through S3, as Terraform's provider does it, needs the key of whoever reads it."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from fakes.emulated_cloud import Api, emulated
from fakes.object_storage import serving
from yandex.cloud.access.access_pb2 import AccessBinding, SetAccessBindingsRequest, Subject
from yandex.cloud.kms.v1.symmetric_key_pb2 import SymmetricAlgorithm, SymmetricKey
from yandex.cloud.kms.v1.symmetric_key_service_pb2 import CreateSymmetricKeyRequest
from yandex.cloud.kms.v1.symmetric_key_service_pb2_grpc import SymmetricKeyServiceStub
from yandex.cloud.storage.v1.bucket_service_pb2 import CreateBucketRequest, GetBucketRequest
from yandex.cloud.storage.v1.bucket_service_pb2_grpc import BucketServiceStub

ENCRYPTION = """<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>
<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{}</KMSMasterKeyID>
</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"""


def status(api: Api, account: str, method: str, target: str, body: str = "") -> int:
    """The answer to a request of an account to Object Storage."""
    token = api.emulator.token(api.cloud["service_accounts"][account]["id"])
    request = urllib.request.Request(  # noqa: S310
        f"{api.cloud['storage']}/{target}",
        body.encode() or None,
        {"X-YaCloud-SubjectToken": token, "Content-Type": "application/xml"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def grant(api: Api, stub: type, resource: str, role: str) -> None:
    """Give the account `dataproc` one role on a resource."""
    subject = Subject(id=api.cloud["service_accounts"]["dataproc"]["id"], type="serviceAccount")
    binding = AccessBinding(role_id=role, subject=subject)
    api.sdk.client(stub).SetAccessBindings(SetAccessBindingsRequest(resource_id=resource, access_bindings=[binding]))


@pytest.mark.parametrize("role", ["kms.keys.decrypter", "kms.keys.encrypterDecrypter"])
def test_an_encrypted_object_needs_the_key(tmp_path: Path, role: str) -> None:
    """Fails when a missing role on a key is only noticed in the cloud, where every read of the bucket is refused."""
    grants = [{"account": "airflow", "role": "admin"}]
    with (
        serving() as server,
        emulated(tmp_path / "state", storage={"s3_endpoint": server.endpoint, "port": 0}, grants=grants) as api,
    ):
        buckets = api.sdk.client(BucketServiceStub)
        buckets.Create(CreateBucketRequest(folder_id=api.folder_id, name="acme"))
        keys = api.sdk.client(SymmetricKeyServiceStub)
        key = SymmetricKey()
        assert api.done(
            keys.Create(
                CreateSymmetricKeyRequest(
                    folder_id=api.folder_id, name="acme", default_algorithm=SymmetricAlgorithm.AES_256
                )
            )
        ).response.Unpack(key)
        assert status(api, "airflow", "PUT", "acme/a-file", "x") == 200
        grant(api, BucketServiceStub, buckets.Get(GetBucketRequest(name="acme")).resource_id, "storage.editor")
        assert status(api, "dataproc", "GET", "acme/a-file") == 200

        assert status(api, "airflow", "PUT", "acme?encryption", ENCRYPTION.format(key.id)) == 200
        (rule,) = buckets.Get(GetBucketRequest(name="acme", view=GetBucketRequest.VIEW_FULL)).encryption.rules
        assert rule.kms_master_key_id == key.id
        assert status(api, "dataproc", "GET", "acme/a-file") == 403
        assert status(api, "dataproc", "PUT", "acme/another", "x") == 403
        grant(api, SymmetricKeyServiceStub, key.id, role)
        assert status(api, "dataproc", "GET", "acme/a-file") == 200
        writes = 200 if role == "kms.keys.encrypterDecrypter" else 403
        assert status(api, "dataproc", "PUT", "acme/another", "x") == writes

        grant(api, SymmetricKeyServiceStub, key.id, "kms.keys.encrypter")
        assert status(api, "dataproc", "GET", "acme/a-file") == 403
        assert status(api, "airflow", "DELETE", "acme?encryption") == 204
        assert status(api, "dataproc", "GET", "acme/a-file") == 200
