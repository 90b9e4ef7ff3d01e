"""The server of scores: the checkout's own, over the bucket's store and MLflow, with the account of the job."""

import json
import shlex
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from deployment.http import is_up
from fraud_detection.outputs import dashboard_file
from local_stack import mlflow
from local_stack.passwords import passwords
from local_stack.settings import MODEL, ROOT, Stack, StackError

_POLL = 1.0
_EXAMPLE = {"transaction_id": 999_999_999, "amount": 812.5, "customer_id": 5, "terminal_id": 7}
"""A transaction that the simulated bank does not have, of a card and at a terminal that it has."""


def command(stack: Stack) -> list[str]:
    """The server. Folders are named as the jobs see them, so that both use one store."""
    return [
        str(Path(sys.executable).parent / "fraud-detection"),
        "serve",
        *("--config", str(ROOT / stack.training_settings)),
        *("--input", (stack.bucket / "input_data").as_uri()),
        *("--output", (stack.bucket / "output_data").as_uri()),
        *("--store", (stack.bucket / "store").as_uri()),
        *("--journal", str(stack.folder / "serving" / f"{MODEL}.journal")),
        *("--tracking-uri", stack.mlflow_url),
        *("--port", str(stack.ports["SERVING_PORT"])),
    ]


def environment(secret: Mapping[str, str]) -> dict[str, str]:
    """Its credentials."""
    return {"MLFLOW_TRACKING_USERNAME": mlflow.JOB, "MLFLOW_TRACKING_PASSWORD": secret["mlflow_job"]}


def wait_for_champion(stack: Stack) -> None:
    """Wait until a version is in service; the server would end without one. MLflow may be unavailable meanwhile."""
    secret = passwords(stack.passwords)
    while not _has_champion(stack, secret):
        time.sleep(_POLL)


def _has_champion(stack: Stack, secret: Mapping[str, str]) -> bool:
    try:
        return mlflow.champion(stack, secret) is not None
    except StackError:  # MLflow does not answer
        return False


def answers(stack: Stack) -> bool:
    """Whether transactions can be scored."""
    return is_up(f"{stack.serving_url}/ready")


def is_ready(stack: Stack) -> bool:
    """Whether transactions can be scored, or there is no version yet that could score them."""
    return answers(stack) or not _has_champion(stack, passwords(stack.passwords))


def address(stack: Stack) -> str:
    """Where it answers, or why it does not."""
    return stack.serving_url if answers(stack) else f"{stack.serving_url} waits for a champion"


def dashboard(stack: Stack) -> str | None:
    """The address of the dashboard; its file while nothing serves it; None before the first run has made it."""
    page = stack.bucket / "output_data" / dashboard_file(MODEL)
    if not page.is_file():
        return None
    return f"{stack.serving_url}/dashboard" if answers(stack) else stack.shown(page)


def example(stack: Stack, now: datetime) -> str:
    """A command that scores one transaction of this moment."""
    body = json.dumps({**_EXAMPLE, "transaction_time": now.astimezone(UTC).isoformat(timespec="seconds")})
    words = ["curl", "-s", f"{stack.serving_url}/v1/score", "-H", "Content-Type: application/json", "-d", body]
    return shlex.join(words)
