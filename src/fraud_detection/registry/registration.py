"""How a model comes into service: it becomes a version, is verified, and takes the alias. Each step can be repeated.

A run's decision and a person's approval take these steps, each with its own entry in the decision log. What they do
around them is in `commit` and `promotion_by_hand`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.promotion.checks import Spans, failure, measure
from fraud_detection.registry.aliases import CHAMPION, PREVIOUS_CHAMPION, apply_pin, delete_change, service
from fraud_detection.registry.artifacts import ModelVersionTags, download, load_model
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.context import Context
from fraud_detection.registry.lease import Lease
from fraud_detection.schema import Check, Stored

if TYPE_CHECKING:
    import pandas as pd

INTENT_FILE = "intent.json"
VERIFICATION_FILE = "verification.parquet"
SCORE = "expected_score"
"""The last column of the verification file: what the model scored when it was compared. The others are its inputs."""

INTENT_TAG = "fraud_detection.intent"
OUTCOME_TAG = "fraud_detection.outcome"
OPEN, CLOSED = "open", "closed"
_LONGEST_DESCRIPTION = 5000  # that MLflow keeps of a version


class LoggedModel(Stored):
    """The files that a promotion is going to register."""

    model_id: str  # MLflow's
    sha256: str
    recipe: str | None = None  # of a candidate


@dataclass(kw_only=True)
class Registration(ABC):
    """The state of an intent between two steps."""

    context: Context
    lease: Lease
    run_id: str
    root: str  # of the MLflow run's artifacts
    sample: "pd.DataFrame | None"
    written: bool = False  # whether the decision log has its entry
    version: int | None = None

    @property
    @abstractmethod
    def compared(self) -> int | None:
        """The champion that the model was compared with."""

    @property
    @abstractmethod
    def model(self) -> LoggedModel:
        """The files to register."""

    @property
    @abstractmethod
    def promoting(self) -> bool:
        """Whether there is still something to bring into service."""

    @property
    @abstractmethod
    def registers(self) -> bool:
        """Whether the intent was to register a version."""

    @property
    @abstractmethod
    def promoted(self) -> int | None:
        """The version that the log says this intent has brought into service."""

    @property
    @abstractmethod
    def tags(self) -> ModelVersionTags:
        """Of the version."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Of the version, in Markdown: why it serves. See `promotion.summarise`."""

    @property
    @abstractmethod
    def spans(self) -> Spans:
        """What the model was trained on and compared on."""

    @abstractmethod
    def refuse(self, check: Check, reason: str) -> None:
        """Refuse because of a late check."""

    @property
    def name(self) -> str:
        return self.context.name

    @property
    def connection(self) -> Connection:
        return self.context.connection

    @property
    def client(self) -> Any:  # noqa: ANN401  (MLflow ships no types)
        return self.context.connection.client


def recall_version(run: Registration) -> None:
    """Find the version that the run registered before it was killed."""
    if run.promoting:
        run.version = next(iter(_versions(run)), None)


def check_service(run: Registration) -> None:
    """Refuse if the champion is no longer the one compared with, or if a version is pinned.

    If this version is in service already, the pinned one is put back.
    """
    if not run.promoting:
        return
    now = service(run.connection, run.name)
    now.require_readable_tag(run.context.commands)
    moved = run.version is not None and now.champion == run.version
    if now.pin is not None:
        if moved:
            apply_pin(run.connection, run.name, now.pin, run.context.commands)
        reason = f"{now.pin.text}; automatic promotion resumes with: {run.context.commands.unpin}"
        run.refuse(measure("not_pinned", now.pin.to_version), reason)
    elif not moved:
        check = measure("champion_unchanged", now.champion, champion=run.compared)
        if not check.passed:
            run.refuse(check, failure(check, run.spans))


