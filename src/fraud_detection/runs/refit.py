"""Trains a winner once more, on all labels known by now, and finds out whether that model may serve in its place."""

from dataclasses import dataclass

import numpy as np

from fraud_detection.holdout import collect_scored
from fraud_detection.model.model import Model
from fraud_detection.promotion import RefitScores, check_refit
from fraud_detection.promotion.checks import failure
from fraud_detection.registry import CandidateLostError
from fraud_detection.runs.comparison import Shown
from fraud_detection.runs.shadow import PlannedCandidate, Shadow
from fraud_detection.runs.training import Trainer
from fraud_detection.sampling import labelled, naive
from fraud_detection.schema import CandidateKey, CandidateRecord, RefitRecord
from fraud_detection.settings import Mode
from fraud_detection.time_windows import refit_spans

_REFIT, _WINNER = "refit", "winner"


@dataclass(frozen=True)
class Refit:
    """A winner's refit, with the model where it serves."""

    record: RefitRecord
    model: Model | None
    warnings: tuple[str, ...]


def refit_winner(shown: Shown | None, shadow: Shadow, trainer: Trainer) -> Refit | None:
    """Train the winner once more, and keep it in MLflow; None where there is nothing to refit.

    The winner that returns against its own refit serves as it is: the refit has just lost to it. A person who approves
    a winner approves what was evaluated, so approval mode refits nothing. A winner of other settings than this run's
    cannot be trained again.
    """
    if shown is None or not shown.record.passed or not _wanted(shown.candidate.key, shadow, trainer):
        return None
    settings, as_of, winner = shadow.settings, shadow.as_of, shown.candidate
    spans = refit_spans(as_of, settings.windows, label_times=settings.has_label_times)
    planned = PlannedCandidate(CandidateKey(as_of, winner.key.recipe, refit=True), spans, backfilled=False)
    record = trainer.freeze(planned, trainer.sample(spans), as_of, winner.growth)
    model = _load(record, trainer)
    with trainer.watch("compare"):
        checks = check_refit(None if model is None else _scores(model, shown, record, trainer))
    serves = all(check.passed for check in checks)
    found = RefitRecord(winner=winner.key, refit=record, checks=checks, serves=serves)
    wrong = "; ".join(failure(check, shown.record) for check in found.failed)
    warnings = () if serves else (f"the refit of the winner does not serve: {wrong}; the winner serves as evaluated",)
    return Refit(found, model if serves else None, warnings)


def _wanted(winner: CandidateKey, shadow: Shadow, trainer: Trainer) -> bool:
    promotion = shadow.settings.promotion
    returns = shadow.champion is not None and shadow.champion.refit_of == winner
    return (
        promotion.refit_winner and promotion.mode is Mode.AUTOMATIC and not returns and winner.recipe == trainer.recipe
    )


def _load(record: CandidateRecord, trainer: Trainer) -> Model | None:
    """The refit as it would serve: from its files, whose digest is verified."""
    try:
        return trainer.registry.load_candidate(record)
    except CandidateLostError:
        return None


def _scores(model: Model, shown: Shown, refit: CandidateRecord, trainer: Trainer) -> RefitScores:
    """Of the rows that compared the winner, in their order, and of the younger ones that trained the refit."""
    span, settings = shown.record.holdout, trainer.settings
    end = max(span.end, refit.training.end)
    models = {_REFIT: model.to_bytes(), _WINNER: shown.model.to_bytes()}
    rows = collect_scored(trainer.transactions, span.start, end, models, settings)
    own = rows.set_index("transaction_id")[_REFIT].loc[shown.rows["transaction_id"]]
    young = labelled(rows[rows["transaction_time"] >= naive(span.end)], refit.key.label_cutoff, settings)
    return RefitScores(
        fraud=shown.rows["fraud"].to_numpy(),
        winner=shown.challenger_score,
        refit=own.to_numpy(np.float64),
        young_fraud=young["fraud"].to_numpy(),
        young_winner=young[_WINNER].to_numpy(np.float64),
    )
