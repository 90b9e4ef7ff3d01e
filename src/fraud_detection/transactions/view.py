"""The part of the input that counts: what had happened, and was known, at the as-of time."""

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know


@dataclass(frozen=True)
class View:
    """What a run may see of its input; all moments are aware."""

    clock: datetime
    as_of: datetime | None = None  # None: everything
    earlier: datetime | None = None  # measured besides, for a comparison with an earlier run

    @property
    def rejects_future(self) -> bool:
        """Whether transactions later than the clock are bad rows; otherwise they lie after the as-of time."""
        return self.as_of is None or self.as_of > self.clock

    def counts(self) -> Column:
        """The rows before the as-of time, those without a readable time, and those of the future (a warning)."""
        if self.as_of is None:
            return F.lit(True)
        time = F.col("transaction_time")
        counts = time.isNull() | (time < F.lit(self.as_of))
        return counts if self.rejects_future else counts | (time > F.lit(self.clock))
