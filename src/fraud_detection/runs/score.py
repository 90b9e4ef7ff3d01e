"""One batch of scoring, top to bottom: resolve the champion, read, find what is new, score it, publish."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.features.between import good_rows_keys
from fraud_detection.features.store.validity import day_of
from fraud_detection.monitoring.service_weeks import (
    estimate_figures,
    estimate_text,
    read_service_weeks,
    week_figures,
    week_text,
    write_service_weeks,
)
from fraud_detection.registry import Champion, Registry
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.revision import code_revision
from fraud_detection.runs.outcome import ScoringResult
from fraud_detection.runs.preflight import require_past
from fraud_detection.runs.progress import Progress, Stopwatch
from fraud_detection.runs.reading import read_input
from fraud_detection.runs.request import Request
from fraud_detection.runs.retrain import open_registry
from fraud_detection.runs.scored_rows import ScoredRows, read_keys, score_rows
from fraud_detection.runs.service import estimate_service, measure_service
from fraud_detection.scores import Batch, ScoreManifest, ScoreStore
from fraud_detection.scores.increments import Increment
from fraud_detection.settings import Settings
from fraud_detection.spark_session import session
from fraud_detection.storage import open_folder
from fraud_detection.time_windows import whole_hour
from fraud_detection.transactions.profile import Profile
from fraud_detection.transactions.reader import Transactions

_DAY = timedelta(days=1)


class NoChampionError(FraudDetectionError):
    """No version is in service."""


@dataclass(frozen=True)
class _Run:
    request: Request
    store: ScoreStore
    registry: Registry
    champion: Champion
    previous: ScoreManifest | None
    progress: Progress
    watch: Stopwatch

    @property
    def threshold(self) -> float | None:
        return None if self.champion.threshold is None else self.champion.threshold.probability


def score(request: Request, progress: Progress, watch: Stopwatch | None = None) -> ScoringResult:
    """Score the transactions that are new since the last batch, each exactly once.

    Args:
        request: what to score; its as-of time is that of the batch.
        progress: takes the steps.
        watch: measures them.

    Raises:
        FraudDetectionError: no champion is in service, or see `fraud_detection.errors`. Nothing was published then, or
            the batch is whole and only the worth of versions in service was not measured; the next batch goes on.
    """
    watch, as_of = watch or Stopwatch(), request.as_of and whole_hour(request.as_of)
    require_past(as_of, request.clock)
    with watch("load champion"):
        registry, champion = _champion(request)
    store = ScoreStore(open_folder(request.output), request.settings.model_name)
    previous = store.newest()
    run = _Run(request, store, registry, champion, previous, progress, watch)
    if previous is not None:
        store.write_alerts(previous)  # which a killed batch may have left undone
    progress("champion", _champion_line(champion))
    if previous is not None and as_of is not None and as_of < previous.as_of:
        return _scored_already(run, previous, as_of)
    with watch("start engine"), session(request.engine) as spark:
        with watch("read and check"):
            transactions, as_of = read_input(spark, request, as_of, progress)
        if previous is not None and as_of < previous.as_of:
            return _scored_already(run, previous, as_of)
        with transactions.store_errors():
            batch, warnings = _batch(run, transactions, as_of)
            with watch("publish"):
                result, manifest = _publish(run, batch, transactions.profile, warnings)
            with watch("measure service"):
                _measure_service(run, manifest, transactions, as_of)
    return result


def score_after(request: Request, as_of: datetime, progress: Progress, watch: Stopwatch) -> ScoringResult | None:
    """Score as of a decision that is in force, with the version that serves since; None if none is in service.

    Args:
        request: of the run that has decided.
        as_of: that of the decision.
        progress: takes the steps.
        watch: measures them.

    Raises:
        FraudDetectionError: scoring failed. The decision stands, and the next batch scores what this one has not.
    """
    try:
        return score(replace(request, as_of=as_of), progress, watch)
    except NoChampionError:
        progress("scored", "nothing: no version is in service")
        return None
    except FraudDetectionError:
        again = request.commands.without_reason("score", "--input", "PATH")
        progress("warning", f"the decision stands, but scoring failed; next: the next run scores again, or: {again}")
        raise


def _champion(request: Request) -> tuple[Registry, Champion]:
    """The version in service, its file checked by its digest."""
    name, output, commands = request.settings.model_name, open_folder(request.output), request.commands
    registry = open_registry(request, output, DecisionLog(output, name, commands.accept_log))
    champion = registry.champion()
    if champion is None:
        raise NoChampionError(
            f"no version of {name} is in service, so nothing was scored; expected a champion; next:"
            f" {commands.retrain}, which promotes the first one"
        )
    return registry, champion


def _champion_line(champion: Champion) -> str:
    if champion.threshold is None:
        return f"v{champion.version}; it has no threshold, so nothing alerts"
    return f"v{champion.version}; alerts from a probability of {champion.threshold.probability:.4g} on"


def _batch(run: _Run, transactions: Transactions, as_of: datetime) -> tuple[Batch, tuple[str, ...]]:
    """The new transactions with their scores, and warnings."""
    settings, previous = run.request.settings, run.previous
    since = as_of - settings.scoring.first_days * _DAY if previous is None else previous.since
    contents = _contents(transactions, settings, since, as_of)
    with run.watch("find new"):
        read = partial(read_keys, transactions, since, as_of)
        increment = run.store.increment(previous, contents, transactions.profile.first.date(), read)
    with run.watch("score"):
        commands = run.request.commands
        scored = score_rows(transactions, increment.new, as_of, run.champion, settings, commands)
    batch = Batch(
        rows=_with_late(scored.table, previous),
        increment=increment,
        contents=contents,
        as_of=as_of,
        since=since,
        scored_at=run.request.clock,
        version=run.champion.version,
        sha256=run.champion.sha256,
        threshold=run.threshold,
        code_revision=code_revision(),
    )
    return batch, _warnings(run, scored, increment, transactions.profile)


def _contents(transactions: Transactions, settings: Settings, since: datetime, as_of: datetime) -> dict[date, str]:
    """A fingerprint of each day of [since, as_of) that has transactions.

    Labels arrive for weeks. Where they decide nothing they are not in it, or each batch would read all these ids again.
    """
    profile, keys, contents = transactions.profile, good_rows_keys(transactions, settings, since, as_of), {}
    for midnight in pd.date_range(since.date(), as_of.date(), freq="D", tz=UTC).to_pydatetime():
        start, end = max(midnight, since), min(midnight + _DAY, as_of)
        if profile.transactions_by_hour[profile.hours_between(start, end)].any():
            key = keys.get(day_of(start)) if end - start == _DAY else None
            contents[midnight.date()] = profile.fingerprint(start, end) if key is None else f"rows-{key}"
    return contents


def _with_late(rows: pa.Table, previous: ScoreManifest | None) -> pa.Table:
    """Late is what an earlier batch would have scored, had it been there."""
    if previous is None:
        return rows.append_column("late", pa.array([False] * rows.num_rows, pa.bool_()))
    time = pa.scalar(previous.as_of.astimezone(UTC), rows["transaction_time"].type)
    return rows.append_column("late", pc.less(rows["transaction_time"], time))


def _warnings(run: _Run, scored: ScoredRows, increment: Increment, profile: Profile) -> tuple[str, ...]:
    found = [f"the champion scores without the retired column {name}" for name in scored.retired_columns]
    if run.champion.threshold is None:
        found.append(
            f"version {run.champion.version} has no threshold, so no transaction alerts; expected one, which a look"
            " stores since this release; next: the next promotion brings one"
        )
    if profile.rejected_rows:
        found.append(f"{profile.rejected_rows:,} rejected row(s) of the input have no score; next: see the quarantine")
    if gone := sum(increment.gone.values()):
        found.append(f"{gone:,} scored transaction(s) are no longer in the input, or on another day; their scores stay")
    return tuple(found)


def _measure_service(run: _Run, scored: ScoreManifest, transactions: Transactions, as_of: datetime) -> None:
    """Measure the weeks of scores whose labels have matured, estimate the rest, and tell MLflow.

    The scores stand, whatever fails here.
    """
    output, settings = open_folder(run.request.output), run.request.settings
    known = read_service_weeks(output, settings.model_name)
    trained_until = partial(_trained_until, run)
    weeks, until = measure_service(known, run.store, scored, transactions, as_of, settings, trained_until)
    for week in weeks:
        run.progress("service", week_text(week))
        _log_service(run, week.version, week_figures(week), week.end)
    estimate = estimate_service(known, run.store, scored, transactions, as_of, settings, run.champion.version)
    if estimate is not None and estimate.transactions:
        run.progress("estimate", estimate_text(estimate))
        _log_service(run, estimate.version, estimate_figures(estimate), estimate.end)
    if until != known.until or estimate is not None:  # last: what was interrupted is measured again
        following = known.with_weeks(weeks, until)
        following = following if estimate is None else following.model_copy(update={"estimate": estimate})
        write_service_weeks(output, settings.model_name, following)


def _log_service(run: _Run, version: int, figures: dict[str, float], end: datetime) -> None:
    try:
        run.registry.log_service(version, figures, end)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError as error:  # such as a version that was removed for its age
        run.progress("warning", f"MLflow has not got the metrics of v{version} in service: {error}")


def _trained_until(run: _Run, version: int) -> datetime | None:
    """The end of a version's training; None, with a warning, where MLflow does not know it any more."""
    try:
        return run.registry.trained_until(version)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError as error:  # such as a version that was removed for its age
        run.progress("warning", f"what v{version} was worth in service is not measured: {error}")
        return None


