"""One run, top to bottom: read, examine, open candidates and looks, take the looks, decide, record, report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from fraud_detection.commands import Commands
from fraud_detection.data_health.examination import Health
from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.holdout import EverFrauds
from fraud_detection.model.model import Model
from fraud_detection.monitoring import write_dashboard
from fraud_detection.monitoring.service_weeks import read_service_weeks
from fraud_detection.outputs import DECISIONS, quarantine_file
from fraud_detection.recipe import recipe_hash
from fraud_detection.registry import Leases, Registry, RunRecord
from fraud_detection.registry.decision_log import DecisionLog, Entry, Intervention, LogEntry
from fraud_detection.registry.log_view import recent_since
from fraud_detection.registry.predecessor import Predecessor
from fraud_detection.registry.restoration import logged_otherwise
from fraud_detection.report import draw
from fraud_detection.revision import code_revision
from fraud_detection.runs.automatic_rollback import RollbackWatch, unmeasured
from fraud_detection.runs.blocks import find_block
from fraud_detection.runs.comparison import Measured, check_columns, take_looks, void_looks
from fraud_detection.runs.drift import find_drift
from fraud_detection.runs.health import examine_data
from fraud_detection.runs.planning import Plan, look_to_come, plan, recount, stopped
from fraud_detection.runs.preflight import AHEAD, require_past
from fraud_detection.runs.progress import (
    Progress,
    Stopwatch,
    data_line,
    drift_line,
    health_line,
    opened_line,
    report_decision,
    report_look,
    report_next_look,
    report_pin,
    report_review,
    resumed_line,
    rollback_look_line,
    rolled_back_line,
)
from fraud_detection.runs.proposal import Evidence, InputData, Serving, late_decision, propose
from fraud_detection.runs.publication import Publication, publish
from fraud_detection.runs.reading import read_input
from fraud_detection.runs.refit import refit_winner
from fraud_detection.runs.reporting import report_data
from fraud_detection.runs.request import Request
from fraud_detection.runs.retired_columns import MissingColumns
from fraud_detection.runs.scheduling import RunEnd, find_holdouts, make_schedule
from fraud_detection.runs.shadow import Shadow
from fraud_detection.runs.training import Trainer
from fraud_detection.schedule import Schedule, count_commands, is_written
from fraud_detection.schema import CandidateRecord, Decision, Opening, Outcome, RollbackLook, RollbackLookKey
from fraud_detection.settings import Settings
from fraud_detection.spark_session import session
from fraud_detection.storage import Storage, open_folder
from fraud_detection.time_windows import run_windows, whole_hour
from fraud_detection.transactions.coverage import coverage_text, data_counts
from fraud_detection.transactions.profile import Profile
from fraud_detection.transactions.reader import Transactions


@dataclass(frozen=True)
class Run:
    """What all as-of times of a request share."""

    request: Request
    output: Storage
    log: DecisionLog
    registry: Registry
    progress: Progress
    watch: Stopwatch

    @property
    def settings(self) -> Settings:
        return self.request.settings


def retrain(
    request: Request,
    progress: Progress,
    watch: Stopwatch | None = None,
    complete: Callable[[Decision], None] = lambda _: None,
) -> Decision:
    """Open the candidates and looks that are due, and bring the decision into force.

    An as-of time that is decided already is not decided again: its decision is returned. What a killed run has opened
    is finished first, with its own as-of time.

    Args:
        request: what to decide.
        progress: takes the steps.
        watch: measures them.
        complete: takes each decision of a killed run that this one brings into force before its own.

    Raises:
        FraudDetectionError: see `fraud_detection.errors` for the kinds; nothing was registered then.
    """
    output, watch = open_folder(request.output), watch or Stopwatch()
    log = DecisionLog(output, request.settings.model_name, request.commands.accept_log)
    run = Run(request, output, log, open_registry(request, output, log), progress, watch)
    as_of = request.as_of and whole_hour(request.as_of)
    _require_past(run, as_of)
    # Before the engine starts, not beside it: Python's import locks can deadlock when two threads import at once.
    with watch("open registry"):
        for resumed in _open_registry(run.registry, log, as_of):
            progress("completed", resumed_line(resumed))
            if isinstance(resumed, Decision):
                complete(resumed)
    _roll_back(run)  # as a run has found that was killed before it did so
    for opening in log.unfinished_openings():
        progress("completed", f"what the run of {opening.as_of:%Y-%m-%d %H:%M} has opened, which was interrupted")
        finished = _decide(run, opening.as_of)
        if opening.as_of == as_of:
            return finished
        complete(finished)
    return _known(run, as_of) or _decide(run, as_of)


def _require_past(run: Run, as_of: datetime | None) -> None:
    """No decision is in the future: every later run would find its own time before that one, and decide nothing."""
    now = run.request.clock
    require_past(as_of, now)
    ahead = run.log.after(now + AHEAD)
    if ahead:
        raise FraudDetectionError(
            f"the decision log has entries as of a time in the future ({', '.join(ahead)}); expected: none after"
            f" {now + AHEAD:%Y-%m-%d %H:%M}, since no run before them decides anything; next: if this machine's clock"
            f" is right, move them out of {run.request.output}/{DECISIONS}{run.settings.model_name}, then run:"
            f" {run.request.commands.accept_log}"
        )


def _known(run: Run, as_of: datetime | None) -> Decision | None:
    """The answer where there is nothing to decide: the time is decided already, or a later one is."""
    if as_of is None:
        return None
    if earlier := run.log.find(as_of):
        _restore_schedule(run)
        return _already_decided(earlier, run.progress)
    newest = run.log.newest_as_of()
    if newest is None or as_of >= newest:
        return None
    _restore_schedule(run)
    late = late_decision(run.request, as_of, newest)
    report_decision(late, run.progress)
    return late


def _restore_schedule(run: Run) -> None:
    """Write the newest run's schedule again, if it was deleted or damaged: this run makes none of its own."""
    newest = run.log.previous(None)
    if newest is None or is_written(run.output, newest.model_name, newest.as_of):
        return
    try:
        run.registry.publish_again(newest)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError as error:
        run.progress(
            "warning", f"the schedule is missing, and the last run's is lost: {error}; the next run writes one"
        )
        return
    if is_written(run.output, newest.model_name, newest.as_of):  # else an earlier release has decided
        run.progress("schedule", f"was missing or unreadable; that of {newest.as_of:%Y-%m-%d %H:%M} is written again")


