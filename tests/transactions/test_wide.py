"""Input with very many columns, or a very long line."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from reader_data import ALL, ids_of, read, row, rows_of, write_csv

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.transactions.columns import transaction_fields
from fraud_detection.transactions.csv import csv_batches
from fraud_detection.transactions.line_blocks import LONGEST_LINE

pytest_plugins = ["reader_data"]


def test_five_hundred_extra_columns_are_read_and_checked(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when data with hundreds of features, as anonymised data have them, end in an error of the engine."""
    numbers = {f"V{number}": number / 2 for number in range(400)}
    words = {f"W{number}": "web" for number in range(100)}
    bad = row(2, **numbers, **words) | {"V317": "much"}
    write_csv(tmp_path / "a.csv", [row(1, **numbers, **words), bad, row(3, **numbers, **words)])
    columns = settings.Columns(
        label_available_at="label_available_at", extra_numeric=tuple(numbers), extra_categorical=tuple(words)
    )
    found = read(spark, tmp_path, columns)
    assert ids_of(found) == ["1", "3"]
    assert rows_of(found)[0]["V399"] == 399 / 2
    assert found.profile.rejected == {"bad_number": 1}
    assert found.profile.faults["bad_number"].startswith("V317: aaaa")
    assert found.rejected is not None
    assert [rejected["V317"] for rejected in found.rejected.collect()] == ["much"]


GOOD = b"1,2025-03-04T12:00:00,10.5,0,7,8,"
FIELDS = b"," * (2 << 20)
TEXT = b'3,2025-03-04T12:00:00,"' + b"x" * (2 << 20) + b'",0,7,8,'


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=repr)
@pytest.mark.parametrize("line", [FIELDS, TEXT], ids=["fields", "text"])
@pytest.mark.parametrize("form", [{}, {"encoding": "latin-1", "skip_lines": 2}], ids=str)
def test_a_very_long_line_is_refused_with_its_file_and_number(
    tmp_path: Path, end: bytes, line: bytes, form: dict[str, Any]
) -> None:
    """Fails when one line of millions of fields crashes the process, or a long one cannot be found in the file."""
    path, fields = tmp_path / "a.csv", transaction_fields(ALL)
    before = [b"Export", b""][: form.get("skip_lines", 0)]
    path.write_bytes(end.join([*before, ",".join(row(1)).encode(), *[GOOD] * 50_000, line, GOOD, b""]))
    with pytest.raises(DataError, match=f"line {50_002 + len(before):,} is longer than 1,048,576 bytes"):
        list(csv_batches(str(path), fields, settings.Format(**form), with_source=False))


@pytest.mark.parametrize("blanks", [0, 1])
def test_only_a_line_beyond_the_limit_is_refused(tmp_path: Path, blanks: int) -> None:
    """Fails when long lines that can be read are refused, depending on where a block of the file ends."""
    path, fields = tmp_path / "a.csv", transaction_fields(ALL)
    longest = GOOD + b"x" * (LONGEST_LINE - len(GOOD))
    rows = [GOOD, longest, longest + b" " * blanks, GOOD] * 3
    path.write_bytes(b"\n".join([",".join(row(1)).encode(), *rows]))
    batches = csv_batches(str(path), fields, settings.Format(), with_source=False)
    if blanks:
        with pytest.raises(DataError, match=r"line 4 is longer"):
            list(batches)
    else:
        assert sum(batch.num_rows for batch in batches) == len(rows)


def test_the_run_names_the_file_of_a_very_long_line(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a long line in one of many files ends in an engine's message without the name of the file."""
    write_csv(tmp_path / "a.csv", [row(1)])
    (tmp_path / "b.csv").write_bytes(b"\n".join([",".join(row(1)).encode(), GOOD, FIELDS, GOOD]))
    with pytest.raises(DataError, match=r"b\.csv: line 3 is longer than 1,048,576 bytes"):
        read(spark, tmp_path)
