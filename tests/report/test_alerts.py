"""What the page says of the threshold."""

import math
from datetime import timedelta
from typing import Any

import pytest
from factories import alert_figures, look_record, threshold
from report_pages import AS_OF, Page, decision, html

from fraud_detection.report import ReportData
from fraud_detection.schema import CandidateKey, Estimate, Outcome

BEGIN = AS_OF - timedelta(days=14)


def page(by_card: bool = True, outcome: Outcome = Outcome.PROMOTED, **changes: Any) -> Page:
    given = threshold(BEGIN, **changes) if changes.get("probability", 0) is not None else None
    look = look_record(CandidateKey(BEGIN, "recipe"), AS_OF, threshold=given, by_card=by_card, passed=True)
    return Page(html(decision(looks=(look,), outcome=outcome), ReportData()))


def test_the_budget_is_shown_with_what_it_gives() -> None:
    """Fails when a reader cannot tell from which score on cards alert, and what that finds, on days that check it."""
    found = page()
    text = found.texts["alerts"]
    assert "a transaction alerts from the score 0.3 on: the lowest score with no more than 100 cards a day" in text
    assert "(alerts.cards_a_day)" in text
    assert "from 2026-05-10 00:00 to 2026-05-14 00:00, checked from 2026-05-14 00:00 to 2026-05-17 00:00" in text
    assert found.row("Alerts a day")[1:] == ["97.2 at most 131", "103.0 at most 131"]
    assert found.row("Precision alerts whose card")[1:] == ["29 %", "29 %"]
    assert found.row("Recall cards")[1:] == ["61 %", "61 %"]
    assert found.row("Precision by value")[1:] == ["42 %", "42 %"]
    assert found.row("Recall by value")[1:] == ["73 %", "73 %"]
    assert found.row("Value caught a day")[1:] == ["2,310 [1,904, 2,717]"] * 2
    assert "Net value" not in text
    assert "comes into use" not in text
    assert "comes into use only if this model is promoted" in page(outcome=Outcome.REFUSED).texts["alerts"]


@pytest.mark.parametrize(
    ("budget", "share", "origin"),
    [
        (None, 1.0, "the amounts of the frauds caught exceed the reviews, 12.5 each, by the most (alerts.review_cost"),
        (
            100,
            0.6,
            "60 % of the frauds' amounts exceed the reviews, 12.5 each, by the most, with no more than 100 cards",
        ),
    ],
)
def test_costs_are_shown_with_the_net_value(budget: int | None, share: float, origin: str) -> None:
    """Fails when a reader cannot tell what the reviews were taken to cost, and whether they pay."""
    net = alert_figures(BEGIN, AS_OF, net_value_a_day=Estimate(value=-12.4, low=-80.2, high=55.4, confidence=0.95))
    found = page(cards_a_day=budget, review_cost=12.5, loss_share=share, checked=net)
    assert origin in found.texts["alerts"]
    assert found.row("Net value a day")[1:] == ["–", "−12 [−80, 55]"]


def test_no_alert_and_no_check_are_said() -> None:
    """Fails when the page shows a score of infinity, or figures as checked that are not."""
    found = page(probability=math.inf, review_cost=12.5, checked=None)
    assert "No transaction alerts: at no score do the frauds caught outweigh the reviews" in found.texts["alerts"]
    assert "not checked" in found.texts["alerts"]
    assert "inf" not in found.texts["alerts"].replace("figure", "").lower()
    assert len(found.row("Alerts a day")) == 2


def test_data_without_cards_are_spoken_of_as_transactions() -> None:
    """Fails when the page counts cards that the data do not have."""
    text = page(by_card=False).texts["alerts"]
    assert "card" not in text.replace("alerts.cards_a_day", "").replace("The data have no cards", "").replace(
        "not what blocking a card prevents later", ""
    )


def test_a_look_without_a_threshold_has_no_section() -> None:
    """Fails when the report of an earlier release's decision, or of a look that measured nothing, is broken."""
    assert "alerts" not in page(probability=None).texts
