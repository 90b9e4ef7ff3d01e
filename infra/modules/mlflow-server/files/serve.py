"""Become MLflow's server: fetch its secrets from Lockbox as this machine's service account, then replace this process.

    python serve.py SETTINGS.json

Secrets go into the server's environment and into a file in the unit's runtime folder, which is memory: never into
arguments, the disk or the log. They are fetched anew at each start, so a restart picks up a changed one.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

_TIMEOUT = 30.0
_SHOWN = 500  # bytes of an error that a message shows


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would repeat a redirected request with its token, whatever host the response names."""

    def redirect_request(self, *_: object) -> None:
        """Follow none: the response is raised as an HTTPError."""


DIRECT = urllib.request.build_opener(_RefuseRedirects, urllib.request.ProxyHandler({}))
"""For this machine and its metadata, of which a proxy knows nothing."""
_OUTSIDE = urllib.request.build_opener(_RefuseRedirects)

_TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105  (a path, not a token)


def read_settings(path: str) -> dict[str, Any]:
    """What the machine was told at its creation; nothing in it is secret."""
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def secret(settings: dict[str, Any], name: str) -> dict[str, str]:
    """The entries of a secret of Lockbox."""
    metadata = f"{settings['metadata_endpoint']}{_TOKEN_PATH}"
    token = _get(metadata, {"Metadata-Flavor": "Google"}, DIRECT)["access_token"]
    address = f"{settings['lockbox_endpoint']}/lockbox/v1/secrets/{settings['secret_ids'][name]}/payload"
    try:
        payload = _get(address, {"Authorization": f"Bearer {token}"}, _OUTSIDE)
    except urllib.error.HTTPError as error:
        raise SystemExit(
            f"secret {settings['secret_ids'][name]} ({name}) cannot be read; found: {error.code}"
            f" {error.read(_SHOWN).decode(errors='replace')}; expected: a secret with a version, and"
            " lockbox.payloadViewer on it for this machine's account; see docs/operations.md,"
            " then: systemctl restart mlflow"
        ) from None
    return {entry["key"]: entry["textValue"] for entry in payload["entries"]}


def password(settings: dict[str, Any], name: str) -> str:
    """The password in a secret: its entry password, or, in one of Connection Manager, postgresql_password."""
    entries = secret(settings, name)
    found = [value for key, value in entries.items() if key.endswith("password")]
    if len(found) != 1:
        raise SystemExit(
            f"secret {settings['secret_ids'][name]} ({name}) has the entries {sorted(entries)}, expected one whose"
            " name ends in password; see docs/operations.md, then: systemctl restart mlflow"
        )
    return found[0]


def _get(address: str, headers: dict[str, str], opener: urllib.request.OpenerDirector) -> dict[str, Any]:
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  (the cloud's own addresses)
    with opener.open(request, timeout=_TIMEOUT) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def database_url(settings: dict[str, Any], database: str, database_password: str) -> str:
    """The address of a database, for SQLAlchemy: encrypted, and only to the host that the certificate names."""
    user = f"{quote(settings['postgres_user'], safe='')}:{quote(database_password, safe='')}"
    host = f"{settings['postgres_host']}:{settings['postgres_port']}"
    return f"postgresql+psycopg2://{user}@{host}/{database}?sslmode=verify-full&sslrootcert={settings['ca_file']}"


def upgrade_database(url: str) -> None:
    """Make the database's tables, or bring those of an older MLflow up to date."""
    from mlflow.db import upgrade  # `mlflow db upgrade` itself, without the password among a process's arguments

    upgrade.main(args=[url], standalone_mode=False)


def write_accounts_settings(path: Path, url: str, admin_password: str) -> None:
    """The file that MLflow's accounts are set up from; % is its reader's own sign."""
    lines = {
        "default_permission": "READ",
        "database_uri": url,
        "admin_username": "admin",
        "admin_password": admin_password,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    text = "[mlflow]\n" + "".join(f"{name} = {value.replace('%', '%%')}\n" for name, value in lines.items())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def server_environment(settings: dict[str, Any], runtime: Path) -> dict[str, str]:
    """The server's environment, secrets included."""
    databases, database_password = settings["databases"], password(settings, "postgres")
    key = secret(settings, "s3")
    accounts = runtime / "accounts.ini"
    write_accounts_settings(
        accounts, database_url(settings, databases["accounts"], database_password), password(settings, "admin")
    )
    return {
        "MLFLOW_BACKEND_STORE_URI": database_url(settings, databases["runs"], database_password),
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{settings['bucket']}/artifacts",
        "MLFLOW_AUTH_CONFIG_PATH": str(accounts),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": password(settings, "session"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(settings["allowed_hosts"]),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_S3_ENDPOINT_URL": settings["storage_endpoint"],
        "AWS_ACCESS_KEY_ID": key["access_key"],
        "AWS_SECRET_ACCESS_KEY": key["secret_key"],
        "AWS_DEFAULT_REGION": settings["region"],
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # what is newer than S3's first checksums is Amazon's own
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def command(settings: dict[str, Any]) -> list[str]:
    """The server; whatever is secret is in its environment."""
    where = ["--host", settings["address"], "--port", str(settings["port"]), "--workers", str(settings["workers"])]
    program = Path(sys.executable).with_name("mlflow")
    return [str(program), "server", "--app-name", "basic-auth", "--serve-artifacts", *where]


def main(path: str) -> None:
    """Replace this process by the server."""
    settings = read_settings(path)
    environment = server_environment(settings, Path(os.environ["RUNTIME_DIRECTORY"]))
    upgrade_database(environment["MLFLOW_BACKEND_STORE_URI"])
    words = command(settings)
    os.execve(words[0], words, {**os.environ, **environment})  # noqa: S606  (no shell)


if __name__ == "__main__":
    main(sys.argv[1])
