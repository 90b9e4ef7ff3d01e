"""`retain` removes results by their age, says what it removed, and never touches the decision log."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from factories import MODEL_NAME, decision
from fakes.scoring import START, Row, score_input, stored_scores
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import decision_file, report_file, score_manifest_file
from fraud_detection.registry import Registry
from fraud_detection.registry.log_chain import LogMismatchError
from fraud_detection.registry.retention import OldRun, Removable
from fraud_detection.runs import retention
from fraud_detection.runs.progress import history_table
from fraud_detection.runs.retention import (
    Kind,
    Plan,
    plan_removal,
    read_removals,
    removal_table,
    removal_text,
    remove,
    removed_reports,
    retain_daily,
)
from fraud_detection.schema import Outcome
from fraud_detection.settings import Retention, Settings
from fraud_detection.storage import Storage, open_folder

NOW = datetime(2026, 11, 27, tzinfo=UTC)
DAY = timedelta(days=1)
AGES = Retention(
    reports_days=100,
    outcomes_days=50,
    quarantine_days=20,
    scores_days=250,
    mlflow_runs_days=200,
    model_versions_days=300,
)
REMOVABLE = {"reports/fraud_detection/": 100, "outcomes/": 50, "quarantine/": 20}
NAMES = (
    "decisions/fraud_detection/20260301T000000Z.json",
    "decisions/fraud_detection/20260301T000000Z-opening.json",
    "decisions/fraud_detection/20260301T000000000000Z-pin.json",
    "leases/fraud_detection/00000001.json",
    "schedule/fraud_detection.json",
    "known_labels/fraud_detection.json",
    "mlflow.db",
    "mlartifacts/1/run/artifacts/report.html",
    "reports/other_model/20260301T000000Z/report.html",
    "reports/fraud_detection/20260301T000000Z/report.html",
    "reports/fraud_detection/20260302T000000Z/report.html",
    "outcomes/a.json",
    "outcomes/b.json",
    "quarantine/20260301T000000Z/rejected.csv",
    "quarantine/20260302T000000Z/rejected.csv",
)


class FakeRegistry:
    """An MLflow that holds one old version and one old run."""

    def __init__(self) -> None:
        self.removable = Removable((1,), (OldRun("run", 7),))
        self.removed: list[object] = []
        self.most: int | None = None

    def find_removable(self, versions_before: datetime, runs_before: datetime, most: int | None = None) -> Removable:
        self.most = most
        assert (versions_before, runs_before) == (NOW - 300 * DAY, NOW - 200 * DAY)
        return self.removable

    def remove_versions(self, before: datetime) -> tuple[int, ...]:
        assert before == NOW - 300 * DAY
        self.removed += self.removable.versions
        return self.removable.versions

    def remove_runs(self, runs: tuple[OldRun, ...]) -> tuple[OldRun, ...]:
        self.removed += runs
        return runs


def _write(root: Path, name: str, age: float) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("content")
    moment = (NOW - age * DAY).timestamp()
    os.utime(path, (moment, moment))


def _plan(output: Storage, registry: FakeRegistry) -> Plan:
    return plan_removal(output, cast(Registry, registry), MODEL_NAME, AGES, NOW)


def _remove(output: Storage, registry: FakeRegistry, plan: Plan) -> list[str]:
    lines: list[str] = []
    remove(plan, output, cast(Registry, registry), MODEL_NAME, "anna", lines.append)
    return lines


@given(st.lists(st.floats(0, 800), min_size=len(NAMES), max_size=len(NAMES)))
@hypothesis_settings(max_examples=40)
def test_only_what_is_older_than_its_age_is_removed_and_never_the_log(ages: list[float]) -> None:
    """Fails when a clean-up takes an entry of the decision log, a lease, another model's report or a young file."""
    with TemporaryDirectory() as folder:
        for name, age in zip(NAMES, ages, strict=True):
            _write(Path(folder), name, age)
        output, registry = open_folder(folder), FakeRegistry()
        limits = {name: next((d for p, d in REMOVABLE.items() if name.startswith(p)), None) for name in NAMES}
        expected = [name for name, age in zip(NAMES, ages, strict=True) if (d := limits[name]) is None or age <= d]
        plan = _plan(output, registry)
        assert output.names() == sorted(NAMES)  # a plan changes nothing
        _remove(output, registry, plan)
        assert output.names() == sorted([*expected, "retention/fraud_detection.json"])
        assert registry.removed == [1, OldRun("run", 7)]
        again = _plan(output, registry)
        assert [row.count for row in again.rows[:3]] == [0, 0, 0]


