"""The spans of time of one run.

    history_start … training_start ── training_end │ gap │ holdout_start ── holdout_end │ label delay │ as_of

The gap is as long as the label delay. Every span is half open: its start belongs to it, its end does not.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fraud_detection import settings

LOOK_BACK_DAYS = 30
"""Days of a card's or a terminal's past that any feature may read; no window or age is longer."""


@dataclass(frozen=True)
class RunWindows:
    """The spans of a run, all in UTC on whole hours.

    With label delay D and hold-out length W: the hold-out is [as_of-D-W, as_of-D), so that its labels have matured
    at `as_of`; training ends D before the hold-out begins, so that every training label was known by then.
    """

    as_of: datetime
    training_start: datetime
    training_end: datetime
    holdout_start: datetime
    holdout_end: datetime
    history_start: datetime
    """The oldest transaction that a feature of the first training row can depend on."""


def run_windows(as_of: datetime, windows: settings.Windows) -> RunWindows:
    """Lay out the spans of a run at `as_of` (aware; floored to the hour)."""
    as_of = whole_hour(as_of)
    delay = timedelta(days=windows.label_delay_days)
    holdout_start = as_of - delay - timedelta(days=windows.holdout_days)
    training_end = holdout_start - delay
    training_start = training_end - timedelta(days=windows.training_window_days)
    history_start = history_before(training_start, delay)
    return RunWindows(as_of, training_start, training_end, holdout_start, as_of - delay, history_start)


def history_before(training_start: datetime, label_delay: timedelta) -> datetime:
    """The oldest transaction that a feature of a row at `training_start` can depend on."""
    # A terminal reads frauds back to the label delay and one look-back, each judged by its card's own look-back.
    return training_start - label_delay - 2 * timedelta(days=LOOK_BACK_DAYS)


def whole_hour(moment: datetime) -> datetime:
    """The last whole hour not after `moment`, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
