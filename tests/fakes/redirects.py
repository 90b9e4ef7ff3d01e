"""A service that redirects every request to another host, which records what it gets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Redirection:
    """The two addresses, and the requests that each of them got: headers and body as one text."""

    url: str
    target: str
    asked: list[str] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)


@contextmanager
def redirecting(status: int) -> Iterator[Redirection]:
    """Serve redirects of this status on 127.0.0.1, whose target is named localhost: another host to every client."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
            is_target = self.server is target
            (found.followed if is_target else found.asked).append(f"{self.command} {self.headers}{body}")
            self.send_response(200 if is_target else status)
            if not is_target:
                self.send_header("Location", f"{found.target}{self.path}")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as first,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as target,
    ):
        found = Redirection(f"http://127.0.0.1:{first.server_port}", f"http://localhost:{target.server_port}")
        for server in (first, target):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield found
        finally:
            for server in (first, target):
                server.shutdown()
