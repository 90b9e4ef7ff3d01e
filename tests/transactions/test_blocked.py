"""Payments that were blocked, and the control group that was let through."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from reader_data import CLOCK, NOON, Row, read, row, rows_of, write_csv, write_parquet

from fraud_detection import settings
from fraud_detection.schema import DataCounts
from fraud_detection.transactions.coverage import (
    blocked_frauds,
    control_group_size,
    coverage_text,
    coverage_warnings,
    data_counts,
)

pytest_plugins = ["reader_data"]

FLAGGED = settings.Columns(blocked="stopped", control_group="let_through")
BEGIN = datetime(2000, 1, 1, tzinfo=UTC)


def flagged(number: int, stopped: object, let_through: object, fraud: int | None) -> Row:
    return row(number, stopped=stopped, let_through=let_through, fraud=fraud) | {
        "transaction_time": NOON + timedelta(hours=number)
    }


@pytest.mark.parametrize("form", ["csv", "parquet", "booleans"])
def test_flags_are_read_and_an_alert_that_was_let_through_was_not_blocked(
    spark: SparkSession, tmp_path: Path, form: str
) -> None:
    """Fails when blocked payments are not known as such, or the control group counts as blocked."""
    rows = [flagged(1, 1, 0, None), flagged(2, 0, 1, 1), flagged(3, 1, 1, 0), flagged(4, None, None, 0)]
    if form == "booleans":
        flags = ("stopped", "let_through")
        rows = [one | {name: None if one[name] is None else bool(one[name]) for name in flags} for one in rows]
    (write_csv if form == "csv" else write_parquet)(tmp_path / f"a.{form.replace('booleans', 'parquet')}", rows)
    found = read(spark, tmp_path, FLAGGED)
    assert [(r["blocked"], r["control_group"]) for r in rows_of(found)] == [(1, 0), (0, 1), (0, 1), (0, 0)]
    assert dict(found.table.dtypes)["blocked"] == "tinyint"
    counts = data_counts(found.profile, BEGIN, CLOCK, CLOCK)
    assert (counts.matured_blocked, counts.matured_blocked_unlabelled, counts.matured_unlabelled) == (1, 1, 1)
    assert (counts.matured_control, counts.matured_control_frauds, counts.matured_control_unlabelled) == (2, 1, 0)


def test_a_flag_that_is_none_is_rejected(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a wrongly mapped flag column makes all payments let through, and blocked ones genuine."""
    write_csv(tmp_path / "a.csv", [flagged(1, 0, 0, 0), flagged(2, "declined", 0, None), flagged(3, 0, 5, None)])
    profile = read(spark, tmp_path, FLAGGED).profile
    assert profile.rejected == {"bad_flag": 2}
    assert set(profile.faults["bad_flag"].split(", ")) == {"let_through: 9", "stopped: aaaaaaaa"}


def test_the_values_of_labels_are_not_those_of_flags(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when labels that are written the other way round turn the flags round, too."""
    rows = [flagged(1, 1, 0, None), flagged(2, 0, 0, 0)]
    write_parquet(tmp_path / "a.parquet", rows)
    form = settings.Format(fraud_values=("0",), genuine_values=("1",))
    assert [r["blocked"] for r in rows_of(read(spark, tmp_path, FLAGGED, format=form))] == [1, 0]


def counts(**changes: int) -> DataCounts:
    none = dict.fromkeys(
        ("rejected_rows", "refunds", "unknown_cards", "unknown_terminals", "matured_frauds", "matured_unlabelled"), 0
    )
    return DataCounts.model_validate({"rows": 10_000, "matured": 10_000} | none | changes)


def test_the_share_of_missing_evidence_is_said_with_what_the_control_group_says(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Fails when a run on what alerts have left over does not say how many frauds it cannot see."""
    write_parquet(tmp_path / "a.parquet", [flagged(1, 0, 0, 0)], stopped=pa.int8())
    profile, data = read(spark, tmp_path, FLAGGED).profile, settings.Data(columns=FLAGGED)
    without = counts(matured_blocked=400, matured_blocked_unlabelled=300, matured_unlabelled=300, matured_frauds=50)
    assert coverage_text(without, data) == ("300 blocked without a label",)
    [text] = coverage_warnings(without, profile, data)
    assert "300 of 10,000 matured transactions (3.00%) were blocked" in text
    assert "385 alerts that are let through at random (data.columns.control_group)" in text
    measured = {"matured_control": 100, "matured_control_frauds": 40}
    [text] = coverage_warnings(without.model_copy(update=measured), profile, data)
    assert "40 of 100 alerts were frauds (40%; 95 %: 31% to 50%): about 120 frauds (93 to 149) are missing" in text
    assert "beside 50 that are known" in text
    assert without.unlabelled_share == 0.0


@given(st.integers(1, 500), st.data())
def test_the_interval_is_wilsons(control: int, data: st.DataObject) -> None:
    """Fails when the frauds that are missing are said to be known better, or worse, than they are."""
    frauds = data.draw(st.integers(0, control))
    known = counts(matured_control=control, matured_control_frauds=frauds, matured_blocked_unlabelled=1)
    found = blocked_frauds(known, settings.Data())
    expected = scipy.stats.binomtest(frauds, control).proportion_ci(method="wilson")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_documented_sizes_of_a_control_group_are_those_of_the_formula() -> None:
    """Fails when the documentation asks for fewer, or more, alerts than the formula."""
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) % \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for percent, *sizes in rows:
        expected = [control_group_size(int(percent) / 100, half) for half in (0.1, 0.05, 0.02)]
        assert [int(size.replace(",", "")) for size in sizes] == expected
