"""Notifications of promotions and failures through a Slack-compatible webhook, sent only when one is configured."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fake_cloud import Installation


class Webhook(ThreadingHTTPServer):
    """A server that accepts messages as Slack does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.texts: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.texts.append(content["text"])
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with Webhook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = {
            "conn_type": "slackwebhook",
            "host": f"http://127.0.0.1:{server.server_port}",
            "password": "T00/B00/secret-of-the-webhook",
        }
        monkeypatch.setenv("AIRFLOW_CONN_FRAUD_DETECTION_WEBHOOK", json.dumps(connection))
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("0", "fraud_detection_training: 2026-05-24T10:00:00Z: promoted as v13; average precision +0.029"),
        ("65", "failed: the job ended with exit code 65: as planned"),
        ("refused", None),
    ],
)
def test_promotions_and_failures_are_told_and_nothing_else(
    installation: Installation, webhook: Webhook, capfd: pytest.CaptureFixture[str], word: str, said: str | None
) -> None:
    """Fails when a promotion or failure is not reported, a refusal is, or the webhook's secret is logged."""
    installation.configure(webhook_connection="fraud_detection_webhook")
    installation.jobs_do(word)
    run = installation.run()
    assert run.state == ("failed" if word == "65" else "success")
    if said is None:
        assert webhook.texts == []
    else:
        [text] = webhook.texts
        assert said in text
    output = capfd.readouterr()
    assert "secret-of-the-webhook" not in output.out + output.err


@pytest.mark.parametrize(("minutes", "messages"), [(-5, 0), (5, 1)])
def test_a_promotion_of_an_earlier_run_is_not_told_again(
    installation: Installation, webhook: Webhook, minutes: int, messages: int
) -> None:
    """Fails when a run whose hour was already decided announces a new model that does not exist."""
    installation.configure(webhook_connection="fraud_detection_webhook")
    began = datetime(2026, 5, 24, 10, tzinfo=UTC)
    installation.jobs_do(f"decided:{(began + timedelta(minutes=minutes)).isoformat()}")
    run = installation.run(at=began)
    assert run.state == "success"
    assert len(webhook.texts) == messages
    assert run.xcom["outcome"]["repeated"] is not bool(messages)
    assert run.xcom["outcome"]["summary"].startswith("decided before this run: ") is not bool(messages)


def test_a_winner_that_waits_is_told_with_the_command_and_without_old_alarms(
    installation: Installation, webhook: Webhook
) -> None:
    """Fails when a winner expires because nobody heard of it, or how to approve it, or its message repeats an alarm."""
    installation.configure(webhook_connection="fraud_detection_webhook")
    installation.jobs_do("needs_review")
    run = installation.run(at=datetime(2026, 5, 24, 10, tzinfo=UTC))
    assert run.state == "success"
    assert webhook.texts == [
        "fraud_detection_training: 2026-05-24T10:00:00Z: needs review; average precision +0.029; it waits for approval"
        " until 2026-05-31 10:00: fraud-detection approve 2026-05-20; report s3a://demo/report.html"
    ]
    assert run.xcom["outcome"]["summary"].startswith("ALARM: champion v12 is old; 2026-05-24")


@pytest.mark.parametrize(("raised", "messages"), [("2026-05-24T10:05:00Z", 1), ("2026-05-24T04:05:00Z", 0)])
def test_an_alarm_is_told_by_the_run_that_raised_it(
    installation: Installation, webhook: Webhook, raised: str, messages: int
) -> None:
    """Fails when an alarm is not told, or each run of the next weeks tells it, and people mute the channel."""
    installation.configure(webhook_connection="fraud_detection_webhook")
    installation.jobs_do(f"alarm:{raised}")
    run = installation.run(at=datetime(2026, 5, 24, 10, tzinfo=UTC))
    assert run.state == "success"
    line = (
        "ALARM: champion v12 is old; next: fraud-detection candidates; 2026-05-24T10:00:00Z: no decision;"
        " 31 of 40 frauds; report s3a://demo/report.html"
    )
    assert webhook.texts == [f"fraud_detection_training: {line}"] * messages
    assert run.xcom["outcome"]["summary"] == line, "the run's page shows it for as long as it lasts"


@pytest.mark.parametrize(("completed", "messages"), [("2026-05-24T10:05:00Z", 1), ("2026-05-24T09:55:00Z", 0)])
def test_a_promotion_that_is_completed_for_a_killed_run_is_told_once(
    installation: Installation, webhook: Webhook, completed: str, messages: int
) -> None:
    """Fails when a new champion goes into service unheard, since its own run was killed, or is told by two runs."""
    installation.configure(webhook_connection="fraud_detection_webhook")
    installation.jobs_do(f"completed:{completed}")
    run = installation.run(at=datetime(2026, 5, 24, 10, tzinfo=UTC))
    assert run.state == "success"
    assert (
        webhook.texts
        == [
            "fraud_detection_training: 2026-05-24T08:00:00Z: promoted as v13; every check passed; report"
            " s3a://demo/eight.html (completed after the run for this time was interrupted)"
        ]
        * messages
    )


def test_nothing_is_sent_unless_notifications_are_configured(installation: Installation, webhook: Webhook) -> None:
    """Fails when an installation without a webhook sends messages."""
    installation.jobs_do("65")
    installation.run()
    assert webhook.texts == []


def test_a_webhook_that_is_away_does_not_fail_the_run(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an outage of Slack fails a training run."""
    connection: dict[str, Any] = {"conn_type": "slackwebhook", "host": "http://127.0.0.1:9", "password": "T/B/x"}
    monkeypatch.setenv("AIRFLOW_CONN_FRAUD_DETECTION_WEBHOOK", json.dumps(connection))
    installation.configure(webhook_connection="fraud_detection_webhook")
    assert installation.run().state == "success"
