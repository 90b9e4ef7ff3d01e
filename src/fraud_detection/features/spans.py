"""From when on the features of rows since a moment read rows: as far as any of them looks back."""

from datetime import datetime, timedelta

from fraud_detection.settings import Settings
from fraud_detection.time_windows import LOOK_BACK_DAYS


def terminal_from(settings: Settings, start: datetime) -> datetime:
    """From when on the terminal features of rows since `start` read rows, and the labels of these."""
    if settings.data.columns.terminal_id is None:
        return start
    return start - timedelta(days=settings.windows.label_delay_days) - timedelta(days=LOOK_BACK_DAYS)


def read_from(settings: Settings, start: datetime) -> datetime:
    """From when on all features of rows since `start` read rows."""
    since, look_back = terminal_from(settings, start), timedelta(days=LOOK_BACK_DAYS)
    if settings.data.columns.customer_id is None:
        return since
    # An earlier amount was large, or a fraud explained, by what the card had done before: its past once more.
    return min(since, start - look_back) - look_back


def label_delay(settings: Settings) -> int:
    """When labels are known that do not say it, in microseconds after their transactions.

    No label is known before its transaction is over, and no window of labels reaches to the row itself.
    """
    return max(timedelta(days=settings.windows.label_delay_days) // timedelta(microseconds=1), 1)
