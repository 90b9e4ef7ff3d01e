"""Whether labels that an earlier run knew are known no more.

Labels arrive and are corrected, but a table that loses them turns frauds into genuine rows. The most that any run
with sound data knew of each matured day is kept, so that a slow loss adds up instead of passing a little at a time.
"""

from datetime import date, datetime

import numpy as np

from fraud_detection.data_health.counts import DailyCounts, Ints
from fraud_detection.data_health.finding import Finding
from fraud_detection.promotion.checks import measure_against
from fraud_detection.schema import KnownLabels
from fraud_detection.settings import DataHealth

MOST_LOST_ANYWAY = 5
"""So many lost labels always pass: single corrections are no loss of a table."""


def known_labels(model_name: str, counts: DailyCounts, as_of: datetime, earlier: KnownLabels | None) -> KnownLabels:
    """The most that this run or an earlier one knew of each day.

    Args:
        model_name: of the settings.
        counts: of the days that a run may still use.
        as_of: of the run.
        earlier: None to begin anew.
    """
    frauds, labels = _by_day(counts)
    if earlier is not None:
        frauds, labels = _most(frauds, earlier.frauds), _most(labels, earlier.labels)
    return KnownLabels(model_name=model_name, as_of=as_of, frauds=frauds, labels=labels)


def check_known_labels(earlier: KnownLabels | None, counts: DailyCounts, settings: DataHealth) -> tuple[Finding, ...]:
    """Count what an earlier run knew of the same days and this one does not."""
    if earlier is None:
        return ()
    frauds, labels = _by_day(counts)
    return (
        *_check("known_frauds_kept", earlier.frauds, frauds, earlier, settings),
        *_check("known_labels_kept", earlier.labels, labels, earlier, settings),
    )


def _check(
    name: str, before: dict[date, int], now: dict[date, int], earlier: KnownLabels, settings: DataHealth
) -> tuple[Finding, ...]:
    days = sorted(set(before) & set(now))
    total = sum(before[day] for day in days)
    if not total:
        return ()
    lost = {day: before[day] - now[day] for day in days if now[day] < before[day]}
    limit = max(settings.lost_label_share * total, MOST_LOST_ANYWAY)
    what = "frauds" if name == "known_frauds_kept" else "labels"
    text = (
        f"{sum(lost.values()):,} of {total:,} {what} that were known at {earlier.as_of:%Y-%m-%d %H:%M} are missing now;"
        f" up to {limit:,.0f} pass: has the label table lost rows?"
    )
    return (Finding(measure_against(name, sum(lost.values()), limit), min(lost or days), max(lost or days), text),)


def _most(now: dict[date, int], before: dict[date, int]) -> dict[date, int]:
    return {day: max(count, before.get(day, 0)) for day, count in now.items()}


def _by_day(counts: DailyCounts) -> tuple[dict[date, int], dict[date, int]]:
    days = counts.days.astype("datetime64[D]").tolist()
    return dict(zip(days, _ints(counts.frauds), strict=True)), dict(
        zip(days, _ints(counts.transactions - counts.unlabelled), strict=True)
    )


def _ints(values: Ints) -> list[int]:
    return [int(value) for value in np.asarray(values)]
