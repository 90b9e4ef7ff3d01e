"""Forgotten cards: a store is as if their rows had never been in its input, whatever came before and after."""

import dataclasses
import random
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from reader_data import ALL, row, write_parquet
from store_data import COLUMNS as CSV_COLUMNS
from store_data import KilledError, Row, Watched, changes, rows, write
from test_store_increments import content, expected_repeats
from test_store_reading import CLOCK, START, assert_equal, rows_of_day

from fraud_detection import settings
from fraud_detection.errors import FraudDetectionError
from fraud_detection.features import with_features
from fraud_detection.outputs import SALT
from fraud_detection.storage import Storage, open_folder
from fraud_detection.transactions.columns import transaction_fields
from fraud_detection.transactions.forgotten import Forgotten, ForgottenCard, new_salt, plain_id, read_forgotten, record
from fraud_detection.transactions.reader import read_transactions
from fraud_detection.transactions.store.erasure import erase_cards, find_cards
from fraud_detection.transactions.store.inputs import StoreInput
from fraud_detection.transactions.store.profiles import MeasuredDays
from fraud_detection.transactions.store.repeats import read_repeats
from fraud_detection.transactions.store.rows import RowStore, Snapshot
from fraud_detection.transactions.stored_reader import read_stored, store_inputs

pytest_plugins = ["reader_data"]

NOW = datetime(2026, 1, 10, tzinfo=UTC)
CARD, STORE = "c", "store/key/"
ALWAYS: Row = ("9", "2025-03-04", "1", "0", "d", "s", "")


def keep_out(output: Storage, card: str) -> None:
    """Record a card as forgotten."""
    output.write_once(SALT, new_salt().encode())
    salt = (output.read(SALT) or b"").decode()
    record(
        output,
        ForgottenCard(
            card_hash=Forgotten(salt).hash(card),
            at=NOW,
            who="w",
            reason="r",
            rows=0,
            quarantined_rows=0,
            input_files=(),
        ),
    )


def store(folder: Path, output: Storage) -> RowStore:
    source = StoreInput(str(folder), transaction_fields(CSV_COLUMNS), settings.Format())
    return RowStore(output, STORE, source, lambda: NOW, partial(read_forgotten, output))


def never_had(files: dict[str, list[Row]], folder: Path) -> Snapshot:
    """A store of the same input without the rows of the card."""
    (folder / "in").mkdir(parents=True)
    for name, found in files.items():
        write(folder / "in" / f"{name}.csv", [one for one in found if one[4] != CARD])
    return store(folder / "in", open_folder(str(folder / "out"))).update().snapshot


def compared(snapshot: Snapshot) -> tuple[object, ...]:
    """All that a store says but what the files of the input are."""
    rows, days, _, *repeats = content(snapshot)
    files = [(Path(one.path).name, one.rows, one.days) for one in snapshot.manifest.files]
    return rows, days, files, *repeats


def holding(output: Storage) -> list[str]:
    """The files of rows that hold the card."""
    paths = [Path(output.url(name)) for name in output.names(STORE) if name.endswith(".parquet")]
    return [path.name for path in paths if CARD in pq.read_table(path)["customer_id"].to_pylist()]


def changed(files: dict[str, list[Row]], folder: Path, change: tuple[str, list[Row] | None]) -> None:
    """Make a change of the input."""
    files.pop(change[0], None)
    (folder / f"{change[0]}.csv").unlink(missing_ok=True)
    if change[1] is not None:
        files[change[0]] = change[1]
        write(folder / f"{change[0]}.csv", change[1])


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes, st.integers(0, 5), st.booleans())
def test_a_store_is_as_if_the_card_had_never_been_there(
    found: list[tuple[str, list[Row] | None]], step: int, lost: bool
) -> None:
    """Fails when rows of a forgotten card stay, come back with a later file, or take rows of other cards with them."""
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name, "in"), open_folder(f"{name}/out")
        folder.mkdir()
        files = {"always": [ALWAYS, ("9", "2025-03-05", "1", "0", CARD, "s", "")]}
        write(folder / "always.csv", files["always"])
        for number, change in enumerate(found):
            changed(files, folder, change)
            store(folder, output).update()
            if number == min(step, len(found) - 1):
                keep_out(output, CARD)
                erase_cards(output, STORE, read_forgotten(output), NOW)
                assert holding(output) == []
                if lost:
                    for one in output.names(STORE):
                        output.discard(one)
        last = store(folder, output).update().snapshot
        assert compared(last) == compared(never_had(files, Path(name, "other")))
        pairs = read_repeats(last.storage, last.manifest)
        assert {*zip(pairs.hashes.tolist(), pairs.days.tolist(), strict=True)} == expected_repeats(last)
        assert holding(output) == []


