"""Objects of a real S3 server, fetched for a job's folder: what YARN does for a container on a cluster."""

import shutil
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from emulator.signatures import ALGORITHM, EMPTY, Signed

_TIMEOUT = 60.0  # seconds without an answer


class ObjectError(Exception):
    """An object cannot be fetched."""


def fetch(endpoint: str, region: str, credentials: tuple[str, str], bucket: str, key: str, target: Path) -> None:
    """Copy an object into a file. Raises ObjectError."""
    url = f"{endpoint.rstrip('/')}/{quote(bucket)}/{quote(key)}"
    headers = signed_headers(url, region, credentials, datetime.now(UTC))
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the settings' own endpoint
    try:
        with _opener(url).open(request, timeout=_TIMEOUT) as answer, target.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except urllib.error.HTTPError as error:
        raise ObjectError(f"s3a://{bucket}/{key}: {endpoint} answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError) as error:
        raise ObjectError(f"s3a://{bucket}/{key}: {endpoint} cannot be reached: {error}") from error


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Without a proxy for a server on this machine."""
    is_here = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_here else []))


def signed_headers(url: str, region: str, credentials: tuple[str, str], now: datetime) -> dict[str, str]:
    """Headers of a signed GET at a moment; `credentials` are the access key's id and the secret key."""
    access_key, secret_key = credentials
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    signed = Signed("GET", parts.path, parts.query, headers, EMPTY, stamp, scope)
    credential = f"Credential={access_key}/{scope}, SignedHeaders={signed.names}"
    return {**headers, "authorization": f"{ALGORITHM} {credential}, Signature={signed.signature(secret_key)}"}
