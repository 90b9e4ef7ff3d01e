"""The HTTP client of the deployment commands: retries, errors and credentials."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployment.errors import UNREACHABLE
from deployment.http import HttpError, call, is_up


class Server(ThreadingHTTPServer):
    """Answers with these statuses, one a request, and records the requests."""

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.statuses: list[int] = []
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _handle(self) -> None:
        self.server.requests.append((self.command, self.headers.get("Authorization", "")))
        self.send_response(self.server.statuses.pop(0))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = _handle  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture(params=["127.0.0.2"])  # of this machine, but called as a service elsewhere
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    try:
        running = Server(request.param)
    except OSError:  # macOS has no such address
        pytest.skip(f"{request.param} is not an address of this machine")
    with running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield running
        running.shutdown()


def test_a_request_that_changes_nothing_is_retried(server: Server) -> None:
    """Fails when one overloaded moment of the cloud's API stops a deployment."""
    server.statuses = [503, 429, 200]
    assert call("GET", server.url) == {}
    assert len(server.requests) == 3


def test_a_request_that_changes_something_is_sent_once(server: Server) -> None:
    """Fails when an unclear answer to a trigger or a new variable makes the client send it twice."""
    server.statuses = [503, 200]
    with pytest.raises(HttpError, match="503") as raised:
        call("POST", server.url, {})
    assert (raised.value.exit_code, len(server.requests)) == (UNREACHABLE, 1)


def test_the_last_answer_of_a_service_that_stays_unavailable_is_shown(server: Server) -> None:
    """Fails when the message is a stack of retries and hides the status."""
    server.statuses = [503, 503, 502]
    with pytest.raises(HttpError, match=r"GET .*: 502 Bad Gateway"):
        call("GET", server.url)


@pytest.mark.parametrize("server", ["127.0.0.1"], indirect=True)
def test_a_service_of_this_machine_is_asked_once(server: Server) -> None:
    """Fails when waiting for a starting component takes seconds longer for each of its questions."""
    server.statuses = [503, 200]
    assert not is_up(server.url)
    assert len(server.requests) == 1


def test_a_password_in_netrc_does_not_replace_the_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a user's ~/.netrc makes the cloud refuse a valid token."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {server.server_address[0]!s} login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.statuses = [200]
    call("GET", server.url, headers={"Authorization": "Bearer t1"})
    assert server.requests == [("GET", "Bearer t1")]


def test_a_failed_connection_names_its_cause() -> None:
    """Fails when the user has to read a stack of wrapped exceptions to learn that nothing listens."""
    with pytest.raises(
        HttpError, match=r"^GET http://127.0.0.1:9/: connection failed: .*Connection refused$"
    ) as raised:
        call("GET", "http://127.0.0.1:9/")
    assert (raised.value.status, raised.value.exit_code) == (0, UNREACHABLE)
