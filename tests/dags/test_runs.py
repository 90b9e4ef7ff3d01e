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
from fake_cloud import ROOT, Run, World, load

from emulator.client import wait_for

HOUR = datetime(2026, 5, 24, 10, tzinfo=UTC)


def _clean(run: Run, clusters: int, jobs: int) -> None:
    """Assert as many clusters and jobs as expected, and no cluster left."""
    assert (len(run.clusters("CREATING")), len(run.jobs())) == (clusters, jobs)
    assert sorted(run.clusters("DELETED")) == sorted(run.clusters("CREATING"))


def test_a_run_makes_one_cluster_trains_once_and_tells_what_was_decided(world: World) -> None:
    """Fails when a normal run leaves its cluster behind, trains twice, or does not show its decision."""
    run = world.run()
    assert run.state == "success", run.tasks
    _clean(run, clusters=1, jobs=1)
    assert set(run.tasks.values()) == {"success"}
    told = run.xcom["outcome"]
    assert (told["decision"], told["version"]) == ("promoted", 13)
    assert told["summary"].startswith(
        "2026-05-24T10:00:00Z: promoted as v13; average precision +0.029 [+0.012, +0.046]; every check passed; "
        "report s3a://"
    )
    if _on_airflow_2():
        assert run.note == told["summary"]


def test_cluster_and_job_are_named_and_labelled_after_the_run(world: World) -> None:
    """Fails when a cluster lacks the name or labels by which teardown, retries and reaper find it."""
    run = world.run()
    [created] = [e for e in run.events if e["event"] == "cluster" and e["status"] == "CREATING"]
    assert created["labels"]["project"] == "fraud-detection"
    assert created["labels"]["run"].startswith("20260524t100000-")
    assert int(created["labels"]["lifetime-minutes"]) == 184
    assert created["name"] == run.jobs()[0] == f"fraud-detection-{created['labels']['run']}-1"


def test_a_run_with_nothing_to_learn_is_skipped_before_it_costs_anything(world: World) -> None:
    """Fails when a run with too few new frauds creates a cluster, or is skipped without saying why."""
    world.matured(HOUR - timedelta(hours=2), h1=4, h2=5, h3=100)
    run = world.run(at=HOUR)
    assert run.state == "success"
    assert set(run.tasks.values()) == {"skipped"}
    assert run.calls("ClusterService", "Create") == []
    told = run.xcom["enough_new_frauds"]
    assert (told["train"], told["new_frauds"]) == (False, 9)
    assert told["reason"] == "9 new frauds matured in 2026-05-24 08:00 … 2026-05-24 10:00; a run needs 10"


@pytest.mark.parametrize("conf", [None, {"force": True}])
def test_enough_new_frauds_or_a_person_who_insists_start_the_job(world: World, conf: dict[str, bool] | None) -> None:
    """Fails when enough new frauds do not start training, or a forced run is skipped."""
    world.matured(HOUR - timedelta(hours=2), h1=4, h2=5 if conf else 6)
    run = world.run(conf=conf)
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)


def test_a_refused_create_fails_the_run_and_leaves_nothing(world: World) -> None:
    """Fails when a run that could not get a cluster, for lack of quota, is green."""
    world.emulator.add_fault("create-refused", times=2)
    run = world.run()
    assert run.state == "failed"
    assert (run.tasks["create_cluster"], run.tasks["train"]) == ("failed", "upstream_failed")
    assert run.calls("ClusterService", "Create").count("RESOURCE_EXHAUSTED") == 2
    _clean(run, clusters=0, jobs=0)


def test_a_request_that_is_wrong_is_not_made_twice(world: World) -> None:
    """Fails when an invalid setting is reported only after all retries."""
    world.configure(zone="ru-central1-a")
    run = world.run()
    assert run.state == "failed"
    assert run.calls("ClusterService", "Create").count("INVALID_ARGUMENT") == 1
    _clean(run, clusters=0, jobs=0)


@pytest.mark.parametrize("times", [1, 2])
def test_clusters_that_ended_in_error_are_deleted(world: World, times: int) -> None:
    """Fails when a cluster that failed to start is left running and paid for."""
    world.emulator.add_fault("create-fails", times=times)
    run = world.run()
    assert run.state == ("success" if times == 1 else "failed")
    _clean(run, clusters=2, jobs=2 - times)


