"""`make preflight`: what `make apply` needs, asked before it creates anything that costs money.

Terraform's variables come from infra/terraform.tfvars and TF_VAR_…, the token from YC_TOKEN or yc. Only reads are made.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import requests
from yandex.cloud.compute.v1.image_service_pb2 import GetImageLatestByFamilyRequest
from yandex.cloud.compute.v1.image_service_pb2_grpc import ImageServiceStub
from yandex.cloud.resourcemanager.v1.folder_pb2 import Folder
from yandex.cloud.resourcemanager.v1.folder_service_pb2 import GetFolderRequest
from yandex.cloud.resourcemanager.v1.folder_service_pb2_grpc import FolderServiceStub

from deployment.bucket import STORAGE
from deployment.errors import DeploymentError, run
from deployment.findings import Finding, report
from deployment.http import HttpError, call
from deployment.identity import iam_token
from deployment.paths import ROOT, given_path, shown
from deployment.sdk import Sdk, connect

TFVARS = ROOT / "infra" / "terraform.tfvars"
REQUIRED = ("cloud_id", "folder_id", "bucket_prefix")
PURPOSES = ("code", "input", "output", "work", "mlflow")
_TERRAFORM = (1, 11)
_PASSWORD = "TF_VAR_airflow_admin_password"  # noqa: S105  # the name of a setting
_QUOTAS = "https://quota-manager.api.cloud.yandex.net"
_QUOTA_SERVICES = ("compute", "vpc", "managed-postgresql", "storage", "dataproc", "managed-airflow")
_IMAGES_FOLDER = "standard-images"
_IMAGE_FAMILY = "ubuntu-2404-lts"
_ASSIGNED = re.compile(r'^\s*(\w+)\s*=\s*"([^"]*)"', flags=re.MULTILINE)


def variables(path: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The text variables of a terraform.tfvars; TF_VAR_… override them, as in Terraform."""
    found = dict(_ASSIGNED.findall(path.read_text(encoding="utf-8"))) if path.exists() else {}
    given = {name.removeprefix("TF_VAR_"): value for name, value in environment.items() if name.startswith("TF_VAR_")}
    return found | given


def findings(settings: Mapping[str, str], tfvars: Path, program: str = "terraform") -> Iterator[Finding]:
    """Everything that can be known before an apply."""
    given = variables(tfvars, settings)
    yield terraform(program)
    yield _given(given, tfvars)
    yield _password(settings)
    try:
        token = iam_token(settings)
    except DeploymentError as error:
        yield Finding("credentials", "none", str(error))
        return
    yield Finding("credentials", "an IAM token")
    yield from _cloud(settings, given, token)
    yield Finding(
        "versions",
        "no API lists the images of Data Proc and the versions of Managed Airflow that are offered to you",
        "ask support before the first apply (docs/deploy.md, step 0)",
        unchecked=True,
    )


def terraform(program: str) -> Finding:
    """Terraform's version."""
    fix = "install Terraform 1.11 or newer: https://developer.hashicorp.com/terraform/install"
    path = shutil.which(program)
    if path is None:
        return Finding("terraform", "not installed", fix)
    done = subprocess.run([path, "version", "-json"], capture_output=True, text=True, check=False)
    try:
        version = str(json.loads(done.stdout)["terraform_version"])
    except (ValueError, KeyError):
        return Finding("terraform", f"{path} does not say its version", fix)
    new_enough = tuple(map(int, version.split("-")[0].split(".")[:2])) >= _TERRAFORM
    return Finding("terraform", version, "" if new_enough else fix)


def _given(given: Mapping[str, str], tfvars: Path) -> Finding:
    missing = [name for name in REQUIRED if not given.get(name)]
    if not missing:
        return Finding("variables", f"{', '.join(REQUIRED)} in {shown(tfvars)}")
    example = f"cp infra/terraform.tfvars.example {shown(tfvars)}, then fill in {', '.join(missing)}"
    return Finding("variables", f"without {', '.join(missing)}", example)


def _password(settings: Mapping[str, str]) -> Finding:
    if settings.get(_PASSWORD):
        return Finding("password", f"{_PASSWORD} is set")
    return Finding("password", f"{_PASSWORD} is not set", f"read -rs {_PASSWORD} && export {_PASSWORD}")


