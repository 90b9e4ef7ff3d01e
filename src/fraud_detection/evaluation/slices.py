"""Parts of the hold-out in which a challenger must not be worse, even if it is better overall."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_detection.evaluation.metrics import average_precision

Mask = NDArray[np.bool_]

AMOUNT_QUANTILES = (0.25, 0.5, 0.75)
SLICES = {
    "amount_quarter_1": "Smallest quarter of the amounts",
    "amount_quarter_2": "Second quarter of the amounts",
    "amount_quarter_3": "Third quarter of the amounts",
    "amount_quarter_4": "Largest quarter of the amounts",
    "new_cards": "New cards",
}
"""The name of each slice, and what part of the hold-out it is."""


@dataclass(frozen=True)
class SliceMetrics:
    """One part of the hold-out and each model's average precision in it; None without frauds or without that model."""

    name: str
    transactions: int
    frauds: int
    champion: float | None
    challenger: float | None


def slice_masks(amount: ArrayLike, new_card: Mask | None) -> dict[str, Mask]:
    """Which rows belong to each slice, by the slice's name.

    `amount_quarter_1` (the smallest) to `amount_quarter_4`: between the quartiles of the amounts, an amount equal to a
    quartile in the lower one; empty ones (many equal amounts) stay. `new_cards`: see `new_cards`; absent for None.
    """
    amounts = np.asarray(amount, np.float64)
    edges = np.quantile(amounts, AMOUNT_QUANTILES) if len(amounts) else np.zeros(len(AMOUNT_QUANTILES))
    quarter = np.searchsorted(edges, amounts, side="left")
    masks = {f"amount_quarter_{i + 1}": quarter == i for i in range(len(AMOUNT_QUANTILES) + 1)}
    return masks if new_card is None else {**masks, "new_cards": new_card}


def category_masks(categories: Mapping[str, ArrayLike]) -> dict[str, Mask]:
    """Which rows have each value of each categorical column, by `column=value`; missing values are no slice."""
    masks: dict[str, Mask] = {}
    for column, values in categories.items():
        named = np.array([None if value is None or value != value else str(value) for value in np.asarray(values)])
        known = sorted({value for value in named if value is not None})
        masks |= {f"{column}={value}": np.asarray(named == value) for value in known}
    return masks


def new_cards(
    transaction_time: NDArray[np.datetime64],
    first_seen: NDArray[np.datetime64],
    data_start: np.datetime64,
    new_card_days: int,
) -> Mask:
    """Whether each row's card was seen for the first time less than `new_card_days` before the row.

    Where the data does not reach back that far, new and old cards cannot be distinguished, and no row counts as new.

    Args:
        transaction_time: of each row.
        first_seen: the time of the first transaction of the row's card in all data that was read.
        data_start: the time of the first transaction of any card in that data.
        new_card_days: how long a card is new, in days.
    """
    youth = np.timedelta64(new_card_days, "D")
    return (transaction_time - first_seen < youth) & (transaction_time - data_start >= youth)


def measure_slices(
    masks: Mapping[str, Mask], fraud: ArrayLike, champion_score: ArrayLike | None, challenger_score: ArrayLike
) -> tuple[SliceMetrics, ...]:
    """The average precision of both models in each slice."""
    labels, challenger = np.asarray(fraud) == 1, np.asarray(challenger_score)
    champion = None if champion_score is None else np.asarray(champion_score)
    measured = []
    for name, mask in masks.items():
        own = labels[mask]
        both = [
            None if score is None or not own.any() else average_precision(own, score[mask])
            for score in (champion, challenger)
        ]
        measured.append(SliceMetrics(name, len(own), int(own.sum()), *both))
    return tuple(measured)
