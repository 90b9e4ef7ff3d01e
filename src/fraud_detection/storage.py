"""Where files come from and where results go: the one place that knows what a path or a URL means.

Reading: `input_files` lists what an input path holds and `open_input` opens one of its files. Writing: a `Storage` is a
folder in which every object appears whole or not at all, also when the process is killed or the disk is full.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from fraud_detection.errors import DataError, FraudDetectionError, SettingsError

_TEMPORARY = ".tmp-"


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _umask()  # read once, at import: it can only be read by setting it, which concerns every thread
"""What the user withholds from new files: temporary files are private, published ones follow the user's choice."""


class Storage:
    """A folder on disk. Names inside it are relative, with forward slashes, and never leave it.

    Every method raises `FraudDetectionError` (exit code 1) when the operating system refuses: a full disk or a missing
    permission is not mended by trying again, so it is not reported as temporary.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, name: str) -> str:
        """Where `name` is, for people."""
        return str(self._path(name))

    def write(self, name: str, content: bytes) -> str:
        """Write or replace one object, and return its place. Readers see the old content or the new, never a part."""
        path = self._path(name)
        with _translated(path, "write"), _temporary_file(path, content) as temporary:
            temporary.replace(path)
            _flush_folder(path.parent)
        return str(path)

    def write_once(self, name: str, content: bytes) -> bool:
        """Write one object unless it exists; True for the one writer that made it, also among concurrent writers."""
        path = self._path(name)
        with _translated(path, "write"), _temporary_file(path, content) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            _flush_folder(path.parent)
        return True

    def read(self, name: str) -> bytes | None:
        """The content of one object, or None where there is none."""
        path = self._path(name)
        with _translated(path, "read"):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def names(self, prefix: str = "") -> list[str]:
        """The sorted names of all objects that begin with `prefix`."""
        found = []
        top = self._root.joinpath(*PurePosixPath(prefix.rpartition("/")[0]).parts)  # not through everything else
        with _translated(self._root, "list"):
            for folder, folders, files in os.walk(top):
                folders[:] = [name for name in folders if _TEMPORARY not in name]
                found += [Path(folder, name) for name in files if _TEMPORARY not in name]
        names = (path.relative_to(self._root).as_posix() for path in found)
        return sorted(name for name in names if name.startswith(prefix))

    @contextmanager
    def publish_folder(self, name: str) -> Iterator[Path]:
        """Give a temporary folder that appears under `name` when the block ends well, and vanishes when it does not.

        A folder of that name is replaced: for the instant between two renames readers see neither.
        """
        path = self._path(name)
        with _translated(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}{_TEMPORARY}", dir=path.parent))
            try:
                yield temporary
                temporary.chmod(0o777 & ~_UMASK)
                _flush_files(temporary)
                _replace_folder(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"{name!r} is not a name inside {self._root}")
        return self._root.joinpath(*parts)


def open_folder(url: str) -> Storage:
    """The storage at a path or a file:// URL; the folder is made by the first write.

    Raises:
        SettingsError: the URL is of another kind, or the path is a file.
    """
    root = local_path(url)
    if root.exists() and not root.is_dir():
        raise SettingsError(f"output {url} is a file; expected a folder, or a path where one can be made")
    return Storage(root)


def local_path(url: str) -> Path:
    """The path on this machine that a path or a file:// URL means.

    Raises:
        SettingsError: the URL is of another kind.
    """
    parts = urlsplit(url)
    if "://" not in url:
        return Path(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise SettingsError(f"{url} cannot be opened; expected a path on this machine or a file:/// URL")
    return Path(unquote(parts.path))


def input_files(url: str) -> list[str]:
    """The places of all files at an input path, sorted: the file itself, or all under the folder at any depth.

    Names that begin with `_` or `.` are left out, files and folders: they are markers and half-written files of others.

    Raises:
        DataError: nothing is there, or it cannot be listed.
    """
    root = local_path(url).absolute()
    files = pyarrow.fs.LocalFileSystem()
    try:
        found = files.get_file_info(str(root))
        if found.type == pyarrow.fs.FileType.NotFound:
            raise DataError(f"input {url} does not exist; expected a CSV or Parquet file, or a folder with such files")
        if found.type == pyarrow.fs.FileType.File:
            return [str(root)]
        inside = files.get_file_info(pyarrow.fs.FileSelector(str(root), recursive=True))
    except OSError as error:
        raise DataError(f"input {url} cannot be listed: {error}") from error
    paths = [Path(info.path) for info in inside if info.type == pyarrow.fs.FileType.File]
    return sorted(str(path) for path in paths if not _is_hidden(path.relative_to(root)))


def open_input(place: str) -> pa.NativeFile:
    """Open one of the places that `input_files` gave, for reading at any offset.

    Raises:
        OSError: as the operating system says.
    """
    return pyarrow.fs.LocalFileSystem().open_input_file(place)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in path.parts)


@contextmanager
def _translated(path: Path, verb: str) -> Iterator[None]:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}{_TEMPORARY}", dir=path.parent)
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


def _flush_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _replace_folder(new: Path, path: Path) -> None:
    if path.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}{_TEMPORARY}", dir=path.parent))
        path.rename(old)  # onto an empty folder, which a rename may replace
        new.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.rename(path)
    _flush_folder(path.parent)
