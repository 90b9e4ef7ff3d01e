"""What versions were worth on the transactions that they scored, measured with matured labels.

The rows are those of a hold-out: known compromised cards are left out, since their transactions are blocked.
"""

import math
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from fraud_detection.evaluation import Holdout, estimate_average_precision, measure_alerts
from fraud_detection.monitoring.service_weeks import ServiceWeek
from fraud_detection.settings import Alerts

if TYPE_CHECKING:
    import pandas as pd

VERSION, SCORE, ALERT = "model_version", "probability", "alert"
"""Columns of the scores that the rows have beside those of a hold-out."""


def measure_service_week(
    start: datetime, end: datetime, rows: "pd.DataFrame", alerts: Alerts
) -> tuple[ServiceWeek, ...]:
    """What each version was worth in a week.

    Args:
        start: of the week.
        end: of the week.
        rows: see `holdout.holdout_rows`, with model_version, probability and alert of each row.
        alerts: the costs.
    """
    versions = rows.groupby(VERSION, sort=True)
    return tuple(_measured(start, end, int(str(version)), own, alerts) for version, own in versions)


def _measured(start: datetime, end: datetime, version: int, rows: "pd.DataFrame", alerts: Alerts) -> ServiceWeek:
    fraud, score = rows["fraud"].to_numpy(), rows[SCORE].to_numpy(np.float64)
    card = rows["customer_id"].to_numpy() if "customer_id" in rows else None
    figures = None
    if rows[ALERT].notna().all():
        alerting = rows[ALERT].to_numpy(dtype=bool)
        # The version's own threshold, as far as these scores can tell it.
        threshold = float(score[alerting].min()) if alerting.any() else math.inf
        holdout = Holdout(day=rows["day"].to_numpy(), fraud=fraud, amount=rows["amount"].to_numpy(), card=card)
        figures = measure_alerts(holdout, score, threshold, start, end, alerts)
    return ServiceWeek(
        start=start,
        end=end,
        version=version,
        transactions=len(rows),
        frauds=int(fraud.sum()),
        average_precision=estimate_average_precision(fraud, score, card),
        alerts=figures,
    )
