"""Candidates in MLflow: a frozen model each, in a run of its own, until it is retired.

A candidate is found by its key, so freezing it once more changes nothing. Only the last step, a tag, says that it is
frozen: a run that was killed before it is ended and replaced. Its files are deleted when it is retired; the log has
what it takes to train it again. A candidate that the log does not name was never opened: a decision deletes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.model.model import Model
from fraud_detection.registry.artifacts import MODEL_FILE, delete_artifacts, digest, download, log_model
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import LogEntry
from fraud_detection.registry.lease import Lease
from fraud_detection.registry.mlflow_runs import AS_OF_TAG, MODEL_TAG, search_runs, utc
from fraud_detection.registry.restoration import exclusive
from fraud_detection.registry.verification import generated_inputs
from fraud_detection.schema import CandidateKey, CandidateRecord, Decision, Opening, Span

KEY_TAG = "fraud_detection.candidate"
STATE_TAG = "fraud_detection.candidate_state"
FROZEN, RETIRED, REPLACED, UNOPENED = "frozen", "retired", "replaced", "unopened"
DISCARDED = (RETIRED, REPLACED, UNOPENED)
"""States of candidates whose files are deleted."""
_SHA256_TAG, _MODEL_ID_TAG = "fraud_detection.sha256", "fraud_detection.model_id"


class CandidateLostError(FraudDetectionError):
    """The model of a candidate is missing or damaged; it can be trained again."""


class CandidateChangedError(FraudDetectionError):
    """Training a candidate again gave another model."""


@dataclass(frozen=True)
class NewCandidate:
    """What is known of a candidate before it is frozen; see `CandidateRecord`."""

    key: CandidateKey
    training: Span
    growth: float
    seed: int
    opened_at: datetime
    backfilled: bool = False
    drifted: tuple[str, ...] = ()


def freeze(context: Context, candidate: NewCandidate, model: Model) -> CandidateRecord:
    """Keep the model of a candidate, unless it is kept already; see `Registry.freeze_candidate`."""
    sha256 = digest(model.to_bytes())
    with exclusive(context, f"freezing the candidate of {candidate.key.label_cutoff:%Y-%m-%d %H:%M} UTC") as lease:
        for run in _frozen_runs(context, candidate.key):
            record = _record(candidate, run)
            if record.sha256 == sha256 and _is_whole(context, record):
                return record
        for run in _unretired_runs(context, candidate.key):
            lease.require_held()
            _discard(context, run, REPLACED)
        lease.require_held()
        return _freeze(context, candidate, model, sha256)


def restore(context: Context, record: CandidateRecord, model: Model) -> CandidateRecord:
    """Keep the model of a lost candidate again, trained once more; see `Registry.restore_candidate`."""
    found = digest(model.to_bytes())
    if found != record.sha256:
        raise CandidateChangedError(
            f"the candidate of {record.key.label_cutoff:%Y-%m-%d %H:%M} UTC was lost, and training it again gave"
            f" another model (SHA-256 {found[:12]}…, expected {record.sha256[:12]}…): its data or its code have"
            " changed; it cannot be looked at any more"
        )
    known = ("key", "training", "growth", "seed", "opened_at", "backfilled", "drifted")
    return freeze(context, NewCandidate(**{name: getattr(record, name) for name in known}), model)


def locate(context: Context, record: CandidateRecord) -> CandidateRecord:
    """The record with the run and the model that hold the candidate now: another run's, if it was restored.

    Raises:
        CandidateLostError: none does.
    """
    if _is_whole(context, record):
        return record
    for run in _frozen_runs(context, record.key):
        tags = run.data.tags
        update = {"run_id": run.info.run_id, "model_id": tags.get(_MODEL_ID_TAG, "")}
        found = record.model_copy(update=update)
        if tags.get(_SHA256_TAG) == record.sha256 and _is_whole(context, found):
            return found
    raise CandidateLostError(
        f"the model of the candidate of {record.key.label_cutoff:%Y-%m-%d %H:%M} UTC (MLflow run {record.run_id} at"
        f" {context.connection.shown_uri}) is missing or damaged; expected {MODEL_FILE} with SHA-256"
        f" {record.sha256[:12]}…; it has to be trained again"
    )


def load(context: Context, record: CandidateRecord) -> Model:
    """The model of a candidate.

    Raises:
        CandidateLostError: it is missing or damaged.
    """
    return Model.from_bytes(_content(context, locate(context, record)))


def delete(context: Context, key: CandidateKey) -> None:
    """Delete the files of a candidate, except those of a registered version; see `Registry.delete_candidate`."""
    for run in _unretired_runs(context, key):
        _discard(context, run, RETIRED)


def delete_unopened(context: Context, lease: Lease, decided: datetime) -> None:
    """Delete the runs of candidates that runs before this as-of time froze, and that no entry of the log names.

    Their runs were killed before they wrote an opening. One that is still alive cannot write it any more: the log has a
    decision that it does not know of. Only the holder of the lease may, before it releases the lease with which it
    wrote that decision: a run that has read the log since then freezes its candidates afterwards. A version's files and
    run stay.
    """
    suspects = [run for run in _living_runs(context) if _as_of(run) < decided and not _has_own_entry(context, run)]
    if not suspects:
        return
    named = {key_text(key) for entry in context.log.entries() for key in _keys(entry)}
    for run in suspects:
        if run.data.tags[KEY_TAG] in named:  # a later run has found it frozen, and opened it
            continue
        lease.require_held()
        if _discard(context, run, UNOPENED):
            context.connection.client.delete_run(run.info.run_id)


def _living_runs(context: Context) -> list[Any]:
    """The runs of candidates that are frozen, or half frozen."""
    states = (f"tags.`{STATE_TAG}` = '{FROZEN}'", f"tags.`{STATE_TAG}` = '{UNOPENED}'", f"tags.`{STATE_TAG}` IS NULL")
    found = (run for state in states for run in search_runs(context, f"tags.`{KEY_TAG}` IS NOT NULL and {state}"))
    return list(found)


def _as_of(run: Any) -> datetime:  # noqa: ANN401
    """Of the run that froze a candidate."""
    return datetime.fromisoformat(run.data.tags[AS_OF_TAG])


def _has_own_entry(context: Context, run: Any) -> bool:  # noqa: ANN401
    """Whether the run that froze a candidate opened it, or decided on it as a refit."""
    entries = (find(_as_of(run)) for find in (context.log.find_opening, context.log.find))
    return any(run.data.tags[KEY_TAG] == key_text(key) for entry in entries if entry for key in _keys(entry))


def _keys(entry: LogEntry) -> Iterator[CandidateKey]:
    """The candidates that an entry names."""
    if isinstance(entry, Opening):
        yield from (record.key for record in entry.candidates)
        yield from (look.candidate for look in entry.looks)
    elif isinstance(entry, Decision):
        yield from (look.candidate for look in entry.looks)
        yield from entry.opened
        yield from (retired.candidate for retired in entry.retired_candidates)
        yield from () if entry.refit is None else (entry.refit.winner, entry.refit.refit.key)
    elif entry.candidate is not None:
        yield entry.candidate


def _freeze(context: Context, candidate: NewCandidate, model: Model, sha256: str) -> CandidateRecord:
    from mlflow.entities import RunTag

    client = context.connection.client
    run_id = client.create_run(context.connection.experiment_id, tags=_tags(context, candidate)).info.run_id
    model_id = log_model(context.connection, run_id, model, generated_inputs(model))
    client.set_terminated(run_id, "FINISHED")
    known = {_SHA256_TAG: sha256, _MODEL_ID_TAG: model_id, STATE_TAG: FROZEN}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in known.items()], synchronous=True)
    return _record(candidate, client.get_run(run_id))


def _discard(context: Context, run: Any, state: str) -> bool:  # noqa: ANN401  (MLflow ships no types)
    """Delete the models of a run. False, and nothing is deleted, if a version was registered from it."""
    client, run_id = context.connection.client, run.info.run_id
    models = logged_models(context, run_id)
    # Of any name: a model may have been renamed. MLflow does not keep the model's id of every version; its source,
    # models:/ID or the files' place, has it.
    of_models = (f"source_path LIKE '%{logged.model_id}%'" for logged in models)
    if any(client.search_model_versions(wanted) for wanted in (f"run_id = '{run_id}'", *of_models)):
        return False
    for logged in models:
        delete_artifacts(context.connection, logged.artifact_location)
        client.delete_logged_model(logged.model_id)
    if run.info.status == "RUNNING":
        client.set_terminated(run_id, "KILLED")
    client.set_tag(run_id, STATE_TAG, state, synchronous=True)
    return True


def _tags(context: Context, candidate: NewCandidate) -> dict[str, str]:
    key, training = candidate.key, candidate.training
    return {
        "mlflow.runName": f"{context.name} {'refit' if key.refit else 'candidate'} {key.label_cutoff:%Y-%m-%d %H:%M}",
        MODEL_TAG: context.name,
        AS_OF_TAG: utc(candidate.opened_at),
        KEY_TAG: key_text(key),
        "fraud_detection.kind": "refit" if key.refit else "candidate",
        "fraud_detection.recipe": key.recipe,
        "fraud_detection.label_cutoff": utc(key.label_cutoff),
        "fraud_detection.training": f"{utc(training.start)}/{utc(training.end)}",
    }


def key_text(key: CandidateKey) -> str:
    """A candidate as its tag names it."""
    return f"{utc(key.label_cutoff)} {key.recipe}" + (" refit" if key.refit else "")


def _runs(context: Context, key: CandidateKey) -> list[Any]:
    """The candidate's runs, newest first."""
    found = search_runs(context, f"tags.`{KEY_TAG}` = '{key_text(key)}'")
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id), reverse=True)


