"""The features of a span through the store of features: the same table as without it, on disk and from S3."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from between_data import AS_OF, END, SETTINGS, START, STORE, files, made_rows, read, require_same, table_of, write
from fakes.object_storage import KEY, serving, use_keys
from pandas.testing import assert_frame_equal
from pyspark.sql import DataFrame, SparkSession

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.features import between
from fraud_detection.features.compute import with_features
from fraud_detection.features.store.files import discard_features
from fraud_detection.settings import LabelTable, Settings
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


def test_a_label_table_has_no_stored_features(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when labels that a table corrects do not reach the features, since they are kept by rows alone."""
    table = made_rows()
    write(str(tmp_path), table.drop_columns(["fraud", "known"]))
    (tmp_path / "labels").mkdir()
    pq.write_table(table.select(["transaction_id", "fraud", "known"]).slice(0, 800), tmp_path / "labels" / "a.parquet")
    columns = SETTINGS.data.columns.model_copy(update={"fraud": None, "label_available_at": None})
    labels = LabelTable(path=str(tmp_path / "labels"), label_available_at="known")
    data = SETTINGS.data.model_copy(update={"columns": columns, "labels": labels, "max_rejected_share": 0.5})
    assert read(spark, str(tmp_path), SETTINGS.model_copy(update={"data": data})).stored is None


def counted(monkeypatch: pytest.MonkeyPatch, before: Callable[[datetime, datetime], None]) -> None:
    """Call a function with each span whose features are computed."""

    def compute(rows: DataFrame, settings: Settings, start: datetime, end: datetime) -> DataFrame:
        before(start, end)
        return with_features(rows, settings, start, end)

    monkeypatch.setattr(between, "with_features", compute)
