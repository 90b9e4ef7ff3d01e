"""The command line takes what a user means, and refuses what nobody can mean."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from fakes.registry import NAME

from emulator.cli import main as emulator
from fraud_detection.cli import current_person, default_tracking_uri, main
from fraud_detection.errors import SettingsError
from fraud_detection.registry.aliases import Pin
from fraud_detection.registry.decision_log import Action, Intervention
from fraud_detection.runs.progress import history_table
from fraud_detection.shapes import one_line
from local_stack.cli import main as local_stack

RETIRE = ("retire-champion", "--version", "1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        ("data/output", "data/output"),
        ("file:///tmp/x", "/tmp/x"),  # noqa: S108  (nothing is written)
        ("file://localhost/tmp/with%20space/", "/tmp/with space"),  # noqa: S108
    ],
)
def test_the_embedded_mlflow_is_in_the_output_folder_however_it_is_written(output: str, folder: str) -> None:
    """Fails when a file:/// URL of the output needs a --tracking-uri, although the folder is on this machine."""
    assert default_tracking_uri(output) == f"sqlite:///{folder}/mlflow.db"


@pytest.mark.parametrize(("output", "words"), [("s3a://bucket/x", "give --tracking-uri"), ("hdfs://x/y", "hdfs://…")])
def test_an_output_elsewhere_holds_no_database(output: str, words: str) -> None:
    """Fails when a run with its output in a bucket writes MLflow's database somewhere on the machine."""
    with pytest.raises(SettingsError, match=words):
        default_tracking_uri(output)


def test_a_command_writes_into_the_folder_of_a_file_url(here: Path) -> None:
    """Fails when `--output file:///…` is refused, or creates a folder that is called `file:`."""
    (here / "settings.yaml").touch()
    output = f"{here.as_uri()}/with%20space"
    _used(here / "with space")
    done = _run(*RETIRE, "--config", "settings.yaml", "--output", output, "--reason", "lost")
    assert "has no champion to retire" in done.stderr
    assert {path.name for path in here.iterdir()} == {"settings.yaml", "with space"}
    assert (here / "with space" / "mlflow.db").is_file()


def _used(folder: Path) -> None:
    """Make a folder that is no typo."""
    folder.mkdir()
    (folder / "notes.txt").touch()


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "0001-01-01", "9999-12-31T23:00-05:00", "9999-12-31"])
@pytest.mark.parametrize("words", [("decisions", "--at"), ("retrain", "--input", "x", "--as-of")])
def test_a_time_that_no_run_can_have_is_refused(words: tuple[str, ...], text: str) -> None:
    """Fails when a mistyped year ends in a stack trace."""
    done = CliRunner().invoke(main, [*words, text])
    assert done.exit_code == 2, done.output
    assert f"{text!r} is not a time between the years 1900 and 2999" in done.output


