"""What a terminal shows of a run: for each outcome the whole text, as a person reads it."""

from datetime import UTC, datetime, timedelta

import pytest
from factories import candidate_record, decision, look_record, metrics, span

from fraud_detection.cli import print_step
from fraud_detection.promotion import summarise
from fraud_detection.promotion.sequential import HoldoutCounts, Look, LookState, NextLook, SequentialRule
from fraud_detection.runs.progress import next_look_line, opened_line, report_decision, report_look, report_next_look
from fraud_detection.schema import (
    CandidateKey,
    CandidateRecord,
    Check,
    Decision,
    Difference,
    LookLimitsRecord,
    LookRecord,
    Outcome,
)

AS_OF = datetime(2026, 4, 20, 6, tzinfo=UTC)
DAY = timedelta(days=1)
RULE = SequentialRule()
WIDTH = 120
LIMITS = LookLimitsRecord(root=3.71, difference_for_unseen_cards=0.0604, difference_that_matters=0.01)
BETTER = (
    Check(name="significance", value=9.87, limit=3.71, passed=True),
    Check(name="unseen_cards", value=0.412, limit=0.0604, passed=True),
    Check(name="minimum_effect", value=0.412, limit=0.01, passed=True),
)
NO_BETTER = (
    Check(name="significance", value=0.62, limit=3.71, passed=False),
    Check(name="unseen_cards", value=0.0041, limit=0.0604, passed=False),
    Check(name="minimum_effect", value=0.0041, limit=0.01, passed=False),
)


def _candidate(cutoff: datetime, *, backfilled: bool = False) -> CandidateRecord:
    training = span(cutoff - 49 * DAY, cutoff - 7 * DAY, 303_203, 2_833)
    return candidate_record(cutoff, backfilled=backfilled, training=training, opened_at=AS_OF)


def _look(candidate: CandidateRecord, *, passed: bool) -> LookRecord:
    value, low, high, root = (0.412, 0.31, 0.514, 9.87) if passed else (0.0041, -0.012, 0.0202, 0.62)
    return look_record(
        candidate.key,
        AS_OF,
        3,
        training=candidate.training,
        holdout=span(candidate.training.end, AS_OF - 7 * DAY, 44_955, 267),
        fraud_cards=146,
        difference=Difference(value=value, low=low, high=high, confidence=0.95),
        champion=metrics(0.243, card_precision_at_100=0.211),
        challenger=metrics(0.243 + value, card_precision_at_100=0.241),
        root=root,
        limits=LIMITS,
        checks=BETTER if passed else NO_BETTER,
        passed=passed,
    )


def _decided(outcome: Outcome, look: LookRecord) -> Decision:
    return decision(
        outcome,
        AS_OF,
        1,
        version=2 if outcome is Outcome.PROMOTED else None,
        schema_version=2,
        champion=look.champion,
        challenger=look.challenger,
        difference=look.difference,
        checks=look.checks,
        looks=(look,),
        report="data/demo/output_data/reports/fraud_detection/20260420T060000Z/report.html",
    )


def _next(key: CandidateKey, state: LookState, frauds: int, needed: int, number: int = 1) -> NextLook:
    return NextLook(Look(AS_OF, key, 1, number), state, HoldoutCounts(frauds, 11), needed)


def _shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    too_wide = [line for line in lines if len(line) > WIDTH and not line.startswith("decision ")]  # a sentence wraps
    assert too_wide == []
    return lines


