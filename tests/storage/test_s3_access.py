"""The job's identity in object storage, and its messages when the storage refuses or is unavailable."""

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fakes.object_storage import KEY, SECRET, TOKEN, Metadata, Server, serving, use, use_keys

from fraud_detection import storage
from fraud_detection.errors import DataError, FraudDetectionError, ServiceUnavailableError, SettingsError
from fraud_detection.storage import session
from fraud_detection.yandex import iam

ROOT = "s3a://bucket/output"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that accepts only the access key."""
    with serving("--key", KEY) as running:
        yield running


@pytest.fixture(scope="module")
def cloud() -> Iterator[Server]:
    """A server that accepts only the service account's token."""
    with serving("--token", TOKEN) as running:
        yield running


def test_on_yandex_cloud_the_job_is_the_machines_service_account(
    cloud: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a job on a cluster needs static keys, which can leak, instead of the machine's token."""
    with Metadata().running() as metadata:
        use_keys(monkeypatch, cloud.endpoint, YC_METADATA_ADDR=metadata.address)
        output = storage.open_folder(ROOT)
        assert output.write_once("a", b"1") is True
        assert output.write_once("a", b"2") is False
        assert storage.open_input(storage.input_files(ROOT)[0]).read() == b"1"
        assert metadata.asked == 1, "the token is kept"


def test_a_token_is_renewed_before_it_expires(cloud: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a job that runs longer than its token fails at its end, when it writes the decision."""
    now = 0.0  # a clock of the test's own: on a busy machine one request may take longer than a short-lived token
    monkeypatch.setattr(iam, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    with Metadata(expires_in=3600).running() as metadata:
        use(monkeypatch, AWS_ENDPOINT_URL_S3=cloud.endpoint, YC_METADATA_ADDR=metadata.address)
        output = storage.open_folder(f"{ROOT}/renewed")
        output.write_atomic("a", b"1")
        now = 3299.0
        output.write_atomic("a", b"2")
        assert metadata.asked == 1
        now = 3301.0
        output.write_atomic("a", b"3")
        assert metadata.asked == 2
        now += 3301.0
        metadata.status = 503  # away for a moment: the token is good for some minutes yet
        assert output.read("a") == b"3"


def test_what_uses_boto3_by_itself_can_make_a_client_after_every_run(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when MLflow cannot access the bucket in the second run of one process."""
    import boto3

    use_keys(monkeypatch, server.endpoint)
    for _ in range(2):
        session.share_with_boto3()
        assert boto3.client("s3", endpoint_url=server.endpoint).upload_file


def test_a_machine_without_service_account_uses_the_access_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a virtual machine without a service account cannot use the key in its environment."""
    with Metadata(status=404).running() as metadata:
        use_keys(monkeypatch, server.endpoint, YC_METADATA_ADDR=metadata.address)
        storage.open_folder(ROOT).write_atomic("a", b"1")


def test_a_storage_of_somebody_else_gets_no_token(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a token of the cloud is sent to another provider's storage."""
    with Metadata().running() as metadata:
        monkeypatch.setattr("fraud_detection.storage.session.DEFAULT_ADDRESS", metadata.address)
        use_keys(monkeypatch, server.endpoint)
        storage.open_folder(ROOT).write_atomic("a", b"1")
        assert metadata.asked == 0


def test_metadata_that_fails_is_tried_again_later(monkeypatch: pytest.MonkeyPatch, cloud: Server) -> None:
    """Fails when a busy metadata endpoint ends the run with an exit code that is not retried."""
    monkeypatch.setattr("fraud_detection.yandex.iam._PAUSE", 0.01)
    with Metadata(status=503).running() as metadata:
        use(monkeypatch, AWS_ENDPOINT_URL_S3=cloud.endpoint, YC_METADATA_ADDR=metadata.address)
        with pytest.raises(ServiceUnavailableError, match="503"):
            storage.open_folder(ROOT).write_atomic("a", b"1")
        assert metadata.asked == 3


def test_without_any_credentials_it_says_which_there_could_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when missing credentials end in a library's stack trace instead of what to set."""
    use(monkeypatch, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        storage.open_folder(ROOT).write_atomic("a", b"1")


def test_a_refused_key_is_reported_without_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a missing permission is retried, or the message holds the secret."""
    use_keys(monkeypatch, server.endpoint, AWS_ACCESS_KEY_ID="another-key")
    for attempt in (
        lambda: storage.open_folder(ROOT).write_atomic("a", b"1"),
        lambda: storage.open_folder(ROOT).read("a"),
        lambda: storage.open_folder(ROOT).names(),
        lambda: storage.input_files(ROOT),
    ):
        with pytest.raises(FraudDetectionError, match="refuses it") as caught:
            attempt()
        assert caught.value.exit_code == 1
        assert SECRET not in str(caught.value)


def test_a_bucket_that_does_not_exist_is_a_wrong_argument(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a misspelt bucket is not reported as a wrong setting (output) or missing data (input)."""
    use_keys(monkeypatch, server.endpoint)
    with pytest.raises(SettingsError, match="s3a://absent/output/a: the bucket does not exist"):
        storage.open_folder("s3a://absent/output").write_atomic("a", b"1")
    with pytest.raises(SettingsError):
        storage.open_folder("s3a://absent/output").read("a")
    with pytest.raises(DataError, match="does not exist"):
        storage.input_files("s3a://absent/input")


@pytest.mark.parametrize("address", ["localhost:9000", "not a url", "ftp://host", "https://key:secret@host"])
def test_an_invalid_endpoint_is_reported_without_being_repeated(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an endpoint without http:// ends in a library's stack trace, or its secret is repeated."""
    use_keys(monkeypatch, address)
    with pytest.raises(SettingsError, match="with http:// or https://") as caught:
        storage.open_folder(ROOT).read("a")
    assert "secret" not in str(caught.value)


def test_a_storage_that_is_away_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an unavailable storage is not reported with exit code 75, and the schedule does not retry."""
    use_keys(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailableError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        storage.open_folder(ROOT).read("a")
    with pytest.raises(ServiceUnavailableError):
        storage.input_files(ROOT)


def test_a_storage_that_stumbles_is_tried_again_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a single 503 ends a run, or a long outage is not reported as one."""
    use_keys(monkeypatch, server.endpoint)
    output = storage.open_folder(ROOT)
    server.outage(status=503, times=2)
    output.write_atomic("a", b"1")
    server.outage(status=503, times=99)
    with pytest.raises(ServiceUnavailableError, match="503"):
        output.write_atomic("a", b"2")


def test_a_writer_whose_answer_is_lost_still_knows_that_it_won(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a run whose reply was lost believes that another run decided, and its promotion has no decision."""
    use_keys(monkeypatch, server.endpoint)
    output = storage.open_folder(ROOT)
    server.outage(status=500, times=1, method="PUT", after=1)
    assert output.write_once("mine", b"1") is True
    output.write_atomic("of_another", b"1")
    server.outage(status=500, times=1, method="PUT")
    assert output.write_once("of_another", b"2") is False


def test_an_object_replaced_while_it_is_read_is_not_mixed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a file replaced during a read gives a mixture of old and new rows that nobody notices."""
    use_keys(monkeypatch, server.endpoint)
    output = storage.open_folder(ROOT)
    place = output.write_atomic("data.parquet", b"a" * 3_000_000)
    with storage.open_input(place) as file:
        assert file.read(10) == b"a" * 10
        output.write_atomic("data.parquet", b"b" * 3_000_000)
        file.seek(2_000_000)
        with pytest.raises(ServiceUnavailableError, match="replaced or removed while it was read"):
            file.read(10)


@pytest.mark.parametrize("url", ["s3a:///output", "s3a://UPPER/output", "s3a://key:secret@bucket/output", "s3://"])
def test_a_url_without_a_bucket_is_refused_without_being_repeated(url: str) -> None:
    """Fails when the message about a wrong S3 URL repeats the keys in it."""
    with pytest.raises(SettingsError, match="does not name a bucket") as caught:
        storage.open_folder(url)
    assert "secret" not in str(caught.value)


def test_a_small_file_costs_two_requests(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a folder with a year of hourly files takes far more requests than needed."""
    use_keys(monkeypatch, server.endpoint)
    place = storage.open_folder(ROOT).write_atomic("small.csv", b"x" * 1000)
    before = len(server.requests())
    storage.open_input(place).read()
    assert [entry.split()[0] for entry in server.requests()[before:]] == ["HEAD", "GET"]


@pytest.mark.parametrize("content", [b"1", None])
def test_an_object_that_may_not_be_deleted_is_emptied(
    server: Server, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """Fails when old files stay for good where the account deletes nothing, or empty ones appear."""
    use_keys(monkeypatch, server.endpoint)
    output = storage.open_folder(ROOT)
    if content is not None:
        output.write_atomic("old", content)
    server.outage(status=403, times=1, method="DELETE", code="AccessDenied")
    output.discard("old")
    assert [(one.name, one.size) for one in output.objects("old")] == ([("old", 0)] if content else [])
