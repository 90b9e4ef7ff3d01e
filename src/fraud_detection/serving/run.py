"""Serve until the process is told to end."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry import Champion, ChampionAlias
from fraud_detection.runs.progress import Progress
from fraud_detection.runs.request import Request
from fraud_detection.serving.app import make_app
from fraud_detection.serving.history import History, begin_loading, load_history, newest_manifest
from fraud_detection.serving.service import Service
from fraud_detection.storage import open_folder

_MOST_REQUESTS = 512
"""At once; further ones are answered with 503."""
_WAITING = 1024
"""Connections that wait to be taken."""
_IDLE_SECONDS = 75
"""After which an idle connection is closed: later than clients and proxies do, which would find it closed otherwise."""


def serve(
    request: Request, journal: Path, host: str, port: int, token: str | None, poll_seconds: float, progress: Progress
) -> None:
    """Serve scores over HTTP until SIGINT or SIGTERM.

    Args:
        request: names the model, the input and its store; an as-of time is not looked at.
        journal: the file of transactions that the store lacks.
        host: an address of this machine.
        port: 0: any free one.
        token: what scores, metrics and pages require.
        poll_seconds: between two looks at the champion's alias, and at the store.
        progress: takes a line of what is served, and of changes.

    Raises:
        FraudDetectionError: the address is not free, no version is in service, or as a batch of scores.
    """
    listener = listen(host, port)
    service = Service(_RegistryAndStore(request), request.settings, request.commands, journal, progress)
    output = open_folder(request.output)
    app = make_app(service, token, poll_seconds, request.settings.model_name, output)
    shown = f"[{host}]" if ":" in host else host
    progress("serving", f"http://{shown}:{listener.getsockname()[1]} · {service.line()}")
    http_server(app).run([listener])


def http_server(app: FastAPI) -> uvicorn.Server:
    """What serves the application."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        limit_concurrency=_MOST_REQUESTS,
        timeout_keep_alive=_IDLE_SECONDS,
    )
    return uvicorn.Server(config)


class _RegistryAndStore:
    """See `service.Sources`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        # The store is read while this process imports MLflow and loads the champion.
        self._first: Callable[[], History] | None = begin_loading(request)
        self._alias = ChampionAlias(request.tracking_uri, request.settings.model_name)

    def version(self) -> int | None:
        return self._alias.version()

    def champion(self, version: int) -> Champion:
        return self._alias.load(version)

    def manifest(self) -> int:
        return newest_manifest(self._request)

    def history(self) -> History:
        if self._first is not None:
            first, self._first = self._first, None
            return first()
        return load_history(replace(self._request, clock=datetime.now(UTC)))


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections.

    Raises:
        FraudDetectionError: the address is not free, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol asyncio would leave Nagle's algorithm on, and each answer would wait 40 ms for the client.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_WAITING)
    except OSError as error:
        listener.close()
        raise FraudDetectionError(
            f"{host}, port {port} cannot be listened on: {os.strerror(error.errno or 0)}; expected a free port of this"
            " machine; next: give another --host or --port"
        ) from error
    return listener
