"""Object Storage in front of the S3 server: who calls, whether the grants allow it, and which bucket is meant.

A bucket is addressed by path or by host (`BUCKET.storage.emulator`), directly or through this server as an HTTP proxy:
Terraform's provider can only do the latter. A caller is known by an IAM token or by the signature of a static key.
"""

import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import grpc
from yandex.cloud.storage.v1.bucket_pb2 import Bucket

from emulator import access_keys
from emulator.access import Allowed, Need
from emulator.buckets import encrypt, encryption_key
from emulator.cloud import Cloud
from emulator.errors import ApiError
from emulator.iam import Caller, Iam
from emulator.local_server import LocalServer
from emulator.resources import Resources
from emulator.s3 import S3Server
from emulator.signatures import ALGORITHM, EMPTY, UNSIGNED, Signed

DOMAIN = "storage.emulator"
"""The host of the endpoint in a client's settings, with this server as its proxy."""
_DOMAINS = (DOMAIN, "storage.yandexcloud.net")
_TOKEN = "X-YaCloud-SubjectToken"  # noqa: S105  # a header's name
_AUTHORIZATION = re.compile(rf"{ALGORITHM} Credential=([^/]+)/([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)")
_SIGNATURE_PARAMETERS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token")
_OWN_HEADERS = {"host", "authorization", "connection", "proxy-connection", _TOKEN.lower()}
_HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "date", "server"}
_PRESIGNED = tuple(f"X-Amz-{name}=" for name in _SIGNATURE_PARAMETERS)
_CHUNK = 1 << 20
_STATUS = {
    grpc.StatusCode.UNAUTHENTICATED: (HTTPStatus.FORBIDDEN, "InvalidToken"),
    grpc.StatusCode.PERMISSION_DENIED: (HTTPStatus.FORBIDDEN, "AccessDenied"),
    grpc.StatusCode.NOT_FOUND: (HTTPStatus.NOT_FOUND, "NoSuchBucket"),
    grpc.StatusCode.FAILED_PRECONDITION: (HTTPStatus.CONFLICT, "BucketNotEmpty"),
    grpc.StatusCode.UNIMPLEMENTED: (HTTPStatus.NOT_IMPLEMENTED, "NotImplemented"),
}


