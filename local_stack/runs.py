"""The state of the training: its run, job and cluster, from Airflow and the emulated cloud."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import grpc

from deployment.http import HttpError
from emulator.client import Emulator, EmulatorNotReadyError
from local_stack import airflow
from local_stack.console import Progress
from local_stack.passwords import passwords
from local_stack.settings import REAPER_DAG, TRAINING_DAG, Stack, StackError

WAIT_SECONDS = 900.0  # that `make down WAIT=1` waits for a run
ACTIVE = ("queued", "running")
_RUNNING_JOB = ("PROVISIONING", "PENDING", "RUNNING", "CANCELLING")
_LOOKED_AT = 10  # newest runs
_POLL = 1.0


@dataclass(frozen=True)
class Training:
    """The newest run of the training, and what it has in the cloud."""

    paused: bool
    run_id: str | None
    state: str | None
    failed: tuple[str, ...]
    """The runs that failed since the last one that ended well, newest first."""
    clusters: tuple[str, ...]
    jobs: tuple[str, ...]
    """Those that are running."""

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def can_end(self) -> bool:
        """Whether there is anything to wait for: Airflow schedules no further task of a paused DAG."""
        return bool(self.jobs) or (self.is_active and not self.paused)


def training(stack: Stack) -> Training:
    """Raises HttpError if Airflow does not answer; clusters and jobs are empty if the emulator does not."""
    api = airflow.connect(stack, passwords(stack.passwords))
    runs = api.last_runs(TRAINING_DAG, _LOOKED_AT)
    newest = runs[0] if runs else {"dag_run_id": None, "state": None}
    emulator = Emulator(stack.cloud)
    return Training(
        paused=api.is_paused(TRAINING_DAG),
        run_id=newest["dag_run_id"],
        state=newest["state"],
        failed=_failed(runs),
        clusters=_clusters(emulator),
        jobs=running_jobs(emulator),
    )


def _failed(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    since = takewhile(lambda run: run["state"] != "success", runs)
    return tuple(run["dag_run_id"] for run in since if run["state"] == "failed")


def _clusters(emulator: Emulator) -> tuple[str, ...]:
    try:
        return tuple(cluster["id"] for cluster in emulator.clusters())
    except (grpc.RpcError, EmulatorNotReadyError):
        return ()


def running_jobs(emulator: Emulator) -> tuple[str, ...]:
    """The ids of the jobs that are running; none where the emulator does not answer."""
    try:
        return tuple(job["id"] for job in emulator.jobs() if job.get("status") in _RUNNING_JOB)
    except (grpc.RpcError, EmulatorNotReadyError):
        return ()


def wait_for_run(stack: Stack, progress: Progress, seconds: float = WAIT_SECONDS) -> None:
    """Wait for the active run to end, for a limited time."""
    try:
        first = training(stack)
        end, found = time.monotonic() + seconds, first
        if first.can_end:
            progress.report("waiting", f"for run {first.run_id}, at most {seconds / 60:.0f} min")
        while found.can_end and found.run_id == first.run_id and time.monotonic() < end:
            time.sleep(_POLL)
            found = training(stack)
    except HttpError as error:
        progress.report("waiting", f"skipped, Airflow does not answer: {error}")


def interrupted(stack: Stack) -> Iterator[str]:
    """What stopping the stack now interrupts."""
    jobs = running_jobs(Emulator(stack.cloud))
    try:
        run = training(stack).run_id
    except HttpError:
        run = None
    for job in jobs:
        whose = f" of run {run}" if run else ""
        yield f"job {job}{whose} is cancelled; after make up the run continues with another try"


def attention(stack: Stack, found: Training) -> Iterator[tuple[str, str]]:
    """What needs a person's attention, and the next command."""
    if found.paused and found.is_active:
        alive = f"cluster {', '.join(found.clusters)} alive" if found.clusters else "no cluster"
        yield "training", f"paused during a run, {alive}: {found.run_id}; next: make up, which unpauses it"
    elif found.paused:
        yield "training", "paused; next: make up, which unpauses it"
    api = airflow.connect(stack, passwords(stack.passwords))
    if found.failed:
        tasks = api.tasks(TRAINING_DAG, found.failed[0])
        failed = ", ".join(task for task, state in tasks.items() if state == "failed")
        yield "failed run", f"{found.failed[0]} at {failed or 'no task'}; next: make clear-run, which runs it again"
    if api.is_paused(REAPER_DAG):
        yield "reaper", "paused: nothing deletes lost clusters; next: make up, which unpauses it"


def clear(stack: Stack) -> str:
    """Run the last failed run again; returns its id. Raises StackError if no run has failed."""
    failed = training(stack).failed
    if not failed:
        raise StackError("no run has failed since the last successful one; next: make status")
    airflow.connect(stack, passwords(stack.passwords)).clear(TRAINING_DAG, failed[0])
    return failed[0]
