"""Rows in memory, and which of them each card and each terminal has."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraud_detection.features.timeline import Ints

Key = int | str


class Keys:
    """The code of each key: those of the loaded rows from 0 on, then those of rows without a key, then later ones.

    A missing key is unknown and equals no other one.
    """

    codes: Ints
    """Of the loaded rows."""
    _code: dict[Key, int]

    def __init__(self, column: pa.ChunkedArray | None, rows: int) -> None:
        """Take the keys of loaded rows; without a column no row has one."""
        if column is None:
            self.codes, self._code = np.arange(rows), {}
        else:
            encoded = column.combine_chunks().dictionary_encode()
            self.codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
            self._code = {key: code for code, key in enumerate(encoded.dictionary.to_pylist())}
            unknown = np.flatnonzero(self.codes < 0)
            self.codes[unknown] = len(self._code) + np.arange(len(unknown))
        self._next = int(self.codes.max(initial=-1)) + 1

    def __len__(self) -> int:
        """How many there are."""
        return len(self._code)

    def get(self, key: Key | None) -> int | None:
        """The code of a key; None of one that no row has, or that is unknown."""
        return None if key is None else self._code.get(key)

    def give(self, key: Key) -> int:
        """The code of a key, a new one if it has none."""
        code = self._code.setdefault(key, self._next)
        self._next += code == self._next
        return code


@dataclass(frozen=True)
class LoadedRows:
    """Rows of a store, sorted by card and time."""

    times: Ints
    cents: Ints
    ids: pa.Array

    @property
    def nbytes(self) -> int:
        """Their memory in bytes."""
        return int(self.times.nbytes + self.cents.nbytes + self.ids.nbytes)


class ArrivedRows:
    """Rows that came since, in the order of their arrival."""

    def __init__(self) -> None:
        self.ids: dict[Key, int] = {}
        self._list: list[Key] = []
        self._times = np.empty(1024, np.int64)
        self._cents = np.empty(1024, np.int64)

    @property
    def times(self) -> Ints:
        """Of all of them, in microseconds since 1970."""
        return self._times[: len(self._list)]

    @property
    def cents(self) -> Ints:
        """The amounts of all of them."""
        return self._cents[: len(self._list)]

    def add(self, identifier: Key, time: int, cents: int) -> int:
        """Add a row; its number."""
        number = len(self._list)
        if number == len(self._times):
            self._times, self._cents = np.resize(self._times, 2 * number), np.resize(self._cents, 2 * number)
        self._times[number], self._cents[number] = time, cents
        self._list.append(identifier)
        self.ids[identifier] = number
        return number

    def ids_of(self, numbers: list[int]) -> list[Key]:
        """The ids of some of them."""
        return [self._list[number] for number in numbers]


class KeyIndex:
    """The rows of each key: the loaded ones as a run of `rows`, in the order of time, and a list of later ones."""

    def __init__(self, codes: Ints, rows: NDArray[np.int32] | None) -> None:
        """Take the codes of the loaded rows, rising.

        Args:
            codes: of the keys, from 0.
            rows: the number of the row that each stands for; None where it is its position.
        """
        self._rows = rows
        self._starts = np.append(0, np.cumsum(np.bincount(codes))).astype(np.int32)
        self._later: dict[int, list[int]] = {}

    @property
    def nbytes(self) -> int:
        """The memory of the loaded part, in bytes."""
        return int(self._starts.nbytes + (0 if self._rows is None else self._rows.nbytes))

    def add(self, code: int, row: int) -> None:
        """Add a row that has arrived."""
        self._later.setdefault(code, []).append(row)

    def loaded(self, code: int) -> Ints:
        """The loaded rows of a key, in the order of time."""
        first, end = self._run(code)
        return np.arange(first, end) if self._rows is None else self._rows[first:end].astype(np.int64)

    def between(self, code: int, times: Ints, since: int, until: int) -> Ints:
        """The loaded rows of a key in (since, until], given the times of all loaded rows."""
        rows = self.loaded(code)
        first, end = np.searchsorted(times[rows], (since, until), side="right")
        return rows[first:end]

    def arrived(self, code: int) -> Ints:
        """The rows of a key that have arrived."""
        return np.array(self._later.get(code, ()), np.int64)

    def key_of(self, position: int) -> int:
        """The code of the key of a loaded row, given its position."""
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def _run(self, code: int) -> tuple[int, int]:
        if code >= len(self._starts) - 1:
            return 0, 0
        return int(self._starts[code]), int(self._starts[code + 1])
