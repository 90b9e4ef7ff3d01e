"""What has been scored of a model's transactions, as a JSON object: the manifest of each batch."""

from datetime import date, datetime

from fraud_detection.schema import Stored, Unbounded


class ScoredDay(Stored):
    """The scored transactions of one day of transaction time, UTC."""

    day: date
    rows: int
    alerts: int
    late: int
    gone: int  # scored, and no longer in the input on this day
    content: str  # of the day in the input as of the batch that last looked at it; see `Profile.fingerprint`
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

    @property
    def new_files(self) -> dict[date, str]:
        """The files of this batch, by day."""
        own = f"/{self.number:08d}-"
        return {day.day: day.files[-1] for day in self.days if day.files and own in day.files[-1]}
