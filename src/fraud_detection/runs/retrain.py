"""The story of one run, top to bottom: read, split, train, compare, decide, record, report."""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fraud_detection.evaluation import Holdout, assess
from fraud_detection.features import feature_names
from fraud_detection.model.fit import fit
from fraud_detection.model.model import Model
from fraud_detection.outputs import quarantine_file, report_file
from fraud_detection.promotion import Evidence, Verdict, decide, precondition_failure
from fraud_detection.registry import Champion, Leases, Registry, Retirement, RunRecord
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.report import DailyCounts, ReportData, draw
from fraud_detection.revision import code_revision
from fraud_detection.runs import progress as narration
from fraud_detection.runs.outcome import measure_maturity
from fraud_detection.runs.progress import Stopwatch, Tell
from fraud_detection.runs.publication import Publication, publish
from fraud_detection.runs.retired_columns import rows_for_champion
from fraud_detection.sampling import TrainingData, collect_training_data, hours_between
from fraud_detection.schema import Decision
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.storage import Storage, open_folder
from fraud_detection.time_windows import RunWindows, history_before, run_windows, whole_hour
from fraud_detection.transactions.profile import Profile
from fraud_detection.transactions.quarantine import write_quarantine
from fraud_detection.transactions.reader import Transactions, read_transactions
from fraud_detection.transactions.rules import REASONS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Request:
    """What one run is asked to do."""

    settings: Settings
    config: str
    """Where the settings came from; named in the command line that goes back."""
    input_path: str
    output: str
    tracking_uri: str
    as_of: datetime | None
    """T (aware, floored to the hour); None is the first whole hour after the newest transaction."""
    engine: Engine
    clock: datetime
    """The time of day, aware: transactions later than it are rejected."""


@dataclass(frozen=True)
class Comparison:
    """The challenger and its champion on the hold-out; a run that stops early leaves out what it did not get to."""

    verdict: Verdict
    evidence: Evidence
    challenger: Model | None = None
    champion_score: NDArray[np.float64] | None = None
    challenger_score: NDArray[np.float64] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Serving:
    """What was in service when the run began: a champion, or none and perhaps the one that was retired."""

    champion: Champion | None
    pinned_version: int | None
    retirement: Retirement | None


def retrain(request: Request, tell: Tell, watch: Stopwatch | None = None) -> Decision:
    """Train a challenger on matured labels, compare it with the champion, and bring the decision into force.

    A T that is decided already is not decided again: its decision is returned.

    Raises:
        FraudDetectionError: see `fraud_detection.errors` for the kinds; nothing was registered then.
    """
    settings, watch = request.settings, watch or Stopwatch()
    output = open_folder(request.output)
    log = DecisionLog(output, settings.model_name)
    registry = _registry(request, output, log)
    as_of = request.as_of and whole_hour(request.as_of)
    # Before the engine starts, not beside it: Python's import locks can deadlock when two threads import at once.
    with watch("open registry"):
        for completed in _open_registry(registry, log, as_of):
            tell("completed", narration.completed_line(completed))
    if not (as_of and log.find(as_of)):
        previous = log.previous(as_of)
        profile, windows, rows = _gather(request, previous, output, watch, tell)
        as_of = windows.as_of
    if earlier := log.find(as_of):
        return _already_decided(earlier, tell)

    with watch("load champion"):
        serving = _serving(registry)
    comparison = _compare(rows, serving, registry, settings, watch)
    warnings = _warnings(request, profile, windows, previous) + comparison.warnings
    decision = _decision(request, windows, rows, comparison, serving, profile, warnings, watch)
    way_back = registry.commands.without_reason("rollback")
    evidence = _report_data(request, windows, rows, comparison, profile, way_back)
    publication = Publication(
        drawing=draw(decision, evidence), maturity=measure_maturity(settings.model_name, profile, windows)
    )
    with watch("register"):
        decision = registry.record(
            decision,
            RunRecord(
                challenger=comparison.challenger,
                publication=publication.model_dump_json().encode(),
                parameters=settings.model_dump(mode="json"),
                tags={
                    "data": str(decision.data_fingerprint),
                    "engine": request.engine.value,
                    "code": str(decision.code_revision),
                },
            ),
        )
    for warning in warnings:
        tell("warning", warning)
    narration.tell_verdict(decision, tell)
    return decision.model_copy(update={"seconds": watch.seconds})


