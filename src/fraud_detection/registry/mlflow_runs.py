"""How the runs of one model are found in MLflow."""

from datetime import UTC, datetime
from typing import Any

from fraud_detection.registry.context import Context

MODEL_TAG = "fraud_detection.model"
AS_OF_TAG = "fraud_detection.as_of"


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


def utc(moment: datetime) -> str:
    """A time as tags hold it."""
    return moment.astimezone(UTC).isoformat()
