"""The emulator's disk usage: little for each job, nothing of a killed one, and not for ever."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.emulated_cloud import BUCKET, Api, is_alive, settings

from emulator.client import Emulator, start, stop, wait_for

STAGED = 20_000_000
LOG = 100_000
HUGE = f"head -c {STAGED} /dev/zero > unpacked; mkdir deep; cp unpacked deep; echo ready; sleep 600"
CHATTY = f"head -c {LOG} /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero > left"


class Grown:
    """An emulator whose jobs run a shell command, restarted several times on one folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: str, **changes: object) -> Api:
        jobs = {"runner": "stub", "stub": {"command": ["/bin/sh", "-c", command]}}
        self.process = start(self.state, settings(jobs=jobs, **changes))
        return Api(Emulator(self.state))

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process)

    def bytes_of_jobs(self) -> int:
        """The disk usage of all jobs, in their folders and in the bucket; a link counts where its target is."""
        folders = (self.state / "jobs", self.state / "buckets" / BUCKET / "dataproc")
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return sum(path.stat().st_size for path in files)


@pytest.fixture
def grown(tmp_path: Path) -> Iterator[Grown]:
    made = Grown(tmp_path / "state")
    yield made
    made.stop()


def running_job(api: Api) -> tuple[str, int]:
    """A job that has unpacked its files: its id, and its session's first process."""
    cluster = api.create_cluster("grows")
    job_id, _ = api.create_job(cluster.id)
    assert wait_for(lambda: "ready" in api.emulator.log(job_id))
    return job_id, int(api.emulator.events("process", job_id=job_id)[0]["session"])


@pytest.mark.parametrize("with_guard", [False, True], ids=["emulator", "emulator-and-guard"])
def test_nothing_but_its_log_stays_of_a_job_that_was_killed(grown: Grown, with_guard: bool) -> None:
    """Fails when each crash during a job leaves half a gigabyte on disk, or a Spark process."""
    api = grown.start(HUGE)
    job_id, session = running_job(api)
    assert grown.bytes_of_jobs() > 2 * STAGED
    guard = int(Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()[1])
    if with_guard:
        os.kill(guard, signal.SIGSTOP)  # before it can act on the emulator's end
    grown.kill()
    if with_guard:
        os.kill(guard, signal.SIGKILL)
    again = grown.start(HUGE)
    assert not is_alive(session)
    assert again.emulator.jobs()[0]["status"] == "ERROR"
    assert again.emulator.log(job_id) == "ready\n"
    assert grown.bytes_of_jobs() < 1000


def test_a_user_s_own_files_stay_where_jobs_are_cleaned_up(grown: Grown) -> None:
    """Fails when a restart deletes the user's own files, or files that it was configured to keep."""
    api = grown.start(HUGE)
    running_job(api)
    own = grown.state / "jobs" / "notes" / "work" / "mine"
    own.parent.mkdir(parents=True)
    own.write_text("kept")
    output = grown.state / "buckets" / BUCKET / "dataproc" / "mine"
    output.parent.mkdir()
    output.write_text("kept")
    grown.kill()
    grown.start(HUGE, retention={"days": 0.000_001})
    time.sleep(1.0)  # for what looks at each start for old jobs
    assert (own.read_text(), output.read_text()) == ("kept", "kept")


def test_a_job_s_log_is_kept_once(grown: Grown) -> None:
    """Fails when every job's log takes its size on disk twice or more."""
    api = grown.start(CHATTY)
    cluster = api.create_cluster("grows")
    jobs = [api.create_job(cluster.id, f"job-{number}") for number in range(5)]
    for job_id, operation in jobs:
        api.done(operation)
        assert len(api.emulator.log(job_id)) == LOG
    assert len(jobs) * LOG <= grown.bytes_of_jobs() < len(jobs) * (LOG + 1000)


def test_what_ended_long_ago_is_forgotten_and_the_rest_is_not(grown: Grown) -> None:
    """Fails when the emulator keeps old logs and requests for ever, or forgets a cluster that still exists."""
    api = grown.start(CHATTY)
    gone, there = api.create_cluster("gone"), api.create_cluster("there")
    for cluster in (gone, there):
        api.done(api.create_job(cluster.id)[1])
    api.delete_cluster(gone.id)
    grown.stop()
    time.sleep(1.1)  # the API's times are compared in seconds
    again = grown.start(CHATTY, retention={"days": 1 / 86_400})
    assert wait_for(lambda: again.emulator.jobs() == [])
    assert grown.bytes_of_jobs() < 1000
    assert [request["clusterId"] for request in again.emulator.cluster_requests()] == [there.id]
    assert again.names() == ["there"]
    again.done(again.create_job(there.id)[1])
    assert len(again.emulator.jobs()) == 1, "a job that has just ended is remembered"


def test_the_event_log_has_a_bound_and_stays_in_order(grown: Grown) -> None:
    """Fails when a stack polled day and night fills the disk with events, or their order is lost."""
    api = grown.start("true", retention={"event_log_bytes": 20_000})
    for _ in range(200):
        api.names()
    files = sorted(grown.state.glob("events*.jsonl"))
    assert [path.name for path in files] == ["events.1.jsonl", "events.jsonl"]
    assert sum(path.stat().st_size for path in files) < 2 * 20_500
    times = [event["time"] for event in api.emulator.events()]
    assert len(times) > 40
    assert times == sorted(times)
