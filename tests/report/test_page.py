"""What the report page says about a decision."""

from typing import Any

import numpy as np
import pytest
from factories import span
from report_pages import AS_OF, CHECKS, Page, decision, html, nothing_decided, report_data

from fraud_detection.report import ReportData, wording
from fraud_detection.schema import Difference, Floor, Outcome
from fraud_detection.settings import Settings
from fraud_detection.time_windows import run_windows


@pytest.mark.parametrize(
    ("changes", "title", "consequence"),
    [
        ({}, "PROMOTED as v13", "It replaces v12."),
        (
            {"champion_version": None, "champion": None, "version": 1},
            "FIRST CHAMPION v1",
            "The first model in service.",
        ),
        ({"outcome": Outcome.REFUSED, "version": None}, "REFUSED", "v12 stays in service."),
        ({"outcome": Outcome.NO_DECISION, "version": None}, "NO DECISION", "v12 stays in service."),
        (
            {"outcome": Outcome.REFUSED, "version": None, "champion_version": None, "champion": None},
            "REFUSED",
            "No model is in service yet.",
        ),
    ],
)
def test_verdict_comes_first_with_its_reason(changes: dict[str, Any], title: str, consequence: str) -> None:
    """Fails when the report does not open with what was decided and which model is now in service."""
    page = Page(html(decision(**changes), report_data()))
    verdict = page.texts["verdict"]
    assert title in verdict
    assert "average precision rose by 0.029" in verdict
    assert consequence in verdict
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert ids[0] == "verdict"
    assert title in page.texts[""].split("·")[0]  # the browser's tab


def test_an_override_is_shown_with_the_verdict() -> None:
    """Fails when a reader of the report takes a model that a person forced into service for one that had won."""
    told = "v12 came into service as an override by anna, 2026-04-20 10:00 UTC: it knows the new fraud"
    assert told in Page(html(decision(), report_data(override=told))).texts["verdict"]
    assert "override" not in Page(html(decision(), report_data())).texts["verdict"]


def test_key_numbers_are_rounded_and_say_which_way_is_better() -> None:
    """Fails when a metric has the wrong digits, or a rising Brier score is shown as an improvement."""
    page = Page(html(decision(), report_data()))
    assert page.row("Average precision")[1:] == ["0.612", "0.641", "+0.029 better"]
    assert page.row("Card precision@100 share")[1:] == ["0.298", "0.311", "+0.013 better"]
    assert page.row("Brier score mean")[1:] == ["0.00400", "0.00380", "−0.00020 (−5.0 %) better"]
    assert page.row("ROC AUC reported; not a check")[1:] == ["0.9712", "0.9706", "−0.0006 worse"]


def test_difference_has_its_interval_confidence_and_pairing() -> None:
    """Fails when the deciding difference is shown without its interval, confidence, pairing or minimum effect."""
    text = Page(html(decision(), report_data())).texts["difference"]
    assert "minus that of champion v12: +0.029, 95 % interval [+0.012, +0.046], paired by card" in text
    assert "needed +0.010" in text


def test_first_champion_is_measured_against_amount_not_a_champion() -> None:
    """Fails when the report of a first champion mentions a champion or a minimum effect that did not exist."""
    floor = Floor(average_precision=0.28, amount_average_precision=0.14, multiple=2.0)
    sure = Difference(value=0.3612, low=0.1, high=0.62, confidence=0.9)
    first = decision(champion_version=None, champion=None, version=1, difference=sure, floor=floor)
    page = Page(html(first, report_data(champion_score=None, amount=np.linspace(1, 2, 5_000))))
    text = page.texts["difference"]
    assert "minus the floor 0.280 (2 times ranking by amount, 0.140): +0.361, 90 % interval [+0.100, +0.620]" in text
    assert "tested once, one-sided at 95 %, which is the lower end of a two-sided 90 % interval" in text
    assert "planned runs" not in text
    assert "minimum effect" not in text
    assert "ranking by amount alone" in page.texts["precision-recall"]
    assert page.row("Average precision")[1:] == ["0.641"]


def test_a_first_champion_of_an_earlier_release_still_has_its_page() -> None:
    """Fails when the report of a decision from before the floor was recorded can no longer be shown."""
    first = decision(champion_version=None, champion=None, version=1)
    assert first.floor is None
    text = Page(html(first, report_data(champion_score=None))).texts["difference"]
    assert "minus a multiple of that of ranking by amount alone" in text


def test_every_check_is_listed_with_failed_ones_first_and_in_words() -> None:
    """Fails when a failed check is missing, far down the list, or marked by colour alone."""
    page = Page(html(decision(), report_data()))
    assert "4 failed, 1 undecided, 3 passed, 1 not measured" in page.texts["checks"]
    conditions = ["✕ FAILED"] * 3 + ["✓ passed"]
    guardrails = ["✕ HARMFUL", "? undecided", "✓ harmless", "✓ harmless", "– not measured"]
    results = {*conditions, *guardrails}
    assert [cells[-1] for cells in page.cells() if cells[-1] in results] == [*conditions, *guardrails]
    for check in CHECKS:
        assert check.name in page.texts["checks"]
    assert page.row("Enough matured frauds in the hold-out")[1:3] == ["385", "≥ 200"]
    assert page.row("Brier score not above")[1:4] == ["0.0038", "≤ 0.00408", "[+0.00004, +0.00040]"]
    assert page.row("Card precision@100 not below")[1:4] == ["0.311", "≥ 0.305", "[−0.012, +0.021]"]
    assert page.row("Rows with channel web")[1:4] == ["0.4", "≥ 0.39", "[−0.001, +0.100]"]
    assert page.row("Something new")[1:3] == ["−0.0121", "−0.005"]
    assert page.row("No version is pinned")[1:3] == ["–", "–"]
    assert page.row("New cards: average precision not below")[1:3] == ["–", "–"]
    passed = Page(html(decision(checks=CHECKS[:1]), report_data()))
    assert "Checks: 1 passed" in passed.texts["checks"]


