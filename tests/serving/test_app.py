"""The HTTP interface, over rows and champions of the test's own."""

import errno
from pathlib import Path

import pytest
from fakes.serving import Sources, raw, rows, serving

from fraud_detection.errors import FraudDetectionError
from fraud_detection.serving.journal import Journal
from fraud_detection.serving.metrics import EVENTS, GAUGES
from fraud_detection.transactions.forgotten import Forgotten

TOKEN = "a token of a test"  # noqa: S105


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_a_score_says_what_a_client_acts_on(journal: Path) -> None:
    """Fails when an answer lacks the decision, its reasons, or the version that stands behind it."""
    with serving(Sources(threshold=0.0), journal) as server:
        status, answer = server.score(300)
        assert status == 200
        assert (answer["transaction_id"], answer["alert"], answer["threshold"]) == ("300", True, 0.0)
        assert 0 < answer["probability"] < 1
        assert answer["model_version"] == 1
        assert 1 <= len(answer["reasons"]) <= 3
        unknown = server.score(301, customer_id=None, terminal_id=987_654)
        assert unknown[0] == 200, "a row without a card, at a new terminal, is scored by a batch, too"


def test_without_a_threshold_nothing_alerts(journal: Path) -> None:
    """Fails when a version without a threshold lets everything or nothing alert, as if it were known."""
    with serving(Sources(threshold=None), journal) as server:
        answer = server.score(300)[1]
        assert (answer["alert"], answer["threshold"], answer["reasons"]) == (None, None, None)


def test_a_restart_forgets_nothing(journal: Path) -> None:
    """Fails when the features of a card are other ones after a restart."""
    with serving(Sources(), journal) as server:
        for number in range(200, 240):
            assert server.score(number)[0] == 200
        before = [server.score(number) for number in range(300, 306)]
    with serving(Sources(), journal) as server:
        assert server.service.gauges()["arrived_rows"] == 46
        assert [server.score(number) for number in range(300, 306)] == before
        assert server.service.metrics.events["repeated_transactions"] == 6


def test_what_the_journal_could_not_take_is_no_repetition_when_it_comes_again(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a disk that was full for a moment makes the server forget a transaction at its next start."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving(Sources(), journal) as server:
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "append", full)
            status, answer = server.score(200)
            assert (status, answer["detail"]) == (503, "the journal cannot be written: No space left on device")
        assert server.score(200)[0] == 200
        assert server.service.metrics.events["repeated_transactions"] == 0
    with serving(Sources(), journal) as server:
        assert server.service.gauges()["arrived_rows"] == 1


def test_rows_and_labels_of_a_new_manifest_are_taken_over(journal: Path) -> None:
    """Fails when the server does not learn of frauds, forgets what the store lacks, or counts rows twice."""
    sources = Sources()
    with serving(sources, journal) as server:
        for number in range(200, 240):
            server.score(number)
        sources.table, sources.number = rows(230), 2
        server.wait("store_loads")
        gauges = server.service.gauges()
        assert (gauges["loaded_rows"], gauges["arrived_rows"]) == (230, 10)
        assert len(journal.read_bytes().splitlines()) == 10
        answer = server.score(400)
    with serving(Sources(table=rows(230)), journal.with_name("other")) as server:
        for number in range(230, 240):
            server.score(number)
        assert server.score(400) == answer


def test_another_champion_serves_once_it_is_verified(journal: Path) -> None:
    """Fails when a promotion needs a restart, or a version whose file is damaged comes into service."""
    sources = Sources()
    with serving(sources, journal) as server:
        sources.broken, sources.served = True, 2
        server.wait("champion_failures", 4)
        assert server.score(300)[1]["model_version"] == 1
        assert sum("another digest" in line for line in server.lines) == 1, "what lasts is said once"
        sources.broken = False
        server.wait("champion_changes")
        assert server.score(300)[1]["model_version"] == 2


