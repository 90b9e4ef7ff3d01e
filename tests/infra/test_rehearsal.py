"""The real Terraform and the real provider make, change and destroy all of infra/ in the emulated cloud."""

import http.client
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from terraform_runs import PASSWORD, outcome
from yandex.cloud.access import access_pb2
from yandex.cloud.iam.v1 import service_account_service_pb2_grpc as accounts
from yandex.cloud.lockbox.v1 import secret_service_pb2_grpc
from yandex.cloud.storage.v1 import bucket_service_pb2, bucket_service_pb2_grpc

from emulator.objects import signed_headers
from emulator.s3 import S3Server
from rehearsal.account import Account, administrator
from rehearsal.cloud import RehearsalError, RehearsedCloud, rehearsed_cloud
from rehearsal.stages import Rehearsal, applied_with, apply, destroy, nothing_is_left, plan_is_empty
from rehearsal.terraform import Terraform, terraform_in

VARIABLES = {"bucket_prefix": "acme-fraud", "airflow_admin_password": PASSWORD}
BASTION = {"cidrs": ["203.0.113.7/32"], "ssh_public_key": "ssh-ed25519 AAAA me"}
CHANGES: dict[str, dict[str, object]] = {
    "labels": {"labels": {"owner": "fraud-team"}},
    "bastion": {"bastion": BASTION},
    "three database hosts": {"postgres": {"hosts": 3}},
    "protection": {"deletion_protection": False},
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RehearsedCloud]:
    if "TEST_INFRA" not in os.environ:
        pytest.skip("Terraform's tests run by: make test-infra")
    with rehearsed_cloud(tmp_path_factory.mktemp("cloud")) as found:
        yield found


