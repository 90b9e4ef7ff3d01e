"""The data contract: which rows are accepted, which are rejected, and what the report of bad data says."""

from datetime import UTC
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from reader_data import NOON, fingerprint, ids_of, read, row, rows_of, write_csv, write_parquet

from fraud_detection import settings

pytest_plugins = ["reader_data"]


def test_good_rows_come_out_in_canonical_columns_and_types(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when mapped columns are not read into canonical names and types, and every later step breaks."""
    source = {"ID": 1, "WHEN": NOON, "EUR": 10.5, "BAD": 1, "CARD": "c", "SHOP": 8, "V1": 3, "KIND": "web"}
    write_parquet(tmp_path / "a.parquet", [source])
    columns = settings.Columns(
        transaction_id="ID",
        transaction_time="WHEN",
        amount="EUR",
        fraud="BAD",
        customer_id="CARD",
        terminal_id="SHOP",
        extra_numeric=("V1",),
        extra_categorical=("KIND",),
    )
    found = read(spark, tmp_path, columns)
    assert found.table.dtypes == [
        ("transaction_id", "bigint"),
        ("transaction_time", "timestamp"),
        ("amount", "double"),
        ("fraud", "tinyint"),
        ("customer_id", "string"),
        ("terminal_id", "bigint"),
        ("V1", "double"),
        ("KIND", "string"),
    ]
    assert rows_of(found)[0]["amount"] == 10.5
    assert found.rejected is None
    assert found.profile.rejected == {}


def test_optional_columns_are_absent_when_they_are_not_mapped(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when data without customers, terminals or label times cannot be read, or gets empty columns for them."""
    write_parquet(tmp_path / "a.parquet", [row(1)])
    assert read(spark, tmp_path, settings.Columns(customer_id=None, terminal_id=None)).table.columns == [
        "transaction_id",
        "transaction_time",
        "amount",
        "fraud",
    ]


def test_csv_and_parquet_say_the_same(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the same transactions give different data as CSV and as Parquet."""
    rows = [row("a", customer_id="c", terminal_id="t"), row("b", customer_id="c", terminal_id="t", fraud=None)]
    write_parquet(tmp_path / "parquet" / "a.parquet", rows)
    write_csv(tmp_path / "csv" / "a.csv", rows)
    one, other = read(spark, tmp_path / "parquet"), read(spark, tmp_path / "csv")
    assert rows_of(one) == rows_of(other)
    assert fingerprint(one) == fingerprint(other)


def test_nested_folders_of_files_with_other_widths_are_one_table(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when partitioned files whose number types differ cannot be read together, or a marker folder is read."""
    write_parquet(tmp_path / "day=2025-03-04" / "a.parquet", [row(1)], transaction_id=pa.int16(), fraud=pa.int8())
    write_parquet(tmp_path / "day=2025-03-05" / "b.parquet", [row(2)], transaction_id=pa.int64(), fraud=pa.float64())
    write_parquet(tmp_path / "c.parquet", [row(3)], transaction_id=pa.uint32(), amount=pa.decimal128(10, 2))
    write_parquet(tmp_path / "_SUCCESS" / "d.parquet", [row(4)])
    found = read(spark, tmp_path)
    assert ids_of(found) == [1, 2, 3]
    assert {r["amount"] for r in rows_of(found)} == {10.5}


def test_a_folder_of_many_files_is_read_whole(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a folder with hundreds of hourly exports is read only in part."""
    for number in range(150):
        write_csv(tmp_path / "c" / f"{number}.csv", [row(number)])
        write_parquet(tmp_path / "p" / f"{number}.parquet", [row(number)])
    assert sorted(int(i) for i in ids_of(read(spark, tmp_path / "c"))) == list(range(150))
    assert ids_of(read(spark, tmp_path / "p")) == list(range(150))


NUMBERS = [pa.uint8(), pa.uint32(), pa.int8(), pa.float16(), pa.float32(), pa.decimal128(25, 1), pa.decimal256(40, 1)]


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
@pytest.mark.parametrize("name", ["a.parquet", "[a].parquet"], ids=["by the engine", "by pyarrow"])
def test_numbers_of_any_width_are_read(spark: SparkSession, tmp_path: Path, kind: pa.DataType, name: str) -> None:
    """Fails when a Parquet file is refused, or read wrongly, because of the width of its numbers."""
    wanted = [row(1, v=3), row(2, v=4), row(3, v=None)]
    table = pa.Table.from_pylist(wanted)
    values = pa.array([3, 4, None], pa.int64())
    values = pa.array(np.array([3, 4, np.nan], np.float16)) if kind == pa.float16() else values.cast(kind)
    pq.write_table(table.set_column(table.schema.get_field_index("v"), "v", values), tmp_path / name)
    found = rows_of(read(spark, tmp_path, settings.Columns(extra_numeric=("v",))))
    assert [r["v"] for r in found] == [3.0, 4.0, None]


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("s"),
        pa.timestamp("ms"),
        pa.timestamp("us"),
        pa.timestamp("ns"),
        pa.timestamp("us", "UTC"),
        pa.timestamp("ns", "Europe/Moscow"),
    ],
    ids=str,
)
def test_timestamps_of_any_unit_and_zone_mean_the_same_instant(
    spark: SparkSession, tmp_path: Path, kind: pa.DataType
) -> None:
    """Fails when a timestamp's unit or time zone in Parquet shifts the transactions in time."""
    write_parquet(tmp_path / "a.parquet", [row(1)], transaction_time=kind)
    assert read(spark, tmp_path).profile.first == NOON.replace(tzinfo=UTC)


def test_timestamps_as_older_spark_writes_them_are_read(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when Parquet files written by an older Spark (INT96 timestamps) cannot be used."""
    pq.write_table(pa.Table.from_pylist([row(1)]), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    assert read(spark, tmp_path).profile.first == NOON.replace(tzinfo=UTC)


def test_what_pandas_writes_is_read(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a file written by pandas is refused because of categories or labels stored as floats."""
    table = pa.Table.from_pylist([row(1, kind="web", fraud=1.0), row(2, kind=None, fraud=None)])
    table = table.set_column(7, "kind", table["kind"].dictionary_encode())
    pq.write_table(table, tmp_path / "a.parquet")
    found = rows_of(read(spark, tmp_path, settings.Columns(extra_categorical=("kind",))))
    assert [(r["kind"], r["fraud"]) for r in found] == [("web", 1), (None, None)]


def test_a_column_without_any_value_has_no_type_and_is_taken_as_missing(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when one file in which a column is entirely empty makes the whole folder unreadable."""
    write_parquet(tmp_path / "a.parquet", [row(1, fraud=None, label_available_at=None)])
    write_parquet(tmp_path / "b.parquet", [row(2)])
    assert [r["fraud"] for r in rows_of(read(spark, tmp_path))] == [None, 0]


ODD_NAMES = ["with space", "день", "a%20b", "[1]*{2}?", "a:b"]


@pytest.mark.parametrize("name", [f"{name}.parquet" for name in ODD_NAMES])
def test_any_file_name_is_read_as_it_is(spark: SparkSession, tmp_path: Path, name: str) -> None:
    """Fails when special characters in a file name make the run read other files, or none."""
    write_parquet(tmp_path / name, [row(1)])
    write_parquet(tmp_path / "1.parquet", [row(2)])
    assert ids_of(read(spark, tmp_path / name)) == [1]
    assert ids_of(read(spark, tmp_path)) == [1, 2]


def test_labels_may_be_booleans_and_ids_long_decimals(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when boolean labels or ids too long for 64 bits are rejected or lose digits."""
    rows = [row(Decimal(10**30), fraud=True), row(Decimal(10**30 + 1), fraud=None)]
    write_parquet(tmp_path / "a.parquet", rows, transaction_id=pa.decimal128(38, 0))
    found = rows_of(read(spark, tmp_path))
    assert [(r["transaction_id"], r["fraud"]) for r in found] == [(str(10**30), 1), (str(10**30 + 1), None)]


def test_nan_among_equal_values_is_missing(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when NaN is read as a real value because Parquet's column statistics leave it out."""
    write_parquet(tmp_path / "a.parquet", [row(1, v=1.0), row(2, v=float("nan"))])
    found = rows_of(read(spark, tmp_path, settings.Columns(extra_numeric=("v",))))
    assert [r["v"] for r in found] == [1.0, None]


def test_a_missing_extra_number_stays_missing(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a missing extra number becomes 0, a value that was never measured, and the model learns from it."""
    columns = settings.Columns(extra_numeric=("v",))
    write_parquet(tmp_path / "p" / "a.parquet", [row(1, v=None), row(2, v=float("nan")), row(3, v=0.0)])
    write_csv(tmp_path / "c" / "a.csv", [row(1, v=""), row(2, v="NaN"), row(3, v="0")])
    for folder in ("p", "c"):
        assert [r["v"] for r in rows_of(read(spark, tmp_path / folder, columns))] == [None, None, 0.0]


def test_whole_numbers_beside_missing_ones_are_ids_and_categories(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when integers that pandas stores as floating-point numbers, because some are missing, cannot be used."""
    rows = [row(1, customer_id=4.0e9, kind=3.0), row(2, customer_id=None, kind=None)]
    write_parquet(tmp_path / "a.parquet", rows, customer_id=pa.float64(), kind=pa.float32())
    write_parquet(tmp_path / "b.parquet", [row(3, customer_id=4_000_000_000, kind="3")])
    found = rows_of(read(spark, tmp_path, settings.Columns(extra_categorical=("kind",))))
    assert [(r["customer_id"], r["kind"]) for r in found] == [(4_000_000_000, "3"), (None, None), (4_000_000_000, "3")]
