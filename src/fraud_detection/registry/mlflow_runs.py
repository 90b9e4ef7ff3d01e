"""How the runs of one model are found in MLflow, and what they get later."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fraud_detection.registry.context import Context

MODEL_TAG = "fraud_detection.model"
AS_OF_TAG = "fraud_detection.as_of"
_WEEK_SECONDS = 604_800


def search_runs(context: Context, condition: str) -> list[Any]:
    """Every run of the model that meets a condition, in MLflow's language of filters."""
    found: list[Any] = []
    token = None
    while True:
        page = context.connection.client.search_runs(
            [context.connection.experiment_id],
            f"tags.`{MODEL_TAG}` = '{context.name}' and {condition}",
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def log_service(context: Context, version: int, values: Mapping[str, float], at: datetime) -> None:
    """Add what a version was worth until a time to the metrics of the run that registered it; repeated, to no effect.

    The step is the number of the week since 1970, so that MLflow draws a line of weeks.
    """
    from mlflow.entities import Metric

    client = context.connection.client
    run_id = client.get_model_version(context.name, str(version)).run_id
    milliseconds, step = int(at.timestamp() * 1000), int(at.timestamp() // _WEEK_SECONDS)
    metrics = [Metric(f"service_{name}", value, milliseconds, step) for name, value in values.items()]
    client.log_batch(run_id, metrics=metrics, synchronous=True)


def utc(moment: datetime) -> str:
    """A time as tags hold it."""
    return moment.astimezone(UTC).isoformat()
