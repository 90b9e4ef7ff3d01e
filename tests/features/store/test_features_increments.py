"""Features that were computed by day equal those of one computation, whatever came late or was corrected."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud_detection.features.compute import Work
from fraud_detection.features.spans import read_from
from fraud_detection.features.store.files import FeatureDay, FeatureFiles, Missing, spans_of
from fraud_detection.features.store.validity import LookBack, SeenDays, groups, midnight
from fraud_detection.settings import Columns, Data, Format, Settings, Windows
from fraud_detection.storage import Storage, StoredObject, open_folder
from fraud_detection.transactions.columns import transaction_fields
from fraud_detection.transactions.store.inputs import StoreInput
from fraud_detection.transactions.store.repeats import read_repeats
from fraud_detection.transactions.store.rows import RowStore, Snapshot

COLUMNS = Columns(label_available_at="label_available_at")
SETTINGS = Settings(data=Data(columns=COLUMNS), windows=Windows(label_delay_days=7))
NOW = datetime(2026, 1, 10, tzinfo=UTC)
FIRST = 19_000
LAST = FIRST + 90
HALF_DAY = 43_200_000_000
BEFORE_ALL = datetime(1971, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")

Row = tuple[int, int, float, int | None, int, int, int | None]
"""Id, half days after the first day, amount, label, card, terminal, half days until the label is known."""
rows = st.tuples(
    st.integers(0, 30),
    st.integers(0, 2 * (LAST - FIRST) - 1),
    st.sampled_from([1.0, 1.0, 2.0, 2.6, 9.0, 50.0, -1.0]),
    st.sampled_from([0, 0, 1, 1, 1, 2, None]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([None, None, 0, 1, 4, 13, 14, 15, 40, 90, -1]),
)
Change = tuple[str, list[Row] | None]
changes = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.lists(rows, max_size=8))), min_size=1, max_size=5
)
base_rows = st.lists(rows, min_size=1, max_size=14)
moments = st.integers(0, 2 * (LAST - FIRST) + 6)  # half days after the first one


class KilledError(Exception):
    """Stands for the death of the process."""


@dataclass
class Watched:
    """A storage that calls a function before each write."""

    inner: Storage
    before: Callable[[str], None] = field(default=lambda _: None)

    def read(self, name: str) -> bytes | None:
        return self.inner.read(name)

    def url(self, name: str) -> str:
        return self.inner.url(name)

    def names(self, prefix: str = "") -> list[str]:
        return self.inner.names(prefix)

    def objects(self, prefix: str = "") -> list[StoredObject]:
        return self.inner.objects(prefix)

    def discard(self, name: str) -> None:
        self.before(name)
        self.inner.discard(name)

    def write_atomic(self, name: str, content: bytes) -> str:
        self.before(name)
        return self.inner.write_atomic(name, content)

    def write_once(self, name: str, content: bytes) -> bool:
        self.before(name)
        return self.inner.write_once(name, content)


def write(path: Path, found: list[Row]) -> None:
    start = FIRST * 2 * HALF_DAY

    def moment(half_days: int | None) -> int | None:
        return None if half_days is None else start + half_days * HALF_DAY

    known = [None if row[6] is None else row[1] + row[6] for row in found]
    table = {
        "transaction_id": pa.array([row[0] for row in found], pa.int64()),
        "transaction_time": pa.array([moment(row[1]) for row in found], TIME),
        "amount": pa.array([row[2] for row in found], pa.float64()),
        "fraud": pa.array([row[3] for row in found], pa.int8()),
        "customer_id": pa.array([row[4] for row in found], pa.int64()),
        "terminal_id": pa.array([row[5] for row in found], pa.int64()),
        "label_available_at": pa.array(map(moment, known), TIME),
    }
    pq.write_table(pa.table(table), path)


def apply(folder: Path, change: Change) -> None:
    path = folder / f"{change[0]}.parquet"
    if change[1] is None:
        path.unlink(missing_ok=True)
    else:
        write(path, change[1])


@dataclass(frozen=True)
class World:
    """An input, what a run at a moment sees of it, and two ways to its features."""

    root: Path

    def __post_init__(self) -> None:
        (self.root / "in").mkdir()

    @property
    def input(self) -> Path:
        return self.root / "in"

    def snapshot(self) -> Snapshot:
        source = StoreInput(str(self.input), transaction_fields(COLUMNS), Format())
        return RowStore(open_folder(str(self.root / "out")), "store/", source, lambda: NOW).update().snapshot

    def seen(self, snapshot: Snapshot, as_of: int) -> pa.Table:
        """The good rows of the input as a view shows them: what the engine's plan selects."""
        tables = [snapshot.rows(day) for day in snapshot.manifest.days]
        rows = pa.concat_tables(tables).drop_columns(["defect", "_file"])
        rows = rows.filter(pc.less(rows["transaction_time"].cast(pa.int64()), as_of))
        hidden = pc.fill_null(pc.greater(rows["label_available_at"].cast(pa.int64()), as_of), False)
        for name in ("fraud", "label_available_at"):
            rows = rows.set_column(
                rows.column_names.index(name), name, pc.if_else(hidden, pa.scalar(None, rows[name].type), rows[name])
            )
        bad = pc.or_(pc.fill_null(pc.greater(rows["fraud"], 1), False), pc.less(rows["amount"], 0))
        early = pc.fill_null(pc.less(rows["label_available_at"], rows["transaction_time"]), False)
        return one_of_each(rows.filter(pc.invert(pc.or_(bad, early))))

    def seen_days(self, snapshot: Snapshot, as_of: int) -> SeenDays:
        found = read_repeats(snapshot.storage, snapshot.manifest)
        sharing = groups(zip(found.hashes.tolist(), found.days.tolist(), strict=True))
        return SeenDays.of(snapshot.manifest.days, sharing, as_of, as_of)

    def wanted(self, snapshot: Snapshot, as_of: int) -> dict[int, str]:
        return self.seen_days(snapshot, as_of).hashes(range(FIRST, LAST), LookBack.of(SETTINGS))

    def good_rows(self, as_of: int) -> dict[int, tuple[str, list[int]]]:
        """Of each day what `SeenDays.good_rows` says, and the ids of its good rows."""
        snapshot = self.snapshot()
        days, rows = self.seen_days(snapshot, as_of), self.seen(snapshot, as_of)
        number = rows["transaction_time"].cast(pa.int64()).to_numpy() // (2 * HALF_DAY)
        said = {day: text for day in range(FIRST, LAST) if (text := days.good_rows(day)) is not None}
        return {day: (text, sorted(rows["transaction_id"].to_numpy()[number == day])) for day, text in said.items()}

    def materialize(self, as_of: int, before: Callable[[str], None] = lambda _: None) -> dict[int, pa.Table]:
        """The features of all days that can be kept, through the store."""
        snapshot = self.snapshot()
        rows = self.seen(snapshot, as_of)
        storage = Watched(open_folder(str(self.root / "out")), before)
        files = FeatureFiles(storage, "features/", lambda: NOW)  # type: ignore[arg-type]

        def compute(missing: Missing) -> Iterator[tuple[int, int, int]]:
            start, end = midnight(missing.first), midnight(missing.last + 1)
            found = by_day(features(between(rows, read_from(SETTINGS, start), end), start))
            for day, name in missing.names.items():
                if day not in found:
                    continue
                table = found[day]
                sink = pa.BufferOutputStream()
                pq.write_table(table, sink)
                content = sink.getvalue().to_pybytes()
                storage.write_atomic(name, content)
                yield day, len(content), table.num_rows

        days = files.bring_up_to_date(self.wanted(snapshot, as_of), compute)
        return {number: pq.read_table(self.root / "out" / day.file) for number, day in days.items() if day.rows}

    def full(self, as_of: int) -> dict[int, pa.Table]:
        """The features of all rows in one computation."""
        return by_day(features(self.seen(self.snapshot(), as_of), BEFORE_ALL))


