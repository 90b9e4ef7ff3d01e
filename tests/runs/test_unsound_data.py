"""Whole runs on data that are not sound: what they decide, say and leave."""

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import AS_OF, SETTINGS, CommandResult, Job
from weak_champion import EASY, later

from benchmarks.end_to_end import FIRST_RUN, Story
from fraud_simulation.files import write_days

pytest_plugins = ["weak_champion"]

POISONED = date(2026, 2, 10)
SHIPPED: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "conf" / "retraining.yaml").read_text())


def _changed(transactions: Path, folder: Path, change: Any) -> Path:
    """A copy of the data with one day's table changed, or others."""
    shutil.copytree(transactions, folder)
    for path in sorted(folder.rglob("*.parquet")):
        table = change(date.fromisoformat(path.stem), pq.read_table(path))
        if table is not None:
            pq.write_table(table, path)
    return folder


def _set(table: pa.Table, name: str, values: Any) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


def _poison(day: date, table: pa.Table) -> pa.Table | None:
    """Every fifth row of a day is called a fraud the next day."""
    if day != POISONED:
        return None
    fraud = np.arange(len(table)) % 5 == 0
    known = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=2)
    table = _set(table, "fraud", fraud.astype(np.int8))
    return _set(table, "label_available_at", [known if one else None for one in fraud])


def _shrink(_: date, table: pa.Table) -> pa.Table:
    """Every second known fraud has lost its label."""
    fraud = table["fraud"].to_numpy() == 1
    lost = fraud & (np.cumsum(fraud) % 2 == 0)
    known = table["label_available_at"].to_pylist()
    table = _set(table, "fraud", (fraud & ~lost).astype(np.int8))
    return _set(table, "label_available_at", [None if gone else at for at, gone in zip(known, lost, strict=True)])


def _leak(_: date, table: pa.Table) -> pa.Table:
    """A column that is filled in with the chargeback."""
    return table.append_column("case_number", pa.array(np.where(table["fraud"].to_numpy() == 1, 7.0, 0.0)))


