"""The charts and counts of a report, without any row of data, so that they can be stored as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fraud_detection.evaluation import SliceMetrics
from fraud_detection.report import plots
from fraud_detection.report.data import FloatArray, ReportData
from fraud_detection.schema import Decision
from fraud_detection.settings import ComparisonSettings


@dataclass(frozen=True)
class Drawing:
    """What a page shows besides the decision itself; see `ReportData` for what each is."""

    precision_recall: plots.Plot | None
    calibration: plots.Plot | None
    timeline: plots.Timeline | None
    scored: tuple[str, ...]
    """The roles (champion, challenger) whose scores were at hand."""
    has_holdout: bool
    fraud_rate: float | None
    """Of the hold-out."""
    history_start: datetime | None
    """The earliest moment that a feature looks back to."""
    comparison: ComparisonSettings | None
    rows_read: int | None
    faults: Mapping[str, str]
    quarantine: str | None
    reasons: Mapping[str, str]
    slices: tuple[SliceMetrics, ...]
    importances: Mapping[str, float]
    data_fingerprint: str | None
    rollback_command: str | None
    unpin_command: str | None = None  # publications of earlier releases have none


def draw(decision: Decision, data: ReportData) -> Drawing:
    """Draw what does not depend on how the decision comes out; of the decision only its spans are used."""
    fraud, scores = data.fraud, _scores(data)
    amount = {"amount": data.amount} if data.amount is not None and "champion" not in scores else {}
    curves = None if fraud is None or not scores else plots.precision_recall(fraud, {**amount, **scores})
    return Drawing(
        precision_recall=curves,
        calibration=plots.calibration(fraud, scores) if fraud is not None and scores else None,
        timeline=plots.timeline(decision, data.daily),
        scored=tuple(scores),
        has_holdout=fraud is not None,
        fraud_rate=float(fraud.mean()) if fraud is not None and fraud.size else None,
        history_start=data.windows.history_start if data.windows else None,
        comparison=data.settings.comparison if data.settings else None,
        rows_read=data.rows_read,
        faults=data.faults,
        quarantine=data.quarantine,
        reasons=data.reasons,
        slices=data.slices,
        importances=data.importances,
        data_fingerprint=data.data_fingerprint,
        rollback_command=data.rollback_command,
        unpin_command=data.unpin_command,
    )


def _scores(data: ReportData) -> dict[str, FloatArray]:
    """The scores at hand by role, the champion first so that the challenger is drawn over it."""
    both = (("champion", data.champion_score), ("challenger", data.challenger_score))
    return {role: score for role, score in both if score is not None}
