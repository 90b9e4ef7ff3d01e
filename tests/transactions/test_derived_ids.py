"""Transactions without an id: derived ids that stay, whatever happens to the files."""

import random
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError
from pyspark.sql import SparkSession
from reader_data import CLOCK, NOON, Row, fingerprint, read, row, rows_of, write_csv, write_parquet

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.transactions.reader import Transactions, read_transactions

pytest_plugins = ["reader_data"]

NO_ID = settings.Columns(
    transaction_id=None, label_available_at="label_available_at", extra_numeric=("v",), extra_categorical=("k",)
)
DATA = settings.Data(columns=NO_ID)


def without_id(**changes: object) -> Row:
    found = row(None, v=1.5, k="web") | changes
    del found["transaction_id"]
    return found


def ids_by_content(found: Transactions) -> dict[tuple[object, ...], list[int]]:
    """The ids of the rows that say the same, whatever their labels."""
    ids: dict[tuple[object, ...], list[int]] = {}
    for one in rows_of(found):
        said = (
            one["transaction_time"],
            one["amount"],
            str(one["customer_id"]),
            str(one["terminal_id"]),
            one["v"],
            one["k"],
        )
        ids.setdefault(said, []).append(one["transaction_id"])
    return {said: sorted(own) for said, own in ids.items()}


def all_ids(found: Transactions) -> list[int]:
    return [one["transaction_id"] for one in rows_of(found)]


rows_without_ids = st.lists(
    st.builds(
        without_id,
        transaction_time=st.integers(0, 3).map(lambda hours: NOON + timedelta(hours=hours)),
        amount=st.sampled_from([0.0, 10.5, 99.99]),
        customer_id=st.sampled_from([None, 7, 8]),
        terminal_id=st.sampled_from([None, 7]),
        v=st.sampled_from([None, 0.0, -0.0, 2.0]),
        k=st.sampled_from([None, "web"]),
        fraud=st.sampled_from([None, 0, 1]),
    ),
    min_size=1,
    max_size=12,
)


def write_all(folder: Path, rows: list[Row]) -> None:
    """In two files, of types that do not depend on the rows."""
    types = {
        "customer_id": pa.int64(),
        "terminal_id": pa.int64(),
        "fraud": pa.int8(),
        "v": pa.float64(),
        "k": pa.string(),
    }
    write_parquet(folder / "a.parquet", rows[: len(rows) // 2] or rows, **types)
    if rows[: len(rows) // 2]:
        write_parquet(folder / "b.parquet", rows[len(rows) // 2 :], **types)


@pytest.mark.slow
@examples(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_without_ids, more=rows_without_ids, seed=st.integers(0, 2**32))
def test_ids_do_not_depend_on_order_files_labels_or_later_rows(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, rows: list[Row], more: list[Row], seed: int
) -> None:
    """Fails when a transaction gets another id by another order, and is sampled, compared or counted as another one."""
    folder, shuffled = tmp_path_factory.mktemp("rows"), random.Random(seed).sample(rows, len(rows))
    write_all(folder / "one", rows)
    write_all(folder / "other", [one | {"fraud": None} for one in shuffled])
    write_all(folder / "more", [*more, *shuffled])
    one, other, appended = (read(spark, folder / name, NO_ID) for name in ("one", "other", "more"))
    ids = ids_by_content(one)
    assert len(set(all_ids(one))) == len(rows)
    assert ids == ids_by_content(other)
    assert one.profile.equal_rows == len(rows) - len(ids)
    longer = ids_by_content(appended)
    assert all(set(own) <= set(longer[said]) for said, own in ids.items())
    assert len(set(all_ids(appended))) == len(rows) + len(more)


def test_equal_rows_are_kept_and_counted_and_ids_are_the_same_in_csv_and_parquet(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Fails when payments that look alike are dropped as copies, or files in another form give other ids."""
    rows = [without_id(), without_id(fraud=1), without_id(), without_id(amount=3.0), without_id(customer_id=None)]
    write_csv(tmp_path / "csv" / "a.csv", rows)
    write_csv(tmp_path / "csv" / "b.csv", [without_id(transaction_time="soon", amount=-1.0)] * 2)
    write_parquet(tmp_path / "parquet" / "a.parquet", rows[::-1])
    text, typed = (read(spark, tmp_path / name, NO_ID) for name in ("csv", "parquet"))
    assert sorted(all_ids(text)) == sorted(all_ids(typed))
    assert len(set(all_ids(text))) == 5
    assert (text.profile.equal_rows, typed.profile.equal_rows) == (2, 2)
    assert text.profile.rejected == {"bad_amount": 2, "unparseable_time": 2}
    assert text.table.columns[0] == "transaction_id"
    assert text.rejected is not None
    assert [(r["reason"], r["amount"]) for r in text.rejected.collect()] == [
        ("unparseable_time,bad_amount", "-1.0")
    ] * 2
    assert fingerprint(text) == fingerprint(read(spark, tmp_path / "csv", NO_ID))


def test_a_label_from_after_the_as_of_time_does_not_change_which_row_has_which_id(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Fails when a decision cannot be reproduced, because a later label has swapped the ids of two equal payments."""
    late = NOON + timedelta(days=30)
    as_of = (NOON + timedelta(days=5)).replace(tzinfo=CLOCK.tzinfo)
    found = []
    for name, labels in (("before", (None, None)), ("after", (1, None)), ("swapped", (None, 1))):
        rows = [without_id(fraud=label, label_available_at=late if label else None) for label in labels]
        write_parquet(tmp_path / name / "a.parquet", rows, fraud=pa.int8(), label_available_at=pa.timestamp("us"))
        found.append(rows_of(read_transactions(spark, DATA, str(tmp_path / name), CLOCK, as_of)))
    assert found[0] == found[1] == found[2]


def test_a_label_table_needs_ids() -> None:
    """Fails when labels are joined by ids that no label table can name, and all of them are lost without a word."""
    columns = settings.Columns(transaction_id=None, fraud=None)
    with pytest.raises(ValidationError, match=r"labels are joined by it; map the id that labels\.transaction_id names"):
        settings.Data(columns=columns, labels=settings.LabelTable(path="labels"))


def test_the_message_of_a_missing_id_names_the_setting(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the owner of data without transaction ids is not told that there is a setting for them."""
    write_parquet(tmp_path / "a.parquet", [without_id()])
    with pytest.raises(DataError, match=r"without a transaction id: data\.columns\.transaction_id: null"):
        read(spark, tmp_path)
