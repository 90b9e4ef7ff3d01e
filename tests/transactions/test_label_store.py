"""The store of labels: whatever comes, changes and goes, each day has the labels of its transactions, and no others."""

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from store_data import COLUMNS, NOW, KilledError, Watched, changes, write

from fraud_detection import settings
from fraud_detection.storage import open_folder
from fraud_detection.transactions.columns import KEY
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.store.labels import StoredLabels
from fraud_detection.transactions.store.placing import AVAILABLE, HASH, with_hashes
from fraud_detection.transactions.store.rows import Snapshot
from fraud_detection.transactions.stored_reader import store_inputs

Label = tuple[str, str, str]
labels = st.tuples(
    st.sampled_from(["1", "2", "3", "4", "5", "60", "61", ""]),
    st.sampled_from(["0", "1", "1", "2", ""]),
    st.sampled_from(["2025-03-05T12:00:00", "2025-03-20", "2025-03-04", "", "bad"]),
)
label_changes = st.lists(
    st.tuples(st.sampled_from("xyz"), st.one_of(st.none(), st.lists(labels, max_size=6))), min_size=1, max_size=6
)


class World:
    """An input with a label table, and the stores that are made of it."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        for kind in ("in", "labels"):
            (self.folder / kind).mkdir()
        write(self.folder / "in" / "always.csv", [("9", "2025-03-04", "1", "0", "c", "s", "")])
        self.label("always", [("9", "1", "2025-03-06")])

    def change(self, found: tuple[str, list[Any] | None]) -> None:
        """Write, change or remove a file of transactions or labels."""
        name, rows = found
        if rows is None:
            for kind in ("in", "labels"):
                (self.folder / kind / f"{name}.csv").unlink(missing_ok=True)
        elif name in "abc":
            write(self.folder / "in" / f"{name}.csv", rows)
        else:
            self.label(name, rows)

    def label(self, name: str, rows: list[Label]) -> None:
        names = ["id", "fraud", "known"]
        table = pa.table({column: pa.array([row[i] for row in rows], pa.string()) for i, column in enumerate(names)})
        pyarrow.csv.write_csv(table, self.folder / "labels" / f"{name}.csv")

    def store(self, place: str = "out", before: Callable[[str], None] = lambda _: None) -> JoinedStore:
        columns = COLUMNS.model_copy(update={"fraud": None, "label_available_at": None})
        table = settings.LabelTable(
            path=str(self.folder / "labels"), transaction_id="id", fraud="fraud", label_available_at="known"
        )
        sources = store_inputs(settings.Data(columns=columns, labels=table), str(self.folder / "in"))
        watched = Watched(open_folder(str(self.folder / place)), before)
        return JoinedStore(watched, "store/key/", sources, lambda: NOW)  # type: ignore[arg-type]


def stored_labels(snapshot: Snapshot) -> StoredLabels:
    assert snapshot.labels is not None
    return snapshot.labels


def said(rows: pa.Table) -> Counter[str]:
    return Counter(map(repr, rows.select([KEY, "fraud", AVAILABLE, "defect"]).to_pylist()))


def content(snapshot: Snapshot) -> tuple[object, ...]:
    """All that a store says, without names and numbers of files."""
    found = stored_labels(snapshot)
    of_days = {day.day: said(found.read(day.day)) for day in found.manifest.days if day.rows}
    told = [day.model_dump(exclude={"rows_file", "file", "size"}) for day in found.manifest.days]
    joined = [day.model_dump(exclude={"file", "size", "labels"}) for day in snapshot.manifest.days]
    hours = Counter[tuple[int, str]]()
    for part in found.manifest.waiting:
        for hour, rows, without_id in part.hours:
            hours.update({(hour, "rows"): rows, (hour, "without id"): without_id})
    files = [file.model_dump(include={"path", "size", "rows"}) for file in found.manifest.files]
    return of_days, told, joined, +hours, found.manifest.beside_no_day, files


def require_placed(world: World, snapshot: Snapshot) -> None:
    """By brute force: each day has the labels of its ids, and the files that they are from say that they reach it."""
    found, ids = stored_labels(snapshot), {day.day: snapshot.rows(day)[KEY] for day in snapshot.manifest.days}
    tables = [pyarrow.csv.read_csv(path) for path in (world.folder / "labels").glob("*.csv")]
    every = Counter(str(one) for table in tables for one in table["id"].cast(pa.string()).to_pylist() if one)
    placed = set[str]()
    for day in snapshot.manifest.days:
        own = {str(one) for one in ids[day.day].drop_null().to_pylist()}
        there = found.read(day.day)[KEY].to_pylist() if found.day(day.day).rows else []
        assert Counter(map(str, there)) == Counter({one: count for one, count in every.items() if one in own})
        assert not there or found.open_input([day.day], settings.Format())
        placed |= own
    waiting = sum(part.rows for part in found.manifest.waiting)
    without_id = sum(rows for part in found.manifest.waiting for _, _, rows in part.hours)
    assert waiting - without_id == sum(count for one, count in every.items() if one not in placed)


QUICK = hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(changes, label_changes, st.randoms(use_true_random=False))
def test_increments_equal_one_full_reading(first: list[Any], second: list[Any], random: Any) -> None:
    """Fails when a label that came early or late, was corrected or removed, is not with its transaction."""
    together = [*first, *second]
    random.shuffle(together)
    with tempfile.TemporaryDirectory() as name:
        world = World(name)
        for number, change in enumerate(together):
            world.change(change)
            if random.random() < 0.6:  # sometimes several changes come at once
                last = world.store().update().snapshot
                require_placed(world, last)
                assert content(last) == content(world.store(f"full{number}").update().snapshot)


@QUICK
@given(changes, label_changes, st.integers(0, 14))
def test_a_crash_at_any_step_changes_nothing(first: list[Any], second: list[Any], step: int) -> None:
    """Fails when a run that is killed leaves labels that later runs miss or count twice."""
    with tempfile.TemporaryDirectory() as name:
        world, left = World(name), [step]
        world.store().update()

        def die(_: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError

        for change in [*first, *second]:
            world.change(change)
        with suppress(KilledError):
            world.store(before=die).update()
        after = world.store().update().snapshot
        require_placed(world, after)
        assert content(after) == content(world.store("full").update().snapshot)


@QUICK
@given(changes, label_changes)
def test_two_writers_at_once_lose_nothing(first: list[Any], second: list[Any]) -> None:
    """Fails when of two runs at once one reads labels that belong to the rows of the other."""
    with tempfile.TemporaryDirectory() as name:
        world, pending = World(name), [None]
        world.store().update()

        def interrupted(written: str) -> None:
            if "labels" in written and "manifest" in written and pending:
                pending.pop()
                for change in second:
                    world.change(change)
                world.store().update()

        for change in first:
            world.change(change)
        world.store(before=interrupted).update()
        last = world.store().update().snapshot
        require_placed(world, last)
        assert content(last) == content(world.store("full").update().snapshot)


def test_nothing_is_written_without_news(tmp_path: Path) -> None:
    """Fails when each hourly run reads the label table, or writes all its days again when one label comes."""
    world = World(str(tmp_path))
    write(tmp_path / "in" / "a.csv", [("1", "2025-03-05", "1", "0", "c", "s", "")])
    assert world.store().update().rebuilt
    written = list[str]()
    again = world.store(before=written.append).update()
    assert (again.read_files, again.rebuilt, written) == (0, False, [])
    world.label("x", [("1", "0", "2025-03-09")])
    assert world.store(before=written.append).update().read_files == 1
    assert [name.split("/")[-2] for name in written] == ["2025-03-05", "manifest"]


def test_a_table_that_grows_at_its_end_changes_the_days_of_new_labels_alone(tmp_path: Path) -> None:
    """Fails when one file that is exported anew each hour makes a run compute the features of years again."""
    world = World(str(tmp_path))
    write(tmp_path / "in" / "a.csv", [("1", "2025-03-05", "1", "0", "c", "s", "")])
    before = world.store().update().snapshot
    world.label("always", [("9", "1", "2025-03-06"), ("1", "1", "2025-03-09")])
    written = list[str]()
    after = world.store(before=written.append).update().snapshot
    assert [name.split("/")[-2] for name in written] == ["2025-03-05", "manifest"]
    assert before.manifest.days[0] == after.manifest.days[0]
    assert before.manifest.days[1].identity != after.manifest.days[1].identity


@pytest.mark.parametrize("kind", ["days", "waiting", "manifest"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x")])
def test_a_damaged_store_is_made_anew(tmp_path: Path, kind: str, damage: Callable[[Path], object]) -> None:
    """Fails when a lost or damaged file of the labels stops all runs, or makes them read all transactions."""
    world = World(str(tmp_path))
    world.label("x", [("77", "0", "2025-03-09")])
    first = world.store().update().snapshot
    before, identities = content(first), {day.identity for day in first.manifest.days}
    path = next((tmp_path / "out").glob(f"store/key/labels/*/{kind}/**/*.*"))
    damage(path)
    found = world.store().update()
    assert content(found.snapshot) == before
    assert found.rebuilt
    # What was measured while a file was lost is not taken for what the new file holds.
    assert {day.identity for day in found.snapshot.manifest.days}.isdisjoint(identities)
    assert found.damaged in (str(path), None)
    assert [*(tmp_path / "out").glob("store/key/manifest/*")] == [tmp_path / "out/store/key/manifest/00000001.json.gz"]


def test_damaged_rows_are_not_taken_for_damaged_labels(tmp_path: Path) -> None:
    """Fails when flipped bits in a file of transactions stop all runs that read labels."""
    world = World(str(tmp_path))
    world.store().update()
    [path] = (tmp_path / "out").glob("store/key/rows/*/*")
    path.write_bytes(b"x" * path.stat().st_size)
    world.label("x", [("9", "0", "2025-03-09")])
    found = world.store().update()
    assert found.damaged == str(path)
    require_placed(world, found.snapshot)


def test_waiting_labels_are_kept_in_few_files(tmp_path: Path) -> None:
    """Fails when labels without a transaction leave a file for each hour, or are written anew with each one."""
    world = World(str(tmp_path))
    for hour in range(40):
        world.label(f"h{hour:02}", [(str(1000 + hour), "1", "")])
        waiting = stored_labels(world.store().update().snapshot).manifest.waiting
    assert sum(part.rows for part in waiting) == 40
    assert len(waiting) <= 6


@pytest.mark.parametrize(
    ("of_labels", "of_rows", "equal"),
    [
        (["7", "07", " 7", "7.0", "-7", "-0", "9223372036854775807", "9223372036854775808", "x", None],
         [7, 7, 7, 7, -7, 0, 2**63 - 1, 0, 0, 7],
         [True, False, False, False, True, False, True, False, False, False]),
        ([7, -7, None], ["7", "-7", "7"], [True, True, False]),
        (["a", "A"], ["a", "a"], [True, False]),
    ],
)  # fmt: skip
def test_ids_of_different_types_meet_as_text(of_labels: list[Any], of_rows: list[Any], equal: list[bool]) -> None:
    """Fails when labels find other transactions in the store than in the files."""
    rows = pa.table({KEY: of_rows})
    found = with_hashes(pa.table({KEY: of_labels}), rows[KEY].type)[HASH].to_pylist()
    own = with_hashes(rows, rows[KEY].type)[HASH].to_pylist()
    assert [one == other for one, other in zip(found, own, strict=True)] == equal


def test_days_apart_need_no_index(tmp_path: Path) -> None:
    """Fails when a label of today sends the index of all history from an object storage."""
    world = World(str(tmp_path))
    (tmp_path / "in" / "always.csv").unlink()
    for day in range(1, 5):
        ids = list(range(100 * day, 100 * day + 50))
        columns = {"id": ids, "time": [datetime(2025, 3, day)] * 50, "amount": [1.0] * 50}  # noqa: DTZ001
        rows = pa.table({**columns, "card": ids, "shop": ids})
        pq.write_table(rows, tmp_path / "in" / f"{day}.parquet")
    world.store().update()
    for path in (tmp_path / "out").glob("store/key/ids/*.ids"):
        path.write_bytes(b"\0" * path.stat().st_size)
    world.label("x", [("120", "1", "2025-03-09"), ("449", "1", "2025-03-09"), ("450", "1", "2025-03-09")])
    snapshot = world.store().update().snapshot
    require_placed(world, snapshot)
    assert [day.rows for day in stored_labels(snapshot).manifest.days] == [1, 0, 0, 1]
