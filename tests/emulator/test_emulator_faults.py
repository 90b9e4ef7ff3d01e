"""Each fault strikes as often as it was armed and where it was aimed, and has the effects of the real fault."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from fakes.emulated_cloud import Api, code, emulated
from yandex.cloud.dataproc.v1 import cluster_pb2, cluster_service_pb2
from yandexcloud.operations import OperationError

from emulator.client import wait_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with emulated(tmp_path_factory.mktemp("cloud") / "state") as found:
        yield found


@pytest.fixture
def api(shared: Api) -> Iterator[Api]:
    yield shared
    shared.emulator.clear_faults()
    assert wait_for(lambda: all(found["status"] != "CREATING" for found in shared.emulator.clusters()))
    for found in shared.emulator.clusters():
        shared.delete_cluster(found["id"])


def created_and_deleted(api: Api, name: str) -> tuple[int, int]:
    """How many clusters of a name were created and deleted, by the event log."""
    statuses = [event["status"] for event in api.emulator.events("cluster", name=name)]
    return statuses.count("CREATING"), statuses.count("DELETED")


def test_create_refused_makes_no_cluster_and_strikes_once(api: Api) -> None:
    """Fails when a DAG's behaviour without quota cannot be tested."""
    api.emulator.add_fault("create-refused")
    with pytest.raises(grpc.RpcError) as error:
        api.clusters.Create(api.cluster_request("refused"))
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert created_and_deleted(api, "refused") == (0, 0)
    assert api.create_cluster("refused").status == cluster_pb2.Cluster.RUNNING


def test_create_fails_leaves_a_cluster_in_error_that_can_be_deleted(api: Api) -> None:
    """Fails when the leak of a cluster whose creation failed cannot be tested."""
    api.emulator.add_fault("create-fails")
    operation = api.done(api.clusters.Create(api.cluster_request("broken")))
    assert operation.error.code == grpc.StatusCode.INTERNAL.value[0]
    (found,) = api.emulator.clusters()
    assert (found["status"], found["labels"]) == ("ERROR", {"run": "broken"})
    assert not api.delete_cluster(found["id"]).HasField("error")
    assert created_and_deleted(api, "broken") == (1, 1)


def test_create_fails_raises_in_the_operator(api: Api) -> None:
    """Fails when a failed creation does not raise in Airflow's operator as it does in the cloud."""
    api.emulator.add_fault("create-fails")
    with pytest.raises(OperationError, match="Error code: 13"):
        api.wrapper().create_cluster(
            cluster_name="broken",
            s3_bucket="demo",
            services=("YARN", "SPARK"),
            service_account_id=api.cloud["service_accounts"]["dataproc"]["id"],
            datanode_count=0,
            computenode_count=1,
        )


def test_create_slow_takes_its_time(api: Api) -> None:
    """Fails when a DAG's time limit for a slow creation cannot be tested."""
    api.emulator.add_fault("create-slow", seconds=0.5)
    begun = time.monotonic()
    api.create_cluster("slow")
    assert time.monotonic() - begun >= 0.5


def test_a_lost_reply_leaves_a_cluster_that_its_caller_knows_nothing_of(api: Api) -> None:
    """Fails when the costliest leak, a cluster whose id nobody has, cannot be tested."""
    for status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        api.emulator.add_fault("reply-lost", code=status)
        with pytest.raises(grpc.RpcError) as error:
            api.clusters.Create(api.cluster_request(f"lost-{status[0].lower()}"))
        assert code(error).name == status
    assert api.names() == ["lost-u", "lost-d"]
    with pytest.raises(grpc.RpcError) as error:  # the operator's own retry
        api.clusters.Create(api.cluster_request("lost-u"))
    assert code(error) is grpc.StatusCode.ALREADY_EXISTS


def test_a_lost_reply_of_another_call(api: Api) -> None:
    """Fails when a second job, started after a lost reply, cannot be tested."""
    cluster = api.create_cluster("one-job")
    api.emulator.add_fault("reply-lost", method="JobService/Create", match="train-*")
    with pytest.raises(grpc.RpcError):
        api.create_job(cluster.id, "train-1")
    api.create_job(cluster.id, "train-1")
    assert len(api.emulator.jobs()) == 2


def test_an_outage_ends_by_itself(api: Api) -> None:
    """Fails when a DAG's retries during an outage of the API cannot be tested."""
    api.names()
    api.emulator.add_fault("api-unavailable", seconds=0.5)
    with pytest.raises(grpc.RpcError) as error:
        api.names()
    assert code(error) is grpc.StatusCode.UNAVAILABLE

    def answers() -> bool:
        try:
            api.names()
        except grpc.RpcError:
            return False
        return True

    assert wait_for(answers, 5)
    assert api.emulator.faults() == []


def test_an_outage_of_a_number_of_calls(api: Api) -> None:
    """Fails when an outage of a given number of calls lasts longer or shorter."""
    api.names()  # so that a token is there: its renewal would count
    api.emulator.add_fault("api-unavailable", times=2)
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            api.names()
    assert api.names() == []


