"""What a message about rejected rows suggests: settings that read the rejected texts and those that are read now."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from reader_data import Row, read, row, write_csv, write_parquet

from fraud_detection import settings

pytest_plugins = ["reader_data"]

CASES: dict[str, tuple[str, list[object], str]] = {
    "time": (
        "transaction_time",
        ["13.02.2025 10:00", "01.03.2025 9:30"],
        'data.format.time_formats: ["%d.%m.%Y %H:%M"]',
    ),
    "day or month": (
        "transaction_time",
        ["01/02/2025"],
        'data.format.time_formats: ["%d/%m/%Y"] or data.format.time_formats: ["%m/%d/%Y"]',
    ),
    "unix time": ("transaction_time", [1740830400, 1740830401], 'data.format.time_unit: "s"'),
    "beside ISO": (
        "transaction_time",
        ["2025-03-01 10:00:00", "14.02.2025"],
        'data.format.time_formats: ["%d.%m.%Y", "%Y-%m-%d %H:%M:%S"]',
    ),
    "thousands": ("amount", ['"1,805.20"', "26.38"], 'data.format.thousands_mark: ","'),
    "decimal comma": ("amount", ['"26,38"'], 'data.format.decimal_mark: ","'),
    "currency": ("amount", ["$5.20", "$7"], 'data.format.currency: ["$"]'),
    "one that nothing reads": ("amount", ["5 EUR", "7 EUR", "secret"], 'data.format.currency: ["EUR"]'),
    "labels": ("fraud", ["Y", "N"], 'data.format.fraud_values: ["Y"]; data.format.genuine_values: ["N"]'),
    "a third label": ("fraud", ["0", "1", "2"], 'data.format.unknown_values: ["2"]'),
    "an extra number": ("v", ['"1,5"', "7"], 'data.format.decimal_mark: ","'),
}


def faults(spark: SparkSession, path: Path, column: str, values: list[object], **form: Any) -> str:
    rows: list[Row] = [{**row(number), "v": "", column: value} for number, value in enumerate(values)]
    write_csv(path / "a.csv", rows)
    columns = settings.Columns(label_available_at="label_available_at", extra_numeric=("v",))
    found = read(spark, path, columns, format=settings.Format(**form)).profile.faults
    return " ".join(found.values())


@pytest.mark.parametrize("case", CASES)
def test_a_message_names_the_setting_that_fits(spark: SparkSession, tmp_path: Path, case: str) -> None:
    """Fails when the user has to guess which setting reads the rejected values, or is told one that rejects others."""
    column, values, expected = CASES[case]
    found = faults(spark, tmp_path, column, values)
    assert found.endswith(f"; next: {expected}")
    assert "secret" not in found


def test_a_wrong_setting_is_corrected(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a time format that does not fit ends in a message without the one that does."""
    wrong = {"time_formats": ["%m/%d/%Y"]}
    assert "next: data.format.time_formats: []" in faults(spark, tmp_path, "transaction_time", ["2025-03-01"], **wrong)
    found = faults(spark, tmp_path, "transaction_time", ["1740830400000"], time_unit="s")
    assert 'transaction_time: 9999999999999; next: data.format.time_unit: "ms" ' in found
    known = {"fraud_values": ["rot"], "genuine_values": ["blau"]}
    found = faults(spark, tmp_path, "fraud", ["rot", "blau", "pending"], **known)
    assert found.endswith('next: data.format.unknown_values: ["pending"]')


@pytest.mark.parametrize(
    ("column", "values"), [("fraud", ["red", "blue"]), ("amount", ["secret", "-5"]), ("transaction_time", ["secret"])]
)
def test_nothing_is_suggested_where_nothing_fits(
    spark: SparkSession, tmp_path: Path, column: str, values: list[object]
) -> None:
    """Fails when a setting is suggested that does not help, or holds a value of the data."""
    assert "next:" not in faults(spark, tmp_path, column, values)


def test_text_in_parquet_gets_the_same_advice(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when only CSV files get a setting suggested."""
    write_parquet(tmp_path / "a.parquet", [row(1, amount="1.805,20")])
    expected = 'data.format.decimal_mark: ","; data.format.thousands_mark: "."'
    assert expected in read(spark, tmp_path).profile.faults["bad_amount"]
