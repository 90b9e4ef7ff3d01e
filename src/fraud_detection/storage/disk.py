"""A folder on disk: temporary files beside their objects, flushed, then renamed or linked into place."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs

from fraud_detection.errors import DataError, FraudDetectionError
from fraud_detection.storage.base import InputEntry, Storage, StoredObject, parts_of

_TEMPORARY = ".tmp-"
_ATTEMPTS = 3


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _umask()  # read once, at import: it can only be read by setting it, which concerns every thread
"""What the user withholds from new files: temporary files are private, published ones follow the user's choice."""


class DiskFolder(Storage):
    """A folder on disk, created by the first write.

    Every method raises `FraudDetectionError` (exit code 1) when the operating system refuses: trying again does not fix
    a full disk or a missing permission, so it is not reported as temporary.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def url(self, name: str) -> str:
        return str(self._path(name))

    def write_atomic(self, name: str, content: bytes) -> str:
        path = self._path(name)
        with _translate_errors("write", path), _temporary_file(path, content) as temporary:
            temporary.replace(path)
            _flush_folder(path.parent)
        return str(path)

    def write_once(self, name: str, content: bytes) -> bool:
        path = self._path(name)
        with _translate_errors("write", path), _temporary_file(path, content) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            _flush_folder(path.parent)
        return True

    def objects(self, prefix: str = "") -> list[StoredObject]:
        found = []
        for name in self.names(prefix):
            path = self._path(name)
            with _translate_errors("list", path), suppress(FileNotFoundError):
                status = path.stat()
                found.append(StoredObject(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)))
        return found

    def discard(self, name: str) -> None:
        """See `Storage`. A folder that it leaves empty goes as well, so that listing does not walk through it."""
        path = self._path(name)
        with _translate_errors("delete", path):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _flush_folder(path.parent)
            if path.parent != self._root:
                with suppress(OSError):  # it is not empty
                    path.parent.rmdir()

    def read(self, name: str) -> bytes | None:
        path = self._path(name)
        with _translate_errors("read", path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def names(self, prefix: str = "") -> list[str]:
        found: list[str] = []
        top = self._root.joinpath(*PurePosixPath(prefix.rpartition("/")[0]).parts)  # not through everything else
        with _translate_errors("list", self._root):
            for folder, folders, files in os.walk(top):
                folders[:] = [name for name in folders if _TEMPORARY not in name]
                inside = Path(folder).relative_to(self._root).parts  # once a folder: a log has some 20,000 files a year
                found += ["/".join((*inside, name)) for name in files if _TEMPORARY not in name]
        return sorted(name for name in found if name.startswith(prefix))

    def _path(self, name: str) -> Path:
        return self._root.joinpath(*parts_of(name, self._root))


def files_on_disk(root: Path) -> list[InputEntry]:
    """All files at an absolute path: the file itself, or all under the folder at any depth.

    Raises:
        DataError: nothing is there, or it cannot be listed.
    """
    files = pyarrow.fs.LocalFileSystem()
    try:
        found = files.get_file_info(str(root))
        if found.type == pyarrow.fs.FileType.NotFound:
            raise DataError(f"input {root} does not exist; expected a CSV or Parquet file, or a folder with such files")
        if found.type == pyarrow.fs.FileType.File:
            return [_entry(found)]
        inside = files.get_file_info(pyarrow.fs.FileSelector(str(root), recursive=True))
    except OSError as error:
        raise DataError(f"input {root} cannot be listed: {error}") from error
    return [_entry(info) for info in inside if info.type == pyarrow.fs.FileType.File]


def _entry(info: pyarrow.fs.FileInfo) -> InputEntry:
    return InputEntry(info.path, info.size, str(info.mtime_ns))


def open_on_disk(path: str) -> pa.NativeFile:
    """Open a file for reading at any offset; OSError as the operating system says."""
    return pyarrow.fs.LocalFileSystem().open_input_file(path)


@contextmanager
def _translate_errors(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FraudDetectionError(f"cannot {verb} {path}: {_explanation(error)}") from error


def _explanation(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"no space is left for it ({error.strerror}); free some, or choose another output folder"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{error.strerror}; allow it to this user, or choose another output folder"
    return str(error.strerror or error)


@contextmanager
def _temporary_file(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside `path` with the content safely on disk; gone at the end unless it was renamed."""
    handle, name = _new_file(path)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_UMASK)
            os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _new_file(path: Path) -> tuple[int, str]:
    """An open file beside `path`; its folder is made."""
    for _ in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if path.parent.exists():  # a file
                raise
            continue  # `discard` has removed the folder after it was found
        with suppress(FileNotFoundError):  # `discard` has just removed the folder, which was empty
            return tempfile.mkstemp(prefix=f".{path.name}{_TEMPORARY}", dir=path.parent)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))


def _flush_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut; nothing where `discard` has removed the folder since."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
