"""Features of a transaction against the past of its own card. Pure numpy; see `timeline` for the order of rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_detection.features.definitions import (
    CARD_PAST_FEATURES,
    CARD_WINDOW_FEATURES,
    DAY,
    HOUR,
    LARGEST_AMOUNT,
    LOOK_BACK,
    WINDOW_DAYS,
)
from fraud_detection.features.order_statistics import RangeQuantiles
from fraud_detection.features.timeline import (
    Bools,
    ComputedFeatures,
    Floats,
    Ints,
    Timeline,
    blocks,
    fill,
    keep_rows,
    or_nan,
    ratio,
    running_sums,
    time_order,
)
from fraud_detection.labels import NEVER


def to_cents(amounts: Floats) -> Ints:
    """Amounts in cents, rounded to the nearest."""
    cents: Ints = np.rint(np.minimum(amounts, LARGEST_AMOUNT) * 100.0).astype(np.int64)
    return cents


@dataclass(frozen=True)
class CardFeatures(ComputedFeatures):
    """The features, and what the cards say of their frauds, for the kept rows."""

    unexplained: Bools
    """Frauds that their cards' own spending does not explain (`_CardPast.unexplained`); false for all other rows."""
    to_median: Floats
    """The amounts of frauds as multiples of the median of their cards' past; NaN without any, and for other rows."""


def card_features(
    cards: Ints,
    times: Ints,
    ids: NDArray[np.generic],
    cents: Ints,
    known: Ints,
    start: int,
    keep_from: int,
    label_delay: int,
    *,
    past: bool = True,
) -> CardFeatures:
    """Features of each transaction against its own card's past.

    Windows (t-w, t] include the transaction; its past is the rows of its card in (t-30 days, t) and earlier in order,
    and without any, what compares with it is missing.

    Args:
        cards: codes 0..m-1, int64[n].
        ids: of any sortable type; they order rows of one card in the same microsecond.
        known: when each row first becomes known as a fraud, NEVER for the others.
        start: rows before it get no features.
        keep_from: rows before it are left out of the result.
        label_delay: in microseconds.
        past: False leaves the features against the card's past out, and `unexplained` is false everywhere.
    """
    order = time_order(cards, times, ids)
    cards, times, cents, known = cards[order], times[order], cents[order], known[order]
    names = CARD_WINDOW_FEATURES + (CARD_PAST_FEATURES if past else ())
    features = {name: np.full(len(order), np.nan) for name in names}
    unexplained, to_median = np.zeros(len(order), dtype=np.bool_), np.full(len(order), np.nan)
    for block in blocks(cards, times):
        line = Timeline(cards[block], times[block])
        wanted = np.flatnonzero(line.times >= start)
        firsts = {days: line.after(wanted, days * DAY) for days in WINDOW_DAYS}
        values = _card_windows(cents[block], wanted, firsts)
        if past:
            # Wanted rows count the large amounts of their look-back, and terminals judge every fraud.
            fraud = known[block] != NEVER
            judged = np.flatnonzero((line.times > start - LOOK_BACK) | fraud)
            card_past = _CardPast(line, cents[block], judged)
            values |= _against_past(card_past, wanted, firsts[30])
            values |= _large_amounts(card_past, wanted, firsts)
            unexplained[block] = card_past.unexplained(known[block], label_delay)
            to_median[block] = np.where(fraud, ratio(cents[block], card_past.median), np.nan)
        fill(features, block.start + wanted, values)
    keep = times >= keep_from
    kept = keep_rows(order, features, keep)
    return CardFeatures(kept.positions, kept.features, unexplained[keep], to_median[keep])


def _card_windows(cents: Ints, wanted: Ints, firsts: dict[int, Ints]) -> dict[str, Floats]:
    spent = running_sums(cents)
    values = {}
    for days, first in firsts.items():
        count = wanted + 1 - first
        values[f"card_count_{days}d"] = count.astype(np.float64)
        values[f"card_mean_amount_{days}d"] = (spent[wanted + 1] - spent[first]) / count / 100.0
    return values


class _CardPast:
    """The rows of a block of cards, with the median of the past of `judged` ones and whether they were large for it."""

    def __init__(self, line: Timeline, cents: Ints, judged: Ints) -> None:
        self.line = line
        self.cents = cents
        self.amounts = RangeQuantiles(line, cents)
        self.median = np.full(len(cents), -1)
        """-1 where there is no past."""
        self.median[judged] = self.amounts.quantile(line.after(judged, LOOK_BACK), judged, 1, 2)
        self.large = (self.median >= 0) & (2 * cents > 5 * self.median)

    def unexplained(self, known: Ints, label_delay: int) -> Bools:
        """The frauds that say something about the terminal, as their card was not spending unusually around them.

        A fraud is explained by its card where its own amount, or at least two of the card's from 7 days before it until
        it is judged, were above 2.5 times the median of the card's past. It is judged with hindsight: when it first
        becomes known, but not later than the label delay after it. A fraud without any past is not explained.
        """
        rows = np.flatnonzero((known != NEVER) & ~self.large)
        first = self.line.after(rows, 7 * DAY)
        end = self.line.later_than(rows, np.minimum(known[rows], self.line.times[rows] + label_delay))
        second_largest = self.amounts.smallest(first, end, end - first - 2)
        unexplained = np.zeros(len(known), dtype=np.bool_)
        unexplained[rows] = 2 * second_largest <= 5 * self.median[rows]
        unexplained[rows] |= self.median[rows] < 0
        return unexplained


def _against_past(card: _CardPast, wanted: Ints, first: Ints) -> dict[str, Floats]:
    own, times = card.cents[wanted], card.line.times
    spent = running_sums(card.cents)
    count = wanted - first
    since_last = np.where(count > 0, times[wanted] - times[wanted - 1], -1)
    return {
        "amount_to_past_mean": ratio(own, (spent[wanted] - spent[first]) / or_nan(count)),
        "amount_z": _z_of_logs(card.cents, wanted, first),
        "amount_to_past_median": ratio(own, card.median[wanted]),
        "amount_to_past_p90": ratio(own, card.amounts.quantile(first, wanted, 9, 10)),
        "amount_to_past_max": ratio(own, card.amounts.quantile(first, wanted, 1, 1)),
        "card_hours_since_last": np.where(since_last >= 0, since_last, np.nan) / HOUR,
    }


def _large_amounts(card: _CardPast, wanted: Ints, firsts: dict[int, Ints]) -> dict[str, Floats]:
    count, spent = running_sums(card.large), running_sums(np.where(card.large, card.cents, 0))
    values = {
        f"card_large_count_{days}d": (count[wanted + 1] - count[first]).astype(np.float64)
        for days, first in firsts.items()
    }
    values["card_large_sum_30d"] = ratio(spent[wanted + 1] - spent[firsts[30]], card.median[wanted])
    return values


def _z_of_logs(cents: Ints, rows: Ints, first: Ints) -> Floats:
    """How many standard deviations the logarithm of an amount lies above those of its past.

    The bits of a float64 read as an integer are its base-2 logarithm with linear interpolation; the upper ones give it
    in steps of 1/256, so that squares and sums are exact integers.
    """
    logs = (cents + 1).astype(np.float64).view(np.int64) >> 44
    logs -= 1023 << 8
    count = rows - first
    total = running_sums(logs)
    squares = running_sums(logs * logs)
    total, squares = total[rows] - total[first], squares[rows] - squares[first]
    spread = np.sqrt((count * squares - total * total).astype(np.float64))
    return (count * logs[rows] - total) / or_nan(spread)
