"""What is counted of a champion's reference for drift is counted once, until something that it depends on changes."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_detection.features import feature_names, features_between
from fraud_detection.model.fit import fit
from fraud_detection.model.model import Model
from fraud_detection.outputs import features_folder
from fraud_detection.registry import Champion
from fraud_detection.runs.drift import find_drift
from fraud_detection.runs.reference_counts import Counted, keep_counts
from fraud_detection.schema import ShiftedSample, Span
from fraud_detection.settings import Columns, Data, Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.storage import open_folder
from fraud_detection.transactions.reader import StoredRows, Transactions
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.store.profiles import MeasuredDays, to_micros
from fraud_detection.transactions.store.rows import Snapshot
from fraud_detection.transactions.stored_reader import read_stored, store_inputs

AS_OF = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPAN = AS_OF - timedelta(days=20, hours=1), AS_OF - timedelta(days=13)
SETTINGS = Settings(data=Data(columns=Columns(label_available_at="known")))
STORE = "_store/key/"


def write(folder: Path, name: str, times: list[datetime]) -> None:
    """Transactions of few cards and terminals, some of them fraud."""
    random, n = np.random.default_rng(len(times)), len(times)
    table = {
        "transaction_id": pa.array([f"{name}{number}" for number in range(n)]),
        "transaction_time": pa.array(times, pa.timestamp("us", "UTC")),
        "amount": pa.array(random.lognormal(3, 1, n).round(2)),
        "customer_id": pa.array(random.integers(0, 9, n)),
        "terminal_id": pa.array(random.integers(0, 6, n)),
        "fraud": pa.array((random.random(n) < 0.2).astype(np.int8)),
        "known": pa.array([time + timedelta(hours=5) for time in times], pa.timestamp("us", "UTC")),
    }
    (folder / "in").mkdir(exist_ok=True)
    pq.write_table(pa.table(table), folder / "in" / f"{name}.parquet")


def hours(first: int, count: int) -> list[datetime]:
    """Moments each three hours, since some hours before `AS_OF`."""
    return [AS_OF - timedelta(hours=first - 3 * number, minutes=7) for number in range(count)]


def snapshot_of(folder: Path) -> Snapshot:
    sources = store_inputs(SETTINGS.data, str(folder / "in"))
    return JoinedStore(open_folder(str(folder / "out")), STORE, sources, lambda: AS_OF).update().snapshot


def transactions(folder: Path, as_of: datetime = AS_OF) -> Transactions:
    """Those of which nothing but the state of the store is asked."""
    stored = StoredRows(cast("object", None), snapshot_of(folder), STORE, AS_OF, to_micros(as_of), to_micros(as_of))  # type: ignore[arg-type]
    return Transactions(lambda: None, None, None, stored=stored)  # type: ignore[arg-type, return-value]


class Counter:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self) -> Counted:
        number = next(self._numbers)
        sample = ShiftedSample(start=SPAN[0], end=SPAN[1], transactions=number, independent=0.1 + number)
        return Counted(sample, pd.DataFrame({"name": [0, 1], "bin": [-5, 2**40], "rows": [number, 3]}, dtype=np.int64))


def model_of(trees: int) -> Model:
    rows = pd.DataFrame({"transaction_id": range(40), "fraud": [0, 1] * 20, "amount": np.arange(40.0)})
    return fit(rows, None, SETTINGS.training.model_copy(update={"trees": trees}), ("amount",))


def test_the_reference_is_counted_until_something_changes(tmp_path: Path) -> None:
    """Fails when each hour counts weeks anew, or drift is measured against another champion's or older rows."""
    write(tmp_path, "a", hours(24 * 80, 8 * 80))
    count, model, other = Counter(), model_of(2), model_of(3)

    def number(model: Model = model, missing: tuple[str, ...] = (), span: tuple[datetime, datetime] = SPAN) -> int:
        found = keep_counts(transactions(tmp_path), SETTINGS, model, missing, span, count)
        assert found.sample.independent == 0.1 + found.sample.transactions
        expected = [[0, -5, found.sample.transactions], [1, 2**40, 3]]
        assert found.bins[["name", "bin", "rows"]].to_numpy().tolist() == expected
        return found.sample.transactions

    assert [number(), number()] == [1, 1]
    write(tmp_path, "hour", hours(1, 1))
    assert number() == 1, "a new row of today"
    write(tmp_path, "late", hours(24 * 15, 1))
    assert [number(), number()] == [2, 2], "a late row of the reference"
    write(tmp_path, "early", hours(24 * 30, 1))
    assert [number(), number()] == [3, 3], "a late row that its features look back to"
    assert [number(other), number(other)] == [4, 4], "another champion"
    assert [number(other, ("amount",)), number(other, ("amount",))] == [5, 5]
    moved = SPAN[0], SPAN[1] - timedelta(hours=1)
    assert [number(other, span=moved), number(other, span=moved)] == [6, 6]
    [kept] = (tmp_path / "out" / features_folder(STORE)).rglob("reference/*")
    kept.write_bytes(b"damaged")
    assert [number(other, span=moved), number(other, span=moved)] == [7, 7]


def test_what_may_still_change_is_not_kept(tmp_path: Path) -> None:
    """Fails when the counts of a morning are taken for those of the day."""
    write(tmp_path, "a", hours(24 * 80, 8 * 80))
    count, seen = Counter(), transactions(tmp_path, SPAN[1] - timedelta(hours=1))
    for number in (1, 2):
        assert keep_counts(seen, SETTINGS, model_of(2), (), SPAN, count).sample.transactions == number
    without = replace(seen, stored=None)
    assert keep_counts(without, SETTINGS, model_of(2), (), SPAN, count).sample.transactions == 3


@pytest.mark.slow
def test_drift_is_the_same_from_the_store(tmp_path: Path) -> None:
    """Fails when a run opens a candidate, or stops, because drift was measured on kept counts."""
    write(tmp_path, "a", hours(24 * 150, 8 * 150))
    output = open_folder(str(tmp_path / "out"))
    with session(Engine.SAIL) as spark:
        measured = MeasuredDays(output, STORE, SETTINGS.data)
        moments = AS_OF, AS_OF
        seen = read_stored(spark, SETTINGS.data, str(tmp_path / "in"), snapshot_of(tmp_path), measured, *moments)
        plain = replace(seen, stored=None)
        end = AS_OF - timedelta(days=14)
        rows = features_between(plain, SETTINGS, end - timedelta(days=40), end).toPandas()
        model = fit(rows, None, SETTINGS.training.model_copy(update={"trees": 5}), feature_names(SETTINGS))
        span = Span(start=end - timedelta(days=40), end=end, transactions=1, frauds=1)
        champion = Champion(1, "run", model, end, span)
        expected = find_drift(plain, champion, (), AS_OF, SETTINGS)
        assert expected is not None
        assert [find_drift(seen, champion, (), AS_OF, SETTINGS) for _ in range(2)] == [expected, expected]
    assert list((tmp_path / "out" / features_folder(STORE)).rglob("reference/*"))