def test_a_cluster_whose_reply_was_lost_is_taken_over(world: World) -> None:
    """Fails when a lost reply makes a run create a second cluster and leak the first."""
    world.emulator.add_fault("reply-lost")
    run = world.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)


def test_a_create_that_lasts_too_long_fails_and_its_cluster_is_waited_for_and_deleted(world: World) -> None:
    """Fails when a slow creation hangs the run, or leaks the cluster that comes up after the time limit."""
    world.emulator.add_fault("create-slow", seconds=5)
    run = world.run(world.dag(create_cluster=1.5))
    assert run.state == "failed"
    assert run.tasks["delete_cluster"] == "success"
    _clean(run, clusters=1, jobs=0)


@pytest.mark.parametrize("word", ["1", "65"])
def test_a_job_that_another_try_cannot_help_is_not_tried_again(world: World, word: str) -> None:
    """Fails when a job that cannot succeed, such as one with bad data, is retried, or its run is green."""
    world.jobs_do(word)
    run = world.run()
    assert run.state == "failed"
    assert (run.tasks["train"], run.tasks["outcome"], run.tasks["delete_cluster"]) == (
        "failed",
        "upstream_failed",
        "success",
    )
    _clean(run, clusters=1, jobs=1)


@pytest.mark.parametrize("word", ["75", "killed"])
def test_a_job_that_another_try_can_help_is_tried_once_more(world: World, word: str) -> None:
    """Fails when a restart of MLflow or a lost node costs the whole hour's run."""
    world.jobs_do(word, "0")
    run = world.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=2)


def test_a_job_that_fails_every_time_fails_the_run(world: World) -> None:
    """Fails when a service that stays unavailable is hidden by a green run, or its job is retried without end."""
    world.jobs_do("75", "75")
    run = world.run()
    assert run.state == "failed"
    _clean(run, clusters=1, jobs=2)


def test_a_job_that_ends_well_without_a_decision_is_not_a_green_run(world: World) -> None:
    """Fails when a job that Data Proc reports as DONE, but that decided nothing, makes a green run."""
    world.jobs_do("silent")
    run = world.run()
    assert run.state == "failed"
    assert run.tasks["outcome"] == "failed"
    _clean(run, clusters=1, jobs=1)


def test_a_job_that_hangs_ends_at_its_limit_and_is_not_waited_for_twice(world: World) -> None:
    """Fails when a hanging job keeps its cluster and blocks all later runs."""
    world.jobs_do("hang")
    run = world.run(world.dag(train=2))
    assert run.state == "failed"
    _clean(run, clusters=1, jobs=1)
    assert [e["status"] for e in run.events if e["event"] == "job"][-1] == "CANCELLED"


def test_a_job_whose_reply_was_lost_is_attached_to(world: World) -> None:
    """Fails when a lost reply makes a run start a second job that decides the same hour."""
    world.jobs_do("slow")
    world.emulator.add_fault("reply-lost", method="JobService/Create")
    run = world.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)
    assert run.xcom["train"] == run.jobs()[0], "the outcome is read under the name of the job that ran"


def test_an_api_that_is_away_at_the_start_is_waited_for(world: World) -> None:
    """Fails when a short outage of the cloud's API at the start fails the run.

    Here it lasts two seconds and the next try is after three; in service tries are two minutes apart
    (`test_every_task_has_a_limit_and_retries`).
    """
    world.emulator.add_fault("api-unavailable", seconds=2)
    run = world.run(world.dag(retry_seconds=3))
    assert run.state == "success"
    assert "UNAVAILABLE" in [e["code"] for e in run.events if e["event"] == "call"]
    _clean(run, clusters=1, jobs=1)


def test_an_api_that_goes_away_while_the_job_runs_does_no_harm(world: World) -> None:
    """Fails when an outage of the cloud's API during training fails the run or starts a second job."""
    world.jobs_do("slow")
    with _when(world, lambda: _job_runs(world), lambda: world.emulator.add_fault("api-unavailable", seconds=3)):
        run = world.run()
    assert run.state == "success"
    assert "UNAVAILABLE" in [e["code"] for e in run.events if e["event"] == "call"]
    _clean(run, clusters=1, jobs=1)


@pytest.mark.parametrize("fault", ["delete-fails", "delete-refused"])
def test_a_delete_that_fails_is_tried_again(world: World, fault: str) -> None:
    """Fails when a cluster goes on costing money because one delete call failed."""
    world.emulator.add_fault(fault, times=2)  # of the training, and of the teardown's first try
    run = world.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)


