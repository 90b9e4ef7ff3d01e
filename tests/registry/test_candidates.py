"""A candidate is frozen once, found again bit for bit, and gone when it is retired; the files of a version stay."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from factories import decision, opening, span
from fakes.registry import NAME, Killed, World, model, rows, world

from fraud_detection.registry import RunRecord, candidates
from fraud_detection.registry.artifacts import ModelVersionTags
from fraud_detection.registry.candidates import CandidateChangedError, CandidateLostError, NewCandidate
from fraud_detection.registry.opening import LogMovedError
from fraud_detection.schema import (
    SCHEMA_VERSION,
    CandidateKey,
    CandidateRecord,
    Outcome,
    RefitRecord,
    RetirementReason,
    RetirementRecord,
)

pytest_plugins = ["registry_fixtures"]
# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

T = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CHANGES = ("create_", "set_", "delete_", "log_", "finalize_")
"""How the methods of MLflow's client begin that change something."""


def _new(cutoff: datetime = T, recipe: str = "recipe") -> NewCandidate:
    trained = span(cutoff - 91 * DAY, cutoff - 7 * DAY)
    return NewCandidate(CandidateKey(cutoff, recipe), trained, growth=1.7, seed=7, opened_at=cutoff)


def _files(here: World, record: CandidateRecord) -> list[Path]:
    root = Path(here.client.get_logged_model(record.model_id).artifact_location.removeprefix("file://"))
    return sorted(path for path in root.rglob("*") if path.is_file())


def _states(here: World) -> list[str | None]:
    return sorted((run.data.tags.get(candidates.STATE_TAG) for run in here.runs()), key=str)


def test_a_candidate_is_found_again_bit_for_bit(empty: World) -> None:
    """Fails when a look measures another model than the one that was frozen."""
    record = empty.registry.freeze_candidate(_new(), model())
    fresh = world(empty.output).registry
    loaded = fresh.load_candidate(record)
    assert loaded.to_bytes() == model().to_bytes()
    assert (loaded.predict(rows()) == model().predict(rows())).all()
    assert (record.key, record.growth, record.seed, record.backfilled) == (_new().key, 1.7, 7, False)
    assert fresh.locate_candidate(record) == record
    (run,) = empty.runs()
    assert (run.info.status, run.data.tags["fraud_detection.recipe"]) == ("FINISHED", "recipe")
    assert run.data.tags["fraud_detection.training"].endswith("/2026-02-22T00:00:00+00:00")


def test_freezing_again_changes_nothing(empty: World) -> None:
    """Fails when a repeated run fills MLflow with copies of its candidate."""
    record = empty.registry.freeze_candidate(_new(), model())
    assert world(empty.output).registry.freeze_candidate(_new(), model()) == record
    assert len(empty.runs()) == 1
    other = empty.registry.freeze_candidate(_new(recipe="other"), model())
    assert other.run_id != record.run_id
    assert empty.registry.freeze_candidate(_new(T + DAY), model()).run_id not in (record.run_id, other.run_id)


def test_a_candidate_that_was_never_opened_gives_way_to_that_of_newer_data(empty: World) -> None:
    """Fails when a run that was killed before its opening stops all later ones, because the data have changed."""
    old = empty.registry.freeze_candidate(_new(), model(1))
    files = _files(empty, old)
    new = empty.registry.freeze_candidate(_new(), model(2))
    assert empty.registry.load_candidate(new).to_bytes() == model(2).to_bytes()
    assert not any(path.exists() for path in files)
    assert _states(empty) == ["frozen", "replaced"]
    with pytest.raises(CandidateLostError):
        empty.registry.load_candidate(old)


