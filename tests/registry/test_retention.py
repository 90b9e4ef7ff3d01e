"""Old versions and runs are removed; what is in service, in shadow or not understood stays, however old it is."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from click.testing import CliRunner
from factories import MODEL_NAME, candidate_record, decision, look_record, opening, span
from fakes.registry import NAME, T0, T1, T2, Killed, World, model, world
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.cli import main
from fraud_detection.outputs import decision_file, report_file
from fraud_detection.registry import NewCandidate, retention
from fraud_detection.registry.aliases import Pin, Retirement, Service
from fraud_detection.registry.artifacts import delete_artifacts
from fraud_detection.registry.candidates import key_text
from fraud_detection.registry.decision_log import Action, Entry, Intervention, LogEntry, entry_time
from fraud_detection.registry.log_chain import LogMismatchError
from fraud_detection.registry.mlflow_runs import search_runs
from fraud_detection.registry.restoration import logged_service
from fraud_detection.registry.retention import (
    LoggedRun,
    Needed,
    is_removable,
    needed_candidates,
    removable_versions,
)
from fraud_detection.registry.reviews import open_reviews, settled_candidates
from fraud_detection.schema import CandidateKey, Outcome, RetirementReason, RetirementRecord

pytest_plugins = ["registry_fixtures"]
# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

T = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CHANGES = ("create_", "set_", "delete_", "log_")
"""How the methods of MLflow's client begin that change something."""


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Entry], int]:
    """A log of promotions, rollbacks, pins and retirements, a day or so apart, and the number of versions."""
    entries: list[Entry] = []
    versions, at = 0, T
    for step in draw(st.lists(st.sampled_from(["promote", "rollback", "pin", "unpin", "retire", "none"]), max_size=14)):
        at += draw(st.integers(1, 40)) * DAY
        now = logged_service(entries)
        action = {"rollback": Action.ROLLBACK, "pin": Action.PIN, "unpin": Action.UNPIN, "retire": Action.RETIRE}
        if step == "promote":
            versions += 1
            entries.append(
                decision(Outcome.PROMOTED, at, champion_version=now.champion, version=versions, committed_at=at)
            )
        elif step == "none":
            entries.append(decision(Outcome.NO_DECISION, at, champion_version=now.champion, committed_at=at))
        elif versions and (now.champion is not None or step == "rollback"):
            to = draw(st.integers(1, versions)) if step == "rollback" else now.champion
            pinned = now.change.at if step == "unpin" and isinstance(now.change, Pin) else at
            entries.append(
                Intervention(
                    action=action[step],
                    model_name=MODEL_NAME,
                    at=at,
                    who="anna",
                    reason="because",
                    from_version=now.champion,
                    to_version=None if step == "retire" else to,
                    pinned_at=pinned,
                )
            )
    return entries, versions


@given(histories(), st.integers(0, 700), st.sets(st.integers(1, 14)), st.booleans())
def test_what_serves_or_served_last_is_never_removed(
    made: tuple[list[Entry], int], age: int, aliased: set[int], mlflow_knows: bool
) -> None:
    """Fails when a clean-up removes the champion, what a rollback would restore, or what a pin keeps."""
    entries, count = made
    logged, versions = logged_service(entries), tuple(range(1, count + 3))  # two that the log does not name
    now = Service(exists=True, versions=versions)
    if mlflow_knows:
        change = logged.change
        now = Service(
            exists=True,
            versions=versions,
            champion=logged.champion,
            previous_champion=logged.previous_champion,
            pin=change if isinstance(change, Pin) else None,
            retirement=change if isinstance(change, Retirement) else None,
        )
    before = T + age * DAY
    removed = set(removable_versions(now, aliased, entries, before))
    assert removed <= set(range(1, count + 1))
    assert not removed & {logged.champion, logged.previous_champion, *aliased}
    if isinstance(logged.change, Pin):
        assert not removed & {logged.change.from_version, logged.change.to_version}
    last = {one.champion_version for one in entries if not isinstance(one, Intervention) and entry_time(one) >= before}
    assert not removed & last


@st.composite
def candidate_logs(draw: st.DrawFn) -> list[LogEntry]:
    """A log in which candidates are opened, looked at, retired, rejected and promoted in any order."""
    records = [candidate_record(T + day * DAY) for day in range(draw(st.integers(1, 5)))]
    entries: list[LogEntry] = [opening(T + 10 * DAY, tuple(records), ())]
    for day in range(draw(st.integers(0, 6))):
        at, key = T + (11 + day) * DAY, draw(st.sampled_from(records)).key
        match draw(st.sampled_from(["retire", "review", "reject", "promote", "decide"])):
            case "retire":
                gone = RetirementRecord(candidate=key, reason=RetirementReason.EXPIRED)
                entries.append(decision(Outcome.NO_DECISION, at, committed_at=at, retired_candidates=(gone,)))
            case "review":
                look = look_record(key, at, passed=True, champion_version=1)
                entries.append(decision(Outcome.NEEDS_REVIEW, at, 1, committed_at=at, looks=(look,)))
            case "promote":
                look = look_record(key, at, passed=True, champion_version=1)
                entries.append(decision(Outcome.PROMOTED, at, 1, version=2, committed_at=at, looks=(look,)))
            case "reject":
                known = {"model_name": MODEL_NAME, "who": "anna", "reason": "no", "from_version": 1, "to_version": 1}
                entries.append(Intervention(action=Action.REJECT, at=at, pinned_at=at, candidate=key, **known))
            case _:
                entries.append(decision(Outcome.NO_DECISION, at, committed_at=at))
    return entries


