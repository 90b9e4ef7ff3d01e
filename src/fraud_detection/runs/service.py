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
"""Read by one run, so that a first one after a long time stays short; the next runs go on."""


def measure_service(
    known: ServiceWeeks,
    store: ScoreStore,
    scored: ScoreManifest,
    transactions: Transactions,
    as_of: datetime,
    settings: Settings,
    trained_until: Callable[[int], datetime | None],
) -> tuple[tuple[ServiceWeek, ...], datetime | None]:
    """Measure the weeks that have matured since the last time; nothing is read where there is none.

    Args:
        known: the weeks that are measured already.
        store: the scores.
        scored: the newest manifest.
        transactions: of the run.
        as_of: of the run.
        settings: of the run.
        trained_until: the end of a version's training: what it was trained on says nothing of its worth. None where
            that is not known: nothing of the version is measured then.

    Returns:
        the weeks, and the end of the last one that was looked at, now or before; see `ServiceWeeks.until`.

    Raises:
        FraudDetectionError: a file of the scores is lost or damaged.
    """
    days = [day.day for day in scored.days if day.files]
    until = known.looked_until
    if not days:
        return (), until
    matured = as_of - timedelta(days=settings.windows.maturity_days)
    found: list[ServiceWeek] = []
    read = 0
    for start, end in due_weeks(known, days[0], matured):
        if any(start.date() <= day < end.date() for day in days):
            if read == _MOST_WEEKS:
                break
            read += 1
            rows = _rows(store, scored, transactions, start, end, as_of, settings)
            found += measure_service_week(start, end, _later(rows, trained_until), settings.alerts)
        until = end
    return tuple(found), until


def _later(rows: pd.DataFrame, trained_until: Callable[[int], datetime | None]) -> pd.DataFrame:
    """The rows that the version which scored them was not trained on."""
    for version in rows[VERSION].unique():
        own, end = rows[VERSION] == version, trained_until(int(version))
        rows = rows[~own] if end is None else rows[~(own & (rows["transaction_time"] < naive(end)))]
    return rows


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
