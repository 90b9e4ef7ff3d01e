"""What the report of a run shows besides its decision."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from fraud_detection.commands import Commands
from fraud_detection.evaluation.card_contributions import card_codes, investigated
from fraud_detection.evaluation.metrics import card_precision_by_day
from fraud_detection.model.attribution import Attribution, attributions
from fraud_detection.model.scoring import INPUTS
from fraud_detection.promotion.sequential import risk_ledger
from fraud_detection.registry.decision_log import Action, Intervention, LogEntry
from fraud_detection.report import DailyCounts, ReportData
from fraud_detection.report.data import DailyPrecision, LabelDelays, LoggedLook, ShadowData
from fraud_detection.runs.comparison import Shown
from fraud_detection.runs.proposal import Evidence, InputData, windows_of
from fraud_detection.runs.request import Request
from fraud_detection.sampling import naive
from fraud_detection.schema import CandidateKey, Decision
from fraud_detection.time_windows import RunWindows
from fraud_detection.transactions.profile import HourlyDelays, Profile
from fraud_detection.transactions.rules import REASONS

SETTLED = timedelta(days=28)
"""Nearly all labels have arrived then."""


def report_data(
    request: Request, data: InputData, evidence: Evidence, decision: Decision, commands: Commands
) -> ReportData:
    """Gather what the report shows besides the decision."""
    shown = evidence.measured.shown
    windows = windows_of(decision.training, decision.holdout, decision.as_of, request.settings)
    explained, rows = _attributions(shown) if shown else ((), 0)
    return ReportData(
        fraud=shown.rows["fraud"].to_numpy() if shown else None,
        champion_score=shown.champion_score if shown else None,
        challenger_score=shown.challenger_score if shown else None,
        amount=shown.rows["amount"].to_numpy() if shown else None,
        windows=windows,
        settings=request.settings,
        daily=_daily(data.profile, windows),
        rows_read=data.profile.rows,
        faults=data.profile.faults,
        quarantine=data.quarantine,
        slices=shown.slices if shown else (),
        importances=shown.model.importance() if shown else {},
        attributions=explained,
        attributed_rows=rows,
        card_precision=_card_precision(shown) if shown else None,
        shadow=shadow_data(evidence, decision.as_of),
        label_delays=label_delays(data.profile.delays_by_hour, data.profile.newest),
        health=evidence.health,
        data_fingerprint=decision.data_fingerprint,
        reasons=REASONS,
        override=override_text(decision.champion_version, evidence.log),
        rollback_command=commands.without_reason("rollback"),
        unpin_command=commands.unpin,
    )


def override_text(version: int | None, log: Iterable[LogEntry]) -> str | None:
    """Who promoted a version without the promotion rule, when and why; None if nobody did."""
    overrides = (one for one in log if isinstance(one, Intervention) and one.action is Action.PROMOTE)
    found = next((one for one in overrides if version is not None and one.to_version == version), None)
    if found is None:
        return None
    return f"v{version} came into service as an override by {found.who}, {found.at:%Y-%m-%d %H:%M} UTC: {found.reason}"


def _attributions(shown: Shown) -> tuple[tuple[Attribution, ...], int]:
    """The SHAP values of the challenger on the sample of the hold-out, and the rows of the sample."""
    found = shown.rows[INPUTS].dropna()
    places = [shown.inputs.index(name) for name in shown.model.inputs]
    values = np.stack([np.asarray(row, np.float32) for row in found])[:, places] if len(found) else np.empty((0, 0))
    return attributions(shown.model, values.astype(np.float32)), len(found)


def _card_precision(shown: Shown) -> DailyPrecision | None:
    """By day; None where it cannot tell models apart."""
    if shown.record.challenger is None or shown.record.challenger.card_precision_at_100 is None:
        return None
    day, fraud = shown.rows["day"].to_numpy(), shown.rows["fraud"].to_numpy()
    card = shown.rows["customer_id"].to_numpy() if "customer_id" in shown.rows else None
    looked_up = investigated(card)
    chosen = slice(None) if looked_up is None else looked_up
    card = None if card is None else card_codes(card, len(day))[0][chosen]
    day, fraud = day[chosen], fraud[chosen]
    champion, challenger = (
        None if score is None else card_precision_by_day(day, card, fraud, score[chosen])
        for score in (shown.champion_score, shown.challenger_score)
    )
    begin = np.datetime64(naive(shown.record.holdout.start), "h")
    days = begin + 24 * np.unique(day).astype(np.int64)
    return DailyPrecision(days, champion, np.zeros(0) if challenger is None else challenger)


def shadow_data(evidence: Evidence, as_of: datetime) -> ShadowData:
    measured, plan = evidence.measured, evidence.plan
    taken = plan.shadow.with_looks(look.key for look in measured.looks)
    counts = {one.look.candidate: one.counts for one in plan.next_looks}
    shown = measured.shown
    now = [LoggedLook(as_of, shown.record)] if shown else []
    earlier = _looks_at(shown.record.candidate, evidence.log, as_of) if shown else []
    return ShadowData(
        risk=taken.rule.risk,
        ledger=risk_ledger(taken.entries, as_of, taken.rule),
        next_looks=taken.following_looks(counts),
        records=taken.records,
        life=(*earlier, *now),
    )


def _looks_at(candidate: CandidateKey, log: Iterable[LogEntry], as_of: datetime) -> list[LoggedLook]:
    """The looks that earlier decisions record of a candidate, oldest first."""
    decisions = (entry for entry in log if isinstance(entry, Decision) and entry.as_of < as_of)
    found = (LoggedLook(entry.as_of, look) for entry in decisions for look in entry.looks)
    return sorted((one for one in found if one.record.candidate == candidate), key=lambda one: one.as_of)


def label_delays(delays: HourlyDelays, newest: datetime) -> LabelDelays | None:
    """The share of the frauds that were known, by hours since their transaction; None without label times.

    Of transactions that are `SETTLED` older than the newest: of younger ones only fast labels have arrived.
    """
    if not len(delays.hours):
        return None
    settled = delays.hours < np.datetime64(naive(newest - SETTLED), "h")
    hours = np.maximum(delays.delay_hours[settled], 0)
    counts = np.bincount(hours, weights=delays.frauds[settled])
    total = int(counts.sum())
    return LabelDelays(np.arange(len(counts)), np.cumsum(counts) / max(1, total), total)


def _daily(profile: Profile, windows: RunWindows) -> DailyCounts:
    hours = profile.hours_between(windows.training_start, windows.as_of)
    days, which = np.unique(profile.hours[hours].astype("datetime64[D]"), return_inverse=True)

    def by_day(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(which, weights=counts[hours], minlength=len(days)).astype(np.int64)

    return DailyCounts(days, by_day(profile.transactions_by_hour), by_day(profile.frauds_by_hour))
