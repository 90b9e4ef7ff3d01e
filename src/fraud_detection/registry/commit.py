"""How a decision comes into force: a fixed sequence of steps. The process may be killed between any two of them.

MLflow offers no transactions and no compare-and-set. So a run first records what it is going to do (its intent: the
decision, and for a promotion generated rows to verify the registered model with), and then does it. Every step can be
repeated: it checks what exists already. The next run repeats the steps of any intent that is still open. Only the
holder of the model's lease takes these steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.promotion.checks import failure, measure
from fraud_detection.registry.aliases import CHAMPION, PREVIOUS_CHAMPION, apply_pin, delete_change, service
from fraud_detection.registry.artifacts import ModelVersionTags, download, load_model
from fraud_detection.registry.candidates import delete as delete_candidate
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.context import Context
from fraud_detection.registry.lease import Lease
from fraud_detection.registry.log_chain import append
from fraud_detection.registry.restoration import exclusive
from fraud_detection.schema import Check, Decision, Outcome, Stored

INTENT_FILE = "intent.json"
VERIFICATION_FILE = "verification.parquet"
PUBLICATION_FILE = "publication.json"
SCORE = "expected_score"
"""The last column of the verification file: what the model scored when it was compared. The others are its inputs."""

INTENT_TAG = "fraud_detection.intent"
OUTCOME_TAG = "fraud_detection.outcome"
OPEN, CLOSED = "open", "closed"
SUPERSEDED = "superseded"
"""Outcome of a run whose as-of time another run had decided before."""


class LoggedModel(Stored):
    """The files that a promotion is going to register."""

    model_id: str  # MLflow's
    sha256: str
    recipe: str | None = None  # of a candidate


class Intent(Stored):
    """What a run is going to do, kept with the MLflow run before it does any of it."""

    decision: Decision
    model: LoggedModel | None  # of promotions only
    publishes: bool = False  # whether there is a publication file; runs of earlier releases have none


@dataclass
class Commit:
    """The state of an intent between two steps."""

    context: Context
    lease: Lease
    run_id: str
    root: str  # of the MLflow run's artifacts
    intent: Intent
    sample: pd.DataFrame | None
    decision: Decision
    """As intended, until a late check refuses; as in the decision log, once it is written."""
    written: bool = False
    version: int | None = None

    @property
    def name(self) -> str:
        return self.context.name

    @property
    def connection(self) -> Connection:
        return self.context.connection

    @property
    def model(self) -> LoggedModel:
        """The files to register."""
        if self.intent.model is None:
            raise FraudDetectionError(f"MLflow run {self.run_id} intends a promotion without a model; delete the run")
        return self.intent.model

    @property
    def promoting(self) -> bool:
        """Whether there is still something to bring into service."""
        return self.decision.outcome is Outcome.PROMOTED and not self.written

    @property
    def client(self) -> Any:  # noqa: ANN401  (MLflow ships no types)
        return self.context.connection.client

    def refuse(self, check: Check, reason: str) -> None:
        """Refuse because of a late check."""
        checks = _merged(self.decision.checks, check)
        update = {"outcome": Outcome.REFUSED, "reason": reason, "checks": checks, "version": None}
        self.decision = self.decision.model_copy(update=update)


def recall_decision(run: Commit) -> None:
    """Take the decision that is in the log already, written by this run before it was killed, or by another."""
    found = run.context.log.find(run.intent.decision.as_of)
    if found is not None:
        run.decision, run.written = found, True


def recall_version(run: Commit) -> None:
    """Find the version that the run registered before it was killed."""
    if run.promoting:
        run.version = next(iter(_versions(run)), None)


def check_service(run: Commit) -> None:
    """Refuse if the champion is no longer the one compared with, or if a version is pinned.

    If this version is in service already, the pinned one is put back.
    """
    if not run.promoting:
        return
    compared = run.decision.champion_version
    now = service(run.connection, run.name)
    now.require_readable_tag(run.context.commands)
    moved = run.version is not None and now.champion == run.version
    if now.pin is not None:
        if moved:
            apply_pin(run.connection, run.name, now.pin, run.context.commands)
        reason = f"{now.pin.text}; automatic promotion resumes with: {run.context.commands.unpin}"
        run.refuse(measure("not_pinned", now.pin.to_version), reason)
    elif not moved:
        check = measure("champion_unchanged", now.champion, champion=compared)
        if not check.passed:
            run.refuse(check, failure(check, run.decision))


def register_version(run: Commit) -> None:
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


def verify_version(run: Commit) -> None:
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


def set_previous_champion(run: Commit) -> None:
    """Keep the champion that is about to be replaced, for a rollback."""
    if run.promoting and run.decision.champion_version is not None:
        _set_alias(run, PREVIOUS_CHAMPION, run.decision.champion_version)


def set_champion(run: Commit) -> None:
    """Bring the version into service."""
    if run.promoting and run.version is not None:
        _set_alias(run, CHAMPION, run.version)


def end_retirement(run: Commit) -> None:
    """Remove the retirement whose place the version has taken."""
    if not run.promoting:
        return
    retirement = service(run.connection, run.name).retirement
    if retirement is not None and retirement.version != run.version:  # this very version may be retired already
        delete_change(run.connection, run.name)


def write_decision(run: Commit) -> None:
    """Write the decision to the log. From here on it stands."""
    if run.written:
        return
    run.decision = run.decision.model_copy(update={"committed_at": run.lease.now()})
    if run.promoting:
        compared = run.decision.champion_version
        passed = (
            measure("registered_model_identical", 0),
            measure("champion_unchanged", compared, champion=compared),
            measure("not_pinned", None),
        )
        update = {"version": run.version, "checks": _merged(run.decision.checks, *passed)}
        run.decision = run.decision.model_copy(update=update)
    written = append(run.context, run.lease, run.decision)
    if written is None:
        recall_decision(run)
    else:
        run.decision = written
    run.written = True


def discard_version(run: Commit) -> None:
    """Delete what was registered and then refused, or too late: each version that stays has been in service."""
    if run.intent.model is None:
        return
    promoted = run.decision.version if _own(run) else None
    surplus = [version for version in _versions(run) if version != promoted]
    champion = service(run.connection, run.name).champion if surplus else None
    for version in surplus:
        if version != champion:
            run.client.delete_model_version(run.name, str(version))


def delete_retired_candidates(run: Commit) -> None:
    """Delete the files of the candidates that the decision has retired; those of registered versions stay."""
    if _own(run):
        for retired in run.decision.retired_candidates:
            run.lease.require_held()
            delete_candidate(run.context, retired.candidate)


def publish_decision(run: Commit) -> None:
    """Publish the report, which names the version, and what else the run leaves outside MLflow."""
    if not run.intent.publishes or not _own(run):
        return
    content = _artifact(run.connection, run.root, PUBLICATION_FILE, run.run_id)
    try:
        files = run.context.publish(run.decision, content)
    except ValidationError as error:
        cause = f"{PUBLICATION_FILE} is broken: {error.errors()[0]['msg']}"
        raise _lost(run.connection, run.run_id, cause) from error
    for name, file in files.items():
        run.client.log_text(run.run_id, file.decode(), name)


def close_run(run: Commit) -> None:
    """Log the decision that stands, and end the MLflow run."""
    run.client.log_text(run.run_id, run.decision.model_dump_json(indent=2), "decision.json")
    run.client.set_terminated(run.run_id, "FINISHED")


def close_intent(run: Commit) -> None:
    """Close the intent: nothing is left to do."""
    from mlflow.entities import RunTag

    outcome = run.decision.outcome.value if _own(run) else SUPERSEDED
    run.client.log_batch(run.run_id, tags=[RunTag(OUTCOME_TAG, outcome), RunTag(INTENT_TAG, CLOSED)], synchronous=True)


PROTOCOL: tuple[Callable[[Commit], None], ...] = (
    recall_decision,
    recall_version,
    check_service,  # early: a version that is registered and then refused has to be deleted again
    register_version,
    verify_version,
    check_service,
    set_previous_champion,
    set_champion,
    end_retirement,
    check_service,
    write_decision,
    discard_version,
    delete_retired_candidates,
    publish_decision,
    close_run,
    close_intent,
)


def apply_intent(
    context: Context,
    mlflow_run: Any,  # noqa: ANN401
    intent: Intent,
    sample: pd.DataFrame | None = None,
) -> Decision:
    """Apply an intent, from wherever it was left, and return the decision that stands.

    Args:
        context: the registry.
        mlflow_run: the run whose intent it is.
        intent: what to do.
        sample: content of the verification file, if it is at hand.

    Raises:
        ServiceUnavailableError: another process is in these steps and does not end, or has taken over.
    """
    info, as_of = mlflow_run.info, intent.decision.as_of
    begin = partial(
        Commit,
        context=context,
        run_id=info.run_id,
        root=info.artifact_uri,
        intent=intent,
        sample=sample,
        decision=intent.decision,
    )

    def discard(lease: Lease) -> None:
        _discard_late_version(begin(lease=lease))

    with exclusive(context, f"the run of {as_of:%Y-%m-%d %H:%M} UTC", discard) as lease:
        run = begin(lease=lease)
        if _is_settled(run):  # by another process, while this one waited
            return run.decision
        for step in PROTOCOL:
            lease.require_held()
            step(run)
        return run.decision


def resume_intent(context: Context, mlflow_run: Any) -> Decision:  # noqa: ANN401
    """Apply the open intent of a run that was killed."""
    connection = context.connection
    content = _artifact(connection, mlflow_run.info.artifact_uri, INTENT_FILE, mlflow_run.info.run_id)
    try:
        intent = Intent.model_validate_json(content)
    except ValidationError as error:
        cause = f"{INTENT_FILE} is broken: {error.errors()[0]['msg']}"
        raise _lost(connection, mlflow_run.info.run_id, cause) from error
    return apply_intent(context, mlflow_run, intent)


def _is_settled(run: Commit) -> bool:
    """Whether the intent is closed and the decision stands; takes that decision then."""
    if run.client.get_run(run.run_id).data.tags.get(INTENT_TAG) == CLOSED:
        recall_decision(run)
    return run.written


def _discard_late_version(run: Commit) -> None:
    """Delete a version that was created after another process had closed the intent."""
    if _is_settled(run):
        run.lease.require_held()
        discard_version(run)


def _own(run: Commit) -> bool:
    return run.decision.run_id == run.run_id


def _verification(run: Commit) -> pd.DataFrame:
    return pd.read_parquet(BytesIO(_artifact(run.connection, run.root, VERIFICATION_FILE, run.run_id)))


def _artifact(connection: Connection, root: str, name: str, run_id: str) -> bytes:
    try:
        return download(connection, root, name)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError as error:
        raise _lost(connection, run_id, str(error)) from error


def _lost(connection: Connection, run_id: str, cause: str) -> FraudDetectionError:
    return FraudDetectionError(
        f"MLflow run {run_id} at {connection.shown_uri} was killed while it registered its decision, and cannot be"
        f" completed: {cause}; restore its artifacts, or give it up:"
        f" MLFLOW_TRACKING_URI={connection.shown_uri} mlflow runs delete --run-id {run_id}"
    )


def _versions(run: Commit) -> list[int]:
    """The versions made from the run's model, oldest first."""
    found = run.client.search_model_versions(f"name = '{run.name}' and run_id = '{run.run_id}'")
    return sorted(int(version.version) for version in found)


def _create_version(run: Commit) -> None:
    from mlflow.exceptions import MlflowException

    tags = ModelVersionTags(run.decision.as_of, run.decision.training, run.model.sha256, run.model.recipe)
    create = partial(
        run.client.create_model_version,
        run.name,
        f"models:/{run.model.model_id}",
        run_id=run.run_id,
        model_id=run.model.model_id,
        tags=tags.as_tags(),
    )
    try:
        create()
    except MlflowException as error:
        # For a model that does not exist, MLflow's basic-auth answers as for one that the user may not read.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
            raise
        _create_registered_model(run)
        create()


def _create_registered_model(run: Commit) -> None:
    from mlflow.exceptions import MlflowException

    try:
        run.client.create_registered_model(run.name)
    except MlflowException as error:  # a request may be sent twice
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _set_alias(run: Commit, alias: str, version: int) -> None:
    run.client.set_registered_model_alias(run.name, alias, str(version))


def _merged(checks: tuple[Check, ...], *late: Check) -> tuple[Check, ...]:
    """All checks, each name once: a late result replaces an earlier one."""
    return tuple({check.name: check for check in (*checks, *late)}.values())
