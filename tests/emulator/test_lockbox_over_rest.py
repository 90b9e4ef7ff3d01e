"""A job's MLflow credentials: read from Lockbox with the machine's token, and never in an argument or a log."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.emulated_cloud import Api, emulated

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError, SettingsError
from fraud_detection.yandex.lockbox import PASSWORD, SECRET_ID, USERNAME, take_from_lockbox

VALUE = "not-to-be-seen-4711"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with emulated(tmp_path / "state", metadata_port=0) as found:
        yield found


@pytest.fixture
def machine(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The environment that a job finds on its machine."""
    address = api.cloud["metadata"]
    monkeypatch.setenv("YC_METADATA_ADDR", address)
    monkeypatch.setenv("YC_LOCKBOX_ENDPOINT", f"http://{address}")
    for name in (USERNAME, PASSWORD):  # set and removed, so that what the test puts there is taken away again
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return api


def test_a_job_that_knows_the_id_gets_the_credentials(machine: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a job in the cloud cannot log in to MLflow, or its password is written to a log."""
    secret = machine.emulator.put_secret("mlflow-job", {"username": "job", "password": VALUE})
    monkeypatch.setenv(SECRET_ID, secret)
    take_from_lockbox()
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == ("job", VALUE)
    (call,) = machine.emulator.events("call", secret_id=secret, over="rest")
    assert (call["caller_name"], call["code"]) == ("airflow", "OK")
    assert VALUE not in (machine.emulator.state / "events.jsonl").read_text(encoding="utf-8")


def test_credentials_that_are_given_stay(machine: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a password set by hand is replaced by the one in Lockbox."""
    monkeypatch.setenv(SECRET_ID, machine.emulator.put_secret("mlflow-job", {"username": "job", "password": VALUE}))
    monkeypatch.setenv(USERNAME, "me")
    monkeypatch.setenv(PASSWORD, "mine")
    take_from_lockbox()
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == ("me", "mine")


def test_without_an_id_nothing_is_asked(machine: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a run outside the cloud waits for the cloud's metadata."""
    monkeypatch.delenv(SECRET_ID, raising=False)
    take_from_lockbox()
    assert PASSWORD not in os.environ
    assert not machine.emulator.events("metadata-token")


@pytest.mark.parametrize(
    ("secret_id", "message"),
    [
        ("e6qnosuchsecret", "lockbox.payloadViewer"),
        ("../../secrets", "expected the id of a Lockbox secret"),
    ],
)
def test_a_wrong_id_is_explained(machine: Api, monkeypatch: pytest.MonkeyPatch, secret_id: str, message: str) -> None:
    """Fails when a mistyped secret id ends in a stack trace on a machine that is then deleted."""
    monkeypatch.setenv(SECRET_ID, secret_id)
    with pytest.raises(FraudDetectionError, match=message):
        take_from_lockbox()


def test_a_secret_of_something_else_is_explained(machine: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when MLflow is called with incomplete credentials, and its refusal does not mention the secret."""
    monkeypatch.setenv(SECRET_ID, machine.emulator.put_secret("other", {"username": "job"}))
    with pytest.raises(FraudDetectionError, match="has no password"):
        take_from_lockbox()


def test_on_a_machine_without_an_account_the_error_names_what_to_set(
    machine: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the message outside the cloud does not say which variable to set instead."""
    monkeypatch.setenv(SECRET_ID, "e6qsecret")
    monkeypatch.setenv("YC_METADATA_ADDR", "127.0.0.1:9")
    with pytest.raises(SettingsError, match=PASSWORD):
        take_from_lockbox()


def test_a_lockbox_that_is_away_may_be_back_later(machine: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an unavailable Lockbox makes the schedule give up a run that a retry would save."""
    monkeypatch.setenv(SECRET_ID, "e6qsecret")
    monkeypatch.setenv("YC_LOCKBOX_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailableError, match="run this again"):
        take_from_lockbox()


def test_a_payload_is_for_those_with_a_token(machine: Api) -> None:
    """Fails when any process that reaches the port can read every secret."""
    secret = machine.emulator.put_secret("mlflow-job", {"username": "job", "password": VALUE})
    url = f"http://{machine.cloud['metadata']}/lockbox/v1/secrets/{secret}/payload"
    for headers in ({}, {"Authorization": "Bearer t1.forged"}):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5)
