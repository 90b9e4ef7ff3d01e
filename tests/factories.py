"""Values of the library's schema, complete and valid, of which a test names only what matters to it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fraud_detection.schema import Check, Decision, Difference, Metrics, Outcome, Span

MODEL_NAME = "fraud_detection"


def span(start: datetime, end: datetime, transactions: int = 600, frauds: int = 60) -> Span:
    """Transactions of [start, end)."""
    return Span(start=start, end=end, transactions=transactions, frauds=frauds)


def metrics(
    average_precision: float = 0.7, roc_auc: float = 0.9, card_precision_at_100: float = 0.3, brier: float = 0.01
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
