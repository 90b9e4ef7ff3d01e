"""`make env`: writes Terraform's outputs to .env and variables.json, or changes nothing."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployment import environment
from deployment.errors import DeploymentError
from deployment.paths import ROOT, VARIABLES_EXAMPLE
from deployment.settings import read_env

EXAMPLE: dict[str, Any] = json.loads(VARIABLES_EXAMPLE.read_text(encoding="utf-8"))


def terraform_outputs() -> dict[str, Any]:
    """The output of `terraform output -json`: value, type, sensitive."""
    values: dict[str, Any] = {
        "airflow_id": "c9q0airflow",
        "airflow_url": "https://c-c9q0airflow.airflow.yandexcloud.net",
        "bucket_names": {
            "code": "acme-fraud-code",
            "input": "acme-fraud-input",
            "output": "acme-fraud-output",
            "mlflow": "acme-fraud-mlflow",
        },
        "deployer_secret_id": "e6qdeployer",
        "log_group_ids": {"airflow": "e23airflow", "dataproc": "e23dataproc"},
        "mlflow_admin_secret_id": "e6qadmin",
        "mlflow_tunnel": None,
        "mlflow_url": "http://mlflow.example.internal:5000",
        "postgres_id": "c9qpostgres",
        "service_account_ids": {"airflow": "aje1", "dataproc": "aje2", "deployer": "aje4", "mlflow": "aje3"},
        "variables": copy.deepcopy(EXAMPLE),
    }
    values["variables"]["fraud_detection"] |= {"folder_id": "b1gfolder", "bucket": "acme-fraud-output"}
    return {name: {"sensitive": False, "type": "string", "value": value} for name, value in values.items()}


def write(tmp_path: Path, outputs: dict[str, Any]) -> None:
    environment.write(outputs, tmp_path / ".env", tmp_path / "variables.json", VARIABLES_EXAMPLE)


def test_both_files_say_what_terraform_made(tmp_path: Path) -> None:
    """Fails when uploads go to the wrong bucket, or the DAGs request clusters in the wrong folder."""
    outputs = terraform_outputs()
    write(tmp_path, outputs)
    found = read_env(tmp_path / ".env")
    assert found["AIRFLOW_URL"] == "https://c-c9q0airflow.airflow.yandexcloud.net"
    assert found["CODE_BUCKET"] == "acme-fraud-code"
    assert found["DEPLOYER_SERVICE_ACCOUNT_ID"] == "aje4"
    assert found["FOLDER_ID"] == "b1gfolder"
    assert found["S3_ENDPOINT"] == "https://storage.yandexcloud.net"
    assert json.loads((tmp_path / "variables.json").read_text()) == outputs["variables"]["value"]


def test_env_is_readable_by_its_owner_alone_whatever_it_was(tmp_path: Path) -> None:
    """Fails when other users of the machine can read the passwords in .env."""
    (tmp_path / ".env").write_text("")
    (tmp_path / ".env").chmod(0o644)
    before = os.umask(0)
    try:
        write(tmp_path, terraform_outputs())
    finally:
        os.umask(before)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "variables.json"], "a part of a file is left"


def test_what_people_wrote_into_env_stays_and_twice_is_as_once(tmp_path: Path) -> None:
    """Fails when `make env` deletes the user's own settings from .env, such as a password kept nowhere else."""
    own = "# mine\nSCHEDULE='*/10 * * * *'\nAIRFLOW_ADMIN_PASSWORD='a b$c'\nCODE_BUCKET=old\n"
    (tmp_path / ".env").write_text(own)
    write(tmp_path, terraform_outputs())
    once = (tmp_path / ".env").read_text()
    write(tmp_path, terraform_outputs())
    assert (tmp_path / ".env").read_text() == once
    assert once.startswith("# mine\nSCHEDULE='*/10 * * * *'\nAIRFLOW_ADMIN_PASSWORD='a b$c'\n\n# From Terraform")
    assert read_env(tmp_path / ".env")["CODE_BUCKET"] == "acme-fraud-code"


def test_what_an_environment_file_says_is_what_a_shell_reads_from_it(tmp_path: Path) -> None:
    """Fails when `source .env` gives other values than the tools read, or runs a value as a command."""
    values = {"A": "x y", "B": "$(touch broken)", "C": "it's", "D": "", "E": 'a"b'}
    (tmp_path / ".env").write_text(environment.merged("", values))
    program = "set -a; . ./.env; set +a; for name in A B C D E; do printf '%s\\0' \"${!name}\"; done"
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == list(values.values())
    assert read_env(tmp_path / ".env") == values
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda outputs: outputs.pop("airflow_url"), "lack airflow_url"),
        (lambda outputs: outputs["bucket_names"]["value"].pop("code"), "lack bucket_names.code"),
        (lambda outputs: outputs["deployer_secret_id"].update(value=""), "lack deployer_secret_id"),
        (lambda outputs: outputs.pop("variables"), "lack variables.fraud_detection"),
        (lambda outputs: _settings(outputs).pop("zone"), "fraud_detection.zone is missing"),
        (lambda outputs: _settings(outputs).update(colour="red"), "fraud_detection.colour is unknown"),
        (lambda outputs: outputs["variables"]["value"].update(other={}), "other is unknown"),
        (lambda outputs: outputs["variables"].update(sensitive=True), "marked sensitive"),
        (lambda outputs: _settings(outputs).update(spark_properties={"db_password": "x"}), "look secret"),
        (lambda outputs: _settings(outputs).update(tracking_uri="http://job:geheim@mlflow"), "look secret"),
        (lambda outputs: _settings(outputs).update({"mlflow_secret_id": "t1.9euelZrLnpvMlpDHmI"}), "look secret"),
        (lambda outputs: _settings(outputs).update(shutdown_script="-----BEGIN PRIVATE KEY-----"), "look secret"),
    ],
)
def test_outputs_that_do_not_fit_change_no_file(change: Any, said: str, tmp_path: Path) -> None:
    """Fails when incomplete outputs or a secret are written into .env or variables.json."""
    outputs = terraform_outputs()
    change(outputs)
    (tmp_path / ".env").write_text("MINE=1\n")
    with pytest.raises(DeploymentError, match=said) as failed:
        write(tmp_path, outputs)
    assert "geheim" not in str(failed.value)
    assert (tmp_path / ".env").read_text() == "MINE=1\n"
    assert not (tmp_path / "variables.json").exists()


def _settings(outputs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = outputs["variables"]["value"]["fraud_detection"]
    return found


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Fails when a malformed line in .env is not reported, or its secret is repeated."""
    (tmp_path / ".env").write_text("A=1\nB: topsecret\n")
    with pytest.raises(DeploymentError, match="line 2") as failed:
        write(tmp_path, terraform_outputs())
    assert "topsecret" not in str(failed.value)


def test_the_command_reads_standard_input_and_says_when_nothing_was_made(tmp_path: Path) -> None:
    """Fails when `make env` before `make apply` ends in a stack trace instead of the next command."""
    command = [sys.executable, "-m", "deployment.environment", "--env", str(tmp_path / ".env")]
    command += ["--variables", str(tmp_path / "variables.json")]
    for text, code, said in (
        (json.dumps(terraform_outputs()), 0, ""),
        ("{}", 1, "nothing has been created yet; next: make apply"),
        ("", 1, "not JSON"),
    ):
        done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr
    assert read_env(tmp_path / ".env")["AIRFLOW_ID"] == "c9q0airflow"
