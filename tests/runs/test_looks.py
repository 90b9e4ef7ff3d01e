"""One look, from scored rows to its record."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.promotion.sequential import SequentialRule
from fraud_detection.runs.looks import CHAMPION, Look, Scored, TakenLook, holdout_span, score_column, take_look
from fraud_detection.schema import CandidateKey, CandidateRecord, LookKey, Span
from fraud_detection.settings import Settings

SETTINGS = Settings.model_validate({"comparison": {"calibration_margin": 10}})  # the scores are no probabilities
RULE = SequentialRule.of(SETTINGS.comparison)
START = datetime(2026, 2, 1, tzinfo=UTC)
AS_OF = START + timedelta(days=21)
RECORD = CandidateRecord(
    key=CandidateKey(START + timedelta(days=7), "recipe"),
    training=Span(start=START - timedelta(days=28), end=START, transactions=9000, frauds=90),
    growth=1.5,
    seed=7,
    opened_at=START + timedelta(days=7),
    backfilled=False,
    run_id="run",
    model_id="model",
    sha256="0" * 64,
)
LOOK = Look(
    LookKey(candidate=RECORD.key, champion_version=1, number=3),
    RECORD,
    holdout_span(RECORD, START, AS_OF, None, SETTINGS),
)
CANDIDATE = score_column(RECORD)


def _scored(seed: int, gain: float, cards: bool = True) -> Scored:
    """Two weeks in which the candidate sees frauds more clearly than the champion."""
    random = np.random.default_rng(seed)
    rows, fraud = 3000, np.zeros(3000, np.int8)
    fraud[random.choice(rows, 120, replace=False)] = 1
    minutes = np.sort(random.choice(14 * 24 * 60, rows, replace=False))
    shared = random.normal(size=rows) + 2.0 * fraud
    champion, candidate = (shared + random.normal(scale=0.7, size=rows) for _ in range(2))
    table = pd.DataFrame(
        {
            "transaction_id": random.permutation(rows),
            "transaction_time": pd.Timestamp(START.replace(tzinfo=None)) + pd.to_timedelta(minutes, unit="min"),
            "amount": random.lognormal(3.0, 1.0, rows),
            "fraud": fraud,
            CHAMPION: 1 / (1 + np.exp(4 - champion)),
            CANDIDATE: 1 / (1 + np.exp(4 - candidate - gain * fraud)),
        }
    )
    if cards:
        table["customer_id"] = random.integers(0, 2000, rows)
    return Scored(table, (), table[table["fraud"] == 1], None, START - timedelta(days=60))


def _take(scored: Scored) -> TakenLook:
    return take_look(LOOK, scored, RULE, SETTINGS)


def _swapped(scored: Scored) -> Scored:
    return replace(scored, rows=scored.rows.rename(columns={CHAMPION: CANDIDATE, CANDIDATE: CHAMPION}))


@given(st.integers(0, 2**32), st.floats(-1.5, 1.5), st.booleans())
@settings(max_examples=15, deadline=None)
def test_swapped_roles_give_the_exact_negative(seed: int, gain: float, cards: bool) -> None:
    """Fails when a look favours one of its two places, so that the champion or the challenger wins too easily."""
    scored = _scored(seed, gain, cards)
    there, back = _take(scored).record, _take(_swapped(scored)).record
    assert there.difference is not None
    assert back.difference is not None
    assert back.difference.value == -there.difference.value
    assert (back.difference.low, back.difference.high) == (-there.difference.high, -there.difference.low)
    assert back.root is not None
    assert there.root is not None
    assert back.root == -there.root
    assert (back.champion, back.challenger) == (there.challenger, there.champion)
    assert not (there.passed and back.passed)


@pytest.mark.filterwarnings("error")
def test_a_model_against_itself_gives_nothing_and_is_refused() -> None:
    """Fails when a model replaces itself, or rounding makes it better than itself."""
    scored = _scored(1, 0.5)
    twin = replace(scored, rows=scored.rows.assign(**{CANDIDATE: scored.rows[CHAMPION]}))
    found = _take(twin).record
    assert found.difference is not None
    assert (found.difference.value, found.difference.low, found.difference.high, found.root) == (0.0, 0.0, 0.0, 0.0)
    assert not found.passed
    failed = [check.name for check in found.checks if not check.passed]
    assert set(failed) == {"significance", "unseen_cards", "minimum_effect"}


def test_a_clearly_better_model_passes_in_any_order_of_the_rows() -> None:
    """Fails when no model ever passes, or the order in which an engine returns rows decides."""
    scored = _scored(1, 3.0)
    found = _take(scored).record
    assert found.passed, found.checks
    shuffled = scored.rows.sample(frac=1.0, random_state=3)
    assert _take(replace(scored, rows=shuffled, frauds=scored.frauds[::-1])).record == found
