"""Whether MLflow answers with the job's credentials: asked before a cluster costs money."""

from __future__ import annotations

from urllib.parse import urlsplit

import requests
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.yandex.hooks.dataproc import DataprocHook
from yandex.cloud.lockbox.v1.payload_service_pb2 import GetPayloadRequest
from yandex.cloud.lockbox.v1.payload_service_pb2_grpc import PayloadServiceStub

from fraud_detection_common.clusters import translate_errors

_PATH = "/api/2.0/mlflow/registered-models/search?max_results=1"  # every account may call it
_TIMEOUT = (5, 20)  # seconds to connect, and to wait for a response
_CALL_SECONDS = 20.0
_UNAUTHORIZED = (401, 403)
_TEMPORARY = (429, 500, 502, 503, 504)


def require_mlflow(hook: DataprocHook, tracking_uri: str, secret_id: str) -> None:
    """Return if MLflow answers the job's user; an address that is not one of a server is not asked.

    Raises:
        AirflowException: it does not answer now.
        AirflowFailException: it refuses the job, or is not MLflow.
    """
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https"):
        return
    at = f"MLflow at {parts.hostname}:{parts.port or parts.scheme}"
    status = _status(tracking_uri, _credentials(hook, secret_id), at)
    if status == requests.codes.ok:
        return
    if status in _TEMPORARY:
        raise AirflowException(f"{at} answers {status}; no cluster was created; next: see its log on the machine")
    if status in _UNAUTHORIZED:
        raise AirflowFailException(
            f"{at} refuses the user in secret {secret_id or '(none: mlflow_secret_id is not set)'} ({status}); no "
            "cluster was created; next: systemctl restart mlflow-accounts on MLflow's machine (docs/operations.md)"
        )
    raise AirflowFailException(
        f"{at} answers {status}, not like MLflow; no cluster was created; next: check tracking_uri in variables.json"
    )


def _status(tracking_uri: str, credentials: tuple[str, str] | None, at: str) -> int:
    """The status of a harmless request. A redirect is not followed: its target would get the password."""
    url = tracking_uri.rstrip("/") + _PATH
    try:
        return requests.get(url, auth=credentials, timeout=_TIMEOUT, allow_redirects=False).status_code
    except requests.RequestException as error:
        raise AirflowException(
            f"{at} does not answer ({type(error).__name__}); no cluster was created; next: see the machine and its "
            "services (docs/operations.md), or set check_mlflow to false if Airflow cannot reach it and the job can"
        ) from None  # its text may contain the address with a password


def _credentials(hook: DataprocHook, secret_id: str) -> tuple[str, str] | None:
    """User name and password of the job, from Lockbox; None if there is no secret."""
    if not secret_id:
        return None
    with translate_errors():
        service = hook.sdk.client(PayloadServiceStub)
        payload = service.Get(GetPayloadRequest(secret_id=secret_id), timeout=_CALL_SECONDS)
    found = {entry.key: entry.text_value for entry in payload.entries}
    try:
        return found["username"], found["password"]
    except KeyError as error:
        raise AirflowFailException(
            f"secret {secret_id} of Lockbox has no entry {error}; expected username and password; "
            "next: check mlflow_secret_id in variables.json"
        ) from None
