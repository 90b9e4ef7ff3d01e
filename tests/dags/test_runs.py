"""Whole runs against the emulator: no fault of the cloud may leak a cluster, hide a failed training, or train twice."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_cloud import ROOT, Installation, Run, load

from emulator.client import wait_for

HOUR = datetime(2026, 5, 24, 10, tzinfo=UTC)


def _clean(run: Run, clusters: int, jobs: int) -> None:
    """Assert as many clusters and jobs as expected, and no cluster left."""
    assert (len(run.clusters("CREATING")), len(run.jobs())) == (clusters, jobs)
    assert sorted(run.clusters("DELETED")) == sorted(run.clusters("CREATING"))


def _clean_since(run: Run, installation: Installation, before: int, clusters: int, jobs: int) -> None:
    """The same of all that happened since there were `before` events, also by processes that were killed."""
    assert run.state == "success"
    run.events = installation.emulator.events()[before:]
    _clean(run, clusters, jobs)


def test_a_run_makes_one_cluster_trains_once_and_tells_what_was_decided(installation: Installation) -> None:
    """Fails when a normal run leaves its cluster behind, trains twice, or does not show its decision."""
    run = installation.run()
    assert run.state == "success", run.tasks
    _clean(run, clusters=1, jobs=1)
    assert set(run.tasks.values()) == {"success"}
    result = run.xcom["outcome"]
    assert (result["decision"], result["version"]) == ("promoted", 13)
    assert result["summary"].startswith(
        "2026-05-24T10:00:00Z: promoted as v13; average precision +0.029 [+0.012, +0.046]; every check passed; "
        "report s3a://"
    )
    assert [(look["number"], look["passed"]) for look in result["looks"]] == [(3, True), (5, False)]
    assert [check["name"] for check in result["checks"]] == ["significance"]
    if _on_airflow_2():
        assert run.note == result["summary"]


def test_the_outcome_of_an_earlier_release_is_read(installation: Installation) -> None:
    """Fails when a job of the release before an upgrade ends after it, and its decision turns the run red."""
    installation.jobs_do("refused")
    run = installation.run()
    assert run.state == "success", run.tasks
    assert run.xcom["outcome"]["summary"] == "2026-05-24T10:00:00Z: refused; no better; report s3a://demo/report.html"
    assert "looks" not in run.xcom["outcome"]


def test_cluster_and_job_are_named_and_labelled_after_the_run(installation: Installation) -> None:
    """Fails when a cluster lacks the name or labels by which teardown, retries and reaper find it."""
    run = installation.run()
    [created] = [e for e in run.events if e["event"] == "cluster" and e["status"] == "CREATING"]
    assert created["labels"]["project"] == "fraud-detection"
    assert created["labels"]["run"].startswith("20260524t100000-")
    assert int(created["labels"]["lifetime-minutes"]) == 184
    assert created["name"] == run.jobs()[0] == f"fraud-detection-{created['labels']['run']}-1"


def test_yarn_never_repeats_a_job(installation: Installation) -> None:
    """Fails when YARN may restart a failed driver by itself, and the same hour is decided twice."""
    installation.configure(spark_properties={"spark.executor.memory": "2g"})
    assert installation.run().state == "success"
    properties = installation.emulator.jobs()[-1]["pysparkJob"]["properties"]
    assert properties["spark.executor.memory"] == "2g"
    assert properties["spark.yarn.maxAppAttempts"] == "1"


def test_a_run_with_nothing_due_is_skipped_before_it_costs_anything(installation: Installation) -> None:
    """Fails when a run with nothing due creates a cluster, or is skipped without saying what is waited for."""
    installation.scheduled(HOUR - timedelta(hours=2), HOUR + timedelta(hours=14), h1=4, h2=4, h3=100)
    run = installation.run(at=HOUR)
    assert run.state == "success"
    assert set(run.tasks.values()) == {"skipped"}
    assert run.calls("ClusterService", "Create") == []
    result = run.xcom["check_schedule"]
    assert not result["due"]
    waits = "candidate 2026-05-24 00:00 has 39 of 40 frauds; next candidate 2026-05-25 00:00"
    assert result["reason"] == f"nothing due: {waits}"


@pytest.mark.parametrize("conf", [None, {"force": True}])
def test_a_due_look_or_a_person_who_insists_start_the_job(
    installation: Installation, conf: dict[str, bool] | None
) -> None:
    """Fails when a look that is due does not start a run, or a forced run is skipped."""
    installation.scheduled(HOUR - timedelta(hours=2), HOUR + timedelta(hours=14), h1=4, h2=4 if conf else 5)
    run = installation.run(conf=conf)
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)


def test_a_refused_create_fails_the_run_and_leaves_nothing(installation: Installation) -> None:
    """Fails when a run that could not get a cluster, for lack of quota, is green."""
    installation.emulator.add_fault("create-refused", times=2)
    run = installation.run()
    assert run.state == "failed"
    assert (run.tasks["create_cluster"], run.tasks["train"]) == ("failed", "upstream_failed")
    assert run.calls("ClusterService", "Create").count("RESOURCE_EXHAUSTED") == 2
    _clean(run, clusters=0, jobs=0)


def test_a_request_that_is_wrong_is_not_made_twice(installation: Installation) -> None:
    """Fails when an invalid setting is reported only after all retries."""
    installation.configure(zone="ru-central1-a")
    run = installation.run()
    assert run.state == "failed"
    assert run.calls("ClusterService", "Create").count("INVALID_ARGUMENT") == 1
    _clean(run, clusters=0, jobs=0)


@pytest.mark.parametrize("times", [1, 2])
def test_clusters_that_ended_in_error_are_deleted(installation: Installation, times: int) -> None:
    """Fails when a cluster that failed to start is left running and paid for."""
    installation.emulator.add_fault("create-fails", times=times)
    run = installation.run()
    assert run.state == ("success" if times == 1 else "failed")
    _clean(run, clusters=2, jobs=2 - times)


def test_a_cluster_whose_reply_was_lost_is_taken_over(installation: Installation) -> None:
    """Fails when a lost reply makes a run create a second cluster and leak the first."""
    installation.emulator.add_fault("reply-lost")
    run = installation.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)


def test_a_create_that_lasts_too_long_fails_and_its_cluster_is_waited_for_and_deleted(
    installation: Installation,
) -> None:
    """Fails when a slow creation hangs the run, or leaks the cluster that comes up after the time limit."""
    installation.emulator.add_fault("create-slow", seconds=10)
    run = installation.run(installation.dag(create_cluster=4))
    assert run.state == "failed"
    assert run.tasks["delete_cluster"] == "success"
    _clean(run, clusters=1, jobs=0)


@pytest.mark.parametrize("word", ["1", "65"])
def test_a_job_that_another_try_cannot_help_is_not_tried_again(installation: Installation, word: str) -> None:
    """Fails when a job that cannot succeed, such as one with bad data, is retried, or its run is green."""
    installation.jobs_do(word)
    run = installation.run()
    assert run.state == "failed"
    assert (run.tasks["train"], run.tasks["outcome"], run.tasks["delete_cluster"]) == (
        "failed",
        "upstream_failed",
        "success",
    )
    _clean(run, clusters=1, jobs=1)


@pytest.mark.parametrize("word", ["75", "killed"])
def test_a_job_that_another_try_can_help_is_tried_once_more(installation: Installation, word: str) -> None:
    """Fails when a restart of MLflow or a lost node costs the whole hour's run."""
    installation.jobs_do(word, "0")
    run = installation.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=2)


