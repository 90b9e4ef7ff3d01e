"""Keys for the uploads: from the environment, from GitHub's identity exchanged for a temporary key, or from Lockbox."""

import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from fakes.http_services import Asked, service

from deployment.errors import DeploymentError
from deployment.identity import StorageKey, iam_token, storage_key


def test_githubs_identity_becomes_a_temporary_key_of_the_deployer() -> None:
    """Fails when the deploy workflow needs a static key that stays valid for years."""

    def cloud(asked: Asked) -> tuple[int, object]:
        if asked.path.startswith("/oidc"):
            assert asked.headers["Authorization"] == "Bearer request-token"
            return 200, {"value": "github.jwt"}
        if asked.path == "/oauth/token":
            form = {name: values[0] for name, values in parse_qs(asked.body).items()}
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
            assert form["subject_token_type"] == "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105
            assert (form["subject_token"], form["audience"]) == ("github.jwt", "aje4")
            return 200, {"access_token": "t1.iam", "token_type": "Bearer", "expires_in": 3600}
        assert asked.path == "/iam/aws-compatibility/v1/ephemeralAccessKeys"
        assert asked.headers["Authorization"] == "Bearer t1.iam"
        assert json.loads(asked.body)["subjectId"] == "aje4"
        return 200, {"accessKeyId": "id", "secret": "secret", "sessionToken": "session"}

    with service(cloud) as fake:
        found = storage_key(
            {
                "ACTIONS_ID_TOKEN_REQUEST_URL": f"{fake.url}/oidc?api-version=2",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
                "DEPLOYER_SERVICE_ACCOUNT_ID": "aje4",
                "OIDC_AUDIENCE": "yandex-cloud",
                "YC_OAUTH_ENDPOINT": f"{fake.url}/oauth/token",
                "YC_IAM_ENDPOINT": fake.url,
            }
        )
        assert fake.asked[0].path == "/oidc?api-version=2&audience=yandex-cloud"
    assert found == StorageKey("id", "secret", "session")
    assert found.environment["AWS_SESSION_TOKEN"] == "session"  # noqa: S105
    assert "secret" not in repr(found)


def test_a_person_gets_the_deployers_key_from_lockbox_with_ycs_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when engineers must keep static keys in files to upload."""
    yc = tmp_path / "yc"
    yc.write_text('#!/bin/sh\n[ "$*" = "iam create-token" ] && echo t1.mine\n')
    yc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def lockbox(asked: Asked) -> tuple[int, object]:
        if asked.headers.get("Authorization") != "Bearer t1.mine":
            return 403, {"message": "Permission denied"}
        entries = [{"key": "access_key", "textValue": "id"}, {"key": "secret_key", "textValue": "secret"}]
        return (200, {"entries": entries}) if "/e6q1/payload" in asked.path else (200, {"entries": entries[:1]})

    with service(lockbox) as fake:
        settings = {"DEPLOYER_SECRET_ID": "e6q1", "YC_LOCKBOX_ENDPOINT": fake.url}
        assert storage_key(settings) == StorageKey("id", "secret")
        with pytest.raises(DeploymentError, match="Permission denied"):
            storage_key({**settings, "YC_TOKEN": "t1.other"})
        with pytest.raises(DeploymentError, match="has no entry 'secret_key'"):
            storage_key({**settings, "DEPLOYER_SECRET_ID": "e6q2"})


def test_without_yc_its_install_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a newcomer without yc sees only `command not found`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeploymentError, match=r"yc is not installed; see https://yandex.cloud/docs/cli/quickstart"):
        iam_token({})


def test_a_yc_that_is_not_set_up_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a yc without a profile leads to an empty token and the cloud's unclear refusal."""
    (tmp_path / "yc").write_text("#!/bin/sh\necho 'no profile' >&2; exit 1\n")
    (tmp_path / "yc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DeploymentError, match=r"no profile; next: yc init"):
        iam_token({})