def test_failed_check_never_shows_equal_numbers() -> None:
    """Fails when a narrowly failed check reads `0.01 ≥ 0.01 FAILED`, which no reader believes."""
    page = Page(html(decision(), report_data()))
    assert page.row("Large enough to matter")[1:3] == ["0.0099999", "≥ 0.01"]
    assert wording.value_and_limit(0.5, 0.5) == ("0.5", "0.5")


def test_data_summary_shows_windows_rejections_and_warnings() -> None:
    """Fails when the report does not show which data the decision is based on, and what was rejected."""
    page = Page(html(decision(), report_data()))
    training = ["2026-02-15 00:00", "2026-05-10 00:00", "84 d", "804,517", "6,218", "0.77 %"]
    assert page.row("Training")[1:] == training
    assert page.row("Hold-out")[4:] == ["58,264", "385", "0.66 %"]
    assert page.row("Maturity of labels")[2] == "2026-05-24 00:00"
    assert page.row("Duplicate id")[1:] == ["412", "0.041 %", "transaction_id"]
    assert page.row("an amount below zero")[3] == "–"
    assert "2026-05-17 03:00 has no transactions" in page.texts["warnings"]
    bars = [element for element in page.elements if "bar" in element[1].get("class", "").split()]
    assert len(bars) == 2 * 98  # each day from the start of training to the as-of time, twice
    assert sum("pending" in attributes["class"] for _, attributes in bars) == 7  # fraud rates of the label delay


def test_a_training_gap_is_shown_where_there_is_one() -> None:
    """Fails when the report hides rows that neither model has seen, or shows a gap of no length."""
    windows = run_windows(AS_OF, Settings.model_validate({"windows": {"training_gap_days": 7}}).windows)
    gapped = decision(
        training=span(windows.training_start, windows.training_end, 804_517, 6_218),
        holdout=span(windows.holdout_start, windows.holdout_end, 58_264, 385),
    )
    assert Page(html(gapped, report_data())).row("Training gap")[3] == "7 d"
    assert not [row for row in Page(html(decision(), report_data())).cells() if row[0] == "Training gap"]


def test_slices_and_features_are_shown() -> None:
    """Fails when a slice that got worse, or a feature that leaks, is not visible in the report."""
    page = Page(html(decision(), report_data()))
    assert page.row("New cards new_cards")[1:] == ["812", "57", "0.412", "0.431", "+0.019"]
    assert page.row("Tiny")[3:] == ["–", "–", "–"]
    assert page.row("amount")[-1] == "75 %"


def test_details_and_rollback() -> None:
    """Fails when the report lacks the rollback command, or the run and version that it is about."""
    page = Page(html(decision(), report_data()))
    assert "bring v12 back" in page.texts["rollback"]
    # By its number: later, the previous champion may be another.
    assert 'fraud-detection rollback --output out --to 12 --reason "…"' in page.texts["rollback"]
    assert 'resumes after: fraud-detection unpin --output out --reason "…"' in page.texts["rollback"]
    for fact in ("2026-05-24 00:00 UTC", "fraud_detection", "v13", "4f0c2d6f", "sha256:9b1c", "total 4.6"):
        assert fact in page.texts["details"]


@pytest.mark.parametrize("champion_version", [None, 12])
def test_page_of_a_promotion_before_its_version_is_registered(champion_version: int | None) -> None:
    """Fails when a run killed during registration leaves a report that names a version vNone."""
    page = Page(html(decision(version=None, champion_version=champion_version), report_data()))
    assert ("FIRST CHAMPION" if champion_version is None else "PROMOTED") in page.texts["verdict"]
    assert "None" not in page.texts[""]


def test_refusal_says_that_nothing_changed() -> None:
    """Fails when the report of a refusal does not say that the champion is unchanged, and somebody rolls it back."""
    refused = decision(outcome=Outcome.REFUSED, version=None)
    assert "This run changed nothing: v12 stays in service." in Page(html(refused, report_data())).texts["rollback"]


def test_page_of_a_run_that_measured_nothing_is_complete() -> None:
    """Fails when a run without scores ends in a broken report instead of an explained one."""
    page = Page(html(nothing_decided(), ReportData()))
    assert "NO DECISION" in page.texts["verdict"]
    assert "no frauds in the hold-out" in page.texts["verdict"]
    assert "No difference was measured" in page.texts["difference"]
    assert "before any check" in page.texts["checks"]
    assert "no curves to draw" in page.texts["precision-recall"]
    assert page.row("Hold-out")[4:] == ["0", "0", "–"]
    for word in ("vNone", "nan"):
        assert word not in page.texts[""]


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_holdout_without_frauds_has_no_curves(rows: int) -> None:
    """Fails when a hold-out without a fraud ends in a division by zero instead of a report."""
    data = ReportData(fraud=np.zeros(rows, np.int8), challenger_score=np.full(rows, 0.01), settings=Settings())
    assert "no frauds in the hold-out" in Page(html(nothing_decided(), data)).texts["precision-recall"]


@pytest.mark.parametrize("rows", [1, 150, 1000])
def test_extreme_scores_are_drawn(rows: int) -> None:
    """Fails when scores that are all equal, 0 or 1 break the report's plots."""
    fraud = np.ones(rows, np.int8)
    for score in (np.zeros(rows), np.ones(rows)):
        page = Page(html(decision(), report_data(fraud=fraud, champion_score=score, challenger_score=score)))
        assert "Calibration" in page.texts["calibration"]