def test_a_cluster_that_cannot_be_deleted_fails_the_run_and_the_reaper_takes_it(world: World) -> None:
    """Fails when a run that left its cluster behind is green, or the reaper does not delete that cluster."""
    world.emulator.add_fault("delete-fails", times=5)  # of the training, and of all tries of the teardown
    run = world.run()
    assert (run.state, run.tasks["delete_cluster"], run.tasks["outcome"]) == ("failed", "failed", "success")
    assert len(run.leaked) == 1
    assert _reap(world).clusters("DELETED") == [], "it may still be needed"
    assert set(_reap(world, later=timedelta(hours=4)).clusters("DELETED")) == run.leaked


def test_a_worker_killed_while_the_cluster_was_made_leaves_it_to_the_next_try(world: World) -> None:
    """Fails when a worker killed during creation leaks a cluster that the retry does not find."""
    world.emulator.add_fault("create-slow", seconds=3)
    before = len(world.emulator.events())
    _killed_when(world, lambda: _has(world, before, "cluster", "CREATING"))
    run = world.run()
    assert run.state == "success"
    run.events = world.emulator.events()[before:]
    _clean(run, clusters=1, jobs=1)


def test_a_worker_killed_for_good_leaves_its_cluster_to_the_reaper(world: World) -> None:
    """Fails when a cluster outlives an Airflow that was lost before its teardown could run."""
    before = len(world.emulator.events())
    _killed_when(world, lambda: _has(world, before, "cluster", "CREATING"))
    assert wait_for(lambda: _has(world, before, "cluster", "RUNNING"))
    reaped = _reap(world, later=timedelta(hours=4))
    assert reaped.state == "success"
    reaped.events = world.emulator.events()[before:]
    _clean(reaped, clusters=1, jobs=0)


def test_a_worker_killed_while_the_job_ran_attaches_to_it(world: World) -> None:
    """Fails when a restarted scheduler starts a second job that decides the same hour."""
    world.jobs_do("slow")
    before = len(world.emulator.events())
    _killed_when(world, lambda: _has(world, before, "job", "RUNNING"))
    run = world.run()
    assert run.state == "success"
    run.events = world.emulator.events()[before:]
    _clean(run, clusters=1, jobs=1)


def test_two_runs_at_once_train_once_each_and_delete_only_their_own_cluster(world: World) -> None:
    """Fails when one of two simultaneous runs deletes the cluster of the other."""
    world.jobs_do("slow", "slow")
    before = len(world.emulator.events())
    with _run_elsewhere(world, HOUR + timedelta(hours=1)) as other:
        assert wait_for(lambda: _has(world, before, "cluster", "CREATING"), 60)
        run = world.run()
        assert other.wait(60) == 0
    assert run.state == "success"
    run.events = world.emulator.events()[before:]
    _clean(run, clusters=2, jobs=2)
    both = [e["event"] + e["status"] for e in run.events if e.get("status") in ("RUNNING", "DELETED")]
    assert both.index("clusterDELETED") > both.index("clusterRUNNING", both.index("clusterRUNNING") + 1), (
        "the runs were not at once"
    )
    assert len(set(run.jobs())) == 2


def test_a_run_leaves_the_clusters_of_others_alone(world: World) -> None:
    """Fails when a run or the reaper deletes a cluster of another run or another project."""
    others = [world.cluster(project="fraud-detection", run="another"), world.cluster(project="another", run="another")]
    run = world.run()
    assert run.state == "success"
    _clean(run, clusters=1, jobs=1)
    assert _reap(world, later=timedelta(hours=5)).clusters("DELETED") == [], "six hours for those without a label"
    assert _reap(world, later=timedelta(hours=7)).clusters("DELETED") == others[:1]
    world.configure(project="another")
    assert _reap(world, later=timedelta(hours=7)).clusters("DELETED") == others[1:]


def test_the_reaper_spares_no_cluster_for_another_that_cannot_be_deleted(world: World) -> None:
    """Fails when one cluster that cannot be deleted keeps all other lost clusters alive."""
    labels = {"project": "fraud-detection", "lifetime-minutes": "60"}
    lost = [world.cluster(run="a", **labels), world.cluster(run="b", **labels)]
    world.emulator.add_fault("delete-fails")
    assert _reap(world).clusters("DELETED") == [], "they may still be needed"
    reaped = _reap(world, later=timedelta(hours=2))
    assert sorted(reaped.clusters("DELETED")) == sorted(lost), "the retry takes the one that was left"
    assert _reap(world, later=timedelta(hours=2)).clusters("DELETED") == []


