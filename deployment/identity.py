"""Who one is in the cloud: IAM tokens, and keys for the object storage that s3cmd can sign with.

YC_TOKEN, or GitHub's identity (OIDC), or `yc` ─→ IAM token ─→ ephemeral key, or the deployer's key in Lockbox
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from deployment.errors import WRONG_ARGUMENTS, DeploymentError
from deployment.http import call

YC_INSTALL_PAGE = "https://yandex.cloud/docs/cli/quickstart"
_EXCHANGE = "https://auth.yandex.cloud/oauth/token"
_IAM = "https://iam.api.cloud.yandex.net"
_LOCKBOX = "https://payload.lockbox.api.cloud.yandex.net"
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  # the name of a kind of token
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
_KEY_LIFETIME = "3600s"


@dataclass(frozen=True)
class StorageKey:
    """A key of the object storage; it goes to s3cmd by its environment, never by an argument."""

    key_id: str
    secret: str
    session_token: str = ""

    def __repr__(self) -> str:
        return f"StorageKey({self.key_id!r})"

    @property
    def environment(self) -> dict[str, str]:
        found = {"AWS_ACCESS_KEY_ID": self.key_id, "AWS_SECRET_ACCESS_KEY": self.secret}
        return {**found, "AWS_SESSION_TOKEN": self.session_token} if self.session_token else found


def storage_key(settings: Mapping[str, str]) -> StorageKey:
    """The key to upload with: one that is given, a temporary one of GitHub's identity, or the deployer's of Lockbox.

    Raises:
        DeploymentError: there is none.
    """
    key_id, secret = settings.get("AWS_ACCESS_KEY_ID", ""), settings.get("AWS_SECRET_ACCESS_KEY", "")
    if key_id and secret:
        return StorageKey(key_id, secret, settings.get("AWS_SESSION_TOKEN", ""))
    if key_id or secret:
        missing = "AWS_SECRET_ACCESS_KEY" if key_id else "AWS_ACCESS_KEY_ID"
        raise DeploymentError(f"half of a storage key is set; {missing} is missing in .env or outside", WRONG_ARGUMENTS)
    if _at_github(settings):
        return _ephemeral_key(settings, iam_token(settings))
    if settings.get("DEPLOYER_SECRET_ID"):
        return _key_in_lockbox(settings, iam_token(settings))
    raise DeploymentError(
        "no key of the object storage: neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY nor DEPLOYER_SECRET_ID is "
        "set, in .env or outside; next: make env",
        WRONG_ARGUMENTS,
    )


def iam_token(settings: Mapping[str, str]) -> str:
    """An IAM token: the one given, that of GitHub's identity, or the one of yc's profile."""
    if settings.get("YC_TOKEN"):
        return settings["YC_TOKEN"]
    if _at_github(settings):
        return _exchanged(settings)
    try:
        done = subprocess.run([yc(), "iam", "create-token"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeploymentError(f"yc cannot be run: {error}; see {YC_INSTALL_PAGE}") from error
    if done.returncode != 0 or not done.stdout.strip():
        raise DeploymentError(f"yc iam create-token failed: {done.stderr.strip()}; next: yc init")
    return done.stdout.strip()


def yc() -> str:
    """The path of yc, the cloud's own command line tool; it is called, never installed."""
    found = shutil.which("yc")
    if found is None:
        raise DeploymentError(f"yc is not installed; see {YC_INSTALL_PAGE}, then yc init (or set YC_TOKEN)")
    return found


def _at_github(settings: Mapping[str, str]) -> bool:
    """Whether a workflow runs this, with `id-token: write` and an account that trusts it."""
    return bool(settings.get("ACTIONS_ID_TOKEN_REQUEST_URL") and settings.get("DEPLOYER_SERVICE_ACCOUNT_ID"))


def _exchanged(settings: Mapping[str, str]) -> str:
    """An IAM token of the deployer for the workflow's identity (workload identity federation)."""
    audience = settings.get("OIDC_AUDIENCE", "")
    url = settings["ACTIONS_ID_TOKEN_REQUEST_URL"] + (f"&audience={audience}" if audience else "")
    asked = {"Authorization": f"Bearer {settings.get('ACTIONS_ID_TOKEN_REQUEST_TOKEN', '')}"}
    identity = call("GET", url, headers=asked)["value"]
    form = {
        "grant_type": _TOKEN_EXCHANGE,
        "requested_token_type": _ACCESS_TOKEN,
        "audience": settings["DEPLOYER_SERVICE_ACCOUNT_ID"],
        "subject_token": identity,
        "subject_token_type": _ID_TOKEN,
    }
    return str(call("POST", settings.get("YC_OAUTH_ENDPOINT") or _EXCHANGE, form=form)["access_token"])


def _ephemeral_key(settings: Mapping[str, str], token: str) -> StorageKey:
    url = f"{settings.get('YC_IAM_ENDPOINT') or _IAM}/iam/aws-compatibility/v1/ephemeralAccessKeys"
    body = {
        "subjectId": settings["DEPLOYER_SERVICE_ACCOUNT_ID"],
        "sessionName": "deployment",
        "duration": _KEY_LIFETIME,
    }
    answer = call("POST", url, body, {"Authorization": f"Bearer {token}"})
    return StorageKey(answer["accessKeyId"], answer["secret"], answer["sessionToken"])


def _key_in_lockbox(settings: Mapping[str, str], token: str) -> StorageKey:
    secret_id = settings["DEPLOYER_SECRET_ID"]
    url = f"{settings.get('YC_LOCKBOX_ENDPOINT') or _LOCKBOX}/lockbox/v1/secrets/{secret_id}/payload"
    answer = call("GET", url, headers={"Authorization": f"Bearer {token}"})
    entries = {entry["key"]: entry.get("textValue", "") for entry in answer.get("entries", [])}
    try:
        return StorageKey(entries["access_key"], entries["secret_key"])
    except KeyError as error:
        raise DeploymentError(f"secret {secret_id} of Lockbox has no entry {error}; found {sorted(entries)}") from error


def inherited() -> dict[str, str]:
    """This process's environment without what s3cmd would take for another key, account or configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3CMD_"))}