@pytest.mark.parametrize("verb", ["decisions", "candidates"])
def test_a_mistyped_output_is_an_error(here: Path, verb: str) -> None:
    """Fails when a script that lists a mistyped folder takes it for an installation without decisions."""
    (here / "settings.yaml").touch()
    command = (verb, "--config", "settings.yaml", "--output", "outptu")
    done = _run(*command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "found nothing in outptu; expected the output folder of earlier runs" in done.stderr
    assert "fraud-detection retrain --config settings.yaml --output outptu" in done.stderr
    assert json.loads(_run(*command, "--json").stdout)["exit_code"] == 2
    assert not (here / "outptu").exists()


REASON = ("--reason", "r")
COMMANDS = [
    ("approve", "2026-03-01"),
    ("reject", "2026-03-01", *REASON),
    ("promote", "2026-03-01", *REASON),
    ("rollback", *REASON),
    ("pin", *REASON),
    ("unpin", *REASON),
]
"""Of people, to a model that runs have made."""
LOST = [RETIRE + REASON, ("accept-log", *REASON)]
"""For a log that is lost: they work in an empty folder, if MLflow is elsewhere."""


@pytest.mark.parametrize(
    ("command", "tracking"),
    [
        *((command, ()) for command in (*COMMANDS, *LOST)),
        *((command, ("--tracking-uri", "http://127.0.0.1:9")) for command in COMMANDS),
        *((command, ("--tracking-uri", "sqlite:///outptu/mlflow.db")) for command in LOST),
    ],
    ids=lambda words: words[0] if words else "",
)
def test_a_command_with_a_mistyped_output_leaves_nothing_behind(
    here: Path, command: tuple[str, ...], tracking: tuple[str, ...]
) -> None:
    """Fails when a typo leaves a second folder with a database, or changes the model and logs it where nobody looks."""
    (here / "settings.yaml").touch()
    done = _run(*command, "--config", "settings.yaml", "--output", "outptu", *tracking)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "found nothing in outptu; expected the output folder of earlier runs" in done.stderr
    assert [path.name for path in here.iterdir()] == ["settings.yaml"]


@pytest.mark.parametrize("verb", ["decisions", "candidates"])
def test_the_folder_of_another_model_is_an_error(here: Path, verb: str) -> None:
    """Fails when the output folder of another model looks empty, and its user trains a new one."""
    (here / "settings.yaml").write_text("model_name: chargebacks", encoding="utf-8")
    entry = here / "output" / "decisions" / NAME / "20260301T000000Z.json"
    entry.parent.mkdir(parents=True)
    entry.touch()
    done = _run(verb, "--config", "settings.yaml", "--output", "output")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"model_name in settings.yaml is chargebacks, and the decisions there are of {NAME}" in done.stderr
    assert "--config FILE" in done.stderr


def test_the_last_entries_and_what_served_are_two_questions(here: Path) -> None:
    """Fails when `--at` answers from the newest entries alone, and names a version that did not serve then."""
    (here / "settings.yaml").touch()
    done = _run("decisions", "--config", "settings.yaml", "--last", "5", "--at", "2026-05-01")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--at and --last exclude each other" in done.stderr
    assert _run("decisions", "--last", "0").exit_code == 2


@pytest.mark.parametrize(("verb", "said"), [("decisions", "no decisions in"), ("candidates", "no candidates in")])
def test_a_folder_without_a_decision_yet_is_none(here: Path, verb: str, said: str) -> None:
    """Fails when the folder of a first run that ended before its decision is taken for a mistyped one."""
    (here / "settings.yaml").touch()
    (here / "output").mkdir()
    (here / "output" / "mlflow.db").touch()
    done = _run(verb, "--config", "settings.yaml", "--output", "output")
    assert (done.exit_code, said in done.stdout) == (0, True)


def test_a_share_that_is_no_number_is_refused(here: Path) -> None:
    """Fails when `create-data --dirty-share nan` is taken for a share, and adds no broken row in silence."""
    done = CliRunner().invoke(main, ["create-data", "--days", "1", "--output", "made", "--dirty-share", "nan"])
    assert done.exit_code == 2, done.output
    assert "found nan; expected a number" in done.output
    assert not (here / "made").exists()


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    ("program", "words"),
    [
        *((main, ("retrain", "--input", "x", option)) for option in ("--output", "--config", "--tracking-uri")),
        (main, ("retrain", "--input")),
        (main, ("decisions", "--output")),
        (main, (*RETIRE, "--reason", "x", "--output")),
        (main, ("create-data", "--days", "1", "--output")),
        (emulator, ("init", "--state")),
        (emulator, ("init", "--config")),
        (local_stack, ("status", "--env")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_empty_path_is_refused(here: Path, program: click.Group, words: tuple[str, ...], empty: str) -> None:
    """Fails when a variable that is not set, as in `--output "$OUTPUT"`, writes into the current folder."""
    done = CliRunner().invoke(program, [*words, empty])
    assert done.exit_code == 2, done.output
    assert re.search(rf"Invalid value for '{words[-1]}'.*: found nothing; expected ", done.output), done.output
    assert list(here.iterdir()) == []


def test_an_empty_address_in_the_environment_is_none(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when `MLFLOW_TRACKING_URI=` hides the output folder's own MLflow."""
    (here / "settings.yaml").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    _used(here / "output")
    done = _run(*RETIRE, "--config", "settings.yaml", "--output", "output", "--reason", "lost")
    assert "has no champion to retire" in done.stderr
    assert (here / "output" / "mlflow.db").is_file()


@pytest.mark.parametrize("verb", [("rollback",), ("unpin",), RETIRE], ids=lambda words: words[0])
@pytest.mark.parametrize("reason", ["", " \n\t\x00\u2028", "x" * 501])
def test_a_reason_that_says_nothing_or_too_much_is_refused(here: Path, verb: tuple[str, ...], reason: str) -> None:
    """Fails when the decision log cannot say why a person changed the model in service."""
    done = _run(*verb, "--reason", reason)
    assert done.exit_code == 2
    assert "Invalid value for '--reason': found " in done.stderr
    assert "expected one line of 1 to 500 characters" in done.stderr
    assert list(here.iterdir()) == []


FORGED = "worse\n2026-01-01 00:00  PROMOTED as v9\r\x1b[2K\u202e  every check\tpassed"
ONE_LINE = "worse 2026-01-01 00:00 PROMOTED as v9 [2K every check passed"


def test_a_reason_is_one_line() -> None:
    """Fails when a line break in a reason puts a row into the history that no run has decided."""
    assert one_line(FORGED) == ONE_LINE
    assert one_line("Umlaute, кириллица, 漢字 – “quotes”") == "Umlaute, кириллица, 漢字 – “quotes”"


def test_a_person_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the name of a person puts a row into the history, or an empty one leaves nobody."""
    monkeypatch.setenv("FRAUD_DETECTION_USER", f" {FORGED}\n")
    assert current_person() == ONE_LINE
    for empty in ("", " \n"):
        monkeypatch.setenv("FRAUD_DETECTION_USER", empty)
        monkeypatch.setenv("LOGNAME", "anna")
        assert current_person() == "anna"
    monkeypatch.setenv("FRAUD_DETECTION_USER", "x" * 501)
    with pytest.raises(SettingsError, match="FRAUD_DETECTION_USER"):
        current_person()


def test_an_old_entry_cannot_forge_a_row() -> None:
    """Fails when an old reason with line breaks adds a row to the history or a line to a message."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    old = Intervention(
        action=Action.ROLLBACK,
        model_name=NAME,
        at=at,
        who="anna\nboris",
        reason=FORGED,
        from_version=2,
        to_version=1,
        pinned_at=at,
    )
    assert len(history_table((old,))) == 2
    assert history_table((old,))[1].endswith(f"anna boris: {ONE_LINE}")
    pin = Pin(at=at, who="anna\nboris", reason=FORGED, from_version=2, to_version=1)
    assert pin.text == f"version 1 is pinned by anna boris since 2026-01-02 00:00 UTC ({ONE_LINE})"
