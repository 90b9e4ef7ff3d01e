"""When the settings allow no promotion: days of a change freeze, and the time after a promotion."""

from datetime import UTC, datetime, time, timedelta

from fraud_detection.settings import Promotion


def freeze_reason(last_promotion: datetime | None, at: datetime, settings: Promotion) -> str | None:
    """Why nothing may be promoted at a time, or None.

    Args:
        last_promotion: before that time.
        at: the time.
        settings: with the freezes.
    """
    for freeze in settings.freezes:
        if freeze.first <= at.date() <= freeze.last:
            return f"promotions are frozen from {freeze.first} to {freeze.last} (promotion.freezes): {freeze.reason}"
    hours = settings.hours_between_promotions
    if last_promotion is None or at - last_promotion >= timedelta(hours=hours):
        return None
    return (
        f"the last promotion was at {last_promotion:%Y-%m-%d %H:%M}, and promotion.hours_between_promotions is {hours}:"
        f" the next can be at {last_promotion + timedelta(hours=hours):%Y-%m-%d %H:%M}"
    )


def freeze_end(last_promotion: datetime | None, at: datetime, settings: Promotion) -> datetime | None:
    """Until when what `freeze_reason` names stops promotions, or None."""
    for freeze in settings.freezes:
        if freeze.first <= at.date() <= freeze.last:
            return datetime.combine(freeze.last + timedelta(days=1), time(), UTC)
    if last_promotion is None:
        return None
    end = last_promotion + timedelta(hours=settings.hours_between_promotions)
    return end if at < end else None
