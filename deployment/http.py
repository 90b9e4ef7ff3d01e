"""JSON over HTTP. Errors say what was requested and what came back, and never contain a secret."""

import base64
import re
import ssl
import urllib.parse
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3 import Retry

from deployment.errors import FAILED, UNREACHABLE, DeploymentError

_TIMEOUT = 60.0
_ADDRESS = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?([/?#].*)?")
_NO_SUCCESS = 300
_TEMPORARY = (429, 500, 502, 503, 504)
# Only for idempotent methods, urllib3's default. The last response is returned, so that the error can show it.
_RETRY = Retry(total=2, backoff_factor=0.5, status_forcelist=_TEMPORARY, raise_on_status=False)


class HttpError(DeploymentError):
    """A service refused, or the connection failed; `status` is that of the response, 0 without one."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, UNREACHABLE if status in (0, *_TEMPORARY) else FAILED)
        self.status = status


def call(
    method: str,
    url: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> Any:
    """The JSON of a response, None if it is empty. Raises HttpError, or DeploymentError if it is not JSON."""
    response = _send(method, url, body, {"Accept": "application/json", **(headers or {})}, form)
    try:
        return response.json() if response.content else None
    except requests.JSONDecodeError as error:
        raise DeploymentError(f"{method} {url}: the response is not JSON; is the address right?") from error


def is_up(url: str) -> bool:
    """Whether a service answers without an error."""
    try:
        _send("GET", url)
    except HttpError:
        return False
    return True


def require_address(url: str, what: str) -> None:
    """Raise DeploymentError unless it is the address of a web service, without a user or password in it.

    A wrong address is not repeated: it may contain a password, and no parser finds one with / or # in it.
    """
    if "@" in url or not _ADDRESS.fullmatch(url):
        raise DeploymentError(
            f"{what} is not the address of a web service; expected one such as https://HOST or https://HOST:PORT, "
            "without a user or a password in it"
        )


def basic(user: str, password: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _send(
    method: str,
    url: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> requests.Response:
    """A successful response. Raises HttpError, also for a redirect: its target would get the token and the body."""
    require_address(url, "an address")
    try:
        with _session(url) as session:
            response = session.request(
                method, url, json=body, data=form, headers=headers, timeout=_TIMEOUT, allow_redirects=False
            )
    except requests.RequestException as error:
        raise HttpError(f"{method} {url}: connection failed: {_reason(error)}", 0) from error
    if response.status_code >= _NO_SUCCESS:
        text = response.text[:500] if response.status_code >= requests.codes.bad_request else _redirected(response)
        message = f"{method} {url}: {response.status_code} {response.reason} {text}".rstrip()
        raise HttpError(message, response.status_code)
    return response


def _redirected(response: requests.Response) -> str:
    """The host that a redirect names; the rest of the address may contain a secret."""
    host = urllib.parse.urlsplit(urllib.parse.urljoin(response.url, response.headers.get("location", ""))).hostname
    return f"to {host}, which is not followed, since it would get the credentials; is the address right?"


def _session(url: str) -> requests.Session:
    """A session for one service. A service on this machine is called directly: without a proxy, and without retries,
    since its caller polls it.
    """
    session = requests.Session()
    session.trust_env = False  # a password in ~/.netrc would replace the Authorization header
    authorities = ssl.get_default_verify_paths()
    session.verify = authorities.cafile or authorities.capath or True
    if urllib.parse.urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
        session.proxies.update(get_environ_proxies(url))
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=_RETRY))
    return session


def _reason(error: BaseException) -> str:
    """The innermost cause: requests and urllib3 wrap it several times."""
    inner = getattr(error, "reason", None) or (error.args[0] if error.args else None) or error.__cause__
    return _reason(inner) if isinstance(inner, BaseException) else str(error)
