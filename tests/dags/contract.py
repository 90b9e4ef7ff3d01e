"""One DAG run in a running emulator, with the settings that Terraform generated.

`tests/infra/test_contract.py` starts it in Airflow's environment, and looks at what the cloud was asked for. Its name
is not that of a test: it needs two files that only that test makes.
"""

import json
import os
from pathlib import Path

import pytest
from fake_cloud import Installation

from emulator.client import Emulator


def test_a_run_with_the_settings_of_terraform_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the first run after `make apply env import-variables` fails."""
    emulator = Emulator(Path(os.environ["CONTRACT_CLOUD"]))
    content = json.loads(Path(os.environ["CONTRACT_VARIABLES"]).read_text(encoding="utf-8"))
    installation = Installation(emulator, monkeypatch)
    # As make import-variables makes it: no folder, and no key for hosts. (The real one has no account's key either.)
    connection = emulator.connection()
    kept = ("endpoint", "service_account_json_path")
    connection["extra"] = {name: connection["extra"][name] for name in kept}
    monkeypatch.setenv("AIRFLOW_CONN_YANDEXCLOUD_DEFAULT", json.dumps(connection))
    # Two settings are not Terraform's: the emulator's buckets are folders, and nothing is at MLflow's address.
    own = {"storage_endpoint": f"file://{installation.bucket.parent}", "check_mlflow": False}
    installation.variables = {**content["fraud_detection"], **own}
    installation.upload("4f1c")
    installation.configure()
    run = installation.run()
    assert run.state == "success", run.tasks
    assert run.leaked == set()
