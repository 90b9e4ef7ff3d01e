"""One run, top to bottom: read, split, train, compare, decide, record, report."""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fraud_detection.commands import Commands
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
from fraud_detection.runs.outcome import measure_maturity
from fraud_detection.runs.progress import (
    Progress,
    Stopwatch,
    data_line,
    report_decision,
    report_pin,
    resumed_line,
    rows_line,
    split_line,
)
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
    """The options of one run."""

    settings: Settings
    config: str
    """The settings file, for the commands that messages name."""
    input_path: str
    output: str
    tracking_uri: str
    as_of: datetime | None
    """As-of time (aware, floored to the hour); None is the first whole hour after the newest transaction."""
    engine: Engine
    clock: datetime
    """The current time, aware: transactions later than it are rejected."""


@dataclass(frozen=True)
class InputData:
    """What the run needs of its input."""

    profile: Profile
    windows: RunWindows
    rows: TrainingData
    quarantine: str | None
    """Path or URL of the rejected rows; None if there are none."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Serving:
    """What was in service when the run began: a champion, or none and perhaps the one that was retired."""

    champion: Champion | None
    pinned_version: int | None
    retirement: Retirement | None


@dataclass(frozen=True)
class Comparison:
    """Champion and challenger on the hold-out; a run that stops early has no challenger and no scores."""

    verdict: Verdict
    evidence: Evidence
    challenger: Model | None = None
    champion_score: NDArray[np.float64] | None = None
    challenger_score: NDArray[np.float64] | None = None
    warnings: tuple[str, ...] = ()


def retrain(request: Request, progress: Progress, watch: Stopwatch | None = None) -> Decision:
    """Train a challenger on matured labels, compare it with the champion, and bring the decision into force.

    An as-of time that is decided already is not decided again: its decision is returned.

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
        for resumed in _open_registry(registry, log, as_of):
            progress("completed", resumed_line(resumed))
    if not (as_of and log.find(as_of)):
        data = _read_input(request, log.previous(as_of), output, progress, watch)
        as_of = data.windows.as_of
    if earlier := log.find(as_of):
        return _already_decided(earlier, progress)

    with watch("load champion"):
        serving = _serving(registry)
    comparison = _compare(data, serving, settings, registry.commands, watch)
    proposed = _decision(request, data, serving, comparison, watch.seconds)
    drawing = draw(proposed, _report_data(data, comparison, settings, registry.commands))
    maturity = measure_maturity(settings.model_name, data.profile, data.windows)
    record = _run_record(request, proposed, comparison, Publication(drawing=drawing, maturity=maturity))
    with watch("register"):
        decision = registry.record(proposed, record)
    for warning in proposed.warnings:
        progress("warning", warning)
    report_decision(decision, progress)
    report_pin(decision, registry.commands, progress)
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
    """Resume what was interrupted, and stop if the champion is lost, before the run costs anything."""
    resumed = registry.resume_open_intents(as_of)
    if as_of is None or log.find(as_of) is None:
        registry.require_no_loss()
    return resumed


def _read_input(
    request: Request, previous: Decision | None, output: Storage, progress: Progress, watch: Stopwatch
) -> InputData:
    """Read and check the input, and bring to the driver what the run needs of it."""
    settings = request.settings
    with watch("start engine"), session(request.engine) as spark:
        with watch("read and check"):
            transactions, windows = _read_transactions(spark, request, previous, output)
        profile = transactions.profile
        progress("data", data_line(profile, windows))
        progress("split", split_line(windows))
        with watch("features"):
            rows = collect_training_data(transactions, windows, settings)
    progress("features", rows_line(rows.training_span, rows.holdout_span, len(feature_names(settings))))
    quarantine = output.url(quarantine_file(request.clock)) if profile.rejected or profile.future else None
    warnings = profile.warnings(settings.data, windows, quarantine) + _history_warnings(profile, windows, previous)
    return InputData(profile, windows, rows, quarantine, warnings)


def _read_transactions(
    spark: "SparkSession", request: Request, previous: Decision | None, output: Storage
) -> tuple[Transactions, RunWindows]:
    """Read the input as it was known at the as-of time, quarantine bad rows, and lay out the run's windows."""
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


