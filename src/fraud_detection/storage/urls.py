"""Paths and URLs: which storage they mean."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pyarrow as pa

from fraud_detection.errors import SettingsError
from fraud_detection.storage.base import Storage
from fraud_detection.storage.disk import DiskFolder, files_on_disk, open_on_disk
from fraud_detection.storage.s3 import Address, BucketFolder, objects_at, open_object

_OBJECT_SCHEMES = ("s3a://", "s3://")


def is_object(url: str) -> bool:
    """Whether a URL means an object or a folder in an object storage."""
    return url.startswith(_OBJECT_SCHEMES)


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


def local_path(url: str) -> Path:
    """The path on this machine that a path or a file:// URL means.

    Raises:
        SettingsError: the URL is of another kind.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url)
    host, slash, path = rest.partition("/")
    if scheme != "file" or host not in {"", "localhost"}:
        expected = "expected a path on this machine, a file:/// URL or s3a://BUCKET/FOLDER"
        shown = scheme if scheme.isalnum() else "…"  # something else may be a password
        raise SettingsError(f"{shown}://… cannot be opened; {expected}")
    return Path(unquote(f"{slash}{re.split('[?#]', path)[0]}"))


def input_files(url: str) -> list[str]:
    """The paths or URLs of all files at an input path, sorted: the file itself, or all under the folder at any depth.

    Names that begin with `_` or `.` are left out, files and folders: they are markers and half-written files of others.
    Places in an object storage begin with `s3a://`, whichever way they were asked for.

    Raises:
        DataError: nothing is there, or it cannot be listed.
        FraudDetectionError: the object storage refuses, or cannot be reached.
    """
    if is_object(url):
        address = Address.parse(url)
        return [address.url_of(key) for key in objects_at(address) if not _is_hidden(address.inside(key))]
    root = local_path(url).absolute()
    return sorted(str(path) for path in files_on_disk(root) if not _is_hidden(path.relative_to(root).as_posix()))


def open_input(path: str) -> pa.NativeFile:
    """Open one of the files that `input_files` gave, for reading at any offset.

    Raises:
        OSError: as the operating system says.
        FraudDetectionError: the object storage refuses, or cannot be reached.
    """
    return open_object(Address.parse(path)) if is_object(path) else open_on_disk(path)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in PurePosixPath(name).parts)
