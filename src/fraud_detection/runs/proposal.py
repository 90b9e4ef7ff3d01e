"""The decision that a run proposes; the registry brings it into force."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fraud_detection.data_health.examination import Health
from fraud_detection.monitoring.service_weeks import ServiceWeek
from fraud_detection.outputs import report_file
from fraud_detection.promotion import explain_checks, explain_floor, explain_measurement, refit_line
from fraud_detection.registry import Champion, Retirement
from fraud_detection.registry.aliases import Pin
from fraud_detection.registry.candidate_names import candidate_name
from fraud_detection.registry.decision_log import LogEntry
from fraud_detection.registry.predecessor import rollback_reason
from fraud_detection.revision import code_revision
from fraud_detection.runs.alarms import Alarms
from fraud_detection.runs.comparison import Measured
from fraud_detection.runs.planning import Plan, holdout_counts
from fraud_detection.runs.refit import Refit
from fraud_detection.runs.request import Request
from fraud_detection.schema import (
    SCHEMA_VERSION,
    Alarm,
    CandidateRecord,
    Check,
    DataCounts,
    Decision,
    LookRecord,
    Outcome,
    RetirementReason,
    RetirementRecord,
    RollbackLook,
    Span,
)
from fraud_detection.settings import Columns, Mode, Settings
from fraud_detection.storage import open_folder
from fraud_detection.time_windows import (
    LOOK_BACK_DAYS,
    CandidateSpans,
    RunWindows,
    compared_windows,
    history_before,
    run_windows,
    whole_hour,
)
from fraud_detection.transactions.coverage import coverage_warnings
from fraud_detection.transactions.profile import Profile

_MOST = 0.5


@dataclass(frozen=True)
class InputData:
    """What the run needs of its input when the engine has stopped."""

    profile: Profile
    counts: DataCounts
    quarantine: str | None
    """Path or URL of the rejected rows; None if there are none."""
    previous: Decision | None


@dataclass(frozen=True)
class Serving:
    """What was in service when the run began: a champion, or none and perhaps the one that was retired."""

    champion: Champion | None
    pin: Pin | None
    retirement: Retirement | None
    commands: int
    """Of people, in the log before this was read."""
    weeks: tuple[ServiceWeek, ...] = ()
    """What the versions were worth in the weeks of their service, oldest first."""


@dataclass(frozen=True)
class Evidence:
    """What a run has opened and measured."""

    plan: Plan
    opened: tuple[CandidateRecord, ...]
    measured: Measured
    warnings: tuple[str, ...]
    log: tuple[LogEntry, ...] = ()
    """As it was before the run, up to its as-of time and beyond."""
    health: Health | None = None
    """For the report."""
    refit: Refit | None = None
    rollback: RollbackLook | None = None


def propose(
    request: Request, data: InputData, serving: Serving, evidence: Evidence, as_of: datetime, seconds: dict[str, float]
) -> Decision:
    """The decision as the promotion rule made it; the registry fills in the version and the MLflow run."""
    settings, champion, retirement, shown = (
        request.settings,
        serving.champion,
        serving.retirement,
        evidence.measured.shown,
    )
    outcome, reason, checks = _verdict(evidence, request, as_of)
    training, holdout = _spans(data.profile, evidence, as_of, settings)
    look = shown.record if shown else None
    windows = windows_of(training, holdout, as_of, settings)
    return Decision(
        schema_version=SCHEMA_VERSION,
        outcome=outcome,
        reason=_reason(reason, outcome, retirement, evidence, as_of),
        version=None,
        champion_version=champion.version if champion else None,
        model_name=settings.model_name,
        as_of=as_of,
        decided_at=request.clock,
        run_id=None,
        training=training,
        holdout=holdout,
        champion=look.champion if look else None,
        challenger=look.challenger if look else None,
        difference=look.difference if look else None,
        floor=shown.floor if shown else None,
        checks=checks,
        rejected=data.profile.rejected,
        warnings=_warnings(data, windows, settings) + evidence.warnings,
        seconds=seconds,
        report=open_folder(request.output).url(report_file(settings.model_name, as_of)),
        retired_version=retirement.version if retirement else None,
        code_revision=code_revision(),
        data_fingerprint=data.profile.fingerprint(windows.history_start, windows.holdout_end),
        alarms=() if outcome is Outcome.PROMOTED else _alarms(request, data, serving, evidence, as_of),
        looks=evidence.measured.looks,
        opened=tuple(record.key for record in evidence.opened),
        retired_candidates=_retired(evidence, outcome),
        refit=evidence.refit.record if evidence.refit else None,
        drift=evidence.health.drift if evidence.health else None,
        data_counts=data.counts,
        rollback_look=evidence.rollback,
        cost=request.cluster_price.cost_until(datetime.now(UTC)) if request.cluster_price else None,
    )


def late_decision(request: Request, as_of: datetime, newest: datetime) -> Decision:
    """The answer to an as-of time before one that was decided; it is not logged."""
    windows = run_windows(as_of, request.settings.windows)
    training, holdout = (
        Span(start=start, end=end, transactions=0, frauds=0)
        for start, end in (
            (windows.training_start, windows.training_end),
            (windows.holdout_start, windows.holdout_end),
        )
    )
    return Decision(
        schema_version=SCHEMA_VERSION,
        outcome=Outcome.NO_DECISION,
        reason=f"{as_of:%Y-%m-%d %H:%M} is before {newest:%Y-%m-%d %H:%M}, the newest as-of time in the decision log:"
        " its looks would come after theirs; nothing was opened; next: give no --as-of, or a later one",
        version=None,
        champion_version=None,
        model_name=request.settings.model_name,
        as_of=as_of,
        decided_at=request.clock,
        run_id=None,
        training=training,
        holdout=holdout,
        champion=None,
        challenger=None,
        difference=None,
        checks=(),
        rejected={},
        warnings=(),
        seconds={},
        report=None,
        code_revision=code_revision(),
    )


def _verdict(evidence: Evidence, request: Request, as_of: datetime) -> tuple[Outcome, str, tuple[Check, ...]]:
    """Promoted, or left to a person, if a look has passed, refused if none of those taken has, else no decision."""
    shown, planned = evidence.measured.shown, evidence.plan
    difference = shown.record.difference if shown else None
    if shown is None or difference is None:
        looks = evidence.measured.looks
        if not looks:
            return Outcome.NO_DECISION, planned.reason, planned.checks
        reason = _unmeasured(evidence, looks[0])
        outcome = Outcome.NO_DECISION if looks[0].champion_version is None else Outcome.REFUSED
        return outcome, reason, looks[0].checks
    record = shown.record
    reason = f"{explain_measurement(difference, shown.floor)}; {explain_checks(record.checks, record)}"
    if not record.passed and shown.floor is not None:
        reason += explain_floor(difference, shown.floor, record.holdout.frauds)
    if record.passed and request.settings.promotion.mode is Mode.APPROVAL:
        return Outcome.NEEDS_REVIEW, f"{reason}; {_approval(record, evidence, request, as_of)}", record.checks
    if evidence.refit is not None:
        reason += f"; {refit_line(evidence.refit.record)}"
    return Outcome.PROMOTED if record.passed else Outcome.REFUSED, reason, record.checks


def _unmeasured(evidence: Evidence, look: LookRecord) -> str:
    """Why looks that were opened have measured nothing."""
    if evidence.health is not None and evidence.health.verdict.stops:
        return f"{evidence.health.verdict.reason}; what the interrupted run has opened is not measured"
    if look.checks:
        return explain_checks(look.checks, look)
    return "; ".join(evidence.measured.warnings) or (
        f"look {look.number} measured nothing: of {look.holdout.transactions:,} labelled transactions in the hold-out"
        f" {look.holdout.start:%Y-%m-%d} to {look.holdout.end:%Y-%m-%d} {look.holdout.frauds:,} are frauds; expected:"
        " frauds and genuine ones; next: look at the labels"
    )


def _approval(record: LookRecord, evidence: Evidence, request: Request, as_of: datetime) -> str:
    """How a person promotes the winner."""
    until = as_of + timedelta(days=request.settings.promotion.approval_days)
    name = candidate_name(record.candidate, evidence.plan.shadow.records)
    return f"it waits for approval until {until:%Y-%m-%d %H:%M}: {request.commands.approve(name)}"


def _spans(profile: Profile, evidence: Evidence, as_of: datetime, settings: Settings) -> tuple[Span, Span]:
    """Training and hold-out: of the look that is shown, else of the youngest candidate in shadow."""
    shown, planned = evidence.measured.shown, evidence.plan
    if shown is not None:
        return shown.record.training, shown.record.holdout
    windows = run_windows(as_of, settings.windows)
    spans = planned.shadow.spans()
    if planned.training is not None or not spans:
        training = planned.training or Span(
            start=windows.training_start, end=windows.training_end, transactions=0, frauds=0
        )
        holdout = planned.holdout or holdout_counts(profile, windows.holdout_start, windows.holdout_end, 0)
        return training, holdout
    youngest = max(spans)
    counts = {one.look.candidate: one.counts.frauds for one in planned.next_looks}
    span = spans[youngest]
    holdout = holdout_counts(profile, span.start, span.end, counts.get(youngest, 0))
    return planned.shadow.records[youngest].training, holdout


def windows_of(training: Span, holdout: Span, as_of: datetime, settings: Settings) -> RunWindows:
    """The spans of a run that compared on these."""
    history = history_before(training.start, as_of - holdout.end)
    spans = CandidateSpans(as_of, training.start, training.end, history)
    return compared_windows(as_of, spans, holdout.start, settings.windows)


def _retired(evidence: Evidence, outcome: Outcome) -> tuple[RetirementRecord, ...]:
    """The candidates that are looked at no longer; a first champion's candidate has one test."""
    looks = evidence.measured.looks
    winners = {look.candidate for look in looks if look.passed} if outcome is Outcome.NEEDS_REVIEW else set()
    failed = [look.candidate for look in looks if look.champion_version is None and not look.passed]
    due = {one.candidate: one.reason for one in evidence.plan.shadow.retirements() if one.candidate not in winners}
    gone = {one.key: one.reason for one in evidence.measured.gone}
    retired = due | dict.fromkeys(failed, RetirementReason.ALL_LOOKS_TAKEN) | gone
    return tuple(RetirementRecord(candidate=key, reason=reason) for key, reason in retired.items())


