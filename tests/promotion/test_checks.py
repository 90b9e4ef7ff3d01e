"""The table of checks, and that everything which shows a check takes it from there."""

import math
import re
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from factories import decision

from fraud_detection.evaluation import Holdout, compare, measure_alone
from fraud_detection.evaluation.harm import Change
from fraud_detection.promotion import (
    Evidence,
    RefitScores,
    check_first_champion,
    check_first_champion_possible,
    check_look,
    check_refit,
    explain_decision,
)
from fraud_detection.promotion.checks import (
    CHECKS,
    Limit,
    Relation,
    failure,
    measure,
    measure_against,
    measure_harm,
    told_apart,
)
from fraud_detection.promotion.sequential import SequentialRule, look_limits
from fraud_detection.schema import AlarmName, Check, Outcome, RetirementReason
from fraud_detection.settings import HealthCheck, Settings

SETTINGS = Settings()
AS_OF = datetime(2026, 5, 24, tzinfo=UTC)
DOCS = Path(__file__).parents[2] / "docs" / "decision.md"


def _rows_of_docs() -> dict[str, str]:
    """The rows of the tables of checks by the first name in them; one row may stand for several checks."""
    rows = re.findall(r"^(\| `\w+`.*\|)$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.findall(r"`(\w+)`", row)[0]: row for row in rows}


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_is_documented_with_its_relation_and_setting(name: str) -> None:
    """Fails when a check of the table is missing in docs/decision.md, or its limit is set elsewhere than it says."""
    known, rows = CHECKS[name], _rows_of_docs()
    row = rows[re.sub(r"_[2-4]$", "_1", name)]
    if row.count("likewise"):
        row = rows["slice_amount_quarter_1"]
    assert known.relation in row
    if known.setting is not None:
        default = float(attrgetter(known.setting)(SETTINGS))
        named = known.setting.rpartition(".")[2]
        number = f"{default:g}".removeprefix("0")
        assert re.search(rf"`(\w+\.)?{named}` \({re.escape(number)}\)", row), f"{known.setting} ({number})"


def test_the_tables_of_the_documents_hold_no_other_check() -> None:
    """Fails when docs/decision.md has a check, an outcome, an alarm or a reason to retire that no decision holds."""
    others = {word.value for words in (Outcome, RetirementReason, AlarmName) for word in words}
    assert set(_rows_of_docs()) - others <= set(CHECKS)


def test_every_check_that_a_decision_makes_has_a_phrase_and_says_what_is_wrong() -> None:
    """Fails when a check reaches the reader as a bare identifier, or two checks read the same."""
    spans = decision(Outcome.REFUSED, AS_OF)
    for name, known in CHECKS.items():
        assert failure(Check(name=name, value=0.5, limit=1.0, passed=False), spans)
        if known.relation is Relation.EQUAL:
            assert "None" not in failure(Check(name=name, value=None, limit=None, passed=False), spans)
    assert len({known.phrase for known in CHECKS.values()}) == len(CHECKS)


def test_the_rule_makes_every_check_but_the_late_ones() -> None:
    """Fails when a check is declared and documented, and no decision makes it."""
    rows = 4_000
    day, card = np.arange(rows) * 7 // rows, np.arange(rows) % 900
    fraud = (np.arange(rows) % 16 == 0).astype(np.int8)
    score = np.random.default_rng(0).random(rows)
    holdout = Holdout(day, fraud, np.linspace(1, 200, rows), card, card < 90)
    settings = Settings.model_validate({"comparison": {"resamples": 100}})
    known = decision(Outcome.REFUSED, AS_OF)
    first = measure_alone(holdout, score, settings.comparison)
    look = compare(holdout, score, score, settings.comparison)
    assert first is not None
    assert look is not None
    limits = look_limits(look.contributions.fraud_cards, SequentialRule())
    made = {
        *check_first_champion_possible(Evidence(known.training, known.holdout), settings),
        *check_first_champion(first),
        *check_look(look, 0.0, limits, settings),
        *check_refit(RefitScores(fraud, score, score, fraud, score)),
    }
    of_data = {check.value for check in HealthCheck}
    late = of_data | {"not_pinned", "champion_unchanged", "registered_model_identical"}
    assert {check.name for check in made} | late == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_value_at_its_limit_passes_unless_it_has_to_be_above(name: str) -> None:
    """Fails when a candidate exactly at a limit is judged against the documented relation."""
    relation, kind = CHECKS[name].relation, CHECKS[name].limit
    follows = kind in (Limit.HOLDOUT, Limit.HISTORY)
    limit = 0.02 if follows else CHECKS[name].limit_for(SETTINGS, 0.3)

    def passes(value: float | None) -> bool:
        if follows:
            return measure_against(name, value, limit).passed
        return measure(name, value, SETTINGS, 0.3).passed

    assert passes(limit) == (relation is not Relation.ABOVE)
    if kind is not Limit.NONE:
        assert limit is not None
        assert passes(limit + 0.001) == (relation in (Relation.ABOVE, Relation.AT_LEAST))
        assert passes(limit - 0.001) == (relation is Relation.AT_MOST)
    assert not passes(float("nan"))


@pytest.mark.parametrize(
    ("late", "shown"),
    [
        (measure("not_pinned", 1), "the champion is pinned"),
        (
            measure("champion_unchanged", 2, champion=1),
            "the champion has changed meanwhile: compared with version 1, now version 2 serves",
        ),
        (
            measure("champion_unchanged", None, champion=1),
            "the champion has changed meanwhile: compared with version 1, now no champion serves",
        ),
        (measure("registered_model_identical", 3), "the registered model scores 3 rows differently"),
        (measure("registered_model_identical", None), "the registered model cannot be loaded"),
    ],
)
def test_the_line_of_a_late_refusal_says_why(late: Check, shown: str) -> None:
    """Fails when a run that a late check refused ends with an empty reason on the terminal and in the history."""
    refused = decision(Outcome.REFUSED, AS_OF).model_copy(
        update={"checks": (late,), "reason": "without a measurement; at all"}
    )
    assert explain_decision(refused) == shown


def test_the_line_of_an_old_decision_with_an_unknown_check_says_why() -> None:
    """Fails when a log that another release wrote cannot be shown, or a failed check of it is left out."""
    check = Check(name="something_new", value=-0.0121, limit=-0.005, passed=False)
    old = decision(Outcome.REFUSED, AS_OF, checks=(check,), retired_version=4)
    assert explain_decision(old) == "something new failed: -0.0121 against -0.005; version 4 was retired before"


@pytest.mark.parametrize(
    ("change", "passed", "undecided"),
    [
        (Change(-0.01, -0.012, -0.006), False, False),
        (Change(-0.01, -0.02, 0.0), True, True),
        (Change(0.0, -0.004, 0.004), True, False),
        (Change(0.0, -math.inf, math.inf), True, True),
    ],
)
def test_a_harm_test_can_be_undecided(change: Change, passed: bool, undecided: bool) -> None:
    """Fails when a guardrail without enough data refuses a model, or a person is not told that it could not decide."""
    check = measure_harm("card_precision_at_100", 0.29, change, SETTINGS, 0.30)
    assert check.value == 0.29
    assert check.limit == pytest.approx(0.295)
    assert (check.passed, check.undecided) == (passed, undecided)
    verdicts = {(False, False): "failed", (True, True): "undecided", (True, False): "passed"}
    assert check.verdict == verdicts[passed, undecided]
    assert Check.model_validate_json(check.model_dump_json()) == check


def test_a_harm_test_of_the_brier_score_has_a_margin_relative_to_the_champions() -> None:
    """Fails when the margin of a small Brier score is that of a large one."""
    harm = Change(-0.0003, -0.0004, -0.00021)
    assert not measure_harm("brier", 0.0103, harm, SETTINGS, 0.01).passed
    assert measure_harm("brier", 0.0203, harm, SETTINGS, 0.02).passed
    nothing = measure_harm("brier", None, None, SETTINGS, 0.02)
    assert nothing == Check(name="brier", value=None, limit=None, passed=True)


def test_a_check_of_an_earlier_release_stays_as_it_was_written() -> None:
    """Fails when an old decision is rewritten with fields that it never had."""
    old = '{"name":"brier","value":0.01,"limit":0.02,"passed":true}'
    assert Check.model_validate_json(old).model_dump_json() == old


@pytest.mark.parametrize(
    ("numbers", "sign", "shown"),
    [
        ((3.89, 3.9), "", ["3.89", "3.90"]),
        ((3.8999, 3.9), "", ["3.8999", "3.9000"]),
        ((3.9, 3.9), "", ["3.90", "3.90"]),
        ((0.0099, 0.01, 0.06), "+", ["+0.0099", "+0.0100", "+0.0600"]),
        ((0.00996, 0.01, 0.06), "+", ["+0.00996", "+0.01000", "+0.06000"]),
        ((1.0, 1.0 + 1e-12), "", ["1.00", "1.00"]),
    ],
)
def test_a_value_and_its_limits_show_the_same_digits(numbers: tuple[float, ...], sign: str, shown: list[str]) -> None:
    """Fails when a reason says 3.90 of 3.90 was too little, or two lines of one run show a number differently."""
    decimals = 3 if sign else 2
    assert told_apart(*numbers, decimals=decimals, sign=sign) == shown
