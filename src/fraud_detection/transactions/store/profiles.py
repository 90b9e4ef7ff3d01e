"""What was measured of days that no later moment can change, so that they are not read to be measured again."""

import hashlib
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa

from fraud_detection import settings
from fraud_detection.storage import Storage
from fraud_detection.transactions.store.manifest import NO_DAY, Day
from fraud_detection.transactions.view import View

MEASURE_VERSION = 1
"""Of the rules and of what is measured: another one measures all days anew."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MICROS = 86_400_000_000
_FILE = "file"


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def is_settled(day: Day, view: View) -> bool:
    """Whether a view sees all of a day: it is over, and all its labels were known, at the earlier moment too."""
    end = view.clock if view.as_of is None else min(view.clock, view.as_of)
    over = (day.day + 1) * _DAY_MICROS <= to_micros(end)
    moments = [to_micros(moment) for moment in (view.as_of, view.earlier) if moment is not None]
    known = day.newest_label is None or all(day.newest_label <= moment for moment in moments)
    return day.day != NO_DAY and over and known


@dataclass(frozen=True)
class MeasuredDays:
    """Results of `profile.measure` by the identity of a day, which says what it holds. One object for each rule set.

    Of two writers at once one loses what it has measured, and measures it again.
    """

    storage: Storage
    folder: str  # of the store
    data: settings.Data
    _cache: list[pd.DataFrame] = field(default_factory=list, repr=False, compare=False)
    """What was read, or written since: a run asks several times."""

    def known(self, days: Iterable[Day], view: View) -> tuple[set[str], pd.DataFrame]:
        """What was measured of those of these days that were measured before, and their identities.

        Args:
            days: settled in the view.
        """
        wanted = {day.identity for day in days}
        kept = self._read()
        if kept is None or not wanted:
            return set(), pd.DataFrame()
        chosen = kept[kept[_FILE].isin(wanted)]
        # All labels were known at the earlier moment, too.
        earlier = chosen["content"] if view.earlier is not None else chosen["content"] * 0
        return set(chosen[_FILE].unique()), chosen.assign(earlier_content=earlier).drop(columns=_FILE)

    def keep(self, measured: Mapping[str, pd.DataFrame], days: Iterable[Day]) -> None:
        """Keep what was measured of settled days.

        Args:
            measured: by the identities of the days.
            days: all that the store has; what was measured of others is dropped.
        """
        added = [compact(rows).assign(**{_FILE: file}) for file, rows in measured.items() if len(rows)]
        if not added:
            return
        kept = self._read()
        old = [] if kept is None else [kept[kept[_FILE].isin({day.identity for day in days})]]
        together, text = pd.concat([*old, *added], ignore_index=True), io.BytesIO()
        together.to_parquet(text, compression="zstd")
        self.storage.write_atomic(self._name, text.getvalue())
        self._cache[:] = [together]

    def _read(self) -> pd.DataFrame | None:
        if not self._cache and (content := self.storage.read(self._name)) is not None:
            with suppress(pa.ArrowException, OSError):  # damaged: all days are measured again, and it is replaced
                self._cache.append(pd.read_parquet(io.BytesIO(content)))
        return self._cache[0] if self._cache else None

    @property
    def _name(self) -> str:
        said = f"{MEASURE_VERSION} {self.data.model_dump_json()}"
        return f"{self.folder}profiles/{hashlib.sha256(said.encode()).hexdigest()[:16]}.parquet"


def compact(measured: pd.DataFrame) -> pd.DataFrame:
    """A result of `profile.measure` that says the same in fewer bytes.

    Of each hour one row has the hash sum of all its good rows, and all have the same times; the rest compresses.
    """
    measured = measured.drop(columns="earlier_content").astype({"latest_label": "float64"})
    good = measured["reason"].isna()
    rows, hours = measured[good], measured[good].groupby("hour")
    changed = rows.assign(
        content=hours["content"].transform("sum").where(~rows.duplicated("hour"), 0),
        first=hours["first"].transform("min"),
        newest=hours["newest"].transform("max"),
        latest_label=hours["latest_label"].transform("max"),
    )
    return pd.concat([changed, measured[~good]], ignore_index=True)
