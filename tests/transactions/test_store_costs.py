"""What an hourly run reads from a bucket to read and check its input, counted in requests and bytes."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.object_storage import BUCKET, KEY, Server, serving, use_keys
from pyspark.sql import SparkSession
from reader_data import ALL, Row, row

from fraud_detection import settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.storage import Storage, open_folder
from fraud_detection.transactions.reader import Transactions
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.store.profiles import MeasuredDays
from fraud_detection.transactions.stored_reader import read_stored, store_inputs

NOW = datetime(2026, 3, 10, 2, tzinfo=UTC)
DATA = settings.Data(columns=ALL)


def rows_of_hours(first: int, last: int, chance: random.Random) -> list[Row]:
    """Three rows an hour, up to hours before `NOW`; frauds are known after a day."""
    found = []
    for hour in range(first, last, -1):
        for minute in (0, 20, 40):
            time = NOW.replace(tzinfo=None) - timedelta(hours=hour, minutes=-minute)
            fraud = int(chance.random() < 0.1)
            known = time + timedelta(days=1) if fraud else None
            number = 1_000_000 - 60 * hour + minute
            found.append(
                row(number, transaction_time=time, fraud=fraud, label_available_at=known, customer_id=hour % 9)
            )
    return found


def put(bucket: Storage, name: str, rows: list[Row]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), sink := pa.BufferOutputStream())
    bucket.write_atomic(name, sink.getvalue().to_pybytes())


def read(spark: SparkSession, clock: datetime) -> Transactions:
    """As a run does."""
    output, path = open_folder("s3a://bucket/output"), "s3a://bucket/input"
    sources = store_inputs(DATA, path)
    snapshot = JoinedStore(output, "_store/key/", sources, lambda: clock).update().snapshot
    measured = MeasuredDays(output, "_store/key/", DATA)
    return read_stored(spark, DATA, path, snapshot, measured, clock, clock, clock - timedelta(hours=1))


def bytes_read(server: Server, since: int) -> Counter[str]:
    """The bytes of the answers to requests for content, by the kind of object."""
    sizes: dict[str, int] = {}
    pages = server.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    requests = server.requests()[since:]
    for page in pages:
        sizes |= {found["Key"]: found["Size"] for found in page.get("Contents", [])}
    found: Counter[str] = Counter()
    for request in requests:
        method, path, *span = request.split()
        name = path.removeprefix(f"/{BUCKET}").lstrip("/")
        if method != "GET" or name not in sizes:
            continue
        first, last = (span[0].removeprefix("bytes=") if span else "0-").split("-")
        size = sizes[name]
        length = min(int(last), size - 1) - int(first) + 1 if first and last else size - int(first or size - int(last))
        kind = name.split("/")[3] if name.startswith("output/_store/") else "input"
        found[kind] += length
    return found


def cost_of_an_hour(days: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The bytes that a run reads which comes an hour after another one, with a history of some days."""
    chance = random.Random(1)
    with serving("--key", KEY) as server:
        use_keys(monkeypatch, server.endpoint)
        bucket = open_folder("s3a://bucket")
        for day in range(days, 0, -1):
            put(bucket, f"input/{days - day:04}.parquet", rows_of_hours(24 * day, 24 * day - 24, chance))
        with session(Engine.SAIL) as spark:
            read(spark, NOW)
            put(bucket, "input/hour.parquet", rows_of_hours(0, -1, chance))
            before = len(server.requests())
            found = read(spark, NOW + timedelta(hours=1))
            assert found.profile.rows == 72 * days + 3
            return bytes_read(server, before)


@pytest.mark.slow
def test_what_an_hour_reads_does_not_grow_with_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when each hourly run reads years of rows again, and costs more with each year."""
    short, long = (cost_of_an_hour(days, monkeypatch) for days in (8, 80))
    assert long["input"] == short["input"] > 0
    assert long["rows"] <= 1.2 * short["rows"]
    assert long["ids"] == short["ids"]
    # The list of files and days, and the counts by hour, are compact: for three years of days 3 MB.
    assert (long["manifest"] - short["manifest"]) / 72 < 1_000
    assert (long["profiles"] - short["profiles"]) / 72 < 1_000
