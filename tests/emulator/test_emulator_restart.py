"""The emulator keeps its state over a restart, and ends its jobs with it, however it ends."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from fakes.emulated_cloud import Api, code, is_alive, settings
from yandex.cloud.dataproc.v1 import cluster_pb2, cluster_service_pb2, job_service_pb2
from yandex.cloud.lockbox.v1 import payload_service_pb2, secret_service_pb2

from emulator.client import Emulator, start, stop, wait_for
from emulator.guard import processes_by_ps

# A job that leaves a process in a session of its own behind, as careless programs do, and does not heed SIGTERM.
STUBBORN = (
    "trap '' TERM; setsid sleep 600 & echo $! > pids; sleep 601 & echo $! >> pids; echo $$ >> pids; wait; sleep 9"
)


class Restartable:
    """An emulator that can be stopped and started again on the same folder."""

    def __init__(self, state: Path, **changes: object) -> None:
        self.state = state
        self.changes = changes
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Api:
        self.process = start(self.state, settings(**self.changes))
        return Api(Emulator(self.state))

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Restartable]:
    made = Restartable(tmp_path / "state")
    yield made
    if made.process is not None:
        stop(made.process)


def running_processes(api: Api, cluster_id: str) -> tuple[str, list[int]]:
    """Start the stubborn job; its id and the ids of its three processes."""
    job_id, _ = api.create_job(cluster_id)
    pids = api.emulator.state / "jobs" / job_id / "work" / "pids"
    assert wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    found = [int(pid) for pid in pids.read_text().split()]
    assert all(is_alive(pid) for pid in found)
    return job_id, found


def stubborn(emulator: Restartable) -> None:
    emulator.changes["jobs"] = {"runner": "stub", "stub": {"command": ["/bin/sh", "-c", STUBBORN]}, "keep_files": True}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_clusters_keys_secrets_and_faults_survive_a_restart(emulator: Restartable, number: signal.Signals) -> None:
    """Fails when a restart of the stack loses the cluster that a run uses, or invalidates its keys."""
    api = emulator.start()
    cluster = api.create_cluster("survivor", labels={"run": "r1"})
    entry = secret_service_pb2.PayloadEntryChange(key="password", text_value="kept")
    secret = secret_service_pb2.CreateSecretRequest(
        folder_id=api.folder_id, name="mlflow", version_payload_entries=[entry]
    )
    metadata = secret_service_pb2.CreateSecretMetadata()
    api.secrets.Create(secret).metadata.Unpack(metadata)
    api.emulator.add_fault("create-refused", match="later")
    exit_code = emulator.end(number)
    assert exit_code == (0 if number is signal.SIGTERM else -signal.SIGKILL)

    again = emulator.start()
    assert again.key == api.key
    found = again.clusters.Get(cluster_service_pb2.GetClusterRequest(cluster_id=cluster.id))
    assert found == cluster
    payload = again.payloads.Get(payload_service_pb2.GetPayloadRequest(secret_id=metadata.secret_id))
    assert payload.entries[0].text_value == "kept"
    with pytest.raises(grpc.RpcError) as error:
        again.clusters.Create(again.cluster_request("later"))
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert again.emulator.faults() == []


def test_a_creation_under_way_goes_on_after_a_restart(emulator: Restartable) -> None:
    """Fails when a cluster stays in CREATING after a restart, and cannot be deleted."""
    api = emulator.start()
    api.emulator.add_fault("create-slow", seconds=3)
    operation = api.clusters.Create(api.cluster_request("slow"))
    emulator.end(signal.SIGKILL)
    again = emulator.start()
    done = again.done(operation)
    cluster = cluster_pb2.Cluster()
    assert done.response.Unpack(cluster)
    assert cluster.status == cluster_pb2.Cluster.RUNNING


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_of_a_job_outlives_the_emulator(emulator: Restartable, number: signal.Signals) -> None:
    """Fails when a killed stack leaves Spark running and writing to the bucket."""
    stubborn(emulator)
    api = emulator.start()
    cluster = api.create_cluster("jobs")
    job_id, pids = running_processes(api, cluster.id)
    emulator.end(number)
    assert wait_for(lambda: not any(is_alive(pid) for pid in pids), 5)
    again = emulator.start()
    assert again.job_status(cluster.id, job_id) == "ERROR"
    (ended,) = again.emulator.events("job", job_id=job_id, status="ERROR")
    assert "emulator" in ended["reason"]


def test_a_cancelled_job_takes_all_its_processes_with_it(emulator: Restartable) -> None:
    """Fails when a cancelled job goes on: two trainings at once, two decisions."""
    stubborn(emulator)
    api = emulator.start()
    cluster = api.create_cluster("jobs")
    job_id, pids = running_processes(api, cluster.id)
    api.done(api.jobs.Cancel(job_service_pb2.CancelJobRequest(cluster_id=cluster.id, job_id=job_id)))
    assert not any(is_alive(pid) for pid in pids), "the job was cancelled before its processes had ended"
    statuses = [event["status"] for event in api.emulator.events("job", job_id=job_id)]
    assert statuses[-2:] == ["CANCELLING", "CANCELLED"]
    with pytest.raises(grpc.RpcError) as error:
        api.jobs.Cancel(job_service_pb2.CancelJobRequest(cluster_id=cluster.id, job_id=job_id))
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION

    job_id, pids = running_processes(api, cluster.id)
    api.delete_cluster(cluster.id)
    assert not any(is_alive(pid) for pid in pids), "the cluster was gone before its processes were"
    assert api.emulator.events("job", job_id=job_id)[-1]["status"] == "CANCELLED"


def test_a_job_can_tidy_up_before_it_is_ended(emulator: Restartable) -> None:
    """Fails when a cancelled job cannot close its files, or every cancellation takes the whole grace period."""
    tidy = "trap 'echo tidied; exit 0' TERM; echo ready; sleep 600 & wait"
    emulator.changes["jobs"] = {"runner": "stub", "stub": {"command": ["/bin/sh", "-c", tidy]}}
    api = emulator.start()
    cluster = api.create_cluster("jobs")
    job_id, _ = api.create_job(cluster.id)
    assert wait_for(lambda: "ready" in api.emulator.log(job_id))
    api.done(api.jobs.Cancel(job_service_pb2.CancelJobRequest(cluster_id=cluster.id, job_id=job_id)))
    assert api.emulator.log(job_id) == "ready\ntidied\n"


@pytest.mark.needs("ps")
def test_processes_are_found_without_proc() -> None:
    """Fails when jobs on macOS leave processes behind."""
    parent, _, is_dead = processes_by_ps()[os.getpid()]
    assert (parent, is_dead) == (os.getppid(), False)


def test_a_job_whose_guard_is_killed_is_not_running_for_ever(emulator: Restartable) -> None:
    """Fails when an out-of-memory kill leaves a run waiting without end."""
    api = emulator.start()
    cluster = api.create_cluster("jobs")
    api.emulator.add_fault("job-hangs")
    job_id, operation = api.create_job(cluster.id)
    assert wait_for(lambda: bool(api.emulator.events("process", job_id=job_id)))
    session = int(api.emulator.events("process", job_id=job_id)[0]["session"])
    guard = int(Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guard, signal.SIGKILL)
    assert "guard was killed" in api.done(operation).error.message
    assert wait_for(lambda: not is_alive(session)), "the job's own process went on"


def test_two_emulators_do_not_share_a_state_folder(emulator: Restartable) -> None:
    """Fails when two emulators write to one store and corrupt it."""
    emulator.start()
    other = Path(emulator.state / "settings.json")
    content = json.loads(other.read_text())
    assert content["port"] == 0
    with pytest.raises(Exception, match="another emulator uses the state folder"):
        start(emulator.state, settings())


def test_files_of_a_job_that_ended_before_they_were_removed_are_removed_at_the_next_start(
    emulator: Restartable,
) -> None:
    """Fails when an emulator killed right after it recorded a job's end leaves half a gigabyte of staged files."""
    api = emulator.start()
    job_id, operation = api.create_job(api.create_cluster("ended").id)
    api.done(operation)
    emulator.end(signal.SIGKILL)
    work = emulator.state / "jobs" / job_id / "work"
    work.mkdir(exist_ok=True)
    (work / "staged").write_text("x")
    again = emulator.start()
    assert again.emulator.jobs()[0]["status"] == "DONE"
    assert not work.exists()
