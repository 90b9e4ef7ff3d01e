"""A copy of the repository in which `make` is run as an operator runs it, with Terraform's state in its infra/."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from deployment.remote import repository_files
from fraud_detection.proxies import exempt_loopback
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import World
from local_stack.seeding import DAYS_OF_NEW_FRAUDS, HISTORY_DAYS, SEED, TRANSACTIONS_PER_DAY
from rehearsal.cloud import ROOT, TERRAFORM_ACCOUNT, RehearsalError, RehearsedCloud
from rehearsal.processes import finished
from rehearsal.terraform import CONFIGURATION, Terraform, terraform_in

# What `make` installs once, and Git's own folder, by which an upload knows its revision.
_SHARED = (".venv", ".venv-cloud", ".uv", ".git", "venvs")
_OWN = ("YC_", "TF_", "AWS_", "AIRFLOW_", "MLFLOW_")  # settings of a real cloud
_PROGRAM_NAME = "terraform.sh"
_PROGRAM = """#!/bin/sh
set -eu
text=$(terraform "$@")
printf "%s" "$text" | sed -f "$(dirname "$0")/addresses.sed"
"""
_TIMEOUT = 900.0
_CLOSING = 3000


@dataclass(frozen=True)
class Project:
    """The copy, and the cloud that its commands work on."""

    folder: Path
    cloud: RehearsedCloud
    terraform: Terraform
    variables: Mapping[str, Any]

    def make(self, *words: str) -> str:
        """Run a target; returns what it printed. Raises RehearsalError with its last lines."""
        command = ["make", "--no-print-directory", *words, f"TERRAFORM=./{_PROGRAM_NAME}"]
        environment = self.environment
        done = finished(command, f"make {words[0]}", _TIMEOUT, self.folder, environment, errors=subprocess.STDOUT)
        if done.returncode != 0:
            raise RehearsalError(
                f"make {words[0]} failed; found: exit code {done.returncode} and\n"
                f"{done.stdout[-_CLOSING:]}\n"
                "expected: 0; next: the same command in the cloud fails alike, so correct what its last line names"
            )
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """What an operator has set, and what leads to the emulated cloud in place of the real one."""
        described = self.cloud.emulator.cloud
        account = described["service_accounts"][TERRAFORM_ACCOUNT]["id"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        exempt_loopback(kept)
        machine = self.cloud.emulator.metadata(account)
        return {
            **kept,
            "GIT_OPTIONAL_LOCKS": "0",  # the index of the repository stays as it is
            "YC_TOKEN": self.cloud.emulator.token(account),
            "YC_ENDPOINT": described["endpoint"],
            "YC_LOCKBOX_ENDPOINT": f"http://{machine}",
            "YC_QUOTA_ENDPOINT": f"http://{machine}",  # no quotas are emulated: they are reported as unchecked
            "S3_ENDPOINT": described["storage"],
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": described["ca"],
            "TF_CLI_CONFIG_FILE": str(CONFIGURATION),
            "TF_VAR_airflow_admin_password": str(self.variables["airflow_admin_password"]),
        }

    def redirect(self, addresses: Mapping[str, str]) -> None:
        """Let Terraform's outputs name addresses of this machine in place of the cloud's, as its DNS would do."""
        lines = [f"s#{address}#{local}#g" for address, local in addresses.items()]
        (self.folder / "addresses.sed").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def simulate_data(self, now: datetime) -> str:
        """Write the transactions that a first run needs, and choose settings with a short training; says how many."""
        shutil.copy2(ROOT / "conf" / "local_stack.yaml", self.folder / "conf" / "retraining.yaml")
        today = now.date()
        world = World(SEED, TRANSACTIONS_PER_DAY, regimes(today - timedelta(days=DAYS_OF_NEW_FRAUDS)))
        first = today - timedelta(days=HISTORY_DAYS)
        written = list(write_days(world, self.folder / "data" / "input_data", first, HISTORY_DAYS))
        return f"{sum(table.num_rows for _, table in written)} transactions of {HISTORY_DAYS} days"


def project_in(folder: Path, cloud: RehearsedCloud, variables: Mapping[str, Any]) -> Project:
    """A fresh copy with infra/ ready to be applied, its variables in terraform.tfvars."""
    for path in repository_files():
        inside = path.relative_to(ROOT)
        if inside.parts[0] != "infra":
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, folder / inside)
    (ROOT / "venvs").mkdir(exist_ok=True)
    for name in _SHARED:
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    project = Project(folder, cloud, terraform_in(folder / "infra", cloud, variables), variables)
    given = {name: value for name, value in project.terraform.variables.items() if "password" not in name}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    (folder / "infra" / "terraform.tfvars").write_text("\n".join(lines) + "\n", encoding="utf-8")
    program = folder / _PROGRAM_NAME
    program.write_text(_PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    project.redirect({"https://storage.yandexcloud.net": str(cloud.emulator.cloud["storage"])})
    return project