def _leaking(settings: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """The settings with that column as an input."""
    columns = {**settings["data"]["columns"], "extra_numeric": ["case_number"]}
    changed = {name: {**settings[name], **values} for name, values in sections.items()}
    return {**settings, "data": {**settings["data"], "columns": columns}, **changed}


def _failed(ran: CommandResult) -> list[str]:
    return [check["name"] for check in ran.json["checks"] if not check["passed"]]


def _openings(output: Path) -> list[str]:
    return [path.name for path in (output / "decisions").rglob("*opening*")]


def test_a_day_of_poisoned_labels_stops_the_run_before_it_opens_anything(
    job: Job, transactions: Path, tmp_path: Path
) -> None:
    """Fails when wrong labels train a model, or the decision does not name the check and the way on."""
    ran = job(json=True, input=_changed(transactions, tmp_path / "poisoned", _poison))
    assert (ran.exit_code, ran.json["decision"], ran.json["version"]) == (0, "no_decision", None)
    assert "frauds on 2026-02-10" in ran.json["reason"]
    assert "data_health.accepted: [{check: fraud_rate_ceiling, from: 2026-02-10, to: 2026-02-10" in ran.json["reason"]
    assert _failed(ran) == ["fraud_rate_ceiling"]
    assert (ran.json["opened"], ran.json["looks"], _openings(tmp_path / "output")) == ([], [], [])
    assert "(fraud_rate_ceiling): stops the run" in ran.stderr
    assert "train" not in ran.json["seconds"]


def test_an_accepted_day_lets_the_run_go_on_with_a_warning(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a known incident stops retraining for as long as its day is in the training window."""
    accepted = [{"check": "fraud_rate_ceiling", "from": POISONED, "to": POISONED, "reason": "attack of February"}]
    ran = job(
        json=True,
        input=_changed(transactions, tmp_path / "poisoned", _poison),
        settings={**SETTINGS, "data_health": {"accepted": accepted}},
    )
    assert ran.json["opened"], ran.json["reason"]
    assert any(text.startswith("accepted (attack of February): ") for text in ran.json["warnings"])


def test_a_leaking_column_opens_no_candidate_and_is_named(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a column that is filled in with the chargeback makes a model that is blind in production."""

    leaking = _changed(transactions, tmp_path / "leaking", _leak)
    ran = job(json=True, input=leaking, settings=_leaking(SETTINGS))
    assert (ran.exit_code, ran.json["decision"], ran.json["opened"]) == (0, "no_decision", [])
    assert "the input case_number alone" in ran.json["reason"]
    assert _failed(ran) == ["no_leaking_feature"]


def test_a_leak_is_said_beside_a_look_at_a_sound_candidate(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when looks at the candidates of earlier runs hide for weeks why no new one is opened."""
    leaking, day = _changed(transactions, tmp_path / "leaking", _leak), AS_OF.date()
    job()
    freeze = {"promotion": {"freezes": [{"from": day, "to": day, "reason": "audit"}]}}
    frozen = job(json=True, as_of=(AS_OF + timedelta(hours=1)).isoformat(), settings={**SETTINGS, **freeze})
    assert (bool(frozen.json["opened"]), frozen.json["looks"]) == (True, [])
    ran = job(json=True, input=leaking, as_of=(AS_OF + timedelta(hours=2)).isoformat(), settings=_leaking(SETTINGS))
    assert (len(ran.json["looks"]), ran.json["opened"]) == (1, []), ran.json["reason"]
    assert any("no_leaking_feature" in warning for warning in ran.json["warnings"])


def test_a_label_table_that_shrinks_between_two_runs_stops_the_second(
    job: Job, transactions: Path, tmp_path: Path
) -> None:
    """Fails when labels that an earlier run knew are gone, and their frauds count as genuine in the next hold-out."""
    first = job(json=True)
    assert first.json["decision"] == "promoted"
    kept = json.loads((tmp_path / "output" / "known_labels" / "fraud_detection.json").read_text())
    assert sum(kept["frauds"].values()) > 100

    shrunk = _changed(transactions, tmp_path / "shrunk", _shrink)
    for hours in (1, 2):
        ran = job(json=True, input=shrunk, as_of=(AS_OF + timedelta(hours=hours)).isoformat())
        assert ran.json["decision"] == "no_decision", "and so does every later run"
        assert "are missing now" in ran.json["reason"]
        assert _failed(ran) == ["known_frauds_kept"]
    assert json.loads((tmp_path / "output" / "known_labels" / "fraud_detection.json").read_text()) == kept


def test_volume_that_halves_stops_the_run(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a run decides on half of the transactions without a word."""

    def halve(day: date, table: pa.Table) -> pa.Table | None:
        return table.take(np.arange(0, len(table), 2)) if day >= date(2026, 2, 25) else None

    ran = job(json=True, input=_changed(transactions, tmp_path / "half", halve))
    assert ran.json["decision"] == "no_decision"
    assert _failed(ran) == ["volume_floor"]


def test_a_broken_count_of_known_labels_ends_the_run_with_what_to_do(job: Job, tmp_path: Path) -> None:
    """Fails when a damaged file switches the check of lost labels off in silence."""
    path = tmp_path / "output" / "known_labels" / "fraud_detection.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    ran = job(json=True)
    assert ran.exit_code == 1
    assert "restore it, or delete" in ran.stderr


def test_sound_data_are_said_to_be_so(job: Job) -> None:
    """Fails when an operator cannot see that the data were examined."""
    assert "checks of the data passed" in job().stdout


@pytest.mark.slow
def test_a_run_that_unsound_data_stopped_goes_on_when_they_are_sound(
    job: Job, transactions: Path, tmp_path: Path, output: Path, expected: dict[str, Any]
) -> None:
    """Fails when a day of broken data costs a look, a candidate or a promotion once the data are corrected."""
    poisoned = _changed(transactions, tmp_path / "poisoned", _poison)
    for hours in (0, 1):
        ran = job(json=True, input=poisoned, settings=EASY, as_of=later(hours)).json
        assert (ran["decision"], ran["opened"], ran["looks"]) == ("no_decision", [], [])
        assert ran["reason"].startswith("the data are not sound; ")
    corrected = job(json=True, settings=EASY, as_of=later(2)).json
    assert (corrected["decision"], corrected["version"]) == ("promoted", 2), corrected["reason"]
    assert (len(corrected["looks"]), len(corrected["opened"])) == (len(expected["looks"]), len(expected["opened"]))
    stopped = [f"{AS_OF + timedelta(hours=hours):%Y%m%dT%H%M%SZ}-opening.json" for hours in (0, 1)]
    assert not set(stopped) & set(_openings(output)), "nothing was opened on what was broken"


WORLD = Story(seed=1, days=16, every=1, change=-7)
"""The new pattern of fraud begins where the hold-out of its first champion ends."""


@pytest.fixture(scope="module")
def changed_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of the end-to-end benchmark: enough frauds for a first champion with the settings as shipped."""
    folder = tmp_path_factory.mktemp("changed_world")
    start = (FIRST_RUN - timedelta(days=100)).date()
    for _ in write_days(WORLD.world(), folder, start, 100 + WORLD.days):
        pass
    return folder


def _relabel(day: date, how: str) -> Any:
    """On one day the frauds are called genuine; inverted, the genuine rows are called frauds as well."""

    def change(one: date, table: pa.Table) -> pa.Table | None:
        if one != day:
            return None
        fraud = table["fraud"].to_numpy() == 1
        fraud = ~fraud if how == "inverted" else np.zeros(len(table), bool)
        known = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=2)
        table = _set(table, "fraud", fraud.astype(np.int8))
        return _set(table, "label_available_at", [known if called else None for called in fraud])

    return change


@pytest.mark.slow
@pytest.mark.proof
def test_unsound_data_promote_nothing_where_sound_data_do(job: Job, changed_world: Path, tmp_path: Path) -> None:
    """Fails when unsound data, with the settings as shipped, promote a model, or keep sound data from it.

    A world changes, and a candidate knows the new frauds. When it would be promoted the data are unsound three times in
    a row, each time in another way; the next run promotes it. Then an input leaks, and would win but for its check.
    """

    def run(days: float, change: Any = None, settings: dict[str, Any] | None = None) -> CommandResult:
        source = changed_world if change is None else _changed(changed_world, tmp_path / f"data_{days}", change)
        as_of = (FIRST_RUN + timedelta(days=days)).isoformat()
        return job(json=True, input=source, as_of=as_of, settings=SHIPPED if settings is None else settings)

    first, second = run(0), run(7)
    assert first.json["version"] == 1, first.json["reason"]
    assert second.json["opened"], second.json["reason"]
    before = second.json["version"] or 1  # the candidate of the first day may have won already
    day = (FIRST_RUN + timedelta(days=2)).date()  # in the hold-out of the candidate of day 7
    for days, change, check in (
        (12.0, _relabel(day, "inverted"), "fraud_rate_ceiling"),
        (12.25, _relabel(day, "genuine"), "fraud_rate_floor"),
        (12.5, _shrink, "known_frauds_kept"),
    ):
        ran = run(days, change)
        assert (ran.json["decision"], ran.json["looks"], ran.json["opened"]) == ("no_decision", [], []), check
        assert check in _failed(ran)
        assert ran.json["reason"].startswith("the data are not sound")
    # A leak keeps its own candidates out, and is said beside a look; a sound one that was opened before goes on.
    sound = run(12.75, _leak, _leaking(SHIPPED))
    promoted = sound.json["decision"], sound.json["version"], sound.json["opened"]
    assert promoted == ("promoted", before + 1, []), sound.json["reason"]
    assert any("no_leaking_feature" in warning for warning in sound.json["warnings"])
    trusting = {"promotion": {"trust_past_evidence": True}}  # or a new recipe waits for new rows anyway
    ran = run(15.0, _leak, _leaking(SHIPPED, **trusting))
    assert (ran.json["decision"], ran.json["opened"], _failed(ran)) == ("no_decision", [], ["no_leaking_feature"])
    unchecked = {"stop": [name for name in SHIPPED["data_health"]["stop"] if name != "no_leaking_feature"]}
    ran = run(15.25, _leak, _leaking(SHIPPED, **trusting, data_health=unchecked))
    assert (ran.json["decision"], ran.json["version"]) == ("promoted", before + 2), ran.json["reason"]
