"""Input that is refused as a whole, and what the message says."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from reader_data import ALL, damaged, ids_of, read, row, rows_of, write_csv, write_parquet

from fraud_detection import settings
from fraud_detection.errors import DataError, SettingsError

pytest_plugins = ["reader_data"]


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
    write_parquet(tmp_path / "a.parquet", [wrong | {"amount": True, "transaction_time": 1741089600}])
    message = refusal(spark, tmp_path)
    assert "missing column: fraud\n" in message
    assert "missing column: customer_id\n" in message
    assert "unexpected type: amount found bool, expected number or text\n" in message
    assert "unexpected type: transaction_time found int64, expected timestamp, date or text;" in message
    assert 'next: data.format.time_unit: "s"\n' in message
    assert "columns found: transaction_id, transaction_time, amount" in message


def test_a_column_missing_in_one_file_is_reported_with_that_file(spark: SparkSession, tmp_path: Path) -> None:
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
        (
            f"Export\n\n{HEADER}\n{FIRST}\n",
            "the line with the column names comes after 2 other line(s), the first like Aaaaaa; expected it first;"
            " next: data.format.skip_lines: 2",
        ),
        (
            f"{HEADER}\n{FIRST}\n".replace(",", ";"),
            'the fields are separated by semicolons; expected commas; next: data.format.separator: ";"',
        ),
        (f"{HEADER}\n{FIRST}\n".replace(",", "|"), "the fields are separated by vertical bars; expected commas"),
        (f"{HEADER}\n{FIRST}\n".replace(",", "\t"), "the fields are separated by tabs; expected commas"),
        (f"{HEADER.upper()}\n{FIRST}\n", "missing column: amount; did you mean AMOUNT?"),
        (
            "'" + f"{HEADER}\n{FIRST}\n".replace(",", "','").replace("\n", "'\n'"),
            "the names stand between ' and '; next: data.format.quote: \"'\"",
        ),
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xe9\n", "not UTF-8 text; it may be no text at all; expected CSV"),
        (f"{HEADER}\n{FIRST}\n".encode("utf-16"), 'not UTF-8 text; next: data.format.encoding: "utf-16"'),
        (f"{HEADER},é\n{FIRST},1\n".encode("latin-1"), 'a.csv: not UTF-8 text; next: data.format.encoding: "latin-1"'),
        (f"{HEADER}\n{FIRST}\né\n".encode("latin-1"), 'a.csv: not UTF-8 text; next: data.format.encoding: "latin-1"'),
        (
            f"{HEADER}\n{FIRST}\né{FIRST}\n".encode("latin-1"),
            'a.csv: not UTF-8 text; next: data.format.encoding: "latin-1"',
        ),
    ],
    ids=str,
)
def test_a_csv_file_of_another_kind_is_refused_with_the_reason(
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


@pytest.mark.parametrize("card", [1.5, 2.0**60, float("inf")])
def test_numbers_that_are_no_ids_are_refused(spark: SparkSession, tmp_path: Path, card: float) -> None:
    """Fails when two cards become one because their numbers lost digits."""
    write_parquet(tmp_path / "a.parquet", [row(1, customer_id=card), row(2, customer_id=3.0)])
    message = refusal(spark, tmp_path)
    assert f"{tmp_path / 'a.parquet'}: an id is a number with a fraction, or of more than 15 digits" in message
    assert "damaged" not in message
