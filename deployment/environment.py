"""`make env`: Terraform's outputs → `.env` for this machine, and `variables.json` for Airflow.

    terraform -chdir=infra output -json | python -m deployment.environment

Other lines of `.env` are kept: the local stack's settings, secrets of this machine. `variables.json` is the output
`variables`, unchanged; it must not contain a secret.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployment.errors import DeploymentError, log, run
from deployment.paths import ENV_FILE, VARIABLES, VARIABLES_EXAMPLE, given_path, shown, write_atomic
from deployment.settings import read_env

# Name in .env: the output it comes from, and the way into that.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "AIRFLOW_ID": ("airflow_id",),
    "AIRFLOW_URL": ("airflow_url",),
    "AIRFLOW_LOG_GROUP_ID": ("log_group_ids", "airflow"),
    "DATAPROC_LOG_GROUP_ID": ("log_group_ids", "dataproc"),
    "MLFLOW_URL": ("mlflow_url",),
    "MLFLOW_ADMIN_SECRET_ID": ("mlflow_admin_secret_id",),
    "POSTGRES_ID": ("postgres_id",),
    "CODE_BUCKET": ("bucket_names", "code"),
    "INPUT_BUCKET": ("bucket_names", "input"),
    "OUTPUT_BUCKET": ("bucket_names", "output"),
    "DEPLOYER_SECRET_ID": ("deployer_secret_id",),
    "DEPLOYER_SERVICE_ACCOUNT_ID": ("service_account_ids", "deployer"),
    "FOLDER_ID": ("variables", "fraud_detection", "folder_id"),
    "S3_ENDPOINT": ("variables", "fraud_detection", "storage_endpoint"),
}
VARIABLES_OUTPUT = "variables"

_HEADER = "# From Terraform's outputs (make env); changes below are overwritten, other lines of this file are kept."
# What secrets look like: a name that says so (the id of a secret is none), or a value of a form that only they have.
_SECRET_NAME = re.compile(r"(password|token|secret|private_key|access_key|credential)(?!.*_id$)", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"-----BEGIN|^(t1\.|y[0-3]_|AQVN|YCAJ|YCN?[PM])[\w.=-]{16,}|://[^\s:@]*:.*@")


def env_values(outputs: Mapping[str, Any]) -> dict[str, str]:
    """The names of `.env` that Terraform knows.

    Raises:
        DeploymentError: outputs are missing; all of them are named.
    """
    found = {name: _at(outputs, way) for name, way in OUTPUTS.items()}
    missing = sorted(
        ".".join(OUTPUTS[name]) for name, value in found.items() if not isinstance(value, str) or not value
    )
    if missing:
        raise DeploymentError(f"terraform's outputs lack {', '.join(missing)}; next: make apply, then make env")
    return {name: str(value) for name, value in found.items()}


def variables(outputs: Mapping[str, Any], example: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `variables.json`, with exactly the example's names.

    Raises:
        DeploymentError: a name is missing or unknown, or something in it is secret.
    """
    output = outputs.get(VARIABLES_OUTPUT)
    if not isinstance(output, dict) or not isinstance(output.get("value"), dict):
        raise DeploymentError(f"terraform has no output {VARIABLES_OUTPUT}; next: make apply, then make env")
    if output.get("sensitive"):
        raise DeploymentError(
            f"terraform's output {VARIABLES_OUTPUT} is marked sensitive: Airflow shows its variables, so nothing "
            "secret may be in them; secrets belong in Lockbox"
        )
    found: dict[str, Any] = output["value"]
    differences = [*_differences(found, example, "")]
    if differences:
        raise DeploymentError(
            f"terraform's output {VARIABLES_OUTPUT} and variables.json.example disagree: {'; '.join(differences)}"
        )
    if secret := [*_secrets(found, "")]:
        raise DeploymentError(
            f"{', '.join(secret)} of terraform's output {VARIABLES_OUTPUT} look secret; put the id of "
            "a Lockbox secret there instead"
        )
    return found


def merged(old: str, values: Mapping[str, str]) -> str:
    """The text of a `.env` file with new values for these names; every other line stays as it is."""
    kept = [line for line in old.splitlines() if line != _HEADER and _name_of(line) not in values]
    while kept and not kept[-1].strip():
        kept.pop()
    new = [_HEADER, *(f"{name}={shlex.quote(value)}" for name, value in values.items())]
    return "\n".join([*kept, *([""] if kept else []), *new, ""])


def _name_of(line: str) -> str:
    match = re.match(r"\s*(?:export\s+)?(\w+)=", line)
    return match[1] if match else ""


def _at(outputs: Mapping[str, Any], way: tuple[str, ...]) -> Any:
    found: Any = outputs.get(way[0], {}).get("value")
    for name in way[1:]:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _differences(found: Mapping[str, Any], example: Mapping[str, Any], above: str) -> list[str]:
    """Names that only one of two has, at the levels that Airflow's templates address: the variable and its settings."""
    lines = [f"{above}{name} is missing" for name in sorted(example.keys() - found.keys())]
    lines += [f"{above}{name} is unknown" for name in sorted(found.keys() - example.keys())]
    if not above:
        for name in sorted(found.keys() & example.keys()):
            if isinstance(found[name], dict) and isinstance(example[name], dict):
                lines += _differences(found[name], example[name], f"{name}.")
    return lines


def _secrets(found: Mapping[str, Any], above: str) -> list[str]:
    names = []
    for name, value in found.items():
        if isinstance(value, dict):
            names += _secrets(value, f"{above}{name}.")
        elif isinstance(value, str) and value and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value)):
            names.append(f"{above}{name}")
    return names


def write(outputs: Mapping[str, Any], env_file: Path, variables_file: Path, example_file: Path) -> None:
    """Write both files, or neither where the outputs do not fit."""
    example = json.loads(example_file.read_text(encoding="utf-8"))
    values, content = env_values(outputs), variables(outputs, example)
    read_env(env_file)  # an unreadable line is reported here, not by the next command
    old = env_file.read_text(encoding="utf-8") if env_file.exists() else ""
    write_atomic(env_file, merged(old, values).encode(), mode=0o600)
    write_atomic(variables_file, (json.dumps(content, indent=2) + "\n").encode())
    log(f"{shown(env_file)}: {len(values)} names, readable only by you")
    log(f"{shown(variables_file)}: {', '.join(content)}; next: make import-variables")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write .env and variables.json from `terraform output -json`.")
    parser.add_argument(
        "--outputs", type=given_path, help="file with the outputs; without it they are read from standard input"
    )
    parser.add_argument("--env", type=given_path, default=ENV_FILE)
    parser.add_argument("--variables", type=given_path, default=VARIABLES)
    parser.add_argument("--example", type=given_path, default=VARIABLES_EXAMPLE)
    chosen = parser.parse_args()
    text = chosen.outputs.read_text(encoding="utf-8") if chosen.outputs else sys.stdin.read()
    try:
        outputs = json.loads(text)
    except json.JSONDecodeError as error:
        raise DeploymentError("terraform's outputs are not JSON; next: terraform -chdir=infra output -json") from error
    if not outputs:
        raise DeploymentError("terraform has no outputs: nothing has been created yet; next: make apply, then make env")
    write(outputs, chosen.env, chosen.variables, chosen.example)


if __name__ == "__main__":
    run(_main)
