"""Secrets of the repository: a local GitHub decrypts what it receives, with a private key that only it has."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.http_services import Asked, Service, service
from nacl.encoding import Base64Encoder
from nacl.public import PrivateKey, SealedBox

from deployment.errors import DeploymentError
from deployment.paths import ROOT
from utils.push_secrets_to_github_repo import chosen_values, push

TOKEN = "ghp_only-in-this-test"  # noqa: S105
ENV = "CODE_BUCKET=acme-fraud-code\nAWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY='geheim $x'\nMLFLOW_PASSWORD=own\n"


@contextmanager
def github(
    status: int = 201, refused: str = "", branches: object = None, reviewers: bool = True
) -> Iterator[tuple[Service, dict[str, str]]]:
    """GitHub's secrets API for the environment of one repository, and the secrets that it holds."""
    branches = {"protected_branches": True, "custom_branch_policies": False} if branches is None else branches
    private, held = PrivateKey.generate(), dict[str, str]()

    def answer(asked: Asked) -> tuple[int, object]:
        if asked.headers.get("Authorization") != f"token {TOKEN}":
            return 401, {"message": "Bad credentials"}
        if asked.path.endswith("/environments/production"):
            rules = [{"id": 1, "type": "required_reviewers", "reviewers": []}] if reviewers else []
            return 200, {"name": "production", "protection_rules": rules, "deployment_branch_policy": branches or None}
        if asked.path.endswith("/environments/production/secrets/public-key"):
            return 200, {"key_id": "42", "key": private.public_key.encode(Base64Encoder).decode()}
        if asked.method == "PUT" and "/environments/production/secrets/" in asked.path:
            body = json.loads(asked.body)
            assert body["key_id"] == "42"
            name = asked.path.rpartition("/")[2]
            if name == refused:
                return 422, {"message": "Validation Failed"}
            if status < 300:
                held[name] = SealedBox(private).decrypt(b64decode(body["encrypted_value"])).decode()
            return status, {} if status < 300 else {"message": "Resource not accessible by personal access token"}
        return 200, {"full_name": "acme/fraud", "url": f"{fake.url}/repos/acme/fraud"}

    with service(answer) as fake:
        yield fake, held


def command(tmp_path: Path, fake: Service, *options: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    (tmp_path / ".env").write_text(ENV)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    environment |= {"GITHUB_API_URL": fake.url, **({"GITHUB_TOKEN": token} if token else {})}
    words = [sys.executable, "-m", "utils.push_secrets_to_github_repo", "--env", str(tmp_path / ".env"), *options]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_named_values_arrive_decryptable_and_no_others(tmp_path: Path) -> None:
    """Fails when the deploy workflow gets no key, or GitHub also gets the password of Airflow's administrator."""
    with github() as (fake, held):
        done = command(tmp_path, fake, "--repository", "acme/fraud")
    assert done.returncode == 0, done.stderr
    assert held == {"CODE_BUCKET": "acme-fraud-code", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "geheim $x"}
    assert not [asked for asked in fake.asked if "geheim" in asked.body + asked.path], "sent in the clear"
    assert "geheim" not in done.stdout + done.stderr


def test_only_the_names_asked_for_go_out(tmp_path: Path) -> None:
    """Fails when --name sends other secrets than the named one."""
    with github() as (fake, held):
        done = command(tmp_path, fake, "--repository", "acme/fraud", "--name", "CODE_BUCKET")
    assert (done.returncode, held) == (0, {"CODE_BUCKET": "acme-fraud-code"})


def test_a_dry_run_sends_nothing_and_needs_no_token(tmp_path: Path) -> None:
    """Fails when a dry run changes the repository's secrets or prints one."""
    with github() as (fake, _):
        done = command(tmp_path, fake, "--repository", "acme/fraud", "--dry-run", token="")
    assert done.returncode == 0, done.stderr
    assert fake.asked == []
    assert "AWS_SECRET_ACCESS_KEY: 9 characters would be sent to acme/fraud, environment production" in done.stdout
    assert "geheim" not in done.stdout


@pytest.mark.parametrize(
    ("options", "token", "said"),
    [
        (("--repository", "acme/fraud"), "", "GITHUB_TOKEN is not set"),
        (("--repository", "acme"), TOKEN, "expected --repository OWNER/NAME"),
        (("--repository", "acme/fraud", "--name", "NOT_THERE"), TOKEN, ".env has no NOT_THERE"),
        (("--repository", "acme/fraud"), "other", "GitHub refused (401 Bad credentials)"),
    ],
)
def test_a_fault_is_reported_in_a_sentence(options: tuple[str, ...], token: str, said: str, tmp_path: Path) -> None:
    """Fails when a missing token or a wrong option ends in a stack trace instead of what to set."""
    with github() as (fake, held):
        done = command(tmp_path, fake, *options, token=token)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert held == {}


def test_a_token_that_may_not_write_is_reported(tmp_path: Path) -> None:
    """Fails when a secret that GitHub refused looks as if it were stored."""
    with github(status=403) as (fake, _), pytest.raises(DeploymentError, match="may write its secrets"):
        push("acme/fraud", "production", {"A": "b"}, TOKEN, fake.url)


def test_secrets_after_a_refused_one_are_sent_and_the_refused_one_is_listed(tmp_path: Path) -> None:
    """Fails when one secret that GitHub refuses leaves the workflow without those after it, or is not named."""
    with github(refused="AWS_ACCESS_KEY_ID") as (fake, held):
        done = command(tmp_path, fake, "--repository", "acme/fraud")
    assert done.returncode == 1
    assert held == {"CODE_BUCKET": "acme-fraud-code", "AWS_SECRET_ACCESS_KEY": "geheim $x"}
    assert "1 of 3 secrets were not sent:\n  AWS_ACCESS_KEY_ID: GitHub refused (422 Validation Failed)" in done.stderr
    assert "geheim" not in done.stdout + done.stderr


def test_a_value_that_must_be_there_is_missed() -> None:
    """Fails when the workflow would deploy to a bucket without a name."""
    with pytest.raises(DeploymentError, match="has no CODE_BUCKET"):
        chosen_values({"AWS_ACCESS_KEY_ID": "key"}, [])


def test_an_environment_that_admits_every_branch_gets_no_secret(tmp_path: Path) -> None:
    """Fails when whoever can push a branch can use the bucket's key, because the environment was made unprotected."""
    with github(branches=False) as (fake, held):
        done = command(tmp_path, fake, "--repository", "acme/fraud")
    assert (done.returncode, held) == (1, {})
    assert "admits every branch" in done.stderr
    assert "next: Settings → Environments → Deployment branches: main" in done.stderr


def test_an_environment_without_reviewers_is_mentioned(tmp_path: Path) -> None:
    """Fails when nobody learns that a merge deploys without a second person."""
    with github(reviewers=False) as (fake, held):
        done = command(tmp_path, fake, "--repository", "acme/fraud")
    assert done.returncode == 0, done.stderr
    assert len(held) == 3
    assert "has no required reviewers: a merge to main deploys by itself" in done.stdout
