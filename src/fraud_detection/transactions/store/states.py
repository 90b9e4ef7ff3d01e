"""The states of a store, one after the other: published, checked, and discarded when no reader needs them any more."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.storage import Manifests, Storage
from fraud_detection.transactions.store.manifest import DamagedStoreError

_ATTEMPTS = 5
_GRACE = timedelta(days=1)  # for runs that still read a state that was replaced


class State(Protocol):
    """A manifest."""

    @property
    def number(self) -> int:
        """The first one has 1."""
        ...

    @property
    def published_at(self) -> datetime:
        """Aware."""
        ...

    def content(self) -> bytes:
        """As it is stored."""
        ...

    def sizes(self) -> dict[str, int | None]:
        """Bytes of all files that it needs; None where the manifest does not say."""
        ...


S = TypeVar("S", bound=State)
R = TypeVar("R")


@dataclass(frozen=True)
class States(Generic[S]):
    """The manifests of one store and the files that they name."""

    storage: Storage
    folder: str
    """Its name ends with a slash."""
    kinds: tuple[str, ...]
    """The folders of files, relative to it, each with a slash at its end."""
    parse: Callable[[bytes], S]
    """Raises ValueError where the content is damaged."""
    clock: Callable[[], datetime]

    @property
    def number(self) -> int:
        """Of the newest manifest, also where it is damaged; 0 without any."""
        found = self._manifests.newest()
        return found[0] if found else 0

    def newest(self) -> S | None:
        """The state in force; None before the first one.

        Raises:
            DamagedStoreError: the manifest is damaged, or one of its files is not there or has another size.
        """
        newest = self._manifests.newest()
        if newest is None:
            return None
        state = self._parsed(*newest)
        there = self._files()
        for name, size in state.sizes().items():
            if name not in there or (size is not None and there[name] != size):
                raise DamagedStoreError(self.storage.url(name))
        return state

    def update(self, attempt: Callable[[DamagedStoreError | None], R | None], damaged: DamagedStoreError | None) -> R:
        """What an attempt gives that no other writer was faster than.

        Args:
            attempt: makes the next state, from nothing if it is told of damage, and publishes it; gives None where
                another writer was first.
            damaged: what a reader has found.

        Raises:
            DamagedStoreError: files that are not of this store are damaged, or new ones are.
            ServiceUnavailableError: other writers were first each time.
        """
        for _ in range(_ATTEMPTS):
            try:
                found = attempt(damaged)
            except DamagedStoreError as error:
                if damaged is not None or not self.has(error.file):
                    raise
                damaged = error
                continue
            if found is not None:
                return found
        raise ServiceUnavailableError(
            f"the store {self.storage.url(self.folder)} was changed by other runs {_ATTEMPTS} times in a row;"
            " expected one run at a time; next: run this again"
        )

    def has(self, url: str) -> bool:
        """Whether a file, named by its path or URL, is of this store."""
        return any(url.startswith(self.storage.url(self.folder + kind)) for kind in (*self.kinds, "manifest/"))

    def publish(self, state: S) -> bool:
        """Publish a state after the one before; False where another writer was first."""
        return self._manifests.publish(state.number, state.content())

    def discard_unused(self, newest: S) -> None:
        """Discard manifests that were replaced more than a day ago, and the files that they alone name.

        Files of a killed writer are named by none. Emptied files count as discarded: see `Storage.discard`.
        """
        since = self.clock() - _GRACE
        needed, in_force = {*newest.sizes()}, newest.published_at
        sizes = {found.name: found.size for found in self.storage.objects(f"{self.folder}manifest/")}
        for number in reversed(self._manifests.numbers()):
            name = self._manifests.name(number)
            if number >= newest.number or not sizes.get(name):
                continue
            if in_force < since:
                self.storage.discard(name)
                continue
            try:
                state = self._parsed(number, self.storage.read(name) or b"")
            except DamagedStoreError:  # nobody can read it
                self.storage.discard(name)
                continue
            needed |= {*state.sizes()}
            in_force = state.published_at
        oldest = f"{since.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        for name, size in self._files().items():
            if size and name not in needed and name.rpartition("/")[2] < oldest:
                self.storage.discard(name)

    def _files(self) -> dict[str, int]:
        return {found.name: found.size for kind in self.kinds for found in self.storage.objects(self.folder + kind)}

    def _parsed(self, number: int, content: bytes) -> S:
        try:
            return self.parse(content)
        except ValueError as error:
            raise DamagedStoreError(self.storage.url(self._manifests.name(number))) from error

    @property
    def _manifests(self) -> Manifests:
        return Manifests(self.storage, f"{self.folder}manifest/")