@pytest.mark.parametrize("damage", ["deleted", "changed", "forgotten"])
def test_a_lost_candidate_is_noticed_and_can_be_restored(empty: World, damage: str) -> None:
    """Fails when a damaged model is measured, or a lost one cannot be trained again for its next look."""
    record = empty.registry.freeze_candidate(_new(), model())
    (file,) = [path for path in _files(empty, record) if path.name == "model.ubj"]
    if damage == "deleted":
        file.unlink()
    elif damage == "changed":
        file.write_bytes(model(2).to_bytes())
    else:
        empty.client.delete_logged_model(record.model_id)
    fresh = world(empty.output).registry
    with pytest.raises(CandidateLostError, match=r"2026-03-01 00:00 UTC .* trained again"):
        fresh.load_candidate(record)
    with pytest.raises(CandidateChangedError, match="changed"):
        fresh.restore_candidate(record, model(2))
    restored = fresh.restore_candidate(record, model())
    assert restored.run_id != record.run_id
    assert fresh.locate_candidate(record) == restored
    assert fresh.load_candidate(record).to_bytes() == model().to_bytes()


def test_a_retired_candidate_leaves_no_files(empty: World) -> None:
    """Fails when a year of daily candidates fills the disk."""
    record = empty.registry.freeze_candidate(_new(), model())
    kept = empty.registry.freeze_candidate(_new(T + DAY), model(2))
    files = _files(empty, record)
    assert files
    for _ in range(2):
        world(empty.output).registry.delete_candidate(record.key)
        assert not any(path.exists() for path in files)
        assert _states(empty) == ["frozen", "retired"]
    empty.registry.delete_candidate(CandidateKey(T + 9 * DAY, "never frozen"))
    with pytest.raises(CandidateLostError):
        empty.registry.load_candidate(record)
    assert empty.registry.load_candidate(kept).to_bytes() == model(2).to_bytes()


def test_candidates_are_retired_in_any_folder(tmp_path: Path) -> None:
    """Fails when a quote in the output folder's name ends a run that retires a candidate."""
    made = world(tmp_path / "o'brien")
    record = made.registry.freeze_candidate(_new(), model())
    made.registry.delete_candidate(record.key)
    assert _states(made) == ["retired"]


@pytest.mark.parametrize("by", ["its run", "its model"])
def test_a_registered_versions_files_stay(empty: World, by: str) -> None:
    """Fails when retiring the candidate that was promoted deletes the model in service."""
    record = empty.registry.freeze_candidate(_new(), model())
    empty.client.create_registered_model(NAME)
    empty.client.create_model_version(
        NAME,
        f"models:/{record.model_id}",
        run_id=record.run_id if by == "its run" else None,
        model_id=record.model_id,
        tags=ModelVersionTags(T, record.training, record.sha256).as_tags(),
    )
    empty.client.set_registered_model_alias(NAME, "champion", "1")
    empty.registry.delete_candidate(record.key)
    champion = world(empty.output).registry.champion()
    assert champion is not None
    assert champion.model.to_bytes() == model().to_bytes()
    assert _states(empty) == ["frozen"]


def test_a_promotion_registers_the_files_that_were_looked_at(empty: World) -> None:
    """Fails when the version in service is a copy that was logged again, or goes when its candidate is retired."""
    record = empty.registry.freeze_candidate(_new(), model())
    given = decision(Outcome.PROMOTED, T, training=record.training)
    decided = empty.registry.record(given, RunRecord(challenger=model(), candidate=record, publication=b"published"))
    assert decided.version == 1
    (logged,) = empty.client.search_logged_models([empty.connection.experiment_id])
    assert logged.model_id == record.model_id
    empty.registry.delete_candidate(record.key)
    champion = world(empty.output).registry.champion()
    assert champion is not None
    assert champion.model.to_bytes() == model().to_bytes()
    assert champion.training == record.training
    assert champion.run_id == decided.run_id


def test_the_files_of_a_renamed_model_stay(empty: World) -> None:
    """Fails when a model that was renamed in MLflow's interface loses its files once the champion is retired."""
    record = empty.registry.freeze_candidate(_new(), model())
    given = decision(Outcome.PROMOTED, T, training=record.training)
    empty.registry.record(given, RunRecord(challenger=model(), candidate=record, publication=b"published"))
    empty.client.rename_registered_model(NAME, "another")
    empty.registry.delete_candidate(record.key)
    assert empty.registry.load_candidate(record).to_bytes() == model().to_bytes()


