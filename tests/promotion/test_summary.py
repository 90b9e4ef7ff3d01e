"""The Markdown verdict that MLflow shows beside a model version."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import factories
from factories import look_record, threshold
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.promotion import summarise
from fraud_detection.schema import CandidateKey, Check, Decision, Floor, LookLimitsRecord, Outcome

AS_OF = datetime(2026, 4, 20, tzinfo=UTC)
KEY = CandidateKey(AS_OF - timedelta(days=7), "recipe")
CHECKS = (
    Check(name="significance", value=4.21, limit=3.93, passed=True),
    Check(name="calibration", value=0.05, limit=0.2, passed=True, low=-0.01, high=0.1),
    Check(name="card_precision_at_100", value=0.3, limit=0.29, passed=True, undecided=True, low=-0.03, high=0.02),
    Check(name="slice_new_cards", value=None, limit=None, passed=True),
    Check(name="slice_channel=web", value=0.2, limit=0.4, passed=False, low=-0.4, high=-0.1),
)


def decision(**changes: Any) -> Decision:
    look = look_record(
        KEY,
        AS_OF,
        number=3,
        root=4.21,
        limits=LookLimitsRecord(root=3.93, difference_for_unseen_cards=0.0151, difference_that_matters=0.01),
        fraud_cards=183,
    )
    known: dict[str, Any] = {
        "champion_version": 2,
        "checks": CHECKS,
        "looks": (look,),
        "code_revision": "a1b2c3d",
        "report": "x.html",
    }
    return factories.decision(Outcome.PROMOTED, AS_OF, **{**known, **changes})


def test_a_verdict_says_what_was_decided_and_why() -> None:
    """Fails when a reader of MLflow cannot tell from a version why it serves, and on which data."""
    text = summarise(decision())
    assert text.splitlines() == [
        "**PROMOTED as of 2026-04-20 00:00 UTC, compared with v2**",
        "",
        "- **Effect**: average precision +0.020 [+0.011, +0.030] (95 % interval, cards resampled), 0.700 → 0.700",
        "- **Limits**: look 3: R_EL 4.21 of 3.93; difference 0.020 of 0.015 (what no card has shown) and 0.010"
        " (minimum effect)",
        "- **Guardrails**: harmless: calibration; undecided, too few frauds to tell: card precision@100; not measured:"
        " average precision in “New cards”; harmful: average precision in “Rows with channel web”",
        "- **Training**: 2026-03-21 00:00 … 2026-04-06 00:00, 600 transactions, 60 frauds",
        "- **Hold-out**: 2026-03-21 00:00 … 2026-04-06 00:00, 600 transactions, 60 frauds on 183 cards",
        "- **Code revision**: `a1b2c3d`",
        "- **Report**: `x.html`",
    ]


def test_a_verdict_says_what_alerts() -> None:
    """Fails when a reader of MLflow cannot tell from which score on a version alerts, and how often."""
    look = decision().looks[0]
    given = threshold(AS_OF)
    found = summarise(decision(looks=(look.model_copy(update={"threshold": given}),)))
    line = (
        "- **Alerts**: from score 0.3 on; checked: 103.0 cards a day, 29% of them compromised; 61% of the compromised"
    )
    assert f"{line} cards found; frauds of 2,310 a day caught" in found
    silent = given.model_copy(update={"probability": math.inf})
    assert "- **Alerts**: none: at no score" in summarise(
        decision(looks=(look.model_copy(update={"threshold": silent}),))
    )


def test_a_first_champion_is_held_against_its_floor() -> None:
    """Fails when the verdict of a first champion leaves out what it had to exceed, or invents a champion."""
    floor = Floor(average_precision=0.28, amount_average_precision=0.14, multiple=2)
    text = summarise(decision(champion_version=None, champion=None, floor=floor, looks=(), checks=()))
    assert "no champion in service" in text
    assert "against the floor 0.280 (2 times ranking by amount, 0.140)" in text
    assert "Limits" not in text
    assert "Guardrails" not in text
    assert "None" not in text


@given(st.builds(decision, looks=st.just(()) | st.just(decision().looks), difference=st.none(), report=st.none()))
def test_a_verdict_is_short_whatever_is_missing(made: Decision) -> None:
    """Fails when a verdict with nothing measured is broken, or too long to read at a glance."""
    assert 3 <= len(summarise(made).splitlines()) <= 15
    assert "None" not in summarise(made)
