"""Airflow on PostgreSQL with the LocalExecutor, kept small; its DAGs lie in the bucket, as in Managed Airflow."""

import json
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from emulator.client import Emulator
from local_stack import postgres
from local_stack.http import HttpError, call
from local_stack.passwords import write_private
from local_stack.settings import AIRFLOW_PREFIX, ROOT, Stack, StackError

ADMIN = "admin"
CONNECTION = "yandexcloud_default"
API_SECONDS = 120.0  # that the scheduler waits for the API server, before supervisord starts it anew
_MASK = "***"
_PROGRAM = ROOT / ".venv-airflow" / "bin" / "airflow"


def program() -> str:
    return str(_PROGRAM)


def environment(stack: Stack, passwords: Mapping[str, str]) -> dict[str, str]:
    """Airflow's configuration. Writes the file of its users' passwords, which its simple auth manager reads."""
    users = stack.airflow_home / "users.json"
    write_private(users, json.dumps({ADMIN: passwords["airflow_admin"]}))
    options = {
        "CORE__DAGS_FOLDER": str(stack.bucket / "dags"),
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__FERNET_KEY": passwords["airflow_fernet_key"],
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(users),
        "CORE__EXECUTION_API_SERVER_URL": f"{stack.airflow_url}/execution/",
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(stack.ports["AIRFLOW_PORT"]),
        "API__BASE_URL": stack.airflow_url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": passwords["airflow_session_key"],
        "API_AUTH__JWT_SECRET": passwords["airflow_token_key"],
        "DATABASE__SQL_ALCHEMY_CONN": postgres.url(stack, "airflow", passwords["postgres_airflow"]),
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "LOGGING__BASE_LOG_FOLDER": str(stack.logs / "airflow"),
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(stack.logs / "airflow" / "dag_processor"),
        "LOGGING__COLORED_CONSOLE_LOG": "False",
        "FRAUD_DETECTION__SCHEDULE": stack.schedule,
        # A task that cannot reach the API server has used up its try: it waits for one that is being started again.
        "WORKERS__EXECUTION_API_RETRIES": "20",
        "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "10",
        # One scheduler on one machine is known to be lost sooner than one of many: its tasks go on without long waits.
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
    }
    return {
        **{f"{AIRFLOW_PREFIX}{name}": value for name, value in options.items()},
        **stack.airflow_options,
        "AIRFLOW_HOME": str(stack.airflow_home),
        # The emulator's authority, for gRPC alone; HTTPS of other libraries is not touched.
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(stack.cloud / "ca.pem"),
    }


def migrate(stack: Stack, complete_environment: Mapping[str, str]) -> bool:
    """Bring the database to this Airflow's tables; True where there was anything to do.

    Raises:
        StackError: it failed.
    """
    done = stack.airflow_home / "migrated"
    version = (ROOT / "uv.lock").stat().st_mtime_ns
    if done.exists() and done.read_text() == str(version):
        return False
    log = stack.logs / "airflow-migrate.log"
    with log.open("ab") as file:
        finished = subprocess.run(
            [program(), "db", "migrate"],
            cwd=ROOT,
            env=dict(complete_environment),
            stdout=file,
            stderr=file,
            check=False,
        )
    if finished.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise StackError(f"airflow db migrate failed:\n{tail}\nnext: see {stack.shown(log)}, then make up again")
    done.write_text(str(version))
    return True


def answers(stack: Stack) -> bool:
    """Whether the API server is up."""
    try:
        _health(stack)
    except HttpError:
        return False
    return True


def wait_for_api(stack: Stack, deadline: float = API_SECONDS) -> None:
    """Wait until the API server answers. Raises StackError with the next command."""
    end = time.monotonic() + deadline
    while not answers(stack):
        if time.monotonic() > end:
            raise StackError(
                f"Airflow's API server does not answer at {stack.airflow_url} after {deadline:.0f} s, and no task can "
                "run without it\nnext: make logs COMPONENT=airflow-api"
            )
        time.sleep(0.5)


