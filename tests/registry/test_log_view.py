"""The promotion rule reads the same looks from the log that the runs took."""

import math
from datetime import UTC, datetime, timedelta

from factories import candidate_record, decision, look_record, opening

from fraud_detection.promotion import sequential
from fraud_detection.promotion.sequential import Champion, SequentialRule
from fraud_detection.registry.decision_log import LogEntry
from fraud_detection.registry.log_view import candidate_records, newest_as_of, recent_since, sequential_entries
from fraud_detection.schema import (
    SCHEMA_VERSION,
    Decision,
    LookKey,
    LookRecord,
    Outcome,
    RetirementReason,
    RetirementRecord,
)
from fraud_detection.settings import Settings

T = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULE = SequentialRule()
CHAMPION = Champion(1, T - 60 * DAY)
FIRST, SECOND = candidate_record(T - 10 * DAY), candidate_record(T - 9 * DAY)
LOOK = LookKey(candidate=FIRST.key, champion_version=1, number=2)
TAKEN = look_record(FIRST.key, T, number=2)


def _decided(*looks: LookRecord, as_of: datetime = T) -> Decision:
    retired = (RetirementRecord(candidate=SECOND.key, reason=RetirementReason.OVERTAKEN),)
    changes = {"schema_version": SCHEMA_VERSION, "looks": looks, "retired_candidates": retired}
    return decision(Outcome.REFUSED, as_of, champion_version=1, **changes)


def test_a_look_is_charged_when_it_is_opened_and_once() -> None:
    """Fails when a killed run's looks are free, or a finished one's are charged twice."""
    opened: list[LogEntry] = [opening(T, (FIRST, SECOND), (LOOK,))]
    entries = sequential_entries(opened, T)
    assert sequential.risk_ledger(entries, T, RULE).opened == 1
    entries = sequential_entries([*opened, _decided(TAKEN)], T)
    assert sequential.risk_ledger(entries, T, RULE).opened == 1


def test_candidates_live_until_they_are_retired() -> None:
    """Fails when a candidate is forgotten while its risk was charged, or a retired one is looked at again."""
    opened = opening(T, (FIRST, SECOND))
    alive = sequential.alive_candidates(sequential_entries([opened], T), CHAMPION, T, RULE)
    assert [one.key for one in alive] == [FIRST.key, SECOND.key]
    assert (alive[0].training_end, alive[0].growth) == (FIRST.training.end, FIRST.growth)
    entries = sequential_entries([opened, _decided()], T)
    assert [one.key for one in sequential.alive_candidates(entries, CHAMPION, T, RULE)] == [FIRST.key]
    assert candidate_records([opened, _decided()], T) == {FIRST.key: FIRST, SECOND.key: SECOND}


def test_a_result_is_read_as_it_was_measured() -> None:
    """Fails when the best of several winners is another one after a crash."""
    passed = [look_record(FIRST.key, T, root=math.inf, passed=True), look_record(SECOND.key, T, root=9.0, passed=True)]
    closed = [one for one in sequential_entries([_decided(*passed)], T) if isinstance(one, sequential.ClosedLook)]
    best = sequential.best_look(closed)
    assert best is not None
    assert best.look.candidate == FIRST.key
    assert best.result == sequential.LookResult(0.02, math.inf, 60, 30)


def test_the_test_of_a_first_champion_is_no_look_of_the_ledger() -> None:
    """Fails when the first champion's own test takes risk from the looks that follow."""
    first = LookKey(candidate=FIRST.key, champion_version=None, number=1)
    taken = look_record(FIRST.key, T, champion_version=None, root=None, lower_bound=None, limits=None)
    entries = sequential_entries([opening(T, (FIRST,), (first,)), _decided(taken)], T)
    assert sequential.risk_ledger(entries, T, RULE).opened == 0


def test_a_run_reads_nothing_later_than_itself() -> None:
    """Fails when a run at an earlier as-of time depends on what happened later."""
    later: list[LogEntry] = [opening(T + DAY, (FIRST,), (LOOK,)), _decided(TAKEN, as_of=T + DAY)]
    assert sequential_entries(later, T) == ()
    assert candidate_records(later, T) == {}
    assert newest_as_of(later) == T + DAY
    assert newest_as_of([]) is None


def test_a_run_reads_as_much_as_can_still_count() -> None:
    """Fails when a candidate of a long shadow time is forgotten before its life ends."""
    assert T - recent_since(T, Settings()) == 45 * DAY
    long = Settings.model_validate({"comparison": {"shadow_days": 90}})
    assert T - recent_since(T, long) == (90 + 7 + 7) * DAY