def test_candidates_and_decisions_do_not_disturb_each_other(empty: World) -> None:
    """Fails when a run that resumes decisions takes a candidate for one, or ends one that is alive."""
    record = empty.registry.freeze_candidate(_new(), model())
    empty.record(Outcome.PROMOTED, T)
    assert world(empty.output).registry.resume_open_intents(T) == ()
    assert empty.registry.load_candidate(record).to_bytes() == model().to_bytes()
    assert [run.info.status for run in empty.runs()] == ["FINISHED", "FINISHED"]


def _open(here: World, as_of: datetime, *records: CandidateRecord) -> None:
    here.registry.write_opening(opening(as_of, records), here.registry.verified_log().head)


def test_a_candidate_of_a_run_that_was_killed_before_its_opening_is_deleted(empty: World) -> None:
    """Fails when each killed run leaves a model in MLflow for ever."""
    orphan = empty.registry.freeze_candidate(_new(T - DAY), model())
    files = _files(empty, orphan)
    assert files
    empty.record(Outcome.NO_DECISION, T - DAY)  # its own as-of time, repeated: the run has found it frozen
    assert empty.registry.load_candidate(orphan).to_bytes() == model().to_bytes()
    empty.record(Outcome.NO_DECISION, T)
    assert [run.data.tags.get(candidates.KEY_TAG) for run in empty.runs()] == [None, None]
    assert not any(path.exists() for path in files)


def test_a_candidate_that_anything_names_is_kept(empty: World) -> None:
    """Fails when a killed run's rest takes the model of an opening, a refit or a version with it, or of a run alive."""
    here, freeze = empty, empty.registry.freeze_candidate
    refit = freeze(replace(_new(), key=CandidateKey(T - 6 * DAY, "r", refit=True), opened_at=T - 6 * DAY), model(1))
    named = RefitRecord(winner=CandidateKey(T - 9 * DAY, "r"), refit=refit, checks=(), serves=True)
    assert here.log.write(decision(Outcome.REFUSED, T - 6 * DAY, refit=named))
    opened = freeze(_new(T - 5 * DAY), model(2))
    _open(here, T - 5 * DAY, opened)
    reused = freeze(_new(T - 4 * DAY), model(3))  # by a killed run; a later one finds it frozen, and opens it
    _open(here, T - 3 * DAY, reused)
    version = freeze(_new(T - DAY), model(4))
    here.client.create_registered_model("renamed")
    here.client.create_model_version("renamed", f"models:/{version.model_id}", run_id=None)
    alive = (freeze(_new(), model(5)), freeze(_new(T + DAY), model(6)))
    here.record(Outcome.NO_DECISION, T)
    for number, record in enumerate((refit, opened, reused, version, *alive), start=1):
        assert here.registry.load_candidate(record).to_bytes() == model(number).to_bytes(), number


def test_a_run_that_lost_its_candidate_to_another_cannot_open_it(empty: World) -> None:
    """Fails when two runs at once leave an opening whose candidate the other has deleted."""
    head = empty.registry.verified_log().head
    record = empty.registry.freeze_candidate(_new(T - DAY), model())
    empty.record(Outcome.NO_DECISION, T)
    with pytest.raises(LogMovedError):
        empty.registry.write_opening(opening(T - DAY, (record,)), head)
    with pytest.raises(CandidateLostError):
        empty.registry.load_candidate(record)


