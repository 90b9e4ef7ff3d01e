"""What a run says of the time after it: when frauds count, what is opened next, and what stops looks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from factories import candidate_record, decision, schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.holdout import HoldoutSpan, count_frauds, holdout_rows
from fraud_detection.promotion.sequential import Look
from fraud_detection.registry import Champion
from fraud_detection.registry.aliases import Pin
from fraud_detection.runs.blocks import Block, find_block
from fraud_detection.runs.scheduling import Holdout, RunEnd, after_decision, count_from, make_schedule
from fraud_detection.runs.shadow import Shadow
from fraud_detection.schema import Outcome
from fraud_detection.settings import Promotion, Settings

AS_OF = datetime(2026, 4, 20, 7, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = AS_OF - 20 * DAY
DATED = Settings.model_validate({"data": {"columns": {"label_available_at": "label_available_at"}}})
UNDATED = Settings()


@st.composite
def frauds(draw: st.DrawFn) -> pd.DataFrame:
    """Frauds of few cards from two weeks before the hold-out on, as a run at AS_OF knows them."""
    minutes = st.integers(-14 * 24 * 60, 20 * 24 * 60 - 1)
    rows = draw(st.lists(st.tuples(minutes, st.integers(1, 6), st.integers(1, 9 * 24 * 60)), min_size=1, max_size=40))
    times = [START + timedelta(minutes=minute) for minute, _, _ in rows]
    known = [time + timedelta(minutes=delay) for time, (_, _, delay) in zip(times, rows, strict=True)]
    table = pd.DataFrame(
        {
            "transaction_id": range(len(rows)),
            "transaction_time": pd.to_datetime([time.replace(tzinfo=None) for time in times]).astype("datetime64[us]"),
            "amount": 1.0,
            "fraud": pd.Series(1, index=range(len(rows)), dtype="Int8"),
            "customer_id": [card for _, card, _ in rows],
            "label_available_at": pd.to_datetime([at.replace(tzinfo=None) for at in known]).astype("datetime64[us]"),
        }
    )
    return table[table["label_available_at"] <= pd.Timestamp(AS_OF.replace(tzinfo=None))].reset_index(drop=True)


@given(frauds(), st.integers(0, 7 * 24), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_fraud_counts_from_the_hour_at_which_a_run_counts_it(
    rows: pd.DataFrame, hours: int, dated: bool, cards: bool
) -> None:
    """Fails when the schedule sees other frauds than the job, so that it comes too late, or for nothing."""
    config = DATED if dated else UNDATED
    rows = rows if dated else rows.drop(columns="label_available_at")
    rows = rows if cards else rows.drop(columns="customer_id")
    whole = HoldoutSpan(START, AS_OF, AS_OF + 7 * DAY, START, START + 7 * DAY)
    later = AS_OF + hours * HOUR
    then = HoldoutSpan(START, later - 7 * DAY, later, START, START + 7 * DAY)
    expected = count_frauds(holdout_rows(rows, rows, then, config))
    assert Holdout(START, count_from(rows, whole, config)).counts_at(later) == expected


def shadow(version: int | None = 12, as_of: datetime = AS_OF, config: Settings = DATED) -> Shadow:
    """A log with one candidate, trained until START."""
    training = SimpleNamespace(end=START - DAY)
    champion = version and SimpleNamespace(version=version, training=training, refit_of=None)
    found = Shadow.of((), cast("Champion | None", champion), as_of, "recipe", config)
    return found.with_opened([candidate_record(START + 7 * DAY)])


def counting(*hours: int, late: bool = False) -> dict[Any, Holdout]:
    """The hold-out of that candidate: a fraud on a card of its own counts so many hours after AS_OF."""
    counts = pd.to_datetime([(AS_OF + hour * HOUR).replace(tzinfo=None) for hour in sorted(hours)])
    known = counts - pd.Timedelta(hours=2 if late else 48)
    rows = pd.DataFrame({"counts": counts, "known": known, "time": counts, "card": range(len(hours))})
    return {candidate_record(START + 7 * DAY).key: Holdout(START, rows)}


def end(at: Shadow, block: Block | None = None) -> RunEnd:
    return RunEnd(at, block, (), AS_OF + HOUR / 10, commands=0)


def test_the_next_look_is_written_with_its_frauds_by_hour() -> None:
    """Fails when the schedule does not know from when on a look is due."""
    found = make_schedule(end(shadow()), counting(*[-5] * 31, *[3] * 4, *[9] * 20, *[11] * 50))
    [look] = found.looks
    assert (look.number, look.holdout_start) == (1, START)
    assert (look.frauds, look.frauds_needed, look.fraud_cards, look.fraud_cards_needed) == (31, 40, 31, 15)
    assert {hour: more.frauds for hour, more in look.maturing.items()} == {AS_OF + 3 * HOUR: 4, AS_OF + 9 * HOUR: 20}
    assert (found.champion_version, found.compared_with, found.block) == (12, 12, None)
    assert found.next_candidate_at == datetime(2026, 4, 21, tzinfo=UTC)


def test_after_its_look_the_next_one_is_waited_for() -> None:
    """Fails when a look that was taken keeps calling for clusters."""
    taken = shadow()
    taken = replace(taken, entries=(*taken.entries, Look(AS_OF, candidate_record(START + 7 * DAY).key, 12, 1)))
    [look] = make_schedule(end(taken), counting(*[-5] * 41)).looks
    assert (look.number, look.frauds, look.frauds_needed) == (2, 41, 60)


@pytest.mark.parametrize(("config", "late", "a_day"), [(DATED, True, 2.0), (DATED, False, 0.0), (UNDATED, True, 0.0)])
def test_late_labels_are_counted_where_they_have_times(config: Settings, late: bool, a_day: float) -> None:
    """Fails when the schedule expects labels that do not come, or is surprised by those that always come late."""
    found = make_schedule(end(shadow(config=config)), counting(*range(-168 + 12, 0, 12), 0, *range(1, 30), late=late))
    assert found.late_frauds_a_day == a_day


def test_a_first_champion_has_candidates_at_once_and_a_later_one_at_their_time() -> None:
    """Fails when the first look follows the first champion only a day later."""
    first = after_decision(
        schedule(AS_OF, champion_version=None, compared_with=None), decision(Outcome.PROMOTED, AS_OF, version=1)
    )
    assert (first.champion_version, first.next_candidate_at) == (1, AS_OF + HOUR)
    later = after_decision(schedule(AS_OF), decision(Outcome.PROMOTED, AS_OF, 12, version=13))
    assert (later.champion_version, later.compared_with, later.next_candidate_at) == (13, 12, AS_OF + DAY)
    assert after_decision(schedule(AS_OF), decision(Outcome.REFUSED, AS_OF, 12)) == schedule(AS_OF)


def test_without_a_champion_tests_are_as_rare_as_looks_and_impossible_ones_rarer() -> None:
    """Fails when data that cannot have a champion costs 24 clusters a day."""
    none = shadow(version=None)
    assert make_schedule(end(none), {}).next_candidate_at == AS_OF + 5 * HOUR
    failed = decision(Outcome.NO_DECISION, AS_OF).checks
    assert make_schedule(replace(end(none), checks=failed), {}).next_candidate_at == AS_OF + DAY


def test_what_stops_looks_is_written_with_its_end() -> None:
    """Fails when a pin, a freeze or spent risk costs a cluster every six hours."""
    freeze = Promotion.model_validate(
        {"freezes": [{"from": "2026-04-19", "to": "2026-04-22", "reason": "holidays"}], "hours_between_promotions": 30}
    )
    frozen = find_block(None, (), AS_OF, freeze)
    assert frozen is not None
    assert frozen.until == datetime(2026, 4, 23, tzinfo=UTC)
    promoted = decision(Outcome.PROMOTED, AS_OF - DAY, version=12)
    waiting = find_block(None, (promoted,), AS_OF, freeze.model_copy(update={"freezes": ()}))
    assert waiting is not None
    assert waiting.until == AS_OF + 6 * HOUR
    pinned = find_block(Pin(at=AS_OF, who="ann", reason="r", from_version=2, to_version=1), (), AS_OF, freeze)
    assert pinned is not None
    assert pinned.until is None
    written = make_schedule(end(shadow(), waiting), counting()).block
    assert written is not None
    assert (written.reason, written.until) == (waiting.reason, waiting.until)
    spent = shadow()
    looks = (Look(AS_OF - 2 * DAY, candidate_record(START, f"r{number}").key, 12, 1) for number in range(270))
    risk = make_schedule(end(replace(spent, entries=(*spent.entries, *looks))), counting(0)).block
    assert risk is not None
    assert risk.until == AS_OF + 28 * DAY
