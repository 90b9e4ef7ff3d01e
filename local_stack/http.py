"""JSON over HTTP to this machine's own services."""

import base64
import json
import urllib.error
import urllib.request
from typing import Any

_TIMEOUT = 30.0
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy knows nothing of 127.0.0.1


class HttpError(Exception):
    """The service answers with an error; `status` is 0 where it does not answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def call(method: str, url: str, body: object = None, authorization: str | None = None) -> Any:
    """The JSON of an answer (None where it is empty). Raises HttpError."""
    request = urllib.request.Request(url, method=method)  # noqa: S310  # the stack's own addresses
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if authorization is not None:
        request.add_header("Authorization", authorization)
    try:
        with _opener.open(request, timeout=_TIMEOUT) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")[:500]
        raise HttpError(error.code, f"{method} {url}: {error.code} {text}") from error
    except OSError as error:
        raise HttpError(0, f"{method} {url}: {error}") from error
    try:
        return json.loads(content) if content else None
    except json.JSONDecodeError:
        return content.decode(errors="replace")


def basic(user: str, password: str) -> str:
    """An Authorization header's value."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
