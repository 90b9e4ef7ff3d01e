"""What a run has opened is what is measured, once: by this run, or by the next one after a crash."""

import json
import re
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import AS_OF, SETTINGS, Job
from spark_job import submit
from weak_champion import BACKFILLED, EASY, NAME, copy, decided, entry, later, opening_of

from fraud_detection.cli import main
from fraud_detection.registry.artifacts import digest

OTHER_RECIPE = {**EASY, "training": {**SETTINGS["training"], "trees": 20}}
AFTER_OPENING = [
    "fraud_detection.runs.retrain.take_looks",
    "fraud_detection.runs.comparison.collect_scored",
    "fraud_detection.runs.comparison.take_look",
    "fraud_detection.runs.retrain.propose",
    "fraud_detection.runs.retrain.draw",
    "fraud_detection.registry.recording._create_run",
    "fraud_detection.registry.recording._log_files",
    "fraud_detection.registry.recording.apply_intent",
]
"""What a run does between its opening and its decision, in this order."""

pytest_plugins = ["weak_champion"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


class KilledError(BaseException):
    """A kill, which no handler of errors sees."""


def _entries(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "decisions" / NAME).iterdir())


def _client(output: Path) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db", f"sqlite:///{output}/mlflow.db")


def _versions(output: Path) -> list[int]:
    return sorted(int(one.version) for one in _client(output).search_model_versions(f"name = '{NAME}'"))


