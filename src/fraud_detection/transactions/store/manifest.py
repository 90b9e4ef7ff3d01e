"""What a store holds at one moment: input files, days and their files; as a compressed JSON object."""

from datetime import datetime

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.schema import Stored
from fraud_detection.transactions.store.compression import compressed, decompressed

NO_DAY = 65_535
"""Stands for the day of rows without a readable time between 1970 and 2149."""


ENTRY_BYTES = 10
"""Of an entry of the index of ids."""


class DamagedStoreError(ServiceUnavailableError):
    """A file of the store is lost or damaged; `rows.RowStore.update` then reads the input anew, in the next run too."""

    def __init__(self, file: str) -> None:
        """`file`: its path or URL."""
        super().__init__(
            f"{file} of the store is missing or damaged; expected it as it was written; next: run this again"
        )
        self.file = file


class ReadFile(Stored):
    """An input file as it was read."""

    path: str
    size: int  # bytes
    version: str  # see `storage.InputEntry`
    sha256: str | None  # None of objects, whose version changes with their content
    number: int  # in the rows
    rows: int


class SourceFile(ReadFile):
    """A file of transactions."""

    days: tuple[int, ...]  # that have rows of it


class Day(Stored):
    """The rows of one day of transaction time, UTC."""

    day: int  # since 1970; `NO_DAY`
    file: str  # name below the store's folder; no other content ever has it
    size: int  # bytes of the file
    rows: int
    rows_digest: str  # of all that features read but labels
    content_digest: str  # of all columns
    label_events: dict[int, str]  # by the day on which labels became known (-1: not said); see `days.added`
    first: int | None  # transaction time in microseconds since 1970; None of `NO_DAY`
    newest: int | None
    newest_label: int | None  # the latest `label_available_at`; None without any
    bad_labels: bool  # whether some label makes its row bad
    repeats: bool  # whether two rows of the day have the same id
    ids: tuple[int, int] | None  # the least and the largest, where ids are integers
    labels: str = ""  # the file of its labels, where a label table has them: digests are then of both

    @property
    def identity(self) -> str:
        """Names what the day holds, labels included."""
        return self.file + self.labels


class Segment(Stored):
    """A sorted part of the index of ids; see `repeats`."""

    file: str
    rows: int  # of ENTRY_BYTES each


class Manifest(Stored):
    """A state of the store."""

    number: int
    published_at: datetime
    ids: dict[str, str]  # bigint or string for each id column
    files: tuple[SourceFile, ...]  # by path
    days: tuple[Day, ...]  # rising
    next_file: int  # the number of the next input file
    segments: tuple[Segment, ...]
    repeats: str | None  # the file that names ids which rows of several days have; None where there are none
    forgotten: tuple[str, ...] = ()  # hashes of cards that have no row in it; see `forgotten`

    @classmethod
    def parse(cls, content: bytes) -> "Manifest":
        """The manifest that `content` gave.

        Raises:
            ValueError: it is damaged.
        """
        return cls.model_validate_json(decompressed(content))

    def content(self) -> bytes:
        """As it is stored: some 60 bytes for each input file, and 800 for each day."""
        return compressed(self.model_dump_json().encode())

    def day(self, number: int) -> Day | None:
        """One day, or None where it has no rows."""
        return next((day for day in self.days if day.day == number), None)

    def names(self) -> set[str]:
        """Of all files that it needs."""
        return {*self.sizes()}

    def sizes(self) -> dict[str, int | None]:
        """Bytes of all files that it needs; None where it does not say."""
        found: dict[str, int | None] = {day.file: day.size for day in self.days}
        found |= {segment.file: ENTRY_BYTES * segment.rows for segment in self.segments}
        return found | ({self.repeats: None} if self.repeats else {})
