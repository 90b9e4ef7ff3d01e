"""The looks of one run: which hold-out each compares on, and what it measures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.evaluation import Comparison, Holdout, compare, fit_threshold
from fraud_detection.evaluation.empirical_likelihood import lower_bound, signed_root
from fraud_detection.holdout import HoldoutSpan, are_new_cards, count_frauds, holdout_rows
from fraud_detection.promotion.rule import check_look
from fraud_detection.promotion.sequential import LookLimits, SequentialRule, look_limits
from fraud_detection.schema import CandidateRecord, LookKey, LookLimitsRecord, LookRecord, Span
from fraud_detection.settings import Settings
from fraud_detection.time_windows import matured_until, training_gap

CHAMPION = "champion"
"""The column of the champion's scores; a candidate's is named by `score_column`."""


@dataclass(frozen=True)
class Look:
    """One look that a run has opened."""

    key: LookKey
    candidate: CandidateRecord
    span: HoldoutSpan


@dataclass(frozen=True)
class Scored:
    """What all looks of a run share: rows that cover every hold-out, with the scores of every model."""

    rows: pd.DataFrame
    inputs: tuple[str, ...]
    """In `rows`, of the column `model.scoring.INPUTS`."""
    frauds: pd.DataFrame
    first_seen: "pd.Series[Any] | None"
    """See `holdout.collect_first_seen`; None where the data has no card ids."""
    data_start: datetime


@dataclass(frozen=True)
class TakenLook:
    """A look with its measurements and the rows behind them."""

    record: LookRecord
    rows: pd.DataFrame
    comparison: Comparison | None
    champion_score: NDArray[np.float64]
    challenger_score: NDArray[np.float64]


def score_column(candidate: CandidateRecord) -> str:
    """The column of a candidate's scores."""
    return f"candidate {candidate.key.recipe} {candidate.key.label_cutoff.isoformat()}"


def holdout_span(
    candidate: CandidateRecord,
    champion_training_end: datetime,
    as_of: datetime,
    first_seen: datetime | None,
    settings: Settings,
) -> HoldoutSpan:
    """The rows on which a candidate can be compared with the champion: neither was trained on them.

    Args:
        candidate: of the comparison.
        champion_training_end: of the comparison.
        as_of: of the run.
        first_seen: when the candidate's settings were first seen; they may have been tuned on earlier rows. None where
            earlier rows are trusted.
        settings: of the run.
    """
    start = max(candidate.training.end, champion_training_end) + training_gap(settings.windows)
    start = start if first_seen is None else max(start, first_seen)
    end = matured_until(as_of, settings.windows)
    return HoldoutSpan(min(start, end), end, as_of, candidate.training.end, candidate.key.label_cutoff)


def take_look(look: Look, scored: Scored, rule: SequentialRule, settings: Settings) -> TakenLook:
    """Compare a candidate with the champion."""
    rows = holdout_rows(scored.rows, scored.frauds, look.span, settings)
    counts = count_frauds(rows)
    champion, challenger = (rows[name].to_numpy(np.float64) for name in (CHAMPION, score_column(look.candidate)))
    holdout = as_holdout(rows, scored, settings)
    measured = compare(holdout, champion, challenger, settings.comparison)
    limits = look_limits(counts.fraud_cards, rule)
    record = _record(look, rows, counts.fraud_cards, measured, limits, rule, settings)
    if measured is not None:
        threshold = fit_threshold(holdout, challenger, look.span.start, look.span.end, settings.alerts)
        record = record.model_copy(update={"threshold": threshold})
    return TakenLook(record, rows, measured, champion, challenger)


def _record(
    look: Look,
    rows: pd.DataFrame,
    fraud_cards: int,
    measured: Comparison | None,
    limits: LookLimits,
    rule: SequentialRule,
    settings: Settings,
) -> LookRecord:
    span = Span(start=look.span.start, end=look.span.end, transactions=len(rows), frauds=int(rows["fraud"].sum()))
    root = None if measured is None else signed_root(measured.contributions.contribution)
    checks = () if measured is None or root is None else check_look(measured, root, limits, settings)
    return LookRecord(
        candidate=look.candidate.key,
        champion_version=look.key.champion_version,
        number=look.key.number,
        training=look.candidate.training,
        holdout=span,
        fraud_cards=fraud_cards,
        champion=measured and measured.champion,
        challenger=measured and measured.challenger,
        difference=measured and measured.difference,
        root=root,
        lower_bound=measured and lower_bound(measured.contributions, limits.root),
        limits=LookLimitsRecord(
            root=limits.root,
            difference_for_unseen_cards=limits.difference_for_unseen_cards,
            difference_that_matters=limits.difference_that_matters,
        ),
        risk=rule.risk_per_look,
        checks=checks,
        passed=bool(checks) and all(check.passed for check in checks),
        by_card="customer_id" in rows,
    )


def as_holdout(rows: pd.DataFrame, scored: Scored, settings: Settings) -> Holdout:
    """The rows of a hold-out as the comparison takes them."""
    cards = "customer_id" in rows
    new_card = None
    if cards and scored.first_seen is not None:
        new_card = are_new_cards(rows, scored.first_seen, scored.data_start, settings.comparison.new_card_days)
    return Holdout(
        day=rows["day"].to_numpy(),
        fraud=rows["fraud"].to_numpy(),
        amount=rows["amount"].to_numpy(),
        card=rows["customer_id"].to_numpy() if cards else None,
        new_card=new_card,
        categories={column: rows[column].to_numpy() for column in settings.comparison.slices},
    )
