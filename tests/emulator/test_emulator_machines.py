"""What the emulated cloud gives to machines that run outside of it: tokens of their accounts, Object Storage."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from fakes.emulated_cloud import Api, emulated

from emulator.metadata import TOKEN_PATH

NOWHERE = "http://127.0.0.1:9"  # nothing is stored in these tests


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    storage = {"s3_endpoint": NOWHERE, "port": 0}
    with emulated(tmp_path_factory.mktemp("cloud") / "state", storage=storage) as found:
        yield found


def test_each_machine_gets_tokens_of_its_own_account(api: Api) -> None:
    """Fails when a machine acts as another account than Terraform gave it, so that no missing grant is seen."""
    accounts = {name: found["id"] for name, found in api.cloud["service_accounts"].items()}
    addresses = {name: api.emulator.metadata(id_) for name, id_ in accounts.items()}
    assert len(set(addresses.values())) == len(accounts)
    assert api.emulator.metadata(accounts["airflow"]) == addresses["airflow"], "a machine keeps its endpoint"
    for name, address in addresses.items():
        request = urllib.request.Request(f"http://{address}{TOKEN_PATH}", headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            assert json.loads(answer.read())["access_token"].startswith("t1.")
        (event,) = api.emulator.events("metadata-token", caller=accounts[name])
        assert event["owner"] == "a machine outside"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_anybody_may_know_that_a_bucket_name_is_free(api: Api, method: str) -> None:
    """Fails when make preflight takes every free bucket name for one that somebody has."""
    request = urllib.request.Request(f"{api.cloud['storage']}/acme-fraud-code", method=method)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request, timeout=5)  # noqa: S310