def _cloud(settings: Mapping[str, str], given: Mapping[str, str], token: str) -> Iterator[Finding]:
    sdk = connect(settings, token)
    if given.get("folder_id"):
        yield _folder(sdk, given)
    yield _image(sdk)
    if given.get("bucket_prefix"):
        yield _buckets(settings.get("S3_ENDPOINT") or STORAGE, given["bucket_prefix"])
    if given.get("cloud_id"):
        yield _quotas(settings.get("YC_QUOTA_ENDPOINT") or _QUOTAS, given["cloud_id"], token)


def _folder(sdk: Sdk, given: Mapping[str, str]) -> Finding:
    fix = (
        "yc resource-manager folder list, then correct cloud_id and folder_id; or ask for the role admin on the folder"
    )
    try:
        folder = sdk.client(FolderServiceStub).Get(GetFolderRequest(folder_id=given["folder_id"]))
    except grpc.RpcError as error:
        return Finding("folder", f"{given['folder_id']}: {error.code().name}: {error.details()}", fix)
    if folder.status != Folder.ACTIVE:
        return Finding("folder", f"{folder.name} is {Folder.Status.Name(folder.status)}", fix)
    if folder.cloud_id != given.get("cloud_id"):
        return Finding("folder", f"{folder.name} is in cloud {folder.cloud_id}, not {given.get('cloud_id')}", fix)
    return Finding("folder", f"{folder.name}, active")


def _image(sdk: Sdk) -> Finding:
    request = GetImageLatestByFamilyRequest(folder_id=_IMAGES_FOLDER, family=_IMAGE_FAMILY)
    try:
        image = sdk.client(ImageServiceStub).GetLatestByFamily(request)
    except grpc.RpcError as error:
        fix = "yc compute image list --folder-id standard-images, then mlflow_machine = { image_family = … }"
        return Finding("image", f"{_IMAGE_FAMILY}: {error.code().name}: {error.details()}", fix)
    return Finding("image", f"{_IMAGE_FAMILY}: {image.name or image.id}")


def _buckets(storage: str, prefix: str) -> Finding:
    """Names are unique in the whole cloud: one that answers is somebody's, perhaps of an earlier apply."""
    taken = []
    for purpose in PURPOSES:
        try:
            answer = requests.head(f"{storage}/{prefix}-{purpose}", timeout=20, allow_redirects=False)
        except requests.RequestException as error:
            fix = "check the connection to it, then again"
            return Finding("buckets", f"{storage} does not answer ({type(error).__name__})", fix)
        if answer.status_code != requests.codes.not_found:
            taken.append(f"{prefix}-{purpose}")
    if not taken:
        return Finding("buckets", f"{prefix}-… are free")
    fix = "if no earlier apply of yours has created them, choose another bucket_prefix"
    return Finding("buckets", f"exist: {', '.join(taken)}", fix, unchecked=True)


def _quotas(api: str, cloud_id: str, token: str) -> Finding:
    """Which quotas are used up; how much an apply and a run need is in docs/infrastructure.md."""
    full, headers = [], {"Authorization": f"Bearer {token}"}
    for service in _QUOTA_SERVICES:
        query = f"resource.id={cloud_id}&resource.type=resource-manager.cloud&service={service}&pageSize=1000"
        try:
            answer = call("GET", f"{api}/quota-manager/v1/quotaLimits?{query}", headers=headers)
        except HttpError as error:
            fix = "look at https://console.yandex.cloud → Quotas; a run needs 8 vCPU, 32 GB and 128 GB of SSD"
            return Finding("quotas", f"{service}: not answered ({error.status})", fix, unchecked=True)
        full += [limit["quotaId"] for limit in (answer or {}).get("quotaLimits", []) if _is_full(limit)]
    if full:
        return Finding("quotas", f"used up: {', '.join(full)}", "https://console.yandex.cloud → Quotas → increase")
    return Finding("quotas", "none is used up")


def _is_full(limit: Mapping[str, float]) -> bool:
    return limit.get("limit", 0) > 0 and limit.get("usage", 0) >= limit["limit"]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Check what make apply needs.")
    parser.add_argument("--tfvars", type=given_path, default=TFVARS)
    parser.add_argument("--terraform", default="terraform")
    chosen = parser.parse_args()
    report(findings(os.environ, chosen.tfvars, chosen.terraform), "preflight")


if __name__ == "__main__":
    run(_main)
