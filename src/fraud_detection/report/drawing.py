"""A run's evidence as it is drawn: curves and counts, without any row of data, so that it can be kept as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fraud_detection.evaluation import SliceMetrics
from fraud_detection.report import plots
from fraud_detection.report.evidence import FloatArray, ReportData
from fraud_detection.schema import Decision
from fraud_detection.settings import Comparison


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
    comparison: Comparison | None
    rows_read: int | None
    faults: Mapping[str, str]
    quarantine: str | None
    reasons: Mapping[str, str]
    slices: tuple[SliceMetrics, ...]
    importances: Mapping[str, float]
    data_fingerprint: str | None
    rollback_command: str | None


def draw(decision: Decision, evidence: ReportData) -> Drawing:
    """Draw what does not depend on how the decision comes out; of the decision only its spans are used."""
    fraud, scores = evidence.fraud, _scores(evidence)
    amount = {"amount": evidence.amount} if evidence.amount is not None and "champion" not in scores else {}
    curves = None if fraud is None or not scores else plots.precision_recall(fraud, {**amount, **scores})
    return Drawing(
        precision_recall=curves,
        calibration=plots.calibration(fraud, scores) if fraud is not None and scores else None,
        timeline=plots.timeline(decision, evidence.daily),
        scored=tuple(scores),
        has_holdout=fraud is not None,
        fraud_rate=float(fraud.mean()) if fraud is not None and fraud.size else None,
        history_start=evidence.windows.history_start if evidence.windows else None,
        comparison=evidence.settings.comparison if evidence.settings else None,
        rows_read=evidence.rows_read,
        faults=evidence.faults,
        quarantine=evidence.quarantine,
        reasons=evidence.reasons,
        slices=evidence.slices,
        importances=evidence.importances,
        data_fingerprint=evidence.data_fingerprint,
        rollback_command=evidence.rollback_command,
    )


def _scores(evidence: ReportData) -> dict[str, FloatArray]:
    """The scores at hand by role, the champion first so that the challenger is drawn over it."""
    both = (("champion", evidence.champion_score), ("challenger", evidence.challenger_score))
    return {role: score for role, score in both if score is not None}
