"""`make preflight`: what it says of each thing that an apply needs, and that it changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from fakes.cloud_sdk import FakeSdk, Refusal
from fakes.http_services import Asked, service
from yandex.cloud.compute.v1.image_pb2 import Image
from yandex.cloud.resourcemanager.v1.folder_pb2 import Folder

from deployment import preflight
from deployment.errors import DeploymentError
from deployment.findings import Finding, report
from deployment.paths import ROOT

GIVEN = {"cloud_id": "b1gcloud", "folder_id": "b1gfolder", "bucket_prefix": "acme-fraud"}


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("version", "good"), [("1.11.4", True), ("1.12.0-beta1", True), ("1.9.8", False)])
def test_terraforms_version_is_checked(version: str, good: bool, tmp_path: Path) -> None:
    """Fails when an old Terraform fails in the middle of an apply, or a good one is refused."""
    found = preflight.terraform(program(tmp_path / "terraform", f"echo '{json.dumps({'terraform_version': version})}'"))
    assert (found.found, not found.fix) == (version, good)


def test_a_missing_terraform_is_told_with_its_page() -> None:
    """Fails when a machine without Terraform gets a stack trace."""
    assert "developer.hashicorp.com" in preflight.terraform("no-such-program").fix


def test_variables_are_those_that_terraform_would_take(tmp_path: Path) -> None:
    """Fails when preflight checks another folder than the apply uses."""
    tfvars = tmp_path / "terraform.tfvars"
    tfvars.write_text('cloud_id      = "b1gcloud"\nfolder_id = "b1gold" # old\n# bucket_prefix = "no"\n')
    found = preflight.variables(tfvars, {"TF_VAR_folder_id": "b1gfolder", "PATH": "/bin"})
    assert found == {"cloud_id": "b1gcloud", "folder_id": "b1gfolder"}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Folder(name="fraud", cloud_id="b1gcloud", status=Folder.ACTIVE), ""),
        (Folder(name="fraud", cloud_id="b1gother", status=Folder.ACTIVE), "is in cloud b1gother"),
        (Folder(name="fraud", cloud_id="b1gcloud", status=Folder.PENDING_DELETION), "is PENDING_DELETION"),
        (Refusal(grpc.StatusCode.PERMISSION_DENIED), "PERMISSION_DENIED"),
    ],
)
def test_the_folder_is_the_one_that_is_meant(reply: object, said: str) -> None:
    """Fails when an apply goes into a folder of another cloud, or one that is being deleted."""
    found = preflight._folder(FakeSdk(Get=reply), GIVEN)
    assert said in found.found
    assert bool(found.fix) is bool(said)


def test_an_image_family_that_is_gone_is_told() -> None:
    """Fails when the image of MLflow's machine is no longer offered, and the apply stops after the databases."""
    assert preflight._image(FakeSdk(GetLatestByFamily=Image(id="fd8", name="ubuntu-24-04"))).fix == ""
    gone = preflight._image(FakeSdk(GetLatestByFamily=Refusal(grpc.StatusCode.NOT_FOUND)))
    assert "NOT_FOUND" in gone.found
    assert "image_family" in gone.fix


@pytest.mark.parametrize(("status", "free"), [(404, True), (403, False), (200, False), (301, False)])
def test_a_bucket_name_that_is_taken_is_told(status: int, free: bool) -> None:
    """Fails when an apply stops at a bucket name that somebody else in the cloud has."""
    with service(lambda _: (status, None)) as storage:
        found = preflight._buckets(storage.url, "acme-fraud")
    assert (not found.fix) is free
    assert [asked.path for asked in storage.asked] == [f"/acme-fraud-{purpose}" for purpose in preflight.PURPOSES]
    assert {asked.method for asked in storage.asked} == {"HEAD"}
    assert not [asked for asked in storage.asked if "X-YaCloud-SubjectToken" in asked.headers]


def test_a_quota_that_is_used_up_is_named() -> None:
    """Fails when a cluster cannot be created in the first run because of a quota that was full before the apply."""

    def api(asked: Asked) -> tuple[int, object]:
        assert asked.headers["Authorization"] == "Bearer t1.mine"
        full = {"quotaId": "compute.instances.count", "limit": 12, "usage": 12}
        free = {"quotaId": "compute.disks.count", "limit": 32, "usage": 1}
        return 200, {"quotaLimits": [full, free] if "service=compute&" in asked.path else []}

    with service(api) as found:
        line = preflight._quotas(found.url, "b1gcloud", "t1.mine")
    assert line.found == "used up: compute.instances.count"
    assert line.fix


def test_quotas_that_cannot_be_asked_are_not_taken_for_free_ones() -> None:
    """Fails when a missing permission looks like enough quota."""
    with service(lambda _: (403, {"message": "denied"})) as found:
        line = preflight._quotas(found.url, "b1gcloud", "t1.mine")
    assert line.unchecked
    assert "8 vCPU" in line.fix


def test_the_command_lists_everything_that_is_missing_and_fails(tmp_path: Path) -> None:
    """Fails when a person learns of one missing thing a time, or a failed check has exit code 0."""
    program(tmp_path / "terraform", f"echo '{json.dumps({'terraform_version': '1.9.0'})}'")
    environment = {"PATH": f"{tmp_path}:{os.defpath}"}
    words = ["-m", "deployment.preflight", "--tfvars", str(tmp_path / "none.tfvars")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("NO")] == [
        "terraform",
        "variables",
        "password",
        "credentials",
    ]
    assert done.stdout.count("    next: ") == 4
    assert "terraform, variables, password, credentials: not as expected" in done.stderr


def test_what_could_not_be_checked_is_said_and_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Fails when an unanswered question looks like a met requirement, or stops an apply that could work."""
    report([Finding("a", "good"), Finding("b", "unknown", "look there", unchecked=True)], "preflight")
    assert "nothing is wrong; not checked: b" in capsys.readouterr().out
    with pytest.raises(DeploymentError, match="c: not as expected"):
        report([Finding("c", "bad", "mend it")], "preflight")
