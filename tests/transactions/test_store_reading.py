"""Reading from the store: the same rows and the same profile as reading all files, whatever was measured before."""

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from reader_data import ALL, LABEL_TABLE, Row, damaged, label, row, write_csv, write_parquet

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.features import features_between, with_features
from fraud_detection.storage import open_folder
from fraud_detection.transactions import plan
from fraud_detection.transactions.files import open_files
from fraud_detection.transactions.reader import Transactions, read_transactions
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.store.manifest import DamagedStoreError
from fraud_detection.transactions.store.profiles import MeasuredDays
from fraud_detection.transactions.stored_reader import read_stored, store_inputs

pytest_plugins = ["reader_data"]

START = datetime(2025, 3, 1)  # noqa: DTZ001 - files have naive times
CLOCK = datetime(2025, 3, 20, 12, 30, tzinfo=UTC)


BROKEN: list[Row] = [
    {"amount": -1.0},
    {"fraud": 7},
    {"customer_id": None},
    {"transaction_id": 9001},
    {"transaction_time": None},
    {"transaction_time": START.replace(year=1960)},
    {},
]


@dataclass(frozen=True)
class Form:
    """One form of input."""

    data: Callable[[Path], settings.Data]
    write: Callable[[Path, list[Row]], None] = write_parquet
    dirty: bool = True


def with_label_table(folder: Path) -> settings.Data:
    return settings.Data(columns=LABEL_TABLE, labels=settings.LabelTable(path=str(folder / "labels")))


FORMS = {
    "clean": Form(lambda _: settings.Data(columns=ALL), dirty=False),
    "refunds left out": Form(lambda _: settings.Data(columns=ALL, refunds="exclude")),
    "without ids": Form(
        lambda _: settings.Data(columns=ALL.model_copy(update={"transaction_id": None}), refunds="absolute")
    ),
    "label table": Form(with_label_table),
    "undated labels in CSV": Form(lambda _: settings.Data(columns=settings.Columns()), write_csv),
}


def rows_of_day(day: int, chance: random.Random, *, dirty: bool) -> list[Row]:
    """Some rows of a day, with labels that come within ten days; dirty ones also repeat rows and ids."""
    rows = []
    for number in range(chance.randint(3, 12)):
        time = START + timedelta(days=day, seconds=chance.randrange(86_400))
        known = time + timedelta(hours=chance.randrange(240))
        changed = {
            "transaction_time": time,
            "amount": chance.choice([1.0, 2.5, 0.0]),
            "fraud": chance.choice([0, 0, 1, None]),
            "customer_id": chance.randrange(5),
            "label_available_at": chance.choice([known, None]),
        }
        rows.append(row(100 * (day + 90) + number, **changed))
        if dirty and chance.random() < 0.4:
            broken = chance.choice(BROKEN)
            rows.append(row(100 * (day + 90) + number + chance.choice([0, 50]), **(changed | broken)))
    return rows


def stored(
    spark: SparkSession,
    data: settings.Data,
    folder: Path,
    as_of: datetime | None = None,
    earlier: datetime | None = None,
    clock: datetime = CLOCK,
) -> Transactions:
    """What the store in `out` gives of the input in `in`."""
    output, path = open_folder(str(folder / "out")), str(folder / "in")
    sources = store_inputs(data, path)
    snapshot = JoinedStore(output, f"store/{sources[0].key}/", sources, lambda: clock).update().snapshot
    measured = MeasuredDays(output, f"store/{sources[0].key}/", data)
    return read_stored(spark, data, path, snapshot, measured, clock, as_of, earlier)


def assert_equal(one: Transactions, other: Transactions) -> None:
    """Rows, and the profile array by array."""
    for field in dataclasses.fields(one.profile):
        found, expected = getattr(one.profile, field.name), getattr(other.profile, field.name)
        if dataclasses.is_dataclass(expected) and field.name != "labels":
            for part in dataclasses.fields(expected):
                np.testing.assert_array_equal(getattr(found, part.name), getattr(expected, part.name))
        else:
            np.testing.assert_array_equal(found, expected, err_msg=field.name)
            assert getattr(found, "dtype", None) == getattr(expected, "dtype", None), field.name
    assert one.table.dtypes == other.table.dtypes
    assert sorted(map(repr, one.table.collect())) == sorted(map(repr, other.table.collect()))
    assert (one.rejected is None) == (other.rejected is None)
    if one.rejected is not None and other.rejected is not None:
        assert sorted(map(repr, one.rejected.collect())) == sorted(map(repr, other.rejected.collect()))


