"""Inputs that change from run to run, and a storage that dies."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from hypothesis import strategies as st

from fraud_detection import settings
from fraud_detection.storage import Storage, StoredObject

COLUMNS = settings.Columns(
    transaction_id="id", transaction_time="time", amount="amount", fraud="fraud", customer_id="card",
    terminal_id="shop", label_available_at="known",
)  # fmt: skip
NOW = datetime(2026, 1, 10, tzinfo=UTC)

Row = tuple[str, str, str, str, str, str, str]
times = st.sampled_from(["2025-03-04T10:00:00", "2025-03-04T23:59:59", "2025-03-05", "2025-03-06T01:00:00", "x", ""])
rows = st.tuples(
    st.sampled_from(["1", "2", "3", "4", "5", "60", ""]),
    times,
    st.sampled_from(["1.5", "-0.0", "0", "nan", "7", ""]),
    st.sampled_from(["0", "1", "2", ""]),
    st.sampled_from(["c", "d", ""]),
    st.sampled_from(["s", ""]),
    st.sampled_from(["2025-03-05T12:00:00", "2025-03-20", "", "bad"]),
)
changes = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.lists(rows, max_size=5))), min_size=1, max_size=6
)


class KilledError(Exception):
    """Stands for the death of the process."""


@dataclass
class Watched:
    """A storage that calls a function before each write."""

    inner: Storage
    before: Callable[[str], None] = field(default=lambda _: None)

    def url(self, name: str) -> str:
        return self.inner.url(name)

    def read(self, name: str) -> bytes | None:
        return self.inner.read(name)

    def names(self, prefix: str = "") -> list[str]:
        return self.inner.names(prefix)

    def objects(self, prefix: str = "") -> list[StoredObject]:
        return self.inner.objects(prefix)

    def discard(self, name: str) -> None:
        self.inner.discard(name)

    def write_atomic(self, name: str, content: bytes) -> str:
        self.before(name)
        return self.inner.write_atomic(name, content)

    def write_once(self, name: str, content: bytes) -> bool:
        self.before(name)
        return self.inner.write_once(name, content)


def write(path: Path, found: list[Row]) -> None:
    names = ["id", "time", "amount", "fraud", "card", "shop", "known"]
    table = pa.table({name: pa.array([row[i] for row in found], pa.string()) for i, name in enumerate(names)})
    pyarrow.csv.write_csv(table, path)