def test_the_table_says_what_count_bytes_and_age(tmp_path: Path) -> None:
    """Fails when a person who decides about --yes cannot see how much goes, or how old it is."""
    for name in NAMES:
        _write(tmp_path, name, 500)
    rows = _plan(open_folder(str(tmp_path)), FakeRegistry()).rows
    assert removal_table(rows) == [
        "what              count  bytes  older than",
        "reports           2      14     100 days",
        "outcomes          2      14     50 days",
        "quarantine files  2      14     20 days",
        "files of scores   0      0      250 days",
        "MLflow runs       1      7      200 days",
        "model versions    1      0      300 days",
    ]


class _Mortal(FakeRegistry):
    def remove_versions(self, before: datetime) -> tuple[int, ...]:
        raise KeyboardInterrupt


@pytest.mark.parametrize("deleted", [0, 1, 3, 6])
def test_a_killed_removal_is_explained_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    """Fails when a removal that is killed half-way leaves a missing report unexplained, or cannot be finished."""
    for name in NAMES:
        _write(tmp_path, name, 500)
    output, left = open_folder(str(tmp_path)), iter(range(deleted))
    discard = output.discard

    def mortal(name: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        discard(name)

    monkeypatch.setattr(output, "discard", mortal)
    with pytest.raises(KeyboardInterrupt):
        _remove(output, _Mortal(), _plan(output, _Mortal()))
    monkeypatch.undo()
    decided = _decided(datetime(2026, 3, 1, tzinfo=UTC), NOW - 500 * DAY)
    assert (removed_reports(output, MODEL_NAME, [decided]) != {}) is (deleted >= 1)
    _remove(output, FakeRegistry(), _plan(output, FakeRegistry()))
    assert len(output.names()) == 9 + 1
    assert removed_reports(output, MODEL_NAME, [decided]) != {}


def _decided(as_of: datetime, at: datetime, **changes: Any) -> Any:
    return decision(Outcome.NO_DECISION, as_of, committed_at=at, **changes)


def test_decisions_say_which_reports_were_removed(tmp_path: Path) -> None:
    """Fails when an auditor cannot tell a report that was removed for its age from one that was lost."""
    old, kept, lost, without = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3, 4))
    _write(tmp_path, report_file(MODEL_NAME, old), 500)
    _write(tmp_path, report_file(MODEL_NAME, kept), 5)
    output, registry = open_folder(str(tmp_path)), FakeRegistry()
    history = [
        _decided(old, NOW - 500 * DAY),
        _decided(kept, NOW - 500 * DAY),
        _decided(lost, NOW - 5 * DAY),
        _decided(without, NOW - 500 * DAY, report=None),
    ]
    assert removed_reports(output, MODEL_NAME, history) == {}
    lines = _remove(output, registry, _plan(output, registry))
    assert lines[0] == "1 reports removed"
    removed = removed_reports(output, MODEL_NAME, history)
    assert list(removed) == [old]
    assert (removed[old].what, removed[old].who) == (Kind.REPORTS, "anna")
    table = history_table(tuple(history), {as_of: removal_text(one) for as_of, one in removed.items()})
    assert [line.endswith("report removed on 2026-11-27 (older than 100 days)") for line in table[1:]] == [
        True,
        False,
        False,
        False,
    ]


def test_a_removal_without_anything_old_keeps_what_an_earlier_one_said(tmp_path: Path) -> None:
    """Fails when the reason why a report is gone is forgotten by the next, empty removal."""
    as_of = datetime(2026, 3, 1, tzinfo=UTC)
    _write(tmp_path, report_file(MODEL_NAME, as_of), 500)
    _write(tmp_path, decision_file(MODEL_NAME, as_of), 500)
    output = open_folder(str(tmp_path))
    for _ in range(2):
        _remove(output, FakeRegistry(), _plan(output, FakeRegistry()))
    assert list(removed_reports(output, MODEL_NAME, [_decided(as_of, NOW - 500 * DAY)])) == [as_of]