def _kill(job: Job, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Run at AS_OF, and kill it before a step."""

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(step, killed)
        with pytest.raises(KilledError):
            job(settings=EASY)


def _looks(decision: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: look[name] for name in ("candidate", "champion_version", "number")} for look in decision["looks"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=[pytest.mark.proof] if place % 2 else []) for place, step in enumerate(AFTER_OPENING)],
)
def test_what_a_killed_run_has_opened_is_finished_as_it_would_have(
    job: Job, output: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Fails when a crash loses a winner, takes its look a second time, or measures it with an hour more of data."""
    _kill(job, monkeypatch, step)
    opened = opening_of(output)
    following = job(json=True, settings=EASY, as_of=later(1))
    assert following.exit_code == 0, following.stderr
    assert decided(output) == expected
    assert expected["decision"] == "promoted"
    assert opened == opening_of(output)
    assert _looks(expected) == opened["looks"], "one look each"
    assert _versions(output) == [1, 2]
    assert (following.json["as_of"], following.json["champion_version"]) == ("2026-03-01T01:00:00Z", 2)
    taken = [look for look in following.json["looks"] if look["champion_version"] == 1]
    assert taken == [], "the look is charged once"


def _candidate_runs(output: Path) -> dict[str, str]:
    """The label cut-off of each candidate that MLflow holds, by its run."""
    client = _client(output)
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {
        run.info.run_id: run.data.tags["fraud_detection.label_cutoff"]
        for run in runs
        if "fraud_detection.candidate" in run.data.tags
    }


def test_what_a_run_froze_that_was_killed_before_its_opening_is_deleted_by_the_next(
    job: Job, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when each killed run leaves a model that nothing names, and MLflow's disk fills up."""
    before = _candidate_runs(output)
    _kill(job, monkeypatch, "fraud_detection.registry.versions.write_opening")
    frozen = {run: cutoff for run, cutoff in _candidate_runs(output).items() if run not in before}
    assert AS_OF.isoformat() in frozen.values()
    assert job(settings=EASY, as_of=later(24)).exit_code == 0
    opened = [record for path in output.glob("decisions/*/*-opening.json") for record in _records(path)]
    left = {run: cutoff for run, cutoff in _candidate_runs(output).items() if run not in before}
    assert set(left) <= {record["run_id"] for record in opened}
    assert set(frozen) - set(left), "something was to be deleted"
    for record in opened:
        assert _client(output).get_run(record["run_id"]).info.lifecycle_stage == "active"


def _records(opening: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(opening.read_text(encoding="utf-8"))["candidates"]
    return found


def test_a_repeated_run_finishes_its_opening_and_then_returns_its_decision(
    job: Job, output: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when Airflow's retry of a killed task opens other looks, or a third attempt decides again."""
    _kill(job, monkeypatch, "fraud_detection.runs.retrain.take_looks")
    again = job(json=True, settings=EASY)
    assert (again.exit_code, again.json["version"]) == (0, 2)
    assert "has opened, which was interrupted" in again.stderr
    assert decided(output) == expected
    entries = _entries(output)
    third = job(json=True, settings=EASY)
    assert (third.exit_code, third.json["version"]) == (0, 2)
    assert "decided before; nothing new is registered" in third.stderr
    assert _entries(output) == entries


@pytest.mark.parametrize(
    "step", ["fraud_detection.runs.retrain.take_looks", "fraud_detection.registry.recording.apply_intent"]
)
def test_what_a_run_completes_for_a_killed_one_is_in_its_outcome(
    job: Job, output: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Fails when nobody is notified of a champion that a killed run began to promote, or every later run tells it."""
    _kill(job, monkeypatch, step)
    assert job(settings=EASY, as_of=later(1), run_name="next").exit_code == 0
    assert job(settings=EASY, as_of=later(2), run_name="third").exit_code == 0
    found, third = (json.loads((output / "outcomes" / f"{name}.json").read_text()) for name in ("next", "third"))
    (completed,) = found["completed"]
    logged = entry(output, f"{AS_OF:%Y%m%dT%H%M%SZ}")
    assert {name: completed[name] for name in ("decision", "reason", "version", "as_of", "report")} == {
        name: logged[name] for name in ("decision", "reason", "version", "as_of", "report")
    }
    assert (completed["decision"], completed["version"]) == ("promoted", 2)
    assert (found["as_of"], found["version"]) == ("2026-03-01T01:00:00Z", None)
    assert third["completed"] == []


@pytest.mark.parametrize("what", ["decided", "opened"])
def test_a_time_before_the_newest_is_not_decided(
    job: Job, output: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Fails when a late or cleared task takes looks behind the back of those that were taken since."""
    if what == "opened":
        _kill(job, monkeypatch, "fraud_detection.runs.retrain.take_looks")
    earlier = -193 if what == "decided" else -1
    ran = job(json=True, settings=EASY, as_of=later(earlier))
    assert (ran.exit_code, ran.json["decision"], ran.json["looks"]) == (0, "no_decision", [])
    assert "nothing was opened" in ran.json["reason"]
    assert "the newest as-of time in the decision log" in ran.json["reason"]
    assert f"{datetime.fromisoformat(later(earlier)):%Y%m%dT%H%M%SZ}.json" not in _entries(output)


def test_a_time_in_the_future_is_refused_and_blocks_nothing(job: Job, output: Path) -> None:
    """Fails when one mistyped year makes every later run decide nothing, with exit code 0 and without a way out."""
    entries, future = _entries(output), datetime.now(UTC) + timedelta(days=400)
    ran = job(json=True, settings=EASY, as_of=future.isoformat())
    assert (ran.exit_code, _entries(output)) == (2, entries)
    assert "is in the future" in ran.json["error"]
    assert job(json=True, settings=EASY).json["version"] == 2
    # A log of before that was refused, and the way out that its message names.
    late, folder = f"{future:%Y%m%dT%H0000Z}.json", output / "decisions" / NAME
    newest = max(path for path in folder.iterdir() if re.fullmatch(r"\d{8}T\d{6}Z\.json", path.name))
    (folder / late).write_text(newest.read_text(encoding="utf-8"), encoding="utf-8")
    blocked = job(json=True, settings=EASY, as_of=later(24))
    assert blocked.exit_code == 1
    assert late in blocked.json["error"]
    assert "fraud-detection accept-log" in blocked.json["error"]
    (folder / late).unlink()
    assert job(json=True, settings=EASY, as_of=later(24)).exit_code == 0


@pytest.mark.parametrize("damage", ["deleted", "rubbish", "older"])
def test_a_schedule_that_is_lost_is_written_again_by_a_repeated_run(job: Job, output: Path, damage: str) -> None:
    """Fails when the schedule starts a cluster each hour for a file that no repeated run writes."""
    assert job(settings=EASY).exit_code == 0
    path = output / "schedule" / f"{NAME}.json"
    written, report = path.read_bytes(), next(output.glob(f"reports/*/{AS_OF:%Y%m%dT%H%M%SZ}/report.html"))
    page = report.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        older = {**json.loads(written), "as_of": later(-192)}
        path.write_text("{" if damage == "rubbish" else json.dumps(older), encoding="utf-8")
    for hours in (0, -1):  # decided already; before a time that is decided
        again = job(json=True, settings=EASY, as_of=later(hours))
        assert (again.exit_code, "is written again" in again.stderr) == (0, hours == 0), again.stderr
        assert path.read_bytes() == written
    assert report.read_bytes() == page
    path.unlink()
    late = job(settings=EASY, as_of=later(-1))
    assert (late.exit_code, path.read_bytes()) == (0, written)


def test_a_schedule_that_cannot_be_written_again_does_not_fail_the_run(job: Job, output: Path) -> None:
    """Fails when a repeated run ends in an error because MLflow has lost the files of a run before it."""
    client = _client(output)
    newest = max(path for path in (output / "decisions" / NAME).iterdir() if len(path.stem) == len("20260301T000000Z"))
    run = client.get_run(json.loads(newest.read_text(encoding="utf-8"))["run_id"])
    assert not (output / "schedule").exists()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fraud_detection.registry.commit.PUBLICATION_FILE", "gone.json")
        repeated = job(json=True, settings=EASY, as_of=later(-192))
    assert (repeated.exit_code, repeated.json["run_id"]) == (0, run.info.run_id)
    assert "the schedule is missing, and the last run's is lost: " in repeated.stderr
    assert not (output / "schedule").exists()


@pytest.mark.parametrize("which", ["decision", "opening"])
def test_an_unreadable_entry_is_left_behind_with_the_commands_of_the_message(
    job: Job, output: Path, which: str
) -> None:
    """Fails when a file that an editor has damaged stops all runs, and each command that is named repeats the error."""
    entries = _entries(output)
    (damaged,) = (name for name in entries if name.endswith("-opening.json") == (which == "opening"))
    path = output / "decisions" / NAME / damaged
    path.write_text(f"{path.read_text(encoding='utf-8')} a note", encoding="utf-8")
    stopped = job(json=True, settings=EASY)
    assert stopped.exit_code == 1
    found = re.search(rf"is not a readable {which}: .*: (mv .*), then run: (fraud-detection .*)", stopped.json["error"])
    assert found is not None, stopped.json["error"]
    accept = shlex.split(found[2].replace("…", "the note is gone"))[1:]
    refused = CliRunner().invoke(main, accept)
    assert (refused.exit_code, found[1] in refused.stderr) == (1, True), "the log is accepted only without it"
    subprocess.run(shlex.split(found[1]), check=True)
    accepted = CliRunner().invoke(main, accept, catch_exceptions=False)
    assert accepted.exit_code == 0, accepted.stderr
    assert job(settings=EASY).exit_code == 0
    assert set(entries) - {damaged} | {f"{damaged}.unreadable"} < set(_entries(output))


def _lose_candidates(output: Path, template: Path) -> None:
    """Delete the files of the candidates that a killed run has opened."""
    opened = {one["sha256"] for one in opening_of(output)["candidates"]}
    found = [path for path in template.rglob("model.ubj") if digest(path.read_bytes()) in opened]
    assert found
    for path in found:
        path.unlink()


def _retired(decision: dict[str, Any]) -> dict[str, str]:
    return {one["candidate"]["label_cutoff"]: one["reason"] for one in decision["retired_candidates"]}


@pytest.mark.slow
def test_a_lost_candidate_is_trained_again(
    job: Job, output: Path, template: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when files that somebody deleted end a run, or what replaces them was never the model that was opened."""
    _kill(job, monkeypatch, AFTER_OPENING[0])
    _lose_candidates(output, template)
    assert job(settings=EASY).exit_code == 0
    assert decided(output) == expected
    (looked_at,) = (
        one["sha256"] for one in opening_of(output)["candidates"] if one["key"]["label_cutoff"] == BACKFILLED
    )
    version = _client(output).get_model_version(NAME, "2")
    model = _client(output).get_logged_model(version.model_id or version.source.removeprefix("models:/"))
    assert digest((Path(model.artifact_location.removeprefix("file://")) / "model.ubj").read_bytes()) == looked_at


@pytest.mark.slow
def test_a_lost_candidate_of_another_recipe_is_retired(
    job: Job, output: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a candidate that nothing can restore comes up each hour, or another model is looked at instead."""
    _kill(job, monkeypatch, AFTER_OPENING[0])
    _lose_candidates(output, template)
    ran = job(json=True, settings=OTHER_RECIPE)
    assert (ran.exit_code, ran.json["decision"], ran.json["version"]) == (0, "refused", None), ran.stderr
    (look,) = ran.json["looks"]
    assert (look["candidate"]["label_cutoff"], look["difference"], look["passed"]) == (BACKFILLED, None, False)
    (warning,) = (text for text in ran.json["warnings"] if "is missing or damaged" in text)
    assert "the candidate of 2026-02-22 00:00" in warning
    assert ran.json["reason"] == warning
    assert _retired(ran.json)[BACKFILLED] == "lost"
    following = job(json=True, settings=OTHER_RECIPE, as_of=later(1)).json
    assert BACKFILLED not in {look["candidate"]["label_cutoff"] for look in following["looks"]}
    assert not any("is missing or damaged" in text for text in following["warnings"])


@pytest.mark.slow
def test_a_lost_candidate_whose_data_have_changed_is_retired(
    job: Job, output: Path, transactions: Path, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a look that was opened at one model measures another one."""
    _kill(job, monkeypatch, AFTER_OPENING[0])
    _lose_candidates(output, template)
    rows = pq.read_table(transactions)
    folder = tmp_path / "changed"
    folder.mkdir()
    pq.write_table(
        rows.set_column(rows.schema.get_field_index("amount"), "amount", _doubled(rows)), folder / "a.parquet"
    )
    ran = job(json=True, settings=EASY, input=folder)
    assert (ran.exit_code, ran.json["decision"]) == (0, "refused"), ran.stderr
    assert "its data or its code have changed; it cannot be looked at any more" in ran.json["reason"]
    assert _retired(ran.json)[BACKFILLED] == "lost"


def _doubled(rows: pa.Table) -> pa.Array:
    """The amounts, twice as large before the hold-out."""
    early = pc.less(rows["transaction_time"], pa.scalar(AS_OF - timedelta(days=14), pa.timestamp("us", "UTC")))
    return pc.if_else(early, pc.multiply(rows["amount"], 2.0), rows["amount"])


@pytest.mark.slow
def test_a_candidate_that_reads_a_column_that_is_gone_is_retired(
    job: Job, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an old candidate, which no longer matters, ends each run after a change of the schema."""
    mapped = SETTINGS["data"]["columns"]
    _kill(job, monkeypatch, AFTER_OPENING[0])
    without = {"columns": {**mapped, "terminal_id": None}, "retired_columns": ["terminal_id"]}
    ran = job(json=True, settings={**EASY, "data": without})
    assert (ran.exit_code, ran.json["decision"]) == (0, "refused"), ran.stderr
    assert "the candidate of 2026-02-22 reads terminal_id, which the settings no longer map" in ran.json["reason"]
    assert _retired(ran.json)[BACKFILLED] == "columns_gone"


@pytest.mark.slow
def test_a_look_against_a_champion_that_serves_no_longer_is_void(
    job: Job, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a winner over a champion that a user has retired goes into service unseen."""
    _kill(job, monkeypatch, AFTER_OPENING[0])
    assert job("retire-champion", version=1, reason="it declines good customers").exit_code == 0
    following = job(json=True, settings=EASY, as_of=later(1))
    assert following.exit_code == 0, following.stderr
    finished = decided(output)
    assert (finished["decision"], finished["version"]) == ("refused", None)
    (look,) = finished["looks"]
    assert (look["difference"], look["passed"]) == (None, False)
    assert [(check["name"], check["passed"]) for check in look["checks"]] == [("champion_unchanged", False)]
    assert (following.json["champion_version"], following.json["retired_version"]) == (None, 1)


class TestOrderAndEngine:
    """The decision is a function of the data and the log."""

    @pytest.mark.slow
    def test_sail_and_spark_decide_alike_at_a_look(
        self, template: Path, tmp_path: Path, transactions: Path, expected: dict[str, Any]
    ) -> None:
        """Fails when a cluster promotes what a laptop refuses."""
        output = copy(template, tmp_path / "spark")
        submit(transactions, output, EASY)
        assert decided(output) == expected

    @pytest.mark.slow
    def test_the_order_of_files_and_rows_does_not_matter(
        self, job: Job, output: Path, tmp_path: Path, transactions: Path, expected: dict[str, Any]
    ) -> None:
        """Fails when a compaction of the input promotes another model than the files before it."""
        rows = pq.read_table(transactions)
        order = np.random.default_rng(5).permutation(len(rows))
        folder = tmp_path / "shuffled"
        folder.mkdir()
        for number, part in enumerate(np.array_split(order, 7)):
            pq.write_table(rows.take(part), folder / f"{6 - number}.parquet")
        assert job(settings=EASY, input=folder).exit_code == 0
        assert decided(output) == expected
