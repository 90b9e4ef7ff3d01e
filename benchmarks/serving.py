"""Serving: equality with the batch, latency under load with a promotion, time of a start, memory.

    python -m benchmarks.serving --check
    python -m benchmarks.serving --check --data handbook_transactions.parquet --output benchmarks/results/serving.md

The rows are those of a small simulated bank, or of a file of the Fraud Detection Handbook. The last ones of them are
served, the others are in a store.

1. The state of features is given the served transactions, one in a hundred of them late by up to two days, and the
   store five times. Each transaction's features are compared, bit for bit, with those that the kernels of the batch
   give for all that had arrived when it was scored, with the labels of the last store.
2. The server, one process with a model of 200 trees and all features, is asked 200 times a second at random moments. A
   latency counts from the moment at which its request was due. Meanwhile another version comes into service.
3. A start counts from the process to the first answer; MLflow is imported, as by the command, but holds no model here.
4. A state of many cards with few rows each says what a card costs.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.revision import revision_of
from fraud_detection.commands import Commands
from fraud_detection.cores import usable_cores
from fraud_detection.features.arrow import codes_of, times_of
from fraud_detection.features.cards import card_features, to_cents
from fraud_detection.features.definitions import DAY, LOOK_BACK, feature_columns
from fraud_detection.features.terminals import KnownFrauds, terminal_features
from fraud_detection.labels import UNKNOWN, Labels
from fraud_detection.model.model import Model
from fraud_detection.registry import Champion
from fraud_detection.runs.request import Request
from fraud_detection.schema import Span, Threshold
from fraud_detection.serving.history import History, begin_loading, load_history, newest_manifest
from fraud_detection.serving.state import Arrival, FeatureState, Mapped
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine

_revision = partial(revision_of, "src", "benchmarks/serving.py")
DELAY = 7 * DAY
MAPPED = Mapped(card=True, terminal=True, label_delay=DELAY)
RATE = 200
"""Requests a second."""
STORES = 5
LATE_SHARE, MOST_LATE = 0.01, 2 * DAY
CARDS, ROWS_OF_CARD = 200_000, 20
_MS = 1000.0
_ANY = datetime(2026, 1, 1, tzinfo=UTC)
_SPAN = Span(start=_ANY, end=_ANY, transactions=1, frauds=1)


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    replayed: int
    seconds: float
    """Of load."""


SMALL, LARGE = Sizes(2_000, 10.0), Sizes(50_000, 40.0)


def simulated() -> pa.Table:
    """51 days of a small bank."""
    from fraud_simulation.demo import regimes
    from fraud_simulation.files import write_days
    from fraud_simulation.world import World

    with tempfile.TemporaryDirectory() as folder:
        for _ in write_days(World(3, 1500, regimes()), Path(folder), date(2026, 1, 11), 51):
            pass
        return canonical(pq.read_table(folder).drop_columns("label_available_at"))


def handbook(file: Path) -> pa.Table:
    """The file of the Handbook."""
    names = {
        "TRANSACTION_ID": "transaction_id",
        "TX_DATETIME": "transaction_time",
        "TX_AMOUNT": "amount",
        "TX_FRAUD": "fraud",
        "CUSTOMER_ID": "customer_id",
        "TERMINAL_ID": "terminal_id",
    }
    return canonical(pq.read_table(file, columns=list(names)).rename_columns(list(names.values())))


def canonical(rows: pa.Table) -> pa.Table:
    """With the types of the canonical table, keys as text, in the order of time and id."""
    stamp = pa.timestamp("us", "UTC")
    types = {"transaction_id": pa.int64(), "amount": pa.float64(), "fraud": pa.int8()}
    types |= {"customer_id": pa.string(), "terminal_id": pa.string(), "transaction_time": stamp}
    columns = {
        name: (rows[name].cast(pa.timestamp("us")) if rows[name].type != stamp else rows[name]).cast(kind)
        if name == "transaction_time"
        else rows[name].cast(kind)
        for name, kind in types.items()
    }
    return pa.table(columns).sort_by([("transaction_time", "ascending"), ("transaction_id", "ascending")])


def arrivals_of(rows: pa.Table) -> list[Arrival]:
    """Rows as they arrive."""
    columns = (rows[name].to_pylist() for name in ("transaction_id", "amount", "customer_id", "terminal_id"))
    times = times_of(rows["transaction_time"]).tolist()
    return [Arrival(i, at, amount, card, shop) for at, i, amount, card, shop in zip(times, *columns, strict=True)]


def replay(rows: pa.Table, count: int) -> tuple[int, int, int]:
    """How many transactions were replayed, how many were late, and how many features differed."""
    choice = np.random.default_rng(0)
    first = rows.num_rows - count
    times = times_of(rows["transaction_time"])
    late = choice.random(count) < LATE_SHARE
    order = first + np.argsort(times[first:] + np.where(late, choice.integers(0, MOST_LATE, count), 0), kind="stable")
    rows = pa.concat_tables([rows.slice(0, first), rows.take(pa.array(order))]).combine_chunks()
    differences, each = 0, -(-count // STORES)
    for begin in range(first, rows.num_rows, each):
        differences += _replay_until(rows, begin, min(begin + each, rows.num_rows))
        print(f"replayed {min(begin + each, rows.num_rows) - first:,}: {differences} differences", flush=True)
    return count, int(late.sum()), differences


def _replay_until(rows: pa.Table, begin: int, end: int) -> int:
    """Serve [begin, end) after a store of the rows before it, and compare."""
    newest = times_of(rows.slice(0, begin)["transaction_time"]).max()
    since = pa.scalar(int(newest) - DELAY - 2 * LOOK_BACK - 7 * DAY, pa.int64())
    stored = rows.slice(0, begin)
    stored = stored.filter(pc.greater_equal(stored["transaction_time"].cast(pa.int64()), since))
    state = FeatureState(stored, MAPPED)
    served = rows.slice(begin, end - begin)
    found = []
    for arrival in arrivals_of(served):
        found.append(state.features(arrival))
        state.add(arrival)
    hidden = served.set_column(served.column_names.index("fraud"), "fraud", pa.nulls(len(served), pa.int8()))
    world = pa.concat_tables([stored, hidden]).combine_chunks()
    times = times_of(served["transaction_time"])
    # Rows that come in order are not seen by those before them: only a late one ends a part.
    newest_so_far = np.maximum.accumulate(times)
    cuts = np.flatnonzero(times[1:] < newest_so_far[:-1]) + 1
    edges = [0, *cuts.tolist(), len(served)]
    differences = 0
    for low, high in pairwise(edges):
        differences += _differences(world, len(stored) + low, len(stored) + high, found[low:high])
    return differences


def _differences(world: pa.Table, low: int, high: int, found: list[dict[str, float]]) -> int:
    """How many features of the rows [low, high) differ from those of the batch over the rows before `high`."""
    arrived = world.slice(0, high)
    part = arrived.slice(low)
    shops = pc.is_in(arrived["terminal_id"], pc.unique(part["terminal_id"]))
    judged = arrived.filter(pc.and_(shops, pc.fill_null(pc.equal(arrived["fraud"], 1), False)))["customer_id"]
    cards = pa.chunked_array([*part["customer_id"].chunks, *judged.chunks])
    chosen = pc.or_(shops, pc.is_in(arrived["customer_id"], pc.unique(cards)))
    expected = batch(arrived.filter(chosen), part["transaction_id"].to_numpy())
    wrong = 0
    for number, values in enumerate(found):
        for name, column in expected.items():
            own, other = values[name], float(column[number])
            wrong += not (own == other or (np.isnan(own) and np.isnan(other)))
    return wrong


def batch(rows: pa.Table, wanted: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The features of some rows, by the kernels chained as in the plan."""
    times, ids, cents = times_of(rows["transaction_time"]), rows["transaction_id"].to_numpy(), _cents(rows)
    fraud = rows["fraud"].fill_null(UNKNOWN).to_numpy()
    known, until = Labels.of(times, fraud, None, None, DELAY).fraud_spans()
    start = int(times[np.isin(ids, wanted)].min())
    cards = card_features(
        codes_of(rows["customer_id"]), times, ids, cents, known.min(axis=0), start, start - DELAY - LOOK_BACK, DELAY
    )
    at = cards.positions
    frauds = KnownFrauds(
        known[:, at], None if until is None else until[:, at], cards.unexplained, cents[at], cards.to_median
    )
    shops = terminal_features(codes_of(rows["terminal_id"])[at], times[at], ids[at], frauds, start, DELAY)
    return _ordered(ids[at], cards.features, wanted) | _ordered(ids[at][shops.positions], shops.features, wanted)