def one_of_each(rows: pa.Table) -> pa.Table:
    """Of good rows with the same id the first: by all columns, null first, but a known label before none."""
    placement = {"fraud": "at_end", "label_available_at": "at_end"}
    for name in reversed(rows.column_names):
        rows = rows.take(pc.sort_indices(rows, [(name, "ascending")], null_placement=placement.get(name, "at_start")))
    ids = rows["transaction_id"].to_numpy()
    return rows.take(pa.array(np.sort(np.unique(ids, return_index=True)[1])))


def between(rows: pa.Table, start: datetime, end: datetime) -> pa.Table:
    time = rows["transaction_time"]
    return rows.filter(pc.and_(pc.greater_equal(time, pa.scalar(start, TIME)), pc.less(time, pa.scalar(end, TIME))))


def features(rows: pa.Table, start: datetime) -> pa.Table:
    work = Work.since(start, SETTINGS)
    return work.terminals(work.cards(rows.combine_chunks())) if rows.num_rows else rows


def by_day(rows: pa.Table) -> dict[int, pa.Table]:
    """The numeric features of each day by id."""
    if not rows.num_rows:
        return {}
    rows = rows.take(pc.sort_indices(rows, [("transaction_id", "ascending")]))
    days = rows["transaction_time"].cast(pa.int64()).to_numpy() // (2 * HALF_DAY)
    given = ("transaction_time", "amount", "fraud", "customer_id", "terminal_id", "label_available_at")
    rows = rows.drop_columns([*given, "_unexplained", "_to_median"])
    return {int(day): rows.filter(pa.array(days == day)) for day in np.unique(days)}