def _decide(run: Run, as_of: datetime | None) -> Decision:
    """Decide an as-of time; None is the default one of the data."""
    with run.watch("load champion"):
        serving = _serving(run)
    with run.watch("start engine"), session(run.request.engine) as spark:
        with run.watch("read and check"):
            previous = run.log.previous(as_of)
            earlier = previous.as_of if previous else None
            transactions, found = read_input(spark, run.request, as_of, run.progress, earlier)
        if as_of is None and (known := _known(run, found)):
            return known
        data = _input_data(run, transactions.profile, previous, found)
        of_counts = examine_data(transactions.profile, found, run.output, run.settings)
        with transactions.store_errors():
            evidence, schedule = _gather(run, transactions, serving, of_counts, found)
    proposed = propose(run.request, data, serving, evidence, found, run.watch.seconds)
    with run.watch("report"):
        drawing = draw(proposed, report_data(run.request, data, evidence, proposed, run.registry.commands))
    labels = evidence.health.known if evidence.health else None
    publication = Publication(drawing=drawing, schedule=schedule, known_labels=labels)
    with run.watch("register"):
        decision = run.registry.record(proposed, _run_record(run, proposed, evidence, publication))
    rolled_back = _roll_back(run)
    _show_dashboard(run, evidence, decision, rolled_back)
    for warning in proposed.warnings:
        run.progress("warning", warning)
    for alarm in proposed.alarms:
        run.progress("alarm", alarm.text)
    report_decision(decision, run.progress)
    report_next_look(decision, look_to_come(evidence.plan), evidence.plan.shadow.rule, run.progress)
    report_pin(decision, run.registry.commands, run.progress)
    report_review(decision, run.registry.commands, run.progress)
    return decision.model_copy(update={"seconds": run.watch.seconds})


