"""The metadata endpoint of a cloud machine: it issues IAM tokens of the machine's service account.

Beside it, on the same port, Lockbox's payloads over REST, for what runs there without the cloud's gRPC client.
"""

import json
import re
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

import grpc
from google.protobuf.json_format import MessageToDict
from yandex.cloud.lockbox.v1.payload_service_pb2 import GetPayloadRequest

from emulator.access import Allowed
from emulator.cloud import Cloud
from emulator.errors import ApiError
from emulator.iam import ANONYMOUS, Iam
from emulator.local_server import LocalServer
from emulator.lockbox import Lockbox

TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105  # a path
_FLAVOR = "Google"
_PAYLOAD = re.compile(r"/lockbox/v1/secrets/([-_0-9a-zA-Z]{1,50})/payload")
_HTTP_OF = {
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
}


class MetadataServer(LocalServer):
    """One machine's metadata endpoint, for as long as the machine (a job's node) is there.

    Each job has one on a port of its own, so its tokens are those of its cluster's account.
    """

    def __init__(self, iam: Iam, cloud: Cloud, account_id: str, owner: str, port: int = 0) -> None:
        self._iam = iam
        self._access = cloud.access
        self._events = cloud.events
        self._lockbox = Lockbox(cloud)
        self._account_id = account_id
        self._owner = owner
        super().__init__(_handler(self), port, "the metadata endpoint", "metadata_port")

    @property
    def address(self) -> str:
        """The value for the environment variable YC_METADATA_ADDR."""
        return self.host_and_port

    def token(self) -> dict[str, object]:
        token, expires = self._iam.issue(self._account_id, "metadata")
        self._events.write("metadata-token", caller=self._account_id, owner=self._owner)
        return {"access_token": token, "expires_in": int(expires - time.time()), "token_type": "Bearer"}

    def payload(self, secret_id: str, authorization: str | None) -> tuple[HTTPStatus, dict[str, object]]:
        """The answer of `GET /lockbox/v1/secrets/ID/payload`, for a caller with a token."""
        caller, code = ANONYMOUS, grpc.StatusCode.OK
        allowed: list[Allowed] = []
        try:
            caller = self._iam.authenticate(authorization)
            request = GetPayloadRequest(secret_id=secret_id)
            allowed = self._access.require(caller.id, self._lockbox.payload_needs("Get", request))
            found = self._lockbox.payload(request, caller)
            return HTTPStatus.OK, MessageToDict(found)
        except ApiError as error:
            code = error.code
            status = _HTTP_OF.get(code, HTTPStatus.BAD_REQUEST)
            return status, {"code": code.value[0], "message": str(error)}
        finally:
            self._events.write(
                "call",
                service="yandex.cloud.lockbox.v1.PayloadService",
                method="Get",
                over="rest",
                caller=caller.id or None,
                caller_name=caller.name or None,
                code=code.name,
                secret_id=secret_id,
                allowed=[one.fields() for one in allowed],
            )


class MetadataServers:
    """The endpoints of machines that are described here and run elsewhere: one for each account, until the end."""

    def __init__(self, iam: Iam, cloud: Cloud) -> None:
        self._iam = iam
        self._cloud = cloud
        self._lock = threading.Lock()
        self._servers: dict[str, MetadataServer] = {}

    def address(self, account_id: str) -> str:
        """Where a machine with this account gets its tokens."""
        with self._lock:
            if account_id not in self._servers:
                server = MetadataServer(self._iam, self._cloud, account_id, "a machine outside")
                self._servers[account_id] = server.__enter__()
            return self._servers[account_id].address

    def close(self) -> None:
        with self._lock:
            for server in self._servers.values():
                server.__exit__(None, None, None)
            self._servers.clear()


def _handler(server: MetadataServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name for it
            path = self.path.partition("?")[0]
            if match := _PAYLOAD.fullmatch(path):
                self._answer(*server.payload(match[1], self.headers.get("Authorization")))
            elif path != TOKEN_PATH:
                self._answer(HTTPStatus.NOT_FOUND, {"error": "only the service account's token is emulated"})
            elif self.headers.get("Metadata-Flavor") != _FLAVOR:
                self._answer(HTTPStatus.FORBIDDEN, {"error": "the header Metadata-Flavor: Google is missing"})
            else:
                self._answer(HTTPStatus.OK, server.token())

        def _answer(self, status: HTTPStatus, body: dict[str, object]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Metadata-Flavor", _FLAVOR)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
            """Log nothing: calls are in the event log."""

    return Handler