@pytest.mark.parametrize("last_words", [("0",), ("65",), ("75", "75"), ("hang",)])
def test_the_training_deletes_its_cluster_where_nothing_schedules_the_teardown(
    world: World, last_words: tuple[str, ...]
) -> None:
    """Fails when a DAG that is paused during its training keeps a paid cluster until somebody notices."""
    world.jobs_do(*last_words)
    run = world.run(world.dag(train=2), unscheduled="delete_cluster")
    assert run.tasks["train"] == ("success" if last_words == ("0",) else "failed")
    before = len(world.emulator.events()) - len(run.events)
    assert wait_for(lambda: world.emulator.clusters() == []), "the cluster is still there"
    run.events = world.emulator.events()[before:]
    _clean(run, clusters=1, jobs=len(last_words))


def test_a_training_that_is_tried_again_keeps_its_cluster(world: World) -> None:
    """Fails when the first try deletes the cluster that its retry needs, and a restart of MLflow costs the hour."""
    world.jobs_do("75", "0")
    run = world.run(unscheduled="delete_cluster")
    assert run.tasks["train"] == "success"
    assert len(run.jobs()) == 2
    assert wait_for(lambda: world.emulator.clusters() == [])


def test_a_try_that_finds_its_cluster_deleted_takes_over_what_the_one_before_decided(world: World) -> None:
    """Fails when a worker lost right after the cluster's deletion turns a successful run red."""
    name = "fraud-detection-20260524t100000-000000"
    train = load("fraud_detection_common.operators").Train(
        task_id="t",
        connection_id="yandexcloud_default",
        cluster_id="c9q00000000000000000",
        name=f"{name}-3",
        properties={},
        output_uri=world.variables["output_uri"],
        storage_endpoint=world.variables["storage_endpoint"],
    )
    context = {"ti": SimpleNamespace(try_number=3, max_tries=3)}
    with pytest.raises(Exception, match=r"is gone: .*next: clear the whole run"):
        train.execute(context)
    world.leave(f"outcomes/{name}-2.json", {"decision": None})
    world.leave(f"outcomes/{name}-1.json", {"decision": "refused"})
    assert train.execute(context) == f"{name}-1"


def test_the_reaper_takes_a_cluster_that_has_had_no_job_for_too_long(world: World) -> None:
    """Fails when a DAG that is paused before its training keeps a cluster for hours, or a slow run loses its own."""
    labels = {"project": "fraud-detection", "run": "a", "lifetime-minutes": "184", "idle-minutes": "44"}
    idle, busy = world.cluster(**labels), world.cluster(**labels)
    world.jobs_do("hang")
    job = world.job(busy)
    assert _reap(world, later=timedelta(minutes=43)).clusters("DELETED") == [], "its training may yet begin"
    assert _reap(world, later=timedelta(minutes=45)).clusters("DELETED") == [idle]
    world.cancel(busy, job)
    assert _reap(world, later=timedelta(minutes=43)).clusters("DELETED") == [], "another try may yet begin"
    assert _reap(world, later=timedelta(minutes=46)).clusters("DELETED") == [busy]


def test_a_deletion_that_never_ends_holds_up_no_other(world: World) -> None:
    """Fails when one deletion that never ends takes all the reaper's time, and other clusters go on costing money."""
    labels = {"project": "fraud-detection", "lifetime-minutes": "60"}
    stuck = world.cluster(run="a", **labels)
    world.emulator.add_fault("delete-slow", seconds=15)
    others = [world.cluster(run=name, **labels) for name in "bcd"]
    reaped = _reap(world, later=timedelta(hours=2), seconds=5, retries=0)
    assert reaped.state == "failed"
    assert sorted(reaped.clusters("DELETED")) == sorted(others)
    assert wait_for(lambda: world.emulator.clusters() == [], 30)
    assert stuck not in reaped.clusters("DELETED")


