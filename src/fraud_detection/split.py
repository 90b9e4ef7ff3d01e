"""The split by time: which rows train the challenger, and on which rows both models are compared.

Pure pandas on driver tables of Features. Times are naive and in UTC, as in those tables; spans are half open.

What is known when says `fraud_detection.labels`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.labels import UNKNOWN, Ints, Labels, microseconds
from fraud_detection.settings import Settings
from fraud_detection.time_windows import RunWindows

DAY = pd.Timedelta(days=1)


def training_rows(features: pd.DataFrame, windows: RunWindows, settings: Settings) -> pd.DataFrame:
    """Rows of [training_start, training_end), labelled with what was known when the hold-out began.

    A row whose label was not known then is presumed genuine (`data.unlabelled_is_genuine`) or left out.

    Returns:
        The columns of `features`, `fraud` as int8 without nulls, sorted by transaction_id, index 0..n-1.
    """
    span = _span(features, windows.training_start, windows.training_end)
    return _labelled(span, windows.holdout_start, settings).reset_index(drop=True)


def holdout_rows(
    features: pd.DataFrame, recent_frauds: pd.DataFrame, windows: RunWindows, settings: Settings
) -> pd.DataFrame:
    """Rows of [holdout_start, holdout_end), labelled with what is known at T, without cards known as compromised.

    A card that is already known as compromised is blocked, not scored. So of each day of the hold-out (a 24-hour block
    d from its start) those cards are left out that had a fraud since `holdout_start - known_card_window_days` which was
    known when d began. With the label delay alone this is the rule of the Fraud Detection Handbook (5.3): frauds on the
    days [start - window, d - delay - 1].

    Args:
        features: Features that cover at least the hold-out.
        recent_frauds: the rows that ever were frauds (`labels.ever_fraud`) since `holdout_start -
            known_card_window_days`, or more, with the columns customer_id, transaction_time, fraud and, where the data
            has them, label_available_at and label_history. Not read, and may be empty, where `features` has no
            customer_id: then no card is known.

    Returns:
        The columns of `features`, `fraud` as int8 without nulls, and `day` (int16, 0 for the first block), sorted by
        transaction_id, index 0..n-1.
    """
    span = _span(features, windows.holdout_start, windows.holdout_end)
    rows = _labelled(span, windows.as_of, settings)
    start = _naive(windows.holdout_start)
    rows = rows.assign(day=((rows["transaction_time"] - start) // DAY).astype(np.int16))
    if "customer_id" in rows:
        known = _KnownCards.of(recent_frauds, windows, settings)
        blocked = np.zeros(len(rows), dtype=np.bool_)
        for day in range(settings.windows.holdout_days):
            blocked |= (rows["day"] == day) & rows["customer_id"].isin(known.at(start + day * DAY))
        rows = rows[~blocked]
    return rows.reset_index(drop=True)


def _labelled(rows: pd.DataFrame, at: datetime, settings: Settings) -> pd.DataFrame:
    label = Labels.of_frame(rows, _delay(settings)).at(int(microseconds(_naive(at))))
    if not settings.data.unlabelled_is_genuine:
        rows, label = rows[label != UNKNOWN], label[label != UNKNOWN]
    return rows.assign(fraud=(label == 1).astype(np.int8)).sort_values("transaction_id", kind="stable")


@dataclass(frozen=True)
class _KnownCards:
    """Cards with a fraud, and from when until when each fraud is known."""

    cards: "NDArray[Any]"
    known: Ints
    until: Ints | None

    @classmethod
    def of(cls, frauds: pd.DataFrame, windows: RunWindows, settings: Settings) -> "_KnownCards":
        oldest = _naive(windows.holdout_start) - pd.Timedelta(days=settings.windows.known_card_window_days)
        recent = frauds[(frauds["transaction_time"] >= oldest) & frauds["customer_id"].notna()]
        return cls(recent["customer_id"].to_numpy(), *Labels.of_frame(recent, _delay(settings)).fraud_spans())

    def at(self, moment: pd.Timestamp) -> "NDArray[Any]":
        """The cards that are known as compromised at a moment."""
        now = int(microseconds(moment))
        known = self.known <= now
        if self.until is not None:
            known &= now < self.until
        cards: NDArray[Any] = self.cards[known.any(axis=0)]
        return cards


def _span(rows: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    time = rows["transaction_time"]
    return rows[(time >= _naive(start)) & (time < _naive(end))]


def _delay(settings: Settings) -> timedelta:
    return timedelta(days=settings.windows.label_delay_days)


def _naive(moment: datetime) -> pd.Timestamp:
    return pd.Timestamp(moment.astimezone(UTC).replace(tzinfo=None))
