"""`make verify`: what it says of a deployment that works, and of each thing that does not."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from fakes.cloud_sdk import FakeSdk, Refusal
from fakes.http_services import Asked, service
from fakes.object_storage import BUCKET, KEY, Server, serving
from yandex.cloud.access.access_pb2 import AccessBinding, ListAccessBindingsResponse, Subject
from yandex.cloud.dataproc.v1.cluster_pb2 import Cluster, ClusterConfig
from yandex.cloud.dataproc.v1.cluster_service_pb2 import ListClustersResponse
from yandex.cloud.lockbox.v1.payload_pb2 import Payload
from yandex.cloud.storage.v1.bucket_pb2 import Bucket

from deployment import verify
from deployment.airflow import MASKED
from deployment.http import basic
from deployment.paths import VARIABLES_EXAMPLE

CONTENT = json.loads(VARIABLES_EXAMPLE.read_text())
SECRET = Payload(
    entries=[Payload.Entry(key="username", text_value="job"), Payload.Entry(key="password", text_value="p")]
)


def stored(**changes: str) -> dict[str, str]:
    """The settings as Airflow's API shows them: what may be a secret by its name is hidden."""
    return {"value": json.dumps({**CONTENT["fraud_detection"], "mlflow_secret_id": MASKED, **changes})}


def airflow(**changes: Any) -> Any:
    """An Airflow with everything in it."""
    objects = {
        "variables/fraud_detection": stored(),
        "connections/yandexcloud_default": {},
        **changes.pop("objects", {}),
    }
    good = {"import_errors": lambda: "", "has_dag": lambda _: True, "find": objects.get}
    return SimpleNamespace(**{**good, **changes})


def test_a_complete_airflow_needs_nothing() -> None:
    """Fails when a working deployment is reported as broken."""
    assert [found.fix for found in verify.of_airflow(airflow(), CONTENT)] == ["", "", ""]


@pytest.mark.parametrize(
    ("changes", "name", "said", "fix"),
    [
        ({"import_errors": lambda: "a\nImportError: no slack"}, "DAGs", "ImportError: no slack", "pip_packages"),
        ({"has_dag": lambda dag: dag != verify.REAPER}, "DAGs", verify.REAPER, "upload-dags"),
        ({"objects": {"variables/fraud_detection": None}}, "settings", "none", "make import-variables"),
        ({"objects": {"variables/fraud_detection": {"value": "{}"}}}, "settings", "others", "make import-variables"),
        ({"objects": {"variables/fraud_detection": stored(zone="other")}}, "settings", "others", "import-variables"),
        ({"objects": {"connections/yandexcloud_default": None}}, "connection", "no yandex", "make import-variables"),
    ],
)
def test_what_airflow_lacks_is_told(changes: dict[str, Any], name: str, said: str, fix: str) -> None:
    """Fails when a DAG that does not load, or settings of last month, are found by the first run."""
    [wrong] = [found for found in verify.of_airflow(airflow(**changes), CONTENT) if found.fix]
    assert wrong.name == name
    assert said in wrong.found
    assert fix in wrong.fix


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--key", KEY) as started:
        yield started


def test_buckets_are_read_as_the_deployer_reads_them(server: Server) -> None:
    """Fails when a bucket that cannot be read, or has no code or data, is found by the first cluster."""
    s3 = server.emptied()
    s3.client.put_object(Bucket=BUCKET, Key="code/current.json", Body=b"{}")
    code, data, output = verify.of_buckets(s3.deployment_settings)
    assert (code.fix, output.fix) == ("", "")
    assert (data.found, data.fix) == (f"{BUCKET} has no input_data/", "make upload-data-to-bucket")
    s3.client.put_object(Bucket=BUCKET, Key="input_data/a.csv", Body=b"x")
    assert [found.fix for found in verify.of_buckets(s3.deployment_settings)] == ["", "", ""]
    [absent, _, _] = verify.of_buckets(s3.deployment_settings | {"CODE_BUCKET": "absent"})
    assert "does not exist" in absent.found
    assert "make env" in absent.fix


def mlflow(asked: Asked) -> tuple[int, object]:
    return (200, {}) if asked.headers.get("Authorization") == basic("job", "p") else (401, {})


def test_mlflow_is_asked_as_the_job() -> None:
    """Fails when an MLflow without the job's account looks ready, or its password is shown."""
    with service(mlflow) as found:
        assert verify.of_mlflow(FakeSdk(Get=SECRET), found.url, "e6q").fix == ""
        refused = verify.of_mlflow(FakeSdk(Get=Payload()), found.url, "e6q")
    assert "answers 401" in refused.found
    assert "mlflow-accounts" in refused.fix


def test_an_mlflow_that_cannot_be_reached_from_here_is_not_called_broken() -> None:
    """Fails when everybody outside of the network is told that MLflow is broken, and not how to ask it."""
    found = verify.of_mlflow(FakeSdk(Get=SECRET), "http://127.0.0.1:9", "e6q")
    assert found.unchecked
    assert "MLFLOW_URL=http://localhost:5000 make verify" in found.fix


def test_a_secret_that_cannot_be_read_is_told() -> None:
    """Fails when a missing grant ends in a stack trace."""
    found = verify.of_mlflow(FakeSdk(Get=Refusal(grpc.StatusCode.PERMISSION_DENIED)), "http://127.0.0.1:9", "e6q")
    assert "PERMISSION_DENIED" in found.found
    assert "lockbox.payloadViewer" in found.fix


@pytest.mark.parametrize(("role", "good"), [("storage.uploader", True), ("storage.viewer", False)])
def test_the_jobs_account_may_write_its_results(role: str, good: bool) -> None:
    """Fails when a job trains for an hour and may not write its decision."""
    binding = AccessBinding(role_id=role, subject=Subject(id="aje-job", type="serviceAccount"))
    other = AccessBinding(role_id="storage.editor", subject=Subject(id="aje-other", type="serviceAccount"))
    sdk = FakeSdk(
        Get=Bucket(name="b", resource_id="e3e"),
        ListAccessBindings=ListAccessBindingsResponse(access_bindings=[binding, other]),
    )
    found = verify.of_job_account(sdk, "b", "aje-job")
    assert (not found.fix) is good
    assert role in found.found


def test_an_image_that_no_cluster_has_is_not_called_known() -> None:
    """Fails when an image that was never offered looks checked."""
    known = ListClustersResponse(clusters=[Cluster(config=ClusterConfig(version_id="2.2.5"))])
    assert verify.of_image(FakeSdk(List=known), "b1g", "2.2").fix == ""
    unknown = verify.of_image(FakeSdk(List=ListClustersResponse()), "b1g", "2.2")
    assert unknown.unchecked
    assert "make test-run" in unknown.fix