def _cents(rows: pa.Table) -> NDArray[np.int64]:
    return to_cents(rows["amount"].to_numpy())


def _ordered(
    ids: NDArray[np.int64], features: dict[str, NDArray[np.float64]], wanted: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    order = np.argsort(ids)
    places = order[np.searchsorted(ids[order], wanted)]
    return {name: values[places] for name, values in features.items()}


def model(rows: pa.Table, seed: int) -> bytes:
    """Trees of the shipped size, fitted to features of the last labelled rows."""
    import xgboost

    count = 5_000
    state, arrivals = FeatureState(rows, MAPPED), arrivals_of(rows.slice(rows.num_rows - count))
    names = list(feature_columns(Settings().data.columns))
    values = [{"amount": one.amount, **state.features(one)} for one in arrivals]
    table = np.array([[row[name] for name in names] for row in values], np.float32)
    labels = rows["fraud"].to_numpy()[-count:]
    data = xgboost.DMatrix(table, labels, feature_names=names)
    options = {"max_depth": 4, "eta": 0.08, "objective": "binary:logistic", "seed": seed, "subsample": 0.8}
    return Model.from_booster(xgboost.train(options, data, Settings().training.trees)).to_bytes()


class _Folder:
    """The sources of the server: a real store, and models as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first: Callable[[], History] | None = begin_loading(request_of(folder))

    def version(self) -> int | None:
        return int((self._folder / "alias").read_text())

    def champion(self, version: int) -> Champion:
        content = (self._folder / f"{version}.ubj").read_bytes()
        kind: Any = Threshold  # of its fields only this one is read
        threshold = kind.model_construct(probability=0.05)
        return Champion(version, "run", Model.from_bytes(content), _ANY, _SPAN, threshold=threshold)

    def manifest(self) -> int:
        return newest_manifest(request_of(self._folder))

    def history(self) -> History:
        if self._first is not None:
            first, self._first = self._first, None
            return first()
        return load_history(request_of(self._folder))


def request_of(folder: Path) -> Request:
    """What the server reads."""
    return Request(
        settings=Settings(),
        config="conf/retraining.yaml",
        input_path=str(folder / "input"),
        output=str(folder / "output"),
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        as_of=None,
        engine=Engine.SAIL,
        clock=datetime.now(UTC),
    )


def serve(folder: Path) -> None:
    """The server's process."""
    from fraud_detection.registry.connection import import_mlflow
    from fraud_detection.serving.app import make_app
    from fraud_detection.serving.run import http_server, listen
    from fraud_detection.serving.service import Service

    sources = _Folder(folder)
    import_mlflow(f"sqlite:///{folder}/mlflow.db")
    commands = Commands("conf/retraining.yaml", "output", "sqlite:///output/mlflow.db")
    service = Service(sources, Settings(), commands, folder / "journal", lambda _step, _line: None)
    http_server(make_app(service, None, 1.0)).run([listen("127.0.0.1", 8123)])


@dataclass(frozen=True)
class Load:
    """What the client has measured."""

    latencies: list[float]
    failed: int
    versions: set[int]


class _Client:
    """Keep-alive connections to the server; as many as wait for an answer."""

    def __init__(self) -> None:
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, body: bytes) -> tuple[int, dict[str, Any]]:
        reader, writer = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", 8123)
        head = "POST /v1/score HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status = int((await reader.readline()).split()[1])
        length = 0
        while (line := await reader.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        content = json.loads(await reader.readexactly(length))
        self.free.append((reader, writer))
        return status, content


async def load(bodies: list[bytes], seconds: float, alias: Path) -> Load:
    """Ask at random moments, `RATE` times a second, and promote version 2 in the middle."""
    client, found, moment = _Client(), Load([], 0, set()), random.Random(0)
    failed, promoted = 0, False

    async def one(body: bytes, due: float) -> None:
        nonlocal failed
        try:
            status, content = await client.ask(body)
        except (OSError, asyncio.IncompleteReadError, IndexError):
            failed += 1
            return
        found.latencies.append(time.perf_counter() - due)
        failed += status != 200
        found.versions.add(content.get("model_version", 0))

    gc.freeze()  # or the client would walk through its own rows while answers wait
    began, due, tasks = time.perf_counter(), 0.0, []
    for body in bodies:
        due += moment.expovariate(RATE)
        if due > seconds:
            break
        if due > seconds / 2 and not promoted:
            promoted = True
            alias.with_suffix(".new").write_text("2")
            alias.with_suffix(".new").replace(alias)
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(body, began + due)))
    await asyncio.gather(*tasks)
    return replace(found, failed=failed)


