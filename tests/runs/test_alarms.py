"""A champion that is too old or too weak is reported to people."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from factories import candidate_record, look_record, metrics, span

from fraud_detection.runs.alarms import age_alarm, floor_alarm
from fraud_detection.settings import Settings

T = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def _champion(end: datetime) -> Any:
    return SimpleNamespace(version=3, training=span(end - 84 * DAY, end))


def test_an_old_champion_raises_an_alarm() -> None:
    """Fails when a model serves for a year because nothing better came, and nobody hears of it."""
    settings = Settings()
    assert age_alarm(None, T, settings) is None
    assert age_alarm(_champion(T - 90 * DAY), T, settings) is None
    said = age_alarm(_champion(T - 91 * DAY), T, settings)
    assert said is not None
    assert "champion v3 was trained on transactions up to 2026-01-30, more than 90 days ago" in said
    assert age_alarm(_champion(T - 91 * DAY), T + DAY, settings) == said  # so it is told as one alarm
    longer = Settings.model_validate({"promotion": {"champion_max_age_days": 120}})
    assert age_alarm(_champion(T - 91 * DAY), T, longer) is None


def test_a_champion_below_its_floor_raises_an_alarm() -> None:
    """Fails when the champion finds no more than ranking by amount does, and serves on unnoticed."""
    rows = pd.DataFrame({"fraud": np.tile([1, 0, 0, 0], 25), "amount": np.tile([4.0, 3.0, 2.0, 1.0], 25)})
    rows.loc[:59, "amount"] = 9.0
    settings, key = Settings(), candidate_record(T).key
    floor = floor_alarm(look_record(key, T + DAY, champion=metrics(0.01)), rows, settings)
    assert floor is not None
    assert "champion v1 has an average precision of 0.010" in floor
    assert "below the floor" in floor
    assert floor_alarm(look_record(key, T + DAY, champion=metrics(0.999)), rows, settings) is None
    assert floor_alarm(look_record(key, T + DAY, champion=None, champion_version=None), rows, settings) is None