def test_a_promotion_reads_from_its_look_to_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Fails when a terminal does not show what a winner measured, what it needed, and that it serves now."""
    candidate = _candidate(AS_OF - 7 * DAY, backfilled=True)
    look = _look(candidate, passed=True)
    print_step("opened", opened_line(candidate))
    report_look(look, print_step)
    report_decision(_decided(Outcome.PROMOTED, look), print_step)
    report_next_look(
        _decided(Outcome.PROMOTED, look), _next(candidate.key, LookState.DUE, 300, 90, 4), RULE, print_step
    )
    assert _shown(capsys) == [
        "opened      the candidate of 2026-04-13 06:00 (backfilled)"
        " · trained to 2026-04-06 06:00 on 303,203 / 2,833 frauds",
        "look        3 at the candidate of 2026-04-13 06:00 against v1"
        " · AP +0.412 ≥ +0.060 · R_EL 9.87 ≥ 3.71 · passed",
        "            hold-out 2026-04-06 06:00 … 2026-04-13 06:00 · 44,955 / 267 frauds on 146 cards",
        "champion    v1    AP 0.243   CP@100 0.211",
        "challenger        AP 0.655   CP@100 0.241",
        "difference        AP +0.412  95 % [+0.310, +0.514]  paired by card",
        "decision    PROMOTED as v2 · every check passed",
        "report      data/demo/output_data/reports/fraud_detection/20260420T060000Z/report.html",
    ]


def test_without_cards_everything_is_by_transaction(capsys: pytest.CaptureFixture[str]) -> None:
    """Fails when a user whose data have no cards reads of cards, and of a card precision that nothing has measured."""
    look = _look(_candidate(AS_OF - 7 * DAY), passed=False).model_copy(update={"by_card": False})
    unmeasured = metrics(card_precision_at_100=None)
    decided = _decided(Outcome.REFUSED, look).model_copy(update={"champion": unmeasured, "challenger": unmeasured})
    report_look(look, print_step)
    report_decision(decided, print_step)
    text = "\n".join(_shown(capsys))
    assert "paired by transaction" in text
    assert "that no transaction of the hold-out has shown" in text
    assert text.count("CP@100 not measured") == 2
    summary = summarise(decided)
    assert "transactions resampled" in summary
    assert "(what no transaction has shown)" in summary
    assert "card" not in (text + summary).replace("card precision@100", "")


def test_a_refusal_says_what_was_missing_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    """Fails when a person cannot tell why a challenger was refused, or whether it gets another look."""
    candidate = _candidate(AS_OF - 7 * DAY)
    look = _look(candidate, passed=False)
    report_look(look, print_step)
    decided = _decided(Outcome.REFUSED, look)
    report_decision(decided, print_step)
    report_next_look(decided, _next(candidate.key, LookState.WAITS_FOR_FRAUDS, 267, 304, 6), RULE, print_step)
    shown = _shown(capsys)
    assert shown[0].endswith("AP +0.004 < +0.060 · R_EL 0.62 < 3.71 · not passed")
    assert shown[5] == (
        "decision    REFUSED · not significant: R_EL 0.62 of 3.71; smaller than 0.060, what a pattern could cost that"
        " no card of the hold-out has shown; 1 more check failed"
    )
    assert shown[7] == "next        267 of 304 frauds for look 6 at the candidate of 2026-04-13 06:00"


def test_a_look_and_its_reason_show_the_same_digits(capsys: pytest.CaptureFixture[str]) -> None:
    """Fails when a look just below a limit reads as if it had reached it, or its two lines show other numbers."""
    candidate = _candidate(AS_OF - 7 * DAY)
    look = _look(candidate, passed=False).model_copy(update={"root": 3.7099})
    assert look.limits is not None
    check = Check(name="significance", value=3.7099, limit=look.limits.root, passed=False)
    report_look(look, print_step)
    report_decision(_decided(Outcome.REFUSED, look).model_copy(update={"checks": (check,)}), print_step)
    shown = _shown(capsys)
    assert "R_EL 3.7099 < 3.7100" in shown[0]
    assert "R_EL 3.7099 of 3.7100" in shown[5]


@pytest.mark.parametrize(
    ("state", "frauds", "words"),
    [
        (LookState.WAITS_FOR_FRAUDS, 31, "31 of 40 frauds for look 1 at the candidate of 2026-04-13 06:00"),
        (LookState.WAITS_FOR_CARDS, 44, "frauds on 11 of 15 cards for look 1 at the candidate of 2026-04-13 06:00"),
        (
            LookState.WAITS_FOR_RISK,
            44,
            "all 270 looks of the last 30 days are taken; look 1 at the candidate of 2026-04-13 06:00 waits",
        ),
    ],
)
def test_no_decision_says_what_the_next_look_waits_for(
    capsys: pytest.CaptureFixture[str], state: LookState, frauds: int, words: str
) -> None:
    """Fails when a run without a look ends without saying how much is missing for one."""
    key = _candidate(AS_OF - 7 * DAY).key
    found = _next(key, state, frauds, 40)
    nothing = dict.fromkeys(("champion", "challenger", "difference", "report"))
    waits = decision(Outcome.NO_DECISION, AS_OF, 1, reason=next_look_line(found, RULE), checks=(), **nothing)
    report_decision(waits, print_step)
    report_next_look(waits, found, RULE, print_step)
    assert _shown(capsys) == [f"decision    NO DECISION · {words}"]


def test_a_look_that_measured_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Fails when a look against a champion that serves no longer reads like one that a challenger did not pass."""
    candidate = _candidate(AS_OF - 7 * DAY)
    void = {"champion": None, "challenger": None, "difference": None, "root": None, "limits": None}
    report_look(_look(candidate, passed=False).model_copy(update=void), print_step)
    assert _shown(capsys)[0].endswith("against v1 · nothing measured")


def test_a_first_champion_is_looked_at_against_the_floor(capsys: pytest.CaptureFixture[str]) -> None:
    """Fails when the test of a first champion reads as if there were a champion, or limits that it does not have."""
    first = _look(_candidate(AS_OF - 7 * DAY), passed=True).model_copy(
        update={"champion_version": None, "root": None, "limits": None, "number": 1}
    )
    report_look(first, print_step)
    assert _shown(capsys)[0] == (
        "look        1 at the candidate of 2026-04-13 06:00 against the floor · AP +0.412 · passed"
    )