def _alarms(
    request: Request, data: InputData, serving: Serving, evidence: Evidence, as_of: datetime
) -> tuple[Alarm, ...]:
    """What a person has to look into; a run that promotes replaces the champion that it would be about."""
    alarms = Alarms(request.settings, request.commands, request.clock, data.previous)
    champion, shown = serving.champion, evidence.measured.shown
    found = [alarms.of_data(evidence.health.verdict)] if evidence.health is not None else []
    found.append(alarms.of_rollback(evidence.rollback, as_of, serving.pin))
    if champion is not None:
        found.append(alarms.of_age(champion, as_of, serving.pin))
        found.append(alarms.of_service(champion, serving.weeks))
        found.append(alarms.of_earlier_look(champion) if shown is None else alarms.of_floor(shown.record, shown.rows))
    return tuple(alarm for alarm in found if alarm is not None)


def _reason(reason: str, outcome: Outcome, retirement: Retirement | None, evidence: Evidence, as_of: datetime) -> str:
    """Of the decision: what the looks have shown, and what else has happened to the champion."""
    found = [reason] if retirement is None else [reason, retirement.text]
    if evidence.rollback is not None and evidence.rollback.passed and outcome is not Outcome.PROMOTED:
        found.append(f"automatic rollback: {rollback_reason(evidence.rollback, as_of)}")
    return "; ".join(found)


