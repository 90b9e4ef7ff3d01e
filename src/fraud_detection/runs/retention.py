"""What `fraud-detection retain` removes: results that are older than their age.

Only the folders of reports, outcomes, quarantined rows and scores are listed, so nothing else below the output folder
can be removed: the decision log is in none of them. `registry.retention` says what of MLflow is protected.

Before anything is removed, `retention/MODEL.json` says what is going to be: a process that is killed leaves nothing
unexplained, and the same command goes on where it ended.

`retrain --retain` does the same once a day, after its decision.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import ValidationError

from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import OUTCOMES, QUARANTINE, report_file, reports_folder, retention_file
from fraud_detection.registry import Registry
from fraud_detection.registry.decision_log import Entry, entry_time
from fraud_detection.registry.retention import Removable
from fraud_detection.runs.outcome import RetentionResult
from fraud_detection.runs.progress import Progress, aligned
from fraud_detection.schema import Decision, Stored
from fraud_detection.scores import ScoreStore
from fraud_detection.settings import Retention, Settings
from fraud_detection.storage import Storage, StoredObject

MOST_A_DAY = 500
"""Of each kind, what a run removes: it keeps a cluster for minutes, and after years without it some days catch up."""
_BY_A_RUN = "retrain --retain"


class Kind(StrEnum):
    """What is removed by its age."""

    REPORTS = "reports"
    OUTCOMES = "outcomes"
    QUARANTINE = "quarantine"
    SCORES = "scores"
    RUNS = "mlflow_runs"
    VERSIONS = "model_versions"


class RemovalRow(Stored):
    """How much of one kind is older than its age."""

    what: Kind
    count: int
    bytes: int  # the files of a version are those of its run
    older_than_days: int
    before: datetime


class Removal(Stored):
    """A removal, as it was about to begin."""

    what: Kind
    before: datetime  # what was written, ended or last served before
    older_than_days: int
    at: datetime
    who: str


class RemovalRecord(Stored):
    """The newest removal of each kind, of one model name."""

    model_name: str
    removals: tuple[Removal, ...] = ()
    checked_at: datetime | None = None  # when something was last to be removed, by a run or a person

    def newest(self, what: Kind) -> Removal | None:
        """The newest removal of a kind; of none is None."""
        return next((one for one in self.removals if one.what is what), None)


@dataclass(frozen=True)
class Plan:
    """What is older than its age."""

    files: dict[Kind, tuple[StoredObject, ...]]
    mlflow: Removable
    ages: dict[Kind, int]
    """In days."""
    now: datetime

    def before(self, what: Kind) -> datetime:
        """What is older is removed."""
        return self.now - timedelta(days=self.ages[what])

    @property
    def rows(self) -> tuple[RemovalRow, ...]:
        """Count and bytes of each kind."""
        sizes = {what: [one.size for one in found] for what, found in self.files.items()}
        sizes |= {Kind.RUNS: [run.bytes for run in self.mlflow.runs], Kind.VERSIONS: [0] * len(self.mlflow.versions)}
        return tuple(
            RemovalRow(
                what=what,
                count=len(sizes[what]),
                bytes=sum(sizes[what]),
                older_than_days=self.ages[what],
                before=self.before(what),
            )
            for what in Kind
        )


def plan_removal(
    storage: Storage, registry: Registry, model_name: str, ages: Retention, now: datetime, *, most: int | None = None
) -> Plan:
    """Find what is older than its age; nothing is removed.

    `most` is the number of files of a kind and of MLflow runs, oldest first; None is all of them.

    Raises:
        LogMismatchError: the decision log, which says what is needed, is not the one that was written.
    """
    days = {what: int(getattr(ages, f"{what}_days")) for what in Kind}
    before = {what: now - timedelta(days=days[what]) for what in Kind}
    files = {what: _older(storage, folder, before[what])[:most] for what, folder in _folders(model_name).items()}
    files[Kind.SCORES] = ScoreStore(storage, model_name).older(before[Kind.SCORES])[:most]
    mlflow = registry.find_removable(before[Kind.VERSIONS], before[Kind.RUNS], most)
    return Plan(files, mlflow, days, now)


def remove(
    plan: Plan, storage: Storage, registry: Registry, model_name: str, who: str, done: Callable[[str], None]
) -> None:
    """Remove what a plan has found; `done` gets a line for each kind.

    Raises:
        FraudDetectionError: the account may not delete, or the registry refuses; run the same command again.
    """
    _record(plan, storage, model_name, who)
    if plan.files[Kind.SCORES]:
        ScoreStore(storage, model_name).forget_before(plan.before(Kind.SCORES))
    for what, files in plan.files.items():
        for one in files:
            storage.discard(one.name)
        done(f"{len(files)} {_words(what)} removed")
    versions = registry.remove_versions(plan.before(Kind.VERSIONS))
    done(f"{len(versions)} {_words(Kind.VERSIONS)} removed")
    runs = sum(1 for _ in registry.remove_runs(plan.mlflow.runs))
    done(f"{runs} {_words(Kind.RUNS)} removed")


def retain_daily(
    storage: Storage, registry: Registry, settings: Settings, now: datetime, progress: Progress
) -> RetentionResult | None:
    """Remove what is older than its age after a run's decision; None where that was tried since midnight, UTC.

    The decision stands whatever happens here, so a failure is reported and not raised; the next day tries again.
    """
    name, removed = settings.model_name, list[str]()

    def done(line: str) -> None:
        progress("retain", line)
        removed.append(line)

    try:
        record = read_removals(storage, name)
        if record.checked_at is not None and record.checked_at.date() >= now.date():
            return None
        _write(storage, record.model_copy(update={"checked_at": now}))
        plan = plan_removal(storage, registry, name, settings.retention, now, most=MOST_A_DAY)
        remove(plan, storage, registry, name, _BY_A_RUN, done)
    except FraudDetectionError as error:
        progress("warning", f"old results were not removed, which changes no decision: {error}")
        return RetentionResult(removed=tuple(removed), error=str(error))
    return RetentionResult(removed=tuple(removed), error=None)


def removal_table(rows: Iterable[RemovalRow]) -> list[str]:
    """What is older than its age as aligned lines, the head first."""
    lines = [(_words(row.what), f"{row.count:,}", f"{row.bytes:,}", f"{row.older_than_days} days") for row in rows]
    return aligned([("what", "count", "bytes", "older than"), *lines])


def read_removals(storage: Storage, model_name: str) -> RemovalRecord:
    """What was removed of a model name.

    Raises:
        FraudDetectionError: the file is broken.
    """
    name = retention_file(model_name)
    content = storage.read(name)
    if content is None:
        return RemovalRecord(model_name=model_name)
    try:
        return RemovalRecord.model_validate_json(content)
    except ValidationError as error:
        raise FraudDetectionError(
            f"{storage.url(name)} does not say what was removed: {error.errors()[0]['msg']}; restore it, or delete it:"
            " decisions then no longer says why a report is missing"
        ) from error


def removed_reports(storage: Storage, model_name: str, history: Sequence[Entry]) -> dict[datetime, Removal]:
    """The as-of times of decisions whose report was removed for its age, and when."""
    removal = read_removals(storage, model_name).newest(Kind.REPORTS)
    if removal is None:
        return {}
    left = {one.name for one in storage.objects(reports_folder(model_name)) if one.size}
    return {
        entry.as_of: removal
        for entry in history
        if isinstance(entry, Decision)
        and entry.report is not None
        and entry_time(entry) < removal.before
        and report_file(model_name, entry.as_of) not in left
    }


def removal_text(removal: Removal) -> str:
    """Why a report is gone."""
    return f"report removed on {removal.at:%Y-%m-%d} (older than {removal.older_than_days} days)"


def _folders(model_name: str) -> dict[Kind, str]:
    return {Kind.REPORTS: reports_folder(model_name), Kind.OUTCOMES: OUTCOMES, Kind.QUARANTINE: QUARANTINE}


def _older(storage: Storage, folder: str, before: datetime) -> tuple[StoredObject, ...]:
    """Oldest first; emptied ones are gone."""
    found = (one for one in storage.objects(folder) if one.size and one.written_at < before)
    return tuple(sorted(found, key=lambda one: (one.written_at, one.name)))


def _record(plan: Plan, storage: Storage, model_name: str, who: str) -> None:
    """Say what is going to be removed; of a kind with nothing to remove the earlier removal stays."""
    known = {one.what: one for one in read_removals(storage, model_name).removals}
    for row in plan.rows:
        if row.count and (row.what not in known or known[row.what].before < row.before):
            known[row.what] = Removal(
                what=row.what, before=row.before, older_than_days=row.older_than_days, at=plan.now, who=who
            )
    removals = tuple(known[what] for what in Kind if what in known)
    _write(storage, RemovalRecord(model_name=model_name, removals=removals, checked_at=plan.now))


def _write(storage: Storage, record: RemovalRecord) -> None:
    storage.write_atomic(retention_file(record.model_name), record.model_dump_json(indent=2).encode())


def _words(what: Kind) -> str:
    return {
        Kind.RUNS: "MLflow runs",
        Kind.VERSIONS: "model versions",
        Kind.QUARANTINE: "quarantine files",
        Kind.SCORES: "files of scores",
    }.get(what, what.value)
