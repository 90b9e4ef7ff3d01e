"""The page: a model's time in service in words and charts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fraud_detection.data_health.drift import drifted_text
from fraud_detection.monitoring.charts import quality, runs_by_day, service, service_weeks
from fraud_detection.monitoring.history import History, costs_by_week, event_time
from fraud_detection.monitoring.service_weeks import ServiceWeeks
from fraud_detection.outputs import report_file
from fraud_detection.promotion import explain_decision
from fraud_detection.registry.decision_log import Entry, LogEntry
from fraud_detection.registry.listing import ShadowCandidate, shadow_candidates
from fraud_detection.report import wording
from fraud_detection.report.templates import page_template
from fraud_detection.schema import Alarm, Decision, Opening, Outcome, Shift

_MOST_EVENTS = 20
_MOST_DRIFTS = 5
_MOST_WEEKS = 8
_ROLES = {
    Outcome.PROMOTED: "promoted",
    Outcome.REFUSED: "refused",
    Outcome.NEEDS_REVIEW: "needs-review",
    Outcome.NO_DECISION: "no-decision",
}


def render(
    model_name: str,
    history: History,
    worth: ServiceWeeks,
    entries: Sequence[LogEntry],
    approval_days: int,
    now: datetime,
) -> str:
    """One HTML page without scripts or anything to fetch; the same input gives the same text.

    Args:
        model_name: whose page it is.
        history: up to the newest of the entries.
        worth: what the versions were worth.
        entries: the newest of the log, oldest first.
        approval_days: `promotion.approval_days`.
        now: when the page is made.
    """
    happened = sorted((one for one in entries if not isinstance(one, Opening)), key=event_time)
    decisions = [one for one in happened if isinstance(one, Decision)]
    newest = decisions[-1] if decisions else None
    end = newest.as_of if newest else now
    return page_template("dashboard.html.j2", "monitoring").render(
        model_name=model_name,
        now=now,
        newest=newest,
        outcome_role=_ROLES[newest.outcome] if newest else "",
        alarms=_alarms(newest),
        champion=_champion(history),
        measured=history.measurements[-1] if history.measurements else None,
        service=service(history, end),
        quality=quality(history, end),
        runs=runs_by_day(history),
        costs=costs_by_week(history)[:_MOST_WEEKS],
        weeks=worth.weeks[: -_MOST_WEEKS - 1 : -1],
        weekly=service_weeks(worth.weeks),
        estimate=worth.estimate if worth.estimate and worth.estimate.transactions else None,
        candidates=[_candidate(one) for one in shadow_candidates(entries, now, approval_days)],
        drifts=_drifts(newest),
        drifted=drifted_text(newest.drift.drifted) if newest and newest.drift and newest.drift.drifted else "",
        events=_events(happened),
        alarm_spans=history.alarms[: -_MOST_EVENTS - 1 : -1],
        waiting=_waiting(decisions),
    )


@dataclass(frozen=True)
class _InService:
    version: int | None
    since: datetime
    cause: str


def _champion(history: History) -> _InService | None:
    if not history.changes:
        return None
    change = history.changes[-1]
    return _InService(change.version, change.at, wording.words(change.cause).lower())


def _alarms(newest: Decision | None) -> tuple[Alarm, ...]:
    return newest.alarms if newest else ()


@dataclass(frozen=True)
class _Candidate:
    name: str
    trained: datetime
    looks: int
    difference: float | None
    needed: float | None
    root: float | None
    root_needed: float | None
    share: float
    """Of the evidence that is needed, in percent."""
    state: str


def _candidate(one: ShadowCandidate) -> _Candidate:
    last = one.looks[-1] if one.looks else None
    limits = last.limits if last is not None else None
    root = last.root if last is not None else None
    share = 0.0
    if root is not None and limits is not None and limits.root > 0:
        share = min(100.0, max(0.0, round(100 * root / limits.root, 1)))
    state = "in shadow" if one.waits_until is None else f"waits for approval until {wording.moment(one.waits_until)}"
    return _Candidate(
        name=one.name,
        trained=one.record.training.end,
        looks=last.number if last is not None else 0,
        difference=last.difference.value if last is not None and last.difference is not None else None,
        needed=max(limits.difference_for_unseen_cards, limits.difference_that_matters) if limits else None,
        root=root,
        root_needed=limits.root if limits else None,
        share=share,
        state=state,
    )


def _drifts(newest: Decision | None) -> list[Shift]:
    """The inputs nearest to their limits, and the score."""
    if newest is None or newest.drift is None:
        return []
    return [*newest.drift.inputs[:_MOST_DRIFTS], newest.drift.score]


@dataclass(frozen=True)
class _Event:
    at: datetime
    role: str
    what: str
    text: str
    report: str | None
    """Relative to the page."""


def _events(happened: Sequence[Entry]) -> list[_Event]:
    """What was decided, and what people did, the newest first; runs that decided nothing are left out."""
    told = [one for one in happened if not (isinstance(one, Decision) and one.outcome is Outcome.NO_DECISION)]
    return [_event(one) for one in reversed(told[-_MOST_EVENTS:])]


def _event(entry: Entry) -> _Event:
    if isinstance(entry, Decision):
        version = f" as v{entry.version}" if entry.version is not None else ""
        what = wording.words(entry.outcome.value) + version
        return _Event(entry.as_of, _ROLES[entry.outcome], what, explain_decision(entry), _report(entry))
    return _Event(entry.at, "by-hand", wording.words(entry.action.value), f"{entry.who}: {entry.reason}", None)


def _report(decision: Decision) -> str | None:
    return None if decision.report is None else f"../{report_file(decision.model_name, decision.as_of)}"


@dataclass(frozen=True)
class _Waiting:
    """The runs since the last decision, and why the newest of them decided nothing."""

    runs: int
    reason: str
    report: str | None


def _waiting(decisions: Sequence[Decision]) -> _Waiting | None:
    runs = 0
    for one in reversed(decisions):
        if one.outcome is not Outcome.NO_DECISION:
            break
        runs += 1
    return _Waiting(runs, decisions[-1].reason, _report(decisions[-1])) if runs else None
