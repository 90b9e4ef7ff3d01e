"""The store of rows: whatever the order in which files come, change and go, it holds what a full reading holds."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from store_data import COLUMNS, NOW, KilledError, Row, Watched, changes, write

from fraud_detection import settings
from fraud_detection.storage import open_folder
from fraud_detection.transactions.columns import KEY, transaction_fields
from fraud_detection.transactions.store.canonical import FILE
from fraud_detection.transactions.store.days import hashes
from fraud_detection.transactions.store.inputs import StoreInput
from fraud_detection.transactions.store.manifest import Manifest
from fraud_detection.transactions.store.repeats import Entries, UInts, read_repeats
from fraud_detection.transactions.store.rows import RowStore, Snapshot
from fraud_detection.transactions.store.states import States


def apply(folder: Path, change: tuple[str, list[Row] | None]) -> None:
    path = folder / f"{change[0]}.csv"
    if change[1] is None:
        path.unlink(missing_ok=True)
    else:
        write(path, change[1])


def store(folder: Path, output: Path, before: Callable[[str], None] = lambda _: None, now: datetime = NOW) -> RowStore:
    source = StoreInput(str(folder), transaction_fields(COLUMNS), settings.Format())
    watched = Watched(open_folder(str(output)), before)
    return RowStore(watched, "store/key/", source, lambda: now)  # type: ignore[arg-type]


def content(snapshot: Snapshot) -> tuple[object, ...]:
    """All that a store says, without names and numbers of files."""
    days = {day.day: snapshot.rows(day) for day in snapshot.manifest.days}
    told = [day.model_dump(exclude={"file", "size"}) for day in snapshot.manifest.days]
    files = [file.model_dump(exclude={"number"}) for file in snapshot.manifest.files]
    found = read_repeats(snapshot.storage, snapshot.manifest)
    texts = {number: repr(rows.drop_columns([FILE]).to_pylist()) for number, rows in days.items()}
    return texts, told, files, found.hashes.tolist(), found.days.tolist()


def expected_repeats(snapshot: Snapshot) -> set[tuple[int, int]]:
    """By brute force: hashes of ids that several days have, with each of these days."""
    pairs = set[tuple[int, int]]()
    for day in snapshot.manifest.days:
        if day.first is not None:
            pairs |= {(one, day.day) for one in hashes(snapshot.rows(day)[KEY].drop_null()).tolist()}
    count: dict[int, int] = {}
    for one, _ in pairs:
        count[one] = count.get(one, 0) + 1
    return {pair for pair in pairs if count[pair[0]] > 1}


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes, st.randoms(use_true_random=False))
def test_increments_equal_one_full_reading(found: list[tuple[str, list[Row] | None]], random: object) -> None:
    """Fails when rows that came late, were corrected or removed are missing, stay, or count twice in later runs."""
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name, "in"), Path(name, "out")
        folder.mkdir()
        write(folder / "always.csv", [("9", "2025-03-04", "1", "0", "c", "s", "")])
        for number, change in enumerate(found):
            apply(folder, change)
            if random.random() < 0.7:  # type: ignore[attr-defined]  # sometimes several changes come at once
                store(folder, output).update()
            last = store(folder, output).update().snapshot
            full = store(folder, Path(name, f"full{number}")).update().snapshot
            assert content(last) == content(full)
            pairs = read_repeats(last.storage, last.manifest)
            assert {*zip(pairs.hashes.tolist(), pairs.days.tolist(), strict=True)} == expected_repeats(last)


@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes, st.integers(0, 12))
def test_a_crash_at_any_step_changes_nothing(found: list[tuple[str, list[Row] | None]], step: int) -> None:
    """Fails when a run that is killed leaves a store from which later runs read half of its input."""
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name, "in"), Path(name, "out")
        folder.mkdir()
        write(folder / "always.csv", [("9", "2025-03-04", "1", "0", "c", "s", "")])
        before = content(store(folder, output).update().snapshot)
        left = [step]

        def die(_: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError

        names = set(open_folder(str(output)).names("store/key/manifest/"))
        for change in found:
            apply(folder, change)
        try:
            store(folder, output, die).update()
        except KilledError:
            assert set(open_folder(str(output)).names("store/key/manifest/")) == names
        write(folder / "always.csv", [("8", "2025-03-04", "1", "0", "c", "s", "")])
        after = content(store(folder, output).update().snapshot)
        assert after == content(store(folder, Path(name, "full")).update().snapshot)
        assert before != after


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes, changes)
def test_two_writers_at_once_lose_nothing(
    first: list[tuple[str, list[Row] | None]], second: list[tuple[str, list[Row] | None]]
) -> None:
    """Fails when two runs at once leave a store that lacks the rows that one of them has read."""
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name, "in"), Path(name, "out")
        folder.mkdir()
        write(folder / "always.csv", [("9", "2025-03-04", "1", "0", "c", "s", "")])
        store(folder, output).update()
        pending = [None]

        def interrupted(written: str) -> None:
            if "manifest" in written and pending:
                pending.pop()
                for change in second:
                    apply(folder, change)
                store(folder, output).update()

        for change in first:
            apply(folder, change)
        store(folder, output, interrupted).update()
        last = store(folder, output).update().snapshot
        assert content(last) == content(store(folder, Path(name, "full")).update().snapshot)


def test_an_unchanged_input_is_not_read(tmp_path: Path) -> None:
    """Fails when an hourly run reads all files again, and its cost grows with history."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.csv", [("1", "2025-03-04", "1", "0", "c", "s", "")])
    assert store(tmp_path / "in", tmp_path / "out").update().read_files == 1
    written = list[str]()
    again = store(tmp_path / "in", tmp_path / "out", written.append).update()
    assert (again.read_files, again.rebuilt, written) == (0, False, [])
    write(tmp_path / "in" / "b.csv", [("2", "2025-03-05", "1", "0", "c", "s", "")])
    added = store(tmp_path / "in", tmp_path / "out", written.append).update()
    assert added.read_files == 1
    assert [name for name in written if "/rows/" in name and "2025-03-05" not in name] == []


