"""JSON over HTTP, with errors that say what was asked and what came back, and never a secret."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from deployment.errors import FAILED, UNREACHABLE, DeploymentError

_TIMEOUT = 60.0
_TEMPORARY = (429, 500, 502, 503, 504)


class HttpError(DeploymentError):
    """A service refused; `status` is its answer's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, UNREACHABLE if status in _TEMPORARY else FAILED)
        self.status = status


def call(
    method: str,
    url: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> Any:
    """The JSON of an answer, None where it is empty. Raises HttpError, or DeploymentError where nobody answers."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DeploymentError(f"{url!r} is no address of a web service; expected https://…")
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310  # looked at above
    request.add_header("Accept", "application/json")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    elif form is not None:
        request.data = urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            content = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")[:500]
        raise HttpError(f"{method} {url}: {error.code} {error.reason} {text}".rstrip(), error.code) from error
    except OSError as error:
        raise DeploymentError(f"{method} {url}: nobody answers: {error}", UNREACHABLE) from error
    try:
        return json.loads(content) if content else None
    except json.JSONDecodeError as error:
        raise DeploymentError(f"{method} {url}: the answer is not JSON; is the address right?") from error


def basic(user: str, password: str) -> str:
    """An Authorization header's value."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
