"""The benchmark of real retraining: it must fail where a target is missed, and write down what it saw."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from factories import decision

from benchmarks import end_to_end
from benchmarks.end_to_end import CHECK, FIRST_RUN, FULL, Replay, Story, failures, replay, report
from fraud_detection.schema import Decision, Outcome

QUIET = Story(5, days=8, every=2)
LATE = Story(5, days=20, every=2)
CHANGING = Story(1, days=8, every=2, change=3)


def _runs(story: Story, *promoted: int, first: int = 0) -> Replay:
    """A first champion on one day, promotions over it on others."""

    def outcome(day: int) -> tuple[Outcome, int | None]:
        if day <= first:
            return (Outcome.PROMOTED if day == first else Outcome.NO_DECISION), None
        return (Outcome.PROMOTED if day in promoted else Outcome.REFUSED), 1

    days = range(0, story.days + 1, story.every)
    return Replay(story, tuple(_decision(day, *outcome(day)) for day in days))


def _decision(day: int, outcome: Outcome, champion: int | None) -> Decision:
    return decision(outcome, FIRST_RUN + timedelta(days=day), champion, looks=(), opened=())


def test_a_full_run_has_the_worlds_that_are_asked_for() -> None:
    """Fails when the committed table rests on fewer quiet worlds than five, or no world in it changes."""
    quiet = {story.seed for story in FULL if story.change is None}
    changing = [story for story in FULL if story.change is not None]
    assert len(quiet) == 5
    assert len(changing) >= 2
    assert all(story.days == 60 for story in FULL)
    assert any(story.change is not None for story in CHECK)


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        ((_runs(CHANGING, 6), _runs(QUIET)), ()),
        ((_runs(CHANGING, 4, 6), _runs(QUIET, 2)), ()),
        ((_runs(CHANGING), _runs(QUIET)), ("the change was not followed",)),
        ((_runs(CHANGING, 2), _runs(QUIET)), ("the change was not followed",)),
        ((_runs(CHANGING, 2, 6), _runs(QUIET, 4)), ("2 promotions in unchanged worlds",)),
        ((_runs(QUIET, 4, 8),), ("2 promotions in unchanged worlds",)),
        ((_runs(QUIET, first=4),), ()),
        ((_runs(LATE, first=16),), ("no first champion",)),
        ((_runs(QUIET, first=99),), ("no first champion",)),
    ],
)
def test_a_missed_target_is_named(found: tuple[Replay, ...], missed: tuple[str, ...]) -> None:
    """Fails when the benchmark passes though quiet worlds promote, or a change is never answered."""
    assert len(named := list(failures(found))) == len(missed), named
    assert all(text in line for text, line in zip(missed, named, strict=True))


def test_the_table_has_a_line_for_each_world_and_says_what_was_missed() -> None:
    """Fails when a reader of the committed table cannot see when models were promoted, or that a target was missed."""
    text = "\n".join(report((_runs(CHANGING, 6), _runs(QUIET, 4, 6))))
    assert "| change on day 3 | 1 | 8 | 5 | day 0 | 0 | 0 | day 6 | +0.020 [+0.011, +0.030] |" in text
    assert "| quiet | 5 | 8 | 5 | day 0 | 0 | 0 | day 4, day 6 |" in text
    assert "- 2 promotions in unchanged worlds; at most 1 expected" in text
    assert "Every target is met." in "\n".join(report((_runs(CHANGING, 6),)))


def test_a_world_changes_on_its_day_and_a_quiet_one_never() -> None:
    """Fails when a quiet world changes, or the change of the other is not where the table says."""
    change = (FIRST_RUN + timedelta(days=3)).date()
    assert [regime.start for regime in CHANGING.world().regimes][1:] == [change]
    assert all(regime.start > (FIRST_RUN + timedelta(days=60)).date() for regime in QUIET.world().regimes[1:])


def test_runs_follow_each_other_on_data_that_reach_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a run is left out, or sees data that end before it."""
    asked: list[Any] = []

    def run(source: Path, _: Path, as_of: Any, __: Any) -> Decision:
        asked.append(as_of)
        assert (source / "transactions" / f"{(as_of - timedelta(days=1)).date()}.parquet").exists()
        return decision(Outcome.REFUSED, as_of, 1)

    monkeypatch.setattr(end_to_end, "_run", run)
    monkeypatch.setattr(end_to_end, "TRANSACTIONS_PER_DAY", 300)
    found = replay(replace(QUIET, days=5), tmp_path)
    assert asked == [FIRST_RUN + timedelta(days=day) for day in (0, 2, 4)]
    assert [one.as_of for one in found.decisions] == asked