@dataclass(frozen=True)
class S3Request:
    """A request, its bucket found in the host or in the path."""

    method: str
    path: str
    """As sent: what a signature covers."""
    query: str
    headers: Any
    bucket: str
    key: str

    @property
    def parameters(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def creates_bucket(self) -> bool:
        return self.method == "PUT" and not self.key and not self.query

    @property
    def target(self) -> str:
        """The same by path, as the S3 server takes it."""
        path = f"/{quote(self.bucket)}" + (f"/{quote(self.key, safe='/~')}" if self.key else "")
        query = "&".join(part for part in self.query.split("&") if not part.startswith(_PRESIGNED))
        return path + (f"?{query}" if query else "")

    def needs(self, encrypted_with: str | None) -> Iterator[Need]:
        """The permissions that it needs, on the bucket and on the key that encrypts it."""
        verb = self._verb()
        yield Need(verb, "bucket", self.bucket)
        use = {"storage.objects.get": "kms.keys.decrypt", "storage.objects.put": "kms.keys.encrypt"}.get(verb)
        if use and encrypted_with:
            yield Need(use, "symmetric-key", encrypted_with)

    def _verb(self) -> str:
        if self.key:
            if self.method in ("GET", "HEAD"):
                return "storage.objects.get"
            is_deletion = self.method == "DELETE" and "uploadId" not in self.parameters
            return "storage.objects.delete" if is_deletion else "storage.objects.put"
        if self.method == "POST" and "delete" in self.parameters:
            return "storage.objects.delete"
        if self.method == "HEAD":
            return "storage.buckets.get"
        if self.method == "GET":
            lists = {"list-type", "prefix", "versions", "uploads", "delimiter", "marker"} & set(self.parameters)
            return "storage.objects.list" if lists or not self.parameters else "storage.buckets.get"
        return "storage.buckets.delete" if self.method == "DELETE" and not self.query else "storage.buckets.update"


class S3Front(LocalServer):
    """Object Storage as its clients see it."""

    def __init__(self, cloud: Cloud, iam: Iam, resources: Resources, server: S3Server, port: int) -> None:
        self._cloud = cloud
        self._iam = iam
        self._resources = resources
        self.server = server
        super().__init__(_handler(self), port, "Object Storage", "storage.port")

    @property
    def address(self) -> str:
        return f"http://{self.host_and_port}"

    def caller(self, request: S3Request) -> Caller:
        """Who sends a request. Raises UNAUTHENTICATED, and NOT_FOUND: whether a bucket exists is known to everybody."""
        if request.bucket and not request.creates_bucket:
            self._cloud.store.require("bucket", request.bucket)
        if token := request.headers.get(_TOKEN):
            return self._iam.authenticate(f"Bearer {token}")
        authorization = request.headers.get("Authorization", "")
        if authorization.startswith("Bearer "):
            return self._iam.authenticate(authorization)
        return self._signer(request, authorization)

    def allow(self, request: S3Request, caller: Caller) -> list[Allowed]:
        """Which grants allow a request. Raises NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED."""
        if not request.bucket or request.creates_bucket:
            raise ApiError(grpc.StatusCode.UNIMPLEMENTED, "buckets are created and listed by BucketService")
        bucket = self._cloud.store.require("bucket", request.bucket).message(Bucket)
        allowed = self._cloud.access.require(caller.id, request.needs(encryption_key(bucket)))
        if source := request.headers.get("x-amz-copy-source"):
            name, _, key = unquote(source).lstrip("/").partition("/")
            copied = S3Request("GET", "", "", {}, name, key)
            origin = self._cloud.store.require("bucket", name).message(Bucket)
            allowed += self._cloud.access.require(caller.id, copied.needs(encryption_key(origin)))
        return allowed

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket in both views. Raises FAILED_PRECONDITION if it is not empty."""
        with self._cloud.store.transaction():
            self._resources.refuse_deletion("bucket", name)
            self._resources.remove("bucket", name)

    def take_over(self, request: S3Request) -> None:
        """Show in both views what a request has set: the key that encrypts a bucket."""
        if request.key or "encryption" not in request.parameters or request.method not in ("PUT", "DELETE"):
            return
        key = self.server.encryption_key(request.bucket)
        with self._cloud.store.transaction():
            record = self._cloud.store.require("bucket", request.bucket)
            bucket = record.message(Bucket)
            encrypt(bucket, key)
            self._cloud.store.save(record, bucket)

    def log(self, request: S3Request, caller: Caller, allowed: list[Allowed], status: int) -> None:
        self._cloud.events.write(
            "object",
            method=request.method,
            bucket=request.bucket,
            caller=caller.id or None,
            caller_name=caller.name or None,
            key_id=caller.key_id or None,
            status=status,
            allowed=[one.fields() for one in allowed],
        )

    def _signer(self, request: S3Request, authorization: str) -> Caller:
        """The account whose static key signed a request."""
        presented = _presented(request, authorization)
        keys = self._cloud.store.find(access_keys.KIND, name=presented.key_id)
        if not keys:
            raise _refused(f"The access key {presented.key_id!r} does not exist")
        if not hmac.compare_digest(presented.signed.signature(str(keys[0].data["secret"])), presented.signature):
            raise _refused("The signature does not match: the secret key or the request is another one")
        account = self._cloud.store.require("service-account", keys[0].owner)
        return Caller(account.id, account.name, presented.key_id)


@dataclass(frozen=True)
class _Presented:
    """A signature, with what it should cover."""

    key_id: str
    signature: str
    signed: Signed


def _presented(request: S3Request, authorization: str) -> _Presented:
    """The signature of a request, in its header or in its address. Raises UNAUTHENTICATED."""
    if "X-Amz-Signature" in request.parameters:
        return _presigned(request)
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise _refused("The request has neither an IAM token nor a signature")
    key_id, scope, names, signature = found.groups()
    payload, stamp = request.headers.get("x-amz-content-sha256", EMPTY), request.headers.get("x-amz-date", "")
    return _Presented(key_id, signature, _signed(request, names, payload, stamp, scope))


def _presigned(request: S3Request) -> _Presented:
    """The signature of an address that its holder may open until it expires: MLflow's clients download by such ones.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    given = request.parameters
    try:
        key_id, _, scope = given["X-Amz-Credential"].partition("/")
        stamp, names = given["X-Amz-Date"], given["X-Amz-SignedHeaders"]
        begun = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        ends = begun + timedelta(seconds=int(given["X-Amz-Expires"]))
    except (KeyError, ValueError) as error:
        raise _refused(f"The signature in the address is incomplete: {error}") from error
    if datetime.now(UTC) > ends:
        raise _refused("The signature in the address has expired")
    return _Presented(key_id, given["X-Amz-Signature"], _signed(request, names, UNSIGNED, stamp, scope))


def _signed(request: S3Request, names: str, payload: str, stamp: str, scope: str) -> Signed:
    query = [part for part in request.query.split("&") if part and not part.startswith("X-Amz-Signature=")]
    return Signed(
        request.method,
        request.path,
        "&".join(sorted(part if "=" in part else f"{part}=" for part in query)),
        {name: request.headers.get(name, "") for name in names.split(";")},
        payload,
        stamp,
        scope,
    )


def _refused(message: str) -> ApiError:
    return ApiError(grpc.StatusCode.UNAUTHENTICATED, message)


def read_request(method: str, target: str, headers: Any) -> S3Request:
    """A request by its target (a path, or a URL where this server is a proxy) and its headers."""
    parts = urlsplit(target)
    host = (parts.hostname or str(headers.get("Host", ""))).partition(":")[0]
    domain = next((domain for domain in _DOMAINS if host.endswith(f".{domain}")), None)
    path = parts.path or "/"
    if domain is not None:
        bucket, key = host.removesuffix(f".{domain}"), unquote(path[1:])
    else:
        bucket, _, key = unquote(path[1:]).partition("/")
    return S3Request(method, path, parts.query, headers, bucket, key)


def _handler(front: S3Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the base class's name for it
            request = read_request(self.command, self.path, self.headers)
            caller, allowed, self._status = Caller("", "", ""), [], 0
            try:
                caller = front.caller(request)
                allowed = front.allow(request, caller)
                self._serve(request)
            except ApiError as error:
                self._refuse(*_STATUS[error.code], error.message)
            finally:
                front.log(request, caller, allowed, self._status)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def _serve(self, request: S3Request) -> None:
            if request.method == "DELETE" and not request.key and not request.query:
                front.delete_bucket(request.bucket)
                self._answer(HTTPStatus.NO_CONTENT, {}, b"")
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN_HEADERS}
            with front.server.request(request.method, request.target, headers, self._body()) as answer:
                content = answer.read()
                kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_HEADERS}
                length = answer.getheader("Content-Length") if request.method == "HEAD" else None
                front.take_over(request)
                self._answer(answer.status, kept, content, length)

        def _body(self) -> Iterator[bytes]:
            left = int(self.headers.get("Content-Length", 0))
            while left > 0:
                part = self.rfile.read(min(_CHUNK, left))
                if not part:
                    return
                left -= len(part)
                yield part

        def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
            text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
            self.close_connection = True  # its body has not been read
            self._answer(status, {"Content-Type": "application/xml", "Connection": "close"}, text.encode())

        def _answer(self, status: int, headers: dict[str, str], content: bytes, length: str | None = None) -> None:
            self._status = int(status)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
            """Log nothing: calls are in the event log."""

    return Handler
