"""What the dashboard keeps of the log: the same, whichever parts of the log the runs have read."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from factories import MODEL_NAME, decision, opening
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.monitoring.history import KEPT, History, costs_by_week, with_entries
from fraud_detection.registry.decision_log import Action, Entry, Intervention
from fraud_detection.runs.request import ClusterPrice
from fraud_detection.schema import Alarm, AlarmName, Decision, Outcome

T = datetime(2026, 4, 20, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)


def run(hour: int, outcome: Outcome) -> Entry:
    version = hour if outcome is Outcome.PROMOTED else None
    measured = {} if outcome is not Outcome.NO_DECISION else {"champion": None, "challenger": None, "difference": None}
    cost = ClusterPrice(20.0, "RUB", T).cost_until(T + (hour % 7) * HOUR) if hour % 3 else None
    alarms = [
        Alarm(name=name, champion_version=1, text=f"told at {hour}", raised_at=T)
        for place, name in enumerate(AlarmName)
        if outcome is not Outcome.PROMOTED and hour * (place + 3) % 7 < 3
    ]
    found = decision(outcome, T + hour * HOUR, champion_version=1, version=version, **measured, cost=cost)
    return found.model_copy(update={"alarms": tuple(alarms)})


def by_hand(hour: int, action: Action, before: int | None, after: int | None) -> Intervention:
    at = T + hour * HOUR + timedelta(minutes=20)
    return Intervention(
        action=action,
        model_name=MODEL_NAME,
        at=at,
        who="anna",
        reason="because",
        from_version=before,
        to_version=after,
        pinned_at=at,
    )


ENTRIES = st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=90).map(
    lambda outcomes: [run(hour, outcome) for hour, outcome in enumerate(outcomes)]
)


@given(ENTRIES, st.data())
def test_run_by_run_equals_the_whole_log(entries: list[Entry], data: st.DataObject) -> None:
    """Fails when the page of hourly runs, each of which reads only the newest weeks, differs from one made anew."""
    history = History()
    for place in range(len(entries)):
        behind = data.draw(st.integers(0, place))
        history = with_entries(history, entries[behind : place + 1])
    assert history == with_entries(History(), entries)


@given(ENTRIES)
def test_a_run_that_is_seen_twice_counts_once(entries: list[Entry]) -> None:
    """Fails when a day has more runs than hours, since each run reads those of the last weeks once more."""
    history = with_entries(with_entries(History(), entries), entries)
    assert sum(sum(one.outcomes.values()) for one in history.days) == len(entries)
    assert len(history.measurements) == sum(one.outcome is not Outcome.NO_DECISION for one in entries)  # type: ignore[union-attr]


@given(ENTRIES)
def test_the_weeks_add_up_to_what_the_runs_cost(entries: list[Entry]) -> None:
    """Fails when the page shows less or more than the decisions say, or adds up money of two currencies."""
    history = with_entries(History(), entries)
    paid = [one.cost for one in entries if isinstance(one, Decision) and one.cost is not None]
    weeks = costs_by_week(history)
    assert sum(one.cost.get("RUB", 0.0) for one in weeks) == pytest.approx(sum(one.amount for one in paid))
    assert all(one.start.weekday() == 0 and set(one.cost) == {"RUB"} for one in weeks)
    if paid:
        other = paid[0].model_copy(update={"currency": "EUR"})
        last = entries[-1]
        assert isinstance(last, Decision)
        more = last.model_copy(update={"as_of": last.as_of + HOUR, "cost": other})
        newest = costs_by_week(with_entries(history, [*entries, more]))[0]
        assert newest.cost["EUR"] == other.amount


def test_what_people_did_to_the_model_in_service_is_kept() -> None:
    """Fails when the page shows a version in service that was rolled back or retired, or a pin as a change."""
    entries = [
        run(0, Outcome.PROMOTED),
        run(5, Outcome.PROMOTED),
        by_hand(6, Action.PIN, 5, 5),
        by_hand(7, Action.ROLLBACK, 5, 0),
        by_hand(8, Action.RETIRE, 0, None),
        by_hand(9, Action.ACCEPT_LOG, None, 4),
    ]
    found = with_entries(History(), [opening(T), *entries]).changes
    assert [(one.version, one.cause) for one in found] == [
        (0, "promoted"),
        (5, "promoted"),
        (0, "rollback"),
        (None, "retire-champion"),
        (4, "accept-log"),
    ]


def test_it_does_not_grow_for_ever() -> None:
    """Fails when the object that every run rewrites grows by each hour of the years."""
    old = [run(hour, Outcome.REFUSED) for hour in range(0, 48, 4)]
    new = run(KEPT // HOUR + 40, Outcome.REFUSED)
    history = with_entries(with_entries(History(), old), [new])
    oldest = T + (40 * HOUR)
    assert all(one.as_of >= oldest for one in history.measurements)
    assert all(one.day >= oldest.date() for one in history.days)
    assert len(history.days) == 3


@given(ENTRIES)
def test_an_alarm_lasts_from_the_run_that_raised_it_to_the_first_one_without(entries: list[Entry]) -> None:
    """Fails when the page tells a broken feed twice, or does not say that it is over."""
    spans = with_entries(History(), entries).alarms
    runs = [one for one in entries if isinstance(one, Decision)]
    for name in AlarmName:
        own = [one for one in spans if one.name is name]
        lasting = [
            any(one.since <= run.as_of and (one.until is None or run.as_of < one.until) for one in own) for run in runs
        ]
        assert lasting == [any(alarm.name is name for alarm in run.alarms) for run in runs]
        assert all(one.until is not None and one.until <= later.since for one, later in pairwise(own))
