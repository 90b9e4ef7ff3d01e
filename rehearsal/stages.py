"""The stages of the rehearsal, in order, and the line that each prints."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rehearsal.cloud import RehearsalError, RehearsedCloud
from rehearsal.terraform import Terraform


@dataclass
class Rehearsal:
    """What the stages share: the cloud, Terraform, and what earlier stages found out."""

    cloud: RehearsedCloud
    terraform: Terraform
    before: Mapping[str, list[str]]
    """What was in the cloud at the start."""
    outputs: dict[str, Any] = field(default_factory=dict)
    """Terraform's outputs after the last apply."""
    changed: dict[str, Any] = field(default_factory=dict)
    """Variables that a stage has changed."""


@dataclass(frozen=True)
class Stage:
    """One step of the way to the cloud. `run` returns what it found, for its line, or raises RehearsalError."""

    name: str
    run: Callable[[Rehearsal], str]


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


STAGES = (
    Stage("terraform apply", apply),
    Stage("terraform plan", plan_is_empty),
    Stage("protection off", applied_with(deletion_protection=False)),
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
        except RehearsalError:
            report(f"{stage.name:20} {time.monotonic() - begun:6.1f} s  FAILED")
            raise
        report(f"{stage.name:20} {time.monotonic() - begun:6.1f} s  {found}")
