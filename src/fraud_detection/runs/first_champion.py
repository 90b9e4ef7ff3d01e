"""The test of a model where no champion is in service."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.evaluation import FirstTest, fit_threshold, measure_alone
from fraud_detection.holdout import HoldoutSpan, count_frauds, holdout_rows
from fraud_detection.promotion.rule import check_first_champion
from fraud_detection.runs.looks import Look, Scored, as_holdout, score_column
from fraud_detection.schema import LookRecord, Span
from fraud_detection.settings import Settings
from fraud_detection.time_windows import CandidateSpans, matured_until, training_gap

if TYPE_CHECKING:
    from fraud_detection.transactions.profile import Profile


@dataclass(frozen=True)
class TakenTest:
    """The test with its measurements and the rows behind them."""

    record: LookRecord
    rows: pd.DataFrame
    measured: FirstTest | None
    score: NDArray[np.float64]


def first_holdout(spans: CandidateSpans, as_of: datetime, settings: Settings) -> HoldoutSpan:
    """The hold-out of a first champion: the youngest `holdout_days` that have matured."""
    start = spans.training_end + training_gap(settings.windows)
    return HoldoutSpan(start, matured_until(as_of, settings.windows), as_of, spans.training_end, spans.label_cutoff)


def frauds_only(profile: "Profile", training: Span, holdout: Span | None, settings: Settings) -> str:
    """Why nothing can be learned or compared where a window has no genuine payment; empty where each has one.

    Args:
        profile: of the data.
        training: what a candidate would be trained on.
        holdout: what a first champion would be compared on; None beside a champion.
        settings: of the run.
    """
    used = profile.transactions_by_hour - profile.left_out_by_hour(settings.data)
    for name, span in (("training window", training), ("hold-out", holdout)):
        if span is None:
            continue
        hours = profile.hours_between(span.start, span.end)
        rows = min(span.transactions, int(used[hours].sum()))
        if 0 < rows <= max(span.frauds, int(profile.frauds_by_hour[hours].sum())):
            return (
                f"the {name} {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d} holds one class only: all {rows:,} labelled"
                " transactions are frauds; expected: genuine ones, too; next: give all transactions, or correct"
                " data.columns.fraud"
            )
    return ""


def take_first_test(look: Look, scored: Scored, settings: Settings) -> TakenTest:
    """Compare a model with the floor."""
    rows = holdout_rows(scored.rows, scored.frauds, look.span, settings)
    score = rows[score_column(look.candidate)].to_numpy(np.float64)
    holdout = as_holdout(rows, scored, settings)
    measured = measure_alone(holdout, score, settings.comparison)
    checks = () if measured is None else check_first_champion(measured)
    span = Span(start=look.span.start, end=look.span.end, transactions=len(rows), frauds=int(rows["fraud"].sum()))
    threshold = None
    if measured is not None:
        threshold = fit_threshold(holdout, score, look.span.start, look.span.end, settings.alerts)
    record = LookRecord(
        candidate=look.candidate.key,
        champion_version=None,
        number=look.key.number,
        training=look.candidate.training,
        holdout=span,
        fraud_cards=count_frauds(rows).fraud_cards,
        champion=None,
        challenger=measured and measured.challenger,
        difference=measured and measured.difference,
        root=None,
        lower_bound=None,
        limits=None,
        risk=settings.comparison.risk,
        checks=checks,
        passed=bool(checks) and all(check.passed for check in checks),
        by_card="customer_id" in rows,
        threshold=threshold,
    )
    return TakenTest(record, rows, measured, score)