@dataclasses.dataclass
class Killing(Watched):
    """Dies before a write or a deletion, too."""

    def discard(self, name: str) -> None:
        self.before(name)
        super().discard(name)


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rows, max_size=5), st.lists(rows, max_size=5), st.integers(0, 12), st.booleans())
def test_a_kill_at_any_step_is_finished_by_the_same_command_or_the_next_run(
    first: list[Row], second: list[Row], step: int, run: bool
) -> None:
    """Fails when an erasure that is killed leaves rows of the card, or a store that later runs cannot read."""
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name, "in"), open_folder(f"{name}/out")
        folder.mkdir()
        files = {"a": [*first, ALWAYS], "b": [*second, ("7", "2025-03-04", "1", "0", CARD, "s", "")]}
        for file, found in files.items():
            write(folder / f"{file}.csv", found)
            store(folder, output).update()
        keep_out(output, CARD)
        left = [step]

        def die(_: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError

        with suppress(KilledError):
            erase_cards(Killing(output, die), STORE, read_forgotten(output), NOW)  # type: ignore[arg-type]
        expected = compared(never_had(files, Path(name, "other")))
        if run:
            assert compared(store(folder, output).update().snapshot) == expected
        erase_cards(output, STORE, read_forgotten(output), NOW)
        assert holding(output) == []
        assert len(output.names(f"{STORE}manifest/")) == 1
        assert compared(store(folder, output).update().snapshot) == expected


def test_a_run_at_the_same_time_does_not_bring_the_card_back(tmp_path: Path) -> None:
    """Fails when a run that began before the erasure, and publishes after it, restores the rows of the card."""
    folder, output = tmp_path / "in", open_folder(str(tmp_path / "out"))
    folder.mkdir()
    files = {"a": [ALWAYS, ("7", "2025-03-05", "1", "0", CARD, "s", "")]}
    write(folder / "a.csv", files["a"])
    store(folder, output).update()
    files["b"] = [("8", "2025-03-05", "1", "0", CARD, "s", ""), ("6", "2025-03-05", "1", "0", "d", "s", "")]
    write(folder / "b.csv", files["b"])
    pending = [None]

    def forget(name: str) -> None:
        if "manifest" in name and pending:
            pending.pop()
            keep_out(output, CARD)
            erase_cards(output, STORE, read_forgotten(output), NOW)

    last = store(folder, Watched(output, forget)).update().snapshot  # type: ignore[arg-type]
    assert compared(last) == compared(never_had(files, tmp_path / "other"))
    erase_cards(output, STORE, read_forgotten(output), NOW)
    assert holding(output) == []


def test_the_input_files_with_the_card_are_named(tmp_path: Path) -> None:
    """Fails when an operator is not told which files of the input still have rows of the card."""
    folder, output = tmp_path / "in", open_folder(str(tmp_path / "out"))
    folder.mkdir()
    write(folder / "a.csv", [("7", "2025-03-05", "1", "0", CARD, "s", ""), ("8", "x", "1", "0", CARD, "s", "")])
    write(folder / "b.csv", [ALWAYS])
    store(folder, output).update()
    found = find_cards(output, STORE, Forgotten("salt", frozenset({Forgotten("salt").hash(CARD)})))
    assert (found.rows, found.input_files, found.old_files) == (2, (str(folder / "a.csv"),), ())


def test_a_lost_salt_stops_runs(tmp_path: Path) -> None:
    """Fails when runs silently take a forgotten card in again because the salt of its hash is lost."""
    output = open_folder(str(tmp_path))
    keep_out(output, CARD)
    output.discard(SALT)
    with pytest.raises(FraudDetectionError, match=r"salt.*restore it"):
        read_forgotten(output)


@pytest.mark.parametrize(
    ("given", "numeric", "expected"),
    [("007", True, "7"), (" 7.0 ", True, "7"), ("-7", True, "-7"), ("007", False, "007"), ("a b", False, "a b")],
)
def test_an_id_is_hashed_as_the_store_has_it(given: str, numeric: bool, expected: str) -> None:
    """Fails when a card whose id is written with leading zeros is not found, or one of another card is."""
    assert plain_id(given, numeric=numeric) == expected


@pytest.mark.parametrize("dirty", [False, True])
def test_rows_profile_features_and_quarantine_are_those_without_the_card(
    spark: SparkSession, tmp_path: Path, dirty: bool
) -> None:
    """Fails when a count, a feature, a first-seen time or a rejected row still knows the forgotten card."""
    data, output = settings.Data(columns=ALL), open_folder(str(tmp_path / "out"))
    path, (source, _) = str(tmp_path / "in"), store_inputs(data, str(tmp_path / "in"))
    rows_store = RowStore(output, STORE, source, lambda: CLOCK, partial(read_forgotten, output))
    chance = random.Random(3)
    for day in range(5):
        found = rows_of_day(day, chance, dirty=dirty)
        found.append(row(9_000 + day, transaction_time=START + timedelta(days=day), customer_id=77, amount=5.0))
        if dirty:
            found.append(row(9_100 + day, transaction_time=None, customer_id=77))
        write_parquet(tmp_path / "in" / f"{day}.parquet", found)
        write_parquet(tmp_path / "other" / f"{day}.parquet", [one for one in found if one["customer_id"] != 77])
        if day == 3:
            rows_store.update()
            keep_out(output, "77")
    snapshot = rows_store.update().snapshot
    cards, measured = read_forgotten(output), MeasuredDays(output, STORE, data)
    one = read_stored(spark, data, path, snapshot, measured, CLOCK, forgotten=cards)
    other = read_transactions(spark, data, str(tmp_path / "other"), CLOCK)
    assert_equal(one, other)
    assert_equal(read_transactions(spark, data, path, CLOCK, forgotten=cards), other)
    days = CLOCK - timedelta(days=40), CLOCK
    new = [found.first_seen(*days).sort_values("customer_id", ignore_index=True) for found in (one, other)]
    pd.testing.assert_frame_equal(new[0], new[1])
    config = settings.Settings(data=data)
    features = [sorted(map(repr, with_features(found.table, config, *days).collect())) for found in (one, other)]
    assert features[0] == features[1]