def require_equal(found: dict[int, pa.Table], full: dict[int, pa.Table]) -> None:
    for day, table in found.items():
        assert table.equals(full[day].combine_chunks().cast(table.schema)), f"day {day - FIRST}"


def micros(half_days: int) -> int:
    return FIRST * 2 * HALF_DAY + half_days * HALF_DAY


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(base_rows, changes, st.lists(moments, min_size=1, max_size=3))
def test_increments_equal_one_computation(base: list[Row], found: list[Change], at: list[int]) -> None:
    """Fails when a late row, a label, a copy or another as-of time gives features that one computation does not."""
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        write(world.input / "base.parquet", base)
        for place, change in enumerate(found):
            for moment in (at[place % len(at)], 2 * (LAST - FIRST) + 400):
                require_equal(world.materialize(micros(moment)), world.full(micros(moment)))
            apply(world.input, change)
        require_equal(world.materialize(micros(500)), world.full(micros(500)))


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(base_rows, changes, st.lists(moments, min_size=1, max_size=3))
def test_days_that_say_the_same_have_the_same_good_rows(base: list[Row], found: list[Change], at: list[int]) -> None:
    """Fails when a transaction that came late, or became good by its label, is not looked at and gets no score."""
    known: dict[tuple[int, str], list[int]] = {}
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        write(world.input / "base.parquet", base)
        for place, change in enumerate([*found, ("c", None)]):
            for moment in (at[place % len(at)], 2 * (LAST - FIRST) + 400):
                for day, (text, ids) in world.good_rows(micros(moment)).items():
                    assert known.setdefault((day, text), ids) == ids
            apply(world.input, change)


def test_a_label_changes_no_good_rows(world: World) -> None:
    """Fails when each label that arrives makes an hourly batch of scores read the ids of its day again."""
    rows: list[Row] = [(day, 2 * day, 1.0, None, 0, 0, None) for day in range(20)]
    write(world.input / "base.parquet", rows)
    before = world.good_rows(micros(500))
    write(world.input / "base.parquet", [(*row[:3], 1, *row[4:6], 9) for row in rows])
    assert world.good_rows(micros(500)) == before
    assert len(before) == 20
    write(world.input / "late.parquet", [(100, 20, 1.0, None, 0, 0, None)])
    after = world.good_rows(micros(500))
    assert [day - FIRST for day in before if before[day] != after[day]] == [10]
    assert max(world.good_rows(micros(21))) - FIRST == 9, "the day of the as-of time is not over"


