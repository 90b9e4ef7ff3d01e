"""When the champion in service needs a person's attention; nothing replaces it for that."""

from datetime import datetime, timedelta

import pandas as pd

from fraud_detection.evaluation import amount_floor
from fraud_detection.registry import Champion
from fraud_detection.schema import LookRecord
from fraud_detection.settings import Settings


def age_alarm(champion: Champion | None, as_of: datetime, settings: Settings) -> str | None:
    """That the champion was trained too long ago, or None."""
    days = settings.promotion.champion_max_age_days
    if champion is None or as_of - champion.training.end <= timedelta(days=days):
        return None
    return (
        f"champion v{champion.version} was trained on transactions up to {champion.training.end:%Y-%m-%d}, more than"
        f" {days} days ago (promotion.champion_max_age_days), and no candidate has replaced it since"
    )


def floor_alarm(look: LookRecord, rows: pd.DataFrame, settings: Settings) -> str | None:
    """That the champion is below the floor that a first champion has to exceed, on the hold-out of a look, or None."""
    if look.champion is None:
        return None
    floor = amount_floor(rows["fraud"].to_numpy(), rows["amount"].to_numpy(), settings.comparison)
    found = look.champion.average_precision
    if found >= floor.average_precision:
        return None
    return (
        f"champion v{look.champion_version} has an average precision of {found:.3f} on the hold-out from"
        f" {look.holdout.start:%Y-%m-%d} to {look.holdout.end:%Y-%m-%d}, below the floor"
        f" {floor.average_precision:.3f} of a first champion ({floor.origin})"
    )
