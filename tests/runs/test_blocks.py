"""What stops promotions for a while, and a person's override: candidates open, and due looks are taken after it."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import AS_OF, Job
from weak_champion import BACKFILLED, EASY, entry, later, opening_of

from fraud_detection.cli import main

pytest_plugins = ["weak_champion"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")]

DAY = AS_OF.date()
CHANGE_FREEZE = {"freezes": [{"from": DAY, "to": DAY, "reason": "the audit"}]}
WINNER, YOUNGEST = "2026-02-22T00:00", "2026-03-01T00:00"
"""The candidates that a run at AS_OF opens; the first is due for its look."""


def _with(**promotion: Any) -> dict[str, Any]:
    return {**EASY, "promotion": {**EASY["promotion"], **promotion}}


def _assert_blocked(ran: dict[str, Any], words: str, output: Path) -> None:
    assert (ran["decision"], ran["looks"], len(ran["opened"])) == ("no_decision", [], 2)
    assert words in ran["reason"]
    opened = opening_of(output)
    assert ([one["key"] for one in opened["candidates"]], opened["looks"]) == (ran["opened"], [])


def _assert_resumed(ran: dict[str, Any], expected: dict[str, Any]) -> None:
    """The looks that were due meanwhile are taken, on what has matured since, too."""
    assert (ran["decision"], ran["version"]) == ("promoted", 2), ran["reason"]
    assert [look["candidate"] for look in ran["looks"]] == [look["candidate"] for look in expected["looks"]]
    assert ran["looks"][0]["number"] >= expected["looks"][0]["number"]


def _show(output: Path, *words: str) -> str:
    """What a verb that only reads prints."""
    config = output.parent / "retraining.yaml"
    shown = CliRunner().invoke(main, [*words, "--config", str(config), "--output", str(output)], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def _promote(output: Path, candidate: str) -> str:
    return _show(output, "promote", candidate, "--reason", "the attack does not wait")


def test_a_pin_opens_candidates_and_takes_no_look(job: Job, output: Path, expected: dict[str, Any]) -> None:
    """Fails when a pin costs the looks of its time, or the weeks that a candidate needs after it."""
    assert job("pin", reason="the audit").exit_code == 0
    ran = job(json=True, settings=EASY)
    _assert_blocked(ran.json, "version 1 is pinned by ", output)
    assert "automatic promotion resumes with: fraud-detection unpin" in ran.stderr
    assert job("unpin", reason="the audit is over").exit_code == 0
    _assert_resumed(job(json=True, settings=EASY, as_of=later(1)).json, expected)


@pytest.mark.parametrize(
    ("promotion", "hours", "words"),
    [
        (CHANGE_FREEZE, 24, f"promotions are frozen from {DAY} to {DAY} (promotion.freezes): the audit"),
        ({"hours_between_promotions": 193}, 1, "promotion.hours_between_promotions is 193: the next can be at"),
    ],
    ids=["dates", "hours between promotions"],
)
def test_a_change_freeze_opens_candidates_and_takes_no_look(
    job: Job, output: Path, expected: dict[str, Any], promotion: dict[str, Any], hours: int, words: str
) -> None:
    """Fails when something is promoted in a freeze, when it costs the looks of its time, or when it never ends."""
    settings = _with(**promotion)
    _assert_blocked(job(json=True, settings=settings).json, words, output)
    if hours > 1:  # the last hour of the freeze
        still = job(json=True, settings=settings, as_of=later(hours - 1)).json
        assert (still["decision"], still["looks"], words in still["reason"]) == ("no_decision", [], True)
    _assert_resumed(job(json=True, settings=settings, as_of=later(hours)).json, expected)


def test_a_pin_outlasts_a_freeze_and_a_freeze_a_pin(job: Job, output: Path, expected: dict[str, Any]) -> None:
    """Fails when the end of one of two reasons not to promote ends the other, too."""
    settings = _with(**CHANGE_FREEZE)
    assert job("pin", reason="holidays").exit_code == 0
    _assert_blocked(job(json=True, settings=settings).json, "version 1 is pinned by ", output)
    assert job("unpin", reason="back again").exit_code == 0
    frozen = job(json=True, settings=settings, as_of=later(1)).json
    assert (frozen["looks"], "promotions are frozen" in frozen["reason"]) == ([], True)
    assert job("pin", reason="once more").exit_code == 0
    pinned = job(json=True, settings=settings, as_of=later(24)).json
    assert (pinned["looks"], "version 1 is pinned by" in pinned["reason"]) == ([], True)
    assert job("unpin", reason="back again").exit_code == 0
    _assert_resumed(job(json=True, settings=settings, as_of=later(25)).json, expected)


def test_a_person_promotes_a_candidate_during_a_freeze(job: Job, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an override is not served, not logged with its reason, or later looks compare with another model."""
    monkeypatch.setenv("FRAUD_DETECTION_USER", "anna")
    settings = _with(**CHANGE_FREEZE)
    job(settings=settings)
    assert WINNER in _show(output, "candidates")
    assert "champion is v2 (was v1), promoted, as an override, by anna: the attack" in _promote(output, WINNER)
    (name,) = (path.stem for path in (output / "decisions").rglob("*-promote.json"))
    logged = entry(output, name)
    assert (logged["from_version"], logged["to_version"]) == (1, 2)
    assert logged["candidate"]["label_cutoff"] == BACKFILLED
    told = _show(output, "decisions", "--at", "2100-01-01")
    assert "v2 served from" in told
    assert "anna promoted it as an override (the attack does not wait)" in told
    assert WINNER not in _show(output, "candidates")
    following = job(json=True, settings=settings, as_of=later(24)).json
    assert following["champion_version"] == 2
    assert [look["champion_version"] for look in following["looks"]] == [2] * len(following["looks"])
    assert BACKFILLED not in [look["candidate"]["label_cutoff"] for look in following["looks"]]
