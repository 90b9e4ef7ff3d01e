"""What the versions that served were worth, from their stored scores and the labels that have matured since.

What the champion may be worth on transactions whose labels have not matured is estimated.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from fraud_detection.holdout import HoldoutSpan, holdout_rows, without_known_cards
from fraud_detection.labels import Labels, microseconds
from fraud_detection.monitoring.estimates import (
    Floats,
    expected_average_precision,
    provisional_average_precision,
    share_known,
)
from fraud_detection.monitoring.service_quality import ALERT, SCORE, VERSION, measure_service_week
from fraud_detection.monitoring.service_weeks import ServiceEstimate, ServiceWeek, ServiceWeeks, due_weeks
from fraud_detection.sampling import collect_frauds, compared_columns, naive, to_pandas
from fraud_detection.scores import ScoreManifest, ScoreStore
from fraud_detection.settings import Settings
from fraud_detection.transactions.profile import Profile
from fraud_detection.transactions.reader import Transactions

_ID = "transaction_id"
_ALMOST_A_DAY = timedelta(days=1) - timedelta(microseconds=1)
_DELAYS_SEEN = timedelta(days=56)
"""Before the matured time: the delays of the frauds of these days are those that are expected."""
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


def estimate_service(
    known: ServiceWeeks,
    store: ScoreStore,
    scored: ScoreManifest,
    transactions: Transactions,
    as_of: datetime,
    settings: Settings,
    version: int,
) -> ServiceEstimate | None:
    """Estimate what the champion is worth on the days whose labels have not matured, once a day that is over.

    Args:
        known: with the last estimate.
        store: the scores.
        scored: the newest manifest.
        transactions: of the run.
        as_of: of the run.
        settings: of the run.
        version: of the champion.

    Returns:
        None where nothing is new: nothing is read then.

    Raises:
        FraudDetectionError: a file of the scores is lost or damaged.
    """
    end = _midnight(as_of)
    start = _midnight(end - timedelta(days=settings.windows.maturity_days) + _ALMOST_A_DAY)
    last = known.estimate
    if last is not None and (last.end, last.version) == (end, version):
        return None
    scores = _scores(store, scored, start, end)
    if scores is None:
        return None
    own = scores[scores[VERSION] == version]
    if own.empty:  # it has just come into service; kept, so that no later batch of the day reads the scores again
        return ServiceEstimate(
            start=start, end=end, version=version, transactions=0, expected=None, provisional=None, known_frauds=0
        )
    window = timedelta(days=settings.windows.known_card_window_days)
    frauds = collect_frauds(transactions, start - window, end)
    if "customer_id" in frauds:
        frauds = frauds.assign(customer_id=frauds["customer_id"].astype("string"))
    # As of the end of the day, not of the hour: the batch that repeats a killed one finds the same.
    span = HoldoutSpan(start=start, end=end, as_of=end, training_end=start, label_cutoff=start)
    rows = without_known_cards(own.reset_index(drop=True), frauds, span, settings)
    labels = Labels.of_frame(frauds, timedelta(days=settings.windows.label_delay_days))
    fraud_ids = frauds[_ID].astype("string")[labels.at(int(microseconds(naive(end)))) == 1]
    known_fraud = rows[_ID].isin(fraud_ids).to_numpy()
    probability = rows[SCORE].to_numpy(np.float64)
    age_hours = (microseconds(naive(end)) - microseconds(rows["transaction_time"])) / 3.6e9
    share = _share_known(transactions.profile, age_hours, end, settings)
    return ServiceEstimate(
        start=start,
        end=end,
        version=version,
        transactions=len(rows),
        expected=_number(expected_average_precision(probability)),
        provisional=_number(provisional_average_precision(known_fraud, probability, share)),
        known_frauds=int(known_fraud.sum()),
    )


def _share_known(profile: Profile, age_hours: Floats, end: datetime, settings: Settings) -> Floats:
    """The share of the frauds of each age that is known, by the delays of those that have matured lately."""
    delays = profile.delays_by_hour
    matured = end - timedelta(days=settings.windows.maturity_days)
    first, last = (np.datetime64(naive(moment), "h") for moment in (matured - _DELAYS_SEEN, matured))
    recent = (first <= delays.hours) & (delays.hours < last)
    if not recent.any():  # no label says when it became known: none of them is taken as known early
        return np.zeros(len(age_hours))
    return share_known(age_hours, delays.delay_hours[recent], delays.frauds[recent])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


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
    scores = _scores(store, scored, start, end, [_ID, SCORE, ALERT, VERSION])
    assert scores is not None  # noqa: S101 - a day of the week has some
    table = transactions.between(start, end)
    rows = to_pandas(table.select(*compared_columns(table.columns)))
    window = timedelta(days=settings.windows.known_card_window_days)
    frauds = collect_frauds(transactions, start - window, end)
    # No candidate is compared here, so no label of a training is to be known before its time.
    span = HoldoutSpan(start=start, end=end, as_of=as_of, training_end=start, label_cutoff=start)
    held = holdout_rows(rows, frauds, span, settings)
    return held.assign(**{_ID: held[_ID].astype("string")}).merge(scores, on=_ID)


def _scores(
    store: ScoreStore, scored: ScoreManifest, start: datetime, end: datetime, columns: list[str] | None = None
) -> pd.DataFrame | None:
    """The scores of the days of [start, end), with naive times; None where there are none."""
    own = (day.day for day in scored.days if start.date() <= day.day < end.date())
    tables = [table for day in own if (table := store.rows(scored, day, columns)) is not None]
    if not tables:
        return None
    found: pd.DataFrame = pa.concat_tables(tables, promote_options="default").to_pandas()
    if "transaction_time" in found:
        found["transaction_time"] = found["transaction_time"].dt.tz_localize(None)
    texts: pd.DataFrame = found.astype({name: "string" for name in (_ID, "customer_id") if name in found})
    return texts
