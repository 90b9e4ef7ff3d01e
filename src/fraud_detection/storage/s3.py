"""A folder in an object storage: every object is one PUT, which is atomic."""

import base64
import hashlib
import io
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Self

import pyarrow as pa

from fraud_detection.errors import DataError, ServiceUnavailableError, SettingsError
from fraud_detection.storage.base import InputEntry, Storage, StoredObject, parts_of
from fraud_detection.storage.session import client, translate_errors

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_WRITER = "writer"
_READ_AHEAD = 1 << 20
_DENIED = {"AccessDenied", "403"}


@dataclass(frozen=True)
class Address:
    """A bucket and a key in it; the key is empty for the whole bucket, and never ends with a slash."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take s3a://BUCKET/KEY or s3://BUCKET/KEY apart. As in Hadoop, nothing in the key is decoded.

        Raises:
            SettingsError: there is no bucket in it.
        """
        scheme, _, rest = url.partition("://")
        bucket, _, key = rest.partition("/")
        if not _BUCKET.fullmatch(bucket):
            shown = "…" if ":" in bucket or "@" in url else bucket  # some write KEY:SECRET@ before it
            raise SettingsError(f"{scheme}://{shown} does not name a bucket; expected {scheme}://BUCKET/FOLDER")
        return cls(bucket, key.strip("/"))

    @property
    def url(self) -> str:
        return self.url_of(self.key)

    @property
    def prefix(self) -> str:
        """What the keys of all objects inside begin with."""
        return f"{self.key}/" if self.key else ""

    def url_of(self, key: str) -> str:
        """The URL of a key of this bucket, as Spark takes it."""
        return f"s3a://{self.bucket}/{key}"

    def inside(self, key: str) -> str:
        """The key seen from here."""
        return key.removeprefix(self.prefix) if key != self.key else ""