def test_the_wrapper_waits_through_an_outage(api: Api) -> None:
    """Fails when a short outage loses an operation that is under way, which the SDK would wait for."""
    cluster = api.create_cluster("patient")
    api.emulator.add_fault("job-exit-code", exit_code=0, seconds=1.5)
    api.emulator.add_fault("reply-lost", method="OperationService/Get", times=3)
    api.wrapper().create_pyspark_job(main_python_file_uri="s3a://demo/main.py", cluster_id=cluster.id, name="job")


def test_a_job_ends_with_the_exit_code_wanted(api: Api) -> None:
    """Fails when a DAG's reaction to an exit code cannot be tested, or the code hits another job."""
    cluster = api.create_cluster("codes")
    api.emulator.add_fault("job-exit-code", exit_code=75, match="train-*")
    _, other = api.create_job(cluster.id, "other")
    job_id, wanted = api.create_job(cluster.id, "train-1")
    assert not api.done(other).HasField("error")
    assert "exit code 75" in api.done(wanted).error.message
    assert api.job_status(cluster.id, job_id) == "ERROR"
    (ended,) = api.emulator.events("job", job_id=job_id, status="ERROR")
    assert ended["exit_code"] == 75


def test_a_job_that_hangs_runs_until_its_cluster_is_deleted(api: Api) -> None:
    """Fails when a DAG's time limit for a hanging job cannot be tested, or the job outlives its cluster."""
    cluster = api.create_cluster("hangs")
    api.emulator.add_fault("job-hangs")
    job_id, operation = api.create_job(cluster.id)
    assert wait_for(lambda: bool(api.emulator.events("process", job_id=job_id)))
    time.sleep(0.3)
    assert api.job_status(cluster.id, job_id) == "RUNNING"
    api.delete_cluster(cluster.id)
    assert api.done(operation).error.code == grpc.StatusCode.CANCELLED.value[0]
    assert api.emulator.events("job", job_id=job_id)[-1]["status"] == "CANCELLED"


def test_delete_fails_once_and_then_works(api: Api) -> None:
    """Fails when the retry of a failed teardown cannot be tested."""
    cluster = api.create_cluster("sticky")
    api.emulator.add_fault("delete-fails")
    assert api.delete_cluster(cluster.id).error.code == grpc.StatusCode.INTERNAL.value[0]
    request = cluster_service_pb2.GetClusterRequest(cluster_id=cluster.id)
    assert api.clusters.Get(request).status == cluster_pb2.Cluster.RUNNING
    assert not api.delete_cluster(cluster.id).HasField("error")
    assert created_and_deleted(api, "sticky") == (1, 1)


def test_delete_slow_takes_its_time(api: Api) -> None:
    """Fails when the reaper's behaviour during a deletion that never ends cannot be tested."""
    cluster = api.create_cluster("slow-to-go")
    api.emulator.add_fault("delete-slow", seconds=0.5)
    begun = time.monotonic()
    assert not api.delete_cluster(cluster.id).HasField("error")
    assert time.monotonic() - begun >= 0.5


def test_delete_refused_is_refused_at_once(api: Api) -> None:
    """Fails when a DAG's reaction to a refused deletion cannot be tested."""
    cluster = api.create_cluster("refuses")
    api.emulator.add_fault("delete-refused", code="FAILED_PRECONDITION")
    with pytest.raises(grpc.RpcError) as error:
        api.delete_cluster(cluster.id)
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION
    assert api.names() == ["refuses"]


def test_faults_are_counted_aimed_and_disarmed(api: Api) -> None:
    """Fails when a fault hits another request than the test aimed at, or more often than armed."""
    api.emulator.add_fault("create-refused", times=2, match="run-a*")
    assert api.create_cluster("run-b").status == cluster_pb2.Cluster.RUNNING
    with pytest.raises(grpc.RpcError):
        api.clusters.Create(api.cluster_request("run-a1"))
    assert [fault["left"] for fault in api.emulator.faults()] == [1]
    assert api.emulator.clear_faults() == 1
    assert api.create_cluster("run-a2").status == cluster_pb2.Cluster.RUNNING


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "explode"}, "kind"),
        ({"kind": "create-slow"}, "needs seconds"),
        ({"kind": "create-refused", "code": "NOPE"}, "NOPE"),
        ({"kind": "create-refused", "times": 0}, "times"),
        ({"kind": "create-refused", "tymes": 1}, "tymes"),
    ],
)
def test_a_wrong_fault_is_not_armed(api: Api, wrong: dict[str, object], said: str) -> None:
    """Fails when a misspelt fault is accepted, never strikes, and its test is green."""
    with pytest.raises(grpc.RpcError, match=said) as error:
        api.emulator.call("AddFault", wrong)
    assert code(error) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_slow_creation_holds_nothing_else_up(tmp_path: Path) -> None:
    """Fails when one slow operation delays all other jobs by up to a minute."""
    with emulated(tmp_path / "state") as api:
        cluster = api.create_cluster("quick")
        api.emulator.add_fault("create-slow", seconds=600, match="slow")
        api.clusters.Create(api.cluster_request("slow"))
        api.done(api.create_job(cluster.id)[1])  # within seconds
