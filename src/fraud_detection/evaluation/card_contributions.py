"""How much each card contributes to the difference of two scores' average precision (AP).

The contribution of a row to one score's AP is the uncentred influence of that row. With P frauds, and for each fraud i
precision p_i and N_i rows at or above its score s_i:

    influence_j = (y_j · p_j + Σ over frauds i with s_i ≤ s_j of (y_j − p_i) / N_i) / P

It sums to AP over all rows, and a card's influence is, to first order, what AP loses without the card. Equal scores are
one step, as in `average_precision`: precision and rows are those of the whole step, and a step counts as at or below
itself. A card contributes the sum over its rows of influence(challenger) − influence(champion).

References:
    Hampel, The influence curve and its role in robust estimation (1974).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

_DENSE = 16  # so many times more numbers than rows are counted faster than sorted
_LOW = 0xFFFF  # 16 bits


@dataclass(frozen=True)
class CardContributions:
    """What each card contributes to a difference of AP; the cards are sorted by contribution, then by frauds."""

    contribution: Floats
    """Shape (cards,); sums to the difference."""
    frauds: Floats
    """Frauds of each card."""

    @cached_property
    def difference(self) -> float:
        """AP(challenger) − AP(champion). Exactly rounded, so the order of the cards does not matter."""
        return math.fsum(self.contribution)

    @cached_property
    def total_frauds(self) -> int:
        return int(self.frauds.sum())

    @cached_property
    def fraud_cards(self) -> int:
        """Cards with at least one fraud."""
        return int(np.count_nonzero(self.frauds))


def card_contributions(
    fraud: ArrayLike, champion_score: ArrayLike, challenger_score: ArrayLike, card: ArrayLike | None
) -> CardContributions | None:
    """The contribution of each card to AP(challenger) − AP(champion); None without frauds.

    The result does not depend on the order of the rows nor on the names of the cards, and swapped scores give the exact
    negative (in the opposite order).

    Args:
        fraud: 0 or 1, shape (rows,).
        champion_score: finite, larger = more suspicious; only the ranking matters.
        challenger_score: likewise, for the same rows.
        card: the card of each row; None where the data has no cards, then every transaction is its own.
    """
    labels = np.asarray(fraud) == 1
    if not labels.any():
        return None
    codes, count = card_codes(card, len(labels))
    champion, challenger = (
        _Influence.of(labels, score).by_card(codes, count) for score in (champion_score, challenger_score)
    )
    contribution = challenger - champion
    frauds = np.bincount(codes, weights=labels, minlength=count)
    order = np.lexsort((frauds, contribution))
    return CardContributions(contribution[order], frauds[order])


def average_precision_influence(fraud: ArrayLike, score: ArrayLike) -> Floats:
    """The uncentred influence of each row on AP, shape (rows,); sums to AP.

    Args:
        fraud: 0 or 1, at least one of them 1.
        score: finite, larger = more suspicious.
    """
    found = _Influence.of(np.asarray(fraud) == 1, score)
    return np.asarray(found.values[found.place], np.float64)


@dataclass(frozen=True)
class _Influence:
    """The influence of each row on AP. Only a fraud's step changes it, so few values belong to many rows."""

    values: Floats
    place: Codes
    """Of each row, in `values`."""

    @classmethod
    def of(cls, labels: NDArray[np.bool_], score: ArrayLike) -> "_Influence":
        """See `average_precision_influence`."""
        rank, count = score_ranks(score)
        all_frauds = np.bincount(rank[labels], minlength=count)
        all_rows = np.cumsum(np.bincount(rank, minlength=count)[::-1])[::-1]  # at or above each score
        steps = all_frauds > 0  # from here on only those with frauds, from the lowest up
        frauds, rows = all_frauds[steps].astype(np.float64), all_rows[steps]
        precision = np.cumsum(frauds[::-1])[::-1] / rows
        # Sums over the frauds of this step and of all below it.
        weight = np.cumsum(frauds / rows)
        penalty = np.cumsum(frauds * precision / rows)
        genuine = np.concatenate([[0.0], -penalty])  # by the number of steps at or below the row
        values = np.concatenate([genuine, precision + weight - penalty]) / labels.sum()
        return cls(values, np.cumsum(steps)[rank] + len(penalty) * labels)

    def by_card(self, codes: Codes, count: int) -> Floats:
        """As `sum_by_card`, to the last bit; but the rows are sorted by small integers."""
        places = np.empty(len(self.values), np.intp)
        places[np.argsort(self.values)] = np.arange(len(self.values))
        order = stable_order(places[self.place], len(places))
        order = order[stable_order(codes[order], count)]
        return np.asarray(np.bincount(codes[order], weights=self.values[self.place[order]], minlength=count))


