"""How this process reaches an object storage: its endpoint, and who it is there.

On a machine of Yandex Cloud it is the machine's service account: requests are not signed but carry its IAM token, and
no key exists that could be lost. Elsewhere it is an access key, from where every AWS tool takes it.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError, SettingsError
from fraud_detection.proxies import exempt_loopback
from fraud_detection.yandex.iam import DEFAULT_ADDRESS, IamTokens, NoMetadataError

DEFAULT_ENDPOINT = "https://storage.yandexcloud.net"
DEFAULT_REGION = "ru-central1"
_TRUSTED = (DEFAULT_ENDPOINT, "https://storage.yandexcloud.kz")
"""Storages that get a token. Other hosts of these domains, such as API gateways, run code of any customer."""

_TOKEN_HEADER = "X-YaCloud-SubjectToken"  # noqa: S105  # a name
_VARIABLES = ("AWS_", "YC_METADATA_ADDR")
_REFUSED = frozenset({"401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_TEMPORARY = frozenset(
    {"RequestTimeout", "SlowDown", "Throttling", "TooManyRequests", "ConditionalRequestConflict", "OperationAborted"}
)
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500
_REDIRECTS = (301, 302, 303, 307, 308)

_ENDPOINT = re.compile(r"https?://[^\s/@]+/?")  # without a user and a password: they would reach every log
_lock = threading.Lock()


def endpoint() -> str:
    """The address of the object storage.

    Raises:
        SettingsError: the environment names one that is none.
    """
    found = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or DEFAULT_ENDPOINT
    if not _ENDPOINT.fullmatch(found):
        raise SettingsError(
            "AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL) is not the address of an object storage;"
            f" expected one such as {DEFAULT_ENDPOINT} or http://127.0.0.1:9000, with http:// or https://"
        )
    return found


def client() -> Any:  # noqa: ANN401  (boto3 ships no types)
    """The S3 client of this process, for use by all its threads. A changed environment gives another.

    Raises:
        SettingsError: there is neither a service account nor an access key.
        ServiceUnavailableError: the metadata endpoint is named, and cannot be reached.
    """
    with _lock:
        return _client(_environment())


def share_with_boto3() -> None:
    """Let everything in this process that uses boto3 by itself, such as MLflow, be who this module says it is."""
    import boto3

    with _lock:
        boto3.DEFAULT_SESSION = _boto3_session(_environment())
    os.environ.setdefault("MLFLOW_S3_ENDPOINT_URL", endpoint())


def failures() -> tuple[type[Exception], ...]:
    """What boto3 raises."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError, Boto3Error)


@contextmanager
def translate_errors(verb: str, url: str) -> Iterator[None]:
    """Turn what boto3 raises into an error that says what to do.

    Raises:
        ServiceUnavailableError: the object storage does not answer; later it may.
        SettingsError: there is no such bucket.
        FraudDetectionError: it answers, and refuses.
    """
    try:
        yield
    except failures() as error:
        raise explanation(error, f"cannot {verb} {url}") from error