@hypothesis_settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(base_rows, changes, st.integers(0, 12))
def test_a_crash_at_any_step_changes_nothing(base: list[Row], found: list[Change], step: int) -> None:
    """Fails when a run that is killed leaves features from which later runs read half of a day, or of another input."""
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        write(world.input / "base.parquet", base)
        world.materialize(micros(500))
        left = [step]

        def die(_: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError

        for change in found:
            apply(world.input, change)
        with suppress(KilledError):
            world.materialize(micros(500), die)
        require_equal(world.materialize(micros(500)), world.full(micros(500)))


@hypothesis_settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(base_rows, changes, changes)
def test_two_writers_at_once_harm_nothing(base: list[Row], first: list[Change], second: list[Change]) -> None:
    """Fails when two runs at once leave features under the wrong hash, or one of them reads the other's."""
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        write(world.input / "base.parquet", base)
        pending = [None]

        def interrupted(written: str) -> None:
            if "manifest" in written and pending:
                pending.pop()
                for change in second:
                    apply(world.input, change)
                require_equal(world.materialize(micros(500)), world.full(micros(500)))

        for change in first:
            apply(world.input, change)
        before = world.full(micros(500))
        require_equal(world.materialize(micros(500), interrupted), before)
        require_equal(world.materialize(micros(500)), world.full(micros(500)))


def test_a_label_changes_the_days_since_it_is_known(world: World) -> None:
    """Fails when each label that arrives makes weeks be computed again, and an hourly run pays for all of them."""
    rows: list[Row] = [(day, 2 * day, 1.0, 0, 0, 0, 1) for day in range(80)]
    write(world.input / "base.parquet", rows)
    before = world.wanted(world.snapshot(), micros(500))
    write(world.input / "base.parquet", [*rows[:50], (50, 100, 1.0, 1, 0, 0, 10), *rows[51:]])
    after = world.wanted(world.snapshot(), micros(500))
    changed = [day - FIRST for day in before if before[day] != after[day]]
    assert changed == list(range(50, 80)), "from the day on which the old label was known"
    assert changed[0] == 50


def test_a_label_without_a_time_changes_the_days_since_its_delay(world: World) -> None:
    """Fails when a label that does not say when it became known changes no day, or days on which it was not known."""
    rows: list[Row] = [(day, 2 * day, 1.0, 0, 0, 0, None) for day in range(80)]
    write(world.input / "base.parquet", rows)
    before = world.wanted(world.snapshot(), micros(500))
    write(world.input / "base.parquet", [*rows[:50], (50, 100, 1.0, 1, 0, 0, None), *rows[51:]])
    after = world.wanted(world.snapshot(), micros(500))
    assert [day - FIRST for day in before if before[day] != after[day]] == list(range(57, 80))


def test_the_label_of_a_copy_changes_the_days_of_both(world: World) -> None:
    """Fails when a label decides which of two copies counts, and the features of the other one's day stay."""
    rows: list[Row] = [(day, 2 * day, 1.0, 0, 0, 0, None) for day in range(20)]
    write(world.input / "base.parquet", [*rows, (10, 22, 1.0, 0, 0, 0, 1)])
    before = world.wanted(world.snapshot(), micros(500))
    write(world.input / "base.parquet", [*rows, (10, 22, 1.0, 1, 0, 0, 1)])
    after = world.wanted(world.snapshot(), micros(500))
    assert [day - FIRST for day in before if before[day] != after[day]] == list(range(10, 20))


def test_a_late_row_changes_the_days_that_look_back_to_it(world: World) -> None:
    """Fails when a late row makes all of history be computed again, or leaves out a day that reads it."""
    rows: list[Row] = [(day, 2 * day, 1.0, 0, 0, 0, None) for day in range(90)]
    write(world.input / "base.parquet", rows)
    before = world.wanted(world.snapshot(), micros(500))
    write(world.input / "late.parquet", [(100, 20, 1.0, None, 0, 0, None)])
    after = world.wanted(world.snapshot(), micros(500))
    assert [day - FIRST for day in before if before[day] != after[day]] == list(range(10, 10 + 7 + 60 + 1))


def test_the_day_of_the_as_of_time_is_not_kept(world: World) -> None:
    """Fails when a backfill takes the features of a whole day where it sees its morning."""
    write(world.input / "base.parquet", [(day, 2 * day, 1.0, 0, 0, 0, None) for day in range(3)])
    assert [day - FIRST for day in world.wanted(world.snapshot(), micros(3))] == [0]
    assert [day - FIRST for day in world.wanted(world.snapshot(), micros(4))] == [0, 1]


def test_files_that_were_replaced_go_after_a_day(tmp_path: Path) -> None:
    """Fails when hourly runs fill the disk with old days, or take a file from a run that reads it."""
    storage, now = open_folder(str(tmp_path)), [NOW]
    files = FeatureFiles(storage, "features/", lambda: now[0])
    storage.write_atomic("features/days/2025-03-04/20260108T000000Z-killed.parquet", b"half")

    def compute(missing: Missing) -> Iterator[tuple[int, int, int]]:
        for day, name in missing.names.items():
            storage.write_atomic(name, b"content")
            yield day, len(b"content"), 1

    def names() -> int:
        return len(storage.objects("features/days/"))

    for hour, kept in ((0, 2), (23, 3), (30, 3), (60, 2), (61, 3)):
        now[0] = NOW + timedelta(hours=hour)
        held = files.bring_up_to_date({20_000: str(hour)}, compute)
        assert isinstance(held[20_000], FeatureDay)
        assert (hour, names()) == (hour, kept)


@given(st.sets(st.integers(0, 400)))
def test_spans_hold_each_missing_day_once(days: set[int]) -> None:
    """Fails when a day is computed twice or never, or years at once exhaust the memory."""
    spans = list(spans_of(sorted(days)))
    assert all(sum(first <= day <= last for first, last in spans) == 1 for day in days)
    assert all(last - first < 93 for first, last in spans)


def test_a_lost_day_is_computed_again(world: World) -> None:
    """Fails when a deleted or truncated file of features stops all later runs."""
    write(world.input / "base.parquet", [(day, 2 * day, 1.0, 0, 0, 0, None) for day in range(3)])
    world.materialize(micros(500))
    one, other, _ = sorted((world.root / "out" / "features" / "days").rglob("*.parquet"))
    one.unlink()
    other.write_bytes(b"short")
    require_equal(world.materialize(micros(500)), world.full(micros(500)))
    for manifest in (world.root / "out" / "features" / "manifest").iterdir():
        manifest.write_bytes(b"damaged")
    require_equal(world.materialize(micros(500)), world.full(micros(500)))
