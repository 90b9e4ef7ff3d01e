"""A server in this process: rows and champions of a test's own, and HTTP on a free port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from json import dumps, loads
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import factories
import numpy as np
import pyarrow as pa
import uvicorn

from fraud_detection.commands import Commands
from fraud_detection.errors import FraudDetectionError
from fraud_detection.features.definitions import feature_columns
from fraud_detection.model.model import Model
from fraud_detection.registry import Champion
from fraud_detection.serving.app import make_app
from fraud_detection.serving.history import History
from fraud_detection.serving.service import Service
from fraud_detection.settings import Settings
from fraud_detection.storage import Storage
from fraud_detection.transactions.forgotten import NO_CARDS, Forgotten

START = datetime(2026, 3, 1, tzinfo=UTC)
_TYPES = {"transaction_id": "bigint", "customer_id": "bigint", "terminal_id": "bigint"}


def champion(version: int, threshold: float | None = 0.0) -> Champion:
    """A version with random trees of its own; from a threshold of 0 everything alerts."""
    import xgboost

    random = np.random.default_rng(version)
    names = list(feature_columns(Settings().data.columns))
    values = random.random((200, len(names)))
    table = xgboost.DMatrix(values, random.integers(0, 2, 200), feature_names=names)
    booster = xgboost.train({"max_depth": 3, "objective": "binary:logistic", "seed": version}, table, 5)
    limit = None if threshold is None else factories.threshold(START, probability=threshold)
    span = factories.span(START, START)
    return Champion(version, "run", Model.from_booster(booster), START, span, threshold=limit, sha256="0" * 64)


def rows(count: int, first: int = 0) -> pa.Table:
    """Transactions of three cards and two terminals, one an hour since `START`; the first of each ten is a fraud."""
    numbers = np.arange(first, first + count)
    micros = int(START.timestamp() * 1e6) + numbers * 3_600_000_000
    return pa.table(
        {
            "transaction_id": pa.array(numbers, pa.int64()),
            "transaction_time": pa.array(micros, pa.int64()).cast(pa.timestamp("us", "UTC")),
            "amount": pa.array(1.0 + numbers % 7, pa.float64()),
            "fraud": pa.array((numbers % 10 == 0).astype(np.int8)),
            "customer_id": pa.array([str(number % 3) for number in numbers]),
            "terminal_id": pa.array([str(number % 2) for number in numbers]),
        }
    )


def raw(number: int) -> dict[str, Any]:
    """A row of `rows` as a request has it."""
    [row] = rows(1, number).to_pylist()
    row["transaction_time"] = row["transaction_time"].isoformat()
    return {name: int(row[name]) if name.endswith("_id") else row[name] for name in row if name != "fraud"}


@dataclass
class Sources:
    """What a server follows; a test changes it."""

    table: pa.Table = field(default_factory=lambda: rows(200))
    number: int = 1
    served: int | None = 1
    broken: bool = False
    threshold: float | None = 0.0
    forgotten: Forgotten = NO_CARDS

    def version(self) -> int | None:
        return self.served

    def champion(self, version: int) -> Champion:
        if self.broken:
            raise FraudDetectionError("the file of the version has another digest")
        return champion(version, self.threshold)

    def manifest(self) -> int:
        return self.number

    def history(self) -> History:
        return History(self.table, _TYPES, START - timedelta(days=100), self.number, self.forgotten)


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    service: Service
    lines: list[str]

    def __call__(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status and the content of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        content = body if body is None or isinstance(body, bytes) else dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, loads(text) if "json" in answer.headers.get("Content-Type", "") else text

    def score(self, number: int, **changes: object) -> tuple[int, Any]:
        return self("POST", "/v1/score", raw(number) | changes)

    def wait(self, event: str, times: int = 1) -> None:
        """Until the server has counted an event."""
        end = monotonic() + 30
        while self.service.metrics.events[event] < times:
            assert monotonic() < end, f"no {event}"
            sleep(0.01)


@contextmanager
def serving(
    sources: Sources, journal: Path, token: str | None = None, output: Storage | None = None
) -> Iterator[Server]:
    """Serve in a thread; the pages of `output` too."""
    lines: list[str] = []
    commands = Commands("conf/retraining.yaml", "out", "sqlite:///out/mlflow.db")
    service = Service(sources, Settings(), commands, journal, lambda step, line: lines.append(f"{step} {line}"))
    app = make_app(service, token, 0.05, Settings().model_name, output)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            sleep(0.01)
        yield Server(server.servers[0].sockets[0].getsockname()[1], service, lines)
    finally:
        server.should_exit = True
        thread.join()
