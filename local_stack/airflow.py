"""Airflow on PostgreSQL with the LocalExecutor, kept small; its DAGs are in the bucket, as in Managed Airflow."""

import json
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from deployment.airflow import MASKED, Airflow
from deployment.http import HttpError, call, is_up
from emulator.client import Emulator
from local_stack import postgres
from local_stack.passwords import write_private
from local_stack.settings import AIRFLOW_PREFIX, ROOT, Stack, StackError

ADMIN = "admin"
CONNECTION = "yandexcloud_default"
API_SECONDS = 120.0  # that the scheduler waits for the API server, before supervisord starts it again
_DAG_SECONDS = 120.0  # that a DAG may take to be found
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
        # There is only one scheduler, so a missing heartbeat means that it is lost: its tasks are taken over sooner.
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
    """Bring the database to this Airflow's tables; True if there was anything to do.

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
    return is_up(_health_url(stack))


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
    """When the scheduler or the dag_processor was last alive, in seconds since the epoch; 0.0 if unknown."""
    try:
        health: dict[str, Any] = call("GET", _health_url(stack))
        found = health.get(job) or {}
    except HttpError:
        return 0.0
    text = found.get(f"latest_{job}_heartbeat")
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _health_url(stack: Stack) -> str:
    return f"{stack.airflow_url}/api/v2/monitor/health"


def connect(stack: Stack, passwords: Mapping[str, str]) -> Airflow:
    """Airflow's REST API, as its administrator."""
    return Airflow(stack.airflow_url, ADMIN, passwords["airflow_admin"])


def set_connection(api: Airflow, emulator: Emulator) -> None:
    """Set the connection to the emulated cloud. It contains no secret: it names the key file."""
    described = emulator.connection()
    body = {
        "connection_id": CONNECTION,
        "conn_type": described["conn_type"],
        "extra": json.dumps(described["extra"]),
    }
    api.put("connections", CONNECTION, body)


def merge_variable(api: Airflow, name: str, owned: Mapping[str, object]) -> None:
    """Set the owned entries of a variable; entries that a user has added are kept.

    Airflow masks entries whose names sound like secrets. They are not kept: the variable holds ids, and no secrets.
    """
    found = api.find(f"variables/{name}")
    try:
        shown = json.loads(found["value"]) if found else {}
    except json.JSONDecodeError:
        shown = {}
    kept = {key: value for key, value in shown.items() if value != MASKED} if isinstance(shown, dict) else {}
    api.put_variable(name, {**kept, **owned})


def task_log(stack: Stack, dag: str, run_id: str, task: str) -> Path | None:
    """The log file of a task's last try."""
    folder = stack.logs / "airflow" / f"dag_id={dag}" / f"run_id={run_id}" / f"task_id={task}"
    return max(folder.glob("attempt=*.log"), default=None, key=lambda path: path.stat().st_mtime)


def wait_for_dag(api: Airflow, dag: str) -> None:
    """Wait until the DAG processor has found a DAG. Raises StackError with what is wrong with its file."""
    end = time.monotonic() + _DAG_SECONDS
    while not api.has_dag(dag):
        if time.monotonic() > end:
            errors = api.import_errors() or "its file is not in the bucket's folder dags/, or is not parsed yet"
            raise StackError(
                f"Airflow has no DAG {dag} after {_DAG_SECONDS:.0f} s: {errors}\n"
                "next: make logs COMPONENT=dag-processor"
            )
        time.sleep(1.0)