@pytest.mark.slow
def test_a_kill_while_an_unopened_candidate_is_deleted_is_made_good(
    empty: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when half a candidate, or one that is half deleted, is never found again."""
    frozen = []

    def run(here: World) -> None:
        here.registry.freeze_candidate(_new(T - DAY), model())
        frozen.append(here)
        here.record(Outcome.NO_DECISION, T)

    for here in _killed_at_every_change(empty, tmp_path, monkeypatch, run):
        fresh = world(here.output)
        fresh.registry.resume_open_intents()
        fresh.record(Outcome.NO_DECISION, T + DAY)
        assert [run for run in fresh.runs() if candidates.KEY_TAG in run.data.tags] == []
        assert fresh.client.search_logged_models([fresh.connection.experiment_id]) == []
    assert frozen


@pytest.mark.slow
@pytest.mark.parametrize("act", ["freeze", "delete"])
def test_a_kill_before_any_change_is_made_good_by_the_next_run(
    empty: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """Fails when a killed run leaves half a candidate that is measured, or that nobody ever deletes."""
    frozen = _new()

    def run(here: World) -> None:
        if act == "freeze":
            here.registry.freeze_candidate(frozen, model())
        else:
            here.registry.delete_candidate(frozen.key)

    if act == "delete":
        empty.registry.freeze_candidate(frozen, model())
    for here in _killed_at_every_change(empty, tmp_path, monkeypatch, run):
        fresh = world(here.output)
        run(fresh)
        states = [(run.data.tags.get(candidates.STATE_TAG), run.info.status) for run in fresh.runs()]
        kept = [logged.model_id for logged in fresh.client.search_logged_models([fresh.connection.experiment_id])]
        if act == "freeze":
            record = fresh.registry.freeze_candidate(frozen, model())
            assert fresh.registry.load_candidate(record).to_bytes() == model().to_bytes()
            assert states.count(("frozen", "FINISHED")) == 1
            assert len(states) <= 2
            assert {state for state, _ in states} <= {"frozen", "replaced"}
            assert "RUNNING" not in [status for _, status in states]
            assert kept == [record.model_id]
        else:
            assert states == [("retired", "FINISHED")]
            assert kept == []


@pytest.mark.slow
def test_a_run_killed_while_it_retires_candidates_is_completed_by_the_next(
    empty: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when files of candidates that the log calls retired stay for ever, or others are deleted with them."""
    gone = [empty.registry.freeze_candidate(_new(T - days * DAY), model(days)) for days in (1, 2)]
    kept = empty.registry.freeze_candidate(_new(), model())
    _open(empty, T - DAY, *gone)
    retired = tuple(RetirementRecord(candidate=one.key, reason=RetirementReason.EXPIRED) for one in gone)

    def run(killed: World) -> object:
        return killed.record(Outcome.NO_DECISION, T, retired_candidates=retired, schema_version=SCHEMA_VERSION)

    completed = 0
    for here in _killed_at_every_change(empty, tmp_path, monkeypatch, run):
        fresh = world(here.output)
        before = fresh.log.find(T)
        completed += bool(fresh.registry.resume_open_intents(T + DAY))
        found = fresh.log.find(T)
        if before is not None:
            assert found == before
        files = [any(path.exists() for path in _files_of(fresh, one)) for one in (*gone, kept)]
        assert files == ([False, False, True] if found is not None else [True, True, True])
        assert found is None or found.retired_candidates == retired
        assert fresh.registry.load_candidate(kept).to_bytes() == model().to_bytes()
    assert completed >= len(retired), "no run was killed while it retired candidates"


def _files_of(here: World, record: CandidateRecord) -> list[Path]:
    found = here.client.search_logged_models([here.connection.experiment_id], f"source_run_id = '{record.run_id}'")
    return [path for one in found for path in Path(one.artifact_location.removeprefix("file://")).rglob("model.ubj")]


def _killed_at_every_change(
    template: World, folder: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[World], object]
) -> Iterator[World]:
    """One world for each change that `act` makes to MLflow, killed just before that change."""
    for survived in range(30):
        here = world(folder / str(survived), template)
        assert here.connection.experiment_id
        with monkeypatch.context() as patched:
            left = [survived]

            def counted(change: Callable[..., Any], *arguments: Any, _left: list[int] = left, **named: Any) -> Any:
                if _left[0] == 0:
                    raise Killed
                _left[0] -= 1
                return change(*arguments, **named)

            for name in dir(here.client):
                if name.startswith(CHANGES):
                    patched.setattr(here.client, name, partial(counted, getattr(here.client, name)))
            try:
                act(here)
            except Killed:
                pass
            else:
                assert survived > 1, "nothing was changed: the kill is not armed"
                return
        yield here