def test_a_job_that_fails_every_time_fails_the_run(installation: Installation) -> None:
    """Fails when a service that stays unavailable is hidden by a green run, or its job is retried without end."""
    installation.jobs_do("75", "75")
    run = installation.run()
    assert run.state == "failed"
    _clean(run, clusters=1, jobs=2)


def test_a_job_that_ends_well_without_a_decision_is_not_a_green_run(installation: Installation) -> None:
    """Fails when a job that Data Proc reports as DONE, but that decided nothing, makes a green run."""
    installation.jobs_do("silent")
    run = installation.run()
    assert run.state == "failed"
    assert run.tasks["outcome"] == "failed"
    _clean(run, clusters=1, jobs=1)


def test_a_job_that_hangs_ends_at_its_limit_and_is_not_waited_for_twice(installation: Installation) -> None:
    """Fails when a hanging job keeps its cluster and blocks all later runs."""
    installation.jobs_do("hang")
    run = installation.run(installation.dag(train=6))
    assert run.state == "failed"
    _clean(run, clusters=1, jobs=1)
    assert [e["status"] for e in run.events if e["event"] == "job"][-1] == "CANCELLED"


def test_a_job_whose_reply_was_lost_is_attached_to(installation: Installation) -> None:
    """Fails when a lost reply makes a run start a second job that decides the same hour."""
    installation.jobs_do("slow")
    installation.emulator.add_fault("reply-lost", method="JobService/Create")
    run = installation.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)
    assert run.xcom["train"] == run.jobs()[0], "the outcome is read under the name of the job that ran"


