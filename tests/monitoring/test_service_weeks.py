"""What a version was worth in a week of its service: measured once, of its own scores, with matured labels."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import MODEL_NAME
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_detection.evaluation import estimate_average_precision
from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.monitoring.service_quality import measure_service_week
from fraud_detection.monitoring.service_weeks import (
    ServiceWeek,
    ServiceWeeks,
    due_weeks,
    read_service_weeks,
    week_figures,
    week_text,
    write_service_weeks,
)
from fraud_detection.outputs import service_weeks_file
from fraud_detection.settings import Alerts
from fraud_detection.storage import open_folder

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(days=7)


def _week(start: datetime, version: int = 1) -> ServiceWeek:
    return ServiceWeek(
        start=start, end=start + WEEK, version=version, transactions=9, frauds=0, average_precision=None, alerts=None
    )


def _rows(count: int = 400, versions: int = 1, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    fraud = (rng.random(count) < 0.1).astype(np.int8)
    score = np.clip(0.3 * fraud + 0.7 * rng.random(count), 0, 1).astype(np.float32)
    return pd.DataFrame(
        {
            "day": rng.integers(0, 7, count).astype(np.int16),
            "fraud": fraud,
            "amount": rng.integers(1, 90, count).astype(float),
            "customer_id": rng.integers(0, 60, count),
            "probability": score,
            "alert": score >= np.float32(0.6),
            "model_version": np.arange(count) % versions + 1,
        }
    )


@pytest.mark.parametrize("weekday", range(7))
def test_weeks_begin_on_monday_and_wait_for_their_labels(weekday: int) -> None:
    """Fails when a week is measured before its labels are final, or the first one, which began earlier, never is."""
    first = (MONDAY + timedelta(days=weekday)).date()
    due = list(due_weeks(ServiceWeeks(), first, MONDAY + 2 * WEEK))
    assert due == [(MONDAY, MONDAY + WEEK), (MONDAY + WEEK, MONDAY + 2 * WEEK)]
    assert list(due_weeks(ServiceWeeks(), first, MONDAY + WEEK - timedelta(hours=1))) == []


@given(st.integers(0, 40), st.lists(st.integers(0, 12 * 168), max_size=40), st.booleans())
def test_hourly_runs_look_at_each_week_once(offset: int, hours: list[int], with_rows: bool) -> None:
    """Fails when a week is measured twice with different labels, or left out because a run came late.

    Also when a week without anything to measure is read again by each run.
    """
    first = MONDAY.date() + timedelta(days=offset)
    known, seen = ServiceWeeks(), []
    for hour in sorted(hours):
        new = [start for start, _ in due_weeks(known, first, MONDAY + timedelta(hours=hour))]
        seen += new
        measured = tuple(map(_week, new)) if with_rows else ()
        known = known.with_weeks(measured, new[-1] + WEEK if new else known.until)
    assert seen == sorted(set(seen))
    matured = MONDAY + timedelta(hours=max(hours, default=0))
    assert seen == [start for start, _ in due_weeks(ServiceWeeks(), first, matured)]


def test_each_version_is_measured_on_its_own_scores() -> None:
    """Fails when a week in which the champion changed mixes the scores of two models."""
    rows = _rows(versions=2)
    first, second = measure_service_week(MONDAY, MONDAY + WEEK, rows, Alerts())
    assert (first.version, second.version) == (1, 2)
    own = rows[rows["model_version"] == 2]
    assert second.transactions == len(own)
    assert second.frauds == own["fraud"].sum()
    expected = average_precision(own["fraud"].to_numpy(), own["probability"].to_numpy(np.float64))
    assert second.average_precision is not None
    assert second.average_precision.value == pytest.approx(expected, abs=1e-12)
    assert second.average_precision.low < expected < second.average_precision.high  # type: ignore[operator]


def test_alerts_are_those_that_were_given() -> None:
    """Fails when the figures of a week are of another threshold than the version's."""
    rows = _rows()
    [week] = measure_service_week(MONDAY, MONDAY + WEEK, rows, Alerts())
    alerts = rows[rows["alert"]]
    value = alerts.loc[alerts["fraud"] == 1, "amount"].sum()
    assert week.alerts is not None
    assert week.alerts.value_recall == pytest.approx(value / rows.loc[rows["fraud"] == 1, "amount"].sum())
    assert week.alerts.value_a_day.value == pytest.approx(value / 7)
    assert 0 < week.alerts.alerts_a_day <= len(alerts.groupby(["customer_id", "day"])) / 7
    [silent] = measure_service_week(MONDAY, MONDAY + WEEK, rows.assign(alert=False), Alerts())
    assert silent.alerts is not None
    assert (silent.alerts.alerts_a_day, silent.alerts.precision, silent.alerts.value_recall) == (0, None, 0)


