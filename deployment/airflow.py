"""A client of Airflow's REST API.

Airflow 3 issues a token for user and password (/auth/token, /api/v2); Airflow 2 takes them with each request (/api/v1).
Managed Airflow also requires an IAM token of an account with the role managed-airflow.user.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from deployment.errors import DeploymentError
from deployment.http import HttpError, basic, call, require_address
from deployment.identity import iam_token
from deployment.settings import needed

MASKED = "***"
"""What Airflow's API shows in place of an entry whose name sounds like a secret, such as the id of one."""
_MANAGED = ".airflow.yandexcloud.net"
_PASSWORD = "AIRFLOW_ADMIN_PASSWORD"  # noqa: S105  # the name of a setting
_TERRAFORM_PASSWORD = "TF_VAR_airflow_admin_password"  # noqa: S105  # its name when exported for make apply


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

    def find(self, path: str) -> Any:
        """What is at a path; None if there is nothing."""
        try:
            return self.call("GET", path)
        except HttpError as error:
            if error.status == 404:
                return None
            raise

    def put(self, kind: str, name: str, body: Mapping[str, object]) -> bool:
        """Create or replace a variable or a connection; True if it was created."""
        path = f"{kind}/{quote(name, safe='')}"
        if self.find(path) is None:
            self.call("POST", kind, body)
            return True
        self.call("PATCH", path, body)
        return False

    def put_variable(self, name: str, value: object) -> bool:
        """Create or replace a variable; True if it was created. A value that is not text is stored as JSON."""
        text = value if isinstance(value, str) else json.dumps(value, indent=2)
        return self.put("variables", name, {"key": name, "value": text})

    def create_connection(self, name: str, extra: Mapping[str, str]) -> bool:
        """Create a connection to the cloud without a key, unless it exists; True if it was created.

        Managed Airflow has a service account, whose tokens the provider uses if a connection has no key.
        """
        if self.find(f"connections/{quote(name, safe='')}") is not None:
            return False
        body = {"connection_id": name, "conn_type": "yandexcloud", "extra": json.dumps(extra)}
        self.call("POST", "connections", body)
        return True

    def has_dag(self, dag: str) -> bool:
        return self.find(f"dags/{dag}") is not None

    def is_paused(self, dag: str) -> bool:
        found = self.find(f"dags/{dag}")
        return bool(found and found["is_paused"])

    def set_paused(self, dag: str, *, paused: bool) -> None:
        self.call("PATCH", f"dags/{dag}?update_mask=is_paused", {"is_paused": paused})

    def trigger(self, dag: str, prefix: str, conf: Mapping[str, object] | None = None) -> str:
        """Start a run now; returns its id."""
        run_id = f"{prefix}__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
        body: dict[str, object] = {"dag_run_id": run_id, **({"conf": conf} if conf else {})}
        self.call("POST", f"dags/{dag}/dagRuns", body if self.is_airflow_2 else {**body, "logical_date": None})
        return run_id

    def clear(self, dag: str, run_id: str) -> None:
        """Run a run that has ended again, with all of its tasks."""
        self.call("POST", f"dags/{dag}/dagRuns/{quote(run_id)}/clear", {"dry_run": False})

    def run_state(self, dag: str, run_id: str) -> str:
        return str(self.call("GET", f"dags/{dag}/dagRuns/{quote(run_id)}")["state"])

    def last_runs(self, dag: str, count: int = 1) -> list[dict[str, Any]]:
        """The newest runs, newest first."""
        answer = self.find(f"dags/{dag}/dagRuns?order_by=-run_after&limit={count}")
        return list(answer["dag_runs"]) if answer else []

    def active_runs(self, dag: str) -> list[str]:
        """The ids of the runs that are queued or running."""
        answer = self.call("GET", f"dags/{dag}/dagRuns?state=running&state=queued")
        return [str(found["dag_run_id"]) for found in answer["dag_runs"]]

    def next_run(self, dag: str) -> datetime | None:
        """When the schedule starts the next run; None if unknown, as while the DAG is paused."""
        text = self.call("GET", f"dags/{dag}")["next_dagrun_run_after"]
        return datetime.fromisoformat(text) if text else None

    def tasks(self, dag: str, run_id: str) -> dict[str, str]:
        """Task → state, of the tasks that have one."""
        answer = self.call("GET", f"dags/{dag}/dagRuns/{quote(run_id)}/taskInstances")
        return {task["task_id"]: task["state"] for task in answer["task_instances"] if task["state"]}

    def xcom(self, dag: str, run_id: str, task: str) -> dict[str, Any] | None:
        """What a task returned; None if it returned nothing."""
        path = f"dags/{dag}/dagRuns/{quote(run_id)}/taskInstances/{task}/xcomEntries/return_value"
        found = self.find(path if self.is_airflow_2 else f"{path}?stringify=false")
        if found is None:
            return None
        value = found["value"]
        return dict(json.loads(value) if isinstance(value, str) else value)

    def import_errors(self) -> str:
        """Why DAG files cannot be parsed; empty if they can."""
        return "\n".join(error["stack_trace"] for error in self.call("GET", "importErrors")["import_errors"])


@dataclass(frozen=True)
class Access:
    """The address of an Airflow and the credentials for it."""

    url: str
    user: str
    password: str
    settings: Mapping[str, str]

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Access":
        """Raises DeploymentError if a setting is missing."""
        url = needed(settings, "AIRFLOW_URL")
        require_address(url, "AIRFLOW_URL")
        given = settings.get(_PASSWORD) or settings.get(_TERRAFORM_PASSWORD, "")
        password = needed({_PASSWORD: given}, _PASSWORD, f"put {_PASSWORD}=… into .env, which only you can read")
        return cls(url, settings.get("AIRFLOW_USER") or "admin", password, settings)

    def cloud_token(self) -> str:
        """An IAM token for Managed Airflow, which requires one; otherwise empty."""
        managed = (urlsplit(self.url).hostname or "").endswith(_MANAGED)
        return iam_token(self.settings) if managed else ""

    def connect(self) -> Airflow:
        return Airflow(self.url, self.user, self.password, self.cloud_token())
