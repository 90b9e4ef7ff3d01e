"""What the DAG reads of a job's results, from a folder and from object storage, and what it concludes."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
import requests
from fake_cloud import EMULATOR_PYTHON, OUTPUTS, load

from emulator.client import serving

AS_OF = datetime(2026, 5, 24, 8, tzinfo=UTC)


class Storage(ThreadingHTTPServer):
    """Object storage that serves a folder to requests with the token, two names per page."""

    def __init__(self, folder: Path, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.token = folder, token


class _Handler(BaseHTTPRequestHandler):
    server: Storage

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if self.headers.get("X-YaCloud-SubjectToken") != self.server.token:
            self._answer(403, b"")
        elif key:
            path = self.server.folder / bucket / key
            self._answer(200, path.read_bytes()) if path.is_file() else self._answer(404, b"")
        else:
            self._answer(200, self._listing(bucket, {k: v[0] for k, v in parse_qs(parts.query).items()}))

    def _listing(self, bucket: str, query: dict[str, str]) -> bytes:
        root = self.server.folder / bucket
        after = query.get("continuation-token") or query.get("start-after", "")
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        names = [name for name in names if name.startswith(query["prefix"]) and name > after]
        more = f"<NextContinuationToken>{escape(names[1])}</NextContinuationToken>" if len(names) > 2 else ""
        keys = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in names[:2])
        head = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        return f"{head}{keys}{more}</ListBucketResult>".encode()

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


def measure_freshness(*arguments: Any, **options: Any) -> Any:
    return load("fraud_detection_common.freshness").measure_freshness(*arguments, **options)


def _decision(as_of: datetime) -> str:
    return str(OUTPUTS.decision_file("m", as_of))


def _matured(leave: Any, transactions: dict[int, int] | None) -> None:
    """Three frauds mature an hour after the as-of time, and seven more another hour later."""
    content: dict[str, Any] = {"model_name": "m", "as_of": AS_OF.isoformat().replace("+00:00", "Z")}
    for kind, counts in (("frauds", {1: 3, 2: 7}), ("transactions", transactions)):
        if counts is not None:
            content[kind] = {(AS_OF + timedelta(hours=hours)).isoformat(): count for hours, count in counts.items()}
    leave(OUTPUTS.maturity_file("m"), content)


def test_objects_are_read_by_name(results: Any, leave: Any) -> None:
    """Fails when the DAG cannot read how its job ended."""
    assert results.outcome("a job") is None
    leave(OUTPUTS.outcome_file("a job"), {"exit_code": 65})
    assert results.outcome("a job") == {"exit_code": 65}


def test_the_last_decision_is_found_by_names_alone(results: Any, leave: Any) -> None:
    """Fails when the check takes a rollback, an opening or another model's decision for the last decision."""
    assert results.last_decision("m", AS_OF) is None
    for hours in range(-3, 4):
        leave(_decision(AS_OF + timedelta(hours=hours)))
    leave(OUTPUTS.intervention_file("m", "rollback", datetime(2026, 6, 1, 9, 15, 0, 123456, tzinfo=UTC)))
    leave(OUTPUTS.decision_file("another", datetime(2027, 1, 1, tzinfo=UTC)))
    leave(OUTPUTS.opening_file("m", AS_OF + timedelta(hours=5)))
    assert results.last_decision("m", AS_OF) == AS_OF + timedelta(hours=3)
    assert results.last_decision("m", AS_OF + timedelta(hours=3)) == AS_OF + timedelta(hours=3)
    assert results.last_decision("m", AS_OF + timedelta(hours=4)) is None
    assert len(results.names(OUTPUTS.decisions_folder("m"))) == 9


@pytest.mark.parametrize(
    ("decided", "hours", "train", "reason"),
    [
        (None, 1, False, "3 new frauds matured"),
        (None, 2, True, "10 new frauds matured"),
        (1, 2, False, "7 new frauds matured"),
        (2, 2, False, "is decided already"),
        (2, 25, False, "0 new frauds matured"),
        (2, 26, True, "24 h without a decision are enough"),
    ],
)
def test_new_frauds_are_counted_from_the_last_decision(
    results: Any, leave: Any, decided: int | None, hours: int, train: bool, reason: str
) -> None:
    """Fails when clusters are created with too few new frauds, or training never starts."""
    _matured(leave, transactions=None)
    if decided is not None:
        leave(_decision(AS_OF + timedelta(hours=decided)), {"version": None, "champion_version": 12})
    found = measure_freshness(results, "m", AS_OF + timedelta(hours=hours), min_new_frauds=10, max_hours=24)
    assert found.train is train
    assert reason in found.reason


