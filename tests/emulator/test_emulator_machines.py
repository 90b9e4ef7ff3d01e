"""What the emulated cloud gives to machines that run outside of it: tokens of their accounts, Object Storage."""

import io
import json
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from fakes.emulated_cloud import Api, emulated
from fakes.object_storage import serving
from yandex.cloud.access.access_pb2 import AccessBinding, SetAccessBindingsRequest, Subject
from yandex.cloud.iam.v1.awscompatibility.access_key_service_pb2 import CreateAccessKeyRequest
from yandex.cloud.iam.v1.awscompatibility.access_key_service_pb2_grpc import AccessKeyServiceStub
from yandex.cloud.storage.v1.bucket_service_pb2 import CreateBucketRequest, GetBucketRequest
from yandex.cloud.storage.v1.bucket_service_pb2_grpc import BucketServiceStub

from emulator.client import wait_for
from emulator.metadata import TOKEN_PATH

NOWHERE = "http://127.0.0.1:9"  # nothing is stored in these tests


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    storage = {"s3_endpoint": NOWHERE, "port": 0}
    with emulated(tmp_path_factory.mktemp("cloud") / "state", storage=storage) as found:
        yield found


def test_each_machine_gets_tokens_of_its_own_account(api: Api) -> None:
    """Fails when a machine acts as another account than Terraform gave it, so that no missing grant is seen."""
    accounts = {name: found["id"] for name, found in api.cloud["service_accounts"].items()}
    addresses = {name: api.emulator.metadata(id_) for name, id_ in accounts.items()}
    assert len(set(addresses.values())) == len(accounts)
    assert api.emulator.metadata(accounts["airflow"]) == addresses["airflow"], "a machine keeps its endpoint"
    for name, address in addresses.items():
        request = urllib.request.Request(f"http://{address}{TOKEN_PATH}", headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            assert json.loads(answer.read())["access_token"].startswith("t1.")
        (event,) = api.emulator.events("metadata-token", caller=accounts[name])
        assert event["owner"] == "a machine outside"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_anybody_may_know_that_a_bucket_name_is_free(api: Api, method: str) -> None:
    """Fails when make preflight takes every free bucket name for one that somebody has."""
    request = urllib.request.Request(f"{api.cloud['storage']}/acme-fraud-code", method=method)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request, timeout=5)  # noqa: S310


FAKE_SUBMIT = f"""#!{sys.executable}
import json, os, pathlib, sys
print(json.dumps({{"arguments": sys.argv[1:], "environment": dict(os.environ), "files": os.listdir("venv"),
                  "settings": pathlib.Path("retraining.yaml").read_text()}}))
"""


def archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("numpy.py"))
    return content.getvalue()


def put(api: Api, target: str, body: bytes) -> None:
    """Upload as `airflow`, which may do everything here."""
    token = api.emulator.token(api.cloud["service_accounts"]["airflow"]["id"])
    headers = {"X-YaCloud-SubjectToken": token, "Content-Type": "application/gzip"}
    request = urllib.request.Request(f"{api.cloud['storage']}/{target}", body, headers, method="PUT")  # noqa: S310
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


def ended(api: Api, cluster_id: str, name: str) -> str:
    """The log of a job with an archive of the bucket, which has ended."""
    job_id, operation = api.create_job(
        cluster_id,
        name,
        main_python_file_uri="s3a://acme/main.py",
        archive_uris=["s3a://acme/venv.tar.gz#venv"],
        file_uris=["s3a://acme/code/retraining.yaml"],
    )
    api.done(operation)
    return api.emulator.log(job_id)


def test_a_job_reaches_the_buckets_with_the_grants_of_its_cluster(tmp_path: Path) -> None:
    """Fails when a job reads a bucket that its account may not read, or cannot read one that it may."""
    submit = tmp_path / "bin" / "spark-submit"
    submit.parent.mkdir()
    submit.write_text(FAKE_SUBMIT)
    submit.chmod(0o755)
    homes = {"python": sys.executable, "spark_home": str(tmp_path), "java_home": str(tmp_path)}
    roles = (("airflow", "admin"), ("dataproc", "dataproc.agent"))
    grants = [{"account": account, "role": role} for account, role in roles]
    jobs = {"runner": "spark", "spark": homes}
    with (
        serving() as server,
        emulated(
            tmp_path / "state", storage={"s3_endpoint": server.endpoint, "port": 0}, jobs=jobs, grants=grants
        ) as api,
    ):
        buckets = api.sdk.client(BucketServiceStub)
        buckets.Create(CreateBucketRequest(folder_id=api.folder_id, name="acme"))
        put(api, "acme/venv.tar.gz", archive())
        put(api, "acme/code/retraining.yaml", b"model_name: fraud_detection")
        cluster_id, job = api.create_cluster().id, api.cloud["service_accounts"]["dataproc"]["id"]
        assert "answers 403" in ended(api, cluster_id, "without-a-grant")
        resource = buckets.Get(GetBucketRequest(name="acme")).resource_id
        binding = AccessBinding(role_id="storage.viewer", subject=Subject(id=job, type="serviceAccount"))
        buckets.SetAccessBindings(SetAccessBindingsRequest(resource_id=resource, access_bindings=[binding]))
        before = api.emulator.resources()
        seen = json.loads(ended(api, cluster_id, "with-a-grant"))
        assert seen["files"] == ["numpy.py"]
        assert seen["settings"] == "model_name: fraud_detection"
        assert seen["environment"]["AWS_ENDPOINT_URL_S3"] == api.cloud["storage"]
        assert f"spark.hadoop.fs.s3a.endpoint={api.cloud['storage']}" in seen["arguments"]
        assert api.emulator.events("object", method="GET", status=200)[-1]["caller"] == job
        assert wait_for(lambda: "access-key" not in api.emulator.resources()), "a key outlives its job"
        assert {**before, "job": None} == {**api.emulator.resources(), "job": None}
        api.done(api.delete_cluster(cluster_id))
        assert not {"cluster", "job"} & api.emulator.resources().keys(), "a job is gone with its cluster"


def test_an_address_that_is_signed_opens_until_it_expires(tmp_path: Path) -> None:
    """Fails when MLflow's clients cannot download a model, which they do by an address that MLflow has signed."""
    with serving() as server, emulated(tmp_path / "state", storage={"s3_endpoint": server.endpoint, "port": 0}) as api:
        api.sdk.client(BucketServiceStub).Create(CreateBucketRequest(folder_id=api.folder_id, name="acme"))
        put(api, "acme/models/a%20b.ubj", b"trees")
        key = api.sdk.client(AccessKeyServiceStub).Create(
            CreateAccessKeyRequest(service_account_id=api.cloud["service_accounts"]["airflow"]["id"])
        )
        signer = boto3.client(
            "s3",
            endpoint_url=api.cloud["storage"],
            region_name="ru-central1",
            aws_access_key_id=key.access_key.key_id,
            aws_secret_access_key=key.secret,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        wanted = {"Bucket": "acme", "Key": "models/a b.ubj"}
        address = signer.generate_presigned_url("get_object", Params=wanted, ExpiresIn=60)
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310
            assert answer.read() == b"trees"
        expired = signer.generate_presigned_url("get_object", Params=wanted, ExpiresIn=0)
        for refused in (address.replace("b.ubj", "c.ubj"), address.replace("Expires=60", "Expires=600"), expired):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(refused, timeout=10)  # noqa: S310
