"""JSON over HTTP, with errors that say what was asked and what came back, and never a secret."""

import base64
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from deployment.errors import FAILED, UNREACHABLE, DeploymentError

_TIMEOUT = 60.0
_ADDRESS = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?([/?#].*)?")
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
    require_address(url, "an address")
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310  # looked at above
    request.add_header("Accept", "application/json")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    elif form is not None:
        request.data = urllib.parse.urlencode(form).encode()
    try:
        with _opener(url).open(request, timeout=_TIMEOUT) as answer:
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


def require_address(url: str, what: str) -> None:
    """Raise DeploymentError unless it is the address of a web service, and without a user or password in it.

    It is not repeated where it is wrong: it may hold a password, and no parser finds one that has / or # in it.
    """
    if "@" in url or not _ADDRESS.fullmatch(url):
        raise DeploymentError(
            f"{what} is no address of a web service; expected one such as https://HOST or https://HOST:PORT, without a"
            " user or a password in it"
        )


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Without a proxy for a service on this machine, which a proxy cannot reach."""
    is_here = urllib.parse.urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_here else []))


def basic(user: str, password: str) -> str:
    """An Authorization header's value."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
