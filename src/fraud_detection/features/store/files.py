"""The files of features by day, and the manifest that names them.

Layout below the folder of a key: `days/<day>/…parquet`, `manifest/<number>.json.gz`. A file is written once under a new
name; the manifest that names it comes last (`storage.Manifests`). A day may be replaced under another hash by another
writer; each reader takes only days under the hashes that it asks for.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.features.store.validity import midnight
from fraud_detection.outputs import features_folder
from fraud_detection.schema import Stored
from fraud_detection.storage import Manifests, Storage
from fraud_detection.transactions.store.compression import compressed, decompressed

_ATTEMPTS = 20
_GRACE = timedelta(days=1)  # for runs that still read a file that was replaced
_KEPT_MANIFESTS = 24
_GAP = 7  # days: looking back once more costs more than computing these
_LONGEST = 92  # days that are computed at once, so that memory does not grow with history


class FeatureDay(Stored):
    """The features of one day of transaction time, UTC."""

    day: int  # since 1970
    depends: str  # see `validity`
    file: str  # name below the storage; empty where no row of the day is good
    size: int  # bytes
    rows: int


class RetiredFile(Stored):
    """A file that was replaced."""

    file: str
    at: datetime


class FeatureManifest(Stored):
    """A state of the store."""

    number: int
    published_at: datetime
    days: tuple[FeatureDay, ...]  # rising
    retired: tuple[RetiredFile, ...]

    def content(self) -> bytes:
        """As it is stored."""
        return compressed(self.model_dump_json().encode())


@dataclass(frozen=True)
class Missing:
    """Days whose files are to be written: some of those from `first` up to `last`."""

    first: int
    last: int
    names: Mapping[int, str]
    """By day, the name of its file."""


Compute = Callable[[Missing], Iterable[tuple[int, int, int]]]
"""Writes the files of some days; gives day, bytes and rows of each that has rows."""


@dataclass(frozen=True)
class FeatureFiles:
    """The features of one key of one store of rows."""

    storage: Storage
    folder: str
    """Its name ends with a slash."""
    clock: Callable[[], datetime]

    def held(self, wanted: Mapping[int, str]) -> dict[int, FeatureDay]:
        """Those of the wanted days that are there under their hashes, and not lost or damaged in size."""
        kept = {day.day: day for day in self.newest().days if wanted.get(day.day) == day.depends}
        if not kept:
            return {}
        sizes = self._sizes()
        return {number: day for number, day in kept.items() if not day.rows or sizes.get(day.file) == day.size}

    def bring_up_to_date(self, wanted: Mapping[int, str], compute: Compute) -> dict[int, FeatureDay]:
        """All wanted days; those that are missing are computed, written and published, a span at a time.

        Raises:
            ServiceUnavailableError: other writers were first each time.
        """
        found = self.held(wanted)
        return found | self.compute_days({day: wanted[day] for day in wanted.keys() - found.keys()}, compute)

    def compute_days(self, wanted: Mapping[int, str], compute: Compute) -> dict[int, FeatureDay]:
        """Some days, computed, written and published whatever was there; raises as `bring_up_to_date`."""
        found: dict[int, FeatureDay] = {}
        for first, last in spans_of(sorted(wanted)):
            numbers = [day for day in sorted(wanted) if first <= day <= last]
            missing = Missing(first, last, {day: self._name(day) for day in numbers})
            made = {day: (missing.names[day], size, rows) for day, size, rows in compute(missing)}
            written = []
            for day in numbers:
                file, size, rows = made.get(day, ("", 0, 0))
                written.append(FeatureDay(day=day, depends=wanted[day], file=file, size=size, rows=rows))
            self.publish(written)
            found |= {day.day: day for day in written}
        return found

    def publish(self, written: Sequence[FeatureDay]) -> None:
        """Publish days whose files are written, in place of what was there for these days.

        Raises:
            ServiceUnavailableError: other writers were first each time.
        """
        if not written:
            return
        for _ in range(_ATTEMPTS):
            before = self.newest()
            following = self._after(before, written)
            content = following.content()
            if Manifests(self.storage, f"{self.folder}manifest/").publish(following.number, content):
                self._discard(before, following)
                return
        raise ServiceUnavailableError(
            f"the features {self.storage.url(self.folder)} were changed by other runs {_ATTEMPTS} times in a row;"
            " expected few runs at a time; next: run this again"
        )

    def newest(self) -> FeatureManifest:
        """The state in force; an empty one where there is none, or a damaged one: all days are computed again then."""
        found = Manifests(self.storage, f"{self.folder}manifest/").newest()
        number, content = found if found else (0, b"")
        try:
            return FeatureManifest.model_validate_json(decompressed(content))
        except ValueError:
            return FeatureManifest(number=number, published_at=self.clock(), days=(), retired=())

    def _after(self, before: FeatureManifest, written: Sequence[FeatureDay]) -> FeatureManifest:
        now, days = self.clock(), {day.day: day for day in before.days}
        replaced = [
            RetiredFile(file=days[day.day].file, at=now) for day in written if day.day in days and days[day.day].file
        ]
        days |= {day.day: day for day in written}
        retired = [file for file in before.retired if file.at >= now - _GRACE]
        return FeatureManifest(
            number=before.number + 1,
            published_at=now,
            days=tuple(days[number] for number in sorted(days)),
            retired=(*retired, *replaced),
        )

    def _discard(self, before: FeatureManifest, following: FeatureManifest) -> None:
        """Discard files that were replaced more than a day ago, and once a day those of killed writers."""
        needed = {day.file for day in following.days} | {file.file for file in following.retired}
        for file in before.retired:
            if file.file not in needed:
                self.storage.discard(file.file)
        if before.published_at.date() == following.published_at.date():
            return
        oldest = _stamp(following.published_at - _GRACE)
        for name, size in self._sizes().items():
            if size and name not in needed and name.rpartition("/")[2] < oldest:
                self.storage.discard(name)
        manifests = Manifests(self.storage, f"{self.folder}manifest/")
        for number in manifests.numbers():
            if number <= following.number - _KEPT_MANIFESTS:
                self.storage.discard(manifests.name(number))

    def _sizes(self) -> dict[str, int]:
        return {found.name: found.size for found in self.storage.objects(f"{self.folder}days/")}

    def _name(self, day: int) -> str:
        """A name that no other file has; it begins with the time, which tells how old an unused file is."""
        return f"{self.folder}days/{midnight(day):%Y-%m-%d}/{_stamp(self.clock())}-{uuid.uuid4().hex}.parquet"


def discard_features(storage: Storage, folder: str) -> int:
    """Discard the features of a store of rows, of all settings: manifests first, so that no reader opens the files.

    Args:
        storage: where the store is.
        folder: of the store of rows, its name ending with a slash.

    Returns:
        how many files of days there were.
    """
    names = [found.name for found in storage.objects(features_folder(folder)) if found.size]
    manifests = [name for name in names if "/manifest/" in name.removeprefix(folder)]
    files = [name for name in names if name not in {*manifests}]
    for name in (*manifests, *files):
        storage.discard(name)
    return len(files)


def spans_of(days: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last day of spans that hold all of these days, which rise."""
    first = last = None
    for day in days:
        if first is None or last is None:
            first = last = day
        elif day - last > _GAP or day - first >= _LONGEST:
            yield first, last
            first = last = day
        else:
            last = day
    if first is not None and last is not None:
        yield first, last


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"