@pytest.fixture(scope="module")
def applied(cloud: RehearsedCloud, tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """infra/ with its defaults, applied once."""
    terraform = terraform_in(tmp_path_factory.mktemp("defaults") / "infra", cloud, VARIABLES)
    rehearsal = Rehearsal(cloud, terraform, cloud.emulator.resources())
    apply(rehearsal)
    return rehearsal


def object_status(account: Account, method: str, target: str, body: bytes = b"") -> int:
    """The status of a request to Object Storage with an account's token."""
    return s3(account.cloud, method, target, {"X-YaCloud-SubjectToken": account.token}, body)


def s3(cloud: RehearsedCloud, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> int:
    connection = http.client.HTTPConnection(urlsplit(cloud.emulator.cloud["storage"]).netloc, timeout=60)
    try:
        connection.request(method, target, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def denied(account: Account, secret_id: str) -> str:
    """What an account is told that may not read a secret."""
    with pytest.raises(RehearsalError, match="PERMISSION_DENIED") as error:
        account.payload(secret_id)
    return str(error.value)


def revoke(cloud: RehearsedCloud, stub: Any, resource: str, role: str, account_id: str) -> None:
    """Really remove a grant that Terraform made."""
    subject = access_pb2.Subject(id=account_id, type="serviceAccount")
    delta = access_pb2.AccessBindingDelta(
        action=access_pb2.REMOVE, access_binding=access_pb2.AccessBinding(role_id=role, subject=subject)
    )
    request = access_pb2.UpdateAccessBindingsRequest(resource_id=resource, access_binding_deltas=[delta])
    administrator(cloud).call(stub, "UpdateAccessBindings", request)


def test_the_plan_after_an_apply_is_empty(applied: Rehearsal) -> None:
    """Fails when every plan in the cloud would show changes that nobody made."""
    plan_is_empty(applied)


def test_the_passwords_of_mlflow_are_in_lockbox(applied: Rehearsal) -> None:
    """Fails when MLflow's machine cannot start, because a secret has no version."""
    mlflow = Account(applied.cloud, applied.outputs["service_account_ids"]["mlflow"])
    assert len(mlflow.payload(applied.outputs["mlflow_admin_secret_id"])["password"]) == 40
    assert set(mlflow.payload(applied.outputs["mlflow_job_secret_id"])) == {"username", "password"}


def test_accounts_may_do_what_terraform_granted_and_no_more(applied: Rehearsal) -> None:
    """Fails when the job can change its own code, or the uploader cannot upload."""
    buckets, ids = applied.outputs["bucket_names"], applied.outputs["service_account_ids"]
    deployer, job = Account(applied.cloud, ids["deployer"]), Account(applied.cloud, ids["dataproc"])
    assert object_status(deployer, "PUT", f"/{buckets['code']}/dags/a.py", b"x") == 200
    assert object_status(job, "GET", f"/{buckets['code']}/dags/a.py") == 200
    assert object_status(job, "PUT", f"/{buckets['code']}/dags/a.py", b"y") == 403
    assert object_status(job, "PUT", f"/{buckets['output']}/output_data/a", b"x") == 200
    assert object_status(deployer, "GET", f"/{buckets['mlflow']}/artifacts/a") == 403
    assert set(job.payload(applied.outputs["mlflow_job_secret_id"])) == {"username", "password"}
    assert "lockbox.payloads.get" in denied(job, applied.outputs["mlflow_admin_secret_id"])
    for bucket, key in (("code", "dags/a.py"), ("output", "output_data/a")):
        delete_versions(applied.cloud, buckets[bucket], key)


def delete_versions(cloud: RehearsedCloud, bucket: str, key: str) -> None:
    """Delete an object of a versioned bucket with all of its versions, as an operator does before a destroy."""
    server = S3Server(cloud.s3_endpoint)
    with server.request("GET", f"/{bucket}?versions&prefix={key}", {}) as answer:
        text = answer.read().decode()
    for version in [part.partition("</VersionId>")[0] for part in text.split("<VersionId>")[1:]]:
        with server.request("DELETE", f"/{bucket}/{key}?versionId={version}", {}) as answer:
            assert answer.status == 204


def test_a_static_key_signs_for_its_account_and_a_wrong_one_for_nobody(applied: Rehearsal) -> None:
    """Fails when s3cmd's key does not work, or a forged signature does."""
    bucket, ids = applied.outputs["bucket_names"]["output"], applied.outputs["service_account_ids"]
    secret = administrator(applied.cloud).payload(applied.outputs["deployer_secret_id"])
    url = f"{applied.cloud.emulator.cloud['storage']}/{bucket}"
    for secret_key, expected in ((secret["secret_key"], 200), ("forged", 403)):
        headers = signed_headers(url, "ru-central1", (secret["access_key"], secret_key), datetime.now(UTC))
        assert s3(applied.cloud, "GET", f"/{bucket}", headers) == expected
    *_, seen = [event for event in applied.cloud.emulator.events("object") if event["status"] == 200]
    assert seen["caller"] == ids["deployer"]


def test_three_grants_are_needed(applied: Rehearsal) -> None:
    """Fails when the emulator allows what no grant covers, so that a missing grant is only noticed in the cloud."""
    buckets, ids = applied.outputs["bucket_names"], applied.outputs["service_account_ids"]
    cloud, job = applied.cloud, Account(applied.cloud, ids["dataproc"])
    secret_id = applied.outputs["mlflow_job_secret_id"]
    revoke(cloud, secret_service_pb2_grpc.SecretServiceStub, secret_id, "lockbox.payloadViewer", ids["dataproc"])
    assert "lockbox.payloads.get" in denied(job, secret_id)
    request = bucket_service_pb2.GetBucketRequest(name=buckets["input"])
    found = administrator(cloud).call(bucket_service_pb2_grpc.BucketServiceStub, "Get", request)
    assert object_status(job, "GET", f"/{buckets['input']}") == 200
    revoke(cloud, bucket_service_pb2_grpc.BucketServiceStub, found.resource_id, "storage.viewer", ids["dataproc"])
    assert object_status(job, "GET", f"/{buckets['input']}") == 403
    account, role = ids["dataproc"], "iam.serviceAccounts.user"
    revoke(cloud, accounts.ServiceAccountServiceStub, account, role, ids["airflow"])
    pending = applied.terraform.pending()
    assert len(pending) == 3, pending
    assert all("iam" in change for change in pending)
    apply(applied)


@pytest.mark.parametrize("name", CHANGES)
def test_the_plan_after_a_change_is_empty(applied: Rehearsal, name: str) -> None:
    """Fails when a change of one variable never comes to rest."""
    applied_with(**CHANGES[name])(applied)


def test_destroy_leaves_nothing(applied: Rehearsal) -> None:
    """Fails when something goes on to cost money after `make destroy`."""
    destroy(applied)
    nothing_is_left(applied)


def test_all_variants_are_made_from_nothing(cloud: RehearsedCloud, tmp_path: Path) -> None:
    """Fails when the bastion, Airflow 2.11 or three database hosts cannot be applied, or every plan shows changes."""
    variants = {"bastion": BASTION, "airflow": {"version": "2.11"}, "postgres": {"hosts": 3}}
    given = {**VARIABLES, **variants, "deletion_protection": False, "bucket_prefix": "acme-variants"}
    terraform = terraform_in(tmp_path / "infra", cloud, given)
    rehearsal = Rehearsal(cloud, terraform, cloud.emulator.resources())
    check_first_plan(terraform)
    apply(rehearsal)
    plan_is_empty(rehearsal)
    destroy(rehearsal)
    nothing_is_left(rehearsal)


def check_first_plan(terraform: Terraform) -> None:
    """With the bastion: it makes what the mock of Terraform's own tests makes, and marks no other text as secret."""
    plan = terraform.planned()
    assert plan is not None
    changes = [change for change in plan["resource_changes"] if change["mode"] == "managed"]
    assert {change["change"]["actions"][0] for change in changes} == {"create"}
    mocked = {resource.address for resource in outcome().runs["variants/bastion"].resources}
    assert {change["address"] for change in changes} == mocked, (
        "the mock and the real provider plan different resources"
    )
    texts = [found for change in changes for found in _texts(change["change"])]
    # The second is no secret: it is the name of the user whose password a script makes.
    assert {text for text, is_secret in texts if is_secret} == {PASSWORD, "job"}
    assert PASSWORD not in {text for text, is_secret in texts if not is_secret}, "the plan prints the password"


def _texts(change: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The texts of a change, and whether the provider marks them as sensitive."""
    todo: list[tuple[Any, Any]] = [(change.get("after_sensitive"), change["after"])]
    while todo:
        mark, value = todo.pop()
        if isinstance(value, str) and value:
            yield value, mark is True
        elif isinstance(value, dict):
            todo += [(mark is True or (mark or {}).get(name), part) for name, part in value.items()]
        elif isinstance(value, list):
            marks = mark if isinstance(mark, list) else [mark is True] * len(value)
            todo += zip_longest(marks[: len(value)], value)
