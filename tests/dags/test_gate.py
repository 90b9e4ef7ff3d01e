"""What costs no cluster: an MLflow that does not answer, a bucket that does not exist, a fault that repeats itself."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fake_cloud import Installation, load
from fakes.http_services import Asked, Service, service

from deployment.http import basic

MORNING = datetime(2026, 5, 24, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
PASSWORD = "job-password-of-lockbox"  # noqa: S105


def mlflow(asked: Asked) -> tuple[int, object]:
    """An MLflow that knows the job."""
    return (200, {}) if asked.headers.get("Authorization") == basic("job", PASSWORD) else (401, {})


@pytest.fixture
def job_secret(installation: Installation) -> str:
    return installation.emulator.put_secret("mlflow-job", {"username": "job", "password": PASSWORD})


@pytest.fixture
def monitor(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service that counts heartbeats, and the settings for it."""
    with service(lambda _: (200, {})) as found:
        connection = {"conn_type": "http", "host": f"{found.url}/ping", "password": "secret-of-the-monitor"}
        monkeypatch.setenv("AIRFLOW_CONN_FRAUD_DETECTION_HEARTBEAT", json.dumps(connection))
        installation.configure(heartbeat_connection="fraud_detection_heartbeat")
        yield found


def test_a_run_begins_once_mlflow_answers_the_jobs_user(
    installation: Installation, job_secret: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails when the check refuses an MLflow that the job could use, or its password is in a log."""
    with service(mlflow) as found:
        installation.configure(check_mlflow=True, tracking_uri=found.url, mlflow_secret_id=job_secret)
        run = installation.run()
    assert run.state == "success"
    assert [asked.method for asked in found.asked] == ["GET"]
    output = capfd.readouterr()
    assert PASSWORD not in output.out + output.err


@pytest.mark.parametrize(
    ("answer", "tries", "message"),
    [
        ((503, {}), 3, "answers 503"),
        ((401, {}), 1, "refuses the user in secret"),
        ((404, {}), 1, "not like MLflow"),
    ],
)
def test_no_cluster_is_created_for_an_mlflow_that_the_job_cannot_use(
    installation: Installation,
    job_secret: str,
    capfd: pytest.CaptureFixture[str],
    answer: tuple[int, object],
    tries: int,
    message: str,
) -> None:
    """Fails when a cluster is paid for that cannot register a model, or a refusal is asked for again and again."""
    with service(lambda _: answer) as found:
        installation.configure(check_mlflow=True, tracking_uri=found.url, mlflow_secret_id=job_secret)
        run = installation.run()
    assert (run.state, run.tasks["check_schedule"]) == ("failed", "failed")
    assert run.clusters("CREATING") == []
    assert len(found.asked) == tries
    assert message in "".join(capfd.readouterr())


def test_an_mlflow_that_is_away_is_no_attempt(installation: Installation, job_secret: str) -> None:
    """Fails when an outage of MLflow, which costs nothing, stops the schedule after it has ended."""
    installation.configure(max_failed_runs=1, check_mlflow=True, mlflow_secret_id=job_secret)
    installation.configure(tracking_uri="http://127.0.0.1:9")
    assert installation.run(at=MORNING).state == "failed"
    installation.configure(check_mlflow=False)
    assert installation.run(at=MORNING + HOUR).state == "success"


def test_a_bucket_that_does_not_exist_costs_no_cluster(installation: Installation) -> None:
    """Fails when a mistyped bucket looks like a first run, and a cluster is created every hour."""
    installation.configure(output_uri="s3a://absent/output_data")
    run = installation.run()
    assert run.state == "failed"
    assert run.clusters("CREATING") == []


@pytest.fixture
def webhook(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with service(lambda _: (200, {})) as found:
        connection = {"conn_type": "slackwebhook", "host": found.url, "password": "T/B/x"}
        monkeypatch.setenv("AIRFLOW_CONN_FRAUD_DETECTION_WEBHOOK", json.dumps(connection))
        installation.configure(webhook_connection="fraud_detection_webhook")
        yield found


def texts(found: Service) -> list[str]:
    return [json.loads(asked.body)["text"] for asked in found.asked]


def test_a_fault_that_repeats_itself_costs_no_more_clusters_until_a_person_forces_one(
    installation: Installation, webhook: Service
) -> None:
    """Fails when broken data cost a cluster every hour of a weekend, or the schedule does not come back by itself."""
    installation.configure(max_failed_runs=2)
    installation.jobs_do("65", "65", "65", "0", "0")
    states = [installation.run(at=MORNING + hours * HOUR).state for hours in range(2)]
    assert states == ["failed", "failed"]
    sent = len(webhook.asked)
    skipped = [installation.run(at=MORNING + hours * HOUR) for hours in (2, 3)]
    assert [run.tasks["check_schedule"] for run in skipped] == ["skipped", "skipped"]
    assert [run.clusters("CREATING") for run in skipped] == [[], []]
    [said] = texts(webhook)[sent:]
    assert "the last 2 runs ended without a decision" in said
    assert "force" in said
    forced = installation.run(at=MORNING + 4 * HOUR, conf={"force": True})
    assert (forced.state, len(forced.clusters("CREATING"))) == ("failed", 1)
    assert installation.run(at=MORNING + 5 * HOUR).state == "success", "one failure since a person looked is allowed"
    assert installation.run(at=MORNING + 6 * HOUR).state == "success", "a decision ends the count"


def test_a_monitor_hears_of_runs_that_end_well(installation: Installation, monitor: Service) -> None:
    """Fails when a healthy schedule is silent, or a failed run looks healthy to the monitor."""
    installation.jobs_do("0", "65")
    assert installation.run(at=MORNING).state == "success"
    assert [asked.path for asked in monitor.asked] == ["/ping/secret-of-the-monitor"]
    assert installation.run(at=MORNING + HOUR).state == "failed"
    assert len(monitor.asked) == 1
    installation.scheduled(as_of=MORNING, next_candidate_at=MORNING + timedelta(days=1))
    assert installation.run(at=MORNING + HOUR).tasks["check_schedule"] == "skipped"
    assert len(monitor.asked) == 2


def test_a_monitor_that_is_away_fails_no_run(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails when an outage of the monitor fails a training run, or its secret address is in a log."""
    connection: dict[str, Any] = {
        "conn_type": "http",
        "host": "http://127.0.0.1:9",
        "password": "secret-of-the-monitor",
    }
    monkeypatch.setenv("AIRFLOW_CONN_FRAUD_DETECTION_HEARTBEAT", json.dumps(connection))
    installation.configure(heartbeat_connection="fraud_detection_heartbeat")
    assert installation.run().state == "success"
    assert "secret-of-the-monitor" not in "".join(capfd.readouterr())


def test_an_mlflow_without_a_server_is_not_asked() -> None:
    """Fails when a local installation with an SQLite file cannot run."""
    load("fraud_detection_common.mlflow").require_mlflow(None, "sqlite:////tmp/mlflow.db", "")


def test_a_budget_that_is_used_up_stops_clusters_and_is_told_once(installation: Installation, webhook: Service) -> None:
    """Fails when the money of a day does not stop clusters, failed ones are free, or every hour repeats the message."""
    installation.configure(currency="RUB", host_prices={"s3-c4-m16": 1e6}, daily_budget=0.01, max_failed_runs=9)
    installation.jobs_do("65", "0")
    failed = installation.run(at=MORNING)
    assert (failed.state, failed.tasks["delete_cluster"]) == ("failed", "success")
    sent = len(webhook.asked)
    skipped = [installation.run(at=MORNING + hours * HOUR) for hours in (1, 2)]
    assert [run.tasks["check_schedule"] for run in skipped] == ["skipped", "skipped"]
    assert [run.clusters("CREATING") for run in skipped] == [[], []]
    [said] = texts(webhook)[sent:]
    assert "daily_budget is used up" in said
    assert "of 0.01 RUB" in said
    assert skipped[1].xcom["check_schedule"]["reason"].startswith("daily_budget is used up")
    forced = installation.run(at=MORNING + 3 * HOUR, conf={"force": True})
    assert (forced.state, forced.clusters("CREATING")) == ("failed", [])
    installation.configure(daily_budget=1e9)
    run = installation.run(at=MORNING + 4 * HOUR)
    assert run.state == "success", "a higher budget is enough"
    assert run.xcom["outcome"]["cost_so_far"]["amount"] > 0
    assert "; cost so far" in texts(webhook)[-1]


@pytest.mark.parametrize(
    "wrong", [{"host_prices": {"s2-c2-m8": 5}}, {"host_prices": {"s3-c4-m16": "9,64"}}, {"daily_budget": "100 RUB"}]
)
def test_a_budget_without_a_price_costs_no_cluster(installation: Installation, wrong: dict[str, object]) -> None:
    """Fails when a budget has no effect because a preset has no price, or a number is none."""
    given: dict[str, object] = {"currency": "RUB", "host_prices": {"s3-c4-m16": 9.64}, "daily_budget": 100}
    installation.configure(**given | wrong)
    run = installation.run()
    assert (run.state, run.clusters("CREATING")) == ("failed", [])


def test_a_cluster_that_the_cloud_refused_costs_nothing(installation: Installation) -> None:
    """Fails when requests that the cloud refuses use the budget up."""
    installation.emulator.add_fault("create-refused", times=2)
    assert installation.run(at=MORNING).state == "failed"
    assert "0.00 cluster hours" in installation.run(at=MORNING + HOUR).xcom["check_schedule"]["spent_today"]
