"""No token, key or password reaches the address that a redirect names, whoever sends the request."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from fakes.object_storage import TOKEN, Metadata, use
from fakes.redirects import Redirection, redirecting

from deployment.errors import DeploymentError
from deployment.http import HttpError, call
from fraud_detection import storage
from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.connection import Connection
from fraud_detection.storage import session
from fraud_detection.yandex import lockbox
from fraud_detection.yandex.iam import IamTokens, NoMetadataError
from utils.push_secrets_to_github_repo import push

SECRET = "not-to-be-seen-4711"  # noqa: S105


@pytest.fixture(params=[302, 307])
def redirect(request: pytest.FixtureRequest) -> Iterator[Redirection]:
    with redirecting(request.param) as found:
        yield found
        assert found.asked, "nothing was asked, so nothing was tested"
        assert found.followed == []


def test_lockbox_is_asked_at_its_own_address_alone(redirect: Redirection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the job's IAM token is sent to the target of a redirect, which could act as the job for hours."""
    for name in (lockbox.USERNAME, lockbox.PASSWORD):
        monkeypatch.delenv(name, raising=False)
    with Metadata().running() as metadata:
        monkeypatch.setenv("YC_METADATA_ADDR", metadata.address)
        monkeypatch.setenv("YC_LOCKBOX_ENDPOINT", redirect.url)
        monkeypatch.setenv(lockbox.SECRET_ID, "e6q0secret")
        with pytest.raises(FraudDetectionError, match="a redirect, which is not followed with a token"):
            lockbox.take_from_lockbox()
    assert TOKEN in redirect.asked[0]


def test_a_token_comes_from_the_metadata_alone(redirect: Redirection) -> None:
    """Fails when a redirect of the metadata endpoint gives the job somebody else's token."""
    with pytest.raises(NoMetadataError, match="answers 30"):
        IamTokens(redirect.url.removeprefix("http://")).current()


def test_the_storage_is_asked_at_its_own_address_alone(redirect: Redirection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the job's IAM token is sent to another host by a redirect of the object storage."""
    with Metadata().running() as metadata:
        use(monkeypatch, AWS_ENDPOINT_URL_S3=redirect.url, YC_METADATA_ADDR=metadata.address)
        with pytest.raises(FraudDetectionError, match="a redirect, which is not followed"):
            storage.open_folder("s3a://bucket/output").read("a")
        with pytest.raises(FraudDetectionError, match="a redirect, which is not followed"):
            storage.open_folder("s3a://bucket/output").write_once("a", b"1")
    assert TOKEN in redirect.asked[0]


@pytest.mark.parametrize(
    ("endpoint", "trusted"),
    [
        ("https://storage.yandexcloud.net", True),
        ("https://storage.yandexcloud.net/", True),
        ("http://storage.yandexcloud.net", False),
        ("https://d5d0of.apigw.yandexcloud.net", False),
        ("https://storage.yandexcloud.net.evil.example", False),
    ],
)
def test_only_yandexs_storage_gets_a_token(endpoint: str, trusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a host that any customer of the cloud can have, or an unencrypted connection, gets the token."""
    with Metadata().running() as metadata:
        monkeypatch.setattr(session, "DEFAULT_ADDRESS", metadata.address)
        use(monkeypatch, AWS_ENDPOINT_URL_S3=endpoint)
        assert (session._tokens() is not None) is trusted


def test_mlflow_is_asked_at_its_own_address_alone(redirect: Redirection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when MLflow's password or a run's content follows a redirect to another host."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "job")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    connection = Connection(redirect.url, "fraud_detection")
    with pytest.raises(FraudDetectionError, match=redirect.url), connection.translate_errors():
        _ = connection.experiment_id


def test_the_deployments_requests_follow_no_redirect(redirect: Redirection) -> None:
    """Fails when Airflow's password, in a body, or the IAM token, in a header, is sent to another host."""
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Cloud-Authorization": f"Bearer {TOKEN}"}
    with pytest.raises(HttpError, match="to localhost, which is not followed"):
        call("POST", f"{redirect.url}/auth/token", {"password": SECRET}, headers)
    with pytest.raises(HttpError, match="to localhost, which is not followed"):
        call("GET", redirect.url, headers=headers)
    assert SECRET in redirect.asked[0]


def test_github_is_asked_at_its_own_address_alone() -> None:
    """Fails when the token that may write a repository's secrets follows a redirect, or the command crashes."""
    with redirecting(301) as redirect:  # what GitHub answers for a repository that was renamed
        with pytest.raises(DeploymentError, match="next: check that acme/fraud has the environment"):
            push("acme/fraud", "production", {"CODE_BUCKET": "b"}, SECRET, redirect.url)
        assert SECRET in redirect.asked[0]
        assert redirect.followed == []


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program of MLflow's machine."""
    folder = Path(__file__).parents[1] / "infra" / "modules" / "mlflow-server" / "files"
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("serve", None)
    return importlib.import_module("serve")


def test_mlflows_machine_asks_lockbox_at_its_own_address_alone(redirect: Redirection, serve: ModuleType) -> None:
    """Fails when the token of MLflow's machine, which reads all of its secrets, follows a redirect."""
    with Metadata().running() as metadata:
        settings = {
            "metadata_endpoint": f"http://{metadata.address}",
            "lockbox_endpoint": redirect.url,
            "secret_ids": {"admin": "e6q0secret"},
        }
        with pytest.raises(SystemExit, match="found: 30"):
            serve.secret(settings, "admin")
    assert TOKEN in redirect.asked[0]
