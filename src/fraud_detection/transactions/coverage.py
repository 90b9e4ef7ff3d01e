"""How much of the evidence is there: which rows a run has read, and which of them have a label."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from fraud_detection import settings
from fraud_detection.schema import DataCounts
from fraud_detection.transactions.profile import Profile

_Z = 1.959964  # of 95 %, two-sided
_SHOWN_SHARE = 0.01
"""A smaller share of missing labels, as of frauds that are known late, is not worth a word."""
_DAY = timedelta(days=1)
_HOURS_OF_A_DATE = 2
"""Midnights of a time zone with summer time are two hours of the day in UTC."""


def data_counts(profile: Profile, start: datetime, matured: datetime, as_of: datetime) -> DataCounts:
    """Count the rows read, and the transactions of [start, matured) and of the day before `as_of`; on whole hours."""
    chosen, last_day = profile.hours_between(start, matured), profile.hours_between(as_of - _DAY, as_of)
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
        matured_blocked=int(profile.flags.blocked[chosen].sum()),
        matured_blocked_unlabelled=int(profile.flags.blocked_unlabelled[chosen].sum()),
        matured_control=int(profile.flags.control[chosen].sum()),
        matured_control_frauds=int(profile.flags.control_frauds[chosen].sum()),
        matured_control_unlabelled=int(profile.flags.control_unlabelled[chosen].sum()),
        last_day=int(profile.transactions_by_hour[last_day].sum()),
        age_hours=round((as_of - profile.newest) / timedelta(hours=1), 3),
        label_delay_days=None if profile.label_delay is None else round(profile.label_delay / _DAY, 3),
    )


def coverage_text(counts: DataCounts, data: settings.Data) -> tuple[str, ...]:
    """What is missing, or was changed, in short."""
    found = (
        (counts.rejected_rows, f"{counts.rejected_rows:,} rows quarantined"),
        (counts.refunds, f"{counts.refunds:,} refunds {_REFUNDS[data.refunds]}"),
        (counts.unknown_cards, f"{counts.unknown_cards:,} without a card"),
        (counts.unknown_terminals, f"{counts.unknown_terminals:,} without a terminal"),
        (counts.matured_blocked_unlabelled, f"{counts.matured_blocked_unlabelled:,} blocked without a label"),
        (counts.unlabelled_share >= _SHOWN_SHARE, _labels_text(counts)),
    )
    return tuple(text for some, text in found if some)


def coverage_warnings(counts: DataCounts, profile: Profile, data: settings.Data) -> tuple[str, ...]:
    """What the owner of the data should know of the rows that a run has, and has not."""
    of_settings = (check(counts, data) for check in (_refunds, _unlabelled, _blocked))
    found = (_equal_rows(counts), *of_settings, _dates(profile))
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
    unlabelled = counts.matured_unlabelled - counts.matured_blocked_unlabelled
    found = f"{unlabelled:,} of {counts.matured:,} matured transactions ({counts.unlabelled_share:.1%})"
    consequence = (
        "they count as genuine (data.unlabelled_is_genuine: true); where a missing label only means that nobody looked,"
        " set it to false"
        if data.unlabelled_is_genuine
        else "they are left out (data.unlabelled_is_genuine: false)"
    )
    return f"{found} have no label, above data.max_unlabelled_share {data.max_unlabelled_share:.1%}: {consequence}"


@dataclass(frozen=True)
class BlockedFrauds:
    """What the control group says about the blocked payments without a label."""

    control: int
    control_frauds: int
    low: float
    """Of the share of frauds, at 95 %."""
    high: float
    blocked: int

    @property
    def share(self) -> float:
        return self.control_frauds / self.control

    @property
    def missing(self) -> float:
        """Frauds among the blocked payments, as expected."""
        return self.share * self.blocked


def blocked_frauds(counts: DataCounts, data: settings.Data) -> BlockedFrauds | None:
    """Estimate how many frauds were blocked; None without blocked payments or a control group.

    The interval is that of Wilson (Probable inference, 1927).
    """
    left_out = 0 if data.unlabelled_is_genuine else counts.matured_control_unlabelled
    control, frauds = counts.matured_control - left_out, counts.matured_control_frauds
    if control <= 0 or not counts.matured_blocked_unlabelled:
        return None
    share, z = frauds / control, _Z
    centre = (share + z * z / (2 * control)) / (1 + z * z / control)
    half = z / (1 + z * z / control) * math.sqrt(share * (1 - share) / control + z * z / (4 * control * control))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return BlockedFrauds(control, frauds, low, high, counts.matured_blocked_unlabelled)


def control_group_size(share: float, half_width: float) -> int:
    """How many alerts a control group needs so that the share of frauds in it is known within ± `half_width` at 95 %.

    n = z² p (1 − p) / d² (Cochran, Sampling techniques, 1977, 4.4).
    """
    return math.ceil(_Z * _Z * share * (1 - share) / half_width**2 - 1e-9)


def _blocked(counts: DataCounts, data: settings.Data) -> str | None:
    blocked = counts.matured_blocked_unlabelled
    if not blocked:
        return None
    found = (
        f"{blocked:,} of {counts.matured:,} matured transactions ({blocked / counts.matured:.2%}) were blocked and have"
        " no label; training and comparison go without them"
    )
    estimate = blocked_frauds(counts, data)
    if estimate is None:
        needed = control_group_size(0.5, 0.05)
        return (
            f"{found}, and no control group says how many were frauds: {needed} alerts that are let through at random"
            " (data.columns.control_group) tell it within 5 points"
        )
    return (
        f"{found}. In the control group {estimate.control_frauds:,} of {estimate.control:,} alerts were frauds"
        f" ({estimate.share:.0%}; 95 %: {estimate.low:.0%} to {estimate.high:.0%}): about {estimate.missing:,.0f}"
        f" frauds ({estimate.low * blocked:,.0f} to {estimate.high * blocked:,.0f}) are missing, beside"
        f" {counts.matured_frauds:,} that are known"
    )


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
