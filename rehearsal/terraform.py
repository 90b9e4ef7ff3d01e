"""The real Terraform with the real provider, on a copy of infra/."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.cloud import ROOT, RehearsalError, RehearsedCloud, clean_environment
from rehearsal.processes import finished

INFRA = ROOT / "infra"
CONFIGURATION = INFRA / "tests" / "bin" / "terraform.rc"
"""Where the provider is; infra/tests/provider.sh writes it."""

_OWN = ("terraform.tfvars", "*.auto.tfvars", "backend.tf", "*.tfstate*", "bin", "tools")  # of a real cloud
_TIMEOUT = 600.0
_NO_CHANGES, _CHANGES = 0, 2
_CLOSING = 3000


@dataclass(frozen=True)
class Terraform:
    """One state of infra/ in one cloud."""

    folder: Path
    cloud: RehearsedCloud
    variables: Mapping[str, Any]

    def get(self) -> None:
        """Find the modules; the provider is there already."""
        self._require(self._run("get", changed=None), "get")

    def apply(self, **changed: object) -> dict[str, Any]:
        """Apply with these variables changed; returns the outputs."""
        self._require(self._run("apply", "-auto-approve", changed=changed), "apply")
        return self.outputs()

    def outputs(self) -> dict[str, Any]:
        found = json.loads(self._require(self._run("output", "-json", changed=None), "output"))
        return {name: output["value"] for name, output in found.items()}

    def planned(self, **changed: object) -> dict[str, Any] | None:
        """A plan as `terraform show -json` gives it; None if the cloud is what the configuration says."""
        plan = self.folder / "next.plan"
        done = self._run("plan", "-detailed-exitcode", f"-out={plan}", changed=changed)
        if done.returncode == _NO_CHANGES:
            return None
        if done.returncode != _CHANGES:
            self._require(done, "plan")
        shown: dict[str, Any] = json.loads(self._require(self._run("show", "-json", str(plan), changed=None), "show"))
        return shown

    def pending(self, **changed: object) -> list[str]:
        """What a plan would change, as `ACTION ADDRESS`; empty if the cloud is what the configuration says."""
        shown = self.planned(**changed)
        if shown is None:
            return []
        changes = [(change["address"], change["change"]["actions"]) for change in shown["resource_changes"]]
        return [
            f"{'+'.join(actions)} {address}" for address, actions in changes if actions not in (["no-op"], ["read"])
        ] + [
            f"output {name}"
            for name, change in shown.get("output_changes", {}).items()
            if change["actions"] != ["no-op"]
        ]

    def destroy(self, **changed: object) -> None:
        self._require(self._run("destroy", "-auto-approve", changed=changed), "destroy")

    def addresses(self) -> list[str]:
        """The resources of the state."""
        return self._require(self._run("state", "list", changed=None), "state list").splitlines()

    def _run(self, *words: str, changed: Mapping[str, Any] | None) -> "subprocess.CompletedProcess[str]":
        program = shutil.which("terraform")
        if program is None:
            raise RehearsalError("terraform is not installed; expected: Terraform 1.11 or newer")
        options = (
            [] if changed is None else ["-input=false", "-no-color", *self._options({**self.variables, **changed})]
        )
        configuration = {"TF_CLI_CONFIG_FILE": str(CONFIGURATION), "TF_IN_AUTOMATION": "1"}
        environment = {**clean_environment(), **configuration, **self.cloud.environment}
        return finished(
            [program, *words[:1], *options, *words[1:]], f"terraform {words[0]}", _TIMEOUT, self.folder, environment
        )

    @staticmethod
    def _options(variables: Mapping[str, Any]) -> list[str]:
        return [f"-var={name}={_value(value)}" for name, value in variables.items()]

    @staticmethod
    def _require(done: "subprocess.CompletedProcess[str]", verb: str) -> str:
        if done.returncode != 0:
            raise RehearsalError(f"terraform {verb} failed:\n{(done.stdout + done.stderr)[-_CLOSING:]}")
        return done.stdout


def terraform_in(folder: Path, cloud: RehearsedCloud, variables: Mapping[str, Any]) -> Terraform:
    """Terraform on a fresh copy of infra/, in the folder of a cloud."""
    if not CONFIGURATION.exists():
        raise RehearsalError(f"{CONFIGURATION} is missing, so the provider is not there; run: infra/tests/provider.sh")
    shutil.copytree(INFRA, folder, ignore=shutil.ignore_patterns(*_OWN))
    given = {"cloud_id": cloud.emulator.cloud["cloud_id"], "folder_id": cloud.emulator.cloud["folder_id"]}
    terraform = Terraform(folder, cloud, {**given, **variables})
    terraform.get()
    return terraform


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