def test_a_touched_file_is_not_read_again(tmp_path: Path) -> None:
    """Fails when copying the input anew makes the next run read years of history again."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.csv", [("1", "2025-03-04", "1", "0", "c", "s", "")])
    store(tmp_path / "in", tmp_path / "out").update()
    write(tmp_path / "in" / "a.csv", [("1", "2025-03-04", "1", "0", "c", "s", "")])
    assert store(tmp_path / "in", tmp_path / "out").update().read_files == 0


def test_the_digest_of_rows_leaves_labels_out(tmp_path: Path) -> None:
    """Fails when a label that arrives makes the features of its day be computed again."""
    (tmp_path / "in").mkdir()
    told = list[object]()
    for label, known in (("", ""), ("1", "2025-03-20"), ("2", "2025-03-20")):
        write(tmp_path / "in" / "a.csv", [("1", "2025-03-04", "1", label, "c", "s", known)])
        [day] = store(tmp_path / "in", tmp_path / "out").update().snapshot.manifest.days
        told.append((day.rows_digest, sorted(day.label_events)))
    assert told[0] == (told[1][0], [])  # type: ignore[index]
    assert told[1][1] == [20167]  # type: ignore[index]
    assert told[2][0] != told[1][0], "a label that makes its row bad takes the row from the features"  # type: ignore[index]


def test_rising_ids_need_no_look_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when integer ids that rise with time are searched in the index of all history each hour."""
    (tmp_path / "in").mkdir()
    looked = list[int]()
    look_up = Entries.of_hashes

    def watched(entries: Entries, wanted: UInts) -> Entries:
        looked.append(len(wanted))
        return look_up(entries, wanted)

    monkeypatch.setattr(Entries, "of_hashes", watched)
    for day in range(1, 4):
        values = {"id": [day], "amount": [1.0], "time": [datetime(2025, 3, day, tzinfo=UTC)], "fraud": [0]}
        texts = {name: pa.nulls(1, pa.string()) for name in ("card", "shop", "known")}
        pq.write_table(pa.table(values | texts), tmp_path / "in" / f"{day}.parquet")
        store(tmp_path / "in", tmp_path / "out").update()
    assert looked
    assert set(looked) == {0}


def test_sorting_is_total(tmp_path: Path) -> None:
    """Fails when rows that differ only in the sign of zero change the digest of a day with the order of files."""
    (tmp_path / "in").mkdir()
    digests = set[str]()
    for order in ((0, 1), (1, 0)):
        for place, amount in zip(order, ("0.0", "-0.0"), strict=True):
            write(tmp_path / "in" / f"{place}.csv", [("1", "2025-03-04", amount, "0", "c", "s", "")])
        [day] = store(tmp_path / "in", tmp_path / f"out{order[0]}").update().snapshot.manifest.days
        digests.add(day.content_digest)
    assert len(digests) == 1


