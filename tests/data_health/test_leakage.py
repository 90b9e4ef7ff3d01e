"""Which inputs count as giving the frauds away."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import span
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from fraud_detection.data_health.leakage import check_leakage, ranking_precision
from fraud_detection.settings import Settings

SPAN = span(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
ROWS = 5_000


def _rows(**columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    fraud = (rng.random(ROWS) < 0.02).astype(np.int8)
    honest = rng.normal(size=ROWS) + 1.5 * fraud
    times = pd.date_range(SPAN.start.replace(tzinfo=None), periods=ROWS, freq=(SPAN.end - SPAN.start) / ROWS)
    return pd.DataFrame({"transaction_time": times, "fraud": fraud, "honest": honest}).assign(
        **{name: make(fraud, rng) for name, make in columns.items()}
    )


LEAKS = {
    "high": lambda fraud, rng: fraud + 0.1 * rng.random(ROWS),
    "low": lambda fraud, rng: -fraud + 0.1 * rng.random(ROWS),
    "missing": lambda fraud, rng: np.where(fraud == 1, np.nan, rng.random(ROWS)),
    "present": lambda fraud, rng: np.where(fraud == 1, rng.random(ROWS), np.nan),
    "category": lambda fraud, rng: pd.Categorical(np.where(fraud == 1, "dispute", rng.choice(["web", "shop"], ROWS))),
    "text": lambda fraud, rng: np.where(fraud == 1, "dispute", rng.choice(["web", "shop"], ROWS)),
    "absent_text": lambda fraud, rng: pd.Series("shop", range(ROWS)).mask(fraud == 1),
}


@pytest.mark.parametrize("kind", LEAKS)
@pytest.mark.parametrize("weighted", [False, True])
def test_an_input_that_gives_the_frauds_away_is_named(kind: str, weighted: bool) -> None:
    """Fails when a column that is filled in after a fraud trains a candidate that sees nothing in production."""
    rows = _rows(leak=LEAKS[kind])
    weights = np.where(rows["fraud"] == 1, 1.0, 20.0) if weighted else None
    (finding,) = check_leakage(rows, weights, SPAN, ("honest", "leak"), Settings())
    assert (finding.check.name, finding.check.passed) == ("no_leaking_feature", False)
    assert "the input leak alone" in finding.text


def test_a_leak_that_has_just_begun_is_not_drowned_in_the_window() -> None:
    """Fails when a column that leaks for a week only trains a candidate, which wins on a hold-out that leaks too."""
    rng = np.random.default_rng(5)
    times = pd.date_range("2025-11-09", "2026-02-01", 40_000, inclusive="left")
    fraud = (rng.random(len(times)) < 0.02).astype(np.int8)
    known = times >= pd.Timestamp("2026-01-25")
    rows = pd.DataFrame(
        {"transaction_time": times, "fraud": fraud, "leak": np.where(known, fraud, rng.random(len(times)))}
    )
    (finding,) = check_leakage(rows, None, SPAN, ("leak",), Settings())
    assert not finding.check.passed
    assert "the input leak alone ranks the frauds of its last 7 days" in finding.text
    (earlier,) = check_leakage(rows[~known], None, SPAN, ("leak",), Settings())
    assert earlier.check.passed


def test_a_good_input_leaks_nothing() -> None:
    """Fails when a feature that is merely useful keeps candidates from being opened."""
    (finding,) = check_leakage(_rows(), None, SPAN, ("honest",), Settings())
    assert finding.check.passed
    assert finding.check.value is not None
    assert 0.02 < finding.check.value < 0.5


def test_a_handful_of_frauds_shows_no_leak() -> None:
    """Fails when a few frauds that any column separates keep candidates from being opened."""
    rows = _rows(leak=LEAKS["high"])
    few = pd.concat([rows[rows["fraud"] == 1].head(10), rows[rows["fraud"] == 0]])
    assert check_leakage(few, None, SPAN, ("leak",), Settings()) == ()


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0.1, 10)), min_size=1, max_size=60))
def test_the_precision_of_a_ranking_is_the_one_that_everybody_knows(rows: list[tuple[int, bool, float]]) -> None:
    """Fails when ties or weights make a ranking look better or worse than scikit-learn says."""
    score, fraud, weight = (np.array(column) for column in zip(*rows, strict=True))
    if fraud.any():
        expected = average_precision_score(fraud, score, sample_weight=weight)
        assert ranking_precision(score.astype(float), fraud, weight) == pytest.approx(expected)