def _has_changed(profile: Profile, decision: Decision) -> bool:
    """Whether the data of an earlier decision are not what they were; unknown counts as no."""
    if decision.data_fingerprint is None:
        return False
    start = history_before(decision.training.start, decision.as_of - decision.holdout.end)
    now = profile.earlier_fingerprint(start, decision.holdout.end)
    comparable = now.partition("-")[0] == decision.data_fingerprint.partition("-")[0]
    return comparable and now != decision.data_fingerprint


def _already_decided(decision: Decision, progress: Progress) -> Decision:
    progress("decided", f"{decision.as_of:%Y-%m-%d %H:%M} was decided before; nothing new is registered")
    report_decision(decision, progress)
    return decision


def _serving(registry: Registry) -> Serving:
    champion, pin = registry.champion(), registry.pinned()
    return Serving(champion, pin.to_version if pin else None, None if champion else registry.retirement())


def _compare(data: InputData, serving: Serving, settings: Settings, commands: Commands, watch: Stopwatch) -> Comparison:
    """Train the challenger and apply the promotion rule, unless a precondition of any decision fails."""
    champion, rows = serving.champion, data.rows
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
        retire = commands.retire_champion(champion.version)
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


def _decision(
    request: Request, data: InputData, serving: Serving, comparison: Comparison, seconds: dict[str, float]
) -> Decision:
    """The decision as the promotion rule made it; the registry fills in the version and the MLflow run."""
    assessment, champion, retirement = comparison.evidence.assessment, serving.champion, serving.retirement
    reason, model_name, windows = comparison.verdict.reason, request.settings.model_name, data.windows
    return Decision(
        outcome=comparison.verdict.outcome,
        reason=f"{reason}; {retirement.text}" if retirement else reason,
        version=None,
        champion_version=champion.version if champion else None,
        model_name=model_name,
        as_of=windows.as_of,
        decided_at=request.clock,
        run_id=None,
        training=data.rows.training_span,
        holdout=data.rows.holdout_span,
        champion=assessment.champion if assessment else None,
        challenger=assessment.challenger if assessment else None,
        difference=assessment.difference if assessment else None,
        floor=assessment.floor if assessment else None,
        checks=comparison.verdict.checks,
        rejected=data.profile.rejected,
        warnings=data.warnings + comparison.warnings,
        seconds=seconds,
        report=open_folder(request.output).url(report_file(model_name, windows.as_of)),
        retired_version=retirement.version if retirement else None,
        code_revision=code_revision(),
        data_fingerprint=data.profile.fingerprint(windows.history_start, windows.holdout_end),
    )


def _report_data(data: InputData, comparison: Comparison, settings: Settings, commands: Commands) -> ReportData:
    measured, holdout = comparison.evidence.assessment, data.rows.holdout
    scored = comparison.challenger_score is not None
    return ReportData(
        fraud=holdout["fraud"].to_numpy() if scored else None,
        champion_score=comparison.champion_score,
        challenger_score=comparison.challenger_score,
        amount=holdout["amount"].to_numpy() if scored else None,
        windows=data.windows,
        settings=settings,
        daily=_daily(data.profile, data.windows),
        rows_read=data.profile.rows,
        faults=data.profile.faults,
        quarantine=data.quarantine,
        slices=measured.slices if measured else (),
        importances=comparison.challenger.importance() if comparison.challenger else {},
        data_fingerprint=data.profile.fingerprint(data.windows.history_start, data.windows.holdout_end),
        reasons=REASONS,
        rollback_command=commands.without_reason("rollback"),
        unpin_command=commands.unpin,
    )


def _daily(profile: Profile, windows: RunWindows) -> DailyCounts:
    hours = hours_between(profile, windows.training_start, windows.as_of)
    days, which = np.unique(profile.hours[hours].astype("datetime64[D]"), return_inverse=True)

    def by_day(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(which, weights=counts[hours], minlength=len(days)).astype(np.int64)

    return DailyCounts(days, by_day(profile.transactions_by_hour), by_day(profile.frauds_by_hour))


def _run_record(request: Request, decision: Decision, comparison: Comparison, publication: Publication) -> RunRecord:
    return RunRecord(
        challenger=comparison.challenger,
        publication=publication.model_dump_json().encode(),
        parameters=request.settings.model_dump(mode="json"),
        tags={
            "data": str(decision.data_fingerprint),
            "engine": request.engine.value,
            "code": str(decision.code_revision),
        },
    )
