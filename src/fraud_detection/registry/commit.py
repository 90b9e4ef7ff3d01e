"""How a decision comes into force: a fixed sequence of steps. The process may be killed between any two of them.

MLflow offers no transactions and no compare-and-set. So a run first records what it is going to do (its intent: the
decision, and for a promotion generated rows to verify the registered model with), and then does it. Every step can be
repeated: it checks what exists already. The next run repeats the steps of any intent that is still open. Only the
holder of the model's lease takes these steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fraud_detection.errors import FraudDetectionError
from fraud_detection.promotion import shown_look, summarise
from fraud_detection.promotion.checks import measure
from fraud_detection.registry.artifacts import ModelVersionTags, download
from fraud_detection.registry.candidates import delete as delete_candidate
from fraud_detection.registry.candidates import delete_unopened
from fraud_detection.registry.context import Context
from fraud_detection.registry.lease import Lease
from fraud_detection.registry.log_chain import append
from fraud_detection.registry.registration import (
    CLOSED,
    INTENT_FILE,
    INTENT_TAG,
    OUTCOME_TAG,
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
from fraud_detection.schema import Check, Decision, Outcome, Stored

if TYPE_CHECKING:
    import pandas as pd

PUBLICATION_FILE = "publication.json"
SUPERSEDED = "superseded"
"""Outcome of a run whose as-of time another run had decided before."""


class Intent(Stored):
    """What a run is going to do, kept with the MLflow run before it does any of it."""

    decision: Decision
    model: LoggedModel | None  # of promotions only
    publishes: bool = False  # whether there is a publication file; runs of earlier releases have none


@dataclass(kw_only=True)
class Commit(Registration):
    """The state of a run's intent between two steps."""

    intent: Intent
    decision: Decision
    """As intended, until a late check refuses; as in the decision log, once it is written."""

    @property
    def compared(self) -> int | None:
        return self.decision.champion_version

    @property
    def model(self) -> LoggedModel:
        if self.intent.model is None:
            raise FraudDetectionError(f"MLflow run {self.run_id} intends a promotion without a model; delete the run")
        return self.intent.model

    @property
    def promoting(self) -> bool:
        return self.decision.outcome is Outcome.PROMOTED and not self.written

    @property
    def registers(self) -> bool:
        return self.intent.model is not None

    @property
    def promoted(self) -> int | None:
        return self.decision.version if _own(self) else None

    @property
    def tags(self) -> ModelVersionTags:
        decision, refit = self.decision, self.decision.refit
        winner = refit.winner.label_cutoff if refit is not None and refit.serves else None
        look = shown_look(decision.looks)
        return ModelVersionTags(
            decision.as_of,
            decision.served_training,
            self.model.sha256,
            self.model.recipe,
            refit_of=winner,
            threshold=None if look is None else look.threshold,
        )

    @property
    def description(self) -> str:
        return summarise(self.decision)

    @property
    def spans(self) -> Decision:
        return self.decision

    def refuse(self, check: Check, reason: str) -> None:
        checks = _merged(self.decision.checks, check)
        update = {"outcome": Outcome.REFUSED, "reason": reason, "checks": checks, "version": None}
        self.decision = self.decision.model_copy(update=update)


def recall_decision(run: Commit) -> None:
    """Take the decision that is in the log already, written by this run before it was killed, or by another."""
    found = run.context.log.find(run.intent.decision.as_of)
    if found is not None:
        run.decision, run.written = found, True


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


def delete_retired_candidates(run: Commit) -> None:
    """Delete the files of the candidates that the decision has retired, and those of a refit that does not serve.

    Files of registered versions stay.
    """
    if not _own(run):
        return
    keys = [retired.candidate for retired in run.decision.retired_candidates]
    refit = run.intent.decision.refit
    if refit is not None and not (refit.serves and run.decision.outcome is Outcome.PROMOTED):
        keys.append(refit.refit.key)
    for key in keys:
        run.lease.require_held()
        delete_candidate(run.context, key)


def delete_unopened_candidates(run: Commit) -> None:
    """Delete what runs froze that were killed before their opening."""
    if _own(run):
        delete_unopened(run.context, run.lease, run.decision.as_of)


def publish_decision(run: Commit) -> None:
    """Publish the report, which names the version, and what else the run leaves outside MLflow."""
    if not run.intent.publishes or not _own(run):
        return
    content = read_artifact(run.connection, run.root, PUBLICATION_FILE, run.run_id)
    try:
        files = run.context.publish(run.decision, content)
    except ValidationError as error:
        cause = f"{PUBLICATION_FILE} is broken: {error.errors()[0]['msg']}"
        raise lost_intent(run.connection, run.run_id, cause) from error
    for name, file in files.items():
        run.client.log_text(run.run_id, file.decode(), name)


def publish_again(context: Context, decision: Decision) -> None:
    """Publish what belongs to a decision of the log once more; see `Registry.publish_again`."""
    with exclusive(context, f"publishing the run of {decision.as_of:%Y-%m-%d %H:%M} UTC again"):
        root = context.connection.client.get_run(str(decision.run_id)).info.artifact_uri
        context.publish(decision, download(context.connection, root, PUBLICATION_FILE))


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
    delete_unopened_candidates,
    publish_decision,
    close_run,
    close_intent,
)


def apply_intent(
    context: Context,
    mlflow_run: Any,  # noqa: ANN401
    intent: Intent,
    sample: "pd.DataFrame | None" = None,
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
    content = read_artifact(connection, mlflow_run.info.artifact_uri, INTENT_FILE, mlflow_run.info.run_id)
    try:
        intent = Intent.model_validate_json(content)
    except ValidationError as error:
        cause = f"{INTENT_FILE} is broken: {error.errors()[0]['msg']}"
        raise lost_intent(connection, mlflow_run.info.run_id, cause) from error
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


def _merged(checks: tuple[Check, ...], *late: Check) -> tuple[Check, ...]:
    """All checks, each name once: a late result replaces an earlier one."""
    return tuple({check.name: check for check in (*checks, *late)}.values())
