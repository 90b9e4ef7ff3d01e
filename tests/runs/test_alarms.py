"""Unsound data, and a champion that is too old or too weak, are reported to people: once, for as long as it lasts."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import candidate_record, decision, look_record, metrics, span

from fraud_detection.commands import Commands
from fraud_detection.data_health.examination import Verdict
from fraud_detection.data_health.finding import Finding
from fraud_detection.monitoring.service_weeks import ServiceWeek
from fraud_detection.registry.aliases import Pin
from fraud_detection.runs.alarms import Alarms
from fraud_detection.runs.proposal import _alarms
from fraud_detection.schema import Alarm, AlarmName, Check, Decision, Estimate, LookRecord, Outcome
from fraud_detection.settings import Settings

T = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
COMMANDS = Commands("c.yaml", "out", "sqlite:///out/mlflow.db")
OPTIONS = "--config c.yaml --output out --tracking-uri sqlite:///out/mlflow.db"
CANDIDATE = candidate_record(T).key


def _champion(end: datetime, version: int = 3) -> Any:
    return SimpleNamespace(version=version, training=span(end - 84 * DAY, end))


def _found(settings: Settings | None = None, at: datetime = T, previous: Decision | None = None) -> Alarms:
    return Alarms(settings or Settings(), COMMANDS, at, previous)


def _rows() -> pd.DataFrame:
    """Amounts rank the frauds first."""
    rows = pd.DataFrame({"fraud": np.tile([1, 0, 0, 0], 25), "amount": np.tile([4.0, 3.0, 2.0, 1.0], 25)})
    rows.loc[:59, "amount"] = 9.0
    return rows


def _weak(number: int = 1, average_precision: float = 0.01) -> LookRecord:
    return look_record(CANDIDATE, T + DAY, number, champion=metrics(average_precision))


def test_an_old_champion_raises_an_alarm() -> None:
    """Fails when a model serves for a year because nothing better came, and nobody hears of it or of what to do."""
    assert _found().of_age(_champion(T - 90 * DAY), T, None) is None
    said = _found().of_age(_champion(T - 91 * DAY), T, None)
    assert said is not None
    assert (said.name, said.champion_version, said.raised_at) == (AlarmName.CHAMPION_TOO_OLD, 3, T)
    assert "champion v3 was trained on transactions up to 2026-01-30, more than 90 days ago" in said.text
    assert "next: fraud-detection candidates --config c.yaml --output out shows what could replace it" in said.text
    assert f'fraud-detection promote {OPTIONS} CANDIDATE --reason "…"' in said.text
    longer = Settings.model_validate({"promotion": {"champion_max_age_days": 120}})
    assert _found(longer).of_age(_champion(T - 91 * DAY), T, None) is None


def test_an_old_champion_that_is_pinned_is_not_told_to_be_replaced() -> None:
    """Fails when the alarm names a command that the pin refuses, and not the one that ends the pin."""
    pin = Pin(at=T, who="anna", reason="the audit", from_version=3, to_version=3)
    said = _found().of_age(_champion(T - 91 * DAY), T, pin)
    assert said is not None
    assert said.text.endswith(
        "version 3 is pinned by anna since 2026-05-01 00:00 UTC (the audit);"
        f' next: fraud-detection unpin {OPTIONS} --reason "…"'
    )
    assert "promote" not in said.text


def test_a_champion_below_its_floor_raises_an_alarm() -> None:
    """Fails when the champion finds no more than ranking by amount does, and serves on unnoticed."""
    said = _found().of_floor(_weak(), _rows())
    assert said is not None
    assert "champion v1 has an average precision of 0.010" in said.text
    assert "below the floor" in said.text
    assert f'fraud-detection rollback {OPTIONS} --to VERSION --reason "…"' in said.text
    assert _found().of_floor(_weak(average_precision=0.999), _rows()) is None
    first = look_record(CANDIDATE, T + DAY, champion=None, champion_version=None)
    assert _found().of_floor(first, _rows()) is None


def _week(number: int, average_precision: float | None, spread: float = 0.04, version: int = 3) -> ServiceWeek:
    ap = None
    if average_precision is not None:
        bounds = {"low": average_precision - spread, "high": average_precision + spread}
        ap = Estimate(value=average_precision, **bounds, confidence=0.95)
    start = T + 7 * number * DAY
    known = {"version": version, "transactions": 900, "frauds": 40, "alerts": None}
    return ServiceWeek(start=start, end=start + 7 * DAY, average_precision=ap, **known)


def test_a_champion_that_has_decayed_in_service_raises_an_alarm() -> None:
    """Fails when the champion misses a new fraud for weeks, its own scores show it, and nobody is told."""
    weeks = (_week(0, 0.62), _week(1, 0.58), _week(2, 0.41))
    said = _found().of_service(_champion(T), weeks)
    assert said is not None
    assert (said.name, said.champion_version) == (AlarmName.CHAMPION_DECAYED, 3)
    assert "worse in the week of 2026-05-15 (average precision 0.410 [0.370, 0.450]) than in its first" in said.text
    assert "that of 2026-05-01 (0.620 [0.580, 0.660]); next: fraud-detection candidates" in said.text
    assert f'fraud-detection rollback {OPTIONS} --to VERSION --reason "…"' in said.text


@pytest.mark.parametrize(
    "weeks",
    [
        (),
        (_week(0, 0.62),),
        (_week(0, 0.62), _week(1, None)),
        (_week(0, 0.62), _week(1, 0.41), _week(2, 0.6)),
        (_week(0, 0.62), _week(1, 0.56)),
        (_week(0, 0.9, version=2), _week(1, 0.41)),
    ],
    ids=["nothing measured", "one week", "no frauds since", "it came back", "they overlap", "another version"],
)
def test_no_alarm_is_raised_by_chance_or_of_another_version(weeks: tuple[ServiceWeek, ...]) -> None:
    """Fails when weeks that differ by chance alarm people, or a new champion is held against the one before it."""
    assert _found().of_service(_champion(T), weeks) is None


def test_data_that_stop_each_run_raise_an_alarm() -> None:
    """Fails when retraining stands still for weeks because of a broken feed, and every run is green and silent."""
    check = Check(name="volume_floor", value=0.2, limit=0.25, passed=False)
    finding = Finding(check, date(2026, 4, 30), date(2026, 4, 30), "transactions are missing")
    said = _found().of_data(Verdict(stops=(finding,), checks=(check,)))
    assert said is not None
    assert said.text.startswith("checks of the data failed (volume_floor): runs open and measure nothing until")
    assert _found().of_data(Verdict(checks=(check,))) is None


def _run(
    previous: Decision | None, at: datetime, champion: Any, look: LookRecord | None, outcome: Outcome = Outcome.REFUSED
) -> Decision:
    """A run's decision, with the alarms that it proposes."""
    shown = None if look is None else SimpleNamespace(record=look, rows=_rows())
    evidence: Any = SimpleNamespace(measured=SimpleNamespace(shown=shown), health=None, rollback=None)
    request: Any = SimpleNamespace(settings=Settings(), commands=COMMANDS, clock=at + timedelta(minutes=7))
    data: Any = SimpleNamespace(previous=previous)
    serving: Any = SimpleNamespace(champion=champion, pin=None, weeks=())
    return decision(outcome, at, champion.version, alarms=_alarms(request, data, serving, evidence, at))


