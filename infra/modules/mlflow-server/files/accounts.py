"""Make MLflow's account of the retraining job, or give it the password that Lockbox has now.

    python accounts.py SETTINGS.json

The service runs it again until the server answers.
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from typing import Any

from serve import DIRECT, password, read_settings

ADMIN, JOB = "admin", "job"
_TIMEOUT = 30.0


def call(settings: dict[str, Any], method: str, verb: str, body: dict[str, str]) -> None:
    """One call of MLflow's accounts, as its administrator. Raises urllib.error.HTTPError where MLflow refuses."""
    user = f"{ADMIN}:{password(settings, 'admin')}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings['port']}/api/2.0/mlflow/users/{verb}",
        data=json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(user.encode()).decode(),
        },
        method=method,
    )
    with DIRECT.open(request, timeout=_TIMEOUT) as answer:
        answer.read()


def main(path: str) -> None:
    """Create the account; where it is there already, renew its password."""
    settings = read_settings(path)
    account = {"username": JOB, "password": password(settings, "job")}
    try:
        call(settings, "POST", "create", account)
    except urllib.error.HTTPError as error:
        if b"RESOURCE_ALREADY_EXISTS" not in error.read():
            raise
        call(settings, "PATCH", "update-password", account)


if __name__ == "__main__":
    main(sys.argv[1])
