"""What the dashboard shows of the decision log, in a form that grows by what a run adds.

A run reads the newest weeks of the log. What the page shows of earlier times is kept in one small object, which each
run brings up to date. It is derived: `fraud-detection dashboard` makes it anew from the whole log.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pydantic import Field

from fraud_detection.registry.decision_log import Action, Entry, LogEntry, changes_service
from fraud_detection.schema import AlarmName, Decision, Opening, Outcome, Stored

HISTORY_VERSION = 1
KEPT = timedelta(days=400)
"""Of measurements, days and alarms; changes of the model in service are kept for good, since they are few."""


class ServiceChange(Stored):
    """A version came into service, or none was left there."""

    at: datetime  # of a run its as-of time
    version: int | None
    cause: str  # in the words of the log: promoted, rollback, retire-champion, …


class Measurement(Stored):
    """What a run measured of the model in service and of the challenger that it shows, on the same hold-out."""

    as_of: datetime
    holdout_start: datetime
    holdout_end: datetime
    frauds: int
    champion_version: int | None
    champion: float | None  # average precision
    challenger: float | None
    outcome: Outcome


class RunsOfDay(Stored):
    """How the runs of one day ended, by their as-of time in UTC."""

    day: date
    outcomes: dict[Outcome, int]
    cost: dict[str, float] = Field(default_factory=dict)  # by currency; of the runs that recorded theirs


class AlarmSpan(Stored):
    """An alarm from the run that raised it to the first one without it, by their as-of times."""

    name: AlarmName
    champion_version: int | None
    text: str  # of the run that raised it
    since: datetime
    until: datetime | None  # None while it lasts


class History(Stored):
    """Oldest first."""

    schema_version: int = HISTORY_VERSION
    newest: datetime | None = None  # as-of time of the newest run in it
    changes: tuple[ServiceChange, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    days: tuple[RunsOfDay, ...] = ()
    alarms: tuple[AlarmSpan, ...] = ()


def event_time(entry: Entry) -> datetime:
    """When the page shows an entry: a run at its as-of time, which a backfill has long after."""
    return entry.as_of if isinstance(entry, Decision) else entry.at


def with_entries(history: History, entries: Sequence[LogEntry]) -> History:
    """The history with what these entries add; those that it holds already add nothing. As-of times only rise.

    Args:
        history: of entries before these, and maybe of some of these.
        entries: consecutive ones, up to the newest.
    """
    happened = sorted((one for one in entries if not isinstance(one, Opening)), key=event_time)
    if not happened:
        return history
    oldest = event_time(happened[-1]) - KEPT
    changes = {one.at: one for one in (*history.changes, *_changes(happened))}
    measurements = {one.as_of: one for one in (*history.measurements, *_measurements(happened))}
    decisions = [one for one in happened if isinstance(one, Decision)]
    new = [one for one in decisions if history.newest is None or one.as_of > history.newest]
    days = _with_runs({one.day: one for one in history.days}, new)
    return History(
        newest=decisions[-1].as_of if decisions else history.newest,
        changes=tuple(changes[at] for at in sorted(changes)),
        measurements=tuple(measurements[at] for at in sorted(measurements) if at >= oldest),
        days=tuple(days[day] for day in sorted(days) if day >= oldest.date()),
        alarms=tuple(one for one in _alarms(history.alarms, new) if one.until is None or one.until >= oldest),
    )


def _changes(happened: Iterable[Entry]) -> Iterable[ServiceChange]:
    for entry in happened:
        if isinstance(entry, Decision):
            if changes_service(entry):
                yield ServiceChange(at=entry.as_of, version=entry.version, cause=entry.outcome.value)
        elif changes_service(entry) or (entry.action is Action.ACCEPT_LOG and entry.from_version != entry.to_version):
            yield ServiceChange(at=entry.at, version=entry.to_version, cause=entry.action.value)


def _measurements(happened: Iterable[Entry]) -> Iterable[Measurement]:
    for entry in happened:
        if isinstance(entry, Decision) and (entry.champion or entry.challenger):
            yield Measurement(
                as_of=entry.as_of,
                holdout_start=entry.holdout.start,
                holdout_end=entry.holdout.end,
                frauds=entry.holdout.frauds,
                champion_version=entry.champion_version,
                champion=entry.champion.average_precision if entry.champion else None,
                challenger=entry.challenger.average_precision if entry.challenger else None,
                outcome=entry.outcome,
            )


def _alarms(known: Sequence[AlarmSpan], runs: Iterable[Decision]) -> list[AlarmSpan]:
    """The spans after further runs, in the order of their begin."""
    found = list(known)
    for run in runs:
        now = {(one.name, one.champion_version): one for one in run.alarms}
        for place, span in enumerate(found):
            lasts = now.pop((span.name, span.champion_version), None) if span.until is None else None
            if span.until is None and lasts is None:
                found[place] = span.model_copy(update={"until": run.as_of})
        found += [
            AlarmSpan(name=one.name, champion_version=one.champion_version, text=one.text, since=run.as_of, until=None)
            for one in now.values()
        ]
    return found


def _with_runs(days: dict[date, RunsOfDay], runs: Iterable[Decision]) -> dict[date, RunsOfDay]:
    counts = {day: Counter(one.outcomes) for day, one in days.items()}
    costs = {day: dict(one.cost) for day, one in days.items()}
    for run in runs:
        day = run.as_of.astimezone(UTC).date()
        counts.setdefault(day, Counter())[run.outcome] += 1
        spent = costs.setdefault(day, {})
        if run.cost is not None:
            spent[run.cost.currency] = round(spent.get(run.cost.currency, 0.0) + run.cost.amount, 4)
    return {day: RunsOfDay(day=day, outcomes=dict(found), cost=costs[day]) for day, found in counts.items()}


@dataclass(frozen=True)
class CostOfWeek:
    """What the runs of a week cost, by their as-of time in UTC."""

    start: date
    """A Monday."""
    runs: int
    cost: dict[str, float]
    """By currency."""


def costs_by_week(history: History) -> list[CostOfWeek]:
    """Of the weeks in which a run recorded its cost, newest first."""
    weeks: dict[date, list[RunsOfDay]] = {}
    for one in history.days:
        weeks.setdefault(one.day - timedelta(days=one.day.weekday()), []).append(one)
    return [
        _week(start, weeks[start]) for start in sorted(weeks, reverse=True) if any(one.cost for one in weeks[start])
    ]


def _week(start: date, days: Sequence[RunsOfDay]) -> CostOfWeek:
    cost: Counter[str] = Counter()
    for one in days:
        cost.update(one.cost)
    return CostOfWeek(start, sum(sum(one.outcomes.values()) for one in days), dict(cost))
