"""What the versions that served were worth, from their stored scores and the labels that have matured since."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa

from fraud_detection.holdout import HoldoutSpan, holdout_rows
from fraud_detection.monitoring.service_quality import ALERT, SCORE, VERSION, measure_service_week
from fraud_detection.monitoring.service_weeks import ServiceWeek, ServiceWeeks, due_weeks
from fraud_detection.sampling import collect_frauds, compared_columns, naive, to_pandas
from fraud_detection.scores import ScoreManifest, ScoreStore
from fraud_detection.settings import Settings
from fraud_detection.transactions.reader import Transactions

_ID = "transaction_id"
_MOST_WEEKS = 8
"""Measured by one run, so that a first one after a long time stays short; the next runs go on."""


def measure_service(
    known: ServiceWeeks,
    store: ScoreStore,
    scored: ScoreManifest,
    transactions: Transactions,
    as_of: datetime,
    settings: Settings,
    trained_until: Callable[[int], datetime],
) -> tuple[ServiceWeek, ...]:
    """Measure the weeks that have matured since the last time; nothing is read where there is none.

    Args:
        known: the weeks that are measured already.
        store: the scores.
        scored: the newest manifest.
        transactions: of the run.
        as_of: of the run.
        settings: of the run.
        trained_until: the end of a version's training: what it was trained on says nothing of its worth.

    Raises:
        FraudDetectionError: a file of the scores is lost or damaged.
    """
    days = [day.day for day in scored.days if day.files]
    if not days:
        return ()
    matured = as_of - timedelta(days=settings.windows.maturity_days)
    found: list[ServiceWeek] = []
    for start, end in [*due_weeks(known, days[0], matured)][:_MOST_WEEKS]:
        if not any(start.date() <= day < end.date() for day in days):
            continue  # nothing was scored
        rows = _rows(store, scored, transactions, start, end, as_of, settings)
        for version in rows[VERSION].unique():
            known_to_it = (rows[VERSION] == version) & (rows["transaction_time"] < naive(trained_until(int(version))))
            rows = rows[~known_to_it]
        found += measure_service_week(start, end, rows, settings.alerts)
    return tuple(found)


def _rows(
    store: ScoreStore,
    scored: ScoreManifest,
    transactions: Transactions,
    start: datetime,
    end: datetime,
    as_of: datetime,
    settings: Settings,
) -> pd.DataFrame:
    """The transactions of a week that have a score, labelled as known at the as-of time."""
    columns = [_ID, SCORE, ALERT, VERSION]
    own = (day.day for day in scored.days if start.date() <= day.day < end.date())
    tables = [table for day in own if (table := store.rows(scored, day, columns)) is not None]
    scores = pa.concat_tables(tables, promote_options="default").to_pandas()
    table = transactions.between(start, end)
    rows = to_pandas(table.select(*compared_columns(table.columns)))
    window = timedelta(days=settings.windows.known_card_window_days)
    frauds = collect_frauds(transactions, start - window, end)
    # No candidate is compared here, so no label of a training is to be known before its time.
    span = HoldoutSpan(start=start, end=end, as_of=as_of, training_end=start, label_cutoff=start)
    held = holdout_rows(rows, frauds, span, settings)
    return held.assign(**{_ID: held[_ID].astype("string")}).merge(scores.astype({_ID: "string"}), on=_ID)
