"""One split of the data, both sides with their features: what a first champion is trained and tested on."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.evaluation import Holdout
from fraud_detection.features import with_features
from fraud_detection.holdout import EverFrauds, HoldoutSpan, are_new_cards, collect_first_seen, holdout_rows
from fraud_detection.promotion import Evidence
from fraud_detection.runs.first_champion import first_holdout
from fraud_detection.sampling import TrainingSample, collect_training_sample
from fraud_detection.schema import Span
from fraud_detection.settings import Settings
from fraud_detection.time_windows import candidate_spans, first_champion_cutoff
from fraud_detection.transactions.reader import Transactions


@dataclass(frozen=True)
class Split:
    """Training rows and hold-out."""

    training: TrainingSample
    holdout: pd.DataFrame
    """Features rows, see `holdout.holdout_rows`."""
    holdout_span: Span
    new_card: NDArray[np.bool_] | None
    """None where the data has no cards."""

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.training.span, self.holdout_span)

    def as_holdout(self) -> Holdout:
        """As metrics take it."""
        rows: dict[str, Any] = {name: self.holdout[name].to_numpy() for name in ("day", "fraud", "amount")}
        card = self.holdout["customer_id"].to_numpy() if "customer_id" in self.holdout else None
        return Holdout(**rows, card=card, new_card=self.new_card)


def collect_split(transactions: Transactions, as_of: datetime, settings: Settings) -> Split:
    """The rows of a first champion at an as-of time."""
    spans = candidate_spans(first_champion_cutoff(as_of, settings.windows), settings.windows)
    span = first_holdout(spans, as_of, settings)
    features = with_features(transactions.table, settings, span.start, span.end).toPandas()
    rows = holdout_rows(features, EverFrauds(transactions, settings).covering((span,)), span, settings)
    counted = Span(start=span.start, end=span.end, transactions=len(rows), frauds=int(rows["fraud"].sum()))
    training = collect_training_sample(transactions, spans, settings)
    return Split(training, rows, counted, _new_cards(transactions, rows, span, settings))


def _new_cards(
    transactions: Transactions, rows: pd.DataFrame, span: HoldoutSpan, settings: Settings
) -> NDArray[np.bool_] | None:
    if "customer_id" not in rows:
        return None
    days = settings.comparison.new_card_days
    first_seen = collect_first_seen(transactions, span.start - timedelta(days=days), span.end)
    return are_new_cards(rows, first_seen, transactions.profile.first, days)