def explanation(error: Exception, what: str) -> FraudDetectionError:
    """The error to raise for one that boto3 raised. Nothing of a request but its address is in it: no key, no token."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    if isinstance(error, Boto3Error) and isinstance(error.__context__, exceptions.ClientError):
        error = error.__context__  # of an upload; boto3 keeps only the text
    at = f"object storage at {_shown_endpoint()}"
    if isinstance(error, exceptions.ClientError):
        return _refusal(error, what, at)
    if isinstance(error, exceptions.SSLError):
        return FraudDetectionError(f"{what}: the certificate of the {at} is not trusted; set AWS_CA_BUNDLE")
    if isinstance(error, _away()):
        kind = type(error).__name__
        return ServiceUnavailableError(f"{what}: {at} cannot be reached ({kind}); check AWS_ENDPOINT_URL, or try later")
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return _no_credentials(what)
    return FraudDetectionError(f"{what}: {at}: {error}")


def _away() -> tuple[type[Exception], ...]:
    from botocore import exceptions

    return (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)


def _refusal(error: Any, what: str, at: str) -> FraudDetectionError:  # noqa: ANN401
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = str(error.response.get("Error", {}).get("Message", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _TEMPORARY or status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR:
        return ServiceUnavailableError(f"{what}: {at} answers {status} {code}: {text}; try later")
    if code == "NoSuchBucket":
        return SettingsError(f"{what}: the bucket does not exist in the {at}; create it, or name another")
    if code in _REFUSED or str(status) in _REFUSED:
        return FraudDetectionError(
            f"{what}: {at} refuses it ({code}: {text}); let this account read, list and write there"
        )
    if status in _REDIRECTS:
        return FraudDetectionError(
            f"{what}: {at} answers {status}, a redirect, which is not followed;"
            " set AWS_ENDPOINT_URL_S3 to the storage's own address"
        )
    return FraudDetectionError(f"{what}: {at} answers {status} {code}: {text}")


def _no_credentials(why: str) -> SettingsError:
    return SettingsError(
        f"{why}: no credentials for the object storage at {_shown_endpoint()}; give the machine a service account"
        " (Yandex Cloud), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def _shown_endpoint() -> str:
    parts = urlsplit(endpoint())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _environment() -> tuple[tuple[str, str], ...]:
    """All that decides about a session, as a key to remember it by."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_VARIABLES)))


@cache
def _client(environment: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401
    with translate_errors("open", "the object storage"):
        return _session(environment).create_client("s3", endpoint_url=endpoint())


@cache  # boto3 adds its methods each time that it wraps a session, and cannot make a client of one wrapped twice
def _boto3_session(environment: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401
    import boto3

    return boto3.Session(botocore_session=_session(environment))


@cache
def _session(_environment: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401
    import botocore.session
    from botocore.config import Config

    exempt_loopback()
    session = botocore.session.Session()
    session.set_default_client_config(
        Config(
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=16,
        )
    )
    if session.get_config_variable("region") is None:
        session.set_config_variable("region", DEFAULT_REGION)
    # Checksums beyond Content-MD5 are Amazon's own, and not every storage takes their encoding.
    session.set_config_variable("request_checksum_calculation", "when_required")
    session.set_config_variable("response_checksum_validation", "when_required")
    session.get_component("credential_provider").remove("iam-role")  # Amazon's machines; it would wait for an answer
    session.register("needs-retry.s3", _refuse_redirect)
    tokens = _tokens()
    if tokens is not None:
        _use_tokens(session, tokens)
    elif session.get_credentials() is None:
        raise _no_credentials("cannot open the object storage")
    return session


def _refuse_redirect(response: Any, operation: Any, **_: object) -> None:  # noqa: ANN401
    """End a request that is redirected; boto3 would ask the same address for the bucket's region, again and again."""
    from botocore.exceptions import ClientError

    if response is not None and response[0].status_code in _REDIRECTS:
        raise ClientError(response[1], operation.name)


def _use_tokens(session: Any, tokens: IamTokens) -> None:  # noqa: ANN401
    from botocore import UNSIGNED

    def add_token(request: Any, **_: object) -> None:  # noqa: ANN401
        del request.headers[_TOKEN_HEADER]
        request.headers[_TOKEN_HEADER] = tokens.current()

    def sign_nothing(**_: object) -> object:
        return UNSIGNED

    session.register("request-created.s3", add_token)  # also for each repetition
    session.register("choose-signer.s3", sign_nothing)


def _tokens() -> IamTokens | None:
    """The machine's service account; None elsewhere.

    A storage of somebody else is given no token of Yandex Cloud, unless YC_METADATA_ADDR says that it may have it.
    """
    address = os.environ.get("YC_METADATA_ADDR")
    if not address and endpoint().rstrip("/") not in _TRUSTED:
        return None
    tokens = IamTokens(address or DEFAULT_ADDRESS)
    try:
        tokens.current()
    except NoMetadataError as error:
        if address and not os.environ.get("AWS_ACCESS_KEY_ID"):
            raise ServiceUnavailableError(f"YC_METADATA_ADDR is set, and {error}; try later") from error
        return None
    return tokens