@pytest.mark.parametrize("form", FORMS)
def test_the_store_gives_what_the_files_give(spark: SparkSession, tmp_path: Path, form: str) -> None:
    """Fails when a decision, a fingerprint or a count depends on which runs came before."""
    chance = random.Random(7)
    write, dirty, data = FORMS[form].write, FORMS[form].dirty, FORMS[form].data(tmp_path)
    folder, labels = tmp_path / "in", [label(9, 1)]

    def write_day(day: int, name: int) -> None:
        rows = rows_of_day(day, chance, dirty=dirty)
        write(folder / f"{name:02}.{'csv' if write is write_csv else 'parquet'}", rows)
        labels.extend(label(r["transaction_id"], r["fraud"], chance.choice([None, day, day + 5])) for r in rows)
        write_csv(tmp_path / "labels" / "all.csv", labels)

    for day in range(10):
        write_day(day, day)
    moments = [datetime(2025, 3, day, 5, tzinfo=UTC) for day in (8, 11, 12, 17)]
    views = [(None, None, CLOCK), (moments[0], None, moments[0]), (moments[1], moments[0], moments[1])]
    views += [(moments[1], moments[0], CLOCK), (moments[3], moments[2], CLOCK)]
    for number, (as_of, earlier, clock) in enumerate(views):
        found = stored(spark, data, tmp_path, as_of, earlier, clock)
        assert_equal(found, read_transactions(spark, data, str(folder), clock, as_of, earlier))
        if number == 2:  # a day comes, rows come late, a file is corrected, and one goes
            for day, name in ((10, 10), (4, 11), (3, 3)):
                write_day(day, name)
            next(folder.glob("05.*")).unlink()


def test_a_moment_before_all_data_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a run as of a time before the data ends in a traceback instead of naming --as-of."""
    write_parquet(tmp_path / "in" / "a.parquet", rows_of_day(0, random.Random(1), dirty=False))
    with pytest.raises(DataError, match=r"no transaction before 2024-01-01 00:00 UTC.*--as-of"):
        stored(spark, settings.Data(columns=ALL), tmp_path, datetime(2024, 1, 1, tzinfo=UTC))


def test_a_new_file_that_breaks_the_contract_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a user cannot tell which of years of files lacks a column, or cannot be read."""
    data = settings.Data(columns=ALL)
    write_parquet(tmp_path / "in" / "a.parquet", rows_of_day(0, random.Random(1), dirty=False))
    stored(spark, data, tmp_path)
    short = [{name: value for name, value in row(1).items() if name != "amount"}]
    write_parquet(tmp_path / "in" / "b.parquet", short)
    with pytest.raises(DataError, match=r"missing column: amount, in 1 of 2 files, such as .*b\.parquet"):
        stored(spark, data, tmp_path)
    damaged(tmp_path / "in" / "b.parquet")
    with pytest.raises(DataError, match=r"cannot be read\n  .*b\.parquet: cannot be read to its end"):
        stored(spark, data, tmp_path)