@given(candidate_logs(), st.booleans(), st.booleans(), st.integers(-400, 400))
def test_a_candidate_that_can_still_be_promoted_is_never_removed(
    entries: list[LogEntry], is_open: bool, discarded: bool, age: int
) -> None:
    """Fails when a clean-up deletes the model of a candidate before its next look or its approval."""
    settled = frozenset(map(key_text, settled_candidates(entries)))
    needed = Needed(frozenset({"kept"}), needed_candidates(entries), settled)
    waiting = set(map(key_text, open_reviews(entries)))
    names = {key_text(record.key) for record in entries[0].candidates}  # type: ignore[union-attr]
    for name in (*names, "never opened", None):
        run = LoggedRun("run", T - age * DAY, is_open, name, discarded and name is not None and name not in waiting)
        if is_removable(run, needed, T):
            assert not is_open
            assert run.ended_at < T
            assert name not in waiting
            assert name in settled or discarded or name is None
        assert not is_removable(LoggedRun("kept", T - 999 * DAY, False, name, True), needed, T)


def _later(days: int = 400) -> datetime:
    return datetime.now(UTC) + days * DAY


def _three(here: World) -> World:
    """Versions 1 to 3 have served, one after the other; a candidate is in shadow, and one was retired."""
    here.record(Outcome.PROMOTED, T2, seed=2)
    alive = _freeze(here, CandidateKey(T2, "alive"), 3)
    gone = _freeze(here, CandidateKey(T2, "gone"), 4)
    at = T2 + timedelta(hours=1)
    here.registry.write_opening(opening(at, (alive, gone), ()), here.registry.verified_log().head)
    retired = RetirementRecord(candidate=gone.key, reason=RetirementReason.EXPIRED)
    here.record(Outcome.NO_DECISION, at, retired_candidates=(retired,), schema_version=2)
    return here


def _freeze(here: World, key: CandidateKey, seed: int) -> Any:
    trained = span(key.label_cutoff - 91 * DAY, key.label_cutoff - 7 * DAY)
    return here.registry.freeze_candidate(NewCandidate(key, trained, growth=1.5, seed=7, opened_at=T2), model(seed))


def _remove(here: World, moment: datetime) -> None:
    found = here.registry.find_removable(moment, moment)
    here.registry.remove_versions(moment)
    list(here.registry.remove_runs(found.runs))


def _assert_sound(here: World) -> None:
    """What is in service and in shadow is whole, the log is whole, and a rollback is possible."""
    fresh = world(here.output)
    assert fresh.aliases() == {"champion": 3, "previous_champion": 2}
    champion = fresh.registry.champion()
    assert champion is not None
    assert champion.model.to_bytes() == model(2).to_bytes()
    entries = fresh.registry.verified_log().entries
    (alive,) = [r for e in entries for r in getattr(e, "candidates", ()) if r.key.recipe == "alive"]
    assert fresh.registry.load_candidate(alive).to_bytes() == model(3).to_bytes()


