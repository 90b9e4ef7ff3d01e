"""The input of a store: which files it has, and how they differ from those that the store was made of."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fraud_detection import settings
from fraud_detection.errors import DataError, FraudDetectionError
from fraud_detection.storage import InputEntry, open_input
from fraud_detection.transactions.columns import Field
from fraud_detection.transactions.files import list_entries, open_files
from fraud_detection.transactions.input_file import InputFile
from fraud_detection.transactions.store.manifest import ReadFile
from fraud_detection.transactions.table import id_types

STORE_VERSION = 1
"""Of the form of the store: another one reads the input anew."""
_CHUNK = 1 << 20
F = TypeVar("F", bound=ReadFile)


@dataclass(frozen=True)
class StoreInput:
    """The files that a store holds the rows of."""

    url: str
    fields: tuple[Field, ...]
    form: settings.Format
    leave_out: str | None = None
    """A path whose files are not part of it."""

    @property
    def key(self) -> str:
        """A hash of all that decides what the typed rows are, beside the content of the files."""
        said = [STORE_VERSION, self.url, self.leave_out, *self.fields, self.form.model_dump_json()]
        return hashlib.sha256("\n".join(map(repr, said)).encode()).hexdigest()[:16]

    def entries(self) -> list[InputEntry]:
        """All files; raises DataError where there are none."""
        return list_entries(self.url, self.leave_out)

    def open(self, read: Sequence[InputEntry], entries: Sequence[InputEntry]) -> tuple[InputFile, ...]:
        """Some of all files; a problem of one of them is reported as a problem of the whole input."""
        try:
            return open_files(self.url, [entry.path for entry in read], self.fields, self.form)
        except DataError:
            open_files(self.url, [entry.path for entry in entries], self.fields, self.form)
            raise


@dataclass(frozen=True)
class InputChanges(Generic[F]):
    """How an input differs from what a manifest says."""

    read: tuple[InputEntry, ...]  # new files, and those with other content
    same: tuple[F, ...]  # as they are now
    gone: tuple[F, ...]  # removed, or with other content now
    renewed: bool  # whether some files have another time and the same content

    @property
    def any(self) -> bool:
        """Whether there is something to publish."""
        return bool(self.read or self.gone or self.renewed)

    @classmethod
    def between(cls, files: Iterable[F], entries: Iterable[InputEntry]) -> "InputChanges[F]":
        """From the files of a manifest to those that are there."""
        known = {file.path: file for file in files}
        read, same, renewed = list[InputEntry](), list[F](), False
        for entry in entries:
            file = known.get(entry.path)
            if file is None or file.size != entry.size:
                read.append(entry)
            elif file.version == entry.version:
                same.append(file)
            elif file.sha256 is not None and file.sha256 == file_digest(entry.path):
                same.append(file.model_copy(update={"version": entry.version}))
                renewed = True
            else:
                read.append(entry)
        kept = {file.path for file in same}
        gone = tuple(file for path, file in known.items() if path not in kept)
        return cls(tuple(read), tuple(same), gone, renewed)


@dataclass(frozen=True)
class Look(Generic[F]):
    """What a store finds when it looks at its input."""

    changes: InputChanges[F]
    opened: dict[str, InputFile]
    """The files to be read, by path."""
    ids: dict[str, str]
    """bigint or string for each id column."""
    is_other: bool
    """Whether ids have other types now: what the store has is of no use, and all files are to be read."""

    @classmethod
    def at(cls, source: StoreInput, files: Sequence[F], ids: dict[str, str]) -> "Look[F]":
        """Compare an input with the files of a manifest, whose ids had certain types.

        Raises:
            DataError: there is no data, or a file breaks the contract.
        """
        entries = source.entries()
        changes, is_other = InputChanges.between(files, entries), False
        opened = source.open(changes.read, entries) if changes.read else ()
        found = id_types(opened, source.fields) if opened else ids
        if files and found != ids:  # the files disagree, or they all are new
            opened = source.open(entries, entries)
            found = id_types(opened, source.fields)
            is_other = found != ids
            changes = InputChanges.between((), entries) if is_other else changes
        return cls(changes, {file.path: file for file in opened}, found, is_other)


def file_digest(path: str) -> str:
    """SHA-256 of a file of the input.

    Raises:
        FraudDetectionError: it cannot be read.
    """
    found = hashlib.sha256()
    try:
        with open_input(path) as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except OSError as error:
        raise FraudDetectionError(f"{path}: cannot be read: {error.strerror}; expected a file that stays") from error
    return found.hexdigest()
