"""What the DAG reads of a job's results, from a folder and from object storage."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests
from fake_cloud import EMULATOR_PYTHON, OUTPUTS, load
from fakes.http_services import service
from fakes.redirects import redirecting

from emulator.client import serving


class Storage(ThreadingHTTPServer):
    """Object storage that serves a folder to requests with the token."""

    def __init__(self, folder: Path, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.token = folder, token


class _Handler(BaseHTTPRequestHandler):
    server: Storage

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        path = self.server.folder / bucket / key
        if self.headers.get("X-YaCloud-SubjectToken") != self.server.token:
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif path.is_file():
            self._answer(200, path.read_bytes())
        else:
            code = b"NoSuchKey" if (self.server.folder / bucket).is_dir() else b"NoSuchBucket"
            self._answer(404, b"<Error><Code>%s</Code></Error>" % code)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def outputs() -> Any:
    return load("fraud_detection_common.outputs")


@pytest.fixture(params=["folder", "storage"])
def results(
    request: pytest.FixtureRequest, tmp_path: Path, outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    (tmp_path / "demo" / "output").mkdir(parents=True)
    if request.param == "folder":
        yield outputs.RunOutputs(f"file://{tmp_path}", "demo", "output/", {})
        return
    monkeypatch.setattr(outputs.yandexcloud.auth, "get_auth_token", lambda **_: "the token")
    with Storage(tmp_path, "the token") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield outputs.RunOutputs(f"http://127.0.0.1:{server.server_port}", "demo", "output/", {})
        server.shutdown()


@pytest.fixture
def leave(tmp_path: Path) -> Any:
    def write(name: str, content: object = None) -> None:
        path = tmp_path / "demo" / "output" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content or {}))

    return write


def test_objects_are_read_by_name(results: Any, leave: Any) -> None:
    """Fails when the DAG cannot read how its job ended."""
    assert results.outcome("a job") is None
    leave(OUTPUTS.outcome_file("a job"), {"exit_code": 65})
    assert results.outcome("a job") == {"exit_code": 65}


def test_the_schedule_is_read_by_the_name_that_the_job_gives_it(results: Any, leave: Any) -> None:
    """Fails when the DAG never finds the schedule, and each hour costs a cluster."""
    assert results.schedule("m") is None
    leave(OUTPUTS.schedule_file("m"), {"schema_version": 1})
    assert json.loads(results.schedule("m")) == {"schema_version": 1}


def test_a_bucket_that_does_not_exist_is_no_first_run(results: Any) -> None:
    """Fails when a mistyped bucket looks like a first run, and a cluster is created every hour."""
    with pytest.raises(no_retry(), match=r"bucket absent does not exist .* make import-variables"):
        replace(results, bucket="absent").schedule("m")


def no_retry() -> type[Exception]:
    from airflow.providers.common.compat.sdk import AirflowFailException

    return AirflowFailException


@pytest.mark.parametrize("status", [301, 307])
def test_a_token_follows_no_redirect(outputs: Any, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Fails when a redirect of the storage sends the token of Airflow's account, which creates clusters, elsewhere."""
    monkeypatch.setattr(outputs.yandexcloud.auth, "get_auth_token", lambda **_: "the token")
    with redirecting(status) as redirect:
        with pytest.raises(no_retry(), match="not followed with a token"):
            outputs.RunOutputs(redirect.url, "demo", "", {}).schedule("m")
        assert "the token" in redirect.asked[0]
        assert redirect.followed == []