def _gather(
    run: Run, transactions: Transactions, serving: Serving, health: Health, as_of: datetime
) -> tuple[Evidence, Schedule]:
    """Open candidates and looks in the log, then take the looks; what is due after them."""
    settings, recipe = run.settings, recipe_hash(run.settings)
    predecessor = _find_predecessor(run, serving)
    log = run.registry.verified_log(_since(as_of, predecessor, settings))
    shadow = Shadow.of(log.entries, serving.champion, as_of, recipe, settings)
    trainer = Trainer(
        run.registry, transactions, EverFrauds(transactions, settings, as_of), recipe, settings, run.watch
    )
    missing = check_columns(shadow, transactions, run.registry.commands)
    health = _examine_drift(run, transactions, shadow, missing, health)
    rollback = _rollback_watch(serving, predecessor, shadow, trainer)
    opening = run.log.find_opening(as_of)
    block = find_block(serving.pin, log.entries, as_of, settings.promotion)
    if opening is not None:
        planned = recount(shadow, trainer, opening, block, health.verdict)
    elif health.verdict.stops:
        planned = stopped(shadow, health.verdict)
    else:
        with run.watch("plan"):
            planned = plan(shadow, trainer, block, health.drifted)
            rollback_look = rollback.due(log.entries) if rollback else None
        opening = _open(run, planned, rollback_look, log.head, as_of)
    for record in opening.candidates if opening else ():
        run.progress("opened", opened_line(record))
    opened = opening.candidates if opening else ()
    shadow = shadow.with_opened(opened)
    looks = [shadow.look(key) for key in opening.looks] if opening else []
    if health.verdict.stops:  # those that a killed run has opened: the data are sound no longer
        measured = void_looks(looks, shadow, health.verdict.failed)
    else:
        measured = take_looks(looks, shadow, trainer, missing) if looks else Measured()
    for look in measured.looks:
        report_look(look, run.progress)
    compared = _take_rollback_look(run, opening, rollback, shadow, missing, health)
    refit = refit_winner(measured.shown, shadow, trainer)
    warnings = tuple(f"the champion is scored without the retired column {name}" for name in missing.columns)
    warnings += _service_warnings(log.entries, shadow, run.request.commands)
    warnings += health.verdict.warnings + planned.warnings + measured.warnings + (refit.warnings if refit else ())
    evidence = Evidence(
        replace(planned, shadow=shadow), opened, measured, warnings, log.entries, health, refit, compared
    )
    with run.watch("schedule"):
        taken = shadow.with_looks(look.key for look in measured.looks)
        end = RunEnd(taken, block, planned.checks, run.request.clock, serving.commands)
        return evidence, make_schedule(end, find_holdouts(taken, trainer.frauds))


def _roll_back(run: Run) -> Intervention | None:
    """Put the champion's predecessor into service, if the newest decision found it better and the rule is on."""
    if not run.settings.automatic_rollback.enabled:
        return None
    try:
        with run.watch("register"):
            done = run.registry.roll_back_automatically()
    except ServiceUnavailableError:
        raise
    except FraudDetectionError as error:  # the decision stands, and the next run tries again
        run.progress("warning", f"the champion is not rolled back, though its predecessor is better: {error}")
        return None
    if done is not None:
        run.progress("rollback", rolled_back_line(done, run.registry.commands))
    return done


def _service_warnings(entries: Sequence[LogEntry], shadow: Shadow, commands: Commands) -> tuple[str, ...]:
    """That another version is in service than the log says."""
    serves = shadow.champion.version if shadow.champion else None
    logged = logged_otherwise(entries, serves)
    if logged is None or serves is None:  # without a champion the run has said why
        return ()
    return (
        f"v{serves} is in service, but the decision log says v{logged}: MLflow may have been restored from an older"
        f" backup, or an alias was moved by hand; expected v{logged}; next: if v{serves} is to serve, run"
        f" {commands.pin}, then {commands.unpin}",
    )


def _show_dashboard(run: Run, evidence: Evidence, decision: Decision, rolled_back: Intervention | None) -> None:
    """Make the dashboard anew. The decision is in force: what fails here is mended by the next run, and warned of."""
    opening = run.log.find_opening(decision.as_of)
    entries = (*evidence.log, *([opening] if opening else []), decision, *([rolled_back] if rolled_back else []))
    try:
        write_dashboard(run.output, entries, run.settings, run.request.clock)
    except FraudDetectionError as error:
        run.progress("warning", f"the dashboard is not up to date: {error}; the next run makes it anew")


def _examine_drift(
    run: Run, transactions: Transactions, shadow: Shadow, missing: MissingColumns, health: Health
) -> Health:
    """What the distributions of the champion's inputs and scores say; not asked where counts stop the run already."""
    if not health.verdict.stops:
        with run.watch("drift"):
            drift = find_drift(transactions, shadow.champion, missing.features, shadow.as_of, run.settings)
        health = health.with_drift(drift, run.settings.data_health)
    run.progress("health", health_line(health.verdict))
    if health.drift is not None:
        run.progress("drift", drift_line(health.drift))
    return health


def _find_predecessor(run: Run, serving: Serving) -> Predecessor | None:
    """The version that the champion replaced; None where the rule is off, or leaves this champion alone."""
    if not run.settings.automatic_rollback.enabled or serving.champion is None:
        return None
    if serving.pin is not None:
        found: Predecessor | str = serving.pin.text
    else:
        found = run.registry.predecessor(serving.champion.version)
    if isinstance(found, str):
        run.progress("rollback", f"the champion is not compared with its predecessor: {found}")
        return None
    return found


def _since(as_of: datetime, predecessor: Predecessor | None, settings: Settings) -> datetime:
    """From when on the log is read: looks at the predecessor are counted since the promotion."""
    recent = recent_since(as_of, settings)
    return recent if predecessor is None else min(recent, predecessor.promoted_as_of)


