"""Paths and URLs: which storage they mean."""

from pathlib import Path, PurePosixPath

import pyarrow as pa

from fraud_detection.errors import SettingsError
from fraud_detection.locations import is_object, local_path
from fraud_detection.storage.base import InputEntry, Storage
from fraud_detection.storage.disk import DiskFolder, files_on_disk, open_on_disk
from fraud_detection.storage.s3 import Address, BucketFolder, objects_at, open_object


def open_folder(url: str) -> Storage:
    """The storage at a path, a file:// URL or an s3a:// URL; the folder is made by the first write.

    Raises:
        SettingsError: the URL is of another kind, or the path is a file.
    """
    if is_object(url):
        return BucketFolder(Address.parse(url))
    root = local_path(url)
    if root.exists() and not root.is_dir():
        raise SettingsError(f"output {url} is a file; expected a folder, or a path where one can be made")
    return DiskFolder(root)


def input_files(url: str) -> list[str]:
    """The paths or URLs of all files at an input path, sorted; see `input_entries`."""
    return [entry.path for entry in input_entries(url)]


def input_entries(url: str) -> list[InputEntry]:
    """All files at an input path, sorted by path: the file itself, or all under the folder at any depth.

    Names that begin with `_` or `.` are left out, files and folders: they are markers and half-written files of others.
    Places in an object storage begin with `s3a://`, whichever way they were asked for.

    Raises:
        DataError: nothing is there, or it cannot be listed.
        FraudDetectionError: the object storage refuses, or cannot be reached.
    """
    if is_object(url):
        address = Address.parse(url)
        return [entry for entry in objects_at(address) if not _is_hidden(entry.path.removeprefix(address.url))]
    root = local_path(url).absolute()
    found = [entry for entry in files_on_disk(root) if not _is_hidden(Path(entry.path).relative_to(root).as_posix())]
    return sorted(found, key=lambda entry: entry.path)


def open_input(path: str) -> pa.NativeFile:
    """Open one of the files that `input_files` gave, for reading at any offset.

    Raises:
        OSError: as the operating system says.
        FraudDetectionError: the object storage refuses, or cannot be reached.
    """
    return open_object(Address.parse(path)) if is_object(path) else open_on_disk(path)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in PurePosixPath(name).parts)
