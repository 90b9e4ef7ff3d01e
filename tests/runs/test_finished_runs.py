"""Why a run that finishes a killed one takes no look."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from factories import candidate_record, opening

from fraud_detection.data_health.examination import Verdict
from fraud_detection.data_health.finding import Finding
from fraud_detection.promotion.sequential import HoldoutCounts, Look, LookState, NextLook, SequentialRule
from fraud_detection.runs.blocks import Block
from fraud_detection.runs.planning import recount
from fraud_detection.schema import Check
from fraud_detection.settings import Settings

T = datetime(2026, 4, 20, tzinfo=UTC)
RECORD = candidate_record(T)
SOUND = Verdict()
CHECK = Check(name="volume_floor", value=0.2, limit=0.25, passed=False)
UNSOUND = Verdict(
    stops=(Finding(CHECK, date(2026, 4, 19), date(2026, 4, 19), "too few transactions"),), checks=(CHECK,)
)


@pytest.mark.parametrize(
    ("block", "verdict", "reason"),
    [
        (None, SOUND, "31 of 40 frauds for look 1 at the candidate of 2026-04-20"),
        (Block("promotions are frozen"), SOUND, "promotions are frozen"),
        (None, UNSOUND, "the data are not sound; too few transactions"),
    ],
)
def test_a_finished_run_that_took_no_look_says_why(block: Block | None, verdict: Verdict, reason: str) -> None:
    """Fails when a crash leaves a decision without a reason, and nobody learns what the next look waits for."""
    waits = NextLook(Look(T, RECORD.key, 1, 1), LookState.WAITS_FOR_FRAUDS, HoldoutCounts(31, 20), 40)
    span = SimpleNamespace(start=T - timedelta(days=9), end=T)
    shadow: Any = SimpleNamespace(
        spans=lambda: {RECORD.key: span},
        next_looks=lambda _: (waits,),
        rule=SequentialRule(),
        settings=Settings(),
        as_of=T,
    )
    trainer: Any = SimpleNamespace(frauds=SimpleNamespace(covering=list))
    planned = recount(shadow, trainer, opening(T, (RECORD,)), block, verdict)
    assert planned.reason.startswith(reason)
    assert (planned.looks, planned.next_looks) == ((), (waits,))
    assert planned.checks == verdict.checks
