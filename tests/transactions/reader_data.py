"""Transactions and labels for the reader's tests, and the engine that reads them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from fraud_detection import settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.transactions.reader import Transactions, read_transactions

CLOCK = datetime(2026, 1, 1, tzinfo=UTC)
NOON = datetime.fromisoformat("2025-03-04T12:00")
ALL = settings.Columns(label_available_at="label_available_at")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with session(Engine.SAIL) as opened:
        yield opened


def row(transaction: int | str | Decimal | None, **changes: Any) -> Row:
    """A valid transaction with the changes."""
    good = {
        "transaction_id": transaction,
        "transaction_time": NOON,
        "amount": 10.5,
        "fraud": 0,
        "customer_id": 7,
        "terminal_id": 8,
        "label_available_at": NOON + timedelta(days=3),
    }
    return good | changes


def write_parquet(path: Path, rows: list[Row], **types: pa.DataType) -> None:
    table = pa.Table.from_pylist(rows)
    for name, kind in types.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_csv(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(rows[0])
    lines = [",".join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
    path.write_text("\n".join([",".join(names), *lines]) + "\n")


def read(spark: SparkSession, path: Path | str, columns: settings.Columns = ALL, **data: Any) -> Transactions:
    return read_transactions(spark, settings.Data(columns=columns, **data), str(path), CLOCK)


def rows_of(transactions: Transactions) -> list[Row]:
    return sorted((r.asDict() for r in transactions.table.collect()), key=lambda r: r["transaction_id"])


def fingerprint(transactions: Transactions) -> str:
    """The fingerprint of all good rows."""
    return transactions.profile.fingerprint(datetime(2000, 1, 1, tzinfo=UTC), CLOCK)


def ids_of(transactions: Transactions) -> list[Any]:
    return [r["transaction_id"] for r in rows_of(transactions)]


def damaged(path: Path) -> None:
    """A file with a good footer and torn data pages."""
    write_parquet(path, [row(number) for number in range(20_000)])
    content = bytearray(path.read_bytes())
    content[1000:30_000] = bytes(29_000)
    path.write_bytes(content)


BAD: dict[str, list[Row]] = {
    "null_id": [{"transaction_id": None}],
    "unparseable_time": [{"transaction_time": None}, {"transaction_time": datetime.fromisoformat("1900-01-01")}],
    "future_time": [
        {"transaction_time": CLOCK.replace(tzinfo=None) + timedelta(seconds=1), "label_available_at": None}
    ],
    "bad_amount": [{"amount": value} for value in (None, -0.01, float("nan"), float("inf"), 1e13)],
    "bad_label": [{"fraud": 2}, {"fraud": -1}],
    "label_before_transaction": [{"label_available_at": NOON - timedelta(seconds=1)}],
    "bad_number": [{"v": float("inf")}, {"v": float("-inf")}],
}


CASES = [(reason, change) for reason, changes in BAD.items() for change in changes]


WITH_NUMBER = settings.Columns(label_available_at="label_available_at", extra_numeric=("v",))


LABEL_TABLE = settings.Columns(fraud=None, label_available_at=None)


def label(transaction: int | str, fraud: int | str | None, days: int | None = 3) -> Row:
    available = None if days is None else NOON + timedelta(days=days)
    return {"transaction_id": transaction, "fraud": fraud, "label_available_at": available}
