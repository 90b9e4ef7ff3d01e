"""How a candidate that a person approves or promotes comes into service: the steps of a decision, with another entry.

The intent is recorded in an MLflow run of its own. A command that was killed is finished by the next command or run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fraud_detection.model.model import Model
from fraud_detection.promotion import Evidence
from fraud_detection.registry.artifacts import ModelVersionTags
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import PROMOTIONS, Action, Intervention
from fraud_detection.registry.lease import Lease
from fraud_detection.registry.log_chain import append
from fraud_detection.registry.mlflow_runs import MODEL_TAG
from fraud_detection.registry.registration import (
    CLOSED,
    INTENT_FILE,
    INTENT_TAG,
    OPEN,
    OUTCOME_TAG,
    SCORE,
    VERIFICATION_FILE,
    LoggedModel,
    Registration,
    check_service,
    discard_version,
    end_retirement,
    lost_intent,
    read_artifact,
    recall_version,
    register_version,
    set_champion,
    set_previous_champion,
    verify_version,
)
from fraud_detection.registry.restoration import exclusive
from fraud_detection.registry.verification import generated_inputs
from fraud_detection.schema import Check, Span, Stored, Threshold

if TYPE_CHECKING:
    import pandas as pd

KIND_TAG = "fraud_detection.kind"
KIND = "promotion by a person"
REFUSED = "refused"
REASON_TAG = "fraud_detection.reason"
"""Why a late check refused."""


class HandIntent(Stored):
    """What a person wants, kept with the MLflow run before any of it is done."""

    request: Intervention
    model: LoggedModel
    training: Span
    as_of: datetime  # of the run that opened the candidate
    description: str  # of the version
    threshold: Threshold | None = None  # of the candidate's newest look that measured one


@dataclass(kw_only=True)
class HandPromotion(Registration):
    """The state of a person's intent between two steps."""

    intent: HandIntent
    entry: Intervention
    """As intended; as in the decision log, once it is written."""
    refusal: str | None = None

    @property
    def compared(self) -> int | None:
        return self.intent.request.from_version

    @property
    def model(self) -> LoggedModel:
        return self.intent.model

    @property
    def promoting(self) -> bool:
        return self.refusal is None and not self.written

    @property
    def registers(self) -> bool:
        return True

    @property
    def promoted(self) -> int | None:
        return self.entry.to_version if self.written else None

    @property
    def tags(self) -> ModelVersionTags:
        intent = self.intent
        by = f"{promotion_word(intent.request.action)} by {intent.request.who}"
        return ModelVersionTags(
            intent.as_of, intent.training, self.model.sha256, self.model.recipe, by, threshold=intent.threshold
        )

    @property
    def description(self) -> str:
        return self.intent.description

    @property
    def spans(self) -> Evidence:
        return Evidence(self.intent.training, self.intent.training)

    def refuse(self, check: Check, reason: str) -> None:  # noqa: ARG002  (the reason says which)
        self.refusal = self.refusal or reason


def promotion_word(action: Action) -> str:
    """How a promotion by a person is marked."""
    return "approved" if action is Action.APPROVE else "override"


def recall_entry(run: HandPromotion) -> None:
    """Take the entry that was written before the command was killed."""
    found = run.context.log.find_intervention(run.entry.action, run.entry.pinned_at)
    if found is not None:
        run.entry, run.written = found, True


def check_candidate(run: HandPromotion) -> None:
    """Refuse a candidate that was rejected meanwhile."""
    if not run.promoting:
        return
    for entry in run.context.log.history():
        if isinstance(entry, Intervention) and entry.candidate == run.entry.candidate:
            if entry.action is Action.REJECT:
                run.refusal = f"the candidate was rejected by {entry.who} meanwhile: {entry.reason}"
            elif entry.action in PROMOTIONS:
                run.refusal = f"the candidate was promoted as version {entry.to_version} by {entry.who} meanwhile"


def write_entry(run: HandPromotion) -> None:
    """Write what the person has done to the log. From here on it stands."""
    if not run.promoting:
        return
    run.entry = run.entry.model_copy(update={"at": run.lease.now(), "to_version": run.version})
    run.entry = append(run.context, run.lease, run.entry) or run.entry
    run.written = True


