"""Takes the looks that a run has opened: loads the models, scores the rows where they lie, and compares."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.commands import Commands
from fraud_detection.evaluation import SliceMetrics
from fraud_detection.features import features_columns, source_columns
from fraud_detection.holdout import blocked_scores_text, collect_first_seen, collect_scored
from fraud_detection.model.model import Model
from fraud_detection.model.scoring import all_inputs
from fraud_detection.promotion import shown_look
from fraud_detection.promotion.checks import measure
from fraud_detection.registry import CandidateChangedError, CandidateLostError
from fraud_detection.runs.first_champion import TakenTest, take_first_test
from fraud_detection.runs.looks import CHAMPION, Look, Scored, TakenLook, score_column, take_look
from fraud_detection.runs.planning import holdout_counts
from fraud_detection.runs.progress import candidate_name
from fraud_detection.runs.retired_columns import MissingColumns, missing_columns
from fraud_detection.runs.shadow import Shadow
from fraud_detection.runs.training import Trainer
from fraud_detection.schema import (
    CandidateKey,
    CandidateRecord,
    Check,
    Floor,
    LookRecord,
    RetirementReason,
    Span,
)
from fraud_detection.transactions.reader import Transactions

EXPLAINED_ROWS = 2_000
"""Rows of the hold-out, about, whose scores the report explains."""


@dataclass(frozen=True)
class Shown:
    """The look that a decision and its report show, with the rows behind it."""

    record: LookRecord
    candidate: CandidateRecord
    model: Model
    rows: pd.DataFrame
    champion_score: NDArray[np.float64] | None
    challenger_score: NDArray[np.float64]
    inputs: tuple[str, ...]
    """In `rows`, of the column `model.scoring.INPUTS`."""
    slices: tuple[SliceMetrics, ...]
    floor: Floor | None


@dataclass(frozen=True)
class GoneCandidate:
    """A candidate that was to be looked at, and cannot be scored any more."""

    key: CandidateKey
    reason: RetirementReason
    text: str


@dataclass(frozen=True)
class Measured:
    """What the looks of a run have measured."""

    looks: tuple[LookRecord, ...] = ()
    shown: Shown | None = None
    gone: tuple[GoneCandidate, ...] = ()
    notes: tuple[str, ...] = ()
    """On the rows that compare them."""

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*(one.text for one in self.gone), *self.notes)


def check_columns(shadow: Shadow, transactions: Transactions, commands: Commands) -> MissingColumns:
    """What the champion is scored without; before anything is trained.

    Raises:
        FraudDetectionError: see `retired_columns.missing_columns`.
    """
    if shadow.champion is None:
        return MissingColumns()
    settings, features = shadow.settings, _feature_columns(transactions, shadow)
    retire = commands.retire_champion(shadow.champion.version)
    return missing_columns(shadow.champion, features, settings.data.retired_columns, retire)


def take_looks(looks: Sequence[Look], shadow: Shadow, trainer: Trainer, missing: MissingColumns) -> Measured:
    """Take looks, which the log has opened.

    A look that was opened against a champion that serves no longer, or at a candidate that cannot be scored any more,
    measures nothing; its risk is spent.
    """
    now = shadow.champion.version if shadow.champion else None
    valid = [look for look in looks if look.key.champion_version == now]
    void = [_void(look, shadow, (_champion_check(look, now),)) for look in looks if look not in valid]
    models, gone = _load(valid, trainer, _feature_columns(trainer.transactions, shadow) if valid else ())
    void += [_void(look, shadow) for look in valid if look.candidate.key not in models]
    takes = [look for look in valid if look.candidate.key in models]
    if not takes:
        return Measured(tuple(void), None, gone)
    with trainer.watch("compare"):
        scored = _score(takes, models, shadow, trainer, missing)
        records, shown = list(void), None
        for look in takes:
            taken = _take(look, scored, models[look.candidate.key], shadow)
            records.append(taken.record)
            if shown is None or shown_look([shown.record, taken.record]) is taken.record:
                shown = taken  # the rows of the others are let go
        note = blocked_scores_text(scored.rows, CHAMPION)
    return Measured(tuple(records), shown, gone, () if note is None else (note,))


def void_looks(looks: Sequence[Look], shadow: Shadow, checks: tuple[Check, ...]) -> Measured:
    """Looks that were opened and are not taken, because of checks that failed since; their risk is spent."""
    return Measured(tuple(_void(look, shadow, checks) for look in looks))


def _load(
    looks: Sequence[Look], trainer: Trainer, features: Sequence[str]
) -> tuple[dict[CandidateKey, Model], tuple[GoneCandidate, ...]]:
    """The models by the key of their candidate, and the candidates that cannot be scored."""
    models: dict[CandidateKey, Model] = {}
    gone = []
    for look in looks:
        key = look.candidate.key
        try:
            model = trainer.load(look.candidate)
        except (CandidateLostError, CandidateChangedError) as error:
            gone.append(GoneCandidate(key, RetirementReason.LOST, str(error)))
            continue
        lost = sorted({*source_columns(model.missing_columns(pd.DataFrame(columns=list(features)))).values()})
        if lost:
            text = f"{candidate_name(key)} reads {', '.join(lost)}, which the settings no longer map; it is retired"
            gone.append(GoneCandidate(key, RetirementReason.COLUMNS_GONE, text))
        else:
            models[key] = model
    return models, tuple(gone)


def _feature_columns(transactions: Transactions, shadow: Shadow) -> Sequence[str]:
    """The columns of the Features rows."""
    return features_columns(transactions, shadow.settings, shadow.as_of)


def _score(
    looks: Sequence[Look], models: dict[CandidateKey, Model], shadow: Shadow, trainer: Trainer, missing: MissingColumns
) -> Scored:
    transactions, settings = trainer.transactions, shadow.settings
    start, end = min(look.span.start for look in looks), max(look.span.end for look in looks)
    content = {score_column(look.candidate): models[look.candidate.key].to_bytes() for look in looks}
    if shadow.champion is not None:
        content[CHAMPION] = shadow.champion.model.to_bytes()
    inputs = all_inputs([*models.values(), *([shadow.champion.model] if shadow.champion is not None else [])])
    sample = EXPLAINED_ROWS / max(1, holdout_counts(transactions.profile, start, end, 0).transactions)
    rows = collect_scored(transactions, start, end, content, settings, missing.features, sample)
    first_seen = None
    if "customer_id" in rows:
        since = start - timedelta(days=settings.comparison.new_card_days)
        first_seen = collect_first_seen(transactions, since, end)
    frauds = trainer.frauds.covering(look.span for look in looks)
    return Scored(rows, inputs, frauds, first_seen, transactions.profile.first)


def _take(look: Look, scored: Scored, model: Model, shadow: Shadow) -> Shown:
    if look.key.champion_version is None:
        return _first_shown(take_first_test(look, scored, shadow.settings), look, model, scored.inputs)
    return _shown(take_look(look, scored, shadow.rule, shadow.settings), look, model, scored.inputs)


def _shown(taken: TakenLook, look: Look, model: Model, inputs: tuple[str, ...]) -> Shown:
    return Shown(
        record=taken.record,
        candidate=look.candidate,
        model=model,
        rows=taken.rows,
        champion_score=taken.champion_score,
        challenger_score=taken.challenger_score,
        inputs=inputs,
        slices=taken.comparison.slices if taken.comparison else (),
        floor=None,
    )


def _first_shown(taken: TakenTest, look: Look, model: Model, inputs: tuple[str, ...]) -> Shown:
    return Shown(
        record=taken.record,
        candidate=look.candidate,
        model=model,
        rows=taken.rows,
        champion_score=None,
        challenger_score=taken.score,
        inputs=inputs,
        slices=taken.measured.slices if taken.measured else (),
        floor=taken.measured.floor if taken.measured else None,
    )


def _champion_check(look: Look, now: int | None) -> Check:
    return measure("champion_unchanged", now, champion=look.key.champion_version)


def _void(look: Look, shadow: Shadow, checks: tuple[Check, ...] = ()) -> LookRecord:
    """A look that measured nothing."""
    return LookRecord(
        candidate=look.candidate.key,
        champion_version=look.key.champion_version,
        number=look.key.number,
        training=look.candidate.training,
        holdout=Span(start=look.span.start, end=look.span.end, transactions=0, frauds=0),
        fraud_cards=0,
        champion=None,
        challenger=None,
        difference=None,
        root=None,
        lower_bound=None,
        limits=None,
        risk=shadow.rule.risk_per_look,
        checks=checks,
        passed=False,
    )