def _warnings(data: InputData, windows: RunWindows, settings: Settings) -> tuple[str, ...]:
    return (
        *data.profile.warnings(settings.data, windows, data.quarantine),
        *coverage_warnings(data.counts, data.profile, settings.data),
        *_history_warnings(data.profile, windows, data.previous),
        *look_back_warnings(data.profile, windows, settings.data.columns),
    )


def _history_warnings(profile: Profile, windows: RunWindows, previous: Decision | None) -> tuple[str, ...]:
    """What is unusual about the data before this run."""
    found: tuple[str, ...] = ()
    if previous is not None and previous.as_of < windows.as_of and _has_changed(profile, previous):
        found += (
            f"the data of the decision at {previous.as_of:%Y-%m-%d %H:%M} have changed since: rows or labels from"
            " before that time arrived late, were removed, or were corrected without a new label time; with today's"
            " data the decision could have been different",
        )
    if profile.first > windows.training_start:  # the hour: the minute would be a value of one row
        found += (f"the data begin {profile.first:%Y-%m-%d %H}:00, after the start of the training window",)
    return found


def look_back_warnings(profile: Profile, windows: RunWindows, columns: Columns) -> tuple[str, ...]:
    """That most training rows come so soon after the first transaction that their features know little of the past."""
    mapped = {"customer_id": columns.customer_id, "terminal_id": columns.terminal_id}
    settings = [f"data.columns.{name}" for name, source in mapped.items() if source is not None]
    rows = profile.transactions_by_hour
    training = profile.hours_between(windows.training_start, windows.training_end)
    covered = whole_hour(profile.first) + timedelta(days=LOOK_BACK_DAYS)
    early = profile.hours_between(windows.training_start, min(covered, windows.training_end))
    share = float(rows[early].sum()) / max(1.0, float(rows[training].sum()))
    if not settings or share <= _MOST:
        return ()
    return (
        f"{share:.0%} of the training rows have less than {LOOK_BACK_DAYS} days of data before them: their features of"
        " cards and terminals know only a part of the past, and a model without them can be better; give older"
        f" transactions, too, or compare with a run in another output folder with {' and '.join(settings)} set to null",
    )


def _has_changed(profile: Profile, decision: Decision) -> bool:
    """Whether the data of an earlier decision are not what they were; unknown counts as no."""
    if decision.data_fingerprint is None:
        return False
    start = history_before(decision.training.start, decision.as_of - decision.holdout.end)
    now = profile.earlier_fingerprint(start, decision.holdout.end)
    comparable = now.partition("-")[0] == decision.data_fingerprint.partition("-")[0]
    return comparable and now != decision.data_fingerprint