def test_old_runs_and_versions_go_and_what_is_needed_stays(two: World) -> None:
    """Fails when years of runs stay in MLflow, or when the champion, its predecessor or a candidate goes with them."""
    here = _three(two)
    log = sorted((here.output / "decisions").rglob("*.json"))
    assert here.registry.find_removable(_later(-1), _later(-1)).versions == ()
    assert here.registry.find_removable(_later(-1), _later(-1)).runs == ()
    found = here.registry.find_removable(_later(), _later())
    assert found.versions == (1,)
    removed = {run.run_id for run in found.runs}
    assert all(run.bytes > 0 for run in found.runs if run.run_id != _gone_run(here))
    before = len(here.runs())
    _remove(here, _later())
    assert here.versions() == [2, 3]
    assert {run.info.run_id for run in here.runs()} & removed == set()
    assert len(here.runs()) == before - len(removed)
    for run_id in removed:
        root = Path(here.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
        assert not any(path.is_file() for path in root.rglob("*"))
    assert sorted((here.output / "decisions").rglob("*.json")) == log
    _assert_sound(here)
    again = here.registry.find_removable(_later(), _later())
    assert (again.versions, again.runs) == ((), ())
    assert list(here.registry.remove_runs(found.runs)) == []  # another process has removed them meanwhile
    assert here.registry.rollback(None, "drill", "anna").to_version == 2


def _gone_run(here: World) -> str:
    return next(
        str(run.info.run_id) for run in here.runs() if "gone" in run.data.tags.get("fraud_detection.candidate", "")
    )


def test_a_log_that_is_not_whole_removes_nothing(two: World) -> None:
    """Fails when a lost entry of the log makes a candidate look settled, and its model is deleted."""
    sorted((two.output / "decisions").rglob("*.json"))[0].write_text("{}")
    with pytest.raises(Exception, match=r"not a readable|not the one that was written"):
        two.registry.find_removable(_later(), _later())
    sorted((two.output / "decisions").rglob("*.json"))[0].unlink()
    with pytest.raises(LogMismatchError):
        two.registry.remove_versions(_later())
    assert two.versions() == [1, 2]


def test_a_killed_removal_leaves_a_sound_state_and_can_be_repeated(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a removal that is killed between two requests leaves the registry broken, or can never be finished."""
    here = _three(two)
    kills = 0
    while kills < 40:  # processes live for one change, or for two
        fresh = world(here.output)
        with monkeypatch.context() as patched:
            _die_before_change(fresh.client, patched, iter(range(1 + kills % 2)))
            try:
                _remove(fresh, _later())
            except Killed:
                kills += 1
                rmtree(here.output / "leases")  # time passes: the lease of the killed process expires
                if kills % 3 == 0:
                    _assert_sound(here)
            else:
                break
    assert 4 <= kills < 40
    _assert_sound(here)
    done = world(here.output).registry.find_removable(_later(), _later())
    assert (done.versions, done.runs) == ((), ())


def _die_before_change(client: Any, patched: pytest.MonkeyPatch, allowed: Iterator[int]) -> None:
    """Let the process die before the first change that is not allowed any more."""

    def call(method: Any, *given: Any, **named: Any) -> Any:
        if next(allowed, None) is None:
            raise Killed
        return method(*given, **named)

    for name in dir(client):
        if name.startswith(CHANGES):
            patched.setattr(client, name, partial(call, getattr(client, name)))
    patched.setattr(f"{retention.__name__}.delete_artifacts", partial(call, delete_artifacts))


def test_a_run_whose_intent_is_open_stays(served: World) -> None:
    """Fails when a decision that a killed run left unfinished can never come into force."""
    served.record(Outcome.NO_DECISION, T1)
    (first,) = [run for run in served.runs() if run.data.tags["fraud_detection.outcome"] == "promoted"]
    served.client.delete_registered_model_alias(NAME, "champion")
    run = served.client.create_run(
        served.connection.experiment_id,
        tags={"fraud_detection.model": NAME, "fraud_detection.intent": "open", "fraud_detection.as_of": str(T0)},
    )
    served.client.set_terminated(run.info.run_id, "FAILED")
    runs = {one.run_id for one in served.registry.find_removable(_later(), _later()).runs}
    assert run.info.run_id not in runs
    assert first.info.run_id not in runs  # its version served last


def test_runs_that_are_not_old_are_not_read(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when each nightly `retain` reads the runs of all the months that it keeps, with their parameters."""
    read: list[Any] = []

    def search(*given: Any) -> list[Any]:
        found = search_runs(*given)
        read.extend(found)
        return found

    monkeypatch.setattr(retention, "search_runs", search)
    two.registry.find_removable(_later(-1), _later(-1))
    assert read == []
    two.registry.find_removable(_later(), _later())
    assert read != []


def test_the_command_removes_nothing_without_yes(two: World, tmp_path: Path) -> None:
    """Fails when a look at what could be removed removes it, or when what is old does not go with --yes."""
    (tmp_path / "settings.yaml").write_text("retention: {reports_days: 1}")
    paths = ["--config", str(tmp_path / "settings.yaml"), "--output", str(two.output)]
    report = two.output / report_file(NAME, T0)
    report.parent.mkdir(parents=True)
    report.write_text("page")
    for path in (report, two.output / decision_file(NAME, T0)):
        os.utime(path, (0, 0))
    runner = CliRunner()
    shown = runner.invoke(main, ["retain", *paths])
    assert shown.exit_code == 0, shown.output
    assert "reports           1      4      1 days" in shown.output
    assert "nothing was removed" in shown.output
    assert report.exists()
    assert not (two.output / "retention").exists()
    found = runner.invoke(main, ["retain", *paths, "--yes", "--json"])
    answer = json.loads(found.stdout)
    assert (answer["removed"], answer["rows"][0]["count"], answer["rows"][0]["bytes"]) == (True, 1, 4)
    assert not report.exists()
    assert two.versions() == [1, 2]
    assert runner.invoke(main, ["decisions", *paths]).exit_code == 0
