"""In approval mode a run leaves its winner to a person."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from factories import candidate_record, look_record

from fraud_detection.commands import Commands
from fraud_detection.data_health.examination import Verdict
from fraud_detection.data_health.finding import Finding
from fraud_detection.runs.proposal import _retired, _verdict
from fraud_detection.runs.refit import refit_winner
from fraud_detection.schema import Check, Outcome, RetirementReason, RetirementRecord
from fraud_detection.settings import Settings

T = datetime(2026, 4, 20, tzinfo=UTC)
CANDIDATE = candidate_record(T)


def evidence(*, passed: bool) -> Any:
    checks = (
        Check(name="minimum_effect", value=0.02, limit=0.01, passed=passed),
        Check(name="brier", value=0.01, limit=0.01, passed=True, undecided=True),
    )
    look = look_record(CANDIDATE.key, T, passed=passed, checks=checks)
    expired = RetirementRecord(candidate=CANDIDATE.key, reason=RetirementReason.EXPIRED)
    shadow = SimpleNamespace(records={CANDIDATE.key: CANDIDATE}, retirements=lambda: (expired,))
    shown = SimpleNamespace(record=look, floor=None)
    measured = SimpleNamespace(looks=(look,), shown=shown, gone=())
    return SimpleNamespace(measured=measured, plan=SimpleNamespace(shadow=shadow), refit=None)


def request(mode: str) -> Any:
    settings = Settings.model_validate({"promotion": {"mode": mode}})
    return SimpleNamespace(settings=settings, commands=Commands("c.yaml", "out", "sqlite:///out/mlflow.db"))


@pytest.mark.parametrize(
    ("mode", "passed", "expected"),
    [
        ("approval", True, Outcome.NEEDS_REVIEW),
        ("automatic", True, Outcome.PROMOTED),
        ("approval", False, Outcome.REFUSED),
    ],
)
def test_a_winner_is_left_to_a_person_in_approval_mode(mode: str, passed: bool, expected: Outcome) -> None:
    """Fails when a run promotes what a person has to approve, or its message does not say how and what is undecided."""
    outcome, reason, _ = _verdict(evidence(passed=passed), request(mode), T)
    assert outcome is expected
    command = (
        "fraud-detection approve --config c.yaml --output out --tracking-uri sqlite:///out/mlflow.db 2026-04-20T00:00"
    )
    assert (command in reason) is (expected is Outcome.NEEDS_REVIEW)
    if passed:
        assert "too few frauds to rule out harm" in reason
    if expected is Outcome.NEEDS_REVIEW:
        assert f"waits for approval until {T + timedelta(days=7):%Y-%m-%d %H:%M}" in reason


def test_looks_that_were_void_because_of_unsound_data_say_so() -> None:
    """Fails when a refusal after a crash does not name the data that stopped it, nor the setting that accepts them."""
    found = evidence(passed=False)
    found.measured.shown = None
    check = Check(name="volume_floor", value=0.2, limit=0.25, passed=False)
    finding = Finding(check, date(2026, 4, 19), date(2026, 4, 19), "too few transactions")
    found.health = SimpleNamespace(verdict=Verdict(stops=(finding,), checks=(check,)))
    outcome, reason, _ = _verdict(found, request("automatic"), T)
    assert outcome is Outcome.REFUSED
    assert reason.startswith("the data are not sound; too few transactions; if this is right, set data_health.accepted")
    assert reason.endswith("what the interrupted run has opened is not measured")


def test_a_winner_at_the_end_of_its_life_is_not_retired_while_it_waits() -> None:
    """Fails when the files of the model that a person is asked to approve are deleted by the run that asks."""
    assert _retired(evidence(passed=True), Outcome.NEEDS_REVIEW) == ()
    (retired,) = _retired(evidence(passed=True), Outcome.PROMOTED)
    assert retired.candidate == CANDIDATE.key


@pytest.mark.parametrize("mode", ["approval", "automatic"])
def test_a_winner_that_a_person_approves_is_not_refitted(mode: str) -> None:
    """Fails when a person approves the model that was evaluated, and another one serves."""
    settings = Settings.model_validate({"promotion": {"mode": mode, "refit_winner": True}})
    refitted: list[Any] = []

    def freeze(*given: Any) -> Any:
        refitted.append(given)
        raise InterruptedError

    shown: Any = SimpleNamespace(record=look_record(CANDIDATE.key, T, passed=True), candidate=CANDIDATE)
    shadow: Any = SimpleNamespace(settings=settings, as_of=T, champion=None)
    trainer: Any = SimpleNamespace(recipe=CANDIDATE.key.recipe, sample=lambda _: None, freeze=freeze)
    with suppress(InterruptedError):
        assert refit_winner(shown, shadow, trainer) is None
    assert bool(refitted) is (mode == "automatic")