def _raised(one: Decision) -> dict[AlarmName, datetime]:
    return {alarm.name: alarm.raised_at - timedelta(minutes=7) for alarm in one.alarms}


def test_an_alarm_lasts_from_the_run_that_raised_it() -> None:
    """Fails when each hourly run raises the same alarm anew, and people stop reading, or a second one is not raised."""
    champion = _champion(T - 89 * DAY, 1)
    below, old = AlarmName.CHAMPION_BELOW_FLOOR, AlarmName.CHAMPION_TOO_OLD
    first = _run(None, T, champion, _weak())
    assert _raised(first) == {below: T}
    second = _run(first, T + DAY, champion, None)  # measures nothing
    assert _raised(second) == {below: T}
    assert second.alarms == first.alarms
    third = _run(second, T + 2 * DAY, champion, _weak(2, 0.02))
    assert _raised(third) == {old: T + 2 * DAY, below: T}
    assert "0.020" in third.alarms[1].text, "the newest measurement"
    better = _run(third, T + 3 * DAY, champion, _weak(3, 0.999))
    assert _raised(better) == {old: T + 2 * DAY}
    again = _run(better, T + 4 * DAY, champion, _weak(4))
    assert _raised(again) == {old: T + 2 * DAY, below: T + 4 * DAY}, "a state that comes back is told again"


def test_an_alarm_about_another_version_is_another_alarm() -> None:
    """Fails when a weak version that a person rolled back to is not reported, since the one before it was weak, too."""
    first = _run(None, T, _champion(T, 1), _weak())
    other = look_record(CANDIDATE, T + DAY, champion=metrics(0.01), champion_version=2)
    assert _raised(_run(first, T + DAY, _champion(T, 2), None)) == {}
    assert _raised(_run(first, T + DAY, _champion(T, 2), other)) == {AlarmName.CHAMPION_BELOW_FLOOR: T + DAY}


@pytest.mark.parametrize("name", AlarmName)
def test_a_decision_keeps_its_alarms(name: AlarmName) -> None:
    """Fails when the next run cannot read from the log which alarms were raised, and raises them again."""
    alarm = Alarm(name=name, champion_version=1, text="x", raised_at=T)
    kept = decision(Outcome.REFUSED, T, 1, alarms=(alarm,), schema_version=2)
    assert Decision.model_validate_json(kept.model_dump_json()).alarms == (alarm,)
