"""`make import-variables`: variables.json → Airflow's variables, through its REST API.

It also creates the connection to the cloud that the variables name, if it does not exist: without it no task can run.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from deployment.airflow import Access, Airflow
from deployment.errors import DeploymentError, log, run
from deployment.paths import ENV_FILE, VARIABLES, given_path
from deployment.settings import load


def import_variables(airflow: Airflow, content: Mapping[str, object]) -> None:
    """Create or replace these variables; others are not changed."""
    for name, value in content.items():
        created = airflow.put_variable(name, value)
        size = f"{len(value)} settings" if isinstance(value, dict) else "1 value"
        log(f"{name}: {'created' if created else 'replaced'}, {size}")


def create_connections(airflow: Airflow, content: Mapping[str, object], public_ssh_key: str) -> None:
    """Create the connections to the cloud that the variables name; an existing one is not changed."""
    extra = {"public_ssh_key": public_ssh_key} if public_ssh_key else {}
    for settings in content.values():
        name = settings.get("connection") if isinstance(settings, dict) else None
        if isinstance(name, str) and name:
            log(f"connection {name}: {'created' if airflow.create_connection(name, extra) else 'exists'}")


def require_host_access(content: Mapping[str, object], public_ssh_key: str) -> None:
    """Raise DeploymentError unless somebody can log in to hosts: Data Proc creates no cluster without that."""
    for name, settings in content.items():
        if isinstance(settings, dict) and settings.get("os_login") is False and not public_ssh_key:
            raise DeploymentError(
                f"{name}.os_login is off and PUBLIC_SSH_KEY is not set: Data Proc needs one of them; "
                "next: put PUBLIC_SSH_KEY='ssh-ed25519 …' into .env, or leave dataproc.os_login at true "
                "in terraform.tfvars and make apply env"
            )


def silences(content: Mapping[str, object]) -> list[str]:
    """What nobody will be notified of with these variables, each with how to change that."""
    found = []
    for name, settings in content.items():
        if isinstance(settings, dict) and not settings.get("webhook_connection"):
            found.append(
                f"nobody will be notified of failed runs, promotions or models that wait for approval: {name}."
                "webhook_connection is empty; next: docs/orchestration.md#settings, then retraining = "
                "{ webhook_connection = … } in terraform.tfvars and make apply env import-variables"
            )
        if isinstance(settings, dict) and not settings.get("heartbeat_connection"):
            found.append(
                f"nobody will notice if Airflow itself stops: {name}.heartbeat_connection is empty; next: likewise, "
                "with the address of a monitor outside Airflow"
            )
    return found


def read(path: Path) -> dict[str, object]:
    """The content of a variables.json. Raises DeploymentError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DeploymentError(f"{path} does not exist; next: make env") from error
    except json.JSONDecodeError as error:
        raise DeploymentError(f"{path} is not JSON: {error}; next: make env") from error
    if not isinstance(content, dict) or not content:
        raise DeploymentError(f"{path} contains no variables; expected an object of names and values; next: make env")
    return content


def _main() -> None:
    parser = argparse.ArgumentParser(description="Load variables.json into Airflow.")
    parser.add_argument("--check", action="store_true", help="only check that everything needed is set")
    parser.add_argument("--silences", action="store_true", help="only say what nobody will be notified of")
    parser.add_argument("--env", type=given_path, default=ENV_FILE)
    parser.add_argument("--file", type=given_path, default=VARIABLES)
    chosen = parser.parse_args()
    content, settings = read(chosen.file), load(chosen.env)
    if chosen.silences:
        for line in silences(content):
            log(line)
        return
    access = Access.of(settings)
    public_ssh_key = settings.get("PUBLIC_SSH_KEY", "")
    require_host_access(content, public_ssh_key)
    if chosen.check:
        access.cloud_token()
        log("password, token and access to hosts: all set")
        return
    airflow = access.connect()
    import_variables(airflow, content)
    create_connections(airflow, content, public_ssh_key)


if __name__ == "__main__":
    run(_main)