def test_a_version_without_a_threshold_and_a_week_without_frauds_have_no_such_figures() -> None:
    """Fails when nothing was measured, and a number is shown."""
    rows = _rows().assign(alert=pd.Series([None] * 400, dtype=object), fraud=np.int8(0))
    [week] = measure_service_week(MONDAY, MONDAY + WEEK, rows, Alerts())
    assert (week.alerts, week.average_precision, week_figures(week)) == (None, None, {})
    assert week_text(week) == "v1 in the week of 2026-03-02: 400 / 0 frauds"
    [other] = measure_service_week(MONDAY, MONDAY + WEEK, _rows(), Alerts())
    assert week_figures(other).keys() == {
        "average_precision", "alerts_a_day", "alert_precision", "value_recall", "value_a_day",
    }  # fmt: skip


def test_the_interval_is_of_cards() -> None:
    """Fails when many frauds of few cards look like certainty."""
    rng = np.random.default_rng(5)
    fraud = np.repeat(rng.random(60) < 0.3, 10)
    score = np.where(fraud, 0.4, 0.0) + np.repeat(rng.random(60), 10)
    by_row = estimate_average_precision(fraud, score, None)
    by_card = estimate_average_precision(fraud, score, np.repeat(np.arange(60), 10))
    assert by_row is not None
    assert by_card is not None
    assert by_row.value == pytest.approx(by_card.value)
    assert by_card.high - by_card.low > 1.5 * (by_row.high - by_row.low)  # type: ignore[operator]
    alone = estimate_average_precision(np.arange(5) == 3, np.arange(5.0), None)
    assert alone is not None
    assert (alone.low, alone.high) == (None, None)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Fails when the page shows intervals that are far too narrow or too wide."""
    rng = np.random.default_rng(11)

    def sample(cards: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        fraud = rng.random(cards) < 0.2
        level = np.where(fraud, 0.8, 0.0) + rng.normal(size=cards)
        card = np.repeat(np.arange(cards), 4)
        return fraud[card], level[card] + 0.3 * rng.normal(size=4 * cards), card

    truth = float(np.mean([average_precision(*sample(4000)[:2]) for _ in range(20)]))
    found = [estimate_average_precision(*sample(300)) for _ in range(400)]
    covered = sum(one is not None and one.low <= truth <= one.high for one in found) / len(found)  # type: ignore[operator]
    assert 0.9 <= covered <= 0.98


def test_weeks_are_kept_and_a_damaged_file_is_measured_anew(tmp_path: Path) -> None:
    """Fails when the history of a model's weeks is lost, doubled, or a damaged file stops the runs."""
    storage = open_folder(str(tmp_path))
    assert read_service_weeks(storage, MODEL_NAME) == ServiceWeeks()
    until = MONDAY + 2 * WEEK
    kept = ServiceWeeks().with_weeks((_week(MONDAY + WEEK), _week(MONDAY)), until)
    kept = kept.with_weeks((_week(MONDAY, version=2),), until)
    write_service_weeks(storage, MODEL_NAME, kept)
    assert read_service_weeks(storage, MODEL_NAME) == kept
    assert [(week.start, week.version) for week in kept.weeks] == [(MONDAY, 1), (MONDAY, 2), (MONDAY + WEEK, 1)]
    earlier = ServiceWeeks(weeks=kept.weeks)
    assert earlier.looked_until == kept.looked_until == until, "a file of an earlier release goes on where it ended"
    storage.write_atomic(service_weeks_file(MODEL_NAME), b"{")
    assert read_service_weeks(storage, MODEL_NAME) == ServiceWeeks()
