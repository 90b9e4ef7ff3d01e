"""MLflow's credentials in the cloud: read from Lockbox as the machine's service account, stored nowhere.

A job gets the id of a secret, which may appear in arguments and logs; the secret has the entries `username` and
`password`. https://yandex.cloud/en/docs/lockbox/api-ref/Payload/get
"""

import json
import os
import re
import urllib.error
import urllib.request
from http import HTTPStatus

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError, SettingsError
from fraud_detection.proxies import exempt_loopback
from fraud_detection.yandex.http import opener
from fraud_detection.yandex.iam import DEFAULT_ADDRESS, IamTokens, NoMetadataError

SECRET_ID = "MLFLOW_LOCKBOX_SECRET_ID"  # noqa: S105  # a name
USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"  # names
DEFAULT_ENDPOINT = "https://payload.lockbox.api.cloud.yandex.net"
_TIMEOUT = 20.0
_ID = re.compile(r"[-_0-9a-zA-Z]{1,50}")


def take_from_lockbox() -> None:
    """Put MLflow's user name and password into the environment, where MLflow reads them.

    Nothing happens if `MLFLOW_LOCKBOX_SECRET_ID` is not set, or if credentials are set already.

    Raises:
        SettingsError: the machine has no service account, or the id is invalid.
        FraudDetectionError: the secret cannot be read, or lacks one of the two entries.
        ServiceUnavailableError: Lockbox does not answer.
    """
    secret_id = os.environ.get(SECRET_ID, "")
    if not secret_id or PASSWORD in os.environ or "MLFLOW_TRACKING_TOKEN" in os.environ:
        return
    if not _ID.fullmatch(secret_id):
        raise SettingsError(f"{SECRET_ID} is {secret_id!r}; expected the id of a Lockbox secret, such as e6q0a1b2c3d4")
    found = _entries(secret_id)
    missing = [key for key in ("username", "password") if not found.get(key)]
    if missing:
        raise FraudDetectionError(
            f"Lockbox secret {secret_id} has no {' and no '.join(missing)}; expected the entries username and password"
        )
    os.environ[USERNAME], os.environ[PASSWORD] = found["username"], found["password"]


def _entries(secret_id: str) -> dict[str, str]:
    exempt_loopback()
    endpoint = os.environ.get("YC_LOCKBOX_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")
    url = f"{endpoint}/lockbox/v1/secrets/{secret_id}/payload"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {_iam_token()}"})  # noqa: S310  # http(s)
    try:
        with opener().open(request, timeout=_TIMEOUT) as answer:
            payload = json.load(answer)
            return {entry["key"]: entry.get("textValue", "") for entry in payload.get("entries", [])}
    except urllib.error.HTTPError as error:
        failure = f"Lockbox secret {secret_id} cannot be read: {endpoint} answers {error.code} {error.reason}"
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code == HTTPStatus.TOO_MANY_REQUESTS:
            raise ServiceUnavailableError(f"{failure}; run this again") from None
        if error.code < HTTPStatus.BAD_REQUEST:
            raise FraudDetectionError(
                f"{failure}, a redirect, which is not followed with a token; check YC_LOCKBOX_ENDPOINT"
            ) from None
        raise FraudDetectionError(
            f"{failure}; the machine's service account needs the role lockbox.payloadViewer on it"
        ) from None
    except OSError as error:
        raise ServiceUnavailableError(f"Lockbox at {endpoint} cannot be reached: {error}; run this again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FraudDetectionError(f"{endpoint} does not answer like Lockbox; check YC_LOCKBOX_ENDPOINT") from error


def _iam_token() -> str:
    try:
        return IamTokens(os.environ.get("YC_METADATA_ADDR", DEFAULT_ADDRESS)).current()
    except NoMetadataError as error:
        raise SettingsError(
            f"{SECRET_ID} is set, but this machine has no service account to read the secret with: {error};"
            f" elsewhere set {USERNAME} and {PASSWORD} instead"
        ) from error