def test_files_that_were_replaced_go_after_a_day(tmp_path: Path) -> None:
    """Fails when hourly runs fill the disk with old versions of each day, or take files from a run that reads them."""
    (tmp_path / "in").mkdir()

    def run(hours: int) -> Snapshot:
        write(tmp_path / "in" / "a.csv", [(str(hours + 1), "2025-03-04", "1", "0", "c", "s", "")])
        return store(tmp_path / "in", tmp_path / "out", now=NOW + timedelta(hours=hours)).update().snapshot

    def names() -> set[str]:
        return set(open_folder(str(tmp_path / "out")).names("store/key/"))

    killed = "store/key/rows/2025-03-04/20260109T230000Z-killed.parquet"
    open_folder(str(tmp_path / "out")).write_atomic(killed, b"half")
    read = [run(hours) for hours in (0, 10, 20)]
    open_folder(str(tmp_path / "out")).write_atomic("store/key/manifest/00000001.json.gz", b"damaged")
    assert names() >= set.union(*(snapshot.manifest.names() for snapshot in read))
    last = [run(hours) for hours in (30, 40, 50)]
    assert killed not in names()
    assert names().isdisjoint(read[0].manifest.names() - read[1].manifest.names())
    kept = set.union(*(snapshot.manifest.names() for snapshot in (read[2], *last)))
    assert names() >= kept, "a run that began a day ago still reads them"
    manifests = sorted(name for name in names() if "/manifest/" in name)
    assert len(manifests) < 6
    assert content(last[-1]) == content(store(tmp_path / "in", tmp_path / "full").update().snapshot)


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("part", ["rows", "ids", "manifest"])
def test_a_damaged_store_is_built_again(tmp_path: Path, part: str, lost: bool) -> None:
    """Fails when a lost or damaged file of the store stops all later runs, or they decide without its rows."""
    (tmp_path / "in").mkdir()
    for name, day in (("a", 4), ("b", 5)):
        write(tmp_path / "in" / f"{name}.csv", [("1", f"2025-03-0{day}", "1", "0", "c", "s", "")])
    before = content(store(tmp_path / "in", tmp_path / "out").update().snapshot)
    for path in (tmp_path / "out" / "store" / "key" / part).rglob("*.*"):
        path.unlink() if lost else path.write_bytes(b"damaged")
    again = store(tmp_path / "in", tmp_path / "out").update()
    assert (again.rebuilt, again.read_files) == (True, 2)
    assert (again.damaged is None) == (lost and part == "manifest"), "without a manifest there is no store"
    assert content(again.snapshot) == before
    assert not store(tmp_path / "in", tmp_path / "out").update().rebuilt


def test_a_day_that_cannot_be_read_is_built_again(tmp_path: Path) -> None:
    """Fails when a day file with flipped bits stops each later run that adds rows to the day."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.csv", [("1", "2025-03-04", "1", "0", "c", "s", "")])
    store(tmp_path / "in", tmp_path / "out").update()
    [path] = (tmp_path / "out").rglob("*.parquet")
    path.write_bytes(b"x" * path.stat().st_size)
    write(tmp_path / "in" / "b.csv", [("2", "2025-03-04", "1", "0", "c", "s", "")])
    again = store(tmp_path / "in", tmp_path / "out").update()
    assert again.damaged == str(path)
    assert content(again.snapshot) == content(store(tmp_path / "in", tmp_path / "full").update().snapshot)


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x")]
)
def test_an_index_that_is_damaged_during_a_run_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    """Fails when a file that is cut after the run has looked at its size ends the run in a traceback."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.csv", [("1", "2025-03-04", "1", "0", "c", "s", "")])
    store(tmp_path / "in", tmp_path / "out").update()
    [path] = (tmp_path / "out").glob("store/key/ids/*.ids")
    write(tmp_path / "in" / "b.csv", [("1", "2025-03-06", "1", "0", "c", "s", "")])
    checked = States.newest

    def newest(states: States[Manifest]) -> Manifest | None:
        found = checked(states)
        if path.exists() and path.stat().st_size > 1:
            damage(path)
        return found

    monkeypatch.setattr(States, "newest", newest)
    found = store(tmp_path / "in", tmp_path / "out").update()
    assert found.damaged == str(path)
    assert content(found.snapshot) == content(store(tmp_path / "in", tmp_path / "full").update().snapshot)
