"""A running stack: its commands, its services, and training runs during which a fault is injected."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import yaml

from deployment.airflow import Airflow
from deployment.bucket import CURRENT
from deployment.http import HttpError, basic, call
from emulator.client import Emulator
from fraud_detection.outputs import is_decision
from local_stack import airflow, mlflow, postgres
from local_stack.components import BY_NAME
from local_stack.passwords import passwords
from local_stack.settings import BUCKET, PORTS, ROOT, TRAINING_DAG, Stack, load
from local_stack.starting import configure
from local_stack.stopping import down
from local_stack.supervision import Supervisor

ENDED = ("success", "failed")


def eventually(what: str, condition: Callable[[], Any], deadline: float = 300.0) -> Any:
    """The condition's first true value; fails the test with `what` if there is none in time."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {deadline:.0f} s: {what}"
        time.sleep(0.2)
    return found


def free_ports(count: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(count)]
    for one in with_ports:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return found


class Live:
    """A stack with its own folder and free ports; it trains with the shipped settings."""

    first_up = ""
    """What the first `make up` has printed."""

    def __init__(self, folder: Path, training: Path | None = None) -> None:
        self.env = folder / ".env"
        self._fixed = {
            **({"TRAINING_SETTINGS": training} if training else {}),
            "STACK_FOLDER": folder / "stack",
            **dict(zip(PORTS, free_ports(len(PORTS)), strict=True)),
            # What is lost is noticed in seconds, so that a test need not wait as long as people can.
            "AIRFLOW__FRAUD_DETECTION__RETRY_DELAY_MINUTES": 0.2,
            "AIRFLOW__FRAUD_DETECTION__CREATE_MINUTES": 0.7,  # so that a cluster without a job is idle after 2 minutes
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 5,
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 15,
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 25,
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 5,
        }
        self.configure("*/2 * * * *")

    def configure(self, schedule: str) -> None:
        lines = [f'{name}="{value}"' for name, value in {**self._fixed, "SCHEDULE": schedule}.items()]
        self.env.write_text("\n".join(lines) + "\n")

    def command(self, *words: str) -> str:
        """The output of one of the stack's commands, which must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "local_stack", *words, "--env", str(self.env)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,  # longer than `up` waits for anything: it has to say itself what it waited for
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def remove(self) -> None:
        """Stop it, and remove its database where that lies outside of its folder."""
        down(self.stack)
        home = postgres.server(self.stack).data.parent
        if not home.is_relative_to(self.stack.folder):
            shutil.rmtree(home, ignore_errors=True)

    @property
    def stack(self) -> Stack:
        return load(self.env)

    @property
    def secrets(self) -> dict[str, str]:
        return passwords(self.stack.passwords)

    @property
    def emulator(self) -> Emulator:
        return Emulator(self.stack.cloud)

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.stack)

    @cached_property
    def api(self) -> Airflow:
        return airflow.connect(self.stack, self.secrets)

    def is_ready(self, name: str) -> bool:
        state = self.supervisor.state(name)
        return state.is_running and BY_NAME[name].is_ready(self.stack, state.started)

    def champion(self, model: str = "fraud_detection") -> str | None:
        return self._alias(model)

    def _alias(self, model: str) -> str | None:
        try:
            found = self.mlflow(f"registered-models/alias?name={model}&alias=champion")
        except HttpError as error:
            if error.status not in (400, 404):
                raise
            return None
        return str(found["model_version"]["version"])

    def versions(self, model: str = "fraud_detection") -> list[str]:
        found = self.mlflow(f"model-versions/search?filter=name%3D'{model}'").get("model_versions", [])
        return sorted(version["version"] for version in found)

    def mlflow(self, path: str) -> Any:
        address = f"{self.stack.mlflow_url}/api/2.0/mlflow/{path}"
        return call("GET", address, headers={"Authorization": basic(mlflow.ADMIN, self.secrets["mlflow_admin"])})

    def runs(self) -> list[dict[str, Any]]:
        """The runs of the training, newest first."""
        return self.api.last_runs(TRAINING_DAG, 50)


@dataclass
class Run:
    """One training run of its own model, which starts without a champion."""

    live: Live
    model: str
    run_id: str = ""
    output: str = ""
    """The output folder in the bucket; that of the model where it is left out."""
    _seen: int = 0
    _begun: float = field(default_factory=time.monotonic)

    def start(self, tracking_uri: str | None = None, input_folder: str = "input_data", **due: str) -> "Run":
        """Trigger a run with its own settings; it may have been due at another time (`run_after`)."""
        self.set_up(tracking_uri, input_folder)
        self.run_id = self.model
        wanted = {"dag_run_id": self.run_id, "logical_date": None, **due}
        self.live.api.call("POST", f"dags/{TRAINING_DAG}/dagRuns", wanted)
        return self

    def set_up(self, tracking_uri: str | None = None, input_folder: str = "input_data") -> "Run":
        """Store the settings of this run alone; something else triggers it."""
        stack = self.live.stack
        settings = yaml.safe_load((ROOT / stack.training_settings).read_text())
        code = stack.bucket / "code"
        revision = code / json.loads((code / CURRENT).read_text())["folder"]
        (revision / "retraining.yaml").write_text(yaml.safe_dump({**settings, "model_name": self.model}))
        configure(
            stack,
            self.live.api,
            self.live.secrets,
            model_name=self.model,
            input_uri=f"s3a://{BUCKET}/{input_folder}",
            output_uri=f"s3a://{BUCKET}/{self.model}",
            tracking_uri=tracking_uri or stack.mlflow_url,
        )
        self._seen = len(self.live.emulator.events())
        return self

    @property
    def state(self) -> str:
        return self.live.api.run_state(TRAINING_DAG, self.run_id)

    @property
    def tasks(self) -> dict[str, str]:
        return self.live.api.tasks(TRAINING_DAG, self.run_id)

    def ended(self, deadline: float = 600.0) -> str:
        """The run's final state. Airflow may be unavailable in between."""

        def state() -> str | None:
            with suppress(HttpError):
                return self.state if self.state in ENDED else None
            return None

        return str(eventually(f"run {self.run_id} ends", state, deadline))

    def events(self, kind: str, status: str) -> list[dict[str, Any]]:
        return [event for event in self.live.emulator.events(kind, status=status) if event in self._new()]

    def _new(self) -> list[dict[str, Any]]:
        return self.live.emulator.events()[self._seen :]

    def jobs(self) -> list[str]:
        """The jobs that were requested from the cloud."""
        return [event["job_id"] for event in self.events("job", "PROVISIONING")]

    def running_job(self) -> str:
        """The job, once its Spark processes the data."""

        def job() -> str | None:
            assert self.state not in ENDED, f"the run ended before its job ran: {self.tasks}"
            jobs = self.jobs()
            return jobs[-1] if jobs and "SparkContext: Running Spark" in self.live.emulator.log(jobs[-1]) else None

        return str(eventually("the job is running", job))

    def job_status(self, job: str) -> str:
        return str([event for event in self._new() if event["event"] == "job" and event["job_id"] == job][-1]["status"])

    def driver(self) -> psutil.Process:
        """The Python process that trains."""
        folder = self.live.stack.cloud / "jobs" / self.jobs()[-1]
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = process.cmdline()
                if (
                    len(words) > 1
                    and words[1].startswith(str(folder))
                    and words[1].endswith("/fraud_detection_model.py")
                ):
                    return process
        raise AssertionError(f"no driver of job {self.jobs()[-1]}")

    def decisions(self) -> list[Path]:
        return decided(self.live.stack.bucket / (self.output or self.model))

    def require_no_leak(self, clusters: int = 1) -> None:
        """Every cluster that was created is deleted, jobs ran one after the other, and nothing of one is left."""
        created = {event["cluster_id"] for event in self.events("cluster", "CREATING")}
        deleted = {event["cluster_id"] for event in self.events("cluster", "DELETED")}
        assert created == deleted
        assert len(created) == clusters
        assert self.live.emulator.clusters() == []
        self._require_one_job_at_a_time()
        eventually("the processes of all jobs are gone", lambda: not self._processes(), 30.0)

    def _require_one_job_at_a_time(self) -> None:
        alive: set[str] = set()
        for event in self._new():
            if event["event"] != "job":
                continue
            if event["status"] in ("DONE", "ERROR", "CANCELLED"):
                alive.discard(event["job_id"])
            else:
                alive.add(event["job_id"])
            assert len(alive) <= 1, f"{alive} at once"

    def _processes(self) -> list[int]:
        """The processes started in the folder of one of the run's jobs, or whose arguments name it."""
        folders = [str(self.live.stack.cloud / "jobs" / job) for job in self.jobs()]
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = [process.cwd(), *process.cmdline()]
                if any(folder in word for folder in folders for word in words):
                    found.append(process.pid)
        return found

    def require_one_decision(self) -> None:
        """The run has decided once, and put one version in service."""
        assert len(self.decisions()) == 1
        assert self.live.versions(self.model) == ["1"]
        assert self.live.champion(self.model) == "1"

    def require_no_decision(self) -> None:
        assert self.decisions() == []
        assert self.live.versions(self.model) == []


