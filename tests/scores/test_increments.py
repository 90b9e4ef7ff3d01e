"""Each transaction is scored once, in whatever order transactions come, change and go."""

from dataclasses import dataclass, field
from datetime import date, timedelta

import hypothesis.strategies as st
import pytest
from fakes.scoring import START, MemoryStorage, Row, score_input, stored_scores
from hypothesis import given, settings

from fraud_detection.scores.increments import changed_days, spans
from fraud_detection.scores.manifest import ScoredDay, ScoreManifest


@dataclass
class Step:
    """What happens to an input before its next batch."""

    put: dict[str, Row] = field(default_factory=dict)  # new, or corrected
    drop: frozenset[str] = frozenset()
    hours: int = 0  # until the batch


IDS = st.sampled_from("abcdef")
STEPS = st.builds(
    Step,
    put=st.dictionaries(IDS, st.builds(Row, hour=st.integers(0, 80), amount=st.sampled_from([1.0, 2.0])), max_size=4),
    drop=st.frozensets(IDS, max_size=2),
    hours=st.integers(0, 30),
)


@given(st.lists(STEPS, max_size=7))
@settings(max_examples=60)
def test_each_transaction_is_scored_once(steps: list[Step]) -> None:
    """Fails when a late, corrected, moved or returning transaction has two scores, or none, or another one later."""
    anchor = {"first": Row(0)}  # the owner of the data removes no days from the front
    rows, as_of = dict(anchor), START + timedelta(hours=1)
    seen: dict[str, dict[str, object]] = {}
    storage = MemoryStorage()
    for step in steps:
        rows = {key: row for key, row in (rows | step.put).items() if key not in step.drop} | anchor
        before, as_of = as_of, as_of + timedelta(hours=step.hours)
        first = not stored_scores(storage)
        score_input(storage, rows, as_of)
        found = stored_scores(storage)
        assert all(len(scores) == 1 for scores in found.values())
        assert {key for key, row in rows.items() if row.time < as_of} <= found.keys()
        assert all(found[key] == [score] for key, score in seen.items()), "what was scored stays as it was"
        for key in found.keys() - seen.keys():
            assert found[key][0]["late"] == (not first and rows[key].time < before)
        seen = {key: scores[0] for key, scores in found.items()}


def test_transactions_after_the_as_of_time_wait() -> None:
    """Fails when a transaction is scored before it is over, with features of a past that is not complete."""
    storage = MemoryStorage()
    rows = {"a": Row(1), "b": Row(2)}
    score_input(storage, rows, START + timedelta(hours=2))
    assert stored_scores(storage).keys() == {"a"}
    score_input(storage, rows, START + timedelta(hours=3))
    assert stored_scores(storage).keys() == {"a", "b"}
    assert stored_scores(storage)["b"][0]["late"] is False


def test_a_new_champion_changes_no_score() -> None:
    """Fails when a promotion rewrites the scores on which alerts were raised."""
    storage = MemoryStorage()
    score_input(storage, {"a": Row(1)}, START + timedelta(hours=2), version=1)
    score_input(storage, {"a": Row(1), "b": Row(2)}, START + timedelta(hours=3), version=2)
    found = stored_scores(storage)
    assert [(key, found[key][0]["model_version"], found[key][0]["batch"]) for key in "ab"] == [("a", 1, 1), ("b", 2, 2)]


def _scored(**days: ScoredDay) -> ScoreManifest:
    return ScoreManifest(
        number=1,
        as_of=START,
        since=START,
        scored_at=START,
        version=1,
        sha256=None,
        threshold=None,
        code_revision=None,
        rows=0,
        alerts=0,
        late=0,
        days=tuple(days.values()),
    )


def _day(number: int, content: str, gone: int = 0) -> ScoredDay:
    return ScoredDay(day=date(2026, 3, number), rows=2, alerts=0, late=0, gone=gone, content=content, files=())


def test_only_days_that_differ_are_read() -> None:
    """Fails when each batch reads the ids of all that was ever scored."""
    scored = _scored(a=_day(1, "", gone=2), b=_day(2, "x", gone=1), c=_day(3, "x"), d=_day(4, "x"), e=_day(5, "x"))
    contents = {date(2026, 3, number): "x" for number in (2, 3, 6)} | {date(2026, 3, 4): "y"}
    found = changed_days(contents, scored, date(2026, 3, 2))
    assert [day.day for day in found] == [2, 4, 5, 6], "lost some, other content, vanished, new"
    assert changed_days({date(2026, 3, 2): "x"}, None, date(2026, 3, 2)) == (date(2026, 3, 2),)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([], []),
        ([3], [(3, 4)]),
        ([5, 3, 4], [(3, 6)]),
        ([3, 6], [(3, 7)]),
        ([3, 7, 20], [(3, 8), (20, 21)]),
        ([3, 8], [(3, 4), (8, 9)]),
    ],
)
def test_days_far_apart_are_computed_apart(days: list[int], expected: list[tuple[int, int]]) -> None:
    """Fails when one late transaction makes a batch compute the features of all days since."""
    found = spans([date(2026, 3, day) for day in days], gap=4)
    assert [(start.day, end.day) for start, end in found] == expected
