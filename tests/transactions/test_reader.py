"""The data contract: which rows are accepted, which are rejected, and what the report of bad data says."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from fraud_detection import settings
from fraud_detection.errors import DataError, SettingsError
from fraud_detection.spark_session import Engine, session
from fraud_detection.storage import open_folder
from fraud_detection.time_windows import run_windows
from fraud_detection.transactions.quarantine import write_quarantine
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


# What is refused as a whole


def refusal(spark: SparkSession, path: Path, columns: settings.Columns = ALL, **data: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(spark, path, columns, **data)
    assert caught.value.exit_code == 65
    return str(caught.value)


def test_an_input_that_does_not_exist_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a mistyped input path ends in a stack trace instead of a message that says so."""
    assert "does not exist" in refusal(spark, tmp_path / "absent")


def test_a_folder_without_data_is_refused_with_what_it_holds(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the message for a folder without data does not say what was found and which formats are expected."""
    assert "found no file" in refusal(spark, tmp_path)
    (tmp_path / "data.xlsx").write_bytes(b"x")
    message = refusal(spark, tmp_path)
    assert "data.xlsx" in message
    assert ".parquet" in message


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_an_empty_file_is_refused_by_name(spark: SparkSession, tmp_path: Path, name: str) -> None:
    """Fails when an empty file stops the run and the message does not name the file."""
    (tmp_path / name).write_bytes(b"")
    assert name in refusal(spark, tmp_path)


def test_files_without_rows_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when input without any row passes the check and the run breaks later for an unclear reason."""
    (tmp_path / "a.csv").write_text(",".join(row(1)) + "\n")
    assert "no rows" in refusal(spark, tmp_path)
    (tmp_path / "a.csv").unlink()
    pq.write_table(pa.Table.from_pylist([row(1)]).slice(0, 0), tmp_path / "a.parquet")
    assert "no rows" in refusal(spark, tmp_path)


def test_all_missing_and_mistyped_columns_are_named_at_once(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when column problems are reported one per run, so that correcting the mapping takes several tries."""
    wrong = {name: value for name, value in row(1).items() if name not in {"fraud", "customer_id"}}
    write_parquet(tmp_path / "a.parquet", [wrong | {"amount": "10.5", "transaction_time": "2025-03-04"}])
    message = refusal(spark, tmp_path)
    assert "missing column: fraud\n" in message
    assert "missing column: customer_id\n" in message
    assert "unexpected type: amount found string, expected number\n" in message
    assert "unexpected type: transaction_time found string, expected timestamp\n" in message
    assert "columns found: transaction_id, transaction_time, amount" in message


def test_a_column_missing_in_one_file_is_told_with_that_file(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a column missing from one file is filled with nulls, or the message does not name the file."""
    write_csv(tmp_path / "a.csv", [row(1)])
    write_csv(tmp_path / "b.csv", [{name: value for name, value in row(2).items() if name != "amount"}])
    message = refusal(spark, tmp_path)
    assert f"missing column: amount, in 1 of 2 files, such as {tmp_path / 'b.csv'}" in message


def test_ids_that_are_numbers_in_one_file_and_text_in_another_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when files that store ids as different types are mixed, and the same transaction counts as two."""
    write_parquet(tmp_path / "a.parquet", [row(1)])
    write_parquet(tmp_path / "b.parquet", [row("2")])
    assert "files disagree on the type of transaction_id: int64 in" in refusal(spark, tmp_path)


def test_csv_and_parquet_in_one_folder_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a folder with CSV and Parquet files is read only in part, or twice."""
    write_csv(tmp_path / "a.csv", [row(1)])
    write_parquet(tmp_path / "b.parquet", [row(2)])
    assert "mixes CSV and Parquet" in refusal(spark, tmp_path)


def test_a_truncated_parquet_file_is_refused_by_name(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a truncated Parquet file stops the run and the message does not say which file it is."""
    write_parquet(tmp_path / "a.parquet", [row(1)])
    write_parquet(tmp_path / "b.parquet", [row(2)])
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    message = refusal(spark, tmp_path)
    assert "b.parquet: not a complete parquet file" in message
    assert "a.parquet" not in message


def damaged(path: Path) -> None:
    """A file with a good footer and torn data pages."""
    write_parquet(path, [row(number) for number in range(20_000)])
    content = bytearray(path.read_bytes())
    content[1000:30_000] = bytes(29_000)
    path.write_bytes(content)


def test_a_parquet_file_with_torn_pages_is_refused_by_name(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a Parquet file with damaged pages ends in an engine's stack trace that does not name the file."""
    write_parquet(tmp_path / "a.parquet", [row(-1)])
    damaged(tmp_path / "b.parquet")
    assert f"{tmp_path / 'b.parquet'}: " in refusal(spark, tmp_path)


LINE = b"1,2025-03-04,1,0,7,8,\n"


@pytest.mark.parametrize("content", [b"\xff" + LINE, LINE * 300_000 + b'"never closed' + LINE * 300_000])
def test_a_csv_file_that_is_none_is_refused_by_name(spark: SparkSession, tmp_path: Path, content: bytes) -> None:
    """Fails when a file that is not valid CSV ends in an engine's stack trace that does not name the file."""
    (tmp_path / "a.csv").write_bytes(",".join(row(1)).encode() + b"\n" + content)
    assert f"{tmp_path / 'a.csv'}: " in refusal(spark, tmp_path)


def test_failures_of_the_engine_itself_are_not_blamed_on_the_data(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an engine failure, such as lack of memory, is reported to the operator as bad data."""

    def fail(*_: object) -> None:
        raise PySparkException("out of memory")

    write_parquet(tmp_path / "a.parquet", [row(1)])
    monkeypatch.setattr("fraud_detection.transactions.reader.measure", fail)
    with pytest.raises(PySparkException, match="out of memory"):
        read(spark, tmp_path)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_mapped_column_named_twice_is_refused(spark: SparkSession, tmp_path: Path, form: str) -> None:
    """Fails when one of two columns with the same name is silently chosen, or the run ends in a stack trace."""
    write_twice(tmp_path, form, "amount")
    message = refusal(spark, tmp_path)
    assert "column named twice: amount\n" in message
    assert "missing" not in message


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["note", ""])
def test_columns_that_are_not_mapped_may_share_a_name(
    spark: SparkSession, tmp_path: Path, form: str, name: str
) -> None:
    """Fails when the empty columns that a spreadsheet adds at the end stop a run."""
    write_twice(tmp_path, form, name)
    assert len(ids_of(read(spark, tmp_path))) == 2


def write_twice(folder: Path, form: str, name: str) -> None:
    """Two valid rows with two extra columns of the same name."""
    table = pa.Table.from_pylist([row(1), row(2)])
    for _ in range(1 if name in table.column_names else 2):
        table = table.append_column(name, pa.array([1.0, 2.0]))
    if form == "csv":
        pyarrow.csv.write_csv(table, folder / "a.csv")
    else:
        pq.write_table(table, folder / "a.parquet")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_column_that_differs_from_a_mapped_one_in_case_alone_is_another(
    spark: SparkSession, tmp_path: Path, form: str
) -> None:
    """Fails when an engine confuses `Amount` and `amount`, and reads the wrong column or ends with a memory error."""
    rows = [{"Amount": 99.0} | row(1), {"Amount": 98.0} | row(2)]
    (write_csv if form == "csv" else write_parquet)(tmp_path / f"a.{form}", rows)
    assert [r["amount"] for r in rows_of(read(spark, tmp_path))] == [10.5, 10.5]


@pytest.mark.parametrize("extra", [("v", "V"), ("Amount",), ("Label_History",)])
def test_extra_columns_must_differ_in_more_than_case(
    spark: SparkSession, tmp_path: Path, extra: tuple[str, ...]
) -> None:
    """Fails when two extra columns that no engine can tell apart end in a message about memory."""
    write_parquet(tmp_path / "a.parquet", [row(1, **dict.fromkeys(extra, 1.0))])
    with pytest.raises(SettingsError, match=extra[0]):
        read(spark, tmp_path, settings.Columns(extra_numeric=extra))


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_lines_may_end_as_on_any_system(spark: SparkSession, tmp_path: Path, end: str) -> None:
    """Fails when a CSV file with old Mac line ends stops the run with a stack trace."""
    write_csv(tmp_path / "a.csv", [row(1), row(2)])
    text = (tmp_path / "a.csv").read_text()
    (tmp_path / "a.csv").write_bytes(text.replace("\n", end).encode())
    assert ids_of(read(spark, tmp_path)) == ["1", "2"]


@pytest.mark.parametrize("end", ["", "\n", "\r"])
def test_a_file_with_a_header_alone_holds_no_rows(spark: SparkSession, tmp_path: Path, end: str) -> None:
    """Fails when an hour without transactions, exported as a header alone, is refused as a damaged file."""
    write_csv(tmp_path / "a.csv", [row(1)])
    (tmp_path / "b.csv").write_text(",".join(row(1)) + end)
    assert ids_of(read(spark, tmp_path)) == ["1"]
    (tmp_path / "a.csv").unlink()
    assert "no rows" in refusal(spark, tmp_path)


HEADER, FIRST = ",".join(row(1)), "123456,2025-03-04T12:00:00,19.5,0,77,8,"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{FIRST}\n{FIRST}\n", "the first line holds values; expected column names"),
        (f"Export\n\n{HEADER}\n{FIRST}\n", "the line with the column names comes after 1 other line(s)"),
        (f"{HEADER}\n{FIRST}\n".replace(",", ";"), "the fields are separated by semicolons; expected commas"),
        (f"{HEADER}\n{FIRST}\n".replace(",", "|"), "the fields are separated by vertical bars; expected commas"),
        (f"{HEADER}\n{FIRST}\n".replace(",", "\t"), "the fields are separated by tabs; expected commas"),
        (f"{HEADER.upper()}\n{FIRST}\n", "missing column: amount, but there is AMOUNT: names must agree in case"),
        (f"{HEADER}\n{FIRST}\n".encode("utf-16"), "not UTF-8 text but UTF-16; save the file as UTF-8"),
        (f"{HEADER},é\n{FIRST},1\n".encode("latin-1"), "a.csv: not UTF-8 text"),
        (f"{HEADER}\n{FIRST}\né{FIRST}\n".encode("latin-1"), "a.csv: not UTF-8 text; save the file as UTF-8"),
    ],
    ids=str,
)
def test_a_csv_file_of_another_kind_is_told_by_what_is_wrong(
    spark: SparkSession, tmp_path: Path, text: str | bytes, expected: str
) -> None:
    """Fails when a wrongly formatted CSV file is reported as missing columns, or values of a row are shown."""
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refusal(spark, tmp_path)
    assert expected in message
    assert "123456" not in message
    assert "damaged" not in message


def test_an_extra_column_cannot_take_a_canonical_name(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when an extra column silently replaces a canonical column of the same name."""
    write_parquet(tmp_path / "a.parquet", [row(1, paid=1.0)])
    with pytest.raises(SettingsError, match="amount"):
        read(spark, tmp_path, settings.Columns(amount="paid", extra_numeric=("amount",)))


# What is refused row by row

BAD: dict[str, list[Row]] = {
    "null_id": [{"transaction_id": None}, {"customer_id": None}, {"terminal_id": None}],
    "unparseable_time": [{"transaction_time": None}, {"transaction_time": datetime.fromisoformat("1900-01-01")}],
    "future_time": [{"transaction_time": CLOCK.replace(tzinfo=None) + timedelta(seconds=1)}],
    "bad_amount": [{"amount": value} for value in (None, -0.01, float("nan"), float("inf"), 1e13)],
    "bad_label": [{"fraud": 2}, {"fraud": -1}],
    "label_before_transaction": [{"label_available_at": NOON - timedelta(seconds=1)}],
    "bad_number": [{"v": float("inf")}, {"v": float("-inf")}],
}
CASES = [(reason, change) for reason, changes in BAD.items() for change in changes]
WITH_NUMBER = settings.Columns(label_available_at="label_available_at", extra_numeric=("v",))


@pytest.mark.parametrize(("reason", "change"), CASES, ids=str)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_bad_row_is_put_aside_with_its_reason_and_the_column_at_fault(
    spark: SparkSession, tmp_path: Path, form: str, reason: str, change: Row
) -> None:
    """Fails when a bad row is used for training, or is quarantined without its reason and column."""
    rows = [row(1, v=0.0), row(2, v=0.0) | change]
    if form == "csv":
        write_csv(tmp_path / "a.csv", rows)
    else:
        write_parquet(tmp_path / "a.parquet", rows)
    found = read(spark, tmp_path, WITH_NUMBER)
    assert found.profile.rejected == {reason: 1}
    assert found.profile.rows == 2
    assert len(rows_of(found)) == 1
    assert found.rejected is not None
    assert [r["reason"] for r in found.rejected.collect()] == [reason]
    column = next(iter(change))
    assert column in found.profile.faults[reason]


@pytest.mark.parametrize(
    ("reason", "change", "shape"),
    [
        ("unparseable_time", {"transaction_time": "04.03.2025 12:00"}, "99.99.9999 99:99"),
        ("unparseable_time", {"label_available_at": "Soon"}, "Aaaa"),
        ("bad_amount", {"amount": "$1234.56"}, "$9999.99"),
        ("bad_amount", {"amount": "null"}, "null"),
        ("bad_label", {"fraud": "maybe"}, "maybe"),
        ("bad_number", {"v": "much"}, "aaaa"),
        ("null_id", {"customer_id": "  "}, "empty"),
    ],
)
def test_csv_text_that_does_not_fit_its_column_is_put_aside_as_it_was(
    spark: SparkSession, tmp_path: Path, reason: str, change: Row, shape: str
) -> None:
    """Fails when the quarantine loses the original text of a bad value, so that the data's owner cannot find it."""
    write_csv(tmp_path / "a.csv", [row(1, v=0.0), row(2, v=0.0) | change])
    found = read(spark, tmp_path, WITH_NUMBER)
    assert found.profile.rejected == {reason: 1}
    assert found.rejected is not None
    column, text = next(iter(change.items()))
    assert found.rejected.collect()[0][column] == text
    assert found.profile.faults[reason] == f"{column}: {shape}"


def test_broken_csv_lines_are_put_aside_with_their_text(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when malformed CSV lines disappear, or are quarantined without their text."""
    write_csv(tmp_path / "a.csv", [row(1), row(2)])
    with (tmp_path / "a.csv").open("a") as file:
        file.write("3,2025-03-04\n4,2025-03-04,1,0,7,8,,9,9\n")
    found = read(spark, tmp_path)
    assert ids_of(found) == ["1", "2"]
    assert found.profile.rejected == {"broken_line": 2}
    assert found.profile.faults == {"broken_line": "line: 9,9999-99-99 or 9,9999-99-99,9,9,9,9,,9,9"}
    assert found.rejected is not None
    lines = {r["broken_line"] for r in found.rejected.collect()}
    assert lines == {"3,2025-03-04", "4,2025-03-04,1,0,7,8,,9,9"}


def test_of_rows_with_the_same_id_one_good_one_is_kept(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the row kept of several with one id is a bad one, or depends on the order of rows and files."""
    copies = [row(1, amount=30.0), row(1, amount=20.0), row(1, amount=-1.0), row(1, amount=20.0)]
    for name, order in (("a", [0, 1, 2, 3]), ("b", [3, 2, 1, 0])):
        for place, index in enumerate(order):
            write_parquet(tmp_path / name / f"{place}.parquet", [copies[index], row(10 + place)])
    one, other = read(spark, tmp_path / "a"), read(spark, tmp_path / "b")
    assert one.profile.rejected == {"duplicate_id": 2, "bad_amount": 1}
    assert [r["amount"] for r in rows_of(one) if r["transaction_id"] == 1] == [20.0]
    assert rows_of(one) == rows_of(other)
    assert fingerprint(one) == fingerprint(other)


def test_a_bad_row_has_one_reason_though_all_apply(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a row with several faults is counted several times, so that the counts exceed the rejected rows."""
    change = {reason: changes[0] for reason, changes in BAD.items()}
    write_parquet(tmp_path / "a.parquet", [row(1, v=0.0), row(2, v=0.0) | change["bad_amount"] | change["null_id"]])
    assert read(spark, tmp_path, WITH_NUMBER).profile.rejected == {"null_id": 1}


kinds = st.sampled_from(["good", *BAD, "duplicate_id"])


@examples(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dirt=st.lists(kinds, min_size=1, max_size=30), form=st.sampled_from(["csv", "parquet"]), data=st.data())
def test_any_mixture_of_bad_rows_is_counted_and_good_rows_survive_exactly(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, dirt: list[str], form: str, data: st.DataObject
) -> None:
    """Fails when bad rows are miscounted, or take good rows out of the training data with them."""
    rows = [row(0, v=0.0)]
    for number, kind in enumerate(dirt, start=1):
        if kind == "duplicate_id":
            rows.append(dict(rows[0]))
        else:
            change = {} if kind == "good" else data.draw(st.sampled_from(BAD[kind]))
            rows.append(row(number, v=0.0) | change)
    folder = tmp_path_factory.mktemp("mixture")
    (write_csv if form == "csv" else write_parquet)(folder / f"a.{form}", rows)
    found = read(spark, folder, WITH_NUMBER)
    assert found.profile.rejected == {kind: dirt.count(kind) for kind in dirt if kind != "good"}
    assert sum(found.profile.rejected.values()) + len(ids_of(found)) == found.profile.rows == len(rows)
    assert sorted(int(i) for i in ids_of(found)) == [0, *(n for n, kind in enumerate(dirt, 1) if kind == "good")]
    assert set(found.profile.faults) == set(found.profile.rejected)
    assert (found.rejected.count() if found.rejected else 0) == sum(found.profile.rejected.values())


# Labels in a table of their own


LABEL_TABLE = settings.Columns(fraud=None, label_available_at=None)


def with_label_table(folder: Path, labels: list[Row], transactions: list[Row]) -> dict[str, Any]:
    write_parquet(folder / "transactions.parquet", transactions)
    write_csv(folder / "labels" / "labels.csv", labels)
    return {"columns": LABEL_TABLE, "labels": settings.LabelTable(path=str(folder / "labels"))}


def label(transaction: int | str, fraud: int | str | None, days: int | None = 3) -> Row:
    available = None if days is None else NOON + timedelta(days=days)
    return {"transaction_id": transaction, "fraud": fraud, "label_available_at": available}


def test_a_label_table_is_joined_by_transaction_id(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when labels from a label table reach the wrong transactions, or unmatched labels are not reported."""
    data = with_label_table(tmp_path, [label(1, 1), label(2, 0), label(9, 1)], [row(1), row(2), row(3)])
    found = read(spark, tmp_path, **data)
    assert [(r["fraud"], r["label_available_at"]) for r in rows_of(found)] == [
        (1, NOON + timedelta(days=3)),
        (0, NOON + timedelta(days=3)),
        (None, None),
    ]
    assert found.profile.frauds_by_hour.sum() == 1
    assert found.profile.unlabelled_by_hour.sum() == 1
    warnings = found.profile.warnings(settings.Data(), run_windows(CLOCK, settings.Windows()))
    assert "1 of 3 label rows have no transaction" in warnings


def test_of_several_labels_the_one_available_last_counts(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a corrected label does not replace the earlier one, or a transaction with two labels counts twice."""
    labels = [label(1, 1, 3), label(1, 0, 9), label(2, 0, 5), label(2, 1, 5), label(2, 0, None), label(3, 1)]
    data = with_label_table(tmp_path, labels, [row(1), row(2), row(3)])
    found = read(spark, tmp_path, **data)
    assert [r["fraud"] for r in rows_of(found)] == [0, 1, 1]
    assert found.profile.rows == 3
    assert found.profile.labels is not None
    assert found.profile.labels.superseded == 3


def test_a_label_table_keeps_what_was_known_before_a_correction(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a reversed chargeback erases what an earlier training knew, or a repeated label counts as a change."""
    labels = [label(1, 1, 3), label(1, 1, 5), label(1, 0, 9), label(2, 1, 3), label(2, 1, 4), label(3, 1)]
    data = with_label_table(tmp_path, labels, [row(1), row(2), row(3)])
    moments = [int((NOON + timedelta(days=days)).replace(tzinfo=UTC).timestamp()) * 10**6 for days in (3, 9)]
    expected = [(0, 9, f"{moments[0]:019d}=1 {moments[1]:019d}=0"), (1, 3, None), (1, 3, None)]
    found = [(r["fraud"], r["label_available_at"], r["label_history"]) for r in rows_of(read(spark, tmp_path, **data))]
    assert found == [(fraud, NOON + timedelta(days=days), history) for fraud, days, history in expected]
    before = read_transactions(
        spark, settings.Data(**data), str(tmp_path), CLOCK, (NOON + timedelta(days=8)).replace(tzinfo=UTC)
    )
    assert [(r["fraud"], r["label_history"]) for r in rows_of(before)] == [(1, None)] * 3


def test_a_copy_with_a_label_of_after_t_leaves_the_label_there_was(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a corrected copy from after the as-of time removes the label that was known then."""
    copies = [row(1, fraud=1), row(1, fraud=0, label_available_at=NOON + timedelta(days=9))]
    write_parquet(tmp_path / "a.parquet", copies)
    at = (NOON + timedelta(days=5)).replace(tzinfo=UTC)
    found = read_transactions(spark, settings.Data(columns=ALL), str(tmp_path), CLOCK, at)
    assert [r["fraud"] for r in rows_of(found)] == [1]


def test_a_bad_label_in_a_label_table_rejects_its_transaction(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a transaction with an invalid label counts as genuine, and the model learns to pass its fraud."""
    data = with_label_table(tmp_path, [label(1, 2), label(2, 1, -1)], [row(1), row(2), row(3)])
    found = read(spark, tmp_path, **data)
    assert found.profile.rejected == {"bad_label": 1, "label_before_transaction": 1}
    assert found.profile.faults["bad_label"] == "fraud: 2"
    assert found.rejected is not None
    assert {r["label_table_fraud"] for r in found.rejected.collect()} == {"1", "2"}


def test_too_many_broken_lines_in_a_label_table_stop_the_run(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when bad rows of a label table do not count towards the limit, and training goes on without labels."""
    data = with_label_table(tmp_path, [label(1, 1), label("", 1)], [row(1), row(2)])
    profile = read(spark, tmp_path, **data).profile
    profile.require_share(0.5)
    with pytest.raises(DataError, match="1 of 2 rows"):
        profile.require_share(0.4)


# Profile and quarantine


def test_the_profile_counts_good_rows_by_hour_without_gaps(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when hourly counts are wrong or leave out hours without rows, so that a data outage stays hidden."""
    times = [NOON, NOON + timedelta(minutes=59), NOON + timedelta(hours=2, minutes=30)]
    rows = [row(n, transaction_time=time, fraud=(1, 0, None)[n]) for n, time in enumerate(times)]
    write_parquet(tmp_path / "a.parquet", rows)
    profile = read(spark, tmp_path).profile
    assert profile.hours.tolist() == [NOON + timedelta(hours=n) for n in range(3)]
    assert profile.transactions_by_hour.tolist() == [2, 0, 1]
    assert profile.frauds_by_hour.tolist() == [1, 0, 0]
    assert profile.unlabelled_by_hour.tolist() == [0, 0, 1]
    assert (profile.first, profile.newest) == (times[0].replace(tzinfo=UTC), times[2].replace(tzinfo=UTC))


@pytest.mark.parametrize("newest", [NOON, NOON + timedelta(minutes=59, microseconds=1)])
def test_t_is_the_first_whole_hour_after_the_newest_transaction(
    spark: SparkSession, tmp_path: Path, newest: datetime
) -> None:
    """Fails when the default as-of time is not after every transaction, so that the newest ones are left out."""
    write_parquet(tmp_path / "a.parquet", [row(1, transaction_time=newest)])
    assert read(spark, tmp_path).profile.default_as_of == NOON.replace(tzinfo=UTC) + timedelta(hours=1)


def test_the_fingerprint_tells_contents_apart_and_not_files(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when changed data keep their fingerprint, or the same data split into other files get a new one."""
    rows = [row(1, v=1.0, w=1.0), row(2, amount=0.0, v=1.0, w=1.0)]
    write_parquet(tmp_path / "a" / "1.parquet", rows)
    write_parquet(tmp_path / "b" / "x" / "2.parquet", rows[1:])
    write_parquet(tmp_path / "b" / "1.parquet", rows[:1])
    changes: list[Row] = [{"amount": 0.01}, {"fraud": 1}, {"fraud": None}, {"transaction_id": 3}]
    changes += [{"label_available_at": None}, {"v": None}, {"w": None}, {"v": 2.0}]
    for number, change in enumerate(changes):
        write_parquet(tmp_path / str(number) / "1.parquet", [rows[0], rows[1] | change])
    names = ["a", "b", *(str(number) for number in range(len(changes)))]
    columns = settings.Columns(label_available_at="label_available_at", extra_numeric=("v", "w"))
    found = {name: fingerprint(read(spark, tmp_path / name, columns)) for name in names}
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 1 + len(changes)


def test_too_many_bad_rows_stop_the_run_with_counts_and_shapes(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a run goes on with too many bad rows, or stops without saying how many there are and where to look."""
    write_parquet(tmp_path / "a.parquet", [row(n) for n in range(9)] + [row(9, amount=-3.5)])
    profile = read(spark, tmp_path).profile
    profile.require_share(0.1)
    with pytest.raises(DataError, match=r"1 of 10 rows \(10.00%\)[^~]*bad_amount 1 \(amount: -9\.9\)") as caught:
        profile.require_share(0.09, "output/quarantine/1/rejected.csv")
    assert "output/quarantine/1/rejected.csv" in str(caught.value)


def test_an_input_of_bad_rows_only_stops_the_run_whatever_is_allowed(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when input without one good row ends in a stack trace because the limit of bad rows is set to 100%."""
    write_parquet(tmp_path / "a.parquet", [row(1, amount=-3.5)])
    found = read(spark, tmp_path)
    assert write_quarantine(found, open_folder(str(tmp_path / "out")), "run.csv") is not None
    for stop in (lambda: found.profile.require_share(1.0), lambda: found.profile.default_as_of):
        with pytest.raises(DataError, match=r"amount: -9\.9"):
            stop()


def test_the_quarantine_holds_the_bad_rows_with_reasons(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the quarantine file lacks a rejected row, its original values or the reason."""
    write_csv(tmp_path / "in" / "a.csv", [row(1), row(2, amount="1 000"), row(3, fraud=3)])
    output = open_folder(str(tmp_path / "out"))
    place = write_quarantine(read(spark, tmp_path / "in"), output, "run.csv")
    assert place == str(tmp_path / "out" / "run.csv")
    rows = pyarrow.csv.read_csv(place).select(["transaction_id", "reason", "amount", "fraud"]).to_pylist()
    assert sorted(rows, key=lambda r: r["transaction_id"]) == [
        {"transaction_id": 2, "reason": "bad_amount", "amount": "1 000", "fraud": 0},
        {"transaction_id": 3, "reason": "bad_label", "amount": "10.5", "fraud": 3},
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("'quoted", "''quoted"),
        ("-12.50", "-12.50"),
        ("+1e5", "+1e5"),
        ("12,50", "12,50"),
    ],
)
def test_the_quarantine_holds_no_formula_and_every_text_can_be_had_back(
    spark: SparkSession, tmp_path: Path, text: str, written: str
) -> None:
    """Fails when opening the quarantine in a spreadsheet runs a formula that a stranger put into a transaction."""
    write_parquet(tmp_path / "in" / "a.parquet", [row(1, customer_id="C1"), row(2, amount=-1.0, customer_id=text)])
    place = write_quarantine(read(spark, tmp_path / "in"), open_folder(str(tmp_path / "out")), "run.csv")
    assert place is not None
    with Path(place).open(encoding="utf-8", newline="") as file:
        found = next(csv.DictReader(file))
    assert (found["customer_id"], found["amount"]) == (written, "-1.0")
    assert found["customer_id"].removeprefix("'") == text


def test_the_names_of_the_quarantine_s_columns_are_no_formulas_either(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the header of the quarantine file runs as a formula in a spreadsheet."""
    (tmp_path / "a.csv").write_text("transaction_id,transaction_time,=1+1,fraud\n1,2025-03-04,1,0\n2,2025-03-04,x,0\n")
    columns = settings.Columns(amount="=1+1", customer_id=None, terminal_id=None)
    place = write_quarantine(read(spark, tmp_path, columns), open_folder(str(tmp_path / "out")), "run.csv")
    assert place is not None
    assert Path(place).read_text(encoding="utf-8").splitlines()[0].split(",")[3] == '"\'=1+1"'


def test_few_values_of_the_label_column_are_shown_and_many_only_by_shape(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a message repeats ids from a wrongly mapped label column, or hides labels such as `Y` and `N`."""
    labels = ["Y", "N", "suspected fraud", "4111111111111111"]
    write_csv(tmp_path / "few" / "a.csv", [row(0), *(row(n, fraud=text) for n, text in enumerate(labels, 1))])
    shown = read(spark, tmp_path / "few").profile.faults["bad_label"]
    assert set(shown.removeprefix("fraud: ").split(" or ")) == {"Y", "N", "suspected fraud", "9" * 16}
    write_csv(tmp_path / "many" / "a.csv", [row(0), *(row(n, fraud=n) for n in range(20, 40))])
    assert read(spark, tmp_path / "many").profile.faults["bad_label"] == "fraud: 99"


def test_the_most_frequent_shapes_are_shown_first_and_long_texts_are_cut(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when one odd value hides the most frequent fault, or the shape of a long text fills the message."""
    amounts = ["x" * 99, "$1.50", "$2.50", "$3.50", "12,5", "13,5"]
    write_csv(tmp_path / "a.csv", [row(0), *(row(n, amount=f'"{text}"') for n, text in enumerate(amounts, 1))])
    found = read(spark, tmp_path).profile.faults["bad_amount"]
    assert found == f"amount: $9.99 or 99,9 or {'a' * 32}…"


def test_a_file_without_a_header_shows_no_transaction(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the message about missing columns repeats the first row of a file without a header."""
    (tmp_path / "a.csv").write_text("10417,2025-03-04 12:00:00,731.55,0,C77123,T9\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read(spark, tmp_path)
    assert "columns found: 99999, 9999-99-99 99:99:99, 999.99, 9, A99999, A9" in str(caught.value)


def test_nothing_is_written_when_nothing_was_rejected(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a run on clean data leaves an empty quarantine file that suggests a problem."""
    write_csv(tmp_path / "in" / "a.csv", [row(1)])
    assert write_quarantine(read(spark, tmp_path / "in"), open_folder(str(tmp_path / "out")), "run.csv") is None
    assert not (tmp_path / "out").exists()


def hourly(folder: Path, hours: int, **changes: Any) -> None:
    rows = [row(n, transaction_time=NOON + timedelta(hours=n), label_available_at=None) for n in range(hours)]
    for one in rows:
        one.update({name: change(one["transaction_id"]) for name, change in changes.items()})
    write_parquet(folder / "a.parquet", rows, label_available_at=pa.timestamp("us"))


def warnings_of(spark: SparkSession, folder: Path, as_of: datetime | None = None, **data: Any) -> tuple[str, ...]:
    profile = read(spark, folder, **data).profile
    run = run_windows(as_of or profile.default_as_of, settings.Windows())
    return profile.warnings(settings.Data(columns=ALL, **data), run)


def test_quiet_data_give_no_warning(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when normal data raise a warning, and people learn to ignore warnings."""
    hourly(tmp_path, 1000, fraud=lambda n: int(n % 50 == 0))
    assert warnings_of(spark, tmp_path) == ()


def test_hours_without_rows_are_warned_of_also_at_the_end(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when missing hours of data, also the newest ones, are not reported."""
    hourly(tmp_path, 1000, fraud=lambda n: int(n % 50 == 0))
    stale = (NOON + timedelta(hours=1003)).replace(tzinfo=UTC)
    assert warnings_of(spark, tmp_path, stale) == (
        "3 of 1,003 hours have no transaction; the first is 2025-04-15T04:00, UTC",
    )


def test_a_fraud_rate_outside_its_band_is_warned_of(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a fraud rate outside `data.fraud_rate_band` goes unreported, and wrong labels are trained on."""
    hourly(tmp_path, 1000, fraud=lambda n: int(n % 10 == 0))
    assert "are frauds, outside data.fraud_rate_band 0.010% to 5.000%" in warnings_of(spark, tmp_path)[0]


def test_labels_slower_than_the_label_delay_are_warned_of(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when labels that arrive later than the configured delay go unreported, and late frauds count as genuine."""

    def available(n: int) -> datetime:
        return NOON + timedelta(hours=n, days=8 if n % 100 < 20 else 1)

    hourly(tmp_path, 1000, fraud=lambda n: int(n % 50 == 0), label_available_at=available)
    assert "after 8.0 days or later" in warnings_of(spark, tmp_path)[0]


def test_the_default_settings_file_says_every_default() -> None:
    """Fails when conf/retraining.yaml, where users look settings up, lacks a setting or shows another default."""
    path = Path(__file__).parents[2] / "conf" / "retraining.yaml"
    loaded = settings.load_settings(path)
    assert loaded.data.columns.label_available_at == "label_available_at"
    defaults = settings.Settings(data=settings.Data(columns=ALL))
    assert loaded == defaults
    assert yaml.safe_load(path.read_text()).keys() == defaults.model_dump().keys()
    for section, values in yaml.safe_load(path.read_text()).items():
        if isinstance(values, dict):
            assert values.keys() == defaults.model_dump()[section].keys()


@pytest.mark.needs("HANDBOOK_DATA")
def test_the_handbooks_transactions_are_all_good(spark: SparkSession) -> None:
    """Fails when a transaction of the Handbook is rejected, and its published figures cannot be reproduced."""
    data = settings.load_settings(Path(__file__).parents[2] / "conf" / "handbook.yaml").data
    profile = read_transactions(spark, data, os.environ["HANDBOOK_DATA"], CLOCK).profile
    assert (profile.rows, profile.rejected) == (1_754_155, {})
    assert profile.frauds_by_hour.sum() == 14_681
    assert len(profile.hours) == 183 * 24
    assert profile.default_as_of == datetime(2018, 10, 1, tzinfo=UTC)


# Both engines


def describe(spark: SparkSession, folder: str) -> dict[str, dict[str, Any]]:
    """What the engines must agree on, as plain values. The fingerprint covers every value of the good rows."""
    columns = settings.Columns(**vars(WITH_NUMBER) | {"extra_categorical": ("k",)})
    labels = settings.LabelTable(path=f"{folder}/labels")
    found = {}
    for form, data in {
        "csv": settings.Data(columns=columns),
        "parquet": settings.Data(columns=columns),
        "small": settings.Data(columns=LABEL_TABLE, labels=labels),
    }.items():
        transactions = read_transactions(spark, data, f"{folder}/{form}", CLOCK)
        profile = transactions.profile
        found[form] = {
            "rows": profile.rows,
            "rejected": profile.rejected,
            "faults": {reason: text.replace("9.9A99", "9" * 14 + ".9") for reason, text in profile.faults.items()},
            "fingerprint": fingerprint(transactions),
            "delay": str(profile.label_delay),
            "hours": profile.transactions_by_hour.tolist(),
            "labels": str(profile.labels),
            "types": transactions.table.dtypes,
        }
    assert transactions.rejected is not None
    bad = transactions.rejected.select("transaction_id", "reason").collect()
    shown = [F.col(name).cast("string") for name in transactions.table.columns]
    found["rows"] = {
        "good": sorted(str(tuple(r)) for r in transactions.table.select(*shown).collect()),
        "bad": sorted(f"{r['transaction_id']} {r['reason']}" for r in bad),
    }
    for name in ("torn", "absent"):
        try:
            read_transactions(spark, settings.Data(), f"{folder}/{name}", CLOCK)
        except DataError as error:
            found[name] = {"error": str(error)}
    return found


def test_both_engines_find_the_same(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when Sail and Spark read the same files differently, and a laptop trains on other data than a cluster."""
    random = np.random.default_rng(7)
    rows = []
    for number in range(300):
        change = CASES[number // 3 % len(CASES)][1] if number % 3 == 0 else {}
        late = NOON + timedelta(minutes=int(random.integers(6000)), microseconds=int(random.integers(1000)))
        good = row(int(number * 0.9), transaction_time=late, fraud=int(random.integers(2)), v=number - 20.5, k="é")
        good |= {
            "amount": round(float(random.lognormal(3, 2)), 2),
            "label_available_at": late + timedelta(hours=number),
        }
        rows.append(good | {"v": None if number % 7 == 0 else -0.0, "k": None if number % 5 == 0 else "é"} | change)
    write_csv(tmp_path / "csv" / "a.csv", rows[:150])
    write_csv(tmp_path / "csv" / "deep" / "b.csv", rows[150:])
    with (tmp_path / "csv" / "a.csv").open("a") as file:
        file.write("broken,line\n")
    write_parquet(tmp_path / "parquet" / "day=1" / "a.parquet", rows[:100], fraud=pa.int8(), customer_id=pa.int16())
    write_parquet(tmp_path / "parquet" / "[a] %20 b.parquet", rows[100:200], transaction_time=pa.timestamp("ns"))
    old = pa.Table.from_pylist(rows[200:])
    pq.write_table(old, tmp_path / "parquet" / "c.parquet", use_deprecated_int96_timestamps=True)
    write_parquet(
        tmp_path / "small" / "a.parquet", [row(20 + n * 9 // 10, amount=float(10 - n % 11)) for n in range(99)]
    )
    write_csv(tmp_path / "labels" / "a.csv", [label(n % 100, n % 2, n % 7 + 5) for n in range(0, 400, 3)])
    damaged(tmp_path / "torn" / "a.parquet")

    here = json.loads(json.dumps(describe(spark, str(tmp_path))))
    # Where a machine stands must not matter. A short run is over before Java's second compiler pays.
    environment = os.environ | {"TZ": "Asia/Tokyo", "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
    environment.pop("SPARK_CONNECT_MODE_ENABLED", None)
    command = [sys.executable, __file__, str(tmp_path)]
    there = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert there.returncode == 0, there.stderr[-3000:]
    spark_found = json.loads(there.stdout.splitlines()[-1])
    for part, values in here.items():
        for name, value in values.items():
            if (part, name) != ("torn", "error"):
                assert spark_found[part][name] == value, (part, name)
    assert "torn/a.parquet: " in spark_found["torn"]["error"]
    assert set(here["csv"]["rejected"]) == {*BAD, "broken_line", "duplicate_id"}
    assert "=0" not in here["small"]["labels"].replace("without_id=0", "")


if __name__ == "__main__":
    with session(Engine.SPARK) as apache:
        sys.stdout.write(json.dumps(describe(apache, sys.argv[1])) + "\n")