def test_a_span_reads_only_its_days(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when features of a week read years of files, or lack rows at the ends of the span."""
    chance = random.Random(3)
    data = settings.Data(columns=ALL)
    for day in range(8):
        write_parquet(tmp_path / "in" / f"{day}.parquet", rows_of_day(day, chance, dirty=False))
    found = stored(spark, data, tmp_path)
    start, end = datetime(2025, 3, 3, 6, tzinfo=UTC), datetime(2025, 3, 5, 6, tzinfo=UTC)
    plain = read_transactions(spark, data, str(tmp_path / "in"), CLOCK).between(start, end)
    assert sorted(map(repr, found.between(start, end).collect())) == sorted(map(repr, plain.collect()))
    for path in (tmp_path / "out").rglob("rows/*/*.parquet"):
        if not "2025-03-03" <= path.parent.name <= "2025-03-05":
            path.unlink()
    assert found.between(start, end).count() == plain.count()


def test_settled_days_are_not_read_to_be_measured(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when each hourly run reads all history again for its profile, or looks for each of its files."""
    chance = random.Random(5)
    data = settings.Data(columns=ALL)
    for day in range(8):
        write_parquet(tmp_path / "in" / f"{day}.parquet", rows_of_day(day, chance, dirty=False))
    as_of = datetime(2025, 3, 20, tzinfo=UTC)
    first = stored(spark, data, tmp_path, as_of, as_of).profile
    output, sources = open_folder(str(tmp_path / "out")), store_inputs(data, str(tmp_path / "in"))
    snapshot = JoinedStore(output, f"store/{sources[0].key}/", sources, lambda: CLOCK).update().snapshot
    measured = MeasuredDays(output, f"store/{sources[0].key}/", data)
    for path in (tmp_path / "out").rglob("rows/*/*.parquet"):
        path.unlink()
    named: list[object] = []
    monkeypatch.setattr(plan, "typed_rows", lambda *given, **_: named.append(given))
    again = read_stored(spark, data, str(tmp_path / "in"), snapshot, measured, CLOCK, as_of, as_of).profile
    assert not named
    assert again.fingerprint(CLOCK - timedelta(days=30), CLOCK) == first.fingerprint(CLOCK - timedelta(days=30), CLOCK)


def first_seen(transactions: Transactions, since: int) -> dict[int, int]:
    """The new cards of ten days that begin on a day of March."""
    start = datetime(2025, 3, since, 7, tzinfo=UTC)
    found = transactions.first_seen(start, start + timedelta(days=10))
    assert found.columns.tolist() == ["customer_id", "first_seen"]
    return dict(zip(found["customer_id"].tolist(), found["first_seen"].tolist(), strict=True))


@pytest.mark.parametrize("form", ["clean", "refunds left out"])
def test_cards_are_as_new_as_in_all_files(spark: SparkSession, tmp_path: Path, form: str) -> None:
    """Fails when a card that a look compares as new depends on which looks came before, or on when its rows came."""
    chance, dirty, data = random.Random(7), FORMS[form].dirty, FORMS[form].data(tmp_path)
    folder = tmp_path / "in"

    def write_day(day: int, name: int) -> None:
        rows = rows_of_day(day, chance, dirty=dirty)
        write_parquet(folder / f"{name:02}.parquet", [one | {"customer_id": chance.randrange(60)} for one in rows])

    for day in range(9):
        write_day(day, day)
    for as_of, since, change in ((12, 3, (9, 9)), (14, 6, (1, 10)), (15, 7, (2, 2)), (13, 4, (10, 11)), (20, 9, None)):
        moment = datetime(2025, 3, as_of, 5, tzinfo=UTC)
        found = first_seen(stored(spark, data, tmp_path, moment), since)
        assert found == first_seen(read_transactions(spark, data, str(folder), CLOCK, moment), since)
        assert found
        if change is not None:  # a day comes, rows come late, a file is corrected
            write_day(*change)


def test_settled_days_are_read_once_for_their_cards(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when each look reads the cards of all history again."""
    data, chance = settings.Data(columns=ALL), random.Random(5)
    for day in range(12):
        rows = rows_of_day(day, chance, dirty=False)
        cards = [one | {"customer_id": chance.randrange(60), "label_available_at": None} for one in rows]
        write_parquet(tmp_path / "in" / f"{day}.parquet", cards)
    found = stored(spark, data, tmp_path, CLOCK)
    expected = [first_seen(found, since) for since in (8, 9)]
    [kept] = (tmp_path / "out").rglob("cards/*")
    kept.write_bytes(b"damaged")
    assert first_seen(found, 9) == expected[1], "it is made anew"
    for path in (tmp_path / "out").rglob("rows/*/*.parquet"):
        if path.parent.name < "2025-03-08":
            path.unlink()
    assert [first_seen(found, since) for since in (8, 9)] == expected


def test_bad_rows_are_looked_up_in_the_files_that_have_them(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when one bad row makes each run read years of its input's files again for the quarantine."""
    data, chance = settings.Data(columns=ALL), random.Random(5)
    for day in range(3):
        write_parquet(tmp_path / "in" / f"{day}.parquet", rows_of_day(day, chance, dirty=False))
    bad = row(900, transaction_time=START + timedelta(days=1), amount=-1.0, label_available_at=None)
    write_parquet(tmp_path / "in" / "bad.parquet", [bad])
    found = stored(spark, data, tmp_path)
    for day in (0, 2):
        (tmp_path / "in" / f"{day}.parquet").unlink()
    assert found.rejected is not None
    assert [row["amount"] for row in found.rejected.collect()] == ["-1.0"]


def test_a_corrected_label_is_not_quarantined_beside_a_bad_row(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a row that is good by its last label is judged by an earlier one, whose file alone was opened."""
    data, later = with_label_table(tmp_path), START + timedelta(days=2)
    rows = [row(1, transaction_time=START, amount=-3.0), row(2, transaction_time=later)]
    write_parquet(tmp_path / "in" / "a.parquet", rows)
    known = [START + timedelta(days=day) for day in (3, 9)]
    early = [label(1, 0) | {"label_available_at": known[0]}, label(2, 7) | {"label_available_at": known[0]}]
    write_csv(tmp_path / "labels" / "a.csv", early)
    write_csv(tmp_path / "labels" / "b.csv", [label(2, 0) | {"label_available_at": known[1]}])
    found = stored(spark, data, tmp_path, CLOCK)
    assert found.rejected is not None
    assert [(one["reason"], one["transaction_id"]) for one in found.rejected.collect()] == [("bad_amount", "1")]
    assert_equal(found, read_transactions(spark, data, str(tmp_path / "in"), CLOCK, CLOCK))


def test_a_file_of_the_store_that_cannot_be_read_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when flipped bits in the store end each run in an engine's traceback instead of a new store."""
    data = settings.Data(columns=ALL)
    write_parquet(tmp_path / "in" / "a.parquet", rows_of_day(0, random.Random(1), dirty=False))
    stored(spark, data, tmp_path)
    [path] = (tmp_path / "out").rglob("rows/*/*.parquet")
    path.write_bytes(b"x" * path.stat().st_size)
    for kept in (tmp_path / "out").rglob("profiles/*"):
        kept.write_bytes(b"damaged")
    with pytest.raises(DamagedStoreError) as found:
        stored(spark, data, tmp_path)
    assert found.value.file == str(path)
    output, sources = open_folder(str(tmp_path / "out")), store_inputs(data, str(tmp_path / "in"))
    store = JoinedStore(output, f"store/{sources[0].key}/", sources, lambda: CLOCK)
    assert store.update(found.value).damaged == str(path)
    again = stored(spark, data, tmp_path)
    assert_equal(again, read_transactions(spark, data, str(tmp_path / "in"), CLOCK))
    [path] = (path for path in (tmp_path / "out").rglob("rows/*/*.parquet"))
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DamagedStoreError), again.store_errors():
        again.table.collect()
    assert store.update().damaged == str(path), "the next run finds it, too"


def test_features_of_a_day_read_only_what_they_look_back_on(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when features of one day read years of the store, or differ because a day they need was left out."""
    chance, options = random.Random(3), settings.Settings(data=settings.Data(columns=ALL))
    for day in range(-90, 10, 2):
        write_parquet(tmp_path / "in" / f"{day}.parquet", rows_of_day(day, chance, dirty=False))
    found = stored(spark, options.data, tmp_path)
    plain = read_transactions(spark, options.data, str(tmp_path / "in"), CLOCK)
    start, end = datetime(2025, 3, 8, 12, tzinfo=UTC), datetime(2025, 3, 9, 12, tzinfo=UTC)
    expected = sorted(map(repr, with_features(plain.table, options, start, end).collect()))
    first = (start - timedelta(days=60 + options.windows.label_delay_days)).date().isoformat()
    for path in (tmp_path / "out").rglob("rows/*/*.parquet"):
        if not first <= path.parent.name <= "2025-03-09":
            path.unlink()
    assert expected
    assert sorted(map(repr, features_between(found, options, start, end).collect())) == expected


def test_remedies_read_no_more_good_rows_than_they_look_at(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a setting that does not fit one file makes each run read years of files, or is not named any more."""
    data, folder = settings.Data(columns=settings.Columns()), tmp_path / "in"
    for day in range(6):
        time = START + timedelta(days=day)
        rows = [row(100 * day + number, transaction_time=time, amount="10") for number in range(10)]
        write_csv(folder / f"{day}.csv", rows)
    last = START + timedelta(days=6)
    write_csv(folder / "6.csv", [row(900 + n, transaction_time=last, amount='"1,5"') for n in range(2)])
    plain = read_transactions(spark, data, str(folder), CLOCK)
    opened = list[list[str]]()

    def watched(url: str, paths: list[str], *rest: object) -> object:
        opened.append([Path(path).name for path in paths])
        return open_files(url, paths, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("fraud_detection.transactions.plan.MOST_GOOD", 15)
    monkeypatch.setattr("fraud_detection.transactions.plan.open_files", watched)
    found = stored(spark, data, tmp_path)
    assert found.profile.faults == plain.profile.faults
    assert "decimal_mark" in str(found.profile.faults)
    assert opened
    assert all({*names} <= {"0.csv", "1.csv", "6.csv"} for names in opened[1:]), "the first ones are of the store"
