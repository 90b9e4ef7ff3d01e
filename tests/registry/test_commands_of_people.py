"""The verbs of people on the command line: exit codes, what was found and expected, and the next command."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes.candidates import A, B
from fakes.registry import T1, T2, World

from fraud_detection import registry
from fraud_detection.cli import main
from fraud_detection.registry import Leases
from fraud_detection.schema import Outcome

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

OPTIONS = r"--config \S+ --output \S+"
MLFLOW = rf"{OPTIONS} --tracking-uri \S+"
WORTH = ("--reason", "r")


@pytest.fixture(autouse=True)
def _anna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_DETECTION_USER", "anna")


def _run(here: World, *words: str) -> Result:
    config = here.output.parent / "approval.yaml"
    config.write_text("promotion: {mode: approval}\n", encoding="utf-8")
    done = CliRunner().invoke(main, [*words, "--config", str(config), "--output", str(here.output)])
    assert "Traceback" not in done.output, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def _assert_refused(done: Result, words: str, exit_code: int = 1) -> None:
    assert done.exit_code == exit_code, done.output
    assert done.stdout == ""
    assert re.search(words, done.stderr), done.stderr


def _persons(here: World) -> list[Any]:
    return [entry for entry in here.log.history() if hasattr(entry, "action")]


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("approve", B), 1, rf"does not wait for approval: .*those that wait: {A}; .*promote {MLFLOW} {B} --reason"),
        (("approve", "x"), 1, rf"named 'x'; expected a label cut-off such as .*: fraud-detection candidates {OPTIONS}"),
        (("reject", "2018-08", *WORTH), 1, rf"'2018-08' fits 2 candidates: {A}, {B}; give one of these names"),
        (("promote", "2017-01-01T00:00", *WORTH), 1, rf"no candidate is named .*fraud-detection candidates {OPTIONS}"),
        (("rollback", *WORTH), 1, rf"no previous champion; name a version: fraud-detection rollback {MLFLOW} --to"),
        (("rollback", "--to", "7", *WORTH), 1, "has no version 7; existing versions: 1"),
        (("rollback", "--to", "1", *WORTH), 1, "version 1 of fraud_detection is in service already; name another"),
        (("rollback", "--to", "first", *WORTH), 2, "'first' is not a valid integer"),
        (("unpin", *WORTH), 1, "is not pinned; automatic promotion is on"),
        (("accept-log", *WORTH), 1, "is the one that was written; nothing to accept"),
        (("decisions", "--at", "yesterday"), 2, "'yesterday' is not an ISO time such as 2026-05-24T00:00:00"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_that_cannot_be_done_says_why_and_what_to_do(
    waiting: World, words: tuple[str, ...], exit_code: int, said: str
) -> None:
    """Fails when a mistyped command changes the model in service, or leaves its user without a next step."""
    _assert_refused(_run(waiting, *words), said, exit_code)
    assert (waiting.aliases(), waiting.versions(), _persons(waiting)) == ({"champion": 1}, [1], [])


@pytest.mark.parametrize("verb", [("reject", A), ("promote", A), ("pin",), ("unpin",), ("rollback",), ("accept-log",)])
def test_a_command_without_a_reason_is_refused(tmp_path: Path, verb: tuple[str, ...]) -> None:
    """Fails when the log cannot say why a person overruled the promotion rule."""
    for words, said in ((verb, "Missing option '--reason'"), ((*verb, "--reason", " "), "found nothing; expected one")):
        done = CliRunner().invoke(main, [*words, "--output", str(tmp_path / "output")])
        _assert_refused(done, said, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["approve", "reject", "promote"])
def test_a_candidate_without_a_name_is_refused(tmp_path: Path, verb: str) -> None:
    """Fails when a variable that is not set promotes or rejects whatever comes first."""
    for words, said in (((verb,), "Missing argument 'CANDIDATE'"), ((verb, ""), "expected the name of a candidate")):
        _assert_refused(CliRunner().invoke(main, [*words, *WORTH, "--output", str(tmp_path / "output")]), said, 2)
    assert list(tmp_path.iterdir()) == []


def test_an_approval_twice_in_a_row_is_one(waiting: World) -> None:
    """Fails when a second try after a lost connection makes a second version, or ends in an error."""
    listed = _run(waiting, "candidates").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["candidate", A, B]
    assert "waits for approval until" in listed.splitlines()[1]
    first = _run(waiting, "approve", A, "--reason", "the board agreed")
    assert first.exit_code == 0, first.output
    assert "champion is v2 (was v1), approved by anna: the board agreed" in first.stdout
    assert "to go back: fraud-detection rollback" in first.stdout
    assert _run(waiting, "approve", A, "--reason", "the board agreed").stdout == first.stdout
    assert (waiting.versions(), len(_persons(waiting))) == ([1, 2], 1)
    assert A not in _run(waiting, "candidates").stdout
    told = _run(waiting, "decisions", "--at", "2100-01-01").stdout
    assert "v2 served from" in told
    assert "anna approved it (the board agreed)" in told
    assert "nothing was in service: no entry" in _run(waiting, "decisions", "--at", "2000-01-01").stdout


def test_accepting_a_log_names_the_decisions_that_are_missing(waiting: World) -> None:
    """Fails when a decision that a user has deleted is made again, and nobody was told that it would be."""
    opened = next(waiting.output.glob("decisions/*/*-opening.json"))
    decision = opened.with_name(opened.name.replace("-opening", ""))
    decision.unlink()
    done = _run(waiting, "accept-log", "--reason", "the disk was lost")
    assert done.exit_code == 0, done.output
    assert f"the decision at {T1:%Y-%m-%d %H:%M} is missing: the next run decides it again from what" in done.stdout


def test_a_repeated_override_is_one_unless_something_was_promoted_since(waiting: World) -> None:
    """Fails when a repeated command promotes twice, or says that its version serves when another one does."""
    first = _run(waiting, "promote", B, *WORTH)
    assert "champion is v2 (was v1), promoted, as an override, by anna: r" in first.stdout
    assert _run(waiting, "promote", B, *WORTH).stdout == first.stdout
    assert waiting.versions() == [1, 2]
    _assert_refused(_run(waiting, "approve", B), r"is version 2 already, and in service$")
    assert waiting.record(Outcome.PROMOTED, T2, seed=3).version == 3
    _assert_refused(
        _run(waiting, "promote", B, *WORTH),
        rf"is version 2 already; .*: fraud-detection rollback {MLFLOW} --to 2 --reason",
    )
    assert waiting.aliases()["champion"] == 3


def test_a_rejection_twice_in_a_row_is_one_and_holds(waiting: World) -> None:
    """Fails when a model that a person rejected can be promoted by the next command."""
    first = _run(waiting, "reject", A, "--reason", "it favours one shop")
    assert "is rejected by anna: it favours one shop; the next run deletes its files" in first.stdout
    assert _run(waiting, "reject", A, "--reason", "it favours one shop").stdout == first.stdout
    for words in (("approve", A), ("promote", A, *WORTH)):
        _assert_refused(
            _run(waiting, *words), rf"was rejected by anna on .*\(it favours one shop\); .*candidates {OPTIONS}"
        )
    assert (waiting.versions(), len(_persons(waiting))) == ([1], 1)


def test_a_pin_holds_against_the_other_verbs_until_it_ends(waiting: World) -> None:
    """Fails when a pin can be undone by a promotion, or its refusal does not name the command that ends it."""
    assert "champion v1 is pinned by anna: the audit" in _run(waiting, "pin", "--reason", "the audit").stdout
    _assert_refused(_run(waiting, "pin", "--reason", "once more"), r"is pinned already: version 1 .*\(the audit\); ")
    for words in (("approve", A), ("promote", A, *WORTH)):
        _assert_refused(
            _run(waiting, *words), rf"pinned by anna .*nothing is promoted until: fraud-detection unpin {MLFLOW}"
        )
    done = _run(waiting, "unpin", "--reason", "the audit is over")
    assert "champion v1 is no longer pinned; the next run may promote" in done.stdout
    assert _run(waiting, "unpin", "--reason", "the audit is over").stdout == done.stdout
    _assert_refused(_run(waiting, "unpin", "--reason", "again"), "is not pinned; automatic promotion is on")
    assert waiting.versions() == [1]


def test_an_expired_approval_names_the_override(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a winner of last month goes into service by an approval, or nothing says how it could."""
    later = datetime.now(UTC) + timedelta(days=8)
    monkeypatch.setattr(registry, "Leases", partial(Leases, clock=lambda: later))
    _assert_refused(
        _run(waiting, "approve", A), rf"waited for approval until .*approval_days is 7\).*promote {MLFLOW} {A} --reason"
    )
    assert (waiting.versions(), _persons(waiting)) == ([1], [])


@pytest.mark.parametrize("words", [("approve", A), ("reject", A, *WORTH), ("promote", A, *WORTH), ("pin", *WORTH)])
def test_a_folder_in_which_nothing_was_decided_is_named(empty: World, words: tuple[str, ...]) -> None:
    """Fails when a command with a mistyped --output ends in a stack trace, or without a word of what to look at."""
    _assert_refused(_run(empty, *words), "no candidate is named .*fraud-detection candidates|has no champion to pin")
    assert _persons(empty) == []
