"""The real provider, with nothing mocked, plans the whole infrastructure against the emulator of the cloud's API."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from terraform_runs import PASSWORD, VARIABLES, outcome, terraform

from emulator.client import serving


def test_the_real_provider_plans_everything(tmp_path: Path) -> None:
    """Fails when `make plan` fails at a check of the provider that the mock does not make."""
    if "TEST_INFRA" not in os.environ:
        pytest.skip("Terraform's tests run by: make test-infra")
    variables = {
        **VARIABLES,
        "mlflow_machine": '{ image_id = "fd80ubuntu0240image0" }',  # the emulator has no images to look up
        "bastion": '{ cidrs = ["203.0.113.7/32"], ssh_public_key = "ssh-ed25519 AAAA me" }',
    }
    with serving(tmp_path / "cloud") as emulator:
        cloud = emulator.cloud
        credentials = {
            "YC_ENDPOINT": cloud["endpoint"],
            "YC_SERVICE_ACCOUNT_KEY_FILE": cloud["service_accounts"]["airflow"]["key"],
            "SSL_CERT_FILE": cloud["ca"],
            "SSL_CERT_DIR": str(tmp_path),  # no other authorities
        }
        words = [f"-var={name}={value}" for name, value in variables.items()]
        done = terraform(
            "plan",
            "-input=false",
            "-no-color",
            "-lock=false",
            f"-out={tmp_path / 'plan'}",
            *words,
            environment=credentials,
        )
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout
        shown = terraform("show", "-json", str(tmp_path / "plan"))
    changes = [change for change in json.loads(shown.stdout)["resource_changes"] if change["mode"] == "managed"]
    assert {change["change"]["actions"][0] for change in changes} == {"create"}
    mocked = {resource.address for resource in outcome().runs["variants/bastion"].resources}
    assert {change["address"] for change in changes} == mocked, (
        "the mock and the real provider plan different resources"
    )
    secret = {text for change in changes for text in _texts(change["change"])}
    # The second is no secret: it is the name of the user whose password a script makes.
    assert secret == {PASSWORD, "job"}


def _texts(change: dict[str, Any]) -> Iterator[str]:
    """The texts of a change that the provider marks as sensitive."""
    todo: list[tuple[Any, Any]] = [(change.get("after_sensitive"), change["after"])]
    while todo:
        mark, value = todo.pop()
        if mark is True and isinstance(value, str) and value:
            yield value
        elif isinstance(mark, dict) and isinstance(value, dict):
            todo += [(mark[name], value.get(name)) for name in mark]
        elif isinstance(mark, list) and isinstance(value, list):
            todo += list(zip(mark, value, strict=False))
