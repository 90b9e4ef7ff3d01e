"""Data Proc jobs: queued by the clock, and run as processes under a guard."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import grpc
from yandex.cloud.dataproc.v1 import cluster_pb2, job_pb2, job_service_pb2
from yandex.cloud.operation.operation_pb2 import Operation

from emulator import guard
from emulator.access_keys import temporary_key
from emulator.cloud import Cloud
from emulator.errors import Violation, failed_precondition
from emulator.faults import FaultKind
from emulator.gateway import Check, Method
from emulator.iam import Caller, Iam
from emulator.ids import DATAPROC, new_id
from emulator.leftovers import MARK, end_left_behind
from emulator.metadata import MetadataServer
from emulator.paging import check_filter, name_filter, page_of_messages, read_token, write_token
from emulator.runners import FETCHED, Launch, Runner, StagingError, StubRunner
from emulator.specs import check_job
from emulator.store import Record

Job = job_pb2.Job

_ENDED = frozenset({Job.DONE, Job.ERROR, Job.CANCELLED})
_LOG_PAGE = 1024 * 1024  # bytes, as documented
_HANG_SECONDS = 10_000_000
_GUARD_MARGIN = 2.0  # seconds beyond the grace that a guard may take
_CLOSING_MARGIN = 5.0  # seconds beyond the grace that the end of all jobs may take


class Jobs:
    """JobService, and the processes behind it."""

    def __init__(self, cloud: Cloud, runner: Runner, iam: Iam, endpoint: str, storage: str | None = None) -> None:
        self._cloud = cloud
        self._runner = runner
        self._iam = iam
        self._endpoint = endpoint
        self._storage_address = storage
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._guards: dict[str, subprocess.Popen[str]] = {}
        self._ending: set[str] = set()  # jobs whose processes are to end
        self._closing = False
        cloud.clock.register("job.pending", self._queue)
        cloud.clock.register("job.start", self._start)
        cloud.operations.cancellers["job.create"] = self._end

    @property
    def methods(self) -> dict[str, Method]:
        return {
            "Get": self.get,
            "List": self.list,
            "Create": self.create,
            "Cancel": self.cancel,
            "ListLog": self.list_log,
        }

    @property
    def checks(self) -> dict[str, Check]:
        return {"Create": self._check, "List": check_filter}

    def folder(self, job_id: str) -> Path:
        return self._cloud.state / "jobs" / job_id

    def get(self, request: job_service_pb2.GetJobRequest, _caller: Caller) -> Job:
        return self._find(request.cluster_id, request.job_id).message(Job)

    def list(self, request: job_service_pb2.ListJobsRequest, _caller: Caller) -> job_service_pb2.ListJobsResponse:
        self._cluster(request.cluster_id)
        records = self._cloud.store.find("job", owner=request.cluster_id, name=name_filter(request.filter))
        jobs, token = page_of_messages(records, request, Job)
        return job_service_pb2.ListJobsResponse(jobs=jobs, next_page_token=token)

    def create(self, request: job_service_pb2.CreateJobRequest, caller: Caller) -> Operation:
        cluster = self._cluster(request.cluster_id)
        if cluster.status != cluster_pb2.Cluster.RUNNING:
            status = cluster_pb2.Cluster.Status.Name(cluster.status)
            raise failed_precondition(f"Cluster {cluster.id} is {status}; it must be RUNNING to take a job")
        if not cluster.bucket:
            raise failed_precondition(f"Cluster {cluster.id} has no bucket; a job's output has nowhere to go")
        job = _new_job(request, caller)
        metadata = job_service_pb2.CreateJobMetadata(cluster_id=cluster.id, job_id=job.id)
        operation = self._cloud.operations.start(
            DATAPROC, caller, "job.create", job.id, "Create Data Proc job", metadata
        )
        self._cloud.store.put("job", job.id, job, owner=cluster.id, name=job.name, data={"operation": operation.id})
        self._log(job)
        self._cloud.clock.schedule(self._cloud.settings.timing.job_provisioning, "job.pending", job.id)
        return operation

    def cancel(self, request: job_service_pb2.CancelJobRequest, caller: Caller) -> Operation:
        record = self._find(request.cluster_id, request.job_id)
        job = record.message(Job)
        if job.status in _ENDED or job.status == Job.CANCELLING:
            raise failed_precondition(f"Job {job.id} is {Job.Status.Name(job.status)}; it cannot be cancelled")
        metadata = job_service_pb2.CreateJobMetadata(cluster_id=job.cluster_id, job_id=job.id)
        operation = self._cloud.operations.start(
            DATAPROC, caller, "job.cancel", job.id, "Cancel Data Proc job", metadata
        )
        self._cloud.store.save(record, cancel_operation=operation.id)
        self._end(job.id)
        return operation

    def list_log(
        self, request: job_service_pb2.ListJobLogRequest, _caller: Caller
    ) -> job_service_pb2.ListJobLogResponse:
        job = self._find(request.cluster_id, request.job_id).message(Job)
        start = read_token(request.page_token)
        content = self._read_log(job.id, start, request.page_size if request.page_size > 0 else _LOG_PAGE)
        end = start + len(content)
        log = self._log_file(job.id)
        # A job that still runs has a next page always: what it has not written yet.
        more = job.status not in _ENDED or (log.exists() and log.stat().st_size > end)
        return job_service_pb2.ListJobLogResponse(
            content=content.decode(errors="replace"), next_page_token=write_token(end) if more else ""
        )

    def end_all(self, cluster_id: str) -> None:
        """End every job of a cluster that is being stopped or deleted."""
        for record in self._cloud.store.find("job", owner=cluster_id):
            if record.message(Job).status not in _ENDED:
                self._end(record.id)

    def any_alive(self, cluster_id: str) -> bool:
        """Whether a job of the cluster still has processes."""
        with self._lock:
            alive = set(self._threads)
        return any(record.id in alive for record in self._cloud.store.find("job", owner=cluster_id))

    def settle_interrupted(self) -> None:
        """At a start: finish the jobs that ran when the emulator ended, and remove staged files of all that ended.

        The guards end the jobs' processes; those of a guard that was killed as well are ended here.
        """
        grace = self._cloud.settings.timing.job_grace + _GUARD_MARGIN
        if killed := end_left_behind(self._cloud.state / "jobs", grace):
            self._cloud.events.write(
                "note", note=f"{killed} processes of jobs had outlived their guards and were ended"
            )
        for record in self._cloud.store.find("job"):
            job = record.message(Job)
            if job.status in (Job.RUNNING, Job.CANCELLING):
                self._keep_log(job)
                with self._cloud.store.transaction():
                    self._finish(record.id, None, "the emulator ended while the job ran")
            elif job.status not in _ENDED:
                continue
            if not self._cloud.settings.jobs.keep_files:
                self._drop_files(record.id)

    def forget(self, job_id: str) -> None:
        """Drop a job that has ended: its record, its log and its folder."""
        log = self._log_file(job_id)
        if log.is_symlink():
            kept = log.resolve()
            kept.unlink(missing_ok=True)
            with suppress(OSError):  # a folder that holds anything else stays
                for folder in kept.parents[:3]:
                    folder.rmdir()
        shutil.rmtree(self.folder(job_id), ignore_errors=True)
        self._cloud.store.delete("job", job_id)

    def close(self) -> None:
        """End all jobs' processes and wait for that."""
        with self._lock:
            self._closing = True
            threads = dict(self._threads)
        for job_id in threads:
            self._request_end(job_id)
        for thread in threads.values():
            thread.join(self._cloud.settings.timing.job_grace + _CLOSING_MARGIN)

    def _check(self, request: job_service_pb2.CreateJobRequest) -> Iterator[Violation]:
        record = self._cloud.store.get("cluster", request.cluster_id)
        return check_job(request, record.message(cluster_pb2.Cluster) if record else None)

    def _queue(self, job_id: str) -> None:
        self._move(job_id, Job.PENDING)
        self._cloud.clock.schedule(self._cloud.settings.timing.job_pending, "job.start", job_id)

    def _start(self, job_id: str) -> None:
        record = self._record(job_id)
        job = record.message(Job)
        runner, ends = self._runner_for(job)
        job.status = Job.RUNNING
        job.started_at.GetCurrentTime()
        self._cloud.store.save(record, job)
        self._log(job, fault=ends)
        thread = threading.Thread(target=self._run, args=(job, runner), name=f"job-{job_id}", daemon=True)
        with self._lock:
            self._threads[job_id] = thread
        thread.start()

    def _runner_for(self, job: Job) -> tuple[Runner, str | None]:
        """The runner of a job, or the one that a fault puts in its place."""
        if fault := self._cloud.faults.take(FaultKind.JOB_EXIT_CODE, job.name):
            return StubRunner(fault.seconds, fault.exit_code), fault.kind.value
        if fault := self._cloud.faults.take(FaultKind.JOB_HANGS, job.name):
            return StubRunner(_HANG_SECONDS, 0), fault.kind.value
        return self._runner, None

    def _run(self, job: Job, runner: Runner) -> None:
        """A job's thread: from staging to the removal of its files. Whatever goes wrong fails this job alone."""
        try:
            exit_code, reason = self._execute(job, runner)
        except Exception as error:  # noqa: BLE001  # the job's last state says why
            exit_code, reason = None, f"the emulator could not run it: {error!r}"
        self._keep_log(job)
        with self._cloud.store.transaction():
            self._finish(job.id, exit_code, reason)
        if not self._cloud.settings.jobs.keep_files:
            self._drop_files(job.id)  # after the state is recorded: on a busy disk this takes long
        with self._lock:
            self._threads.pop(job.id, None)
            self._guards.pop(job.id, None)
            self._ending.discard(job.id)

    def _execute(self, job: Job, runner: Runner) -> tuple[int | None, str]:
        """Stage and run a job; its exit code and, if it did not end by itself, the reason."""
        self._drop_files(job.id)  # of a start that was killed before it was recorded
        work = self.folder(job.id) / "work"
        work.mkdir(parents=True)
        log = self._log_file(job.id)
        log.touch(mode=0o600)
        cluster = self._cluster(job.cluster_id)
        with self._storage(cluster) as storage:
            try:
                launch = runner.prepare(job, cluster, work, storage, lambda text: self._note(job, text))
            except Exception as error:  # noqa: BLE001  # whatever a file of the job raises, its log says so
                reason = str(error) if isinstance(error, StagingError | OSError) else repr(error)
                with log.open("a", encoding="utf-8") as output:
                    output.write(f"{reason}\n")
                return 1, reason
            with MetadataServer(self._iam, self._cloud, cluster.service_account_id, job.id) as metadata:
                return self._guarded(job, launch, log, metadata.address, storage)

    @contextmanager
    def _storage(self, cluster: cluster_pb2.Cluster) -> Iterator[dict[str, str]]:
        """How a job reaches Object Storage where grants are enforced: with a key of its account, until its end.

        On a cluster S3A takes the account's token from the metadata; the S3A of a developer machine knows keys alone.
        """
        if self._storage_address is None:
            yield {}
            return
        with temporary_key(self._cloud, cluster.service_account_id) as (key_id, secret):
            yield {
                "AWS_ENDPOINT_URL_S3": self._storage_address,
                "AWS_ACCESS_KEY_ID": key_id,
                "AWS_SECRET_ACCESS_KEY": secret,
            }

    def _guarded(
        self, job: Job, launch: Launch, log: Path, metadata_address: str, storage: Mapping[str, str]
    ) -> tuple[int | None, str]:
        """Run a command under the guard; its exit code and, where it did not end by itself, why."""
        result = log.with_name("result.json")
        grace = str(self._cloud.settings.timing.job_grace)
        environment = {
            MARK: str(self.folder(job.id)),
            **self._base_environment(launch.folder, metadata_address),
            **storage,
            **launch.environment,
        }
        process = subprocess.Popen(
            [sys.executable, str(Path(guard.__file__)), str(result), str(log), grace, *launch.command],
            cwd=launch.folder,
            env={**environment, **self._cloud.settings.jobs.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        try:
            session = self._follow(job.id, process)
        finally:  # a closed pipe makes the guard end the job
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
            process.wait()
        if not result.exists():
            if session:
                guard.end_all(int(session), process.pid, 0.0)
            return None, "the job's guard was killed"
        outcome = json.loads(result.read_text())
        reason = "the emulator was stopped while the job ran" if outcome["ended"] and self._closing else ""
        return int(outcome["exit_code"]), reason

    def _follow(self, job_id: str, process: "subprocess.Popen[str]") -> str:
        """Wait for a guard to end; returns the id of its job's session, empty if it could not start one."""
        with self._lock:
            self._guards[job_id] = process
            is_ending = job_id in self._ending or self._closing
        if is_ending:
            self._request_end(job_id)
        assert process.stdout is not None  # noqa: S101  # a pipe
        session = process.stdout.readline().strip()
        self._cloud.events.write("process", job_id=job_id, session=int(session) if session else None)
        process.wait()
        return session

    def _base_environment(self, folder: Path, metadata_address: str) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "YC_METADATA_ADDR": metadata_address,
            "YC_LOCKBOX_ENDPOINT": f"http://{metadata_address}",
            "YC_ENDPOINT": self._endpoint,
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str((self._cloud.state / "ca.pem").absolute()),
        }

    def _log_file(self, job_id: str) -> Path:
        return self.folder(job_id) / "driver.log"

    def _keep_log(self, job: Job) -> None:
        """Move the log of a job that has ended to the cluster's bucket, where Data Proc writes it."""
        log, bucket = self._log_file(job.id), self._cluster(job.cluster_id).bucket
        if self._cloud.settings.storage.s3_endpoint or not self._cloud.has_bucket(bucket) or not _is_file(log):
            return
        folder = self._cloud.buckets / bucket / "dataproc" / "clusters" / job.cluster_id / "jobs" / job.id
        target, link = folder / "driveroutput.000000000", log.with_name("driver.log.part")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(log, target)
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            link.replace(log)
        except OSError as error:
            self._note(job, f"the log stays in the state folder: it cannot be copied to the bucket: {error}")

    def _drop_files(self, job_id: str) -> None:
        """Remove what was staged for a job, and what it left in its working directory."""
        folder = self.folder(job_id)
        shutil.rmtree(folder / "work", ignore_errors=True)
        with suppress(OSError):
            (folder / FETCHED).unlink(missing_ok=True)

    def _end(self, job_id: str) -> None:
        """Cancel a job: at once where it has no processes, else as soon as they have ended."""
        record = self._record(job_id)
        job = record.message(Job)
        if job.status in _ENDED:
            return
        if job.status in (Job.PROVISIONING, Job.PENDING):
            self._cloud.clock.cancel(job_id)
            self._move(job_id, Job.CANCELLING)
            self._finish(job_id, None, "")
            return
        self._move(job_id, Job.CANCELLING)
        self._request_end(job_id)

    def _request_end(self, job_id: str) -> None:
        """Have a job's guard end it; a guard that is not started yet is asked once it is."""
        with self._lock:
            self._ending.add(job_id)
            process = self._guards.get(job_id)
            if process is None or process.stdin is None or process.stdin.closed:
                return
            try:
                process.stdin.write("end\n")
                process.stdin.flush()
            except BrokenPipeError:
                return  # it has ended by itself

    def _finish(self, job_id: str, exit_code: int | None, reason: str) -> None:
        """The job's last state and its operations' end."""
        record = self._record(job_id)
        job = record.message(Job)
        operation_id = record.data["operation"]
        if job.status == Job.CANCELLING:
            job.status = Job.CANCELLED
        else:
            job.status = Job.DONE if exit_code == 0 else Job.ERROR
        job.finished_at.GetCurrentTime()
        self._cloud.store.save(record, job, exit_code=exit_code)
        self._log(job, exit_code=exit_code, reason=reason or None)
        if job.status == Job.DONE:
            self._cloud.operations.succeed(operation_id, job)
        elif job.status == Job.CANCELLED:
            self._cloud.operations.fail(operation_id, grpc.StatusCode.CANCELLED, f"Job {job_id} was cancelled")
        else:
            why = reason or f"its driver ended with exit code {exit_code}"
            self._cloud.operations.fail(operation_id, grpc.StatusCode.INTERNAL, f"Job {job_id} failed: {why}")
        if cancelling := record.data.get("cancel_operation"):
            self._cloud.operations.succeed(cancelling, job)

    def _move(self, job_id: str, status: Job.Status.ValueType) -> None:
        record = self._record(job_id)
        job = record.message(Job)
        job.status = status
        self._cloud.store.save(record, job)
        self._log(job)

    def _read_log(self, job_id: str, start: int, size: int) -> bytes:
        """At most `size` bytes, none of a character whose rest is on the next page."""
        log = self._log_file(job_id)
        if not log.exists():
            return b""
        with log.open("rb") as file:
            file.seek(start)
            content = file.read(size)
            if len(content) < size:
                return content
            whole = len(content.decode(errors="ignore").encode())
        return content[:whole] if 0 < size - whole < 4 and whole else content

    def _cluster(self, cluster_id: str) -> cluster_pb2.Cluster:
        return self._cloud.store.require("cluster", cluster_id).message(cluster_pb2.Cluster)

    def _record(self, job_id: str) -> Record:
        return self._cloud.store.require("job", job_id)

    def _find(self, cluster_id: str, job_id: str) -> Record:
        self._cloud.store.require("cluster", cluster_id)
        return self._cloud.store.require("job", job_id, owner=cluster_id)

    def _log(self, job: Job, **fields: object) -> None:
        self._cloud.events.write(
            "job",
            job_id=job.id,
            cluster_id=job.cluster_id,
            name=job.name,
            status=Job.Status.Name(job.status),
            **{key: value for key, value in fields.items() if value is not None},
        )

    def _note(self, job: Job, text: str) -> None:
        self._cloud.events.write("note", job_id=job.id, note=text)


def _new_job(request: job_service_pb2.CreateJobRequest, caller: Caller) -> Job:
    kind = request.WhichOneof("job_spec")
    job = Job(
        id=new_id(DATAPROC),
        cluster_id=request.cluster_id,
        name=request.name,
        created_by=caller.id,
        status=Job.PROVISIONING,
    )
    if kind is not None:
        getattr(job, kind).CopyFrom(getattr(request, kind))
    job.created_at.GetCurrentTime()
    return job


def _is_file(path: Path) -> bool:
    """Whether there is a file that is not a link to another."""
    return path.is_file() and not path.is_symlink()


def _close(pipe: IO[str]) -> None:
    with suppress(BrokenPipeError):  # unflushed words to a guard that is gone
        pipe.close()
