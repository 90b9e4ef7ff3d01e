"""The settings in `.env`: names and addresses from Terraform, and perhaps secrets of this developer machine."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from deployment.errors import WRONG_ARGUMENTS, DeploymentError
from deployment.paths import ENV_FILE

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


def read_env(path: Path = ENV_FILE) -> dict[str, str]:
    """Names and values of a `.env` file; empty if there is no file.

    Quotes and comments are a shell's. Beyond a shell, words without quotes are one value: SCHEDULE=*/10 * * * *

    Raises:
        DeploymentError: a line cannot be read. It is not repeated: it may hold a secret.
    """
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        try:
            words = shlex.split(match[2], comments=True) if match else None
        except ValueError:
            words = None
        if match is None or words is None:
            raise DeploymentError(f"{path}, line {number}: expected NAME=value, with every quote closed")
        found[match[1]] = " ".join(words)
    return found


def load(path: Path = ENV_FILE) -> dict[str, str]:
    """The file's settings; environment variables override them."""
    return {**read_env(path), **os.environ}


def needed(settings: Mapping[str, str], name: str, next_command: str = "make env") -> str:
    """A required setting. Raises DeploymentError if it is not set."""
    value = settings.get(name, "")
    if not value:
        raise DeploymentError(f"{name} is not set, neither in .env nor outside; next: {next_command}", WRONG_ARGUMENTS)
    return value
