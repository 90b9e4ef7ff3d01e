"""`make import-variables`: variables.json → Airflow's variables, through its REST API.

Airflow 3 gives a token for user and password (/auth/token, /api/v2); Airflow 2 takes them with each request (/api/v1).
Managed Airflow asks in addition for an IAM token of somebody with the role managed-airflow.user. The connection to the
cloud that the variables name is made where there is none: without it no task can begin.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from deployment.errors import DeploymentError, run, told
from deployment.http import HttpError, basic, call, require_address
from deployment.identity import iam_token
from deployment.paths import ENV_FILE, VARIABLES
from deployment.settings import load, needed

_MANAGED = ".airflow.yandexcloud.net"
_PASSWORD = "AIRFLOW_ADMIN_PASSWORD"  # noqa: S105  # the name of a setting
_TERRAFORM_PASSWORD = "TF_VAR_airflow_admin_password"  # noqa: S105  # the same, where it is exported for make apply


class Airflow:
    """An Airflow's REST API, as one of its users."""

    def __init__(self, url: str, user: str, password: str, cloud_token: str = "") -> None:
        self._url = url.rstrip("/")
        self._headers = {"X-Cloud-Authorization": f"Bearer {cloud_token}"} if cloud_token else {}
        try:
            token = call("POST", f"{self._url}/auth/token", {"username": user, "password": password}, self._headers)
            self._api, authorization = "api/v2", f"Bearer {token['access_token']}"
        except HttpError as error:
            if error.status in (401, 403):
                raise DeploymentError(
                    f"{self._url} does not accept {user} and this password ({error.status}); "
                    f"next: set AIRFLOW_USER and {_PASSWORD} in .env"
                ) from error
            if error.status not in (404, 405):
                raise
            self._api, authorization = "api/v1", basic(user, password)  # Airflow 2 has no /auth/token
        self._headers |= {"Authorization": authorization}

    def names(self) -> set[str]:
        """The variables that are there; a page holds at most a hundred."""
        found: set[str] = set()
        while True:
            page = self.call("GET", f"variables?limit=100&offset={len(found)}")
            new = {variable["key"] for variable in page["variables"]} - found
            found |= new
            if not new or len(found) >= page["total_entries"]:
                return found

    def set(self, name: str, value: object, *, exists: bool) -> None:
        """Make a variable, or replace it whole. A value that is no text is kept as JSON."""
        text = value if isinstance(value, str) else json.dumps(value, indent=2)
        body = {"key": name, "value": text}
        if exists:
            self.call("PATCH", f"variables/{quote(name, safe='')}", body)
        else:
            self.call("POST", "variables", body)

    def make_connection(self, name: str, extra: Mapping[str, str]) -> bool:
        """Make a connection to the cloud without a key, unless there is one of this name; True where it was made.

        Managed Airflow has a service account, whose tokens the provider takes where a connection holds no key.
        """
        try:
            self.call("GET", f"connections/{quote(name, safe='')}")
        except HttpError as error:
            if error.status != 404:
                raise
        else:
            return False
        self.call(
            "POST", "connections", {"connection_id": name, "conn_type": "yandexcloud", "extra": json.dumps(extra)}
        )
        return True

    @property
    def is_airflow_2(self) -> bool:
        return self._api == "api/v1"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call; the path is the one below the API's version. Raises DeploymentError."""
        try:
            return call(method, f"{self._url}/{self._api}/{path}", body, self._headers)
        except HttpError as error:
            if error.status not in (401, 403):
                raise
            raise DeploymentError(
                f"{error}\nnext: is the password right? Airflow 2 also needs api.auth_backends = "
                "airflow.api.auth.backend.basic_auth in its configuration"
            ) from error


@dataclass(frozen=True)
class Access:
    """Where an Airflow is, and what it asks of whoever calls."""

    url: str
    user: str
    password: str
    settings: Mapping[str, str]

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Access":
        """Raises DeploymentError where a setting is missing."""
        url = needed(settings, "AIRFLOW_URL")
        require_address(url, "AIRFLOW_URL")
        given = settings.get(_PASSWORD) or settings.get(_TERRAFORM_PASSWORD, "")
        password = needed({_PASSWORD: given}, _PASSWORD, f"put {_PASSWORD}=… into .env, which only you can read")
        return cls(url, settings.get("AIRFLOW_USER") or "admin", password, settings)

    def cloud_token(self) -> str:
        """An IAM token where the Airflow is a managed one, which asks for it; otherwise empty."""
        managed = (urlsplit(self.url).hostname or "").endswith(_MANAGED)
        return iam_token(self.settings) if managed else ""

    def connect(self) -> Airflow:
        return Airflow(self.url, self.user, self.password, self.cloud_token())


def import_variables(airflow: Airflow, content: Mapping[str, object]) -> None:
    """Make or replace these variables; others stay as they are."""
    there = airflow.names()
    for name, value in content.items():
        airflow.set(name, value, exists=name in there)
        size = f"{len(value)} settings" if isinstance(value, dict) else "1 value"
        told(f"{name}: {'replaced' if name in there else 'made'}, {size}")


def make_connections(airflow: Airflow, content: Mapping[str, object], public_ssh_key: str) -> None:
    """Make the connections to the cloud that the variables name; one that is there stays as it is."""
    extra = {"public_ssh_key": public_ssh_key} if public_ssh_key else {}
    for settings in content.values():
        name = settings.get("connection") if isinstance(settings, dict) else None
        if isinstance(name, str) and name:
            told(f"connection {name}: {'made' if airflow.make_connection(name, extra) else 'is there'}")


def demand_a_way_onto_hosts(content: Mapping[str, object], public_ssh_key: str) -> None:
    """Data Proc makes no cluster whose hosts nobody could log in to."""
    for name, settings in content.items():
        if isinstance(settings, dict) and settings.get("os_login") is False and not public_ssh_key:
            raise DeploymentError(
                f"{name}.os_login is off and PUBLIC_SSH_KEY is not set: Data Proc needs one of them; "
                "next: put PUBLIC_SSH_KEY='ssh-ed25519 …' into .env, or leave dataproc.os_login at true "
                "in terraform.tfvars and make apply env"
            )


def read(path: Path) -> dict[str, object]:
    """The content of a variables.json. Raises DeploymentError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DeploymentError(f"{path} is not there; next: make env") from error
    except json.JSONDecodeError as error:
        raise DeploymentError(f"{path} is not JSON: {error}; next: make env") from error
    if not isinstance(content, dict) or not content:
        raise DeploymentError(f"{path} holds no variables; expected an object of names and values; next: make env")
    return content


def _main() -> None:
    parser = argparse.ArgumentParser(description="Load variables.json into Airflow.")
    parser.add_argument("--check", action="store_true", help="only look whether all that is needed is set")
    parser.add_argument("--env", type=Path, default=ENV_FILE)
    parser.add_argument("--file", type=Path, default=VARIABLES)
    chosen = parser.parse_args()
    content, settings = read(chosen.file), load(chosen.env)
    access = Access.of(settings)
    public_ssh_key = settings.get("PUBLIC_SSH_KEY", "")
    demand_a_way_onto_hosts(content, public_ssh_key)
    if chosen.check:
        access.cloud_token()
        told("password, token and the way onto hosts: all there")
        return
    airflow = access.connect()
    import_variables(airflow, content)
    make_connections(airflow, content, public_ssh_key)


if __name__ == "__main__":
    run(_main)
