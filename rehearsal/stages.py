"""The stages of the rehearsal, in order, and the line that each prints."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rehearsal.cloud import RehearsalError, RehearsedCloud
from rehearsal.project import Project
from rehearsal.services import Services
from rehearsal.terraform import Terraform

_CLOSING = 3000  # characters of an output that a message shows


@dataclass
class Rehearsal:
    """What the stages share: the cloud, Terraform, and what earlier stages found out."""

    cloud: RehearsedCloud
    terraform: Terraform
    before: Mapping[str, list[str]]
    """What was in the cloud at the start."""
    found_project: Project | None = None
    """Where `make` is run; the stages of Terraform alone need none."""
    found_services: Services | None = None
    """What runs on this machine; likewise."""
    outputs: dict[str, Any] = field(default_factory=dict)
    """Terraform's outputs after the last apply."""
    changed: dict[str, Any] = field(default_factory=dict)
    """Variables that a stage has changed."""

    @property
    def project(self) -> Project:
        if self.found_project is None:
            raise RehearsalError("this stage runs make; found: no copy of the repository; expected: project_in(…)")
        return self.found_project

    @property
    def services(self) -> Services:
        if self.found_services is None:
            raise RehearsalError("this stage starts a server; found: no folder for it; expected: services_in(…)")
        return self.found_services


@dataclass(frozen=True)
class Stage:
    """One step of the way to the cloud. `run` returns what it found, for its line, or raises RehearsalError."""

    name: str
    run: Callable[[Rehearsal], str]


def preflight(rehearsal: Rehearsal) -> str:
    """Ask what an apply needs, as an operator does before it."""
    return _last_line(rehearsal.project.make("preflight"))


def start_database(rehearsal: Rehearsal) -> str:
    """The managed PostgreSQL, by a real one."""
    return rehearsal.services.start_database(rehearsal.outputs["postgres_id"])


def start_mlflow(rehearsal: Rehearsal) -> str:
    """MLflow from the machine's rendered cloud-init, by its own unit, with the secrets that the apply made."""
    return rehearsal.services.start_mlflow(rehearsal.outputs)


def write_settings(rehearsal: Rehearsal) -> str:
    """Terraform's outputs → .env and variables.json."""
    stack, outputs = rehearsal.services.stack, rehearsal.outputs
    rehearsal.project.redirect(
        {
            outputs["variables"]["fraud_detection"]["storage_endpoint"]: rehearsal.cloud.emulator.cloud["storage"],
            outputs["mlflow_url"]: stack.mlflow_url,
            outputs["airflow_url"]: stack.airflow_url,
        }
    )
    text = rehearsal.project.make("env")
    return _line(text, ".env")


def start_airflow(rehearsal: Rehearsal) -> str:
    """Managed Airflow, by a real one."""
    return rehearsal.services.start_airflow(rehearsal.outputs)


def simulate_data(rehearsal: Rehearsal) -> str:
    """Transactions to upload."""
    return rehearsal.project.simulate_data(datetime.now(UTC))


def deploy(rehearsal: Rehearsal) -> str:
    """Upload everything by s3cmd, and import the variables into Airflow."""
    text = rehearsal.project.make("deploy-full")
    return _line(text, "runs that start")


def load_dags(rehearsal: Rehearsal) -> str:
    """Airflow takes its DAGs from the bucket."""
    return rehearsal.services.load_dags(rehearsal.outputs)


def verify(rehearsal: Rehearsal) -> str:
    """Ask what has been deployed."""
    return _last_line(rehearsal.project.make("verify"))


def train(rehearsal: Rehearsal) -> str:
    """Switch the training on, and follow a forced run to its decision: on an empty MLflow, a first champion."""
    rehearsal.project.make("resume-training")
    try:
        rehearsal.project.make("test-run")
    except RehearsalError as error:
        raise RehearsalError(
            f"{error}\nerrors in the logs of Airflow's tasks:\n{rehearsal.services.errors_of_tasks()[-_CLOSING:]}"
        ) from error
    return rehearsal.services.champion(rehearsal.outputs)


def apply(rehearsal: Rehearsal) -> str:
    """Make everything of infra/."""
    rehearsal.outputs = rehearsal.terraform.apply(**rehearsal.changed)
    return f"{len(rehearsal.terraform.addresses())} resources"


def plan_is_empty(rehearsal: Rehearsal) -> str:
    """Plan again: the cloud is what the configuration says."""
    if pending := rehearsal.terraform.pending(**rehearsal.changed):
        raise RehearsalError(f"the plan after an apply is not empty; found: {', '.join(pending)}; expected: no changes")
    return "no changes"


def applied_with(**changed: object) -> Callable[[Rehearsal], str]:
    """Apply with these variables changed, and plan again."""

    def run(rehearsal: Rehearsal) -> str:
        rehearsal.changed.update(changed)
        found = apply(rehearsal)
        return f"{found}, {plan_is_empty(rehearsal)}"

    return run


def destroy(rehearsal: Rehearsal) -> str:
    """Delete everything of infra/."""
    rehearsal.terraform.destroy(**rehearsal.changed)
    return "done"


def nothing_is_left(rehearsal: Rehearsal) -> str:
    """Compare the cloud with what it was before the first apply."""
    if left := rehearsal.cloud.leftovers(rehearsal.before):
        raise RehearsalError(f"destroy left resources; found: {', '.join(left)}; expected: none")
    return "no resource, no bucket"


def _line(text: str, beginning: str) -> str:
    for line in text.splitlines():
        if line.startswith(beginning):
            return line
    raise RehearsalError(f"make printed no line that begins with {beginning!r}; found:\n{text[-_CLOSING:]}")


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


STAGES = (
    Stage("make preflight", preflight),
    Stage("terraform apply", apply),
    Stage("terraform plan", plan_is_empty),
    Stage("PostgreSQL", start_database),
    Stage("MLflow's machine", start_mlflow),
    Stage("make env", write_settings),
    Stage("Airflow", start_airflow),
    Stage("transactions", simulate_data),
    Stage("make deploy-full", deploy),
    Stage("DAGs", load_dags),
    Stage("make verify", verify),
    Stage("make test-run", train),
    Stage("protection off", applied_with(deletion_protection=False, storage={"force_destroy": True})),
    Stage("terraform destroy", destroy),
    Stage("nothing left", nothing_is_left),
)
"""What `make rehearse` runs. A further stage goes between the plan and the protection."""


def run(stages: Iterable[Stage], rehearsal: Rehearsal, report: Callable[[str], None]) -> None:
    """Run stages in order; each reports a line with its seconds. The first that fails ends the rehearsal."""
    for stage in stages:
        begun = time.monotonic()
        try:
            found = stage.run(rehearsal)
        except Exception:
            report(f"{stage.name:20} {time.monotonic() - begun:6.1f} s  FAILED")
            raise
        report(f"{stage.name:20} {time.monotonic() - begun:6.1f} s  {found}")
