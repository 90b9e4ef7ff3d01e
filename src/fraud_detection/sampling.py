"""Which rows train the challenger, and on which rows both models are compared.

The engine selects the rows that a run may need and the driver labels them, leaves out known cards, and samples; both
apply the predicates `within` and `kept_in_sample`. On the driver, tables are pandas with naive times in UTC. Spans are
half open. What is known when says `labels`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.evaluation import new_cards
from fraud_detection.features import with_features
from fraud_detection.labels import HISTORY, UNKNOWN, WAS_FRAUD, Ints, Labels, ever_fraud, microseconds
from fraud_detection.schema import Span
from fraud_detection.settings import Settings
from fraud_detection.time_windows import RunWindows
from fraud_detection.transactions.profile import Profile
from fraud_detection.transactions.reader import Transactions

DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class TrainingData:
    """The Features rows of a run on the driver: the training sample and the whole hold-out."""

    training: pd.DataFrame
    training_weights: NDArray[np.float64] | None
    training_span: Span
    """Counts are of all rows of the window, also where only a sample was collected."""
    holdout: pd.DataFrame
    holdout_span: Span
    new_card: NDArray[np.bool_] | None
    """For each hold-out row whether its card is new; None where the data has no card ids."""


def collect_training_data(transactions: Transactions, windows: RunWindows, settings: Settings) -> TrainingData:
    """Compute features and bring a training sample and the whole hold-out to the driver, split by time."""
    profile = transactions.profile
    rate = _sample_rate(profile, windows, settings)
    features = _collect(transactions, windows, settings, rate)
    chosen, weights = sample(training_rows(features, windows, settings), rate)
    holdout = holdout_rows(features, features[ever_fraud(features)], windows, settings)
    return TrainingData(
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


def within(time: Any, start: Any, end: Any) -> Any:  # noqa: ANN401  (a column of Spark, or of pandas)
    """Whether times lie in [start, end)."""
    return (time >= start) & (time < end)


def kept_in_sample(fraud: Any, sample_hash: Any, rate: float) -> Any:  # noqa: ANN401  (likewise)
    """Whether rows belong to the training sample: every fraud, and the genuine rows with a hash below the rate."""
    return fraud | (sample_hash < rate)


def training_rows(features: pd.DataFrame, windows: RunWindows, settings: Settings) -> pd.DataFrame:
    """Rows of [training_start, training_end), labelled with what was known when the hold-out began.

    A row whose label was not known then is presumed genuine (`data.unlabelled_is_genuine`) or left out.

    Returns:
        The columns of `features`, `fraud` as int8 without nulls, sorted by transaction_id, index 0..n-1.
    """
    span = _rows_of(features, windows.training_start, windows.training_end)
    return _labelled(span, windows.holdout_start, settings).reset_index(drop=True)


def holdout_rows(
    features: pd.DataFrame, recent_frauds: pd.DataFrame, windows: RunWindows, settings: Settings
) -> pd.DataFrame:
    """Rows of [holdout_start, holdout_end), labelled as known at the as-of time, without known compromised cards.

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
    span = _rows_of(features, windows.holdout_start, windows.holdout_end)
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