def _publish(
    run: _Run, batch: Batch, profile: Profile, warnings: tuple[str, ...]
) -> tuple[ScoringResult, ScoreManifest]:
    manifest = run.store.publish(run.previous, batch)
    lists = run.store.write_alerts(manifest)
    days, late = len(manifest.new_files), f"; {manifest.late:,} of them late" if manifest.late else ""
    run.progress("scored", f"{manifest.rows:,} new transaction(s) of {days} day(s) up to {_minute(batch.as_of)}{late}")
    if batch.threshold is not None:
        run.progress("alerts", f"{manifest.alerts:,}")
    for path in lists.values():
        run.progress("list", path)
    for warning in warnings:
        run.progress("warning", warning)
    result = ScoringResult(
        batch=manifest.number,
        model_name=run.request.settings.model_name,
        as_of=batch.as_of,
        version=batch.version,
        threshold=batch.threshold,
        rows=manifest.rows,
        alerts=manifest.alerts,
        late=manifest.late,
        rejected_rows=profile.rejected_rows,
        files=tuple(run.store.url(name) for name in manifest.new_files.values()),
        alert_lists=tuple(lists.values()),
        warnings=warnings,
    )
    return result, manifest


def _scored_already(run: _Run, previous: ScoreManifest, as_of: datetime) -> ScoringResult:
    """Scores of a later time are there: this one would find nothing, and know less."""
    run.progress(
        "scored", f"transactions up to {_minute(previous.as_of)} before; nothing is scored as of {_minute(as_of)}"
    )
    return ScoringResult(
        batch=None,
        model_name=run.request.settings.model_name,
        as_of=as_of,
        version=run.champion.version,
        threshold=run.threshold,
        rows=0,
        alerts=0,
        late=0,
        rejected_rows=0,
        files=(),
        alert_lists=(),
        warnings=(),
    )


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