def _unretired_runs(context: Context, key: CandidateKey) -> list[Any]:
    return [run for run in _runs(context, key) if run.data.tags.get(STATE_TAG) in (None, FROZEN)]


def _frozen_runs(context: Context, key: CandidateKey) -> list[Any]:
    return [run for run in _runs(context, key) if run.data.tags.get(STATE_TAG) == FROZEN]


def _record(candidate: NewCandidate, run: Any) -> CandidateRecord:  # noqa: ANN401
    return CandidateRecord(
        key=candidate.key,
        training=candidate.training,
        growth=candidate.growth,
        seed=candidate.seed,
        opened_at=candidate.opened_at,
        backfilled=candidate.backfilled,
        drifted=candidate.drifted,
        run_id=run.info.run_id,
        model_id=run.data.tags[_MODEL_ID_TAG],
        sha256=run.data.tags[_SHA256_TAG],
    )


def _is_whole(context: Context, record: CandidateRecord) -> bool:
    try:
        content = _content(context, record)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError:
        return False
    return digest(content) == record.sha256


def _content(context: Context, record: CandidateRecord) -> bytes:
    """The file of a model.

    Raises:
        FraudDetectionError: it does not exist.
    """
    # Not by its id: a server with accounts refuses to say that a model does not exist.
    for logged in logged_models(context, record.run_id):
        if logged.model_id == record.model_id:
            return download(context.connection, logged.artifact_location, MODEL_FILE)
    raise FraudDetectionError(f"model {record.model_id} of MLflow run {record.run_id} does not exist")


def logged_models(context: Context, run_id: str) -> list[Any]:
    """The models that a run has logged, except deleted ones."""
    experiments = [context.connection.experiment_id]
    return list(context.connection.client.search_logged_models(experiments, f"source_run_id = '{run_id}'"))
