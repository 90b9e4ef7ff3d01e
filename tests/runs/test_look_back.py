"""A history that is too short for the features of cards and terminals is pointed out."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fraud_detection.runs.proposal import look_back_warnings
from fraud_detection.settings import Columns, Windows
from fraud_detection.time_windows import run_windows
from fraud_detection.transactions.profile import Profile

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)


def _warnings(days: float, **columns: Any) -> tuple[str, ...]:
    """Of data that begin so many days before the as-of time; the training window ends 14 days before it."""
    first = AS_OF - timedelta(days=days)
    hours = np.arange(np.datetime64(first.replace(tzinfo=None), "h"), np.datetime64(AS_OF.replace(tzinfo=None), "h"))

    def between(start: datetime, end: datetime) -> Any:
        low, high = (np.datetime64(at.replace(tzinfo=None), "h") for at in (start, end))
        return (hours >= low) & (hours < high)

    profile = SimpleNamespace(first=first, transactions_by_hour=np.ones(len(hours), int), hours_between=between)
    return look_back_warnings(cast(Profile, profile), run_windows(AS_OF, Windows()), Columns(**columns))


def test_most_training_rows_without_a_look_back_give_a_warning() -> None:
    """Fails when a model with card features scores below one without them, on 30 days of data, and nobody is told."""
    (found,) = _warnings(54)
    assert found.startswith("75% of the training rows have less than 30 days of data before them")
    assert "with data.columns.customer_id and data.columns.terminal_id set to null" in found
    (found,) = _warnings(20, terminal_id=None)
    assert found.startswith("100% of")
    assert "with data.columns.customer_id set to null" in found


@pytest.mark.parametrize(("days", "columns"), [(84, {}), (150, {}), (20, {"customer_id": None, "terminal_id": None})])
def test_a_look_back_of_most_rows_is_enough(days: int, columns: dict[str, None]) -> None:
    """Fails when each run of a year's data warns of its first month, or data without ids of features they have not."""
    assert _warnings(days, **columns) == ()
