"""Values of the library's schema, complete and valid, of which a test names only what matters to it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fraud_detection.schedule import Schedule
from fraud_detection.schema import (
    AlertFigures,
    CandidateKey,
    CandidateRecord,
    Check,
    Decision,
    Difference,
    Estimate,
    LookKey,
    LookLimitsRecord,
    LookRecord,
    Metrics,
    Opening,
    Outcome,
    RollbackLook,
    Span,
    Threshold,
)

MODEL_NAME = "fraud_detection"


def span(start: datetime, end: datetime, transactions: int = 600, frauds: int = 60) -> Span:
    """Transactions of [start, end)."""
    return Span(start=start, end=end, transactions=transactions, frauds=frauds)


def metrics(
    average_precision: float = 0.7, roc_auc: float = 0.9, card_precision_at_100: float | None = 0.3, brier: float = 0.01
) -> Metrics:
    """One model on the hold-out."""
    return Metrics(
        average_precision=average_precision, roc_auc=roc_auc, card_precision_at_100=card_precision_at_100, brier=brier
    )


def decision(outcome: Outcome, as_of: datetime, champion_version: int | None = None, **changes: Any) -> Decision:
    """The decision of a run that compared a challenger with that champion, or with none."""
    window = span(as_of - timedelta(days=30), as_of - timedelta(days=14))
    known: dict[str, Any] = {
        "outcome": outcome,
        "reason": "better by average precision",
        "version": None,
        "champion_version": champion_version,
        "model_name": MODEL_NAME,
        "as_of": as_of,
        "decided_at": datetime.now(UTC),
        "run_id": None,
        "training": window,
        "holdout": window,
        "champion": None if champion_version is None else metrics(),
        "challenger": metrics(),
        "difference": Difference(value=0.02, low=0.011, high=0.03, confidence=0.95),
        "checks": (Check(name="minimum_effect", value=0.02, limit=0.01, passed=outcome is Outcome.PROMOTED),),
        "rejected": {"duplicate_id": 2},
        "warnings": (),
        "seconds": {"read": 1.0},
        "report": "reports/20180822T000000Z.html",
    }
    return Decision.model_validate(known | changes)


def candidate_record(label_cutoff: datetime, recipe: str = "recipe", **changes: Any) -> CandidateRecord:
    """A candidate that was opened at its label cut-off."""
    trained = span(label_cutoff - timedelta(days=35), label_cutoff - timedelta(days=7))
    known: dict[str, Any] = {
        "key": CandidateKey(label_cutoff, recipe),
        "training": trained,
        "growth": 1.5,
        "seed": 7,
        "opened_at": label_cutoff,
        "backfilled": False,
        "run_id": "run",
        "model_id": "m-1",
        "sha256": "0" * 64,
    }
    return CandidateRecord.model_validate(known | changes)


def look_record(key: CandidateKey, as_of: datetime, number: int = 1, **changes: Any) -> LookRecord:
    """A look at a candidate that did not pass."""
    known: dict[str, Any] = {
        "candidate": key,
        "champion_version": 1,
        "number": number,
        "training": span(key.label_cutoff - timedelta(days=35), key.label_cutoff - timedelta(days=7)),
        "holdout": span(key.label_cutoff - timedelta(days=7), as_of - timedelta(days=7)),
        "fraud_cards": 30,
        "champion": metrics(),
        "challenger": metrics(0.72),
        "difference": Difference(value=0.02, low=-0.01, high=0.05, confidence=0.95),
        "root": 1.1,
        "lower_bound": -0.04,
        "limits": LookLimitsRecord(root=3.9, difference_for_unseen_cards=0.28, difference_that_matters=0.01),
        "risk": 0.05 / 270,
        "checks": (Check(name="not_pinned", value=None, limit=None, passed=True),),
        "passed": False,
    }
    return LookRecord.model_validate(known | changes)


def rollback_look(as_of: datetime, **changes: Any) -> RollbackLook:
    """A look at version 1, the predecessor of champion 2, which passed."""
    known: dict[str, Any] = {
        "key": {"champion_version": 2, "predecessor_version": 1, "number": 1},
        "holdout": span(as_of - timedelta(days=14), as_of - timedelta(days=7)),
        "fraud_cards": 60,
        "champion": metrics(),
        "predecessor": metrics(0.8),
        "difference": Difference(value=0.1, low=0.05, high=0.15, confidence=0.95),
        "root": 4.2,
        "limits": LookLimitsRecord(root=2.7, difference_for_unseen_cards=0.09, difference_that_matters=0.01),
        "risk": 0.005,
        "checks": (Check(name="minimum_effect", value=0.1, limit=0.01, passed=True),),
        "passed": True,
    }
    return RollbackLook.model_validate(known | changes)


def alert_figures(start: datetime, end: datetime, **changes: Any) -> AlertFigures:
    """What a threshold gives on [start, end)."""
    known: dict[str, Any] = {
        "start": start,
        "end": end,
        "alerts_a_day": 97.25,
        "most_alerts": 131,
        "precision": 0.29,
        "recall": 0.61,
        "value_precision": 0.42,
        "value_recall": 0.73,
        "value_a_day": Estimate(value=2310.5, low=1904.0, high=2717.0, confidence=0.95),
        "net_value_a_day": None,
    }
    return AlertFigures.model_validate(known | changes)


def threshold(start: datetime, **changes: Any) -> Threshold:
    """The threshold of a model, fitted on four days from `start` on and checked on three."""
    middle, end = start + timedelta(days=4), start + timedelta(days=7)
    known: dict[str, Any] = {
        "probability": 0.1 + 0.2,  # all its digits count
        "cards_a_day": 100,
        "review_cost": None,
        "loss_share": 1.0,
        "fitted": alert_figures(start, middle),
        "checked": alert_figures(middle, end, alerts_a_day=103.0),
    }
    return Threshold.model_validate(known | changes)


def opening(
    as_of: datetime, candidates: tuple[CandidateRecord, ...] = (), looks: tuple[LookKey, ...] = (), **changes: Any
) -> Opening:
    """What the run at an as-of time is about to measure."""
    known: dict[str, Any] = {
        "model_name": MODEL_NAME,
        "as_of": as_of,
        "opened_at": datetime.now(UTC),
        "code_revision": None,
        "candidates": candidates,
        "looks": looks,
    }
    return Opening.model_validate(known | changes)


def schedule(as_of: datetime, **changes: Any) -> Schedule:
    """What a run leaves that compared no candidate with version 12; the next candidate is opened a day later."""
    known: dict[str, Any] = {
        "model_name": MODEL_NAME,
        "as_of": as_of,
        "written_at": as_of + timedelta(minutes=5),
        "champion_version": 12,
        "compared_with": 12,
        "next_candidate_at": as_of + timedelta(days=1),
        "look_every_hours": 6,
        "block": None,
        "late_frauds_a_day": 0.0,
        "looks": (),
    }
    return Schedule.model_validate(known | changes)