def test_a_teardown_with_several_clusters_names_those_that_stay(world: World) -> None:
    """Fails when one cluster that cannot be deleted keeps the run's others alive, or is not named."""
    operators = load("fraud_detection_common.operators")
    operators.clusters.POLL_SECONDS = 0.2
    labels = {"project": "fraud-detection", "run": "a"}
    made = [world.cluster(**labels), world.cluster(**labels)]
    delete = operators.DeleteClusters(
        task_id="d", connection_id="yandexcloud_default", labels=labels, execution_timeout=timedelta(seconds=20)
    )
    world.emulator.add_fault("delete-refused", code="PERMISSION_DENIED")
    with pytest.raises(Exception, match=r"1 of 2 cluster.* not deleted: .*PERMISSION_DENIED") as raised:
        delete.execute({})
    [left] = [cluster["id"] for cluster in world.emulator.clusters()]
    assert left in made
    assert left in str(raised.value)
    assert delete.execute({}) == [left]
    assert world.emulator.clusters() == []


@pytest.mark.parametrize("conf", [None, {"force": True}])
def test_a_decided_hour_is_refused_before_it_costs_anything(
    world: World,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    conf: dict[str, bool] | None,
) -> None:
    """Fails when a forced run of a decided hour pays for a cluster that trains nothing, and is green."""
    world.matured(HOUR, h1=100)
    run = world.run(at=HOUR + timedelta(minutes=20), conf=conf)
    assert run.calls("ClusterService", "Create") == []
    assert (run.state, run.tasks["enough_new_frauds"]) == (("failed", "failed") if conf else ("success", "skipped"))
    told = run.xcom["enough_new_frauds"]
    assert told["reason"] == "2026-05-24 10:00 is decided already"
    if conf:
        output = capfd.readouterr()
        assert "the next hour to decide is 2026-05-24 11:00 UTC" in output.out + output.err + caplog.text
    assert world.run(at=HOUR + timedelta(hours=1), conf=conf).state == "success"


def test_no_secret_is_in_templates_task_logs_or_the_event_log(
    world: World, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Fails when the service account's key can be read in Airflow's pages, the task logs or the event log."""
    run = world.run()
    assert run.state == "success"
    key = json.loads(Path(world.emulator.cloud["service_accounts"]["airflow"]["key"]).read_text())["private_key"]
    secret = max(key.splitlines(), key=len)
    output = capfd.readouterr()
    templates = _rendered_templates(run.run_id)
    assert len(templates) >= 4, "Airflow kept too few templates to tell"
    for shown in (
        (world.emulator.state / "events.jsonl").read_text(),
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


def _reap(world: World, later: timedelta = timedelta(0), seconds: float = 60, retries: int = 2) -> Run:
    """A run of the reaper, at a later time of day."""
    dag = world.dag("fraud_detection_cluster_reaper", delete_outlived_clusters=seconds)
    dag.get_task("delete_outlived_clusters").retries = retries
    operators = sys.modules["fraud_detection_common.operators"]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + later

    operators.datetime = Clock  # type: ignore[attr-defined]
    return world.run(dag)


def _has(world: World, before: int, kind: str, status: str) -> bool:
    return any(e["event"] == kind and e.get("status") == status for e in world.emulator.events()[before:])


def _job_runs(world: World) -> bool:
    return any(job["status"] == "RUNNING" for job in world.emulator.jobs())


class _when(threading.Thread):  # noqa: N801  (reads as a sentence)
    """Act during the block, as soon as a condition holds."""

    def __init__(self, world: World, condition: Callable[[], bool], action: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._condition, self._action = condition, action

    def run(self) -> None:
        if wait_for(self._condition, 60):
            self._action()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.join(70)


def _killed_when(world: World, condition: Callable[[], bool]) -> None:
    """Run the DAG in its own process, and send it SIGKILL as soon as the condition holds."""
    with _run_elsewhere(world, HOUR) as process:
        assert wait_for(lambda: condition() or process.poll() is not None, 60)
        assert process.poll() is None, "the run was over before it could be killed"


@contextmanager
def _run_elsewhere(world: World, at: datetime) -> Iterator[subprocess.Popen[bytes]]:
    """A run in its own process, which exits with 0 if the run is green, and is killed if it takes too long."""
    program = f"""import sys; from datetime import datetime; import fake_cloud
dag = fake_cloud.load("fraud_detection_training").dag
run = fake_cloud.dag_test(dag, datetime.fromisoformat("{at.isoformat()}"), None)
sys.exit(str(run.state) != "success")"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    log = world.emulator.state / "elsewhere.log"
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