def heartbeat(stack: Stack, job: str) -> float:
    """When the scheduler or the dag_processor was last alive, in seconds since the epoch; 0.0 where nobody knows."""
    try:
        found = _health(stack).get(job) or {}
    except HttpError:
        return 0.0
    text = found.get(f"latest_{job}_heartbeat")
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _health(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = call("GET", f"{stack.airflow_url}/api/v2/monitor/health")
    return found


class Api:
    """Airflow's REST API, as its administrator."""

    def __init__(self, stack: Stack, passwords: Mapping[str, str]) -> None:
        self._stack = stack
        credentials = {"username": ADMIN, "password": passwords["airflow_admin"]}
        token = call("POST", f"{stack.airflow_url}/auth/token", credentials)["access_token"]
        self._authorization = f"Bearer {token}"

    def set_connection(self, emulator: Emulator) -> None:
        """The connection to the emulated cloud. It holds no secret: it names the key file."""
        described = emulator.connection()
        body = {
            "connection_id": CONNECTION,
            "conn_type": described["conn_type"],
            "extra": json.dumps(described["extra"]),
        }
        self._put("connections", CONNECTION, body)

    def set_variable(self, name: str, owned: Mapping[str, object], defaults: Mapping[str, object]) -> None:
        """A variable with these names; others that somebody has put into it stay, and win over the defaults.

        Except those that Airflow does not show, because their names sound like secrets: it holds ids, and no secrets.
        """
        there = self._found(f"variables/{name}")
        try:
            shown = json.loads(there["value"]) if there else {}
        except json.JSONDecodeError:
            shown = {}
        kept = {key: value for key, value in shown.items() if value != _MASK} if isinstance(shown, dict) else {}
        value = json.dumps({**defaults, **kept, **owned}, indent=2)
        self._put("variables", name, {"key": name, "value": value})

    def has_dag(self, dag: str) -> bool:
        return self._found(f"dags/{dag}") is not None

    def is_paused(self, dag: str) -> bool:
        found = self._found(f"dags/{dag}")
        return bool(found and found["is_paused"])

    def unpause(self, dag: str) -> None:
        self.request("PATCH", f"dags/{dag}?update_mask=is_paused", {"is_paused": False})

    def trigger(self, dag: str, name: str = "make_up") -> str:
        """Start a run now; returns its id."""
        run_id = f"{name}__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
        self.request("POST", f"dags/{dag}/dagRuns", {"dag_run_id": run_id, "logical_date": None})
        return run_id

    def clear(self, dag: str, run_id: str) -> None:
        """Let a run that has ended begin anew, with all of its tasks."""
        self.request("POST", f"dags/{dag}/dagRuns/{quote(run_id)}/clear", {"dry_run": False})

    def run_state(self, dag: str, run_id: str) -> str:
        return str(self.request("GET", f"dags/{dag}/dagRuns/{quote(run_id)}")["state"])

    def last_runs(self, dag: str, count: int = 1) -> list[dict[str, Any]]:
        """The newest runs, newest first."""
        answer = self._found(f"dags/{dag}/dagRuns?order_by=-run_after&limit={count}")
        return list(answer["dag_runs"]) if answer else []

    def next_run(self, dag: str) -> datetime | None:
        """When the schedule starts the next run; None where it does not say, as while the DAG is paused."""
        text = self.request("GET", f"dags/{dag}")["next_dagrun_run_after"]
        return datetime.fromisoformat(text) if text else None

    def tasks(self, dag: str, run_id: str) -> dict[str, str]:
        """Task → state, of those that have one."""
        answer = self.request("GET", f"dags/{dag}/dagRuns/{quote(run_id)}/taskInstances")
        return {task["task_id"]: task["state"] for task in answer["task_instances"] if task["state"]}

    def import_errors(self) -> str:
        """Why DAG files cannot be parsed; empty where they can."""
        return "\n".join(error["stack_trace"] for error in self.request("GET", "importErrors")["import_errors"])

    def task_log(self, dag: str, run_id: str, task: str) -> Path | None:
        """The file with what the last try of a task wrote."""
        folder = self._stack.logs / "airflow" / f"dag_id={dag}" / f"run_id={run_id}" / f"task_id={task}"
        return max(folder.glob("attempt=*.log"), default=None, key=lambda path: path.stat().st_mtime)

    def _put(self, kind: str, name: str, body: Mapping[str, object]) -> None:
        if self._found(f"{kind}/{name}") is None:
            self.request("POST", kind, body)
        else:
            self.request("PATCH", f"{kind}/{name}", body)

    def _found(self, path: str) -> Any:
        try:
            return self.request("GET", path)
        except HttpError as error:
            if error.status == 404:
                return None
            raise

    def request(self, method: str, path: str, body: object = None) -> Any:
        """One call; the path is the one below /api/v2/. Raises HttpError."""
        return call(method, f"{self._stack.airflow_url}/api/v2/{path}", body, self._authorization)


def wait_for_dag(api: Api, dag: str, deadline: float = 120.0) -> None:
    """Wait until the DAG processor has found a DAG. Raises StackError with what is wrong with its file."""
    end = time.monotonic() + deadline
    while not api.has_dag(dag):
        if time.monotonic() > end:
            errors = api.import_errors() or "its file is not in the bucket's folder dags/, or is not parsed yet"
            raise StackError(
                f"Airflow has no DAG {dag} after {deadline:.0f} s: {errors}\nnext: make logs COMPONENT=dag-processor"
            )
        time.sleep(1.0)
