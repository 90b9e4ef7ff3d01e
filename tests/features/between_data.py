"""An input whose features a store keeps, and the features of a span with and without it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pandas.testing import assert_frame_equal
from pyspark.sql import SparkSession

from fraud_detection.features import features_between, features_columns
from fraud_detection.settings import Columns, Data, LabelTable, Settings
from fraud_detection.storage import open_folder
from fraud_detection.transactions.reader import Transactions, read_transactions
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.store.profiles import MeasuredDays
from fraud_detection.transactions.stored_reader import read_stored, store_inputs

AS_OF = datetime(2026, 3, 1, 12, tzinfo=UTC)
START, END = AS_OF - timedelta(days=6), AS_OF
SETTINGS = Settings(
    data=Data(columns=Columns(label_available_at="known", extra_numeric=("v",), extra_categorical=("k",)))
)
STORE = "_store/key/"


def made_rows(*, ids: bool = True) -> pa.Table:
    """Eighty days of few cards and terminals, some of them unknown; a bad row, and two with the same id."""
    random, n = np.random.default_rng(5), 900
    times = [AS_OF - timedelta(minutes=int(m)) for m in random.integers(0, 80 * 24 * 60, n)]
    fraud = random.random(n) < 0.1
    known = [time + timedelta(hours=int(h)) for time, h in zip(times, random.integers(1, 400, n), strict=True)]
    table = {
        "transaction_id": pa.array([*range(n - 1), 5], pa.int64()),
        "transaction_time": pa.array(times, pa.timestamp("us", "UTC")),
        "amount": pa.array([*random.lognormal(3, 1, n - 1).round(2), -1.0]),
        "customer_id": pa.array([None if one == 0 else int(one) for one in random.integers(0, 9, n)], pa.int64()),
        "terminal_id": pa.array([None if one == 0 else f"t{one}" for one in random.integers(0, 6, n)]),
        "fraud": pa.array(fraud.astype(np.int8)),
        "known": pa.array(known, pa.timestamp("us", "UTC")),
        "v": pa.array([None if one < 0.2 else float(one) for one in random.random(n)]),
        "k": pa.array([None if one == 0 else f"k{one}" for one in random.integers(0, 3, n)]),
    }
    if not ids:
        del table["transaction_id"]
    return pa.table(table)


def made_labels(table: pa.Table, part: int) -> pa.Table:
    """A third of the labels of `made_rows`; some are taken back, some repeated, one is bad, and one has no row."""
    rows = table.slice(part * 300, 300).sort_by("transaction_time").select(["transaction_id", "fraud", "known"])
    again = rows.take(list(range(0, 300, 7)))
    later = [known + timedelta(hours=2) for known in again["known"].to_pylist()]
    fraud = [one if number % 2 else 1 - one for number, one in enumerate(again["fraud"].to_pylist())]
    changed = {"transaction_id": again["transaction_id"], "fraud": pa.array(fraud, pa.int8()), "known": later}
    oldest = rows.slice(1, 1)
    known = [oldest["known"][0].as_py() + timedelta(days=1)]
    bad = {"transaction_id": oldest["transaction_id"], "fraud": pa.array([2], pa.int8()), "known": known}
    lost = {"transaction_id": [10_000 + part], "fraud": pa.array([1], pa.int8()), "known": [AS_OF - timedelta(days=9)]}
    return pa.concat_tables([rows, *(pa.table(one).cast(rows.schema) for one in (changed, bad, lost))])


def with_label_table(url: str) -> Settings:
    columns = SETTINGS.data.columns.model_copy(update={"fraud": None, "label_available_at": None})
    table = LabelTable(path=f"{url}/labels", label_available_at="known")
    data = SETTINGS.data.model_copy(update={"columns": columns, "labels": table})
    return SETTINGS.model_copy(update={"data": data})


def write(url: str, table: pa.Table, name: str = "in/a") -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    open_folder(url).write_atomic(f"{name}.parquet", sink.getvalue().to_pybytes())


def require_same_with_labels(spark: SparkSession, url: str) -> None:
    """With a label table to which labels come, in two views; labels that change are read several times."""
    table, settings = made_rows(), with_label_table(url)
    write(url, table.drop_columns(["fraud", "known"]))
    write(url, made_labels(table, 0), "labels/0")
    for part, as_of in ((1, AS_OF - timedelta(days=4, hours=5)), (2, AS_OF)):
        write(url, made_labels(table, part), f"labels/{part}")
        transactions = require_same(spark, url, settings, as_of)
        files = read_transactions(spark, settings.data, f"{url}/in", AS_OF, as_of)
        start = as_of - timedelta(days=6)
        found, plain = (table_of(one, start, as_of, settings) for one in (transactions, files))
        assert_frame_equal(found, plain, check_exact=True)


def require_same_with_plain_labels(spark: SparkSession, url: str) -> None:
    """With a label table of two files whose labels never change, and twenty days."""
    table, settings = made_rows(), with_label_table(url)
    table = table.filter(pc.greater(table["transaction_time"], pa.scalar(AS_OF - timedelta(days=20))))
    labels, half = table.select(["transaction_id", "fraud", "known"]), len(table) // 2
    write(url, table.drop_columns(["fraud", "known"]))
    for part, name in enumerate("ab"):
        write(url, labels.slice(half * part, half), f"labels/{name}")
        require_same(spark, url, settings)


def read(spark: SparkSession, url: str, settings: Settings = SETTINGS, as_of: datetime = AS_OF) -> Transactions:
    """As a run does."""
    output, sources = open_folder(f"{url}/out"), store_inputs(settings.data, f"{url}/in")
    snapshot = JoinedStore(output, STORE, sources, lambda: AS_OF).update().snapshot
    measured = MeasuredDays(output, STORE, settings.data)
    return read_stored(spark, settings.data, f"{url}/in", snapshot, measured, AS_OF, as_of)


def table_of(transactions: Transactions, start: datetime, end: datetime, settings: Settings = SETTINGS) -> pd.DataFrame:
    with transactions.store_errors():
        found = features_between(transactions, settings, start, end).toPandas()
    assert list(found) == features_columns(transactions, settings, end)
    return found.sort_values(["transaction_time", "transaction_id"], ignore_index=True)


def files(url: str) -> list[str]:
    """The files of features that are there."""
    return [one.name for one in open_folder(f"{url}/out").objects(f"{STORE}features/") if "/days/" in one.name]


def require_same(spark: SparkSession, url: str, settings: Settings = SETTINGS, as_of: datetime = AS_OF) -> Transactions:
    """The features without a store, while it is filled, and from it, of a span that ends within a day."""
    transactions = read(spark, url, settings, as_of)
    start, end = as_of - timedelta(days=6), as_of
    plain = table_of(replace(transactions, stored=None), start, end, settings)
    assert len(plain)
    for _ in range(2):
        assert_frame_equal(table_of(transactions, start, end, settings), plain, check_exact=True)
    assert files(url)
    return transactions
