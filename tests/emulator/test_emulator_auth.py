"""The emulated cloud authenticates as the real one does: registered keys, correct JWTs, valid tokens."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import yandexcloud
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fakes.emulated_cloud import Api, code, emulated
from yandex.cloud.dataproc.v1 import cluster_service_pb2
from yandex.cloud.dataproc.v1.cluster_service_pb2_grpc import ClusterServiceStub
from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.iam.v1.iam_token_service_pb2_grpc import IamTokenServiceStub

TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with emulated(tmp_path_factory.mktemp("cloud") / "state", metadata_port=0, token_lifetime=2.0) as found:
        yield found


def channel(api: Api) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(Path(api.cloud["ca"]).read_bytes())
    return grpc.secure_channel(api.cloud["endpoint"], credentials)


def list_clusters(api: Api, authorization: str | None) -> cluster_service_pb2.ListClustersResponse:
    request = cluster_service_pb2.ListClustersRequest(folder_id=api.folder_id)
    metadata = (("authorization", authorization),) if authorization else ()
    with channel(api) as open_channel:
        return ClusterServiceStub(open_channel).List(request, metadata=metadata)


def signed(api: Api, algorithm: str = "PS256", key: str | None = None, kid: str | None = None, **claims: Any) -> str:
    """A JWT as the SDK signs it, with parts of it changed; a claim that is None is left out."""
    now = int(time.time())
    whole = {
        "iss": api.key["service_account_id"],
        "aud": f"https://iam.{api.cloud['endpoint']}/iam/v1/tokens",
        "iat": now,
        "exp": now + 3600,
        **claims,
    }
    payload = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(
        payload, key or api.key["private_key"], algorithm=algorithm, headers={"kid": kid or api.key["id"]}
    )


def token_for(api: Api, text: str) -> str:
    with channel(api) as open_channel:
        request = iam_token_service_pb2.CreateIamTokenRequest(jwt=text)
        return str(IamTokenServiceStub(open_channel).Create(request).iam_token)


def foreign_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_a_right_jwt_gives_a_token_that_opens_the_api(api: Api) -> None:
    """Fails when a valid key cannot log in to the emulated cloud."""
    token = token_for(api, signed(api))
    assert list(list_clusters(api, f"Bearer {token}").clusters) == []
    real = signed(api, aud="https://iam.api.cloud.yandex.net/iam/v1/tokens")
    assert token_for(api, real).startswith("t1.")


WRONG: dict[str, Callable[[Api], str]] = {
    "a key that is not registered under its id": lambda api: signed(api, key=foreign_key()),
    "an unknown key id": lambda api: signed(api, kid="ajeunknown"),
    "another account's name": lambda api: signed(api, iss=api.account_key("dataproc")["service_account_id"]),
    "another audience": lambda api: signed(api, aud="https://iam.example.com/iam/v1/tokens"),
    "an expired JWT": lambda api: signed(api, iat=int(time.time()) - 3600, exp=int(time.time()) - 1),
    "a JWT from the future": lambda api: signed(api, iat=int(time.time()) + 600, exp=int(time.time()) + 1200),
    "a JWT for more than an hour": lambda api: signed(api, exp=int(time.time()) + 7200),
    "no end": lambda api: signed(api, exp=None),
    "no beginning": lambda api: signed(api, iat=None),
    "no audience": lambda api: signed(api, aud=None),
    "another algorithm": lambda api: signed(api, algorithm="RS256"),
    "no signature": lambda api: signed(api).rpartition(".")[0] + ".",
    "no JWT at all": lambda _: "not-a-jwt",
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_wrong_jwt_is_refused(api: Api, reason: str) -> None:
    """Fails when a broken key or clock is noticed only in the real cloud."""
    with pytest.raises(grpc.RpcError) as error:
        token_for(api, WRONG[reason](api))
    assert code(error) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("authorization", [None, "Bearer ", "Bearer t1.wrong", "Basic dDE6eA=="])
def test_a_call_without_a_valid_token_is_refused(api: Api, authorization: str | None) -> None:
    """Fails when a DAG without credentials passes its tests and fails in the real cloud."""
    with pytest.raises(grpc.RpcError) as error:
        list_clusters(api, authorization)
    assert code(error) is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_ends(api: Api) -> None:
    """Fails when a client that never renews its token passes its tests."""
    token = token_for(api, signed(api))
    list_clusters(api, f"Bearer {token}")
    time.sleep(2.1)
    with pytest.raises(grpc.RpcError, match="expired") as error:
        list_clusters(api, f"Bearer {token}")
    assert code(error) is grpc.StatusCode.UNAUTHENTICATED


def test_another_authority_is_not_trusted(api: Api) -> None:
    """Fails when a client without the emulator's CA connects, so that TLS is not tested at all."""
    with grpc.secure_channel(api.cloud["endpoint"], grpc.ssl_channel_credentials()) as open_channel:
        request = cluster_service_pb2.ListClustersRequest(folder_id=api.folder_id)
        with pytest.raises(grpc.RpcError) as error:
            ClusterServiceStub(open_channel).List(request, timeout=5)
    assert code(error) is grpc.StatusCode.UNAVAILABLE


def test_the_metadata_endpoint_gives_tokens_to_those_who_know_its_header(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when code that runs without keys, such as a job or a managed Airflow, cannot log in."""
    address = api.cloud["metadata"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://{address}{TOKEN_PATH}", timeout=5)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{address}/computeMetadata/v1/instance/id", timeout=5)
    request = urllib.request.Request(f"http://{address}{TOKEN_PATH}", headers={"Metadata-Flavor": "Google"})
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
        token = json.loads(response.read())
    assert 0 < token["expires_in"] <= 2
    monkeypatch.setenv("YC_METADATA_ADDR", address)
    roots = Path(api.cloud["ca"]).read_bytes()
    sdk = yandexcloud.SDK(endpoint=api.cloud["endpoint"], root_certificates=roots)
    sdk.client(ClusterServiceStub).List(cluster_service_pb2.ListClustersRequest(folder_id=api.folder_id))
    (call,) = api.emulator.events("call", key_id="metadata")
    assert call["caller_name"] == "airflow"


def test_private_files_are_for_their_owner_alone(api: Api) -> None:
    """Fails when other users of the machine can read the emulator's keys or tokens."""
    state = api.emulator.state
    assert state.stat().st_mode & 0o077 == 0
    for path in (*state.glob("keys/*"), state / "server.key", state / "control.token", state / "store.sqlite"):
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_events_name_account_and_key_of_each_call(api: Api) -> None:
    """Fails when the event log does not show which account created a cluster."""
    api.clusters.List(cluster_service_pb2.ListClustersRequest(folder_id=api.folder_id))
    last = api.emulator.events("call", method="List")[-1]
    assert (last["caller"], last["key_id"]) == (api.key["service_account_id"], api.key["id"])
    issued = api.emulator.events("call", method="Create", key_id=api.key["id"])
    assert issued[-1]["service"].endswith("IamTokenService")