def test_a_defect_does_not_end_what_follows_the_champion(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when one odd answer of a service keeps every later champion out until a restart."""
    sources = Sources()
    with serving(sources, journal) as server:
        monkeypatch.setattr(Sources, "version", lambda _: int("odd"))
        server.wait("champion_failures")
        monkeypatch.undo()
        sources.served = 2
        server.wait("champion_changes")
        assert server.score(300)[1]["model_version"] == 2
        assert not any("odd" in line for line in server.lines), "a warning shows no value"


def test_a_retired_champion_scores_nothing(journal: Path) -> None:
    """Fails when a version that was taken out of service goes on deciding."""
    sources = Sources()
    with serving(sources, journal) as server:
        assert server("GET", "/ready") == (200, {"ready": True, "model_version": 1})
        sources.served = None
        server.wait("champion_changes")
        assert server("GET", "/ready")[0] == 503
        assert server.score(300)[0] == 503
        assert server("GET", "/health") == (200, {"status": "ok"})
    with pytest.raises(FraudDetectionError, match="nothing can be served"), serving(Sources(served=None), journal):
        pass


def test_a_token_guards_scores_and_metrics(journal: Path) -> None:
    """Fails when a stranger on the network can ask for scores, or read how many alerts there are."""
    with serving(Sources(), journal, TOKEN) as server:
        for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": TOKEN}):
            assert server("POST", "/v1/score", raw(300), headers)[0] == 401
            assert server("GET", "/metrics", headers=headers)[0] == 401
        assert server.service.metrics.requests[401] == 3
        allowed = {"Authorization": f"Bearer {TOKEN}"}
        assert server("POST", "/v1/score", raw(300), allowed)[0] == 200
        assert server("GET", "/metrics", headers=allowed)[0] == 200
        assert server("GET", "/ready")[0] == 200


def test_wrong_requests_are_refused_without_their_values(journal: Path) -> None:
    """Fails when a wrong request is scored, ends the server, or is repeated in an answer."""
    with serving(Sources(), journal) as server:
        wrong: tuple[object, ...] = (
            b"[", b'"secret"', b"\xff\xfe", {}, raw(300) | {"amount": "secret"}, raw(300) | {"amount": -1},
            raw(300) | {"transaction_time": "secret"}, raw(300) | {"secret": "secret"},
            raw(300) | {"customer_id": {"secret": 1}},
        )  # fmt: skip
        for body in wrong:
            status, answer = server("POST", "/v1/score", body)
            assert status == 422, body
            assert "secret" not in answer["detail"]
        assert server("POST", "/v1/score", b" " * 20_000)[0] == 413
        assert server("GET", "/v1/score")[0] == 405
        assert server.service.gauges()["arrived_rows"] == 0
        assert server.score(300)[0] == 200


def test_metrics_and_openapi_name_what_there_is(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when Prometheus cannot read a metric or misses failures, or a client cannot generate code from the page."""
    with serving(Sources(), journal) as server:
        server.score(300)
        server.score(300, amount=-1)
        server("POST", "/v1/score", b"[")
        server("POST", "/v1/score", b" " * 20_000)
        monkeypatch.setattr(server.service, "score", None)  # a defect
        assert server.score(301)[0] == 500
        lines = server("GET", "/metrics")[1].splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        name = "fraud_detection_serving_{}".format
        assert values[name('requests_total{status="200"}')] == "1"
        assert values[name('requests_total{status="422"}')] == "2"
        assert [values[name(f'requests_total{{status="{status}"}}')] for status in (413, 500)] == ["1", "1"]
        assert values[name('request_seconds_bucket{le="+Inf"}')] == values[name("request_seconds_count")] == "5"
        assert {name(f"{event}_total") for event in EVENTS} | {name(gauge) for gauge in GAUGES} <= values.keys()
        paths = server("GET", "/openapi.json")[1]["paths"]
        assert {"/v1/score", "/health", "/ready", "/metrics"} == paths.keys()
        assert server("GET", "/docs")[0] == 200


def test_a_forgotten_card_leaves_no_trace(journal: Path) -> None:
    """Fails when a card that was erased comes back through the server's journal."""
    forgotten = Forgotten("salt", frozenset({Forgotten("salt").hash("77")}))
    with serving(Sources(), journal) as server:
        server.score(300, customer_id=77)
        server.score(301)
    with serving(Sources(forgotten=forgotten), journal) as server:
        assert server.score(302, customer_id=77)[0] == 200
        assert server.service.gauges()["arrived_rows"] == 1
    assert b'"77"' not in journal.read_bytes()
