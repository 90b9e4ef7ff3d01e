"""The feature plan: the same table from Sail and from Spark, whichever columns the input has."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference_features
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal, assert_series_equal
from reference_features import DAY, Transaction

from fraud_detection.errors import SettingsError
from fraud_detection.features import BASE_FEATURES, feature_names, with_features
from fraud_detection.settings import Columns, Data, Settings
from fraud_detection.spark_session import Engine, session

BEGINNING = datetime(2024, 3, 1, tzinfo=UTC)
START = datetime(2024, 5, 20, tzinfo=UTC)
END = datetime(2024, 5, 30, tzinfo=UTC)
NO_DATA = datetime(2030, 1, 1, tzinfo=UTC)
DAYS = 100

CASES = {
    "integer keys": Columns(),
    "string keys": Columns(extra_numeric=("score",), extra_categorical=("channel",), label_available_at="label_time"),
    "no customer": Columns(customer_id=None),
    "no terminal": Columns(terminal_id=None, label_available_at="label_time"),
    "unknown keys": Columns(label_available_at="label_time"),
    "no delay": Columns(),
    "neither": Columns(customer_id=None, terminal_id=None, extra_numeric=("score",)),
}
Tables = dict[str, pd.DataFrame]


def made_transactions() -> list[Transaction]:
    """A hundred days of few cards and terminals, with ties in time, labels early, late, on time and unknown."""
    random = np.random.default_rng(3)
    n = 600
    begin = int(BEGINNING.timestamp()) * 1_000_000
    moments = begin + random.integers(0, DAYS * 24, n) * (DAY // 24)
    late = np.where(random.random(n) < 0.5, random.integers(1, 40, n), -1)
    return [
        Transaction(i, time, card, terminal, cents, fraud, None if days < 0 else time + days * DAY)
        for i, time, card, terminal, cents, fraud, days in zip(
            random.permutation(n).tolist(),
            moments.tolist(),
            random.integers(0, 8, n).tolist(),
            random.integers(0, 5, n).tolist(),
            random.lognormal(8, 1, n).astype(int).tolist(),
            (random.random(n) < 0.2).tolist(),
            late.tolist(),
            strict=True,
        )
    ]


def without_keys(rows: list[Transaction]) -> list[Transaction]:
    """Some cards and terminals are unknown: each is one of its own, and negative."""
    rows = [replace(row, card=-1 - row.id) if row.id % 5 == 0 else row for row in rows]
    return [replace(row, terminal=-1 - row.id) if row.id % 7 == 0 else row for row in rows]


def rows_of(case: str) -> list[Transaction]:
    return without_keys(made_transactions()) if case == "unknown keys" else made_transactions()


def as_table(rows: list[Transaction], columns: Columns, text: bool) -> pa.Table:
    """The canonical table that the reader makes of such columns."""

    def key(values: list[int]) -> pa.Array:
        known = [None if value < 0 else value for value in values]
        return pa.array([f"k{value:04d}" for value in values] if text else known, None if text else pa.int64())

    moment = pa.timestamp("us", "UTC")
    # A fraud of nobody's knowledge is a null, and neither it nor a genuine transaction is a fraud.
    labels = [1 if row.fraud else 0 if row.id % 3 else None for row in rows]
    table = {
        "transaction_id": key([row.id for row in rows]),
        "transaction_time": pa.array([row.time for row in rows], moment),
        "amount": pa.array([row.cents / 100 for row in rows]),
        "fraud": pa.array(labels, pa.int8()),
    }
    if columns.customer_id:
        table["customer_id"] = key([row.card for row in rows])
    if columns.terminal_id:
        table["terminal_id"] = key([row.terminal for row in rows])
    if columns.label_available_at:
        table["label_available_at"] = pa.array([row.available for row in rows], moment)
    table |= {
        name: pa.array([row.cents % 7 / 2 or None for row in rows], pa.float64()) for name in columns.extra_numeric
    }
    table |= {name: pa.array(["web" if row.id % 2 else None for row in rows]) for name in columns.extra_categorical}
    return pa.table(table)


def settings_of(case: str) -> Settings:
    delay = {"no delay": 0, "unknown keys": "36h"}.get(case, 7)
    return Settings.model_validate(
        {"data": Data(columns=CASES[case]), "windows": {"label_delay_days": delay, "maturity_days": 7}}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The transactions of every case, as files."""
    folder = tmp_path_factory.mktemp("transactions")
    for case, columns in CASES.items():
        pq.write_table(as_table(rows_of(case), columns, case == "string keys"), folder / f"{case}.parquet")
    return folder


@pytest.fixture(scope="module")
def sail(folder: Path) -> Tables:
    """The Features table of every case on Sail."""
    return _tables(Engine.SAIL, folder)


@pytest.fixture(scope="module")
def spark(sail: Tables, folder: Path) -> Tables:
    """Likewise on Spark, after Sail: only one engine may be open in a process."""
    return _tables(Engine.SPARK, folder)


def _tables(engine: Engine, folder: Path) -> Tables:
    found: Tables = {}
    with session(engine) as spark:
        for case in CASES:
            transactions = spark.read.parquet(str(folder / f"{case}.parquet"))
            found[case] = _collected(with_features(transactions, settings_of(case), START, END))
        transactions = spark.read.parquet(str(folder / "integer keys.parquet"))
        settings = settings_of("integer keys")
        found["base"] = _collected(with_features(transactions, settings, START, END, base_only=True))
        found["no rows"] = _collected(with_features(transactions, settings, NO_DATA, NO_DATA))
    return found


