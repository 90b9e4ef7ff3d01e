"""The checks of the promotion rule: no promotion by mistake, and no refusal by mistake."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from factories import look_record, metrics, span
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud_detection.evaluation import Comparison, FirstTest, Holdout, SliceMetrics, compare
from fraud_detection.evaluation.assessment import Guardrail
from fraud_detection.evaluation.card_contributions import CardContributions
from fraud_detection.evaluation.empirical_likelihood import signed_root
from fraud_detection.evaluation.harm import Change
from fraud_detection.promotion import (
    Evidence,
    check_first_champion,
    check_first_champion_possible,
    check_look,
    check_training_possible,
    explain_checks,
    explain_measurement,
    shown_look,
)
from fraud_detection.promotion.sequential import LookLimits, SequentialRule, look_limits
from fraud_detection.schema import CandidateKey, Check, Difference, Floor
from fraud_detection.settings import Settings

HOLDOUT_START = datetime(2024, 5, 10, tzinfo=UTC)
SETTINGS = Settings()
EVIDENCE = Evidence(
    span(HOLDOUT_START - timedelta(days=91), HOLDOUT_START - timedelta(days=7), 800_000, 5000),
    span(HOLDOUT_START, HOLDOUT_START + timedelta(days=7), 58_000, 385),
)
DIFFERENCE = Difference(value=0.029, low=0.012, high=0.046, confidence=0.95)
LIMITS = LookLimits(root=3.9, difference_for_unseen_cards=0.02, difference_that_matters=0.01)
HARMLESS = Change(0.0, -0.0001, 0.0001)


def _contributions(difference: float) -> CardContributions:
    """Of 500 cards with one fraud each."""
    return CardContributions(np.full(500, difference / 500), np.ones(500))


WINNER = Comparison(
    metrics(average_precision=0.612, roc_auc=0.87),
    metrics(average_precision=0.641, roc_auc=0.86),
    DIFFERENCE,
    _contributions(0.029),
    {
        "card_precision_at_100": Guardrail(0.300, 0.310, HARMLESS),
        "calibration": Guardrail(0.02, 0.03, HARMLESS),
        "brier": Guardrail(0.0100, 0.0095, HARMLESS),
    },
    (SliceMetrics("amount_quarter_4", 14_500, 300, 0.70, 0.71), SliceMetrics("new_cards", 900, 12, 0.5, 0.1)),
    {"amount_quarter_4": HARMLESS, "new_cards": Change(-0.4, -0.5, -0.3)},
)


def _checks(measured: Comparison = WINNER, root: float = 4.2) -> tuple[Check, ...]:
    return check_look(measured, root, LIMITS, SETTINGS)


def _failed(checks: tuple[Check, ...]) -> set[str]:
    return {check.name for check in checks if not check.passed}


def _rail(name: str, harm: Change) -> Comparison:
    rails = {**WINNER.guardrails, name: replace(WINNER.guardrails[name], change=harm)}
    return replace(WINNER, guardrails=rails)


def test_a_better_challenger_passes_every_check() -> None:
    """Fails when a better model is not promoted, and an old one stays in service."""
    checks = _checks()
    assert not _failed(checks)
    assert [check.name for check in checks] == [
        "significance",
        "unseen_cards",
        "minimum_effect",
        "card_precision_at_100",
        "calibration",
        "brier",
        "slice_amount_quarter_4",
        "slice_new_cards",
    ]
    assert explain_checks(checks, EVIDENCE) == "every check passed"


@pytest.mark.parametrize(
    ("measured", "root", "failed", "words"),
    [
        (WINNER, 3.8999, "significance", "not significant: R_EL 3.8999 of 3.9000"),
        (WINNER, 3.89, "significance", "not significant: R_EL 3.89 of 3.90"),
        (
            replace(WINNER, contributions=_contributions(0.0199)),
            4.2,
            "unseen_cards",
            "smaller than 0.020, what a pattern could cost that no card of the hold-out has shown",
        ),
        (
            _rail("card_precision_at_100", Change(-0.1, -0.2, -0.0051)),
            4.2,
            "card_precision_at_100",
            "harm to card precision@100: 0.31 where",
        ),
        (_rail("calibration", Change(-0.9, -1.0, -0.8)), 4.2, "calibration", "harm to calibration"),
        (
            _rail("brier", Change(-0.001, -0.002, -0.00021)),
            4.2,
            "brier",
            "at best the change is -0.00021 (95 % bound)",
        ),
        (
            replace(WINNER, slice_changes={**WINNER.slice_changes, "amount_quarter_4": Change(-0.1, -0.2, -0.021)}),
            4.2,
            "slice_amount_quarter_4",
            "harm to average precision in “Largest quarter of the amounts”",
        ),
    ],
)
def test_one_failed_check_refuses_and_is_named(measured: Comparison, root: float, failed: str, words: str) -> None:
    """Fails when a failed check does not prevent the promotion on its own, or the reason does not name it."""
    checks = _checks(measured, root)
    assert _failed(checks) == {failed}
    assert words in explain_checks(checks, EVIDENCE)


def test_a_guardrail_that_is_undecided_is_named_where_no_check_failed() -> None:
    """Fails when a person who approves reads that all is well, and the data cannot tell."""
    checks = [
        Check(name="significance", value=4.2, limit=3.9, passed=True),
        *(
            Check(name=name, value=0.3, limit=0.29, passed=True, undecided=True, low=-0.1, high=0.1)
            for name in ("card_precision_at_100", "slice_new_cards", "slice_channel=web")
        ),
    ]
    assert explain_checks(checks[:2], EVIDENCE) == (
        "no check failed; too few frauds to rule out harm to card precision@100"
    )
    assert explain_checks(checks, EVIDENCE).endswith("card precision@100, average precision in “New cards” and 1 more")


@pytest.mark.parametrize(
    ("limit", "words"),
    [(0.0, "the difference is below zero"), (0.0004, "smaller than the minimum effect 0.0004"), (0.1, "effect 0.100")],
)
def test_the_minimum_effect_is_named_as_it_is(limit: float, words: str) -> None:
    """Fails when a refusal names the minimum effect 0.000 and its reader cannot tell what was too small."""
    settings = SETTINGS.model_copy(
        update={"comparison": SETTINGS.comparison.model_copy(update={"minimum_effect": limit})}
    )
    worse = check_look(replace(WINNER, contributions=_contributions(-0.01)), 4.2, LIMITS, settings)
    assert words in explain_checks([check for check in worse if check.name == "minimum_effect"], EVIDENCE)


def test_a_pin_is_named_first() -> None:
    """Fails when the reason of a run beside a pin names everything but the command that goes on."""
    pinned = Check(name="not_pinned", value=3, limit=None, passed=False)
    assert explain_checks((*_checks(root=0.0), pinned), EVIDENCE).startswith("the champion is pinned; ")


def test_limits_are_inclusive() -> None:
    """Fails when a challenger that is exactly at a limit is refused."""
    exactly = replace(WINNER, contributions=CardContributions(np.array([0.02]), np.array([1.0])))
    assert not _failed(_checks(exactly, 3.9))


def test_the_area_under_the_roc_curve_decides_nothing() -> None:
    """Fails when a lower ROC AUC refuses a model with a better average precision."""
    assert not _failed(_checks(replace(WINNER, challenger=metrics(roc_auc=0.1))))


def test_slices_with_few_frauds_are_shown_and_decide_nothing() -> None:
    """Fails when a slice with too few frauds to prove anything decides."""
    check = next(check for check in _checks() if check.name == "slice_new_cards")
    assert (check.value, check.limit, check.passed) == (None, None, True)


def test_a_guardrail_that_cannot_tell_does_not_refuse() -> None:
    """Fails when little data, which prove no harm, refuse a better model."""
    checks = _checks(_rail("card_precision_at_100", Change(-0.01, -0.03, 0.01)))
    assert not _failed(checks)
    assert [check.name for check in checks if check.undecided] == ["card_precision_at_100"]


@pytest.mark.parametrize(
    ("changes", "failed", "words"),
    [
        ({"holdout": {"frauds": 199}}, "holdout_frauds", "199 frauds in the hold-out"),
        ({"holdout": {"frauds": 0}}, "holdout_frauds", "no frauds in the hold-out"),
        ({"training": {"frauds": 49}}, "training_frauds", "49 frauds in the training"),
        (
            {"training": {"frauds": 0, "transactions": 0}},
            "training_frauds",
            "too little history: no transactions in the training window 2024-02-09 to 2024-05-03",
        ),
    ],
)
def test_too_little_data_is_named(changes: dict[str, dict[str, int]], failed: str, words: str) -> None:
    """Fails when too few frauds still lead to a first champion, or the reader is not told what is missing."""
    evidence = replace(
        EVIDENCE, **{name: getattr(EVIDENCE, name).model_copy(update=update) for name, update in changes.items()}
    )
    checks = check_first_champion_possible(evidence, SETTINGS)
    assert _failed(checks) == {failed}
    assert words in explain_checks(checks, evidence)
    assert bool(_failed(check_training_possible(evidence.training, SETTINGS))) == ("training" in changes)


@pytest.mark.parametrize("low", [0.01, 0.0])
def test_the_first_champion_must_beat_the_floor(low: float) -> None:
    """Fails when any first model goes into service, even one no better than ranking by amount."""
    difference = Difference(value=0.3, low=low, high=0.5, confidence=0.9)
    floor = Floor(average_precision=0.26, amount_average_precision=0.13, multiple=2.0)
    checks = check_first_champion(FirstTest(metrics(), difference, floor, ()))
    assert _failed(checks) == (set() if low > 0 else {"first_champion_floor"})
    measured = explain_measurement(difference, floor)
    interval = f"+0.300 [{low:+.3f}, +0.500]"
    assert measured == f"average precision {interval} against the floor 0.260 (2 times ranking by amount, 0.130)"
    assert ("comparison.first_champion_floor sets the floor" in explain_checks(checks, EVIDENCE)) == (low == 0)


def test_the_same_model_with_other_noise_is_hardly_ever_promoted() -> None:
    """Fails when retraining the same recipe, which differs only by noise, is promoted more often than by rare luck."""
    settings = Settings.model_validate({"comparison": {"looks": 1, "candidate_every_hours": 720, "resamples": 100}})
    rule = SequentialRule.of(settings.comparison)
    promoted = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        card = np.repeat(np.arange(800), 8)
        fraud = (random.random(800) < 0.12)[card] & (random.random(len(card)) < 0.4)
        truth = 2.0 * fraud + random.normal(size=len(card)) - 4.0
        champion, challenger = 1 / (1 + np.exp(-truth - 0.3 * random.normal(size=(2, len(card)))))
        holdout = Holdout(np.arange(len(card)) % 7, fraud, np.exp(truth), card)
        measured = compare(holdout, champion, challenger, settings.comparison)
        assert measured is not None
        root, cards = signed_root(measured.contributions.contribution), measured.contributions.fraud_cards
        promoted += not _failed(check_look(measured, root, look_limits(cards, rule), settings))
    assert promoted <= 3


def test_a_model_against_itself_is_refused() -> None:
    """Fails when a copy of the champion takes its place."""
    random = np.random.default_rng(3)
    card = np.repeat(np.arange(300), 8)
    fraud = (random.random(300) < 0.3)[card]
    score = 1 / (1 + np.exp(-2.0 * fraud - random.normal(size=len(card))))
    measured = compare(Holdout(card % 7, fraud, score, card), score, score, SETTINGS.comparison)
    assert measured is not None
    assert measured.contributions.difference == 0.0
    root = signed_root(measured.contributions.contribution)
    checks = check_look(measured, root, look_limits(measured.contributions.fraud_cards, SequentialRule()), SETTINGS)
    assert {"significance", "unseen_cards", "minimum_effect"} == _failed(checks)


def test_a_decision_shows_the_winner_or_else_the_look_that_says_most() -> None:
    """Fails when a report shows another look than the one whose candidate is promoted."""
    keys = [CandidateKey(HOLDOUT_START + timedelta(days=day), "recipe") for day in range(3)]
    low, high = (look_record(key, HOLDOUT_START, root=root) for key, root in zip(keys, (1.0, 5.0), strict=False))
    assert shown_look([]) is None
    assert shown_look([low, high]) is high
    assert shown_look([high, low.model_copy(update={"passed": True})]) == low.model_copy(update={"passed": True})
    assert shown_look([low, look_record(keys[2], HOLDOUT_START, root=1.0)]) == look_record(
        keys[2], HOLDOUT_START, root=1.0
    ), "the younger of two alike"
    nothing = look_record(keys[0], HOLDOUT_START, root=None, difference=None)
    assert shown_look([nothing, look_record(keys[1], HOLDOUT_START, root=-math.inf)]) != nothing


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    """Measurements of every kind, most of them near the limits."""

    def change() -> Change:
        low, high = sorted(draw(st.tuples(st.floats(-0.03, 0.03), st.floats(-0.03, 0.03))))
        return Change((low + high) / 2, low, high)

    def near(value: float, width: float) -> float:
        return draw(st.floats(value - width, value + width))

    slices = tuple(
        SliceMetrics(name, 100, draw(st.integers(0, 100)), near(0.5, 0.02), near(0.5, 0.02))
        for name in ("amount_quarter_1", "new_cards")
    )
    return replace(
        WINNER,
        contributions=_contributions(near(0.02, 0.02)),
        guardrails={name: Guardrail(near(0.3, 0.006), near(0.3, 0.006), change()) for name in WINNER.guardrails},
        slices=slices,
        slice_changes={part.name: change() for part in slices},
    )


@given(comparisons(), st.floats(-1.0, 8.0))
@hypothesis_settings(max_examples=300)
def test_passed_means_that_every_limit_is_reached(measured: Comparison, root: float) -> None:
    """Fails when a model is promoted although it is not significantly, or not sufficiently, better."""
    checks = _checks(measured, root)
    assert "\n" not in explain_checks(checks, EVIDENCE)
    assert len({check.name for check in checks}) == len(checks)
    if not _failed(checks):
        assert root >= LIMITS.root
        assert measured.contributions.difference >= LIMITS.least_difference


@given(comparisons(), st.floats(-1.0, 8.0), *[st.floats(0.0, 0.05)] * 3)
@hypothesis_settings(max_examples=300)
def test_a_better_challenger_never_turns_a_promotion_into_a_refusal(
    measured: Comparison, root: float, ap: float, rail: float, part: float
) -> None:
    """Fails when a better challenger is refused where a worse one is promoted."""

    def better(change: Change | None, by: float) -> Change | None:
        return change and Change(change.value + by, change.low + by, change.high + by)

    improved = replace(
        measured,
        contributions=_contributions(measured.contributions.difference + ap),
        guardrails={name: replace(one, change=better(one.change, rail)) for name, one in measured.guardrails.items()},
        slice_changes={name: better(change, part) for name, change in measured.slice_changes.items()},
    )
    assert _failed(_checks(improved, root + ap)) <= _failed(_checks(measured, root))


def test_looks_need_any_of_the_values() -> None:
    """Fails when the limits of a look are not those that the risk of the look gives."""
    limits = look_limits(177, SequentialRule())
    assert limits.least_difference == max(limits.difference_for_unseen_cards, limits.difference_that_matters)
    assert limits.root > look_limits(177, SequentialRule(risk=0.5)).root
