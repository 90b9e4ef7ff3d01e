"""A run that makes no decision says which setting, with which value, or which day would have allowed one."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.promotion import explain_floor
from fraud_detection.promotion.rule import Evidence, check_first_champion_possible
from fraud_detection.promotion.sequential import HoldoutCounts, Look, LookState, NextLook, SequentialRule
from fraud_detection.runs.advice import Shortage, waiting_advice
from fraud_detection.schema import CandidateKey, Difference, Floor, Span
from fraud_detection.settings import Settings
from fraud_detection.time_windows import run_windows
from fraud_detection.transactions.profile import Profile

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def _profile(days: float, frauds_a_day: float, newest: datetime = AS_OF) -> Profile:
    """Hours with a transaction each, and frauds at an even rate."""
    first = AS_OF - days * DAY
    hours = np.arange(np.datetime64(first.replace(tzinfo=None), "h"), np.datetime64(newest.replace(tzinfo=None), "h"))
    frauds = np.diff(np.floor(np.arange(len(hours) + 1) * frauds_a_day / 24 + 1e-9)).astype(np.int64)
    found = SimpleNamespace(hours=hours, frauds_by_hour=frauds, first=first, newest=newest)
    return cast(Profile, found)


def _span(profile: Profile, start: datetime, end: datetime) -> Span:
    inside = (profile.hours >= np.datetime64(start.replace(tzinfo=None), "h")) & (
        profile.hours < np.datetime64(end.replace(tzinfo=None), "h")
    )
    return Span(start=start, end=end, transactions=int(inside.sum()), frauds=int(profile.frauds_by_hour[inside].sum()))


def _advice(profile: Profile, settings: Settings) -> str:
    windows = run_windows(AS_OF, settings.windows)
    training = _span(profile, windows.training_start, windows.training_end)
    holdout = _span(profile, windows.holdout_start, windows.holdout_end)
    checks = check_first_champion_possible(Evidence(training, holdout), settings)
    return Shortage(checks, training, holdout, AS_OF, profile, settings).advice()


def _settings(**sections: dict[str, Any]) -> Settings:
    return Settings.model_validate(sections)


def test_too_few_training_frauds_name_a_limit_and_a_window_that_would_do() -> None:
    """Fails when a user learns that 50 frauds are needed, and not what to set."""
    settings = _settings(comparison={"minimum_holdout_frauds": 1}, windows={"training_window_days": 28})
    assert _advice(_profile(300, 1), settings) == (
        "; next: set training.min_training_frauds to 28 or less, or set windows.training_window_days to about 50"
    )


def test_too_few_holdout_frauds_name_a_limit_and_a_window_that_would_do() -> None:
    """Fails when a user with 20 frauds a week is not told how long the hold-out has to be."""
    assert _advice(_profile(300, 3), _settings()) == (
        "; next: set comparison.minimum_holdout_frauds to 21 or less, or set windows.holdout_days to about 67"
    )


def test_a_history_that_is_too_short_names_the_day_on_which_it_is_long_enough() -> None:
    """Fails when a new shop, whose data will do in some weeks, is sent to change its settings only."""
    settings = _settings(comparison={"minimum_holdout_frauds": 1})
    found = _advice(_profile(30, 2), settings)
    assert "set training.min_training_frauds to 32 or less" in found
    assert found.endswith("or wait until about 2026-06-11")


def test_without_one_fraud_no_limit_is_advised() -> None:
    """Fails when a user without labels is told to set a limit to 0."""
    found = _advice(_profile(300, 0), _settings())
    assert found.startswith("; next: look at the labels")
    assert " 0 " not in found


@pytest.mark.parametrize("counted", [0, 14])
def test_frauds_of_known_cards_are_counted_and_named(counted: int) -> None:
    """Fails when a user with frauds is told that none is known, since all are of cards that were known already."""
    profile, settings = _profile(300, 10), _settings()
    windows = run_windows(AS_OF, settings.windows)
    training = _span(profile, windows.training_start, windows.training_end)
    holdout = _span(profile, windows.holdout_start, windows.holdout_end).model_copy(update={"frauds": counted})
    checks = check_first_champion_possible(Evidence(training, holdout), settings)
    found = Shortage(checks, training, holdout, AS_OF, profile, settings).advice()
    assert found.startswith(f"; {70 - counted} more frauds of the hold-out are left out: their cards had a known fraud")
    assert "windows.known_card_window_days (14) before; next: " in found
    assert "set windows.known_card_window_days to less" in found
    assert "look at the labels" not in found


@pytest.mark.parametrize(
    ("days", "newest", "windows", "text"),
    [
        (
            5,
            AS_OF,
            {},
            "set windows.maturity_days and windows.label_delay_days to less than that: the data begin 5 days",
        ),
        (5, AS_OF, {"maturity_days": 30, "label_delay_days": 30}, "the data begin 5 days before the as-of time"),
        (12, AS_OF, {}, "set windows.holdout_days to 2 or less, it is 7: the data begin 12 days before the as-of time"),
        (90, AS_OF - 40 * DAY, {}, "give newer transactions, or an earlier --as-of: the newest are of 2026-04-22"),
    ],
)
def test_a_window_without_a_transaction_names_the_setting(
    days: int, newest: datetime, windows: dict[str, int], text: str
) -> None:
    """Fails when data that are shorter than the label delay give `too little history`, and no way out."""
    assert text in _advice(_profile(days, 20, newest), _settings(windows=windows))


@given(st.integers(20, 400), st.floats(0.2, 40), st.integers(7, 120), st.integers(1, 40))
def test_each_advised_value_would_have_allowed_a_decision(days: int, rate: float, training: int, holdout: int) -> None:
    """Fails when a user sets what the message says, and the next run says the same."""
    profile = _profile(days, rate)
    windows = {"training_window_days": training, "holdout_days": holdout}
    found = _advice(profile, _settings(windows=windows))
    limits = {name: int(value) for name, value in re.findall(r"(\w+) to (\d+) or less", found)}
    if limits and "holdout_days" not in limits:
        lowered = _settings(
            windows=windows,
            training={"min_training_frauds": limits.get("min_training_frauds", 50)},
            comparison={"minimum_holdout_frauds": limits.get("minimum_holdout_frauds", 200)},
        )
        assert _advice(profile, lowered).partition(", or wait")[0] in ("", "; next: wait") or not _failed(
            lowered, profile
        )
    longer = {name: int(value) for name, value in re.findall(r"windows\.(\w+) to about (\d+)", found)}
    if "training_window_days" in longer:
        assert not _failed(_settings(windows=windows | longer), profile)


def _failed(settings: Settings, profile: Profile) -> list[str]:
    windows = run_windows(AS_OF, settings.windows)
    evidence = Evidence(
        _span(profile, windows.training_start, windows.training_end),
        _span(profile, windows.holdout_start, windows.holdout_end),
    )
    return [check.name for check in check_first_champion_possible(evidence, settings) if not check.passed]


@pytest.mark.parametrize(
    ("state", "frauds", "needed", "text"),
    [
        (
            LookState.WAITS_FOR_FRAUDS,
            31,
            40,
            "; next: wait until about 2026-06-04, or set comparison.first_look_frauds, 40, to 31",
        ),
        (LookState.WAITS_FOR_FRAUDS, 0, 40, "; next: wait"),
        (LookState.WAITS_FOR_CARDS, 60, 40, "no setting lets a look rest on fewer than 15 cards"),
        (LookState.WAITS_FOR_RISK, 60, 40, "comparison.looks and comparison.candidate_every_hours"),
        (LookState.DUE, 60, 40, ""),
    ],
)
def test_a_look_that_waits_names_its_setting(state: LookState, frauds: int, needed: int, text: str) -> None:
    """Fails when `31 of 40 frauds` leaves its reader to search where the 40 comes from."""
    look = Look(AS_OF, CandidateKey(AS_OF, "recipe"), 1, 1)
    found = waiting_advice(NextLook(look, state, HoldoutCounts(frauds, 14), needed), SequentialRule(), 10.0, AS_OF)
    assert found.startswith(text) if text.startswith(";") else text in found


def _floor(amount: float, low: float, multiple: float = 2.0) -> str:
    floor = min(multiple * amount, (1 + amount) / 2)
    return explain_floor(
        Difference(value=low + 0.012, low=low, high=low + 0.024, confidence=0.9),
        Floor(average_precision=floor, amount_average_precision=amount, multiple=multiple),
        86,
    )


def test_a_floor_that_hardly_any_model_can_reach_says_so() -> None:
    """Fails when a user whose amounts give the frauds away trains for months against a floor of .99."""
    assert _floor(0.33, -0.1) == _floor(0.6, -0.1) == ""
    found = _floor(0.977, -0.1)
    assert "it would need an average precision of about 1.000, and ranking by amount alone has 0.977" in found
    assert "set comparison.first_champion_floor to 1, which asks for about 0.989" in found
    assert "first_champion_floor" not in _floor(0.989, -0.1, 1.0)
