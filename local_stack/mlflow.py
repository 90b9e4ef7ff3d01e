"""MLflow's server: PostgreSQL under it, accounts with passwords, artifacts in a folder that it serves itself."""

from collections.abc import Mapping
from typing import Any

from deployment.http import HttpError, basic, call, is_up
from local_stack import postgres
from local_stack.passwords import write_private
from local_stack.settings import MODEL, ROOT, Stack, StackError

ADMIN = "admin"
JOB = "job"
"""The account of the retraining job: it owns what it makes, and manages no users."""

_PROGRAM = ROOT / ".venv-mlflow" / "bin" / "mlflow"


def command(stack: Stack) -> list[str]:
    """The server; whatever is secret is in its environment."""
    where = ["--host", "127.0.0.1", "--port", str(stack.ports["MLFLOW_PORT"]), "--workers", "1"]
    return [str(_PROGRAM), "server", "--app-name", "basic-auth", "--serve-artifacts", *where]


def environment(stack: Stack, passwords: Mapping[str, str]) -> dict[str, str]:
    """The server's environment. Writes the file with the first administrator, which is read by it alone."""
    config = stack.mlflow / "basic_auth.ini"
    accounts = postgres.url(stack, "mlflow_auth", passwords["postgres_mlflow_auth"])
    write_private(
        config,
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {accounts}\n"
        f"admin_username = {ADMIN}\nadmin_password = {passwords['mlflow_admin']}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
    )
    port = stack.ports["MLFLOW_PORT"]
    return {
        "MLFLOW_BACKEND_STORE_URI": postgres.url(stack, "mlflow", passwords["postgres_mlflow"]),
        "MLFLOW_ARTIFACTS_DESTINATION": (stack.mlflow / "artifacts").as_uri(),
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": passwords["mlflow_session_key"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port},localhost:{port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def answers(stack: Stack) -> bool:
    """Whether the server is up."""
    return is_up(f"{stack.mlflow_url}/health")


def make_job_account(stack: Stack, passwords: Mapping[str, str]) -> None:
    """The job's own account, with the password of the file.

    Raises:
        StackError: the administrator's password is not the one in the file.
    """
    account = {"username": JOB, "password": passwords["mlflow_job"]}
    try:
        _call(stack, passwords, "POST", "users/create", account)
    except HttpError as error:
        if "RESOURCE_ALREADY_EXISTS" not in str(error):
            raise StackError(f"MLflow refuses to make the job's account: {error}") from error


def champion(stack: Stack, passwords: Mapping[str, str]) -> str | None:
    """The version of the model in service; None before the first."""
    try:
        query = f"registered-models/alias?name={MODEL}&alias=champion"
        found = _call(stack, passwords, "GET", query)
    except HttpError as error:
        if error.status == 404 or (error.status == 400 and "alias" in str(error)):
            return None
        raise StackError(f"MLflow cannot be asked for the champion: {error}") from error
    return str(found["model_version"]["version"])


def _call(stack: Stack, passwords: Mapping[str, str], method: str, path: str, body: object = None) -> Any:
    address = f"{stack.mlflow_url}/api/2.0/mlflow/{path}"
    return call(method, address, body, {"Authorization": basic(ADMIN, passwords["mlflow_admin"])})
