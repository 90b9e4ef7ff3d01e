"""An HTTP server on 127.0.0.1 in a thread of its own."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from emulator.errors import EmulatorError


class LocalServer:
    """Listens from its making, answers between its start and its stop.

    Raises:
        EmulatorError: the port is taken; the message names the server and the setting of its port.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int, name: str, setting: str) -> None:
        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError as error:
            raise EmulatorError(
                f"port {port} of {name} is taken ({error.strerror}); set {setting} to another, or 0 for any free one"
            ) from error
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True)

    @property
    def host_and_port(self) -> str:
        return f"127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