def score_ranks(score: ArrayLike) -> tuple[Codes, int]:
    """The place of each row's score among the sorted distinct scores, and how many those are.

    Ranks rank as the scores do. Whoever ranks the same scores several times ranks them once: what is a rank already is
    not sorted again.
    """
    scores = np.asarray(score)
    if not np.issubdtype(scores.dtype, np.signedinteger):
        scores = scores.astype(np.float64)
    return distinct_places(scores)


def card_codes(card: ArrayLike | None, rows: int) -> tuple[Codes, int]:
    """The place of each row's card among the sorted distinct cards, and how many cards there are.

    A row whose card is unknown (null) is a card of its own, after the known ones: it is resampled by itself.
    """
    if card is None:
        return np.arange(rows), rows
    cards = np.asarray(card)
    unknown = unknown_cards(cards)
    if not unknown.any():
        codes, count = distinct_places(cards)
        return codes.reshape(rows), count
    codes = np.empty(rows, np.intp)
    codes[~unknown], known = distinct_places(np.asarray(cards[~unknown].tolist()))
    codes[unknown] = known + np.arange(np.count_nonzero(unknown))
    return codes, known + int(np.count_nonzero(unknown))


def unknown_cards(card: ArrayLike) -> NDArray[np.bool_]:
    """Which cards are null: None, NaN or pandas' NA."""
    cards = np.asarray(card)
    if cards.dtype.kind not in "fO":
        return np.zeros(cards.shape, np.bool_)
    import pandas as pd  # late: commands that only show decisions need none

    return np.asarray(pd.isna(cards))


def investigated(card: ArrayLike | None) -> NDArray[np.bool_] | None:
    """The rows of known cards, which investigators can look up; None where there are no others, or no known card."""
    if card is None:
        return None
    known = ~unknown_cards(card)
    return None if known.all() or not known.any() else known


def distinct_places(values: NDArray[Any]) -> tuple[Codes, int]:
    """The place of each value among the sorted distinct values, and how many those are."""
    if np.issubdtype(values.dtype, np.signedinteger) and len(values) and values.min() >= 0:
        highest = int(values.max())
        if highest < _DENSE * len(values):
            used = np.bincount(values, minlength=highest + 1) > 0
            return (np.cumsum(used) - 1)[values], int(np.count_nonzero(used))
    distinct, places = np.unique(values, return_inverse=True)
    return places, len(distinct)


def stable_order(places: Codes, count: int) -> Codes:
    """The order that sorts places below `count` and keeps equal ones as they are.

    By radix, 16 bits at a time, which is several times as fast as sorting floats.
    """
    order = np.argsort((places & _LOW).astype(np.uint16), kind="stable")
    if count <= _LOW + 1:
        return order
    return order[np.argsort((places[order] >> 16).astype(np.uint16), kind="stable")]  # no hold-out has 2**32 rows


def sum_by_card(value: Floats, codes: Codes, count: int) -> Floats:
    """The sum of the values of each card's rows; to the last bit the same in any order of the rows."""
    if np.array_equal(value, np.rint(value)):  # exact in any order
        return np.asarray(np.bincount(codes, weights=value, minlength=count), np.float64)
    order = np.argsort(value)
    order = order[stable_order(codes[order], count)]
    return np.asarray(np.bincount(codes[order], weights=value[order], minlength=count), np.float64)
