"""What the features of a day depend on, as a hash. A day is valid while its hash stays what it was.

The features of a day depend on the rows of the look-back, and on the labels that were known by its end. So a label that
arrives changes the days since it is known, and a late row those that look back to it. `transactions.store` has digests
of both, so that no row is read for this.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from fraud_detection.features.definitions import DAY, FEATURE_VERSION
from fraud_detection.features.spans import label_delay, read_from, terminal_from
from fraud_detection.settings import Settings
from fraud_detection.transactions.store.manifest import NO_DAY, Day

FORM_VERSION = 1
"""Of the files of features: another one computes all days again."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORD = 2**64


def features_key(settings: Settings) -> str:
    """A hash of all that decides what the features are, beside the typed rows."""
    said = f"{FEATURE_VERSION} {FORM_VERSION} {settings.windows.label_delay_days!r} {settings.data.model_dump_json()}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def midnight(day: int) -> datetime:
    """The beginning of a day since 1970."""
    return _EPOCH + timedelta(days=day)


def day_of(moment: datetime) -> int:
    """The day of a moment, since 1970."""
    return (moment - _EPOCH) // timedelta(days=1)


@dataclass(frozen=True)
class LookBack:
    """How far the features of a day reach; both give the first day of what the features of a day depend on."""

    rows: Callable[[int], int]
    labels: Callable[[int], int]
    label_delay: int
    """In microseconds: when a label is known that does not say it."""

    @classmethod
    def of(cls, settings: Settings) -> "LookBack":
        """That of the features."""
        return cls(
            rows=lambda day: day_of(read_from(settings, midnight(day))),
            labels=lambda day: day_of(terminal_from(settings, midnight(day))),
            label_delay=label_delay(settings),
        )


@dataclass(frozen=True)
class SeenDays:
    """The days of a store of rows as a view shows them. Moments are microseconds since 1970."""

    days: Mapping[int, Day]
    """By number, without `NO_DAY`."""
    sharing: Mapping[int, frozenset[int]]
    """For each day that has ids of other days, those days and itself."""
    end: int
    """The view shows no row from then on."""
    labels_end: int | None
    """The view shows no label that became known later; None where it shows all."""

    @classmethod
    def of(
        cls, days: Iterable[Day], sharing: Mapping[int, frozenset[int]], end: int, labels_end: int | None
    ) -> "SeenDays":
        """From the days of a manifest."""
        return cls({day.day: day for day in days if day.day != NO_DAY}, sharing, end, labels_end)

    def hashes(self, wanted: Iterable[int], look_back: LookBack) -> dict[int, str]:
        """For each wanted day that has rows, a hash of all that its features depend on.

        Days are left out whose features another view would see otherwise: those that are not over, and those that look
        back to a row which a label that is not known yet takes out, as a bad row or as a copy.
        """
        found = {}
        for day in wanted:
            if day in self.days and (day + 1) * DAY <= self.end:
                said = self._dependencies(day, look_back)
                if said is not None:
                    found[day] = hashlib.sha256("\n".join(said).encode()).hexdigest()[:32]
        return found

    def good_rows(self, day: int) -> str | None:
        """What decides which rows of a day are good, and what they say beside their labels.

        Returns:
            None where the day has no rows or is not over, or where a label that is not known yet decides.
        """
        is_over = day in self.days and (day + 1) * DAY <= self.end
        return self._rows[day] if is_over else None

    def _dependencies(self, day: int, look_back: LookBack) -> list[str] | None:
        said = [str(day)]
        for number in range(look_back.rows(day), day + 1):
            if number not in self.days:
                continue
            rows = self._rows[number]
            if rows is None:
                return None
            said.append(rows)
        labels = (
            self._labels_until(number, day, look_back.label_delay)
            for number in range(look_back.labels(day), day + 1)
            if number in self.days
        )
        total = [sum(half) % _WORD for half in zip((0, 0), *labels, strict=True)]
        return [*said, *map(str, total)]

    @cached_property
    def _rows(self) -> dict[int, str | None]:
        """What decides the good rows of each day; None where that is not settled in this view."""
        return {number: self._rows_of(day) for number, day in self.days.items()}

    def _rows_of(self, day: Day) -> str | None:
        if day.bad_labels and not self._settled(day):
            return None
        said = f"{day.day} {day.rows_digest}"
        involved = self.sharing.get(day.day, frozenset([day.day] if day.repeats else []))
        others = [self.days[number] for number in sorted(involved) if number in self.days]
        if not all(map(self._settled, others)):
            return None
        # Which of several copies is good may depend on their labels.
        return " ".join([said, *(other.content_digest for other in others)])

    def _settled(self, day: Day) -> bool:
        """Whether the view shows all of a day, with all its labels."""
        all_labels = self.labels_end is None or day.newest_label is None or day.newest_label <= self.labels_end
        return all_labels and (day.day + 1) * DAY <= self.end

    def _labels_until(self, number: int, last: int, delay: int) -> tuple[int, int]:
        """The sum of the digests of a day's labels that were known by the end of the day `last`."""
        known, sums, undated = self._labels[number]
        place = bisect_right(known, last)
        found = sums[place]
        if undated is not None and number * DAY + delay < (last + 1) * DAY:
            found = _added(found, undated)
        return found

    @cached_property
    def _labels(self) -> dict[int, tuple[list[int], list[tuple[int, int]], tuple[int, int] | None]]:
        """For each day the days on which labels became known, the running sums of their digests, the undated ones."""
        found = {}
        for number, day in self.days.items():
            known = sorted(moment for moment in day.label_events if moment != -1)
            sums = [(0, 0)]
            for moment in known:
                sums.append(_added(sums[-1], _halves(day.label_events[moment])))
            undated = _halves(day.label_events[-1]) if -1 in day.label_events else None
            found[number] = known, sums, undated
        return found


def _halves(digest: str) -> tuple[int, int]:
    return int(digest[:16], 16), int(digest[16:], 16)


def _added(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return (one[0] + other[0]) % _WORD, (one[1] + other[1]) % _WORD


def groups(pairs: Iterable[tuple[int, int]]) -> dict[int, frozenset[int]]:
    """For each day, the days that have an id in common with it, itself included.

    Args:
        pairs: hashes of ids that several days have, each with one of these days.
    """
    by_hash: dict[int, set[int]] = {}
    for one, day in pairs:
        by_hash.setdefault(one, set()).add(day)
    found: dict[int, set[int]] = {}
    for days in by_hash.values():
        for day in days:
            found.setdefault(day, set()).update(days)
    return {day: frozenset(days) for day, days in found.items()}
