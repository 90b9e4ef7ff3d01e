"""Input whose files have many different layouts."""

from dataclasses import dataclass
from math import ceil, log2
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.transactions.table import union_all


@dataclass(frozen=True)
class _Rows:
    """Stands for a table: its rows, and how many unions lie above the deepest of its parts."""

    rows: tuple[int, ...]
    depth: int = 0

    def unionByName(self, other: "_Rows") -> "_Rows":  # noqa: N802 - the engine's name
        return _Rows(self.rows + other.rows, max(self.depth, other.depth) + 1)


@given(st.integers(1, 400))
def test_many_layouts_are_read_once_and_in_a_shallow_plan(count: int) -> None:
    """Fails when a folder of many layouts loses or repeats a file, or takes minutes to plan on Apache Spark."""
    parts: list[Any] = [_Rows((number,)) for number in range(count)]
    found = cast("_Rows", union_all(parts))
    assert found.rows == tuple(range(count))
    assert found.depth == ceil(log2(count))
