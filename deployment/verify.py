"""`make verify`: whether what `make deploy-full` has put into the cloud works, without a cluster.

It reads `.env` and variables.json, and asks Airflow, the buckets, MLflow and the cloud's API; nothing is changed.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from yandex.cloud.access.access_pb2 import ListAccessBindingsRequest
from yandex.cloud.dataproc.v1.cluster_service_pb2 import ListClustersRequest
from yandex.cloud.dataproc.v1.cluster_service_pb2_grpc import ClusterServiceStub
from yandex.cloud.lockbox.v1.payload_service_pb2 import GetPayloadRequest
from yandex.cloud.lockbox.v1.payload_service_pb2_grpc import PayloadServiceStub
from yandex.cloud.storage.v1.bucket_service_pb2 import GetBucketRequest
from yandex.cloud.storage.v1.bucket_service_pb2_grpc import BucketServiceStub

from deployment import runs, variables
from deployment.airflow import MASKED, Access, Airflow
from deployment.bucket import CODE, CURRENT, INPUT, OUTPUT, S3cmd
from deployment.errors import DeploymentError, run
from deployment.findings import Finding, report
from deployment.http import HttpError, basic, call
from deployment.identity import iam_token
from deployment.paths import ENV_FILE, VARIABLES, given_path
from deployment.sdk import Sdk, connect
from deployment.settings import load, needed

REAPER = "fraud_detection_cluster_reaper"
_WRITES = ("storage.uploader", "storage.editor", "storage.admin")
_MLFLOW = "/api/2.0/mlflow/registered-models/search?max_results=1"


def findings(settings: Mapping[str, str], content: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that can be known without a run; `content` is that of variables.json."""
    dag = content["fraud_detection"]
    yield from of_airflow(Access.of(settings).connect(), content)
    yield from of_buckets(settings)
    sdk = connect(settings, iam_token(settings))
    yield of_mlflow(sdk, settings.get("MLFLOW_URL") or dag["tracking_uri"], dag["mlflow_secret_id"])
    yield of_job_account(sdk, _bucket(dag["output_uri"]), dag["service_account_id"])
    yield of_image(sdk, dag["folder_id"], dag["image_version"])


def of_airflow(airflow: Airflow, content: Mapping[str, Any]) -> Iterator[Finding]:
    """DAGs and variables in Airflow."""
    errors = airflow.import_errors()
    if errors:
        last = errors.strip().splitlines()[-1]
        yield Finding("DAGs", last, "make upload-dags-to-bucket; are airflow.pip_packages those of infra/variables.tf?")
    else:
        missing = [dag for dag in (runs.DAG, REAPER) if not airflow.has_dag(dag)]
        fix = "make upload-dags-to-bucket, then some minutes; does Airflow's account have its grants on bucket and key?"
        yield Finding("DAGs", f"without {', '.join(missing)}", fix) if missing else Finding("DAGs", "loaded, no error")
    found = airflow.find("variables/fraud_detection")
    same = found is not None and _agree(json.loads(found["value"]), content["fraud_detection"])
    stored = "those of variables.json" if same else "none" if found is None else "others than in variables.json"
    yield Finding("settings", stored, "" if same else "make import-variables")
    connection = content["fraud_detection"]["connection"]
    exists = airflow.find(f"connections/{connection}") is not None
    yield Finding("connection", connection if exists else f"no {connection}", "" if exists else "make import-variables")


