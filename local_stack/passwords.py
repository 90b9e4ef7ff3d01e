"""The stack's passwords: generated once, kept in one file that only its owner can read."""

import base64
import json
import secrets
from pathlib import Path

from deployment.paths import write_atomic
from local_stack.settings import StackError

_NAMES = (
    "postgres",
    "postgres_airflow",
    "postgres_mlflow",
    "postgres_mlflow_auth",
    "mlflow_admin",
    "mlflow_job",
    "mlflow_session_key",
    "airflow_admin",
    "airflow_session_key",
    "airflow_token_key",
    "airflow_fernet_key",
)


def passwords(path: Path) -> dict[str, str]:
    """Name → password. Missing ones are generated, the others are kept.

    Raises:
        StackError: the file cannot be read.
    """
    found = _read(path)
    missing = [name for name in _NAMES if name not in found]
    if missing:
        found |= {name: _generated(name) for name in missing}
        write_private(path, json.dumps(found, indent=2) + "\n")
    path.chmod(0o600)
    return found


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner can read it."""
    write_atomic(path, text.encode(), mode=0o600)


def _read(path: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, json.JSONDecodeError) as error:
        raise StackError(f"the passwords of the stack cannot be read from {path}: {error}") from error
    return found


def _generated(name: str) -> str:
    if name.endswith("fernet_key"):
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    if name.endswith("token_key"):
        return secrets.token_urlsafe(64)  # SHA-512's own length: Airflow warns of less
    return secrets.token_urlsafe(24)