def _registry(request: Request, output: Storage, log: DecisionLog) -> Registry:
    return Registry(
        request.tracking_uri,
        request.settings.model_name,
        log,
        leases=Leases(output, request.settings.model_name),
        publish=partial(publish, output),
        config=request.config,
        output=request.output,
    )


def _open_registry(registry: Registry, log: DecisionLog, as_of: datetime | None) -> tuple[Decision, ...]:
    """Complete what was interrupted, and stop where the champion is lost, before the run is paid for."""
    completed = registry.resume_open_intents(as_of)
    if as_of is None or log.find(as_of) is None:
        registry.require_no_loss()
    return completed


def _serving(registry: Registry) -> Serving:
    champion, pin = registry.champion(), registry.pinned()
    return Serving(champion, pin.to_version if pin else None, None if champion else registry.retirement())


def _gather(
    request: Request, previous: Decision | None, output: Storage, watch: Stopwatch, tell: Tell
) -> tuple[Profile, RunWindows, TrainingData]:
    """Read and check the input, and bring to the driver what the run needs of it."""
    settings = request.settings
    with watch("start engine"), session(request.engine) as spark:
        with watch("read and check"):
            transactions, windows = _read(spark, request, previous, output)
        tell("data", narration.data_line(transactions.profile, windows))
        tell("split", narration.split_line(windows))
        with watch("features"):
            rows = collect_training_data(transactions, windows, settings)
    tell("features", narration.rows_line(rows.training_span, rows.holdout_span, len(feature_names(settings))))
    return transactions.profile, windows, rows


def _already_decided(decision: Decision, tell: Tell) -> Decision:
    tell("decided", f"T {decision.as_of:%Y-%m-%d %H:%M} was decided before; nothing new is registered")
    narration.tell_verdict(decision, tell)
    return decision


def _read(
    spark: "SparkSession", request: Request, previous: Decision | None, output: Storage
) -> tuple[Transactions, RunWindows]:
    """Read the input as it was known at T, put bad rows aside, and lay out the run's windows."""
    settings, as_of = request.settings, request.as_of and whole_hour(request.as_of)

    def read(as_of: datetime | None) -> Transactions:
        earlier = previous.as_of if previous else None
        return read_transactions(spark, settings.data, request.input_path, request.clock, as_of, earlier)

    transactions = read(as_of)
    quarantine = write_quarantine(transactions, output, quarantine_file(request.clock))
    transactions.profile.require_share(settings.data.max_rejected_share, quarantine)
    if as_of is None:
        as_of = transactions.profile.default_as_of
        if transactions.profile.reaches(as_of):
            transactions = read(as_of)
            transactions.profile.require_share(settings.data.max_rejected_share, quarantine)
    return transactions, run_windows(as_of, settings.windows)


def _compare(
    rows: TrainingData, serving: Serving, registry: Registry, settings: Settings, watch: Stopwatch
) -> Comparison:
    """Train the challenger and let the promotion rule decide, unless something stands in the way of any decision."""
    champion = serving.champion
    evidence = Evidence(
        training=rows.training_span,
        holdout=rows.holdout_span,
        champion_trained_until=champion.training.end if champion else None,
        pinned_version=serving.pinned_version,
    )
    if verdict := precondition_failure(evidence, settings):
        return Comparison(verdict, evidence)
    warnings: tuple[str, ...] = ()
    if champion:
        retire = registry.commands.retire_champion(champion.version)
        champion_rows, lost = rows_for_champion(champion, rows.holdout, settings.data.retired_columns, retire)
        warnings = tuple(f"the champion is scored without the retired column {name}" for name in lost)
    with watch("train"):
        numeric, categorical = feature_names(settings), settings.data.columns.extra_categorical
        challenger = fit(rows.training, rows.training_weights, settings.training, numeric, categorical)
    with watch("compare"):
        challenger_score = challenger.predict(rows.holdout).astype(np.float64)
        champion_score = champion.model.predict(champion_rows).astype(np.float64) if champion else None
        assessment = assess(_holdout(rows), champion_score, challenger_score, settings.comparison)
        evidence = replace(evidence, assessment=assessment)
        return Comparison(decide(evidence, settings), evidence, challenger, champion_score, challenger_score, warnings)


def _holdout(rows: TrainingData) -> Holdout:
    columns = rows.holdout
    return Holdout(
        day=columns["day"].to_numpy(),
        fraud=columns["fraud"].to_numpy(),
        amount=columns["amount"].to_numpy(),
        card=columns["customer_id"].to_numpy() if "customer_id" in columns else None,
        new_card=rows.new_card,
    )


