"""What every part of one model's registry works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fraud_detection.commands import Commands
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.registry.lease import Leases
from fraud_detection.schema import Decision

Publish = Callable[[Decision, bytes], Mapping[str, bytes]]
"""Publishes a decision that is final, from the content of the publication file; returns files for the MLflow run."""


@dataclass(frozen=True)
class Context:
    """One registered model: where its versions, decisions and leases are, and the commands that its errors name."""

    name: str
    connection: Connection
    log: DecisionLog
    leases: Leases
    publish: Publish
    commands: Commands
