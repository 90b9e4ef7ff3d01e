"""On which rows a candidate is compared with the champion.

The engine's workers score the rows where they lie; what the driver needs to compare comes to it: ids, times, amounts,
cards, labels and scores. On the driver tables are pandas with naive times in UTC, and spans are half open.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.evaluation import new_cards
from fraud_detection.features import features_between
from fraud_detection.labels import Ints, Labels, microseconds
from fraud_detection.model.scoring import with_scores
from fraud_detection.promotion.sequential import HoldoutCounts
from fraud_detection.sampling import DAY, collect_frauds, compared_columns, labelled, naive, to_pandas, within
from fraud_detection.settings import Settings

if TYPE_CHECKING:
    from fraud_detection.transactions.reader import Transactions

_LEAST_BLOCKED = 20


@dataclass(frozen=True)
class HoldoutSpan:
    """Which rows compare a candidate at an as-of time: those of [start, end), labelled as known then."""

    start: datetime
    end: datetime
    as_of: datetime
    training_end: datetime
    """Of the candidate, which was trained on earlier rows."""
    label_cutoff: datetime
    """Of the candidate, which used the labels known by then."""


def collect_scored(
    transactions: "Transactions",
    start: datetime,
    end: datetime,
    models: Mapping[str, bytes],
    settings: Settings,
    missing: Sequence[str] = (),
    sample: float = 0.0,
) -> pd.DataFrame:
    """All rows of [start, end) with the scores of each model, under the model's name; see `model.scoring`."""
    features = features_between(transactions, settings, start, end)
    keep = [*compared_columns(features.columns), *settings.comparison.slices]
    return to_pandas(with_scores(features, models, keep, missing, sample))


def collect_first_seen(transactions: "Transactions", since: datetime, end: datetime) -> "pd.Series[Any]":
    """The first transaction before `end` of each card that has none before `since`, by card."""
    first = transactions.first_seen(since, end).set_index("customer_id")["first_seen"]
    return first.astype("datetime64[us]").astype("datetime64[ns]")


class EverFrauds:
    """The rows of a run that ever were frauds; planning and comparison share them."""

    def __init__(self, transactions: "Transactions", settings: Settings, until: datetime | None = None) -> None:
        """`until`: bring those up to then at once, since a run needs the ones that have not matured, too."""
        self._transactions, self._until = transactions, until
        self._window = timedelta(days=settings.windows.known_card_window_days)
        self._found: tuple[datetime, datetime, pd.DataFrame] | None = None

    def covering(self, spans: Iterable[HoldoutSpan]) -> pd.DataFrame:
        """Those that `holdout_rows` needs for these hold-outs, or more."""
        chosen = tuple(spans)
        start = min(min(span.start, span.training_end) for span in chosen) - self._window
        end = max(span.end for span in chosen)
        end = end if self._until is None else max(end, self._until)
        if self._found is None or not self._found[0] <= start <= end <= self._found[1]:
            self._found = (start, end, collect_frauds(self._transactions, start, end))
        return self._found[2]


def holdout_rows(rows: pd.DataFrame, frauds: pd.DataFrame, span: HoldoutSpan, settings: Settings) -> pd.DataFrame:
    """The rows of a hold-out, labelled as known at the as-of time, without known compromised cards.

    A card that is already known as compromised is blocked, not scored. So of each day of the hold-out (a 24-hour block
    d from its start) those cards are left out that had a fraud since `start - known_card_window_days` which was known
    when d began. With the label delay alone this is the rule of the Fraud Detection Handbook (5.3): frauds on the days
    [start - window, d - delay - 1].

    Until its label cut-off a candidate knows more than a system of that day could: labels that its training used. So
    of earlier rows also the cards are left out that had such a fraud in the last `known_card_window_days` of training.

    Args:
        rows: that cover at least the hold-out: all of them, or only the frauds, to count.
        frauds: the rows that ever were frauds (`labels.ever_fraud`) since `known_card_window_days` before the hold-out
            and before the end of training, or more. Not read where `rows` has no customer_id: then no card is known.
        span: which rows.
        settings: of the run.

    Returns:
        The columns of `rows`, `fraud` as int8 without nulls, and `day` (int16, 0 for the first block), sorted by
        transaction_id, index 0..n-1.
    """
    own = labelled(rows[within(rows["transaction_time"], naive(span.start), naive(span.end))], span.as_of, settings)
    return without_known_cards(own, frauds, span, settings)