def test_an_api_that_is_away_at_the_start_is_waited_for(installation: Installation) -> None:
    """Fails when a short outage of the cloud's API at the start fails the run.

    Here it lasts for one call and the next try is after a second; in service tries are two minutes apart
    (`test_every_task_has_a_limit_and_retries`).
    """
    installation.emulator.add_fault("api-unavailable", times=1)
    run = installation.run(installation.dag(retry_seconds=1))
    assert run.state == "success"
    assert "UNAVAILABLE" in [e["code"] for e in run.events if e["event"] == "call"]
    _clean(run, clusters=1, jobs=1)


def test_an_api_that_goes_away_while_the_job_runs_does_no_harm(installation: Installation) -> None:
    """Fails when an outage of the cloud's API during training fails the run or starts a second job."""
    installation.jobs_do("slow")
    with _when(
        installation,
        lambda: _job_runs(installation),
        lambda: installation.emulator.add_fault("api-unavailable", seconds=3),
    ):
        run = installation.run()
    assert run.state == "success"
    assert "UNAVAILABLE" in [e["code"] for e in run.events if e["event"] == "call"]
    _clean(run, clusters=1, jobs=1)


@pytest.mark.parametrize("fault", ["delete-fails", "delete-refused"])
def test_a_delete_that_fails_is_tried_again(installation: Installation, fault: str) -> None:
    """Fails when a cluster goes on costing money because one delete call failed."""
    installation.emulator.add_fault(fault, times=2)  # of the training, and of the teardown's first try
    run = installation.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)


def test_a_cluster_that_cannot_be_deleted_fails_the_run_and_the_reaper_takes_it(installation: Installation) -> None:
    """Fails when a run that left its cluster behind is green, or the reaper does not delete that cluster."""
    installation.emulator.add_fault("delete-fails", times=5)  # of the training, and of all tries of the teardown
    run = installation.run()
    assert (run.state, run.tasks["delete_cluster"], run.tasks["outcome"]) == ("failed", "failed", "success")
    assert len(run.leaked) == 1
    assert _reap(installation).clusters("DELETED") == [], "it may still be needed"
    assert set(_reap(installation, later=timedelta(hours=4)).clusters("DELETED")) == run.leaked


@pytest.mark.slow
def test_a_worker_killed_while_the_cluster_was_made_leaves_it_to_the_next_try(installation: Installation) -> None:
    """Fails when a worker killed during creation leaks a cluster that the retry does not find."""
    installation.emulator.add_fault("create-slow", seconds=3)
    before = len(installation.emulator.events())
    _killed_when(installation, lambda: _has(installation, before, "cluster", "CREATING"))
    _clean_since(installation.run(), installation, before, clusters=1, jobs=1)


@pytest.mark.slow
def test_a_worker_killed_for_good_leaves_its_cluster_to_the_reaper(installation: Installation) -> None:
    """Fails when a cluster outlives an Airflow that was lost before its teardown could run."""
    before = len(installation.emulator.events())
    _killed_when(installation, lambda: _has(installation, before, "cluster", "CREATING"))
    assert wait_for(lambda: _has(installation, before, "cluster", "RUNNING"))
    reaped = _reap(installation, later=timedelta(hours=4))
    _clean_since(reaped, installation, before, clusters=1, jobs=0)


@pytest.mark.slow
def test_a_worker_killed_while_the_job_ran_attaches_to_it(installation: Installation) -> None:
    """Fails when a restarted scheduler starts a second job that decides the same hour."""
    installation.jobs_do("slow")
    before = len(installation.emulator.events())
    _killed_when(installation, lambda: _has(installation, before, "job", "RUNNING"))
    _clean_since(installation.run(), installation, before, clusters=1, jobs=1)


