"""What a store of labels holds at one moment; as a compressed JSON object."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fraud_detection.schema import Stored
from fraud_detection.transactions.store.compression import compressed, decompressed
from fraud_detection.transactions.store.manifest import NO_DAY, ReadFile


class LabelFile(ReadFile):
    """A file of the label table. Its number stays when its content changes."""

    first: int | None = None  # of the days of its labels' transactions, since 1970; None where there are none
    last: int | None = None
    no_day: bool = False  # whether some of these transactions have no readable time

    def days_among(self, days: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some days may have transactions that it has labels of."""
        found: NDArray[np.bool_] = (days == NO_DAY) & self.no_day
        if self.first is not None and self.last is not None:
            found |= (days >= self.first) & (days <= self.last)
        return found

    def reaches(self, days: NDArray[np.int64]) -> bool:
        """Whether it may have labels of transactions of some days."""
        return bool(self.days_among(days).any())


class LabelDay(Stored):
    """The labels of the transactions of one day."""

    day: int  # of the transactions, since 1970; `manifest.NO_DAY`
    rows_file: str  # of these transactions
    file: str  # name below the storage; empty without labels
    size: int  # bytes
    rows: int
    digest: str  # of all labels; empty without any
    events: dict[int, str]  # by the day on which they became known (-1: not said); see `days.added`
    first: int | None  # when the first one became known, in microseconds since 1970; None where one does not say
    newest: int | None  # when the last one did; None where none says
    bad: bool  # whether some label makes its transaction bad
    repeats: bool  # whether a transaction has several


class Waiting(Stored):
    """Labels whose transaction is not there, sorted by the hash of its id."""

    file: str
    size: int  # bytes
    rows: int
    hours: tuple[tuple[int, int, int], ...]
    """The hour by whose end labels were known (since 1970; -1: not said), how many, and how many without an id."""


class LabelManifest(Stored):
    """A state of the store of labels, beside a state of the store of rows."""

    number: int
    published_at: datetime
    ids: dict[str, str]  # bigint or string, of the label table
    row_ids: dict[str, str]  # of the transactions
    files: tuple[LabelFile, ...]  # by path
    days: tuple[LabelDay, ...]  # rising; all days that have transactions
    beside_no_day: tuple[int, ...]  # days that have labels of transactions without a readable time, too; with `NO_DAY`
    waiting: tuple[Waiting, ...]  # each of more than twice as many rows as the next one when it was written
    next_file: int

    @classmethod
    def parse(cls, content: bytes) -> "LabelManifest":
        """The manifest that `content` gave.

        Raises:
            ValueError: it is damaged.
        """
        return cls.model_validate_json(decompressed(content))

    def content(self) -> bytes:
        """As it is stored."""
        return compressed(self.model_dump_json().encode())

    def sizes(self) -> dict[str, int | None]:
        """Bytes of all files that it needs."""
        days = {day.file: day.size for day in self.days if day.rows}
        return {**days, **{part.file: part.size for part in self.waiting}}