def test_old_scores_go_and_their_transactions_are_not_scored_again(tmp_path: Path) -> None:
    """Fails when scores grow for ever, a removed day is scored a second time, or a day is removed half scored."""
    output, registry = open_folder(str(tmp_path)), FakeRegistry()
    rows = {f"t{hour}": Row(hour) for hour in range(20, 60)}
    as_of = START + timedelta(hours=52)
    score_input(output, rows, as_of)
    plan = _plan(output, registry)
    assert [one.name.split("/")[3][:10] for one in plan.files[Kind.SCORES]] == ["2026-03-01", "2026-03-02"] * 2
    _remove(output, registry, plan)
    assert sorted(stored_scores(output)) == [f"t{hour}" for hour in range(48, 52)], (
        "the day that still gets scores stays"
    )
    score_input(output, rows | {"late": Row(1)}, as_of + timedelta(hours=8))
    assert {key: len(found) for key, found in stored_scores(output).items()} == {
        f"t{hour}": 1 for hour in range(48, 60)
    }
    assert not any("/2026-03-01" in name or "/2026-03-02" in name for name in output.names("scores/"))
    for name in output.names("scores/"):
        os.utime(tmp_path / name, (0, 0))
    assert [one.name for one in _plan(output, registry).files[Kind.SCORES]] == [
        score_manifest_file(MODEL_NAME, number) for number in (1, 2)
    ], "all but the manifest in force"


def _after_a_run(output: Storage, registry: FakeRegistry, now: datetime = NOW) -> tuple[Any, list[tuple[str, str]]]:
    said: list[tuple[str, str]] = []
    settings = Settings.model_validate({"retention": AGES.model_dump()})
    result = retain_daily(output, cast(Registry, registry), settings, now, lambda step, line: said.append((step, line)))
    return result, said


def test_the_first_run_of_a_day_removes_and_the_others_do_not(tmp_path: Path) -> None:
    """Fails when nothing bounds what hourly runs leave, or each of them pays for the search."""
    for name in NAMES:
        _write(tmp_path, name, 500)
    output, registry = open_folder(str(tmp_path)), FakeRegistry()
    result, said = _after_a_run(output, registry)
    assert result.error is None
    assert result.removed[0] == "2 reports removed"
    assert said == [("retain", line) for line in result.removed]
    assert len(output.names()) == 9 + 1
    assert _after_a_run(output, registry, NOW + timedelta(hours=23)) == (None, [])
    next_day, _ = _after_a_run(output, registry_that_finds_nothing(), NOW + DAY)
    assert next_day.removed[0] == "0 reports removed"


def registry_that_finds_nothing() -> FakeRegistry:
    """An MLflow without anything old, at any time."""

    class Nothing(FakeRegistry):
        def find_removable(self, *_: object) -> Removable:
            return Removable((), ())

        def remove_versions(self, before: datetime) -> tuple[int, ...]:
            return ()

    return Nothing()


def test_a_run_removes_the_oldest_and_leaves_the_rest_to_the_next_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the first removal after years keeps a cluster for hours, or takes young results before old ones."""
    for number in range(5):
        _write(tmp_path, f"outcomes/{number}.json", 500 - number)
    monkeypatch.setattr(retention, "MOST_A_DAY", 2)
    output, registry = open_folder(str(tmp_path)), FakeRegistry()
    _after_a_run(output, registry)
    assert output.names("outcomes/") == [f"outcomes/{number}.json" for number in (2, 3, 4)]
    assert registry.most == 2


@pytest.mark.parametrize("error", [LogMismatchError("an entry is missing"), FraudDetectionError("it is denied")])
def test_a_removal_that_fails_changes_no_decision_and_is_said_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: FraudDetectionError
) -> None:
    """Fails when a promotion looks like a failure because of old files, or nobody learns that nothing is removed."""
    output, registry = open_folder(str(tmp_path)), FakeRegistry()

    def fail(*_: object) -> Removable:
        raise error

    monkeypatch.setattr(registry, "find_removable", fail)
    result, said = _after_a_run(output, registry)
    assert (result.removed, result.error) == ((), str(error))
    assert said == [("warning", f"old results were not removed, which changes no decision: {error}")]
    assert _after_a_run(output, registry) == (None, [])
    assert read_removals(output, MODEL_NAME).checked_at == NOW


def test_an_emptied_report_counts_as_removed(tmp_path: Path) -> None:
    """Fails when an account that may replace and not delete empties the same report each night, or calls it there."""
    as_of = datetime(2026, 3, 1, tzinfo=UTC)
    _write(tmp_path, report_file(MODEL_NAME, as_of), 500)
    output, registry = open_folder(str(tmp_path)), FakeRegistry()
    _remove(output, registry, _plan(output, registry))
    (tmp_path / report_file(MODEL_NAME, as_of)).parent.mkdir(parents=True)
    _write(tmp_path, report_file(MODEL_NAME, as_of), 500)
    (tmp_path / report_file(MODEL_NAME, as_of)).write_bytes(b"")
    os.utime(tmp_path / report_file(MODEL_NAME, as_of), (0, 0))
    assert list(removed_reports(output, MODEL_NAME, [_decided(as_of, NOW - 500 * DAY)])) == [as_of]
    assert _plan(output, registry).files[Kind.REPORTS] == ()