def without_known_cards(
    rows: pd.DataFrame, frauds: pd.DataFrame, span: HoldoutSpan, settings: Settings
) -> pd.DataFrame:
    """As `holdout_rows`, of rows of the hold-out whatever their labels are; these are not read."""
    rows = rows.assign(day=((rows["transaction_time"] - naive(span.start)) // DAY).astype(np.int16))
    if "customer_id" in rows:
        rows = rows[~_blocked(rows, frauds, span, settings)]
    return rows.reset_index(drop=True)


def count_frauds(holdout: pd.DataFrame) -> HoldoutCounts:
    """The frauds of a hold-out, and their cards; without card ids every transaction counts as a card."""
    frauds = holdout[holdout["fraud"] == 1]
    if "customer_id" not in frauds:
        return HoldoutCounts(len(frauds), len(frauds))
    cards = frauds["customer_id"]
    return HoldoutCounts(len(frauds), int(cards.nunique() + cards.isna().sum()))


def blocked_scores_text(rows: pd.DataFrame, score: str) -> str | None:
    """Which of the champion's scores the evidence lacks; None where few payments were blocked, or none is known to be.

    Args:
        rows: see `collect_scored`.
        score: the column of the champion's scores.
    """
    if "blocked" not in rows or score not in rows:
        return None
    blocked = (rows["blocked"] == 1).to_numpy()
    lacking = blocked & rows["fraud"].isna().to_numpy()
    if lacking.sum() < _LEAST_BLOCKED or blocked.all():
        return None
    scores = rows[score].to_numpy(np.float64)
    low, high = np.quantile(scores[lacking], (0.1, 0.9))
    reach = float(np.mean(scores[~blocked] >= low))
    return (
        f"of {lacking.sum():,} blocked payments without a label the champion scores the middle 80 % {low:.3f} to"
        f" {high:.3f}; {reach:.2%} of the payments that went through score as high: there the evidence is thin"
    )


def are_new_cards(
    holdout: pd.DataFrame, first_seen: "pd.Series[Any]", data_start: datetime, days: int
) -> NDArray[np.bool_]:
    """For each row whether its card is new; see `evaluation.new_cards`.

    Args:
        holdout: with customer_id.
        first_seen: see `collect_first_seen`, from `days` before the hold-out on.
        data_start: the first transaction of the data.
        days: how long a card is new.
    """
    begin = np.datetime64(data_start.astimezone(UTC).replace(tzinfo=None), "us")
    return new_cards(
        holdout["transaction_time"].to_numpy("datetime64[us]"),
        holdout["customer_id"].map(first_seen).fillna(pd.Timestamp(begin)).to_numpy("datetime64[us]"),
        begin,
        days,
    )


def _blocked(rows: pd.DataFrame, frauds: pd.DataFrame, span: HoldoutSpan, settings: Settings) -> NDArray[np.bool_]:
    """Which rows are of cards that are known as compromised."""
    start, window = naive(span.start), pd.Timedelta(timedelta(days=settings.windows.known_card_window_days))
    recent = _FraudCards.of(frauds[frauds["transaction_time"] >= start - window], settings)
    training_end, cutoff = naive(span.training_end), naive(span.label_cutoff)
    trained = _FraudCards.of(frauds[within(frauds["transaction_time"], training_end - window, training_end)], settings)
    # Few cards ever had a fraud: no other row is held against what was known on each day.
    suspect = np.flatnonzero(rows["customer_id"].isin(np.concatenate([recent.cards, trained.cards])))
    day, card = rows["day"].to_numpy()[suspect], rows["customer_id"].iloc[suspect]
    known = np.zeros(len(suspect), dtype=np.bool_)
    for number in np.unique(day):
        today = day == number
        known[today] = card[today].isin(recent.known_at(start + int(number) * DAY))
    early = (rows["transaction_time"].iloc[suspect] < cutoff).to_numpy()
    known[early] |= card[early].isin(trained.known_at(cutoff)).to_numpy()
    blocked = np.zeros(len(rows), dtype=np.bool_)
    blocked[suspect[known]] = True
    return blocked


@dataclass(frozen=True)
class _FraudCards:
    """Cards with a fraud, and from when until when each fraud is known."""

    cards: NDArray[Any]
    known: Ints
    until: Ints | None

    @classmethod
    def of(cls, frauds: pd.DataFrame, settings: Settings) -> "_FraudCards":
        own = frauds[frauds["customer_id"].notna()]
        delay = timedelta(days=settings.windows.label_delay_days)
        return cls(own["customer_id"].to_numpy(), *Labels.of_frame(own, delay).fraud_spans())

    def known_at(self, moment: pd.Timestamp) -> NDArray[Any]:
        """The cards that are known as compromised at a moment."""
        now = int(microseconds(moment))
        known = self.known <= now
        if self.until is not None:
            known &= now < self.until
        cards: NDArray[Any] = self.cards[known.any(axis=0)]
        return cards
