"""A decision with all that a run found, logged to an MLflow run whose open intent the commit protocol applies."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fraud_detection.model.model import Model
from fraud_detection.registry.artifacts import digest, log_model
from fraud_detection.registry.commit import PUBLICATION_FILE, Intent, apply_intent, resume_intent
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import Entry
from fraud_detection.registry.mlflow_runs import AS_OF_TAG, MODEL_TAG, search_runs, utc
from fraud_detection.registry.promotion_by_hand import KIND, KIND_TAG, resume_promotion
from fraud_detection.registry.registration import (
    INTENT_FILE,
    INTENT_TAG,
    OPEN,
    SCORE,
    VERIFICATION_FILE,
    LoggedModel,
)
from fraud_detection.registry.verification import generated_inputs
from fraud_detection.schema import CandidateRecord, Decision, Metrics, Outcome

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_RUN = timedelta(days=1)
_LONGEST_VALUE = 5000  # of an MLflow parameter or tag
_PARAMETERS_A_BATCH = 100


@dataclass(frozen=True)
class RunRecord:
    """What a run logs beside its decision.

    Args:
        challenger: the model to promote.
        candidate: what MLflow holds of it already: these files become the version. Without it they are logged now.
        publication: what to publish once the decision is final.
        parameters: nested settings.
        tags: to find the run by, such as the data's fingerprint and the code's revision.
    """

    challenger: Model | None = None
    candidate: CandidateRecord | None = None
    publication: bytes | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Promotion:
    """A model to promote, with generated rows as its booster takes them and the score of each."""

    model: Model
    verification: "pd.DataFrame"


def record_decision(context: Context, decision: Decision, record: RunRecord) -> Decision:
    """Log a run, and apply its decision; see `Registry.record`."""
    promotion = _promotion(decision, record.challenger)
    run = _create_run(context, decision, record.tags)
    given = decision.model_copy(update={"run_id": run.info.run_id})
    model = None if promotion is None else _logged_model(context.connection, given, promotion, record.candidate)
    intent = Intent(decision=given, model=model, publishes=record.publication is not None)
    _log_values(context.connection, given, record.parameters, model)
    files = {INTENT_FILE: intent.model_dump_json(indent=2).encode()}
    if promotion is not None:
        files[VERIFICATION_FILE] = promotion.verification.to_parquet(index=False)
    if record.publication is not None:
        files[PUBLICATION_FILE] = record.publication
    _log_files(context.connection, run.info.run_id, files)
    context.connection.client.set_tag(run.info.run_id, INTENT_TAG, OPEN, synchronous=True)
    return apply_intent(context, run, intent, None if promotion is None else promotion.verification)


def resume_open_intents(context: Context) -> tuple[Entry, ...]:
    """Apply what killed runs and commands left open, in the order in which they began; the entries that stand."""
    runs = search_runs(context, f"tags.`{INTENT_TAG}` = '{OPEN}'")
    entries = (_resume(context, run) for run in sorted(runs, key=lambda run: int(run.info.start_time)))
    return tuple(entry for entry in entries if entry is not None)


def end_abandoned_runs(context: Context, as_of: datetime | None) -> None:
    """Mark runs as killed that have no intent: those of this as-of time, and those that began more than a day ago.

    Younger runs of other as-of times may be alive.
    """
    oldest = (datetime.now(UTC) - _LONGEST_RUN).timestamp() * 1000
    for run in search_runs(context, "attributes.status = 'RUNNING'"):
        same = as_of is not None and run.data.tags.get(AS_OF_TAG) == utc(as_of)
        if INTENT_TAG not in run.data.tags and (same or run.info.start_time < oldest):
            context.connection.client.set_terminated(run.info.run_id, "KILLED")


def loggable(connection: Connection, value: object) -> str:
    """A parameter or tag as MLflow may keep it: without passwords, and no longer than it allows."""
    text = connection.masked(str(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _resume(context: Context, run: Any) -> Entry | None:  # noqa: ANN401
    return (resume_promotion if run.data.tags.get(KIND_TAG) == KIND else resume_intent)(context, run)


def _promotion(decision: Decision, challenger: Model | None) -> _Promotion | None:
    if decision.outcome is not Outcome.PROMOTED:
        return None
    if challenger is None:
        raise ValueError("a promotion needs the challenger")
    inputs = generated_inputs(challenger)
    return _Promotion(challenger, inputs.assign(**{SCORE: challenger.predict(inputs)}))


def _create_run(context: Context, decision: Decision, tags: Mapping[str, str]) -> Any:  # noqa: ANN401
    known = {
        "mlflow.runName": f"{context.name} {decision.as_of:%Y-%m-%d %H:%M}",
        MODEL_TAG: context.name,
        AS_OF_TAG: utc(decision.as_of),
        "fraud_detection.training": f"{decision.training.start.isoformat()}/{decision.training.end.isoformat()}",
        "fraud_detection.holdout": f"{decision.holdout.start.isoformat()}/{decision.holdout.end.isoformat()}",
    }
    known |= {f"fraud_detection.{name}": loggable(context.connection, value) for name, value in tags.items()}
    begun = decision.decided_at - timedelta(seconds=sum(decision.seconds.values()))
    return context.connection.client.create_run(
        context.connection.experiment_id, start_time=int(begun.timestamp() * 1000), tags=known
    )


def _logged_model(
    connection: Connection, decision: Decision, promotion: _Promotion, candidate: CandidateRecord | None
) -> LoggedModel:
    """The files to register: those of a candidate, or logged now."""
    if candidate is not None:
        return LoggedModel(model_id=candidate.model_id, sha256=candidate.sha256, recipe=candidate.key.recipe)
    inputs = promotion.verification.drop(columns=SCORE)
    model_id = log_model(connection, str(decision.run_id), promotion.model, inputs)
    return LoggedModel(model_id=model_id, sha256=digest(promotion.model.to_bytes()))


def _log_values(
    connection: Connection, decision: Decision, parameters: Mapping[str, object], model: LoggedModel | None
) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    run_id, model_id = decision.run_id, None if model is None else model.model_id
    metrics = [Metric(name, value, now, 0, model_id=model_id) for name, value in _metrics(decision).items()]
    params = [Param(name, loggable(connection, value)) for name, value in _flat(parameters).items()]
    client = connection.client
    client.log_batch(run_id, metrics=metrics, params=params[:_PARAMETERS_A_BATCH], synchronous=True)
    for begin in range(_PARAMETERS_A_BATCH, len(params), _PARAMETERS_A_BATCH):
        client.log_batch(run_id, params=params[begin : begin + _PARAMETERS_A_BATCH], synchronous=True)


def _log_files(connection: Connection, run_id: str, files: Mapping[str, bytes]) -> None:
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        connection.client.log_artifacts(run_id, folder)


def _metrics(decision: Decision) -> dict[str, float]:
    found: dict[str, float] = {}
    for role, metrics in (("champion", decision.champion), ("challenger", decision.challenger)):
        if isinstance(metrics, Metrics):
            found |= {f"{role}_{name}": value for name, value in metrics.model_dump(exclude_none=True).items()}
    if decision.difference is not None:
        found |= {f"difference_{name}": value for name, value in decision.difference.model_dump().items()}
    for role, span in (("training", decision.training), ("holdout", decision.holdout)):
        found |= {f"{role}_transactions": span.transactions, f"{role}_frauds": span.frauds}
    if (counts := decision.data_counts) is not None:
        of_data = {
            "last_day_transactions": counts.last_day,
            "age_hours": counts.age_hours,
            "label_delay_days": counts.label_delay_days,
        }
        found |= {f"data_{name}": float(value) for name, value in of_data.items() if value is not None}
    return found


def _flat(parameters: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested settings by their dotted names."""
    found: dict[str, object] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
