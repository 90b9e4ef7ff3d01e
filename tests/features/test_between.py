"""The features of a span through the store of features: the same table as without it, on disk and from S3."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from between_data import (
    AS_OF,
    END,
    SETTINGS,
    START,
    STORE,
    files,
    made_labels,
    made_rows,
    read,
    require_same,
    require_same_with_labels,
    require_same_with_plain_labels,
    table_of,
    with_label_table,
    write,
)
from fakes.object_storage import KEY, serving, use_keys
from pandas.testing import assert_frame_equal
from pyspark.sql import DataFrame, SparkSession

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.features import between
from fraud_detection.features.compute import with_features
from fraud_detection.features.store.files import discard_features
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.storage import open_folder
from fraud_detection.transactions.store.manifest import DamagedStoreError


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with session(Engine.SAIL) as opened:
        yield opened


def test_the_store_gives_the_features_that_a_run_computes(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a model learns from other features because days before it were kept."""
    write(str(tmp_path), made_rows())
    require_same(spark, str(tmp_path))


@pytest.mark.slow
def test_an_earlier_view_gets_its_own_features(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a backfill reads features that know labels of later, or a run reads those of a backfill."""
    write(str(tmp_path), made_rows())
    for as_of in (AS_OF, AS_OF - timedelta(days=4, hours=5), AS_OF):
        require_same(spark, str(tmp_path), as_of=as_of)


@pytest.mark.slow
def test_rows_without_ids_have_features_in_the_store(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when an input without a transaction id stops all runs, or its rows get the features of others."""
    columns = SETTINGS.data.columns.model_copy(update={"transaction_id": None})
    write(str(tmp_path), made_rows(ids=False))
    data = SETTINGS.data.model_copy(update={"columns": columns})
    require_same(spark, str(tmp_path), SETTINGS.model_copy(update={"data": data}))


@pytest.mark.slow
def test_the_store_gives_the_same_in_a_bucket(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when workers write features elsewhere than into the bucket of the store, or others than on disk."""
    with serving("--key", KEY) as server:
        use_keys(monkeypatch, server.endpoint)
        write("s3a://bucket", made_rows())
        require_same(spark, "s3a://bucket")


@pytest.mark.proof
@pytest.mark.slow
def test_a_label_table_gives_the_same_in_a_bucket(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when labels that lie in a bucket reach other transactions than on disk."""
    with serving("--key", KEY) as server:
        use_keys(monkeypatch, server.endpoint)
        require_same_with_plain_labels(spark, "s3a://bucket")


def test_a_day_is_computed_once(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when each hourly run computes days that are over again, or the day of its as-of time is kept."""
    write(str(tmp_path), made_rows())
    spans: list[tuple[datetime, datetime]] = []
    counted(monkeypatch, lambda start, end: spans.append((start, end)))
    noon = START.replace(hour=0)
    table_of(read(spark, str(tmp_path)), START, END)
    assert spans == [(noon, AS_OF.replace(hour=0)), (AS_OF.replace(hour=0), END)]
    table_of(read(spark, str(tmp_path)), START, END)
    assert spans[2:] == [(AS_OF.replace(hour=0), END)]


def test_a_damaged_file_is_made_anew(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a damaged file of features stops all runs, or is taken for one of the rows and all input is read."""
    write(str(tmp_path), made_rows())
    plain = table_of(read(spark, str(tmp_path)), START, END)
    lost, short, torn = files(str(tmp_path))[:3]
    (tmp_path / "out" / lost).unlink()
    (tmp_path / "out" / short).write_bytes(b"short")
    size = (tmp_path / "out" / torn).stat().st_size
    (tmp_path / "out" / torn).write_bytes(b"x" * size)
    with pytest.raises(DamagedStoreError, match="run this again") as caught:
        table_of(read(spark, str(tmp_path)), START, END)
    assert torn in caught.value.file
    transactions = read(spark, str(tmp_path))
    assert_frame_equal(table_of(transactions, START, END), plain, check_exact=True)
    assert torn not in files(str(tmp_path))


def test_a_card_that_is_erased_meanwhile_leaves_no_features(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a run that began before `forget-card` publishes features of the card after it."""
    write(str(tmp_path), made_rows())
    transactions, output = read(spark, str(tmp_path)), open_folder(f"{tmp_path}/out")
    manifest = transactions.stored.snapshot.manifest if transactions.stored else None
    assert manifest is not None
    erased = manifest.model_copy(update={"number": manifest.number + 1, "forgotten": ("hash",)})

    def erase(*_: datetime) -> None:
        output.write_once(f"{STORE}manifest/{erased.number:08}.json.gz", erased.content())
        discard_features(output, STORE)

    counted(monkeypatch, erase)
    with pytest.raises(ServiceUnavailableError, match="was erased"):
        table_of(transactions, START, END)
    assert files(str(tmp_path)) == []


@pytest.mark.slow
def test_a_label_table_gives_the_features_that_a_run_computes(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when labels that a table brings or corrects do not reach features that were kept before."""
    require_same_with_labels(spark, str(tmp_path))


def test_a_label_changes_only_the_features_of_days_since(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when each label that a table brings makes a run compute all features again."""
    table, settings = made_rows(), with_label_table(str(tmp_path))
    write(str(tmp_path), table.drop_columns(["fraud", "known"]))
    write(str(tmp_path), made_labels(table, 0), "labels/a")
    table_of(read(spark, str(tmp_path), settings), START, END, settings)
    times = table["transaction_time"]
    days = [pa.scalar(AS_OF - timedelta(days=ago)) for ago in (20, 10)]
    unlabelled = pc.greater_equal(table["transaction_id"], 300)
    inside = pc.and_(pc.greater(times, days[0]), pc.and_(pc.less(times, days[1]), unlabelled))
    old = table.filter(pc.and_(inside, table["terminal_id"].is_valid())).slice(0, 1)
    label = {
        "transaction_id": old["transaction_id"],
        "fraud": pa.array([1], pa.int8()),
        "known": [AS_OF - timedelta(days=2)],
    }
    write(str(tmp_path), pa.table(label).cast(made_labels(table, 0).schema), "labels/b")
    spans: list[tuple[datetime, datetime]] = []
    counted(monkeypatch, lambda start, end: spans.append((start, end)))
    table_of(read(spark, str(tmp_path), settings), START, END, settings)
    today = AS_OF.replace(hour=0)
    assert spans == [(today - timedelta(days=2), today), (today, END)]


def counted(monkeypatch: pytest.MonkeyPatch, before: Callable[[datetime, datetime], None]) -> None:
    """Call a function with each span whose features are computed."""

    def compute(rows: DataFrame, settings: Settings, start: datetime, end: datetime) -> DataFrame:
        before(start, end)
        return with_features(rows, settings, start, end)

    monkeypatch.setattr(between, "with_features", compute)
