"""The charts and counts of a report, without any row of data, so that they can be stored as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fraud_detection.evaluation import SliceMetrics
from fraud_detection.model.attribution import Attribution
from fraud_detection.report import plots
from fraud_detection.report.data import FloatArray, ReportData
from fraud_detection.report.shadow import Shadow, draw_shadow
from fraud_detection.schema import Check, Decision
from fraud_detection.settings import ComparisonSettings
from fraud_detection.window_spans import span_text


@dataclass(frozen=True)
class LabelDelayCurve:
    """When frauds became known, against the settings."""

    dated: bool
    """Whether the data have label times."""
    plot: plots.Plot | None
    maturity: str
    label_delay: str
    known_at_maturity: float | None
    """The share of the frauds that were known then."""
    frauds: int


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
    # Publications of earlier releases have none of these.
    unpin_command: str | None = None
    override: str | None = None
    attributions: tuple[Attribution, ...] = ()
    attributed_rows: int = 0
    card_precision: plots.Plot | None = None
    shadow: Shadow | None = None
    label_delays: LabelDelayCurve | None = None
    health: tuple[Check, ...] = ()
    """The checks of the data."""
    volume_band: plots.Plot | None = None
    """The transactions of the newest days, and between which limits they were expected."""
    fraud_band: plots.Plot | None = None
    """Likewise of the frauds of the matured days."""


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
        override=data.override,
        attributions=data.attributions,
        attributed_rows=data.attributed_rows,
        card_precision=plots.card_precision(data.card_precision) if data.card_precision is not None else None,
        shadow=draw_shadow(data.shadow) if data.shadow is not None else None,
        label_delays=_label_delays(data),
        health=data.health.verdict.checks if data.health is not None else (),
        volume_band=plots.count_band(data.health.volume) if data.health is not None else None,
        fraud_band=plots.count_band(data.health.frauds) if data.health is not None else None,
    )


def _label_delays(data: ReportData) -> LabelDelayCurve | None:
    if data.settings is None:
        return None
    windows, observed = data.settings.windows, data.label_delays
    maturity, delay = span_text(windows.maturity_days), span_text(windows.label_delay_days)
    curve = LabelDelayCurve(observed is not None, None, maturity, delay, None, 0)
    if observed is None or not observed.frauds:
        return curve
    before = observed.share[observed.hours <= round(24 * windows.maturity_days)]
    return replace(
        curve,
        plot=plots.label_delays(observed, windows.maturity_days),
        known_at_maturity=float(before[-1]) if len(before) else 0.0,
        frauds=observed.frauds,
    )


def _scores(data: ReportData) -> dict[str, FloatArray]:
    """The scores at hand by role, the champion first so that the challenger is drawn over it."""
    both = (("champion", data.champion_score), ("challenger", data.challenger_score))
    return {role: score for role, score in both if score is not None}
