"""Rows in canonical columns: the store's own conversion and the engine's give the same values."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from reader_data import CLOCK

from fraud_detection import settings
from fraud_detection.storage import open_folder
from fraud_detection.transactions.columns import transaction_fields
from fraud_detection.transactions.files import find_files
from fraud_detection.transactions.store.canonical import FILE
from fraud_detection.transactions.store.inputs import StoreInput
from fraud_detection.transactions.store.rows import RowStore
from fraud_detection.transactions.table import typed_rows

pytest_plugins = ["reader_data"]

_COLUMNS = settings.Columns(label_available_at="label_available_at", extra_numeric=("n",), extra_categorical=("c",))
_IDS = {"transaction_id": pa.array([1, 2, 3], pa.int32()), "customer_id": pa.array(["a", " ", None])}
_NOON = datetime(2025, 3, 4, 12, tzinfo=UTC)
_TIMES = pa.array([_NOON, None, _NOON], pa.timestamp("ms", "UTC"))
_FORMS: dict[str, dict[str, pa.Array]] = {
    "plain": {
        "amount": pa.array([1.5, math.nan, None]),
        "fraud": pa.array([0, 1, 2]),
        "n": pa.array([math.nan, -0.0, math.inf]),
        "c": pa.array([1, 2, None]),
    },
    "decimal": {
        "amount": pa.array([Decimal("0.07"), Decimal("1234567.89"), None], pa.decimal128(12, 2)),
        "fraud": pa.array([True, False, None]),
        "n": pa.array([True, False, None]),
        "c": pa.array([True, False, None]),
    },
    "narrow": {
        "amount": pa.array([0.1, 2.5, None], pa.float32()),
        "fraud": pa.array([math.nan, 0.5, 1.0]),
        "n": pa.array([1, 2, 3], pa.uint8()),
        "c": pa.array(["x", "", None]).dictionary_encode(),
    },
    "text": {
        "amount": pa.array(["0.1", "none", ""]),
        "fraud": pa.array(["1", "0.0", "maybe"]),
        "n": pa.array(["1e3", "", "x"]),
        "c": pa.array([1.5, 2.0, math.nan]),
    },
}


@pytest.mark.parametrize("form", _FORMS)
def test_the_store_and_the_engine_type_rows_alike(form: str, spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a decision depends on whether its rows came from the store or from the files."""
    others = {"terminal_id": pa.nulls(3), "transaction_time": _TIMES, "label_available_at": _TIMES}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(_IDS | others | _FORMS[form]), tmp_path / "in" / "a.parquet")
    source = StoreInput(str(tmp_path / "in"), transaction_fields(_COLUMNS), settings.Format())
    snapshot = RowStore(open_folder(str(tmp_path / "out")), "store/k/", source, lambda: CLOCK).update().snapshot
    stored = pa.concat_tables(snapshot.rows(day) for day in snapshot.manifest.days).drop_columns([FILE])
    files = find_files(source.url, source.fields, source.form)
    typed = pa.Table.from_pandas(typed_rows(spark, files, source.fields).orderBy("transaction_id").toPandas())
    expected = [{name: _plain(value) for name, value in row.items()} for row in typed.to_pylist()]
    found = [{name: _plain(value) for name, value in row.items()} for row in stored.to_pylist()]
    assert sorted(map(repr, found)) == sorted(map(repr, _without_pandas_nan(expected, found)))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat()
    return float(value) if isinstance(value, int | float) else value


def _without_pandas_nan(rows: list[dict[str, object]], like: list[dict[str, object]]) -> list[dict[str, object]]:
    """Pandas cannot tell a null from NaN: amounts of null and NaN are taken from `like` where both are missing."""
    by_id = {row["transaction_id"]: row for row in like}
    missing = (None, "nan")
    return [
        {
            name: by_id[row["transaction_id"]][name]
            if repr(value) in map(str, missing) and repr(by_id[row["transaction_id"]][name]) in map(str, missing)
            else value
            for name, value in row.items()
        }
        for row in rows
    ]