def bodies_of(rows: pa.Table) -> Iterator[bytes]:
    """Rows as requests."""
    for one in arrivals_of(rows):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=one.time)
        yield json.dumps(
            {
                "transaction_id": one.id,
                "transaction_time": moment.isoformat(),
                "amount": one.amount,
                "customer_id": one.card,
                "terminal_id": one.terminal,
            }
        ).encode()


def start(folder: Path) -> tuple["subprocess.Popen[bytes]", float]:
    """A server that answers, and the seconds until it did."""
    import urllib.request

    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.serving", "--serve", str(folder)])
    while process.poll() is None:
        try:
            urllib.request.urlopen("http://127.0.0.1:8123/ready", timeout=5).read()
            return process, time.perf_counter() - began
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the server has not started")


def memory_of(process: "subprocess.Popen[bytes]") -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def cpu_of(process: "subprocess.Popen[bytes]") -> float:
    """Processor seconds of a process without its children."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def many_cards() -> tuple[int, int]:
    """Resident bytes that a state of many cards adds, and those of its rows alone."""
    count = CARDS * ROWS_OF_CARD
    numbers = np.arange(count)
    choice = np.random.default_rng(0)
    rows = pa.table(
        {
            "transaction_id": pa.array(numbers),
            "transaction_time": pa.array(choice.integers(0, 74 * DAY, count)).cast(pa.timestamp("us", "UTC")),
            "amount": pa.array(choice.random(count) * 100),
            "fraud": pa.array((choice.random(count) < 0.005).astype(np.int8)),
            "customer_id": pa.array(numbers % CARDS).cast(pa.string()),
            "terminal_id": pa.array(numbers % 10_000).cast(pa.string()),
        }
    )
    pool, before = pa.default_memory_pool(), _resident()
    state = FeatureState(rows, MAPPED)
    pool.release_unused()
    return _resident() - before, state.nbytes


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(rows: pa.Table, sizes: Sizes, folder: Path) -> tuple[list[str], list[str]]:
    """Lines of results, and what is beyond its limit."""
    lines, wrong = [], []
    served = min(int(RATE * sizes.seconds * 1.2), rows.num_rows // 10)
    (folder / "input").mkdir()
    pq.write_table(rows.slice(0, rows.num_rows - served), folder / "input" / "rows.parquet")
    for version in (1, 2):
        (folder / f"{version}.ubj").write_bytes(model(rows.slice(0, rows.num_rows - served), version))
    (folder / "alias").write_text("1")
    load_history(request_of(folder))  # it builds the store
    process, seconds = start(folder)
    try:
        bodies = list(bodies_of(rows.slice(rows.num_rows - served)))
        asyncio.run(load(bodies[:200], 1.0, folder / "warm"))
        used = cpu_of(process)
        found = asyncio.run(load(bodies[200:], sizes.seconds, folder / "alias"))
        used = (cpu_of(process) - used) / max(len(found.latencies), 1)
        memory = memory_of(process)
    finally:
        process.terminate()
        process.wait()
    p50, p99 = (np.percentile(found.latencies, q) * _MS for q in (50, 99))
    lines.append(f"| rows of the input | {rows.num_rows - served:,} |")
    lines.append(f"| start, seconds | {seconds:.1f} |")
    lines.append(f"| requests, failed among them | {len(found.latencies):,}, {found.failed} |")
    lines.append(
        f"| latency, ms: mean, p50, p99 | {statistics.mean(found.latencies) * _MS:.1f}, {p50:.1f}, {p99:.1f} |"
    )
    lines.append(f"| processor time of the server, ms a request | {used * _MS:.1f} |")
    lines.append(f"| versions that answered | {', '.join(map(str, sorted(found.versions)))} |")
    lines.append(f"| memory of the server after the load, MB | {memory / 1e6:,.0f} |")
    print("\n".join(lines), flush=True)
    if found.failed or found.versions != {1, 2}:
        wrong.append(f"{found.failed} requests failed; versions {found.versions} have answered; expected 0 and 1, 2")
    replayed, late, differences = replay(rows, sizes.replayed)
    lines.append(f"| transactions replayed, late among them | {replayed:,}, {late:,} |")
    lines.append(f"| features that differ from the batch | {differences} |")
    if differences:
        wrong.append(f"{differences} features differ from the batch")
    return lines, wrong


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="handbook_transactions.parquet; without it a small simulated bank")
    parser.add_argument("--check", action="store_true", help="fail where features differ or a request fails")
    parser.add_argument("--output", type=Path, help="write the table to this file")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    before = os.getloadavg()[0]
    rows = simulated() if options.data is None else handbook(options.data)
    with tempfile.TemporaryDirectory() as folder:
        lines, wrong = measure(rows, SMALL if options.data is None else LARGE, Path(folder))
    added, of_rows = many_cards()
    millions = CARDS / 1e6
    lines.append(
        f"| memory of a million cards with {ROWS_OF_CARD} rows each, GB; of it rows | {added / millions / 1e9:.1f};"
        f" {of_rows / millions / 1e9:.1f} |"
    )
    load_text = f"{usable_cores()} cores of {platform.machine()}, load average {before:.1f} before and"
    head = [
        f"Of revision {_revision()}, {load_text} {os.getloadavg()[0]:.1f} after; `python -m benchmarks.serving`.",
        "",
        "| | |",
        "|---|---|",
    ]
    text = "\n".join(["# Serving", "", *head, *lines, ""])
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    if options.check and wrong:
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    main()
