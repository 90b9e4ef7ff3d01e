"""Look at the cloud through yc: `python -m deployment.watch instances|airflow`."""

import argparse
import os
import sys
from collections.abc import Mapping

from deployment.errors import run
from deployment.identity import yc
from deployment.paths import ENV_FILE, given_path
from deployment.settings import load, needed


def command(what: str, settings: Mapping[str, str]) -> list[str]:
    """What yc is asked: the folder's machines, or Airflow's log as it grows."""
    if what == "instances":
        return ["compute", "instance", "list", "--folder-id", needed(settings, "FOLDER_ID")]
    return ["logging", "read", "--group-id", needed(settings, "AIRFLOW_LOG_GROUP_ID"), "--follow"]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Look at the cloud through yc.")
    parser.add_argument("what", choices=("instances", "airflow"))
    parser.add_argument("--env", type=given_path, default=ENV_FILE)
    chosen = parser.parse_args()
    program, arguments = yc(), command(chosen.what, load(chosen.env))
    sys.stdout.flush()
    os.execv(program, [program, *arguments])  # noqa: S606  # yc takes this process's place, with its exit code


if __name__ == "__main__":
    run(_main)
