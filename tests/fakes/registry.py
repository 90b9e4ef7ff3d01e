"""Fixtures of the registry's tests: models, decisions, and MLflow on SQLite, quick to create."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from factories import MODEL_NAME, decision

from fraud_detection import settings
from fraud_detection.model.fit import fit
from fraud_detection.model.model import Model
from fraud_detection.registry import Leases, Registry, RunRecord
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.registry.lease import Lease, LeaseRecord
from fraud_detection.schema import Decision, Outcome
from fraud_detection.storage import open_folder

NAME = MODEL_NAME
T1 = datetime(2018, 8, 22, tzinfo=UTC)
T0 = T1 - timedelta(hours=1)
T2 = T1 + timedelta(hours=1)
T3 = T1 + timedelta(hours=2)


class Killed(BaseException):
    """The process is gone; nothing that it could still do gets done."""


class FakeTime:
    """The time of a process whose waiting takes none."""

    def __init__(self) -> None:
        self.waited = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.waited

    def sleep(self, _seconds: float) -> None:
        self.waited += timedelta(seconds=30)


class MortalLeases(Leases):
    """Leases that a killed process does not release."""

    @contextmanager
    def hold(self, purpose: str) -> Iterator[Lease]:
        with super().hold(purpose) as lease:
            try:
                yield lease
            except Killed:
                lease.release = lambda: None  # type: ignore[method-assign]
                raise


def leases_in(output: Path) -> Leases:
    """The leases of an output folder, for a process that does not really wait."""
    time = FakeTime()
    return MortalLeases(open_folder(str(output)), NAME, clock=time.now, sleep=time.sleep)


def lease_records(output: Path) -> list[LeaseRecord]:
    """Every lease in an output folder, oldest first."""
    return [LeaseRecord.model_validate_json(path.read_text()) for path in sorted(output.glob(f"leases/{NAME}/*.json"))]


@dataclass
class World:
    """One output folder with its own MLflow."""

    output: Path
    tracking_uri: str
    log: DecisionLog
    leases: Leases
    registry: Registry

    @property
    def client(self) -> Any:
        return self.connection.client

    @property
    def connection(self) -> Connection:
        return self.registry._context.connection

    def versions(self) -> list[int]:
        return sorted(int(version.version) for version in self.client.search_model_versions(f"name = '{NAME}'"))

    def aliases(self) -> dict[str, int]:
        return {alias: int(v) for alias, v in self.client.get_registered_model(NAME).aliases.items()}

    def runs(self) -> list[Any]:
        return list(self.client.search_runs([self.connection.experiment_id]))

    def record(self, outcome: Outcome, as_of: datetime, seed: int = 1, **changes: Any) -> Decision:
        """Record a decision as a run of the job would, compared with the current champion."""
        champion = self.registry.champion()
        compared = None if champion is None else champion.version
        given = decision(outcome, as_of, champion_version=compared, **changes)
        return self.record_as_it_is(given, seed)

    def record_as_it_is(self, given: Decision, seed: int = 1) -> Decision:
        promoting = given.outcome is Outcome.PROMOTED
        return self.registry.record(
            given,
            RunRecord(
                challenger=model(seed) if promoting else None,
                publication=b"published",
                parameters={"training": {"trees": 5}, "model_name": NAME},
                tags={"code_version": "0.1.0"},
            ),
        )


def world(output: Path, template: World | None = None) -> World:
    """A world under `output`: a new one, or a copy of the template, whose artifacts it shares."""
    _do_not_wait_for_the_disk()
    output.mkdir(parents=True, exist_ok=True)
    if template is not None:
        shutil.copy(template.output / "mlflow.db", output)
        shutil.copytree(template.output / "decisions", output / "decisions")
    log = DecisionLog(open_folder(str(output)), NAME)
    uri = f"sqlite:///{output / 'mlflow.db'}"
    leases = leases_in(output)
    return World(output, uri, log, leases, Registry(uri, NAME, log, leases=leases, publish=publish))


def publish(decided: Decision, content: bytes) -> dict[str, bytes]:
    """Return the report of a final decision, as a run does."""
    assert content == b"published"
    return {"report.html": f"{decided.outcome} {decided.version}".encode()}


@cache
def _do_not_wait_for_the_disk() -> None:
    """SQLite without fsync: safe when a process is killed, and much faster."""
    import sqlalchemy

    def relax(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", relax)


@cache
def rows() -> pd.DataFrame:
    """Features rows with missing values and a column of strings."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.random((600, 3)), columns=["amount", "count_1d", "mean_7d"])
    table["mean_7d"] = table["mean_7d"].where(random.random(600) > 0.1)
    table["fraud"] = ((table["amount"] > 0.8) & (random.random(600) < 0.8)).astype("int8")
    table["transaction_id"] = np.arange(600)
    table["channel"] = random.choice(["web", "shop"], 600)
    return table


@cache
def model(seed: int = 1) -> Model:
    training = settings.Training(trees=seed + 2, max_depth=3, seed=seed)
    return fit(rows(), None, training, ("amount", "count_1d", "mean_7d"), ("channel",))


def registry_at(uri: str, folder: Path) -> Registry:
    log = DecisionLog(open_folder(str(folder)), NAME)
    return Registry(uri, NAME, log, leases=leases_in(folder), publish=publish)


def artifact(here: World, version: int, name: str) -> Path:
    """A file of a registered version."""
    uri = here.client.get_model_version_download_uri(NAME, str(version))
    return Path(uri.removeprefix("file://")) / name


def failed(decided: Decision) -> list[str]:
    return [check.name for check in decided.checks if not check.passed]