def _agree(shown: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether Airflow has these settings, as far as it shows them."""
    return shown.keys() == wanted.keys() and all(shown[name] in (wanted[name], MASKED) for name in wanted)


def of_buckets(settings: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the deployer reads the three buckets, and what must be in them is there."""
    storage = S3cmd.of(settings)
    wanted = (
        ("CODE_BUCKET", f"{CODE}/{CURRENT}", "make upload-src-to-bucket"),
        ("INPUT_BUCKET", f"{INPUT}/", "make upload-data-to-bucket"),
        ("OUTPUT_BUCKET", "", ""),
    )
    for setting, key, fix in wanted:
        bucket = needed(settings, setting)
        try:
            names = storage.names(f"s3://{bucket}/{key}")
        except DeploymentError as error:
            grants = "does the deployer have its grants on bucket and key (docs/security.md)?"
            yield Finding("bucket", f"{bucket}: {error}", f"make env; {grants}")
            continue
        if key and not names:
            yield Finding("bucket", f"{bucket} has no {key}", fix)
        else:
            yield Finding(
                "bucket", f"{bucket}: readable" + (f", {key} is there" if key else f", {OUTPUT}/ is for runs")
            )


def of_mlflow(sdk: Sdk, url: str, secret_id: str) -> Finding:
    """Whether MLflow answers the job's user; from outside the network through a tunnel (MLFLOW_URL)."""
    try:
        payload = sdk.client(PayloadServiceStub).Get(GetPayloadRequest(secret_id=secret_id))
    except grpc.RpcError as error:
        fix = "make env; your account needs lockbox.payloadViewer on that secret"
        return Finding("MLflow", f"secret {secret_id}: {error.code().name}: {error.details()}", fix)
    found = {entry.key: entry.text_value for entry in payload.entries}
    authorization = {"Authorization": basic(found.get("username", ""), found.get("password", ""))}
    try:
        call("GET", f"{url.rstrip('/')}{_MLFLOW}", headers=authorization)
    except HttpError as error:
        if error.status:
            fix = "systemctl restart mlflow mlflow-accounts on MLflow's machine (docs/operations.md#troubleshooting)"
            return Finding("MLflow", f"{url} answers {error.status}", fix)
        fix = "open the tunnel (docs/infrastructure.md#open-mlflow), then MLFLOW_URL=http://localhost:5000 make verify"
        return Finding("MLflow", f"{url} cannot be reached from here", fix, unchecked=True)
    return Finding("MLflow", f"{url} answers the job's user")


def of_job_account(sdk: Sdk, bucket: str, account_id: str) -> Finding:
    """Whether the job's account may write its results, by the grants on the bucket."""
    service = sdk.client(BucketServiceStub)
    try:
        resource = service.Get(GetBucketRequest(name=bucket)).resource_id
        bindings = service.ListAccessBindings(ListAccessBindingsRequest(resource_id=resource)).access_bindings
    except grpc.RpcError as error:
        fix = "run it as an administrator of the folder"
        return Finding("job account", f"{bucket}: {error.code().name}: {error.details()}", fix)
    roles = sorted(binding.role_id for binding in bindings if binding.subject.id == account_id)
    if set(roles) & set(_WRITES):
        return Finding("job account", f"{account_id} has {', '.join(roles)} on {bucket}")
    return Finding("job account", f"{account_id} has {', '.join(roles) or 'no role'} on {bucket}", "make plan apply")


def of_image(sdk: Sdk, folder_id: str, version: str) -> Finding:
    """Whether a cluster with the image exists or existed a moment ago: no API lists the images."""
    try:
        clusters = sdk.client(ClusterServiceStub).List(ListClustersRequest(folder_id=folder_id)).clusters
    except grpc.RpcError as error:
        fix = "run it as an administrator of the folder"
        return Finding("image", f"clusters: {error.code().name}: {error.details()}", fix)
    if any(cluster.config.version_id.startswith(version) for cluster in clusters):
        return Finding("image", f"{version}: a cluster has it")
    fix = "make test-run creates a cluster with it; if the cloud refuses, docs/deploy.md, step 0"
    return Finding("image", f"{version}: no cluster has it now, and no API lists images", fix, unchecked=True)


def _bucket(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Check a deployment.")
    parser.add_argument("--env", type=given_path, default=ENV_FILE)
    parser.add_argument("--file", type=given_path, default=VARIABLES)
    chosen = parser.parse_args()
    report(findings(load(Path(chosen.env)), variables.read(chosen.file)), "verify")


if __name__ == "__main__":
    run(_main)
