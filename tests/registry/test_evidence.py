"""The archive of a version: all that is recorded of it, as it is stored, and nothing of other versions."""

import io
import json
import zipfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from fakes.candidates import FIRST, B
from fakes.registry import NAME, T1, T2, World, artifact

from fraud_detection.cli import main
from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.evidence import Evidence, entries_about, promotion_of
from fraud_detection.registry.log_chain import LogMismatchError, sha256
from fraud_detection.schema import Decision, Outcome
from fraud_detection.storage import open_folder

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def _collect(here: World, version: int) -> Evidence:
    return here.registry.collect_evidence(open_folder(str(here.output)), version)


def _stored(here: World) -> dict[str, bytes]:
    return {f"log/{path.name}": path.read_bytes() for path in (here.output / "decisions" / NAME).glob("*.json")}


def test_an_archive_holds_the_log_s_entries_as_they_are_stored(two: World) -> None:
    """Fails when an auditor gets another text than the log has, so that no digest agrees with the chain."""
    two.registry.rollback(1, "alerts doubled", "anna")
    files = _collect(two, 2).files
    own = {name: content for name, content in files.items() if name.startswith("log/")}
    everything = _stored(two)
    assert own.items() <= everything.items()
    assert len(own) == 2, "its promotion and the rollback; not the promotion of version 1"
    newest = max(everything, key=lambda name: json.loads(everything[name]).get("pinned_at", ""))
    assert sha256(everything[newest]) in files["README.md"].decode()


def test_the_archive_s_digests_are_those_of_its_files(two: World) -> None:
    """Fails when `sha256sum --check` finds a file changed that nobody has touched, or one that no line names."""
    found = _collect(two, 2)
    with zipfile.ZipFile(io.BytesIO(found.archive())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    lines = files.pop("SHA256SUMS").decode().splitlines()
    assert lines == [f"{sha256(content)}  {name}" for name, content in sorted(files.items())]
    assert found.archive() == _collect(two, 2).archive(), "the same evidence is the same file"


def test_an_archive_has_model_settings_and_report(two: World) -> None:
    """Fails when an auditor cannot repeat what the version scores, or see what it was made with."""
    report = two.output / "reports" / NAME / f"{T1:%Y%m%dT%H%M%SZ}" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("the report")
    files = _collect(two, 2).files
    assert files["model.ubj"] == artifact(two, 2, "model.ubj").read_bytes()
    assert json.loads(files["settings.json"]) == {"model_name": NAME, "training.trees": "5"}
    assert files[f"reports/{T1:%Y%m%dT%H%M%SZ}.html"] == b"the report"
    assert json.loads(files["mlflow/version.json"])["version"] == 2
    card = files["README.md"].decode()
    assert f"# {NAME}, version 2" in card
    assert f"the run as of {T1:%Y-%m-%d %H:%M} UTC" in card


def test_a_report_that_is_no_longer_kept_is_said(two: World) -> None:
    """Fails when the archive promises a report that `retain` has removed."""
    card = _collect(two, 2).files["README.md"].decode()
    assert "1 are no longer kept" in card


def test_a_person_s_promotion_comes_with_its_reason_and_its_opening(waiting: World) -> None:
    """Fails when the evidence of a version that a person promoted lacks who, why, or what the candidate was."""
    waiting.registry.promote(B, "the champion misses the new fraud", "anna")
    files = _collect(waiting, 2).files
    assert "anna with `promote`: the champion misses the new fraud" in files["README.md"].decode()
    kinds = sorted(name.rpartition("-")[2] for name in files if name.startswith("log/"))
    assert kinds == ["opening.json", "promote.json"], "the run's only look was at the other candidate"


def test_looks_and_openings_of_a_candidate_are_about_the_version_that_it_became(waiting: World) -> None:
    """Fails when the archive leaves out a look at the candidate, or takes in what concerns others alone."""
    entries = waiting.registry.verified_log().entries
    about = list(entries_about(entries, 99, frozenset({FIRST})))
    assert [type(entry).__name__ for entry in about] == ["Opening", "Decision"]
    assert next(entry for entry in about if isinstance(entry, Decision)).as_of == T1
    assert list(entries_about(entries, 99, frozenset())) == []


def test_a_changed_log_is_no_evidence(two: World) -> None:
    """Fails when an archive vouches for a decision that somebody has edited."""
    first = min((two.output / "decisions" / NAME).glob("*.json"))
    first.write_bytes(first.read_bytes().replace(b"better by", b"worse by", 1))
    with pytest.raises(LogMismatchError):
        _collect(two, 2)


def test_a_changed_model_is_no_evidence(two: World) -> None:
    """Fails when the archive holds other files than those that were compared."""
    file = artifact(two, 2, "model.ubj")
    kept = file.read_bytes()
    try:
        file.write_bytes(kept[:-1] + b"?")
        with pytest.raises(FraudDetectionError, match=r"expected [0-9a-f]{12}…, which its tag says; next: restore"):
            _collect(two, 2)
    finally:
        file.write_bytes(kept)  # shared with other tests


def test_a_version_that_the_registry_has_lost_is_named(two: World) -> None:
    """Fails when an MLflow that was restored from an old backup ends the command in a stack trace."""
    two.client.delete_model_version(NAME, "1")
    with pytest.raises(FraudDetectionError, match=r"version 1 of .* is not in MLflow .* restore MLflow"):
        _collect(two, 1)


def test_a_version_that_never_served_is_named_with_those_that_did(two: World) -> None:
    """Fails when a mistyped version leaves its user without the right ones."""
    two.record(Outcome.REFUSED, T2)
    with pytest.raises(FraudDetectionError, match=r"version 7 .* expected one of 1, 2; next: fraud-detection"):
        _collect(two, 7)
    assert promotion_of(two.registry.verified_log().entries, 7) is None


def _command(here: World, file: Path) -> Result:
    config = here.output.parent / "retraining.yaml"
    config.write_text(yaml.safe_dump({"model_name": NAME}))
    words = ["evidence", "--config", str(config), "--output", str(here.output), "--version", "2", "--to", str(file)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


def test_the_command_writes_one_file_and_replaces_none(two: World, tmp_path: Path) -> None:
    """Fails when a second archive replaces the first one, or a mistyped folder leaves half a file."""
    file = tmp_path / "evidence.zip"
    done = _command(two, file)
    assert done.exit_code == 0, done.output
    assert zipfile.is_zipfile(file)
    before = file.read_bytes()
    again = _command(two, file)
    assert (again.exit_code, file.read_bytes()) == (2, before)
    assert "exists; expected a new file; next: name another one with --to" in again.output
    nowhere = _command(two, tmp_path / "no" / "evidence.zip")
    assert nowhere.exit_code == 2
    assert "does not exist; next: create it" in nowhere.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evidence.zip", "output", "retraining.yaml"]
