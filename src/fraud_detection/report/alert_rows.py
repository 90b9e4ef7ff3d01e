"""The section on the threshold: what it gives on the days it was fitted on, and on those that check it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fraud_detection.report import wording
from fraud_detection.schema import AlertFigures, Estimate, Threshold


@dataclass(frozen=True)
class AlertCell:
    """A figure, and what is said below it."""

    value: str
    note: str = ""


@dataclass(frozen=True)
class AlertRow:
    """One figure of a threshold, on both parts of the hold-out."""

    label: str
    note: str
    fitted: AlertCell
    checked: AlertCell


@dataclass(frozen=True)
class AlertSection:
    """The threshold in words."""

    score: str | None
    """From which on a transaction alerts; None where no alert is worth its review."""
    origin: str
    """How it was chosen."""
    settings: tuple[str, ...]
    """That chose it."""
    fitted: str
    """The days that it was fitted on."""
    checked: str | None
    rows: tuple[AlertRow, ...]


def alert_section(threshold: Threshold | None, by_card: bool) -> AlertSection | None:
    """What the page says of a threshold; None without one."""
    if threshold is None:
        return None
    checked = threshold.checked
    costs = () if threshold.review_cost is None else ("alerts.review_cost", "alerts.loss_share")
    return AlertSection(
        # Four digits: a score may be far below one percent, or close to one.
        score=wording.significant(threshold.probability, 4) if math.isfinite(threshold.probability) else None,
        origin=_origin(threshold, "cards" if by_card else "transactions"),
        settings=costs if threshold.cards_a_day is None else (*costs, "alerts.cards_a_day"),
        fitted=_days(threshold.fitted),
        checked=None if checked is None else _days(checked),
        rows=tuple(_rows(threshold, by_card)),
    )


def _origin(threshold: Threshold, units: str) -> str:
    budget = f"no more than {threshold.cards_a_day:,} {units} a day on average" if threshold.cards_a_day else ""
    if threshold.review_cost is None:
        return f"the lowest score with {budget}"
    cost, share = wording.significant(threshold.review_cost), wording.percent(threshold.loss_share)
    saved = "the amounts of the frauds caught" if threshold.loss_share == 1 else f"{share} of the frauds' amounts"
    costs = f"the score at which {saved} exceed the reviews, {cost} each, by the most"
    return f"{costs}, with {budget}" if budget else costs


def _rows(threshold: Threshold, by_card: bool) -> Iterator[AlertRow]:
    for label, note, without_cards, cell in _FIGURES:
        if cell is _net and threshold.review_cost is None:
            continue
        checked = AlertCell(wording.MISSING) if threshold.checked is None else cell(threshold.checked)
        yield AlertRow(label, note if by_card else without_cards, cell(threshold.fitted), checked)


def _days(figures: AlertFigures) -> str:
    return f"{wording.moment(figures.start)} to {wording.moment(figures.end)}"


def _alerts(figures: AlertFigures) -> AlertCell:
    return AlertCell(wording.number(figures.alerts_a_day, 1), f"at most {wording.count(figures.most_alerts)}")


def _precision(figures: AlertFigures) -> AlertCell:
    return _share(figures.precision)


def _recall(figures: AlertFigures) -> AlertCell:
    return _share(figures.recall)


def _value_precision(figures: AlertFigures) -> AlertCell:
    return _share(figures.value_precision)


def _value_recall(figures: AlertFigures) -> AlertCell:
    return _share(figures.value_recall)


def _value(figures: AlertFigures) -> AlertCell:
    return _estimate(figures.value_a_day)


def _net(figures: AlertFigures) -> AlertCell:
    return _estimate(figures.net_value_a_day)


_AMOUNTS, _FOUND_AMOUNTS = (
    "share of frauds in the amounts that score as high",
    "amounts of the frauds that score as high",
)
_CAUGHT = "of those frauds, in the unit of the amounts, with its 95 % interval"
_FIGURES: tuple[tuple[str, str, str, Callable[[AlertFigures], AlertCell]], ...] = (
    # label, what it is, the same without cards, the figure
    ("Alerts a day", "cards, on average and on one day", "transactions, on average and on one day", _alerts),
    ("Precision", "alerts whose card has a fraud that day", "alerts that are frauds", _precision),
    ("Recall", "cards with a fraud that were found", "frauds that were found", _recall),
    ("Precision by value", _AMOUNTS, _AMOUNTS, _value_precision),
    ("Recall by value", _FOUND_AMOUNTS, _FOUND_AMOUNTS, _value_recall),
    ("Value caught a day", _CAUGHT, _CAUGHT, _value),
    ("Net value a day", "what is caught less the reviews", "what is caught less the reviews", _net),
)


def _share(value: float | None) -> AlertCell:
    return AlertCell(wording.MISSING if value is None else wording.percent(value))


def _estimate(found: Estimate | None) -> AlertCell:
    if found is None:
        return AlertCell(wording.MISSING)
    low, high = wording.number(found.low, 0), wording.number(found.high, 0)
    return AlertCell(wording.number(found.value, 0), "" if found.low is None else f"[{low}, {high}]")
