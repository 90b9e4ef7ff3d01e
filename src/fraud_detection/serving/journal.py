"""The journal: the transactions that arrived since the store was read, so that a restart does not forget them.

Each line is a transaction in JSON, and its CRC-32. A line is written before its transaction is answered, so it survives
the end of the process; `sync` makes all that was written survive the end of the machine. Lines that a crash left
incomplete at the end are dropped.
"""

import errno
import fcntl
import json
import os
import threading
import zlib
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.serving.state import Arrival


class Journal:
    """A journal on a local disk, which one process holds."""

    def __init__(self, path: Path) -> None:
        """Open the journal, or begin it.

        Raises:
            ServiceUnavailableError: another process holds it.
            FraudDetectionError: it is damaged before its end.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock_file = _locked(path)
        self._lock = threading.Lock()
        content = path.read_bytes() if path.exists() else b""
        self.entries, length = _read(content, path)
        """All that is in it, oldest first."""
        self.dropped_bytes = len(content) - length
        """Of the incomplete end."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self.dropped_bytes:
            os.ftruncate(self._file, length)
        self._unsynced = self._closed = False

    def append(self, entry: Arrival) -> None:
        """Write an entry, or nothing of it.

        Raises:
            OSError: it cannot be written, such as to a full disk.
        """
        with self._lock:
            length = os.fstat(self._file).st_size
            try:
                _write(self._file, _line(entry))
            except OSError:  # half a line would spoil the one after it
                os.ftruncate(self._file, length)
                raise
            self.entries.append(entry)  # with its line: `replace` must see both or none
            self._unsynced = True

    def sync(self) -> None:
        """Bring what was written to the disk.

        Raises:
            OSError: that failed; the next call tries again.
        """
        with self._lock:
            if not self._unsynced:
                return
            file, self._unsynced = os.dup(self._file), False
        try:
            os.fdatasync(file)
        except OSError:
            self._unsynced = True
            raise
        finally:
            os.close(file)

    def replace(self, entries: Iterable[Arrival], done: int) -> None:
        """Replace the first entries, at once or not at all; those after them stay.

        Args:
            entries: in their place.
            done: how many are replaced.

        Raises:
            OSError: they cannot be written, or the journal is closed; it is as it was.
        """
        kept = list(entries)
        new = self.path.with_name(f"{self.path.name}.new")
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            _write(file, b"".join(map(_line, kept)))
            os.fsync(file)
            with self._lock:
                if self._closed:  # another process may hold it by now
                    raise OSError(errno.EBADF, "the journal is closed")
                later = self.entries[done:]
                _write(file, b"".join(map(_line, later)))
                os.fdatasync(file)
                new.replace(self.path)
                file, self._file, self.entries = self._file, file, kept + later
        finally:
            os.close(file)  # the one before, or the new one that could not be written
            new.unlink(missing_ok=True)
        _sync_folder(self.path.parent)

    def close(self) -> None:
        """Bring everything to the disk, and let another process open it."""
        try:
            self.sync()
        finally:
            with self._lock:
                self._closed = True
                os.close(self._file)
                os.close(self._lock_file)


def _locked(path: Path) -> int:
    file = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise ServiceUnavailableError(
            f"another server holds {path}; expected one server for each journal; next: stop it, or give another"
            " --journal"
        ) from error
    return file


def _line(entry: Arrival) -> bytes:
    text = json.dumps(astuple(entry), separators=(",", ":"), ensure_ascii=True).encode()
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _read(content: bytes, path: Path) -> tuple[list[Arrival], int]:
    """The entries, and the length of what holds them.

    Raises:
        FraudDetectionError: a damaged line is followed by a good one.
    """
    entries: list[Arrival] = []
    length = end = 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        end += len(line)
        entry = _parsed(line)
        if entry is None:
            continue
        if end - len(line) != length:
            raise FraudDetectionError(
                f"{path} is damaged before line {number}; expected the transactions that were scored since the store"
                " was read; next: move it away, and serve without them until the store has them"
            )
        entries.append(entry)
        length = end
    return entries, length


def _parsed(line: bytes) -> Arrival | None:
    text, _, check = line.rpartition(b" ")
    if check != b"%08x\n" % zlib.crc32(text):
        return None
    return Arrival(*json.loads(text))


def _write(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