@pytest.mark.parametrize(
    ("decision", "hours", "train", "reason"),
    [
        (
            {"version": None, "champion_version": None},
            1,
            True,
            "no champion is in service, and 40 transactions matured",
        ),
        (
            {"version": None, "champion_version": None},
            2,
            True,
            "no champion is in service, and 40 transactions matured",
        ),
        ({"version": 1, "champion_version": None}, 1, False, "3 new frauds matured"),
        ({"version": None, "champion_version": 1}, 1, False, "3 new frauds matured"),
    ],
)
def test_without_a_champion_a_run_does_not_wait_for_frauds(
    results: Any, leave: Any, decision: dict[str, int | None], hours: int, train: bool, reason: str
) -> None:
    """Fails when an installation without a champion waits hours for new frauds after one unlucky first run."""
    _matured(leave, transactions={1: 40})
    leave(_decision(AS_OF), decision)
    found = measure_freshness(results, "m", AS_OF + timedelta(hours=hours), min_new_frauds=10, max_hours=24)
    assert found.train is train
    assert reason in found.reason


def test_a_retired_champion_is_none(results: Any, leave: Any) -> None:
    """Fails when the successor of a retired champion must wait for new frauds."""
    _matured(leave, transactions={1: 40})
    leave(_decision(AS_OF), {"version": 2, "champion_version": 1})
    leave(OUTPUTS.intervention_file("m", "retire-champion", AS_OF - timedelta(hours=2)))
    leave(OUTPUTS.intervention_file("m", "rollback", AS_OF + timedelta(minutes=20)))
    assert not measure_freshness(results, "m", AS_OF + timedelta(hours=1), min_new_frauds=10, max_hours=24).train
    leave(OUTPUTS.intervention_file("m", "retire-champion", AS_OF + timedelta(minutes=30)))
    assert measure_freshness(results, "m", AS_OF + timedelta(hours=1), min_new_frauds=10, max_hours=24).train


@pytest.mark.parametrize(("transactions", "train"), [({2: 40}, False), ({}, False), (None, True)])
def test_without_a_champion_the_same_data_are_not_judged_again(
    results: Any, leave: Any, transactions: dict[int, int] | None, train: bool
) -> None:
    """Fails when a stalled data feed costs a cluster every hour, or an old file blocks a first champion."""
    _matured(leave, transactions=transactions)
    leave(_decision(AS_OF), {"version": None, "champion_version": None})
    found = measure_freshness(results, "m", AS_OF + timedelta(hours=1), min_new_frauds=10, max_hours=24)
    assert found.train is train
    later = measure_freshness(results, "m", AS_OF + timedelta(hours=24), min_new_frauds=10, max_hours=24)
    assert later.train


def test_the_summary_says_why(outputs: Any) -> None:
    """Fails when a run's page says `no decision` without the reason, and people must open every report."""
    outcome = {"as_of": "T", "decision": "no_decision", "version": None, "reason": "9 frauds", "report": "s3a://r"}
    assert outputs.summary(outcome) == "T: no decision; 9 frauds; report s3a://r"


def test_the_first_run_goes_ahead(results: Any) -> None:
    """Fails when a new installation waits for new frauds and never trains its first model."""
    assert measure_freshness(results, "m", AS_OF, 10, 24).train


def test_a_token_that_is_refused_is_not_taken_for_an_absent_object(
    tmp_path: Path, outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a lost permission looks like a first run, and a cluster is created every hour."""
    monkeypatch.setattr(outputs.yandexcloud.auth, "get_auth_token", lambda **_: "another")
    with Storage(tmp_path, "the token") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        results = outputs.RunOutputs(f"http://127.0.0.1:{server.server_port}", "demo", "", {})
        with pytest.raises(requests.HTTPError, match="403"):
            results.maturity("m")
        server.shutdown()


def test_the_token_is_that_of_the_machine_s_service_account(
    tmp_path: Path, outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when reading results needs static keys, which must be created, stored and rotated."""
    seen: list[str] = []

    def get(_url: str, *, headers: dict[str, str], **_: object) -> SimpleNamespace:
        seen.append(headers["X-YaCloud-SubjectToken"])
        return SimpleNamespace(status_code=404)

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
    from airflow.providers.common.compat.sdk import AirflowFailException

    with pytest.raises(AirflowFailException, match="expected s3a://BUCKET/FOLDER"):
        outputs.RunOutputs.at(None, "https://storage", uri)
