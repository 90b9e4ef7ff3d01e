"""The spans of a candidate: an hour too late trains on labels of the future, an hour too early wastes what is known."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.settings import Windows, load_settings
from fraud_detection.time_windows import (
    LOOK_BACK_DAYS,
    candidate_spans,
    first_champion_cutoff,
    matured_until,
    run_windows,
    training_gap,
)

HANDBOOK = load_settings(Path(__file__).parents[1] / "conf" / "handbook.yaml").windows

zones = st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours)))
seconds = st.integers(0, 20 * 365 * 86_400).map(lambda seconds: timedelta(seconds=seconds))
moments = st.builds(lambda past, zone: (datetime(2015, 1, 1, tzinfo=UTC) + past).astimezone(zone), seconds, zones)
days = st.integers(1, 60) | st.integers(1, 600).map(lambda hours: f"{hours}h")
settings = st.builds(
    Windows,
    label_delay_days=days,
    maturity_days=days,
    training_gap_days=st.integers(0, 30),
    holdout_days=days,
    training_window_days=st.integers(1, 400),
)


@given(moments, settings)
def test_a_candidate_trains_on_what_had_matured_at_its_label_cutoff(moment: datetime, windows: Windows) -> None:
    """Fails when a candidate trains on rows whose frauds were not known yet, or leaves out rows that had matured."""
    spans = candidate_spans(moment, windows)
    assert spans.label_cutoff <= moment < spans.label_cutoff + timedelta(hours=1)
    assert spans.label_cutoff - spans.training_end == timedelta(days=windows.maturity_days)
    assert spans.training_end - spans.training_start == timedelta(days=windows.training_window_days)
    read = timedelta(days=windows.label_delay_days + 2 * LOOK_BACK_DAYS)
    assert spans.training_start - spans.history_start == read
    for each in (spans.label_cutoff, spans.training_start, spans.training_end, spans.history_start):
        assert (each.tzinfo, each.minute, each.second, each.microsecond) == (UTC, 0, 0, 0)


@given(moments, settings)
def test_the_first_champions_holdout_has_matured_whole(as_of: datetime, windows: Windows) -> None:
    """Fails when the first champion is judged on rows that it was trained on, or on fewer days than set."""
    spans = candidate_spans(first_champion_cutoff(as_of, windows), windows)
    holdout_start = spans.training_end + training_gap(windows)
    assert matured_until(as_of, windows) - holdout_start == timedelta(days=windows.holdout_days)
    assert spans.label_cutoff <= as_of


@given(moments, st.integers(1, 60))
def test_the_same_cutoff_gives_the_same_spans_at_any_time(moment: datetime, later: int) -> None:
    """Fails when a lost candidate cannot be trained again because its spans depend on when that is done."""
    windows = Windows()
    cutoff = first_champion_cutoff(moment + timedelta(days=later), windows)
    assert candidate_spans(cutoff, windows) == candidate_spans(cutoff.astimezone(timezone(timedelta(hours=3))), windows)


def test_the_handbooks_split_is_exact() -> None:
    """Fails when figures on the Handbook's data cannot be compared with the published ones."""
    as_of = datetime(2018, 8, 22, tzinfo=UTC)
    spans = candidate_spans(first_champion_cutoff(as_of, HANDBOOK), HANDBOOK)
    assert spans.training_start == datetime(2018, 5, 9, tzinfo=UTC)
    assert spans.training_end == datetime(2018, 8, 1, tzinfo=UTC)
    assert spans.label_cutoff == datetime(2018, 8, 8, tzinfo=UTC)
    assert matured_until(as_of, HANDBOOK) == datetime(2018, 8, 15, tzinfo=UTC)
    assert spans.history_start == datetime(2018, 3, 3, tzinfo=UTC)


@given(moments)
def test_a_gap_as_long_as_the_maturity_gives_the_spans_of_a_single_comparison(as_of: datetime) -> None:
    """Fails when the Handbook's settings give other spans than the comparison of one week that they stand for."""
    run = run_windows(as_of, HANDBOOK)
    spans = candidate_spans(first_champion_cutoff(as_of, HANDBOOK), HANDBOOK)
    assert (spans.training_start, spans.training_end, spans.history_start) == (
        run.training_start,
        run.training_end,
        run.history_start,
    )
    assert (spans.label_cutoff, matured_until(as_of, HANDBOOK)) == (run.holdout_start, run.holdout_end)
