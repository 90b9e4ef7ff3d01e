"""From the input to what the driver needs: checked data, its windows, a training sample and the whole hold-out."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fraud_detection import labels, split
from fraud_detection.evaluation import new_cards
from fraud_detection.features import with_features
from fraud_detection.model import fit as training
from fraud_detection.schema import Span
from fraud_detection.settings import Settings
from fraud_detection.time_windows import RunWindows
from fraud_detection.transactions import Profile, Transactions

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Features rows on the driver."""

    training: pd.DataFrame
    training_weights: "NDArray[np.float64] | None"
    training_span: Span
    """Counts are of all rows of the window, also where only a sample was collected."""
    holdout: pd.DataFrame
    holdout_span: Span
    new_card: "NDArray[np.bool_] | None"
    """For each hold-out row whether its card is new; None where the data has no card ids."""


def collect_rows(transactions: Transactions, windows: RunWindows, settings: Settings) -> Rows:
    """Compute features and bring a training sample and the whole hold-out to the driver, split by time."""
    profile = transactions.profile
    rate = _sample_rate(profile, windows, settings)
    features = _collect(transactions, windows, settings, rate)
    chosen, weights = training.sample(split.training_rows(features, windows, settings), rate)
    holdout = split.holdout_rows(features, features[labels.ever_fraud(features)], windows, settings)
    return Rows(
        training=chosen,
        training_weights=weights,
        training_span=Span(
            start=windows.training_start,
            end=windows.training_end,
            transactions=len(chosen) if weights is None else _training_transactions(profile, windows, settings),
            frauds=int(chosen["fraud"].sum()),
        ),
        holdout=holdout,
        holdout_span=Span(
            start=windows.holdout_start,
            end=windows.holdout_end,
            transactions=len(holdout),
            frauds=int(holdout["fraud"].sum()),
        ),
        new_card=_new_cards(transactions, holdout, windows, settings),
    )


def hours_between(profile: Profile, start: datetime, end: datetime) -> "NDArray[np.bool_]":
    """Which of the profile's hours lie in [start, end); both on whole hours."""
    chosen: NDArray[np.bool_] = (profile.hours >= _hour(start)) & (profile.hours < _hour(end))
    return chosen


def _sample_rate(profile: Profile, windows: RunWindows, settings: Settings) -> float:
    """Windows begin and end on whole hours, so the counts by hour tell beforehand how much to sample."""
    hours = hours_between(profile, windows.training_start, windows.training_end)
    frauds = int(profile.frauds_by_hour[hours].sum())
    genuine = int(profile.transactions_by_hour[hours].sum()) - frauds
    return training.sample_rate(genuine, frauds, settings.training.max_training_rows)


def _training_transactions(profile: Profile, windows: RunWindows, settings: Settings) -> int:
    hours = hours_between(profile, windows.training_start, windows.training_end)
    transactions = int(profile.transactions_by_hour[hours].sum())
    if settings.data.unlabelled_is_genuine:
        return transactions
    return transactions - int(profile.unlabelled_by_hour[hours].sum())


def _collect(transactions: Transactions, windows: RunWindows, settings: Settings, rate: float) -> pd.DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    # Frauds before the hold-out tell which cards are known as compromised.
    known_cards_from = windows.holdout_start - timedelta(days=settings.windows.known_card_window_days)
    start = min(windows.training_start, known_cards_from)
    time = F.col("transaction_time")
    sampled = (time < F.lit(windows.training_end)) & (F.col("sample_hash") < rate)
    frauds = F.col("fraud") == 1
    if labels.HISTORY in transactions.table.columns:
        frauds |= F.coalesce(F.col(labels.HISTORY).contains(labels.WAS_FRAUD), F.lit(False))
    wanted = frauds | (time >= F.lit(windows.holdout_start)) | sampled
    features = with_features(transactions.table, settings, start, windows.holdout_end)
    return features.where(wanted).toPandas()


def _new_cards(
    transactions: Transactions, holdout: pd.DataFrame, windows: RunWindows, settings: Settings
) -> "NDArray[np.bool_] | None":
    if "customer_id" not in holdout:
        return None
    from pyspark.sql import functions as F  # noqa: N812

    days = settings.comparison.new_card_days
    recent = windows.holdout_start - timedelta(days=days)
    cards = transactions.table.where(F.col("transaction_time") < F.lit(windows.holdout_end)).groupBy("customer_id")
    first = cards.agg(F.min("transaction_time").alias("first_seen")).where(F.col("first_seen") >= F.lit(recent))
    first_seen = first.toPandas().set_index("customer_id")["first_seen"]
    data_start = np.datetime64(transactions.profile.first.astimezone(UTC).replace(tzinfo=None), "us")
    return new_cards(
        holdout["transaction_time"].to_numpy("datetime64[us]"),
        holdout["customer_id"].map(first_seen).fillna(pd.Timestamp(data_start)).to_numpy("datetime64[us]"),
        data_start,
        days,
    )


def _hour(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "h")
