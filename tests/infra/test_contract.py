"""The real DAG, run in the emulator with Terraform's outputs, requests what Terraform created."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from terraform_runs import ROOT, VARIABLES, Run, applied_as

from deployment import bucket
from emulator.client import Emulator, serving

AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"
BUCKET, WORK = (f"{VARIABLES['bucket_prefix']}-{purpose}" for purpose in ("output", "work"))
LOG_GROUP, JOBS_SECRET = "e23contract0loggroup", "e6qcontract0jobssecret"  # the emulator has neither
ZONE = {"defaults": "ru-central1-b", "changed": "ru-central1-d"}
CHANGED = """
  project  = "fraud-test"
  zone     = "ru-central1-d"
  dataproc = {
    image_version    = "2.2.5"
    master_preset    = "s3-c2-m8"
    compute_preset   = "s3-c8-m32"
    compute_count    = 3
    disk_type        = "network-hdd"
    disk_gib         = 96
    preemptible      = true
    spark_properties = { "spark.executor.memory" = "5g" }
    shutdown_minutes = 300
  }
"""


@dataclass(frozen=True)
class Contract:
    """Terraform's outputs, and the requests that the cloud received."""

    terraform: Run
    settings: dict[str, Any]
    cluster: dict[str, Any]
    job: dict[str, Any]

    @property
    def hadoop(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster["configSpec"]["hadoop"]
        return found

    def subcluster(self, role: str) -> dict[str, Any]:
        found = self.cluster["configSpec"]["subclustersSpec"]
        return next(spec for spec in found if spec["role"] == role)


@pytest.fixture(scope="module", params=list(ZONE))
def contract(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    """An apply in the emulator's cloud, and one run of the DAG with its variables."""
    if "TEST_INFRA" not in os.environ:
        pytest.skip("Terraform's tests run by: make test-infra")
    state = tmp_path_factory.mktemp(request.param) / "cloud"
    outcomes = state / "buckets" / BUCKET / "output_data" / "outcomes"
    command = [str(ROOT / "tests" / "dags" / "stub_job.sh"), str(state / "plan"), str(outcomes)]
    settings = {
        "names": {"buckets": [BUCKET, WORK], "folder_id": VARIABLES["folder_id"]},
        "timing": {"create_cluster": 0.3, "delete_cluster": 0.1},
        "jobs": {"runner": "stub", "stub": {"command": command}},
    }
    with serving(state, settings) as emulator:
        terraform = applied_as(_answers(emulator, ZONE[request.param]), _variables(request.param))
        _run_the_dag(emulator, terraform.outputs["variables"], state.parent / "variables.json")
        [cluster], [job] = emulator.cluster_requests(), emulator.jobs()
    yield Contract(terraform, terraform.outputs["variables"]["fraud_detection"], cluster, job)


def _answers(emulator: Emulator, zone: str) -> dict[str, dict[str, object]]:
    """The emulator's ids for Terraform's resources, where it has them."""
    cloud = emulator.cloud
    return {
        "module.network.yandex_vpc_network.this": {"id": cloud["network_id"]},
        "module.network.yandex_vpc_subnet.this": {"id": cloud["subnets"][zone]},
        "module.dataproc.yandex_vpc_security_group.this": {"id": cloud["security_group_id"]},
        "module.dataproc.yandex_iam_service_account.this": {"id": cloud["service_accounts"]["dataproc"]["id"]},
        "module.dataproc.yandex_logging_group.this": {"id": LOG_GROUP},
        "module.mlflow_server.yandex_lockbox_secret.job": {"id": JOBS_SECRET},
    }


def _variables(name: str) -> str:
    given = "".join(f"  {key} = {json.dumps(value)}\n" for key, value in VARIABLES.items())
    return given + (CHANGED if name == "changed" else "")


def _run_the_dag(emulator: Emulator, variables: dict[str, Any], file: Path) -> None:
    """One run in Airflow's environment, as tests/dags runs it."""
    if not AIRFLOW.exists():
        pytest.fail(f"{AIRFLOW} is not there; run: make test-infra")
    file.write_text(json.dumps(variables))
    tests = ROOT / "tests" / "dags"
    done = subprocess.run(
        [
            str(AIRFLOW),
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=",
            "--confcutdir",
            str(tests),
            str(tests / "contract.py"),
        ],
        cwd=ROOT,
        env={**os.environ, "CONTRACT_CLOUD": str(emulator.state), "CONTRACT_VARIABLES": str(file)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "1 passed" in done.stdout


def test_the_cluster_is_where_terraform_says_and_acts_as_whom_it_says(contract: Contract) -> None:
    """Fails when a run's cluster is in another network or uses another service account than Terraform created."""
    outputs, cluster = contract.terraform.outputs, contract.cluster
    assert cluster["folderId"] == VARIABLES["folder_id"]
    assert cluster["zoneId"] == contract.settings["zone"]
    assert {spec["subnetId"] for spec in cluster["configSpec"]["subclustersSpec"]} == {outputs["subnet_id"]}
    assert cluster["securityGroupIds"] == [outputs["security_group_ids"]["dataproc"]]
    assert cluster["serviceAccountId"] == outputs["service_account_ids"]["dataproc"]
    assert cluster["logGroupId"] == outputs["log_group_ids"]["dataproc"] == LOG_GROUP
    assert cluster["bucket"] == outputs["bucket_names"]["work"]


def test_the_cluster_is_labelled_as_the_project(contract: Contract) -> None:
    """Fails when a cluster's labels hide its costs, or hide it from the reaper."""
    [tagged] = [one for one in contract.terraform.of("yandex_logging_group") if "dataproc" in one.address]
    labels = contract.cluster["labels"]
    assert set(labels) == {"project", "run", "lifetime-minutes", "idle-minutes"}
    assert labels["project"] == contract.settings["project"] == tagged.values["labels"]["project"]
    assert contract.cluster["name"] == f"{labels['project']}-{labels['run']}-1"


def test_the_cluster_is_of_the_image_and_size_that_terraform_says(contract: Contract) -> None:
    """Fails when a Terraform variable for the cluster's size or image does not change the cluster."""
    settings = contract.settings
    assert contract.cluster["configSpec"]["versionId"] == settings["image_version"]
    assert sorted(contract.hadoop["services"]) == ["SPARK", "YARN"]
    for role, preset, count in (
        ("MASTERNODE", "master_preset", 1),
        ("COMPUTENODE", "compute_preset", settings["compute_count"]),
    ):
        spec = contract.subcluster(role)
        assert spec["resources"] == {
            "resourcePresetId": settings[preset],
            "diskTypeId": settings["disk_type"],
            "diskSize": str(settings["disk_gib"] * 2**30),
        }
        assert int(spec["hostsCount"]) == count
    scaled = contract.subcluster("COMPUTENODE").get("autoscalingConfig")
    assert (scaled is not None and scaled["preemptible"]) is settings["preemptible"]


def test_the_cluster_can_be_made_without_a_key_and_ends_by_itself(contract: Contract) -> None:
    """Fails when the first run needs a public SSH key, or a forgotten cluster never shuts itself down."""
    assert contract.hadoop["osloginEnabled"] is True
    assert "sshPublicKeys" not in contract.hadoop
    [action] = contract.hadoop["initializationActions"]
    code = contract.terraform.outputs["bucket_names"]["code"]
    assert action["uri"] == f"s3a://{code}/{bucket.CODE}/{bucket.SHUTDOWN}"
    assert action["args"] == [str(contract.settings["shutdown_minutes"])]


def test_the_job_reads_and_writes_the_buckets_of_terraform(contract: Contract) -> None:
    """Fails when the job looks for its code, data, MLflow or password elsewhere than they are uploaded or created."""
    buckets, job = contract.terraform.outputs["bucket_names"], contract.job["pysparkJob"]
    code = f"s3a://{buckets['code']}/{bucket.CODE}"
    assert job["mainPythonFileUri"] == f"{code}/4f1c/fraud_detection_model.py"
    assert job["archiveUris"] == [f"{code}/venvs/9b1c.tar.gz#venv"]
    following = dict(pairwise(job["args"]))
    assert following["--input"] == f"s3a://{buckets['input']}/{bucket.INPUT}"
    assert following["--output"] == f"s3a://{buckets['output']}/{bucket.OUTPUT}"
    assert following["--tracking-uri"] == contract.terraform.outputs["mlflow_url"]
    secret_id = job["properties"]["spark.yarn.appMasterEnv.MLFLOW_LOCKBOX_SECRET_ID"]
    assert secret_id == contract.terraform.outputs["mlflow_job_secret_id"] == JOBS_SECRET
    assert contract.settings["spark_properties"].items() <= job["properties"].items()
