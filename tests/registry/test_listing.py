"""What the log says for people: the candidates in shadow, and what served on a date and why."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from factories import MODEL_NAME, candidate_record, decision, look_record, opening
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.errors import FraudDetectionError
from fraud_detection.promotion.freezes import freeze_reason
from fraud_detection.promotion.sequential import Champion, SequentialRule, due_retirements
from fraud_detection.registry.aliases import Pin
from fraud_detection.registry.candidate_names import candidate_name, find_candidate
from fraud_detection.registry.decision_log import Action, Entry, Intervention
from fraud_detection.registry.listing import served_between, shadow_candidates
from fraud_detection.registry.log_view import sequential_entries
from fraud_detection.registry.reviews import settled_candidates, waiting_candidates
from fraud_detection.runs.blocks import find_block
from fraud_detection.runs.progress import candidate_table
from fraud_detection.schema import CandidateKey, Outcome, RefitRecord, RetirementReason
from fraud_detection.settings import Freeze, Promotion

T = datetime(2026, 4, 20, tzinfo=UTC)
DAY = timedelta(days=1)
ONE, TWO = candidate_record(T), candidate_record(T + DAY)


def promoted(version: int, at: datetime, compared: int | None) -> Entry:
    return decision(Outcome.PROMOTED, at, champion_version=compared, version=version, committed_at=at)


def person(action: Action, at: datetime, before: int | None, after: int | None, **changes: Any) -> Intervention:
    known = {"who": "anna", "reason": "because", "model_name": MODEL_NAME, "pinned_at": at}
    return Intervention(action=action, at=at, from_version=before, to_version=after, **(known | changes))


HISTORY: list[Entry] = [
    promoted(1, T, None),
    promoted(2, T + 10 * DAY, 1),
    person(Action.ROLLBACK, T + 12 * DAY, 2, 1),
    person(Action.UNPIN, T + 14 * DAY, 1, 1, pinned_at=T + 12 * DAY),
    person(Action.REJECT, T + 15 * DAY, 1, 1, candidate=ONE.key),
    person(Action.PROMOTE, T + 20 * DAY, 1, 3, candidate=TWO.key),
]


@pytest.mark.parametrize(
    ("days", "version", "since", "says", "pins"),
    [
        (1, 1, 0, "the run of 2026-04-20 00:00 promoted it", 0),
        (11, 2, 10, "the run of 2026-04-30 00:00 promoted it", 0),
        (13, 1, 12, "anna rolled back to it (because)", 1),
        (14.5, 1, 12, "anna rolled back to it (because)", 0),
        (30, 3, 20, "anna promoted it as an override (because)", 0),
    ],
)
def test_the_log_says_what_served_at_a_time(days: float, version: int, since: int, says: str, pins: int) -> None:
    """Fails when an audit is told another model, reason or pin than that of the day it asks about."""
    at = T + days * DAY
    (found,) = served_between(HISTORY, at, at)
    assert (found.version, found.since, len(found.pins)) == (version, T + since * DAY, pins)
    assert says in found.lines[0]
    assert all(
        isinstance(pin, Pin) and "pinned by anna" in line for pin, line in zip(found.pins, found.lines[1:], strict=True)
    )


def test_a_day_may_have_several_champions() -> None:
    """Fails when the model that served in the morning is left out."""
    day = T + 10 * DAY - timedelta(hours=5)
    assert [found.version for found in served_between(HISTORY, day, day + DAY)] == [1, 2]
    assert [found.until for found in served_between(HISTORY, T, T + 40 * DAY)][-1] is None
    assert served_between(HISTORY, T - DAY, T - DAY) == ()
    retired = [*HISTORY, person(Action.RETIRE, T + 21 * DAY, 3, None)]
    (nothing,) = served_between(retired, T + 22 * DAY, T + 22 * DAY)
    assert (nothing.version, "anna retired v3" in nothing.lines[0]) == (None, True)


def test_a_log_that_was_accepted_says_what_served_from_then_on() -> None:
    """Fails when the promotion was what was lost, and an audit hears of the model before it for ever."""
    history = [promoted(1, T, None), person(Action.ACCEPT_LOG, T + 5 * DAY, 2, 2)]
    old, new = served_between(history, T, T + 9 * DAY)
    assert (old.version, old.until) == (1, T + 5 * DAY)
    assert (new.version, new.until) == (2, None)
    assert "anna accepted a log that does not say how it came into service (because)" in new.lines[0]
    whole = [*HISTORY, person(Action.ACCEPT_LOG, T + 25 * DAY, 3, 3)]
    assert served_between(whole, T, T + 30 * DAY) == served_between(HISTORY, T, T + 30 * DAY)


def needs_review(at: datetime, key: CandidateKey) -> Entry:
    looks = (look_record(key, at, passed=True),)
    return decision(Outcome.NEEDS_REVIEW, at, 1, looks=looks, committed_at=at, schema_version=2)


def test_the_list_shows_who_waits_and_until_when() -> None:
    """Fails when a person cannot find the name that `approve` takes, or a rejected candidate is still offered."""
    entries = [opening(T + DAY, (ONE, TWO)), needs_review(T + 2 * DAY, ONE.key)]
    found = shadow_candidates(entries, T + 3 * DAY, 7)
    assert [(one.name, one.waits_until) for one in found] == [
        ("2026-04-20T00:00", T + 9 * DAY),
        ("2026-04-21T00:00", None),
    ]
    assert "waits for approval until 2026-04-29 00:00" in candidate_table(found)[1]
    assert "in shadow" in candidate_table(found)[2]
    assert shadow_candidates(entries, T + 10 * DAY, 7)[0].waits_until is None
    gone = [*entries, person(Action.REJECT, T + 3 * DAY, 1, 1, candidate=ONE.key)]
    assert [one.name for one in shadow_candidates(gone, T + 3 * DAY, 7)] == ["2026-04-21T00:00"]


def test_a_winner_that_waits_is_kept_until_it_is_settled() -> None:
    """Fails when the files of a model are deleted while a person examines it, or stay for ever."""
    entries = [opening(T + DAY, (ONE,)), needs_review(T + 2 * DAY, ONE.key)]
    assert waiting_candidates(entries, T + 9 * DAY, 7) == {ONE.key}
    assert waiting_candidates(entries, T + 10 * DAY, 7) == frozenset()
    for settled in (person(Action.REJECT, T, 1, 1, candidate=ONE.key), promoted(2, T + 3 * DAY, 1)):
        assert waiting_candidates([*entries, settled], T + 4 * DAY, 7) == frozenset()


def test_a_rejected_candidate_is_retired_by_the_next_run() -> None:
    """Fails when a rejected candidate is looked at again, at a risk that buys nothing."""
    rejected = person(Action.REJECT, T + 90 * DAY, 1, 1, candidate=ONE.key)  # a run for a past hour heeds it, too
    log = sequential_entries([opening(T + DAY, (ONE, TWO)), rejected], T + 2 * DAY)
    due = due_retirements(log, Champion(1, T - 40 * DAY), T + 2 * DAY, SequentialRule())
    assert [(one.candidate, one.reason) for one in due] == [(ONE.key, RetirementReason.REJECTED)]


keys = st.lists(
    st.builds(CandidateKey, st.sampled_from([T, T + DAY]), st.text("ab", min_size=6, max_size=6)),
    min_size=1,
    unique=True,
)


@given(keys)
def test_every_name_finds_its_candidate_alone(candidates: list[CandidateKey]) -> None:
    """Fails when a name that was shown promotes another candidate, or is said to be ambiguous."""
    for key in candidates:
        name = candidate_name(key, candidates)
        rivals = [other for other in candidates if other.label_cutoff == key.label_cutoff]
        assert len(name) > 16 or len(rivals) == 1
        assert find_candidate(name, candidates, "hint") == key
    with pytest.raises(FraudDetectionError, match="hint"):
        find_candidate("2025-01-01", candidates, "hint")


FREEZE = Freeze.model_validate({"from": "2026-05-01", "to": "2026-05-02", "reason": "holidays"})


@given(st.integers(-48, 96))
def test_a_freeze_holds_from_its_first_to_its_last_day(hours: int) -> None:
    """Fails when something is promoted on the last day of a freeze, or a day later nothing is."""
    at = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=hours)
    frozen = freeze_reason(None, at, Promotion(freezes=(FREEZE,))) is not None
    assert frozen == (0 <= hours < 48)


def test_a_persons_promotion_counts_for_the_time_between_promotions() -> None:
    """Fails when a run promotes an hour after a person did, against the setting."""
    settings, log = Promotion(hours_between_promotions=24), [person(Action.APPROVE, T, 1, 2, candidate=ONE.key)]
    block = find_block(None, log, T + timedelta(hours=23), settings)
    assert block is not None
    assert "the next can be at 2026-04-21 00:00" in block.reason
    assert find_block(None, log, T + DAY, settings) is None


@pytest.mark.parametrize("serves", [True, False])
def test_beside_its_refit_a_winner_stays_in_shadow(serves: bool) -> None:
    """Fails when the list of candidates or a command says that a winner serves whose refit does, or forgets it."""
    refit = candidate_record(T + DAY, key=CandidateKey(T + DAY, "recipe", refit=True))
    won = decision(
        Outcome.PROMOTED,
        T + DAY,
        champion_version=1,
        version=2,
        looks=(look_record(ONE.key, T + DAY, passed=True),),
        refit=RefitRecord(winner=ONE.key, refit=refit, checks=(), serves=serves),
    )
    entries = (opening(T, (ONE,)), won)
    settled = settled_candidates(entries)
    served = refit.key if serves else ONE.key
    assert {key: (fate.text, fate.version) for key, fate in settled.items()} == {served: ("is version 2 already", 2)}
    assert [one.record for one in shadow_candidates(entries, T + DAY, 7)] == ([ONE] if serves else [])
    returned = decision(
        Outcome.PROMOTED, T + 9 * DAY, 2, version=3, looks=(look_record(ONE.key, T + 9 * DAY, passed=True),)
    )
    assert settled_candidates((*entries, returned))[ONE.key].version == 3
