"""What has been scored of a model's transactions, as a compressed JSON object: the manifest of each batch."""

import gzip
from datetime import date, datetime

from fraud_detection.schema import Stored, Unbounded

_GZIP = b"\x1f\x8b"


class ScoredDay(Stored):
    """The scored transactions of one day of transaction time, UTC."""

    day: date
    rows: int
    alerts: int
    late: int
    gone: int  # scored, and no longer in the input on this day
    content: str  # a fingerprint of the day in the input as of the batch that last looked at it
    files: tuple[str, ...]  # names below the folder of the model's scores, oldest first; each row is in one of them


class ScoreManifest(Stored):
    """All that has been scored, and the batch that published it."""

    number: int  # of the batch, from 1
    as_of: datetime  # earlier transactions were scored, as far as the input had them
    since: datetime  # no transaction before is scored
    scored_at: datetime
    version: int  # of the model; one for the whole batch
    sha256: str | None  # of its file; None in versions of earlier releases
    threshold: Unbounded | None  # from which probability on a transaction alerts; None where the version has none
    code_revision: str | None
    rows: int  # of the batch
    alerts: int
    late: int
    days: tuple[ScoredDay, ...]  # rising

    @classmethod
    def parse(cls, content: bytes) -> "ScoreManifest":
        """From what is stored; earlier releases stored it uncompressed.

        Raises:
            ValueError, OSError, EOFError, zlib.error: it is damaged.
        """
        return cls.model_validate_json(gzip.decompress(content) if content.startswith(_GZIP) else content)

    def content(self) -> bytes:
        """As it is stored."""
        return gzip.compress(self.model_dump_json().encode(), compresslevel=6, mtime=0)

    @property
    def new_files(self) -> dict[date, str]:
        """The files of this batch, by day."""
        own = f"/{self.number:08d}-"
        return {day.day: day.files[-1] for day in self.days if day.files and own in day.files[-1]}