class BucketFolder(Storage):
    """A folder in a bucket; a folder is nothing but the beginning of its objects' keys."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def url(self, name: str) -> str:
        return self._address.url_of(self._key(name))

    def write_atomic(self, name: str, content: bytes) -> str:
        url = self.url(name)
        with translate_errors("write", url):
            client().put_object(**self._object(name, content))
        return url

    def write_once(self, name: str, content: bytes) -> bool:
        """See `Storage`: the storage itself refuses to replace the object (If-None-Match)."""
        with translate_errors("write", self.url(name)):
            return self._put_once(name, content)

    def objects(self, prefix: str = "") -> list[StoredObject]:
        found = _listing(self._address.bucket, f"{self._address.prefix}{prefix}")
        objects = (
            StoredObject(self._address.inside(one["Key"]), one["Size"], one["LastModified"].astimezone(UTC))
            for one in found
        )
        return sorted(objects, key=lambda one: one.name)

    def discard(self, name: str) -> None:
        """See `Storage`. A versioned bucket keeps the content as an old version, until its own rule removes it."""
        from botocore.exceptions import ClientError

        with translate_errors("delete", self.url(name)):
            try:
                client().delete_object(Bucket=self._address.bucket, Key=self._key(name))
            except ClientError as error:
                if _code(error) not in _DENIED:
                    raise
                self._empty(name)

    def read(self, name: str) -> bytes | None:
        from botocore.exceptions import ClientError

        with translate_errors("read", self.url(name)):
            try:
                answer = client().get_object(Bucket=self._address.bucket, Key=self._key(name))
            except ClientError as error:
                if _code(error) == "NoSuchKey":
                    return None
                raise
            content: bytes = answer["Body"].read()
            return content

    def names(self, prefix: str = "") -> list[str]:
        keys = _keys(self._address.bucket, f"{self._address.prefix}{prefix}")
        return sorted(self._address.inside(key) for key in keys)

    def _empty(self, name: str) -> None:
        """Replace an object by one without bytes; nothing where there is none."""
        if any(found.name == name and found.size for found in self.objects(name)):
            client().put_object(**self._object(name, b""))

    def _put_once(self, name: str, content: bytes) -> bool:
        """Put it, or find that it is there.

        When the storage has written the object and its answer is lost, the repeated request finds the object there: the
        mark of the writer shows that it was this one.
        """
        from botocore.exceptions import ClientError

        mark = uuid.uuid4().hex
        try:
            client().put_object(**self._object(name, content), IfNoneMatch="*", Metadata={_WRITER: mark})
        except ClientError as error:
            if _code(error) != "PreconditionFailed":
                raise
            if not error.response["ResponseMetadata"].get("RetryAttempts"):
                return False
            found = client().head_object(Bucket=self._address.bucket, Key=self._key(name))
            marks = {name.lower(): value for name, value in found["Metadata"].items()}  # names of headers have no case
            return bool(marks.get(_WRITER) == mark)
        return True

    def _object(self, name: str, content: bytes) -> dict[str, object]:
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        return {"Bucket": self._address.bucket, "Key": self._key(name), "Body": content, "ContentMD5": digest}

    def _key(self, name: str) -> str:
        return self._address.prefix + "/".join(parts_of(name, self._address.url))


def objects_at(address: Address) -> list[InputEntry]:
    """All objects at an address, sorted by key: the object itself, or all under the folder at any depth.

    Raises:
        DataError: nothing is there.
    """
    url = address.url
    if address.key and (alone := _head(address)) is not None:
        return [alone]
    try:
        found = _listing(address.bucket, address.prefix)
    except SettingsError as error:  # there is no such bucket
        raise DataError(f"input {url} does not exist: {error}") from error
    if not found:
        raise DataError(f"input {url} does not exist; expected a CSV or Parquet file, or a folder with such files")
    entries = [InputEntry(address.url_of(entry["Key"]), entry["Size"], entry["ETag"]) for entry in found]
    return sorted(entries, key=lambda entry: entry.path)


def open_object(address: Address) -> pa.NativeFile:
    """Open an object for reading at any offset; see `urls.open_input`."""
    return pa.PythonFile(io.BufferedReader(_ObjectReader(address), _READ_AHEAD), mode="r")


class _ObjectReader(io.RawIOBase):
    """One object as a file; each read is a request for a range of the version that was opened."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address
        self._position = 0
        with self._still_there():
            found = client().head_object(Bucket=address.bucket, Key=address.key)
        self._size = int(found["ContentLength"])
        self._version = str(found["ETag"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  (a writable buffer)
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        span = f"bytes={self._position}-{self._position + wanted - 1}"
        with self._still_there():
            answer = client().get_object(
                Bucket=self._address.bucket, Key=self._address.key, Range=span, IfMatch=self._version
            )
            content = answer["Body"].read()
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    @contextmanager
    def _still_there(self) -> Iterator[None]:
        from botocore.exceptions import ClientError

        url = self._address.url
        with translate_errors("read", url):
            try:
                yield
            except ClientError as error:
                if _code(error) in {"NoSuchKey", "404", "PreconditionFailed", "412"}:
                    raise ServiceUnavailableError(
                        f"{url} was replaced or removed while it was read; run this again when its writer is done"
                    ) from error
                raise


def _head(address: Address) -> InputEntry | None:
    """The object with exactly this key, or None where there is none."""
    from botocore.exceptions import ClientError

    with translate_errors("read", address.url):
        try:
            found = client().head_object(Bucket=address.bucket, Key=address.key)
        except ClientError as error:
            if _code(error) in {"404", "NoSuchKey"}:
                return None
            raise
    return InputEntry(address.url, found["ContentLength"], found["ETag"])


def _keys(bucket: str, prefix: str) -> list[str]:
    """The keys of all objects that begin with `prefix`, without the empty objects that stand for folders."""
    return [entry["Key"] for entry in _listing(bucket, prefix)]


def _listing(bucket: str, prefix: str) -> list[dict[str, Any]]:
    with translate_errors("list", f"s3a://{bucket}/{prefix}"):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry for page in pages for entry in page.get("Contents", ()) if not entry["Key"].endswith("/")]


def _code(error: Any) -> str:  # noqa: ANN401  (a botocore error)
    return str(error.response.get("Error", {}).get("Code", ""))
