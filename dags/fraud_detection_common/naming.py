"""Names and labels of a run. They are the same on every try and after the run is cleared, so that the run's cluster and
job can be found again.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta
from typing import Any

PROJECT, RUN, LIFETIME, IDLE = "project", "run", "lifetime-minutes", "idle-minutes"
"""Labels of a cluster: its project, its DAG run, its maximum age, and how long it may be without a job."""


def due_at(dag_run: Any) -> datetime:
    """When the run was due: on Airflow 3 all that a manual run has; on Airflow 2 the end of the data interval."""
    found: datetime = getattr(dag_run, "run_after", None) or dag_run.data_interval_end
    return found.astimezone(UTC)


def as_of(dag_run: Any) -> str:
    """The run's as-of time: a whole hour, in ISO 8601."""
    return due_at(dag_run).replace(minute=0, second=0, microsecond=0).isoformat()


def run_label(dag_run: Any) -> str:
    """A label unique to the run: labels and names allow neither the colons nor the length of a run's id."""
    digest = hashlib.sha256(f"{dag_run.dag_id} {dag_run.run_id}".encode()).hexdigest()
    return f"{due_at(dag_run):%Y%m%dt%H%M%S}-{digest[:6]}"


def minutes_label(duration: timedelta) -> str:
    """The label value of a duration: whole minutes, rounded up."""
    return str(math.ceil(duration / timedelta(minutes=1)))


def duration_of_label(labels: dict[str, str], name: str) -> timedelta | None:
    """The duration in a label of minutes; None if the label is missing or not a number."""
    text = labels.get(name, "")
    return timedelta(minutes=int(text)) if text.isdecimal() else None
