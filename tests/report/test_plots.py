"""The page's charts and numbers."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_pages import report_data

from fraud_detection.report import ReportData, plots, wording
from fraud_detection.schema import Difference


def test_arrays_of_different_rows_are_refused() -> None:
    """Fails when the labels of one table are plotted against the scores of another."""
    with pytest.raises(ValueError, match="champion_score has shape"):
        report_data(champion_score=np.zeros(3))
    with pytest.raises(ValueError, match="expected that of fraud, None"):
        ReportData(challenger_score=np.zeros(3))


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.2))
def test_interval_always_shows_zero_and_the_minimum_effect(value: float, down: float, up: float, effect: float) -> None:
    """Fails when the plot of the difference leaves out zero or the minimum effect, and its size cannot be judged."""
    difference = Difference(value=value, low=value - down, high=value + up, confidence=0.95)
    chart = plots.forest(difference, effect)
    marks = [chart.zero, chart.low, chart.value, chart.high] + ([chart.minimum] if chart.minimum is not None else [])
    assert all(0 <= mark <= 100 for mark in marks)
    assert chart.low <= chart.value <= chart.high
    assert (chart.minimum is None) == (effect == 0)
    assert "0" in {tick.label for tick in chart.ticks}
    assert 2 <= len(chart.ticks) <= 8


def test_precision_recall_curve_passes_through_known_points() -> None:
    """Fails when the drawn curve is not the one that average precision is computed from."""
    fraud = np.array([1, 0, 1, 0])
    plot = plots.precision_recall(fraud, {"challenger": np.array([0.9, 0.8, 0.7, 0.1])})
    assert plot is not None
    prevalence, curve = plot.curves
    assert prevalence.path == f"M0 {0.5 * plot.height}H1000"
    # recall 0 and 1/2 at precision 1, recall 1 at precision 2/3
    assert curve.path == f"M0 0.0L500 0.0L1000 {plot.height / 3:.1f}"


def test_calibration_groups_hold_every_row_once() -> None:
    """Fails when the calibration plot leaves out rows, such as the highest scores, where the frauds are."""
    random = np.random.default_rng(5)
    score = random.random(3_000)
    fraud = (random.random(3_000) < score).astype(np.int8)
    plot = plots.calibration(fraud, {"challenger": score})
    assert plot is not None
    groups = [dot.title.split("(")[1].rstrip(")").replace(",", "").split(" of ") for dot in plot.dots]
    assert sum(int(hits) for hits, _ in groups) == fraud.sum()
    assert sum(int(rows) for _, rows in groups) == 3_000
    assert [dot.x for dot in plot.dots] == sorted(dot.x for dot in plot.dots)
    assert all(dot.top <= dot.y <= dot.bottom for dot in plot.dots)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.confidence(0.95), "95 %"),
        (wording.confidence(0.975), "97.5 %"),
        (wording.confidence(1 - 0.05 / 720), "99.993 %"),
        (wording.signed(-0.0001), "±0.000"),
        (wording.signed(-0.0121), "−0.012"),
        (wording.significant(200.0), "200"),
        (wording.significant(1_234_567), "1,234,567"),
        (wording.significant(-0.005), "−0.005"),
        (wording.significant(0.000123), "0.000123"),
        (wording.significant(0), "0"),
        (wording.significant(float("nan")), "–"),
        (wording.percent(0.0004), "0.04 %"),
        (wording.percent(0.05), "5 %"),
        (wording.percent(0.6), "60 %"),
        (wording.percent(0), "0 %"),
        (wording.share(1, 0), "–"),
        (wording.duration(timedelta(hours=36)), "36 h"),
        (wording.moment(datetime(2026, 5, 24, 3, 0, tzinfo=UTC)), "2026-05-24 03:00"),
        (wording.words("new_thing_at_100"), "New thing at 100"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    """Fails when the report rounds a number to zero or shows digits that mean nothing."""
    assert text == expected
