"""Terraform's own tests, run once with the provider's real schema, and what they planned and applied."""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
PASSWORD = "Not-a-Real-1-Password"  # noqa: S105  (the one in infra/tests/*.tftest.hcl)
VARIABLES = {
    "cloud_id": "b1g0cloud00000000000",
    "folder_id": "b1g0folder0000000000",
    "bucket_prefix": "acme-fraud",
    "airflow_admin_password": PASSWORD,
}
CONFIGURATION = INFRA / "tests" / "bin" / "terraform.rc"


def required(program: str, package: str) -> str:
    """The path of a program that `make test-infra` needs."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"{program} is not installed; expected: {package}")
    return found


@cache
def workspace() -> Path:
    """A copy of infra/ without local files: variables, state and backend of a real cloud."""
    folder = Path(tempfile.mkdtemp(prefix="infra-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    owners = shutil.ignore_patterns("terraform.tfvars", "*.auto.tfvars", "backend.tf", "*.tfstate*", "bin", "tools")
    shutil.copytree(INFRA, folder / "infra", ignore=owners)
    return folder / "infra"


def terraform(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Terraform in the copy, with the provider installed by `make test-infra` and without credentials."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("YC_", "TF_", "AWS_"))}
    configuration = {"TF_CLI_CONFIG_FILE": str(CONFIGURATION), "TF_IN_AUTOMATION": "1"}
    return subprocess.run(
        [required("terraform", "Terraform 1.11 or newer"), *arguments],
        cwd=workspace(),
        env={**mine, **configuration, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=900,  # five minutes were too few beside other work
    )


@dataclass(frozen=True)
class Resource:
    """A resource of a plan or a state."""

    address: str
    type: str
    name: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What one run of Terraform's tests planned or applied."""

    name: str
    resources: tuple[Resource, ...]
    outputs: dict[str, Any]
    text: str
    actions: dict[str, tuple[str, ...]]
    """What a plan does to each address that it changes; empty for an apply."""

    def of(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources if resource.type == kind]

    def one(self, address: str) -> Resource:
        return next(resource for resource in self.resources if resource.address == address)


@dataclass(frozen=True)
class TerraformReport:
    """The outcome of all of Terraform's tests, and the provider's schema of resources."""

    summary: dict[str, Any]
    runs: dict[str, Run]
    schema: dict[str, Any]
    log: str


def _resources(module: dict[str, Any]) -> Iterator[Resource]:
    for found in module.get("resources", []):
        if found["mode"] == "managed":
            yield Resource(found["address"], found["type"], found["name"], found["values"])
    for child in module.get("child_modules", []):
        yield from _resources(child)


def _planned(plan: dict[str, Any]) -> Iterator[Resource]:
    for change in plan["resource_changes"]:
        if change["mode"] == "managed":
            yield Resource(change["address"], change["type"], change["name"], change["change"]["after"])


def sensitive(block: dict[str, Any], values: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The sensitive attributes of a resource that have a value, by their paths; `block` is of its schema."""
    for name, attribute in block.get("attributes", {}).items():
        value = values.get(name) if isinstance(values, dict) else None
        if attribute.get("sensitive") and value:
            yield f"{path}.{name}", value
        if "nested_type" in attribute and value:
            yield from sensitive(attribute["nested_type"], value, f"{path}.{name}")
    for name, nested in block.get("block_types", {}).items():
        found = (values or {}).get(name) or []
        for value in found if isinstance(found, list) else [found]:
            yield from sensitive(nested["block"], value, f"{path}.{name}")


@cache
def outcome() -> TerraformReport:
    """Run `terraform test`, once for all tests."""
    if "TEST_INFRA" not in os.environ:
        pytest.skip("Terraform's tests run by: make test-infra")
    if not CONFIGURATION.exists():
        pytest.fail("the provider is not there; run: make test-infra")
    return _tests("test", "-json", "-verbose")


def _tests(*words: str) -> TerraformReport:
    done = terraform(*words)
    runs: dict[str, Run] = {}
    schema: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for message in (json.loads(line) for line in done.stdout.splitlines()):
        if message["type"] == "test_summary":
            summary = message["test_summary"]
        for kind in ("test_plan", "test_state"):
            if kind in message and not message["@testfile"].endswith("validation.tftest.hcl"):
                found = message[kind]
                schema = next(iter(found.pop("provider_schemas").values()))["resource_schemas"] or schema
                resources = _planned(found) if kind == "test_plan" else _resources(found["root_module"])
                outputs = {name: output.get("value") for name, output in found.get("outputs", {}).items()}
                changes = found.get("resource_changes", [])
                actions = {change["address"]: tuple(change["change"]["actions"]) for change in changes}
                name = f"{Path(message['@testfile']).name.split('.')[0]}/{message['@testrun']}"
                runs[name] = Run(name, tuple(resources), outputs, json.dumps(found), actions)
    return TerraformReport(summary, runs, schema, done.stdout + done.stderr)


def applied_as(cloud: Mapping[str, Mapping[str, object]], variables: str) -> Run:
    """An apply with these variables (HCL) in a mocked cloud that returns these values for these resources."""
    answers = "".join(
        f"override_resource {{\n  target = {address}\n  values = {json.dumps(values)}\n}}\n"
        for address, values in cloud.items()
    )
    return _given(f'{answers}variables {{\n{variables}}}\nrun "apply" {{}}\n')["given/apply"]


def planned_change(variables: str) -> Run:
    """The plan of a change of variables (HCL) after an apply of the defaults."""
    given = "".join(f"  {key} = {json.dumps(value)}\n" for key, value in VARIABLES.items())
    change = f'run "change" {{\n  command = plan\n  variables {{\n{variables}\n}}\n}}\n'
    return _given(f'variables {{\n{given}}}\nrun "apply" {{}}\n{change}')["given/change"]


def _given(text: str) -> dict[str, Run]:
    """The runs of a Terraform test file with this text."""
    mock = 'mock_provider "yandex" {\n  source = "./tests/mocks"\n}\n'
    folder = workspace() / "given"
    folder.mkdir(exist_ok=True)
    (folder / "given.tftest.hcl").write_text(mock + text)
    found = _tests("test", "-json", "-verbose", "-test-directory=given")
    shutil.rmtree(folder)  # what is looked at elsewhere is the repository's own
    assert found.summary.get("status") == "pass", found.log[-5000:]
    return found.runs
