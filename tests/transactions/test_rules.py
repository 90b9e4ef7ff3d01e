"""Rows that are rejected, and why."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from reader_data import BAD, CASES, WITH_NUMBER, Row, fingerprint, ids_of, read, row, rows_of, write_csv, write_parquet

from fraud_detection.errors import DataError

pytest_plugins = ["reader_data"]


@pytest.mark.parametrize(("reason", "change"), CASES, ids=str)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_bad_row_is_rejected_with_its_reason_and_the_column_at_fault(
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
        ("null_id", {"transaction_id": "  "}, "empty"),
    ],
)
def test_csv_text_that_does_not_fit_its_column_is_rejected_as_it_was(
    spark: SparkSession, tmp_path: Path, reason: str, change: Row, shape: str
) -> None:
    """Fails when the quarantine loses the original text of a bad value, so that the data's owner cannot find it."""
    write_csv(tmp_path / "a.csv", [row(1, v=0.0), row(2, v=0.0) | change])
    found = read(spark, tmp_path, WITH_NUMBER)
    assert found.profile.rejected == {reason: 1}
    assert found.rejected is not None
    column, text = next(iter(change.items()))
    assert found.rejected.collect()[0][column] == text
    assert found.profile.faults[reason].split("; next: ")[0] == f"{column}: {shape}"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_row_without_a_card_or_a_terminal_is_used_or_rejected_as_the_settings_say(
    spark: SparkSession, tmp_path: Path, form: str
) -> None:
    """Fails when payments whose card is unknown stop a run that may use them, or are used where they must not be."""
    rows = [row(1), row(2, customer_id=None), row(3, terminal_id=None), row(4, customer_id=None, terminal_id=None)]
    (write_csv if form == "csv" else write_parquet)(tmp_path / f"a.{form}", rows)
    used = read(spark, tmp_path).profile
    assert (used.rejected, used.unknown_cards, used.unknown_terminals) == ({}, 2, 2)
    refused = read(spark, tmp_path, missing_cards="reject").profile
    assert (refused.rejected, refused.unknown_cards, refused.unknown_terminals) == ({"null_id": 2}, 0, 1)
    assert refused.faults == {"null_id": "customer_id: empty"}


def test_an_unknown_card_is_not_an_unknown_terminal(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when two inputs have one fingerprint although a card has become a terminal."""
    write_parquet(tmp_path / "a.parquet", [row(1), row(2, customer_id=None, terminal_id=5)])
    write_parquet(tmp_path / "b" / "a.parquet", [row(1), row(2, customer_id=5, terminal_id=None)])
    assert fingerprint(read(spark, tmp_path / "a.parquet")) != fingerprint(read(spark, tmp_path / "b"))


def test_broken_csv_lines_are_rejected_with_their_text(spark: SparkSession, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_every_reason_of_a_row_is_counted_and_the_row_once(spark: SparkSession, tmp_path: Path, form: str) -> None:
    """Fails when a fault hides behind another one of the same row, and is found only after the first is corrected."""
    bad = row(2, v=0.0) | {
        name: value for kind in ("bad_amount", "null_id", "bad_label") for name, value in BAD[kind][0].items()
    }
    (write_csv if form == "csv" else write_parquet)(
        tmp_path / f"a.{form}", [row(1, v=0.0), bad, row(3, v=0.0, fraud=5)]
    )
    found = read(spark, tmp_path, WITH_NUMBER)
    assert found.profile.rejected == {"bad_label": 2, "bad_amount": 1, "null_id": 1}
    assert (found.profile.rejected_rows, found.profile.rows) == (2, 3)
    assert set(found.profile.faults) == {"bad_label", "bad_amount", "null_id"}
    assert found.profile.faults["null_id"] == "transaction_id: empty"
    assert found.rejected is not None
    assert sorted(r["reason"] for r in found.rejected.collect()) == ["bad_label", "null_id,bad_amount,bad_label"]
    with pytest.raises(DataError, match=r"2 of 3 rows \(66\.67%\)") as caught:
        found.profile.require_share(0.5)
    assert "max_rejected_share" not in str(caught.value)


kinds = st.sampled_from(["good", *BAD, "duplicate_id"])


@pytest.mark.slow
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
