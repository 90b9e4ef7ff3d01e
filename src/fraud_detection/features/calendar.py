"""Features of the time of a transaction alone. Pure numpy."""

import numpy as np

from fraud_detection.features.definitions import DAY, HOUR
from fraud_detection.features.timeline import Floats, Ints


def calendar_features(times: Ints) -> dict[str, Floats]:
    """`night`: hour of the day at most 6; `weekend`: Saturday or Sunday; both in UTC, 0 or 1."""
    hour = times // HOUR % 24
    weekday = (times // DAY + 3) % 7  # 1970-01-01 was a Thursday, and Monday is 0
    return {"night": (hour <= 6).astype(np.float64), "weekend": (weekday >= 5).astype(np.float64)}
