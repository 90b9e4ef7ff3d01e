"""Copy named values of `.env` to the secrets of an environment of a GitHub repository, encrypted for it by PyGithub.

    python -m utils.push_secrets_to_github_repo --repository OWNER/NAME [--environment NAME] [--name NAME]… [--dry-run]

An environment's secrets are seen by its workflows alone, and only from the branches that it admits; a repository's by
every workflow of every branch. So the environment must exist, and admit chosen branches, before a secret is sent.

The token comes from GITHUB_TOKEN in the environment alone: it may write secrets, so it has no place in a file. Only the
names below go out, or those given; a `.env` holds more than a workflow needs to know.
"""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests
from github import Auth, Github, GithubException
from github.Environment import Environment

from deployment.errors import FAILED, UNREACHABLE, WRONG_ARGUMENTS, DeploymentError, log, run
from deployment.paths import ENV_FILE
from deployment.settings import read_env

NAMES = (
    "CODE_BUCKET",
    "S3_ENDPOINT",
    "DEPLOYER_SERVICE_ACCOUNT_ID",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)
"""What .github/workflows/deploy.yml reads; the last two only where workload identity is not used."""

_OPTIONAL = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DEPLOYER_SERVICE_ACCOUNT_ID", "S3_ENDPOINT"})
_FAILURES = (GithubException, requests.RequestException, RuntimeError)  # the last: a redirect to another host
_REPOSITORY = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
ENVIRONMENT = "production"
"""The environment of .github/workflows/deploy.yml."""
_API = "https://api.github.com"


def chosen_values(values: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The values of the named keys.

    Raises:
        DeploymentError: a name that was asked for has no value.
    """
    asked = names or [name for name in NAMES if values.get(name) or name not in _OPTIONAL]
    missing = [name for name in asked if not values.get(name)]
    if missing:
        raise DeploymentError(f".env has no {', '.join(missing)}; next: make env", WRONG_ARGUMENTS)
    return {name: values[name] for name in asked}


def push(repository: str, environment: str, values: Mapping[str, str], token: str, api: str = _API) -> None:
    """Create or replace the environment's secrets.

    Raises:
        DeploymentError: the repository cannot be reached, its environment admits every branch, or some secrets were not
            sent; each of them is listed.
    """
    place = f"{repository}, environment {environment}"
    with Github(auth=Auth.Token(token), base_url=api, retry=None, seconds_between_writes=None) as client:
        try:
            target = client.get_repo(repository).get_environment(environment)
            _require_protected(target, place)
        except _FAILURES as error:
            raise DeploymentError(f"{_reason(error, api)}; {_next(repository)}", _exit_code(error)) from error
        failed: dict[str, Exception] = {}
        for name, value in values.items():
            try:
                target.create_secret(name, value)
            except _FAILURES as error:
                failed[name] = error
            else:
                log(f"{name}: sent to {place}")
    if failed:
        listed = "\n".join(f"  {name}: {_reason(error, api)}" for name, error in failed.items())
        raise DeploymentError(
            f"{len(failed)} of {len(values)} secrets were not sent:\n{listed}\n{_next(repository)}",
            max(map(_exit_code, failed.values())),
        )


def _require_protected(environment: Environment, place: str) -> None:
    """Raise DeploymentError unless the environment admits chosen branches alone; log if nobody has to approve."""
    if environment.deployment_branch_policy is None:
        raise DeploymentError(
            f"{place} admits every branch, so whoever can push one could use its secrets; nothing was sent; "
            "next: Settings → Environments → Deployment branches: main (docs/deploy.md#deploy-from-github)"
        )
    if not any(rule.type == "required_reviewers" for rule in environment.protection_rules or ()):
        log(f"{place} has no required reviewers: a merge to main deploys by itself")


def _reason(error: Exception, api: str) -> str:
    if isinstance(error, GithubException):
        detail = error.data.get("message", "") if isinstance(error.data, dict) else ""
        return f"GitHub refused ({error.status} {detail})"
    return f"{api} cannot be reached: {error}"


def _exit_code(error: Exception) -> int:
    return FAILED if isinstance(error, GithubException) else UNREACHABLE


def _next(repository: str) -> str:
    return (
        f"next: check that {repository} has the environment, and that GITHUB_TOKEN may write its secrets; "
        "then run the command again"
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description="Copy named values of .env to the secrets of a GitHub repository.")
    parser.add_argument("--repository", default=os.environ.get("GITHUB_REPOSITORY", ""), help="OWNER/NAME")
    parser.add_argument("--environment", default=ENVIRONMENT, help=f"default {ENVIRONMENT}")
    parser.add_argument("--name", action="append", default=[], help="a name of .env; may be repeated")
    parser.add_argument("--env", type=Path, default=ENV_FILE)
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be sent, without values, and send nothing"
    )
    chosen = parser.parse_args()
    if not _REPOSITORY.fullmatch(chosen.repository):
        raise DeploymentError(
            f"the repository is {chosen.repository!r}; expected --repository OWNER/NAME, or GITHUB_REPOSITORY",
            WRONG_ARGUMENTS,
        )
    values = chosen_values(read_env(chosen.env), chosen.name)
    if chosen.dry_run:
        for name, value in values.items():
            place = f"{chosen.repository}, environment {chosen.environment}"
            log(f"{name}: {len(value)} characters would be sent to {place}")
        return
    token = os.environ.get("GITHUB_TOKEN", "")
    if not token:
        raise DeploymentError(
            "GITHUB_TOKEN is not set in the environment (not in .env, not as an argument)", WRONG_ARGUMENTS
        )
    push(chosen.repository, chosen.environment, values, token, os.environ.get("GITHUB_API_URL", _API))


if __name__ == "__main__":
    run(_main)