def register_version(run: Registration) -> None:
    """Make the logged model a version, unless the run has one already.

    A request that is sent twice may make two: the oldest stays.
    """
    if not run.promoting:
        return
    if run.version is None:
        _create_version(run)
    run.version, *surplus = _versions(run)
    for version in surplus:
        run.client.delete_model_version(run.name, str(version))


def verify_version(run: Registration) -> None:
    """Refuse if the registered files do not score exactly what the compared model scored."""
    if not run.promoting or run.version is None:
        return
    rows = _verification(run) if run.sample is None else run.sample
    try:
        model = load_model(run.connection, run.name, run.version, run.model.sha256)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError as error:
        check = measure("registered_model_identical", None)
        reason = f"the registered model cannot be loaded: {error}"
    else:
        scores = model.predict(rows.drop(columns=SCORE))
        different = int(np.count_nonzero(scores != rows[SCORE].to_numpy()))
        check = measure("registered_model_identical", different)
        reason = f"the registered model scores {different} of {len(rows)} rows differently"
    if not check.passed:
        run.refuse(check, reason)


def set_previous_champion(run: Registration) -> None:
    """Keep the champion that is about to be replaced, for a rollback."""
    if run.promoting and run.compared is not None:
        _set_alias(run, PREVIOUS_CHAMPION, run.compared)


def set_champion(run: Registration) -> None:
    """Bring the version into service."""
    if run.promoting and run.version is not None:
        _set_alias(run, CHAMPION, run.version)


def end_retirement(run: Registration) -> None:
    """Remove the retirement whose place the version has taken."""
    if not run.promoting:
        return
    retirement = service(run.connection, run.name).retirement
    if retirement is not None and retirement.version != run.version:  # this very version may be retired already
        delete_change(run.connection, run.name)


def discard_version(run: Registration) -> None:
    """Delete what was registered and then refused, or too late: each version that stays has been in service."""
    if not run.registers:
        return
    surplus = [version for version in _versions(run) if version != run.promoted]
    champion = service(run.connection, run.name).champion if surplus else None
    for version in surplus:
        if version != champion:
            run.client.delete_model_version(run.name, str(version))


def _verification(run: Registration) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(BytesIO(read_artifact(run.connection, run.root, VERIFICATION_FILE, run.run_id)))


def read_artifact(connection: Connection, root: str, name: str, run_id: str) -> bytes:
    try:
        return download(connection, root, name)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError as error:
        raise lost_intent(connection, run_id, str(error)) from error


def lost_intent(connection: Connection, run_id: str, cause: str) -> FraudDetectionError:
    return FraudDetectionError(
        f"MLflow run {run_id} at {connection.shown_uri} was killed while it registered its decision, and cannot be"
        f" completed: {cause}; restore its artifacts, or give it up:"
        f" MLFLOW_TRACKING_URI={connection.shown_uri} mlflow runs delete --run-id {run_id}"
    )


def _versions(run: Registration) -> list[int]:
    """The versions made from the run's model, oldest first."""
    found = run.client.search_model_versions(f"name = '{run.name}' and run_id = '{run.run_id}'")
    return sorted(int(version.version) for version in found)


def _create_version(run: Registration) -> None:
    from mlflow.exceptions import MlflowException

    create = partial(
        run.client.create_model_version,
        run.name,
        f"models:/{run.model.model_id}",
        run_id=run.run_id,
        model_id=run.model.model_id,
        tags=run.tags.as_tags(),
        description=run.connection.masked(run.description)[:_LONGEST_DESCRIPTION],
    )
    try:
        create()
    except MlflowException as error:
        # For a model that does not exist, MLflow's basic-auth answers as for one that the user may not read.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
            raise
        _create_registered_model(run)
        create()


def _create_registered_model(run: Registration) -> None:
    from mlflow.exceptions import MlflowException

    try:
        run.client.create_registered_model(run.name)
    except MlflowException as error:  # a request may be sent twice
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _set_alias(run: Registration, alias: str, version: int) -> None:
    run.client.set_registered_model_alias(run.name, alias, str(version))