def sample_rate(genuine: int, frauds: int, max_training_rows: int) -> float:
    """The share p of genuine rows to keep so that all frauds and they are about `max_training_rows` together.

    Every fraud is kept. Should frauds alone fill more than half of the sample, genuine rows still get the other half's
    worth on top of them: a model cannot be taught frauds alone.
    """
    wanted = max(max_training_rows - frauds, max_training_rows // 2)
    return min(1.0, wanted / genuine) if genuine else 1.0


def sample(rows: pd.DataFrame, rate: float) -> tuple[pd.DataFrame, NDArray[np.float64] | None]:
    """Keep every fraud, and the genuine rows whose `sample_hash` is below `rate`.

    Args:
        rows: training rows with `fraud` (0 or 1) and `sample_hash` in [0, 1).
        rate: as given by `sample_rate`. Rows may have been sampled at this rate already: nothing more is lost then.

    Returns:
        The kept rows, and a weight for each: 1/rate for genuine rows, so that sums over the sample estimate sums over
        all rows and probabilities stay calibrated. No weights (None) where everything was kept.
    """
    if rate >= 1.0:
        return rows, None
    fraud = rows["fraud"].to_numpy() == 1
    kept = kept_in_sample(fraud, rows["sample_hash"].to_numpy(), rate)
    return rows[kept], np.where(fraud[kept], 1.0, 1.0 / rate)


def hours_between(profile: Profile, start: datetime, end: datetime) -> NDArray[np.bool_]:
    """Which of the profile's hours lie in [start, end); both on whole hours."""
    chosen: NDArray[np.bool_] = (profile.hours >= _hour(start)) & (profile.hours < _hour(end))
    return chosen


def _sample_rate(profile: Profile, windows: RunWindows, settings: Settings) -> float:
    """Windows begin and end on whole hours, so the sampling rate follows from the counts by hour."""
    hours = hours_between(profile, windows.training_start, windows.training_end)
    frauds = int(profile.frauds_by_hour[hours].sum())
    genuine = int(profile.transactions_by_hour[hours].sum()) - frauds
    return sample_rate(genuine, frauds, settings.training.max_training_rows)


def _training_transactions(profile: Profile, windows: RunWindows, settings: Settings) -> int:
    hours = hours_between(profile, windows.training_start, windows.training_end)
    transactions = int(profile.transactions_by_hour[hours].sum())
    if settings.data.unlabelled_is_genuine:
        return transactions
    return transactions - int(profile.unlabelled_by_hour[hours].sum())


def _collect(transactions: Transactions, windows: RunWindows, settings: Settings, rate: float) -> pd.DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    # Frauds before the hold-out show which cards are known as compromised.
    known_cards_from = windows.holdout_start - timedelta(days=settings.windows.known_card_window_days)
    start = min(windows.training_start, known_cards_from)
    time, frauds = F.col("transaction_time"), F.col("fraud") == 1
    if HISTORY in transactions.table.columns:  # as `ever_fraud` says
        frauds |= F.coalesce(F.col(HISTORY).contains(WAS_FRAUD), F.lit(False))
    holdout = within(time, F.lit(windows.holdout_start), F.lit(windows.holdout_end))
    sampled = (time < F.lit(windows.training_end)) & kept_in_sample(frauds, F.col("sample_hash"), rate)
    wanted = frauds | holdout | sampled
    features = with_features(transactions.table, settings, start, windows.holdout_end)
    return features.where(wanted).toPandas()


def _new_cards(
    transactions: Transactions, holdout: pd.DataFrame, windows: RunWindows, settings: Settings
) -> NDArray[np.bool_] | None:
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


def _labelled(rows: pd.DataFrame, at: datetime, settings: Settings) -> pd.DataFrame:
    label = Labels.of_frame(rows, _delay(settings)).at(int(microseconds(_naive(at))))
    if not settings.data.unlabelled_is_genuine:
        rows, label = rows[label != UNKNOWN], label[label != UNKNOWN]
    return rows.assign(fraud=(label == 1).astype(np.int8)).sort_values("transaction_id", kind="stable")


@dataclass(frozen=True)
class _KnownCards:
    """Cards with a fraud, and from when until when each fraud is known."""

    cards: NDArray[Any]
    known: Ints
    until: Ints | None

    @classmethod
    def of(cls, frauds: pd.DataFrame, windows: RunWindows, settings: Settings) -> "_KnownCards":
        oldest = _naive(windows.holdout_start) - pd.Timedelta(days=settings.windows.known_card_window_days)
        recent = frauds[(frauds["transaction_time"] >= oldest) & frauds["customer_id"].notna()]
        return cls(recent["customer_id"].to_numpy(), *Labels.of_frame(recent, _delay(settings)).fraud_spans())

    def at(self, moment: pd.Timestamp) -> NDArray[Any]:
        """The cards that are known as compromised at a moment."""
        now = int(microseconds(moment))
        known = self.known <= now
        if self.until is not None:
            known &= now < self.until
        cards: NDArray[Any] = self.cards[known.any(axis=0)]
        return cards


def _rows_of(rows: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    wanted: pd.Series[bool] = within(rows["transaction_time"], _naive(start), _naive(end))
    return rows[wanted]


def _delay(settings: Settings) -> timedelta:
    return timedelta(days=settings.windows.label_delay_days)


def _naive(moment: datetime) -> pd.Timestamp:
    return pd.Timestamp(moment.astimezone(UTC).replace(tzinfo=None))


def _hour(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "h")