def test_an_answer_that_is_not_of_a_storage_is_no_first_run(outputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a wrong storage address answers 404 to everything, and a cluster is created every hour."""
    monkeypatch.setattr(outputs.yandexcloud.auth, "get_auth_token", lambda **_: "the token")
    no_code = pytest.raises(no_retry(), match="404 with no code of an object storage")
    with service(lambda _: (404, {"message": "Not found"})) as other, no_code:
        outputs.RunOutputs(other.url, "demo", "", {}).schedule("m")


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://storage.yandexcloud.net",
        "https://storage.yandexcloud.net@evil.example",
        "https://d5d0of.apigw.yandexcloud.net",
        "https://evil.example",
    ],
)
def test_only_the_storage_gets_the_token(outputs: Any, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Fails when a person who may change Airflow's variables can have the account's token sent to a host of theirs."""
    monkeypatch.delenv("YC_METADATA_ADDR", raising=False)
    with pytest.raises(no_retry(), match="may not have a token of the cloud; expected https://storage"):
        outputs.RunOutputs.at(SimpleNamespace(credentials={}), endpoint, "s3a://demo/output")
    assert outputs.RunOutputs.at(SimpleNamespace(credentials={}), "https://storage.yandexcloud.net/", "s3a://demo/o")


def test_the_summary_says_why(outputs: Any) -> None:
    """Fails when a run's page says `no decision` without the reason, and people must open every report."""
    outcome = {"as_of": "T", "decision": "no_decision", "version": None, "reason": "9 frauds", "report": "s3a://r"}
    assert outputs.summary(outcome) == "T: no decision; 9 frauds; report s3a://r"


NEW, OLD = (
    {"text": text, "raised_at": at} for text, at in (("b", "2026-05-24T10:05:00Z"), ("a", "2026-05-23T10:05:00Z"))
)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"decision": "needs_review"}, "T: needs review; why; report r"),
        ({"decision": "promoted", "version": 3}, "T: promoted as v3; why; report r"),
        ({"decision": "refused"}, ""),
        ({"decision": "refused", "alarms": [OLD]}, ""),
        ({"decision": "refused", "alarms": [OLD, NEW]}, "ALARM: b; T: refused; why; report r"),
        ({"decision": "needs_review", "alarms": [OLD]}, "T: needs review; why; report r"),
        ({"decision": "promoted", "version": 3, "decided_at": "2026-05-24T09:59:00Z"}, ""),
        (
            {"decision": "refused", "alarms": [NEW], "decided_at": "2026-05-24T10:05:00Z"},
            "ALARM: b; T: refused; why; report r",
        ),
        ({"decision": "refused", "retention": {"removed": ["3 reports removed"], "error": None}}, ""),
        (
            {"decision": "refused", "retention": {"removed": [], "error": "access is denied"}},
            "T: old results were not removed: access is denied",
        ),
        (
            {"decision": "promoted", "version": 3, "retention": {"removed": [], "error": "it is denied"}},
            "T: promoted as v3; why; report r\nT: old results were not removed: it is denied",
        ),
    ],
)
def test_a_notification_is_of_what_is_new(outputs: Any, outcome: dict[str, Any], said: str) -> None:
    """Fails when a winner that waits is not told, or each run tells an alarm again until people mute the channel."""
    found = {"version": None, "as_of": "T", "reason": "why", "report": "r"} | outcome
    run = SimpleNamespace(start_date=datetime(2026, 5, 24, 10, tzinfo=UTC))
    assert outputs.message(found, run) == said
    for alarm in found.get("alarms", ()):
        assert f"ALARM: {alarm['text']}; " in outputs.summary(found), "the run's page shows it while it lasts"


SCORED = {
    "decision": "promoted",
    "version": 3,
    "as_of": "T",
    "reason": "why",
    "report": "r",
    "scores": {"rows": 1234, "version": 3, "alerts": 5},
}


def test_a_summary_says_what_was_scored(outputs: Any) -> None:
    """Fails when a run that scores nothing looks like one that does."""
    said = "T: promoted as v3; why; 1234 transactions scored by v3, 5 of them alerts; report r"
    assert outputs.summary(SCORED) == said


def test_a_failure_after_the_decision_tells_the_decision(outputs: Any) -> None:
    """Fails when scoring fails, and nobody learns of the new champion: no later run reports it."""
    failed = SCORED | {"scores": None, "exit_code": 75, "error": "MLflow is unavailable"}
    said = "the job decided, which stands, and then ended with exit code 75: MLflow is unavailable; T: promoted as v3"
    assert outputs.failure(failed).startswith(said)
    undecided = {"decision": None, "exit_code": 65, "error": "no rows"}
    assert outputs.failure(undecided) == "the job ended with exit code 65: no rows"


def test_a_token_that_is_refused_is_not_taken_for_an_absent_object(
    tmp_path: Path, outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a lost permission looks like a first run, and a cluster is created every hour."""
    monkeypatch.setattr(outputs.yandexcloud.auth, "get_auth_token", lambda **_: "another")
    with Storage(tmp_path, "the token") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        results = outputs.RunOutputs(f"http://127.0.0.1:{server.server_port}", "demo", "", {})
        with pytest.raises(requests.HTTPError, match="403"):
            results.schedule("m")
        server.shutdown()


def test_the_token_is_that_of_the_machine_s_service_account(
    tmp_path: Path, outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when reading results needs static keys, which must be created, stored and rotated."""
    seen: list[str] = []

    def get(_url: str, *, headers: dict[str, str], **_: object) -> SimpleNamespace:
        seen.append(headers["X-YaCloud-SubjectToken"])
        return SimpleNamespace(status_code=404, text="<Code>NoSuchKey</Code>")

    with serving(tmp_path, {"port": 0, "metadata_port": 0}, python=EMULATOR_PYTHON) as emulator:
        monkeypatch.setenv("YC_METADATA_ADDR", emulator.cloud["metadata"])
        monkeypatch.setattr(outputs, "requests", SimpleNamespace(get=get, codes=requests.codes))
        assert outputs.RunOutputs("https://storage", "demo", "", {}).outcome("j") is None
        [given] = emulator.events("metadata-token")
    assert given["caller"] == emulator.cloud["service_accounts"]["airflow"]["id"]
    assert len(seen) == 1
    assert seen[0].startswith("t1.")


@pytest.mark.parametrize("uri", ["output", "s3a://", "https://storage/x"])
def test_an_output_that_is_no_bucket_is_a_wrong_setting(outputs: Any, uri: str) -> None:
    """Fails when a mistyped output address is retried instead of being reported at once."""
    with pytest.raises(no_retry(), match="expected s3a://BUCKET/FOLDER"):
        outputs.RunOutputs.at(None, "https://storage", uri)