def _rollback_watch(
    serving: Serving, predecessor: Predecessor | None, shadow: Shadow, trainer: Trainer
) -> RollbackWatch | None:
    if predecessor is None or serving.champion is None:
        return None
    return RollbackWatch(serving.champion, predecessor, shadow, trainer)


def _take_rollback_look(
    run: Run,
    opening: Opening | None,
    watch: RollbackWatch | None,
    shadow: Shadow,
    missing: MissingColumns,
    health: Health,
) -> RollbackLook | None:
    """Take the look at the predecessor that the log has opened, or record that it cannot be taken any more."""
    key = opening.rollback_look if opening else None
    if key is None:
        return None
    look = unmeasured(key, shadow)
    if watch is not None and watch.is_of(key) and not health.verdict.stops:
        predecessor = watch.load(missing)
        if isinstance(predecessor, str):
            run.progress("warning", f"the champion is not compared with its predecessor: {predecessor}")
        else:
            with run.watch("compare"):
                look = watch.take(key, predecessor, missing)
    run.progress("rollback", rollback_look_line(look))
    return look


def _open(run: Run, planned: Plan, rollback_look: RollbackLookKey | None, head: str, as_of: datetime) -> Opening | None:
    """Write into the log what is opened; None where it is nothing."""
    if not planned.candidates and not planned.looks and rollback_look is None:
        return None
    opening = Opening(
        model_name=run.settings.model_name,
        as_of=as_of,
        opened_at=run.request.clock,
        code_revision=code_revision(),
        candidates=planned.candidates,
        looks=planned.looks,
        rollback_look=rollback_look,
    )
    with run.watch("register"):
        return run.registry.write_opening(opening, head)


def open_registry(request: Request, output: Storage, log: DecisionLog) -> Registry:
    """The registry of a run's model; MLflow is asked nothing yet."""
    return Registry(
        request.tracking_uri,
        request.settings.model_name,
        log,
        leases=Leases(output, request.settings.model_name),
        publish=partial(publish, output),
        config=request.config,
        output=request.output,
    )


def _open_registry(registry: Registry, log: DecisionLog, as_of: datetime | None) -> tuple[Entry, ...]:
    """Resume what was interrupted, and stop if the champion is lost, before the run costs anything."""
    resumed = registry.resume_open_intents(as_of)
    if as_of is None or log.find(as_of) is None:
        registry.require_no_loss()
    return resumed


def _input_data(run: Run, profile: Profile, previous: Decision | None, as_of: datetime) -> InputData:
    windows = run_windows(as_of, run.settings.windows)
    counts = data_counts(profile, windows.history_start, windows.holdout_end, as_of)
    run.progress("data", data_line(profile, coverage_text(counts, run.settings.data), windows.holdout_end))
    quarantine = run.output.url(quarantine_file(run.request.clock)) if profile.rejected or profile.future else None
    return InputData(profile, counts, quarantine, previous)


def _already_decided(decision: Decision, progress: Progress) -> Decision:
    line = f"{decision.as_of:%Y-%m-%d %H:%M} was decided before; nothing new is registered"
    if decision.outcome is Outcome.NO_DECISION:  # its reason names settings, and this run may have others
        later = decision.as_of + timedelta(hours=1)
        line += f"; to decide with other settings: --as-of {later:%Y-%m-%dT%H:%M}, or another --output"
    progress("decided", line)
    report_decision(decision, progress)
    return decision


def _serving(run: Run) -> Serving:
    commands = count_commands(run.output, run.settings.model_name)
    champion = run.registry.champion()
    retirement = None if champion else run.registry.retirement()
    weeks = read_service_weeks(run.output, run.settings.model_name).weeks
    return Serving(champion, run.registry.pinned(), retirement, commands, weeks)


def _winner(run: Run, evidence: Evidence) -> tuple[Model | None, CandidateRecord | None]:
    """The model to promote, and what MLflow holds of it: the winner, or its refit."""
    shown, refit = evidence.measured.shown, evidence.refit
    if refit is not None and refit.model is not None:
        return refit.model, refit.record.refit
    return (shown.model, run.registry.locate_candidate(shown.candidate)) if shown else (None, None)


def _run_record(run: Run, decision: Decision, evidence: Evidence, publication: Publication) -> RunRecord:
    model, candidate = _winner(run, evidence) if decision.outcome is Outcome.PROMOTED else (None, None)
    return RunRecord(
        challenger=model,
        candidate=candidate,
        publication=publication.model_dump_json().encode(),
        parameters=run.settings.model_dump(mode="json"),
        tags={
            "data": str(decision.data_fingerprint),
            "engine": run.request.engine.value,
            "code": str(decision.code_revision),
        },
    )