@pytest.mark.slow
def test_two_runs_at_once_train_once_each_and_delete_only_their_own_cluster(installation: Installation) -> None:
    """Fails when one of two simultaneous runs deletes the cluster of the other."""
    installation.jobs_do("slow", "slow")
    before = len(installation.emulator.events())
    with _run_elsewhere(installation, HOUR + timedelta(hours=1)) as other:
        assert wait_for(lambda: _has(installation, before, "cluster", "CREATING"), 60)
        run = installation.run()
        assert other.wait(60) == 0
    _clean_since(run, installation, before, clusters=2, jobs=2)
    both = [e["event"] + e["status"] for e in run.events if e.get("status") in ("RUNNING", "DELETED")]
    assert both.index("clusterDELETED") > both.index("clusterRUNNING", both.index("clusterRUNNING") + 1), (
        "the runs were not at once"
    )
    assert len(set(run.jobs())) == 2


def test_a_run_leaves_the_clusters_of_others_alone(installation: Installation) -> None:
    """Fails when a run or the reaper deletes a cluster of another run or another project."""
    others = [
        installation.cluster(project="fraud-detection", run="another"),
        installation.cluster(project="another", run="another"),
    ]
    run = installation.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)
    assert _reap(installation, later=timedelta(hours=5)).clusters("DELETED") == [], (
        "six hours for those without a label"
    )
    assert _reap(installation, later=timedelta(hours=7)).clusters("DELETED") == others[:1]
    installation.configure(project="another")
    assert _reap(installation, later=timedelta(hours=7)).clusters("DELETED") == others[1:]


def test_the_reaper_spares_no_cluster_for_another_that_cannot_be_deleted(installation: Installation) -> None:
    """Fails when one cluster that cannot be deleted keeps all other lost clusters alive."""
    labels = {"project": "fraud-detection", "lifetime-minutes": "60"}
    lost = [installation.cluster(run="a", **labels), installation.cluster(run="b", **labels)]
    installation.emulator.add_fault("delete-fails")
    assert _reap(installation).clusters("DELETED") == [], "they may still be needed"
    reaped = _reap(installation, later=timedelta(hours=2))
    assert sorted(reaped.clusters("DELETED")) == sorted(lost), "the retry takes the one that was left"
    assert _reap(installation, later=timedelta(hours=2)).clusters("DELETED") == []


@pytest.mark.parametrize("last_words", [("0",), ("65",), ("75", "75"), ("hang",)])
def test_the_training_deletes_its_cluster_where_nothing_schedules_the_teardown(
    installation: Installation, last_words: tuple[str, ...]
) -> None:
    """Fails when a DAG that is paused during its training keeps a paid cluster until somebody notices."""
    installation.jobs_do(*last_words)
    limits = {"train": 6} if last_words == ("hang",) else {}
    run = installation.run(installation.dag(**limits), unscheduled="delete_cluster")
    assert run.tasks["train"] == ("success" if last_words == ("0",) else "failed")
    before = len(installation.emulator.events()) - len(run.events)
    assert wait_for(lambda: installation.emulator.clusters() == []), "the cluster is still there"
    run.events = installation.emulator.events()[before:]
    _clean(run, clusters=1, jobs=len(last_words))


def test_a_training_that_is_tried_again_keeps_its_cluster(installation: Installation) -> None:
    """Fails when the first try deletes the cluster that its retry needs, and a restart of MLflow costs the hour."""
    installation.jobs_do("75", "0")
    run = installation.run(unscheduled="delete_cluster")
    assert run.tasks["train"] == "success"
    assert len(run.jobs()) == 2
    assert wait_for(lambda: installation.emulator.clusters() == [])


def test_a_try_that_finds_its_cluster_deleted_takes_over_what_the_one_before_decided(
    installation: Installation,
) -> None:
    """Fails when a worker lost right after the cluster's deletion turns a successful run red."""
    name = "fraud-detection-20260524t100000-000000"
    train = load("fraud_detection_common.operators").Train(
        task_id="t",
        connection_id="yandexcloud_default",
        cluster_id="c9q00000000000000000",
        name=f"{name}-3",
        properties={},
        output_uri=installation.variables["output_uri"],
        storage_endpoint=installation.variables["storage_endpoint"],
    )
    context = {"ti": SimpleNamespace(try_number=3, max_tries=3)}
    with pytest.raises(Exception, match=r"is gone: .*next: clear the whole run"):
        train.execute(context)
    installation.leave(f"outcomes/{name}-2.json", {"decision": "refused", "exit_code": 75})  # scoring failed
    with pytest.raises(Exception, match=r"is gone: .*next: clear the whole run"):
        train.execute(context)
    installation.leave(f"outcomes/{name}-2.json", {"decision": None})
    installation.leave(f"outcomes/{name}-1.json", {"decision": "refused"})
    assert train.execute(context) == f"{name}-1"


