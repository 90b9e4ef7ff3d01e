"""Labels in a table of their own."""

from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from reader_data import ALL, CLOCK, LABEL_TABLE, NOON, Row, label, read, row, rows_of, write_csv, write_parquet

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.time_windows import run_windows
from fraud_detection.transactions.reader import read_transactions

pytest_plugins = ["reader_data"]


def with_label_table(folder: Path, labels: list[Row], transactions: list[Row]) -> dict[str, Any]:
    write_parquet(folder / "transactions.parquet", transactions)
    write_csv(folder / "labels" / "labels.csv", labels)
    return {"columns": LABEL_TABLE, "labels": settings.LabelTable(path=str(folder / "labels"))}


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