def decided(output: Path) -> list[Path]:
    """The decisions of an output folder, oldest first; without the openings, which the log keeps beside them."""
    files = (output / "decisions").rglob("*.json")
    return sorted(path for path in files if is_decision(path.relative_to(output).as_posix()))


class Proxy(ThreadingHTTPServer):
    """A proxy before MLflow that lets a test act at one particular request."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target = f"127.0.0.1:{port}"
        self._armed: dict[tuple[str, str], Callable[[], None]] = {}
        self._lock = threading.Lock()
        self.struck = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def instead_of(self, method: str, path: str, action: Callable[[], None]) -> None:
        """Act instead of forwarding the next such request, which gets no response."""
        self._armed[method, path] = action

    def taken(self, method: str, path: str) -> Callable[[], None] | None:
        with self._lock:
            for wanted in list(self._armed):
                if method == wanted[0] and path.split("?")[0].endswith(wanted[1]):
                    return self._armed.pop(wanted)
        return None


class _Forward(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        action = self.server.taken(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if action is not None:
            action()
            self.server.struck.set()
            self.close_connection = True
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            connection.request(self.command, self.path, body, {**headers, "Host": self.server.target})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # as if there were nobody
            return
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: pytest's output is for failures."""


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    server = Proxy(port)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Arguments(threading.Thread):
    """Collects the arguments of every process of this machine until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    self.seen.add((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    def stop(self) -> set[str]:
        self._stopped.set()
        self.join()
        return self.seen


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all that it has started."""
    process = psutil.Process(pid)
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            os.kill(one.pid, 9)