def close_run(run: HandPromotion) -> None:
    """End the MLflow run, and close the intent: nothing is left to do."""
    from mlflow.entities import RunTag

    outcome = run.entry.action.value if run.written else REFUSED
    tags = {OUTCOME_TAG: outcome, INTENT_TAG: CLOSED} | ({} if run.refusal is None else {REASON_TAG: run.refusal})
    run.client.set_terminated(run.run_id, "FINISHED")
    run.client.log_batch(run.run_id, tags=[RunTag(name, value) for name, value in tags.items()], synchronous=True)


PROTOCOL: tuple[Callable[[HandPromotion], None], ...] = (
    recall_entry,
    recall_version,
    check_candidate,
    check_service,
    register_version,
    verify_version,
    check_service,
    set_previous_champion,
    set_champion,
    end_retirement,
    check_service,
    write_entry,
    discard_version,
    close_run,
)


def begin_promotion(context: Context, intent: HandIntent, model: Model) -> Any:  # noqa: ANN401  (MLflow ships no types)
    """Record an intent in a new MLflow run; from the last request on it comes into force."""
    client, request = context.connection.client, intent.request
    name = f"{context.name} {promotion_word(request.action)} by {request.who}"
    tags = {"mlflow.runName": name, MODEL_TAG: context.name, KIND_TAG: KIND}
    run = client.create_run(context.connection.experiment_id, tags=tags)
    inputs = generated_inputs(model)
    verification = inputs.assign(**{SCORE: model.predict(inputs)})
    with TemporaryDirectory() as folder:
        Path(folder, INTENT_FILE).write_text(intent.model_dump_json(indent=2), encoding="utf-8")
        verification.to_parquet(Path(folder, VERIFICATION_FILE), index=False)
        client.log_artifacts(run.info.run_id, folder)
    client.set_tag(run.info.run_id, INTENT_TAG, OPEN, synchronous=True)
    return run


def apply_promotion(
    context: Context,
    mlflow_run: Any,  # noqa: ANN401
    intent: HandIntent,
    sample: "pd.DataFrame | None" = None,
) -> HandPromotion:
    """Apply an intent, from wherever it was left; the result is written, or says why it was refused.

    Raises:
        ServiceUnavailableError: another process is in these steps and does not end, or has taken over.
    """
    begin = partial(
        HandPromotion,
        context=context,
        run_id=mlflow_run.info.run_id,
        root=mlflow_run.info.artifact_uri,
        intent=intent,
        sample=sample,
        entry=intent.request,
    )

    def discard(lease: Lease) -> None:
        late = begin(lease=lease)
        if _is_settled(late):
            late.lease.require_held()
            discard_version(late)

    with exclusive(context, f"{intent.request.action} by {intent.request.who}", discard) as lease:
        run = begin(lease=lease)
        if _is_settled(run):
            return run
        for step in PROTOCOL:
            lease.require_held()
            step(run)
        return run


def resume_promotion(context: Context, mlflow_run: Any) -> Intervention | None:  # noqa: ANN401
    """Apply the open intent of a command that was killed; None where it is refused now."""
    info = mlflow_run.info
    content = read_artifact(context.connection, info.artifact_uri, INTENT_FILE, info.run_id)
    try:
        intent = HandIntent.model_validate_json(content)
    except ValidationError as error:
        cause = f"{INTENT_FILE} is broken: {error.errors()[0]['msg']}"
        raise lost_intent(context.connection, info.run_id, cause) from error
    done = apply_promotion(context, mlflow_run, intent)
    return done.entry if done.written else None


def _is_settled(run: HandPromotion) -> bool:
    """Whether the intent is closed; takes the entry that stands, if there is one."""
    tags = run.client.get_run(run.run_id).data.tags
    if tags.get(INTENT_TAG) != CLOSED:
        return False
    recall_entry(run)
    if not run.written:
        run.refusal = tags.get(REASON_TAG)
    return True
