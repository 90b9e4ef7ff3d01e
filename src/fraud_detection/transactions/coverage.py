"""How much of the evidence is there: which rows a run has read, and which of them have a label."""

from datetime import datetime, timedelta

import numpy as np

from fraud_detection import settings
from fraud_detection.schema import DataCounts
from fraud_detection.transactions.profile import Profile

_HOURS_OF_A_DATE = 2
"""Midnights of a time zone with summer time are two hours of the day in UTC."""


def data_counts(profile: Profile, start: datetime, matured: datetime) -> DataCounts:
    """Count the rows read, and the transactions of [start, matured), both on whole hours."""
    chosen = profile.hours_between(start, matured)
    return DataCounts(
        rows=profile.rows,
        rejected_rows=profile.rejected_rows,
        refunds=profile.refunds,
        unknown_cards=profile.unknown_cards,
        unknown_terminals=profile.unknown_terminals,
        matured=int(profile.transactions_by_hour[chosen].sum()),
        matured_frauds=int(profile.frauds_by_hour[chosen].sum()),
        matured_unlabelled=int(profile.unlabelled_by_hour[chosen].sum()),
        equal_rows=profile.equal_rows,
    )


def coverage_text(counts: DataCounts, data: settings.Data) -> tuple[str, ...]:
    """What is missing, or was changed, in short."""
    found = (
        (counts.rejected_rows, f"{counts.rejected_rows:,} rows quarantined"),
        (counts.refunds, f"{counts.refunds:,} refunds {_REFUNDS[data.refunds]}"),
        (counts.unknown_cards, f"{counts.unknown_cards:,} without a card"),
        (counts.unknown_terminals, f"{counts.unknown_terminals:,} without a terminal"),
        (counts.matured_unlabelled, _labels_text(counts)),
    )
    return tuple(text for some, text in found if some)


def coverage_warnings(counts: DataCounts, profile: Profile, data: settings.Data) -> tuple[str, ...]:
    """What the owner of the data should know of the rows that a run has, and has not."""
    found = (_equal_rows(counts), _refunds(counts, data), _unlabelled(counts, data), _dates(profile))
    return tuple(warning for warning in found if warning is not None)


_REFUNDS = {
    settings.Refunds.REJECT: "rejected",
    settings.Refunds.EXCLUDE: "left out",
    settings.Refunds.ABSOLUTE: "as positive amounts",
}


def _labels_text(counts: DataCounts) -> str:
    if counts.only_frauds_labelled:
        return "only frauds are labelled"
    return f"{counts.unlabelled_share:.1%} of the matured transactions without a label"


def _equal_rows(counts: DataCounts) -> str | None:
    if not counts.equal_rows:
        return None
    return (
        f"{counts.equal_rows:,} rows say the same as another one in every mapped column; without a transaction id"
        " (data.columns.transaction_id: null) they count as transactions of their own: if they are copies, remove them"
    )


def _refunds(counts: DataCounts, data: settings.Data) -> str | None:
    if not counts.refunds:
        return None
    return f"{counts.refunds:,} negative amounts are refunds: {_REFUNDS[data.refunds]} (data.refunds: {data.refunds})"


def _unlabelled(counts: DataCounts, data: settings.Data) -> str | None:
    if counts.only_frauds_labelled or counts.unlabelled_share <= data.max_unlabelled_share:
        return None
    found = f"{counts.matured_unlabelled:,} of {counts.matured:,} matured transactions ({counts.unlabelled_share:.1%})"
    consequence = (
        "they count as genuine (data.unlabelled_is_genuine: true); where a missing label only means that nobody looked,"
        " set it to false"
        if data.unlabelled_is_genuine
        else "they are left out (data.unlabelled_is_genuine: false)"
    )
    return f"{found} have no label, above data.max_unlabelled_share {data.max_unlabelled_share:.1%}: {consequence}"


def _dates(profile: Profile) -> str | None:
    if not profile.on_whole_hours or profile.newest - profile.first < timedelta(days=1):
        return None
    filled = profile.hours[profile.transactions_by_hour > 0].astype(np.int64) % 24
    if len(np.unique(filled)) > _HOURS_OF_A_DATE:
        return None
    return (
        "all transaction times are 00:00: the time of day is missing, so night, hours between transactions, the order"
        " of a card's transactions within a day, and label delays below a day mean nothing; if the time is in another"
        " column, join them: data.columns.transaction_time: [DATE, TIME]"
    )
