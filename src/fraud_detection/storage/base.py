"""What the rest of the library knows of a storage."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath


@dataclass(frozen=True)
class InputEntry:
    """A file of an input, as a listing shows it."""

    path: str
    size: int  # bytes
    version: str
    """The time of its last change in nanoseconds, or the ETag of an object: another one where the content is."""


@dataclass(frozen=True)
class StoredObject:
    """An object of a storage, as a listing shows it."""

    name: str
    size: int  # bytes
    written_at: datetime
    """When it was last written, by the storage's clock; aware, UTC."""


class Storage(ABC):
    """A folder of objects. Names inside it are relative, with forward slashes, and never leave it.

    Every method raises `ServiceUnavailableError` (exit code 75) where the storage cannot be reached, and another
    `FraudDetectionError` where it refuses: trying again does not fix a full disk or a missing permission.
    """

    @abstractmethod
    def url(self, name: str) -> str:
        """The path or the URL of `name`."""

    @abstractmethod
    def write_atomic(self, name: str, content: bytes) -> str:
        """Write or replace one object atomically, and return its path or URL. Readers never see a part of it."""

    @abstractmethod
    def write_once(self, name: str, content: bytes) -> bool:
        """Write one object unless it exists; True for the one writer that made it, also among concurrent writers."""

    @abstractmethod
    def objects(self, prefix: str = "") -> list[StoredObject]:
        """All objects whose names begin with `prefix`, sorted by name; those that vanish meanwhile are left out."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of one object, or None where there is none."""

    @abstractmethod
    def names(self, prefix: str = "") -> list[str]:
        """The sorted names of all objects that begin with `prefix`."""

    @abstractmethod
    def discard(self, name: str) -> None:
        """Delete one object, or empty it where the account may replace and not delete; nothing where there is none.

        Readers that list objects take one without bytes for discarded. Never for an object that is written once and
        says what happened, such as a decision.
        """


def parts_of(name: str, root: object) -> tuple[str, ...]:
    """The steps from `root` to `name`.

    Raises:
        ValueError: the name leads out of it, or nowhere.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"{name!r} is not a name inside {root}")
    return parts
