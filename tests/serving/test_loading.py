"""Rows of the store are read in a process of their own."""

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.runs.request import Request
from fraud_detection.serving import history
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine


def _killed(_request: Request) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_reader_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a machine without memory is reported as a defect of the program."""
    killed: Callable[[Request], None] = _killed
    monkeypatch.setattr(history, "read_history", killed)
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    request = Request(Settings(), "c.yaml", "in", "out", "sqlite:///out/mlflow.db", None, Engine.SAIL, moment)
    with pytest.raises(ServiceUnavailableError, match="was killed"):
        history.load_history(request)