def _collected(features: Any) -> pd.DataFrame:
    frame: pd.DataFrame = features.toPandas()
    return frame.sort_values("transaction_id", ignore_index=True)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, "base"])
def test_sail_and_spark_give_the_same_table(sail: Tables, spark: Tables, case: str) -> None:
    """Fails when a laptop and a cluster calculate different features from the same data."""
    assert len(sail[case]) > 40
    assert_frame_equal(sail[case], spark[case], check_exact=True)


@pytest.mark.parametrize("case", CASES)
def test_the_table_follows_the_definitions(sail: Tables, case: str) -> None:
    """Fails when the features table does not match the documented definitions, and every model learns the error."""
    columns = CASES[case]
    rows = rows_of(case)
    if columns.label_available_at is None:
        rows = [Transaction(r.id, r.time, r.card, r.terminal, r.cents, r.fraud) for r in rows]
    # No label is known before its transaction is over.
    delay = max(round(settings_of(case).windows.label_delay_days * DAY), 1)
    start, end = (int(moment.timestamp()) * 1_000_000 for moment in (START, END))
    wanted = sorted((row for row in rows if start <= row.time < end), key=lambda row: row.id)
    expected: dict[str, list[float]] = {}
    for row in wanted:
        values = reference_features.card_features(row, rows) if columns.customer_id else {}
        if columns.terminal_id:
            # Without card ids no fraud is explained by its card.
            seen = rows if columns.customer_id else [Transaction(r.id, r.time, r.id, *_rest(r)) for r in rows]
            values |= reference_features.terminal_features(row, seen, delay)
        for name, value in (values | {"amount": row.cents / 100}).items():
            expected.setdefault(name, []).append(value)
    found = sail[case]
    assert set(feature_names(settings_of(case))) == {*expected, "night", "weekend", *columns.extra_numeric}
    assert len(found) == len(wanted)
    for name, column in expected.items():
        assert_allclose(found[name].to_numpy(), column, rtol=1e-9, err_msg=name)


def _rest(row: Transaction) -> tuple[int, int, bool, int | None]:
    return row.terminal, row.cents, row.fraud, row.available


@pytest.mark.parametrize("case", CASES)
def test_columns_come_in_the_agreed_order_with_their_values(sail: Tables, case: str) -> None:
    """Fails when columns change their names, order or values on the way to training."""
    columns, found = CASES[case], sail[case].copy()
    given = as_table(rows_of(case), columns, case == "string keys").to_pandas()
    expected = [name for name in given if name not in (*columns.extra_numeric, *columns.extra_categorical)]
    expected += ["sample_hash", *feature_names(settings_of(case))[1:], *columns.extra_categorical]
    assert list(found) == expected
    given = given.set_index("transaction_id").loc[found["transaction_id"]].reset_index()
    for name in given:
        if name in ("transaction_time", "label_available_at"):
            found[name] = pd.to_datetime(found[name], utc=True)
        assert_series_equal(found[name], given[name], check_dtype=False)


def test_sample_hash_is_even_and_stays_the_same(sail: Tables) -> None:
    """Fails when the sampling hash changes, so that the same data give another training sample and model."""
    by_id = sail["integer keys"].set_index("transaction_id")["sample_hash"]
    assert by_id.between(0, 1, inclusive="left").all()
    assert abs(by_id.mean() - 0.5) < 0.1
    first = int(by_id.index[0])
    assert by_id[first] == pytest.approx(_published_hash(first), abs=0)
    texts = sail["string keys"]["sample_hash"]
    assert texts.between(0, 1, inclusive="left").all()
    assert texts.nunique() == len(texts)


def _published_hash(number: int) -> float:
    """The splitmix64 finaliser, whose upper 53 bits are the fraction."""
    bits = number & 0xFFFFFFFFFFFFFFFF
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return ((bits ^ (bits >> 31)) >> 11) / 2**53


@pytest.mark.parametrize("engine", ["sail", pytest.param("spark", marks=pytest.mark.slow)])
def test_no_rows_give_an_empty_table(request: pytest.FixtureRequest, engine: str) -> None:
    """Fails when a span without transactions stops the run."""
    tables: Tables = request.getfixturevalue(engine)
    assert tables["no rows"].empty
    assert list(tables["no rows"]) == list(tables["integer keys"])


def test_base_features_are_those_of_the_handbook(sail: Tables) -> None:
    """Fails when `base` is not the Handbook's fifteen features, and its published figures cannot be compared."""
    base = sail["base"]
    assert len(BASE_FEATURES) == 15
    full = sail["integer keys"]
    assert_frame_equal(base, full[list(base)])
    assert set(base) - set(full[[*list(full)[:7]]]) == set(BASE_FEATURES) - {"amount"}


def test_an_extra_column_cannot_take_a_features_place() -> None:
    """Fails when an extra column named like a feature silently takes its place in the model."""
    settings = Settings(data=Data(columns=Columns(extra_numeric=("night", "score"))))
    with pytest.raises(SettingsError, match=r"named like columns of the features table: night; rename"):
        feature_names(settings)
