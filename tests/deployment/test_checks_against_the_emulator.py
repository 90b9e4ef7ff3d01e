"""What preflight and verify ask of the cloud, answered by the emulator through the real SDK."""

from collections.abc import Iterator

import pytest
from fakes.emulated_cloud import Api, emulated
from fakes.http_services import service
from yandex.cloud.access.access_pb2 import AccessBinding, SetAccessBindingsRequest, Subject
from yandex.cloud.resourcemanager.v1.folder_service_pb2 import GetFolderRequest
from yandex.cloud.resourcemanager.v1.folder_service_pb2_grpc import FolderServiceStub
from yandex.cloud.storage.v1.bucket_service_pb2 import CreateBucketRequest, GetBucketRequest
from yandex.cloud.storage.v1.bucket_service_pb2_grpc import BucketServiceStub

from deployment import preflight, verify
from deployment.http import basic


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with emulated(tmp_path_factory.mktemp("cloud") / "state") as found:
        yield found


def test_folder_and_image_are_found(api: Api) -> None:
    """Fails when preflight asks the API for something that it does not have, and every apply looks impossible."""
    folder = api.sdk.client(FolderServiceStub).Get(GetFolderRequest(folder_id=api.folder_id))
    found = preflight._folder(api.sdk, {"folder_id": api.folder_id, "cloud_id": folder.cloud_id})
    assert found.fix == "", found
    absent = preflight._folder(api.sdk, {"folder_id": "b1g00000000000000000", "cloud_id": folder.cloud_id})
    assert "NOT_FOUND" in absent.found or "PERMISSION_DENIED" in absent.found
    assert preflight._image(api.sdk).fix == ""


def test_grants_on_a_bucket_decide_whether_the_job_can_write(api: Api) -> None:
    """Fails when verify reads other bindings than Terraform makes, and a job without rights looks ready."""
    buckets = api.sdk.client(BucketServiceStub)
    buckets.Create(CreateBucketRequest(folder_id=api.folder_id, name="acme-fraud-output"))
    job = api.cloud["service_accounts"]["dataproc"]["id"]
    assert verify.of_job_account(api.sdk, "acme-fraud-output", job).fix == "make plan apply"
    resource = buckets.Get(GetBucketRequest(name="acme-fraud-output")).resource_id
    binding = AccessBinding(role_id="storage.uploader", subject=Subject(id=job, type="serviceAccount"))
    buckets.SetAccessBindings(SetAccessBindingsRequest(resource_id=resource, access_bindings=[binding]))
    assert verify.of_job_account(api.sdk, "acme-fraud-output", job).fix == ""


def test_the_jobs_secret_and_the_image_are_read(api: Api) -> None:
    """Fails when verify cannot read the job's password or the clusters, and so never asks MLflow."""
    secret = api.emulator.put_secret("mlflow-job", {"username": "job", "password": "p"})
    with service(lambda asked: (200 if asked.headers.get("Authorization") == basic("job", "p") else 401, {})) as mlflow:
        assert verify.of_mlflow(api.sdk, mlflow.url, secret).fix == ""
    assert verify.of_image(api.sdk, api.folder_id, "2.2").unchecked
    api.create_cluster()
    assert verify.of_image(api.sdk, api.folder_id, "2.2").fix == ""
