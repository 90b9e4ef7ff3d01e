"""The S3 server behind the emulator: it stores, and decides nothing."""

import http.client
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import grpc

from emulator.errors import ApiError

_ENCRYPTION_KEY = re.compile(r"<KMSMasterKeyID>([^<]+)</KMSMasterKeyID>")
_TIMEOUT = 120.0  # seconds without an answer
# The server must take each request as signed, but need not check it: who may do what is decided before.
_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=emulator/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


class S3Server:
    """Requests to an S3 server, addressed by path."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80

    def create_bucket(self, name: str) -> None:
        with self.request("PUT", f"/{quote(name)}", {"Content-Length": "0"}) as answer:
            self._require(answer, name)

    def set_versioning(self, name: str, status: str) -> None:
        text = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>".encode()
        headers = {"Content-Length": str(len(text))}
        with self.request("PUT", f"/{quote(name)}?versioning", headers, [text]) as answer:
            self._require(answer, name)

    def encryption_key(self, name: str) -> str | None:
        """The id of the key that encrypts a bucket, if requests have set one."""
        with self.request("GET", f"/{quote(name)}?encryption", {}) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            self._require(answer, name)
            found = _ENCRYPTION_KEY.search(answer.read().decode())
        return found[1] if found else None

    def is_empty(self, name: str) -> bool:
        """Whether a bucket has neither objects nor versions of them."""
        with self.request("GET", f"/{quote(name)}?versions&max-keys=1", {}) as answer:
            self._require(answer, name)
            text = answer.read()
        return b"<Version>" not in text and b"<DeleteMarker>" not in text

    def delete_bucket(self, name: str) -> None:
        with self.request("DELETE", f"/{quote(name)}", {}) as answer:
            self._require(answer, name)

    @contextmanager
    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: Iterable[bytes] = ()
    ) -> Iterator[http.client.HTTPResponse]:
        """The server's answer to a request, as it comes."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in {**headers, "Host": f"{self._host}:{self._port}"}.items():
                connection.putheader(name, value)
            connection.putheader("Authorization", _AUTHORIZATION)
            connection.endheaders()
            for part in body:
                connection.send(part)
            yield connection.getresponse()
        finally:
            connection.close()

    @staticmethod
    def _require(answer: http.client.HTTPResponse, bucket: str) -> None:
        if answer.status >= HTTPStatus.BAD_REQUEST:
            message = f"the S3 server answers {answer.status} {answer.reason} for bucket {bucket}"
            raise ApiError(grpc.StatusCode.INTERNAL, message)
