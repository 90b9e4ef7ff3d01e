"""The promotion rule: no promotion by mistake, and no refusal by mistake."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from factories import metrics, span
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud_detection.evaluation import Assessment, Holdout, SliceMetrics, assess
from fraud_detection.promotion import Evidence, Verdict, decide, precondition_failure
from fraud_detection.schema import Difference, Floor, Metrics, Outcome
from fraud_detection.settings import Settings

HOLDOUT_START = datetime(2024, 5, 10, tzinfo=UTC)
SETTINGS = Settings()
TRAINING = span(HOLDOUT_START - timedelta(days=91), HOLDOUT_START - timedelta(days=7), 800_000, 5000)
HOLDOUT = span(HOLDOUT_START, HOLDOUT_START + timedelta(days=7), 58_000, 385)
CHAMPION = metrics(average_precision=0.612, roc_auc=0.87, card_precision_at_100=0.300, brier=0.0100)
CHALLENGER = metrics(average_precision=0.641, roc_auc=0.86, card_precision_at_100=0.310, brier=0.0095)
DIFFERENCE = Difference(value=0.029, low=0.012, high=0.046, confidence=0.9999)
ASSESSMENT = Assessment(
    CHAMPION,
    CHALLENGER,
    DIFFERENCE,
    (SliceMetrics("amount_quarter_4", 14_500, 300, 0.70, 0.71), SliceMetrics("new_cards", 900, 12, 0.5, 0.1)),
)
WINNER = Evidence(TRAINING, HOLDOUT, HOLDOUT_START - timedelta(days=30), assessment=ASSESSMENT)


def _with(**changes: Any) -> Evidence:
    return replace(WINNER, assessment=replace(ASSESSMENT, **changes))


def _failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_a_better_challenger_is_promoted() -> None:
    """Fails when a better model is not promoted, and an old one stays in service."""
    verdict = decide(WINNER, SETTINGS)
    assert verdict.outcome is Outcome.PROMOTED
    assert verdict.reason == "average precision +0.029 [+0.012, +0.046]; every check passed"
    assert [check.name for check in verdict.checks] == [
        "training_frauds",
        "holdout_frauds",
        "champion_before_holdout",
        "difference_lower_bound",
        "minimum_effect",
        "card_precision_at_100",
        "brier",
        "slice_amount_quarter_4",
        "slice_new_cards",
        "not_pinned",
    ]


@pytest.mark.parametrize(
    ("changes", "failed", "words"),
    [
        ({"difference": DIFFERENCE.model_copy(update={"low": 0.0})}, "difference_lower_bound", "not above zero"),
        ({"difference": DIFFERENCE.model_copy(update={"value": 0.0099})}, "minimum_effect", "minimum effect 0.010"),
        (
            {"challenger": CHALLENGER.model_copy(update={"card_precision_at_100": 0.2949})},
            "card_precision_at_100",
            "0.2949 below 0.295",
        ),
        ({"challenger": CHALLENGER.model_copy(update={"brier": 0.01021})}, "brier", "0.01021 above 0.0102"),
        (
            {"slices": (SliceMetrics("amount_quarter_1", 10, 50, 0.5, 0.479),)},
            "slice_amount_quarter_1",
            "slice amount quarter 1 0.479 below 0.48",
        ),
    ],
)
def test_one_failed_check_refuses_and_is_named(changes: dict[str, Any], failed: str, words: str) -> None:
    """Fails when a failed check does not prevent the promotion on its own, or the reason does not name it."""
    verdict = decide(_with(**changes), SETTINGS)
    assert verdict.outcome is Outcome.REFUSED
    assert _failed(verdict) == {failed}
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("limit", "words"),
    [(0.0, "the difference is below zero"), (0.0004, "smaller than the minimum effect 0.0004"), (0.1, "effect 0.100")],
)
def test_the_minimum_effect_is_named_as_it_is(limit: float, words: str) -> None:
    """Fails when a refusal names the minimum effect 0.000 and its reader cannot tell what was too small."""
    settings = SETTINGS.model_copy(
        update={"comparison": SETTINGS.comparison.model_copy(update={"minimum_effect": limit})}
    )
    worse = decide(_with(difference=DIFFERENCE.model_copy(update={"value": -0.01})), settings)
    assert words in worse.reason


def test_a_pinned_champion_stays_and_the_reason_says_so_first() -> None:
    """Fails when the next hour promotes a model although a rollback has pinned the champion."""
    verdict = decide(replace(_with(difference=DIFFERENCE.model_copy(update={"low": -0.1})), pinned_version=3), SETTINGS)
    assert verdict.outcome is Outcome.REFUSED
    assert "pinned by a rollback; the lower bound" in verdict.reason


def test_limits_are_inclusive_where_they_are_margins() -> None:
    """Fails when a challenger that is exactly at a limit is refused."""
    slices = (SliceMetrics("amount_quarter_1", 10, 50, 0.5, 0.48),)
    challenger = CHALLENGER.model_copy(update={"card_precision_at_100": 0.295, "brier": 0.0102})
    difference = DIFFERENCE.model_copy(update={"value": 0.01, "low": 1e-9})
    evidence = _with(challenger=challenger, difference=difference, slices=slices)
    assert decide(evidence, SETTINGS).outcome is Outcome.PROMOTED


def test_the_area_under_the_roc_curve_decides_nothing() -> None:
    """Fails when a lower ROC AUC refuses a model with a better average precision."""
    evidence = _with(challenger=CHALLENGER.model_copy(update={"roc_auc": 0.1}))
    assert decide(evidence, SETTINGS).outcome is Outcome.PROMOTED


def test_slices_with_few_frauds_are_shown_and_decide_nothing() -> None:
    """Fails when a slice with too few frauds to prove anything decides."""
    check = next(check for check in decide(WINNER, SETTINGS).checks if check.name == "slice_new_cards")
    assert (check.value, check.limit, check.passed) == (None, None, True)


@pytest.mark.parametrize(
    ("changes", "failed", "words"),
    [
        ({"holdout": HOLDOUT.model_copy(update={"frauds": 199})}, "holdout_frauds", "199 frauds in the hold-out"),
        ({"holdout": HOLDOUT.model_copy(update={"frauds": 0})}, "holdout_frauds", "no frauds in the hold-out"),
        ({"training": TRAINING.model_copy(update={"frauds": 49})}, "training_frauds", "49 frauds in the training"),
        (
            {"training": TRAINING.model_copy(update={"frauds": 0, "transactions": 0})},
            "training_frauds",
            "too little history: no transactions in the training window 2024-02-09 to 2024-05-03",
        ),
        (
            {"champion_trained_until": HOLDOUT_START + timedelta(hours=1)},
            "champion_before_holdout",
            "trained until 2024-05-10 01:00; the hold-out starts 2024-05-10 00:00",
        ),
    ],
)
@pytest.mark.parametrize("assessed", [True, False])
def test_without_a_fair_comparison_there_is_no_decision(
    changes: dict[str, Any], failed: str, words: str, assessed: bool
) -> None:
    """Fails when too few frauds, or a champion trained on the hold-out, still lead to a promotion or refusal."""
    evidence = replace(WINNER, **changes)
    evidence = evidence if assessed else replace(evidence, assessment=None)
    verdict = decide(evidence, SETTINGS)
    assert verdict.outcome is Outcome.NO_DECISION
    assert words in verdict.reason
    assert _failed(verdict) == {failed}
    assert precondition_failure(evidence, SETTINGS) == verdict


def test_a_champion_trained_up_to_the_holdout_is_fair() -> None:
    """Fails when a champion trained exactly up to the hold-out blocks every decision."""
    assert precondition_failure(replace(WINNER, champion_trained_until=HOLDOUT_START), SETTINGS) is None


def test_a_holdout_of_nothing_but_frauds_is_no_decision() -> None:
    """Fails when a hold-out of frauds only ends in a stack trace instead of a decision that says so."""
    verdict = decide(_with(champion=None, challenger=None), SETTINGS)
    assert verdict.outcome is Outcome.NO_DECISION
    assert "nothing but frauds" in verdict.reason


@pytest.mark.parametrize(
    ("low", "pinned", "outcome"),
    [(0.01, None, Outcome.PROMOTED), (0.0, None, Outcome.REFUSED), (0.01, 3, Outcome.REFUSED)],
)
def test_the_first_champion_must_beat_the_floor(low: float, pinned: int | None, outcome: Outcome) -> None:
    """Fails when any first model goes into service, even one no better than ranking by amount."""
    difference = Difference(value=0.3, low=low, high=0.5, confidence=0.9)
    floor = Floor(average_precision=0.26, amount_average_precision=0.13, multiple=2.0)
    evidence = replace(
        WINNER,
        champion_trained_until=None,
        pinned_version=pinned,
        assessment=replace(ASSESSMENT, champion=None, difference=difference, floor=floor),
    )
    verdict = decide(evidence, SETTINGS)
    assert verdict.outcome is outcome
    assert {"first_champion_floor", "not_pinned"} <= {check.name for check in verdict.checks}
    interval = f"+0.300 [{low:+.3f}, +0.500]"
    assert f"average precision {interval} against the floor 0.260 (2 times ranking by amount, 0.130)" in verdict.reason
    assert ("comparison.first_champion_floor sets the floor" in verdict.reason) == (low == 0)


@pytest.mark.parametrize("assessment", [None, replace(ASSESSMENT, champion=None)])
def test_a_forgotten_measurement_is_an_error_not_a_verdict(assessment: Assessment | None) -> None:
    """Fails when a champion that was not scored loses by default."""
    with pytest.raises(ValueError, match="not assessed"):
        decide(replace(WINNER, assessment=assessment), SETTINGS)


def test_the_same_model_with_other_noise_is_hardly_ever_promoted() -> None:
    """Fails when retraining the same recipe, which differs only by noise, is promoted more often than by rare luck."""
    settings = Settings.model_validate({"comparison": {"looks": 1, "candidate_every_hours": 720, "resamples": 100}})
    promoted = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        card = np.repeat(np.arange(800), 8)
        fraud = (random.random(800) < 0.12)[card] & (random.random(len(card)) < 0.4)
        truth = 2.0 * fraud + random.normal(size=len(card)) - 4.0
        champion, challenger = 1 / (1 + np.exp(-truth - 0.3 * random.normal(size=(2, len(card)))))
        holdout = Holdout(np.arange(len(card)) % 7, fraud, np.exp(truth), card)
        span = HOLDOUT.model_copy(update={"frauds": int(fraud.sum())})
        assessment = assess(holdout, champion, challenger, settings.comparison)
        verdict = decide(replace(WINNER, holdout=span, assessment=assessment), settings)
        assert verdict.outcome is not Outcome.NO_DECISION
        promoted += verdict.outcome is Outcome.PROMOTED
    assert promoted <= 3


SHARES = st.floats(0.0, 1.0, allow_nan=False)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    """Evidence of every kind, most of it near the limits."""

    def near(value: float, width: float) -> float:
        return draw(st.floats(value - width, value + width))

    def any_metrics() -> Metrics:
        return metrics(
            average_precision=draw(SHARES),
            roc_auc=draw(SHARES),
            card_precision_at_100=near(0.3, 0.006),
            brier=near(0.01, 0.0002),
        )

    value, half = near(0.012, 0.02), draw(st.floats(0.0, 0.03))
    slices = tuple(
        SliceMetrics(name, 100, draw(st.integers(0, 100)), near(0.5, 0.02), near(0.5, 0.02))
        for name in ("amount_quarter_1", "new_cards")
    )
    return Evidence(
        training=TRAINING.model_copy(update={"frauds": draw(st.sampled_from([0, 49, 50, 5000]))}),
        holdout=HOLDOUT.model_copy(update={"frauds": draw(st.sampled_from([0, 199, 200, 385]))}),
        champion_trained_until=HOLDOUT_START + timedelta(hours=draw(st.sampled_from([-900, 0, 1]))),
        pinned_version=draw(st.sampled_from([None, 3])),
        assessment=Assessment(
            any_metrics(),
            any_metrics(),
            Difference(value=value, low=value - half, high=value + half, confidence=0.95),
            slices,
        ),
    )


@given(evidences())
@hypothesis_settings(max_examples=300)
def test_promoted_means_that_every_check_passed(evidence: Evidence) -> None:
    """Fails when a model is promoted despite a failed check, a pin or a lower bound of zero."""
    verdict = decide(evidence, SETTINGS)
    promoted = verdict.outcome is Outcome.PROMOTED
    assert promoted == (not _failed(verdict))
    assert "\n" not in verdict.reason
    assert len({check.name for check in verdict.checks}) == len(verdict.checks)
    assert evidence.assessment is not None
    assert evidence.assessment.difference is not None
    if promoted:
        assert evidence.assessment.difference.low > 0
        assert evidence.assessment.difference.value >= SETTINGS.comparison.minimum_effect
        assert evidence.pinned_version is None
        assert evidence.holdout.frauds >= 200
        assert evidence.training.frauds >= 50


@given(evidences(), *[st.floats(0.0, 0.05)] * 4)
@hypothesis_settings(max_examples=300)
def test_a_better_challenger_never_turns_a_promotion_into_a_refusal(
    evidence: Evidence, ap: float, card_precision: float, brier: float, part: float
) -> None:
    """Fails when a better challenger is refused where a worse one is promoted."""
    measured = evidence.assessment
    assert measured is not None
    assert measured.difference is not None
    assert measured.challenger is not None
    better = replace(
        measured,
        difference=measured.difference.model_copy(
            update={"value": measured.difference.value + ap, "low": measured.difference.low + ap}
        ),
        challenger=measured.challenger.model_copy(
            update={
                "card_precision_at_100": measured.challenger.card_precision_at_100 + card_precision,
                "brier": max(0.0, measured.challenger.brier - brier),
            }
        ),
        slices=tuple(replace(one, challenger=(one.challenger or 0.0) + part) for one in measured.slices),
    )
    before, after = decide(evidence, SETTINGS), decide(replace(evidence, assessment=better), SETTINGS)
    assert _failed(after) <= _failed(before)
    if before.outcome is Outcome.PROMOTED:
        assert after.outcome is Outcome.PROMOTED