def _warnings(request: Request, profile: Profile, windows: RunWindows, previous: Decision | None) -> tuple[str, ...]:
    found = profile.warnings(request.settings.data, windows, _quarantine(request, profile))
    if previous is not None and previous.as_of < windows.as_of and _has_changed(profile, previous):
        found += (
            f"the data that the decision at {previous.as_of:%Y-%m-%d %H:%M} rests on have changed since: rows or labels"
            " of before that moment came late, went, or were corrected without a new label time; on today's data it"
            " might have been another decision",
        )
    if profile.first > windows.training_start:  # the hour: the minute would be a value of one row
        found += (f"the data begin {profile.first:%Y-%m-%d %H}:00, after the start of the training window",)
    return found


def _has_changed(profile: Profile, decision: Decision) -> bool:
    """Whether the data of an earlier decision are not what they were; unknown counts as no."""
    if decision.data_fingerprint is None:
        return False
    start = history_before(decision.training.start, decision.as_of - decision.holdout.end)
    now = profile.earlier_fingerprint(start, decision.holdout.end)
    comparable = now.partition("-")[0] == decision.data_fingerprint.partition("-")[0]
    return comparable and now != decision.data_fingerprint


def _quarantine(request: Request, profile: Profile) -> str | None:
    """Where the run's rejected rows are; None where there are none."""
    return (
        open_folder(request.output).url(quarantine_file(request.clock)) if profile.rejected or profile.future else None
    )


def _decision(
    request: Request,
    windows: RunWindows,
    rows: TrainingData,
    comparison: Comparison,
    serving: Serving,
    profile: Profile,
    warnings: tuple[str, ...],
    watch: Stopwatch,
) -> Decision:
    """The decision as the promotion rule made it; the registry fills in the version and the MLflow run."""
    assessment, champion, retirement = comparison.evidence.assessment, serving.champion, serving.retirement
    reason = comparison.verdict.reason
    return Decision(
        outcome=comparison.verdict.outcome,
        reason=f"{reason}; {retirement.text}" if retirement else reason,
        version=None,
        champion_version=champion.version if champion else None,
        model_name=request.settings.model_name,
        as_of=windows.as_of,
        decided_at=request.clock,
        run_id=None,
        training=rows.training_span,
        holdout=rows.holdout_span,
        champion=assessment.champion if assessment else None,
        challenger=assessment.challenger if assessment else None,
        difference=assessment.difference if assessment else None,
        floor=assessment.floor if assessment else None,
        checks=comparison.verdict.checks,
        rejected=profile.rejected,
        warnings=warnings,
        seconds=watch.seconds,
        report=open_folder(request.output).url(report_file(request.settings.model_name, windows.as_of)),
        retired_version=retirement.version if retirement else None,
        code_revision=code_revision(),
        data_fingerprint=profile.fingerprint(windows.history_start, windows.holdout_end),
    )


def _report_data(
    request: Request,
    windows: RunWindows,
    rows: TrainingData,
    comparison: Comparison,
    profile: Profile,
    rollback_command: str,
) -> ReportData:
    measured = comparison.evidence.assessment
    scored = comparison.challenger_score is not None
    return ReportData(
        fraud=rows.holdout["fraud"].to_numpy() if scored else None,
        champion_score=comparison.champion_score,
        challenger_score=comparison.challenger_score,
        amount=rows.holdout["amount"].to_numpy() if scored else None,
        windows=windows,
        settings=request.settings,
        daily=_daily(profile, windows),
        rows_read=profile.rows,
        faults=profile.faults,
        quarantine=_quarantine(request, profile),
        slices=measured.slices if measured else (),
        importances=comparison.challenger.importance() if comparison.challenger else {},
        data_fingerprint=profile.fingerprint(windows.history_start, windows.holdout_end),
        reasons=REASONS,
        rollback_command=rollback_command,
    )


def _daily(profile: Profile, windows: RunWindows) -> DailyCounts:
    hours = hours_between(profile, windows.training_start, windows.as_of)
    days, which = np.unique(profile.hours[hours].astype("datetime64[D]"), return_inverse=True)

    def by_day(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(which, weights=counts[hours], minlength=len(days)).astype(np.int64)

    return DailyCounts(days, by_day(profile.transactions_by_hour), by_day(profile.frauds_by_hour))
