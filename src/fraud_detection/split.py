"""The split by time: which rows train the challenger, and on which rows both models are compared.

Pure pandas on driver tables of Features. Times are naive and in UTC, as in those tables; spans are half open.

One rule says when a label is known: at `label_available_at` where that is given, otherwise `label_delay_days` after the
transaction. A row without a fraud value is never known.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from fraud_detection.settings import Settings
from fraud_detection.windows import RunWindows

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
        recent_frauds: the frauds of the data since `holdout_start - known_card_window_days`, or more, with the columns
            customer_id, transaction_time and, where the data has it, label_available_at. Not read, and may be empty,
            where `features` has no customer_id: then no card is known.

    Returns:
        The columns of `features`, `fraud` as int8 without nulls, and `day` (int16, 0 for the first block), sorted by
        transaction_id, index 0..n-1.
    """
    span = _span(features, windows.holdout_start, windows.holdout_end)
    rows = _labelled(span, windows.as_of, settings)
    start = _naive(windows.holdout_start)
    rows = rows.assign(day=((rows["transaction_time"] - start) // DAY).astype(np.int16))
    if "customer_id" in rows:
        day_began = start + rows["day"] * DAY
        known_since = rows["customer_id"].map(_card_known_since(recent_frauds, windows, settings))
        rows = rows[~(pd.to_datetime(known_since) <= day_began)]
    return rows.reset_index(drop=True)


def _labelled(rows: pd.DataFrame, at: datetime, settings: Settings) -> pd.DataFrame:
    known = _known(rows, at, _delay(settings))
    if not settings.data.unlabelled_is_genuine:
        rows, known = rows[known], known[known]
    fraud = (known & (rows["fraud"] == 1)).astype(np.int8)
    return rows.assign(fraud=fraud).sort_values("transaction_id", kind="stable")


def _known(rows: pd.DataFrame, at: datetime, delay: timedelta) -> "pd.Series[bool]":
    """Whether each row's label is known at `at`."""
    return rows["fraud"].notna() & (_known_time(rows, delay) <= _naive(at))


def _known_time(rows: pd.DataFrame, delay: timedelta) -> "pd.Series[Any]":
    presumed = rows["transaction_time"] + pd.Timedelta(delay)
    return rows["label_available_at"].fillna(presumed) if "label_available_at" in rows else presumed


def _card_known_since(frauds: pd.DataFrame, windows: RunWindows, settings: Settings) -> "pd.Series[Any]":
    """The moment from which each card is known as compromised, by customer_id."""
    oldest = _naive(windows.holdout_start) - pd.Timedelta(days=settings.windows.known_card_window_days)
    recent = frauds[(frauds["transaction_time"] >= oldest) & frauds["customer_id"].notna()]
    return _known_time(recent, _delay(settings)).groupby(recent["customer_id"]).min()


def _span(rows: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    time = rows["transaction_time"]
    return rows[(time >= _naive(start)) & (time < _naive(end))]


def _delay(settings: Settings) -> timedelta:
    return timedelta(days=settings.windows.label_delay_days)


def _naive(moment: datetime) -> pd.Timestamp:
    return pd.Timestamp(moment.astimezone(UTC).replace(tzinfo=None))
