"""IAM tokens of the service account of a machine in Yandex Cloud, from the machine's metadata endpoint.

https://yandex.cloud/en/docs/compute/operations/vm-connect/auth-inside-vm
"""

import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.yandex.http import opener

DEFAULT_ADDRESS = "169.254.169.254"
_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
_TIMEOUT = 2.0  # seconds; the endpoint is on the same host
_ATTEMPTS = 3
_PAUSE = 0.5
_MARGIN = 300.0  # a token is renewed this many seconds before it expires


class NoMetadataError(Exception):
    """There is no metadata endpoint, or the machine has no service account."""


@dataclass(frozen=True)
class _Token:
    value: str = field(repr=False)
    renew: float
    expires: float


class IamTokens:
    """The current IAM token, renewed shortly before it expires; safe for threads."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}{_PATH}"
        self._token: _Token | None = None
        self._lock = threading.Lock()

    def current(self) -> str:
        """The token.

        Raises:
            NoMetadataError: there has never been a token, and no endpoint gives one.
            ServiceUnavailableError: the endpoint fails.
        """
        with self._lock:
            now = time.monotonic()
            if self._token is None or now >= self._token.renew:
                self._token = self._renewed(now)
            return self._token.value

    def _renewed(self, now: float) -> _Token:
        try:
            return self._request_with_retries()
        except (NoMetadataError, ServiceUnavailableError) as error:
            if self._token is None:
                raise
            if now < self._token.expires:
                return self._token  # still valid for some minutes
            raise ServiceUnavailableError(f"the IAM token has expired and cannot be renewed: {error}") from error

    def _request_with_retries(self) -> _Token:
        problem = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE * attempt)
            try:
                return self._request()
            except urllib.error.HTTPError as error:
                if error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code != HTTPStatus.TOO_MANY_REQUESTS:
                    raise NoMetadataError(f"{self._url} answers {error.code} {error.reason}") from error
                problem = f"answers {error.code} {error.reason}"
            except (ValueError, KeyError, TypeError) as error:
                raise NoMetadataError(f"{self._url} does not answer with a token") from error
            except OSError as error:
                if self._token is None:
                    raise NoMetadataError(f"{self._url} does not answer: {error}") from error
                problem = f"does not answer: {error}"
        raise ServiceUnavailableError(f"the metadata endpoint {self._url} {problem}; run this again")

    def _request(self) -> _Token:
        request = urllib.request.Request(self._url, headers={"Metadata-Flavor": "Google"})  # noqa: S310  # http
        asked = time.monotonic()
        direct = urllib.request.ProxyHandler({})  # never through a proxy
        with opener(direct).open(request, timeout=_TIMEOUT) as answer:
            found = json.load(answer)
        lifetime = float(found["expires_in"])
        margin = min(_MARGIN, lifetime / 2)
        return _Token(str(found["access_token"]), asked + lifetime - margin, asked + lifetime)