def test_a_try_whose_cluster_another_one_deletes_takes_over_what_that_one_decided(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a task that outlived its scheduler deletes the run's cluster, and so turns the next try red."""
    operators = load("fraud_detection_common.operators")
    labels, name = {"project": "fraud-detection", "run": "a"}, "fraud-detection-20260524t100000-000000"
    cluster = installation.cluster(**labels)
    installation.jobs_do("slow")
    installation.job(cluster)
    train = operators.Train(
        task_id="t",
        connection_id="yandexcloud_default",
        cluster_id=cluster,
        name=f"{name}-2",
        properties={},
        output_uri=installation.variables["output_uri"],
        storage_endpoint=installation.variables["storage_endpoint"],
    )
    delete = operators.DeleteClusters(
        task_id="d", connection_id="yandexcloud_default", labels=labels, execution_timeout=timedelta(seconds=20)
    )

    task = SimpleNamespace(try_number=2, max_tries=3, xcom_push=lambda **_: None)

    def end_of_the_other(_: float) -> None:
        assert wait_for(lambda: not _job_runs(installation), 60)
        installation.leave(f"outcomes/{name}-1.json", {"decision": "refused"})
        delete.execute({"ti": task})

    monkeypatch.setattr(operators, "time", SimpleNamespace(sleep=end_of_the_other))  # between two polls of the job
    run = SimpleNamespace(dag_id="d", run_id="r", run_after=datetime(2026, 5, 24, 10, tzinfo=UTC))
    assert train.execute({"ti": task, "dag_run": run}) == f"{name}-1"


def test_the_reaper_takes_a_cluster_that_has_had_no_job_for_too_long(installation: Installation) -> None:
    """Fails when a DAG that is paused before its training keeps a cluster for hours, or a slow run loses its own."""
    labels = {"project": "fraud-detection", "run": "a", "lifetime-minutes": "184", "idle-minutes": "44"}
    idle, busy = installation.cluster(**labels), installation.cluster(**labels)
    installation.jobs_do("hang")
    job = installation.job(busy)
    assert _reap(installation, later=timedelta(minutes=43)).clusters("DELETED") == [], "its training may yet begin"
    assert _reap(installation, later=timedelta(minutes=45)).clusters("DELETED") == [idle]
    installation.cancel(busy, job)
    assert _reap(installation, later=timedelta(minutes=43)).clusters("DELETED") == [], "another try may yet begin"
    assert _reap(installation, later=timedelta(minutes=46)).clusters("DELETED") == [busy]


@pytest.mark.slow
def test_a_deletion_that_never_ends_holds_up_no_other(installation: Installation) -> None:
    """Fails when one deletion that never ends takes all the reaper's time, and other clusters go on costing money."""
    labels = {"project": "fraud-detection", "lifetime-minutes": "60"}
    stuck = installation.cluster(run="a", **labels)
    installation.emulator.add_fault("delete-slow", seconds=15)
    others = [installation.cluster(run=name, **labels) for name in "bcd"]
    reaped = _reap(installation, later=timedelta(hours=2), seconds=5, retries=0)
    assert reaped.state == "failed"
    assert sorted(reaped.clusters("DELETED")) == sorted(others)
    assert wait_for(lambda: installation.emulator.clusters() == [], 30)
    assert stuck not in reaped.clusters("DELETED")


def test_a_teardown_with_several_clusters_names_those_that_stay(installation: Installation) -> None:
    """Fails when one cluster that cannot be deleted keeps the run's others alive, or is not named."""
    operators = load("fraud_detection_common.operators")
    operators.clusters.POLL_SECONDS = 0.2
    labels = {"project": "fraud-detection", "run": "a"}
    made = [installation.cluster(**labels), installation.cluster(**labels)]
    delete = operators.DeleteClusters(
        task_id="d", connection_id="yandexcloud_default", labels=labels, execution_timeout=timedelta(seconds=20)
    )
    installation.emulator.add_fault("delete-refused", code="PERMISSION_DENIED")
    with pytest.raises(Exception, match=r"1 of 2 cluster.* not deleted: .*PERMISSION_DENIED") as raised:
        delete.execute({})
    [left] = [cluster["id"] for cluster in installation.emulator.clusters()]
    assert left in made
    assert left in str(raised.value)
    assert delete.execute({"ti": SimpleNamespace(xcom_push=lambda **_: None)}) == [left]
    assert installation.emulator.clusters() == []


@pytest.mark.parametrize("conf", [None, {"force": True}])
def test_a_decided_hour_is_refused_before_it_costs_anything(
    installation: Installation,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    conf: dict[str, bool] | None,
) -> None:
    """Fails when a forced run of a decided hour pays for a cluster that trains nothing, and is green."""
    installation.scheduled(HOUR, HOUR + timedelta(hours=1))
    run = installation.run(at=HOUR + timedelta(minutes=20), conf=conf)
    assert run.calls("ClusterService", "Create") == []
    assert (run.state, run.tasks["check_schedule"]) == (("failed", "failed") if conf else ("success", "skipped"))
    result = run.xcom["check_schedule"]
    assert result["reason"] == "2026-05-24 10:00 is decided already"
    if conf:
        output = capfd.readouterr()
        assert "the next hour to decide is 2026-05-24 11:00 UTC" in output.out + output.err + caplog.text
    assert installation.run(at=HOUR + timedelta(hours=1), conf=conf).state == "success"


def test_no_secret_is_in_templates_task_logs_or_the_event_log(
    installation: Installation, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Fails when the service account's key can be read in Airflow's pages, the task logs or the event log."""
    run = installation.run()
    assert run.state == "success"
    key = json.loads(Path(installation.emulator.cloud["service_accounts"]["airflow"]["key"]).read_text())["private_key"]
    secret = max(key.splitlines(), key=len)
    output = capfd.readouterr()
    templates = _rendered_templates(run.run_id)
    assert len(templates) >= 4, "Airflow kept too few templates to tell"
    for shown in (
        (installation.emulator.state / "events.jsonl").read_text(),
        output.out + output.err + caplog.text,
        json.dumps(templates),
    ):
        assert secret not in shown
        assert "PRIVATE KEY" not in shown


def _rendered_templates(run_id: str) -> list[object]:
    """The rendered templates that Airflow stores and shows."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.query(RenderedTaskInstanceFields).filter_by(run_id=run_id).all()
        return [row.rendered_fields for row in rows]


def _on_airflow_2() -> bool:
    from airflow import __version__

    return __version__.startswith("2.")


def _reap(installation: Installation, later: timedelta = timedelta(0), seconds: float = 60, retries: int = 2) -> Run:
    """A run of the reaper, at a later time of day."""
    dag = installation.dag("fraud_detection_cluster_reaper", delete_outlived_clusters=seconds)
    dag.get_task("delete_outlived_clusters").retries = retries
    operators = sys.modules["fraud_detection_common.operators"]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + later

    operators.datetime = Clock  # type: ignore[attr-defined]
    return installation.run(dag)


def _has(installation: Installation, before: int, kind: str, status: str) -> bool:
    return any(e["event"] == kind and e.get("status") == status for e in installation.emulator.events()[before:])


def _job_runs(installation: Installation) -> bool:
    return any(job["status"] == "RUNNING" for job in installation.emulator.jobs())


class _when(threading.Thread):  # noqa: N801  (reads as a sentence)
    """Act during the block, as soon as a condition holds."""

    def __init__(self, installation: Installation, condition: Callable[[], bool], action: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._condition, self._action = condition, action

    def run(self) -> None:
        if wait_for(self._condition, 60):
            self._action()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.join(70)


def _killed_when(installation: Installation, condition: Callable[[], bool]) -> None:
    """Run the DAG in its own process, and send it SIGKILL as soon as the condition holds."""
    with _run_elsewhere(installation, HOUR) as process:
        assert wait_for(lambda: condition() or process.poll() is not None, 60)
        assert process.poll() is None, "the run was over before it could be killed"


@contextmanager
def _run_elsewhere(installation: Installation, at: datetime) -> Iterator[subprocess.Popen[bytes]]:
    """A run in its own process, which exits with 0 if the run is green, and is killed if it takes too long."""
    program = f"""import sys; from datetime import datetime; import fake_cloud
dag = fake_cloud.load("fraud_detection_training").dag
run = fake_cloud.dag_test(dag, datetime.fromisoformat("{at.isoformat()}"), None)
sys.exit(str(run.state) != "success")"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    log = installation.emulator.state / "elsewhere.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            sys.stdout.write(log.read_text(errors="replace")[-2000:])
