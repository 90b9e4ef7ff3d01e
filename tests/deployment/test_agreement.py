"""The job is uploaded to where the DAGs and Terraform look for it."""

import json
import re

from deployment import bucket
from deployment.paths import ROOT

DAGS, TERRAFORM = ROOT / "dags", ROOT / "infra" / "outputs.tf"


def test_the_job_is_uploaded_to_where_dag_and_terraform_look_for_it() -> None:
    """Fails when a cluster starts and its main file, library, settings or archive is not where the DAG looks."""
    dag = (DAGS / "fraud_detection_training.py").read_text(encoding="utf-8")
    assert set(re.findall(r"\{code\}/([\w.]+)", dag)) == {name for name, _ in bucket.code_files()}
    reader = (DAGS / "fraud_detection_common" / "code.py").read_text(encoding="utf-8")
    assert f'"{bucket.CURRENT}"' in reader
    keys_read = set(re.findall(r"found\['(\w+)'\]", reader))
    assert keys_read < set(json.loads(bucket.current("folder", "archive", "revision")))
    assert f"code_uri ~ '/{bucket.SHUTDOWN}'" in dag
    terraform = (TERRAFORM.parent / "main.tf").read_text(encoding="utf-8") + TERRAFORM.read_text(encoding="utf-8")
    assert f'"${{local.code_uri}}/{bucket.SHUTDOWN}"' in terraform
    for setting, folder in (("code_uri", bucket.CODE), ("input_uri", bucket.INPUT), ("output_uri", bucket.OUTPUT)):
        assert re.search(rf'{setting}\s*=\s*"s3a://[^\n]*\}}/{folder}"', terraform), setting
