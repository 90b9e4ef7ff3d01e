"""A Python client of the emulator: its description, its faults, its event log; and one to run for a test's time.

    with serving(tmp_path / "cloud", settings) as emulator:
        emulator.add_fault("create-fails")
        ...
        assert [event["status"] for event in emulator.events("cluster")] == ["CREATING", "ERROR"]

Needs nothing but grpc, so that it works in Airflow's environment as well.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

_TIMEOUT = 10.0  # seconds that a control call may take
_DEADLINE = 60.0  # seconds to start or to stop
_POLL = 0.05
OLDER_EVENTS = "events.1.jsonl"
"""The event log before the one that is being written."""
_NO_PROXY = (("grpc.enable_http_proxy", 0),)  # the emulator is on this machine


class EmulatorNotReadyError(Exception):
    """No emulator answers for this state folder."""


@dataclass(frozen=True)
class Emulator:
    """The emulator of a state folder."""

    state: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", self.state.absolute())  # the caller may change its working directory

    @property
    def cloud(self) -> dict[str, Any]:
        """Ids, address and paths (`cloud.json`)."""
        path = self.state / "cloud.json"
        if not path.exists():
            raise EmulatorNotReadyError(f"{path} is missing; run: python -m emulator init --state {self.state}")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def health(self) -> bool:
        """Whether the emulator answers."""
        try:
            return bool(self.call("Health")["status"] == "ok")
        except (grpc.RpcError, EmulatorNotReadyError):
            return False

    def add_fault(self, kind: str, **parameters: object) -> str:
        """Arm a fault (see `docs/emulator.md`); returns its id."""
        return str(self.call("AddFault", {"kind": kind, **parameters})["id"])

    def faults(self) -> list[dict[str, Any]]:
        """Armed faults that have strikes left."""
        return list(self.call("ListFaults"))

    def clear_faults(self) -> int:
        return int(self.call("ClearFaults")["cleared"])

    def clusters(self) -> list[dict[str, Any]]:
        """Every existing cluster, in every folder."""
        return list(self.call("Clusters"))

    def cluster_requests(self) -> list[dict[str, Any]]:
        """The request of every cluster within the retention, deleted ones included."""
        return list(self.call("ClusterRequests"))

    def jobs(self) -> list[dict[str, Any]]:
        """Every job within the retention (`retention.days`), also of deleted clusters."""
        return list(self.call("Jobs"))

    def put_secret(self, name: str, values: Mapping[str, str]) -> str:
        """A Lockbox secret of that name with these values, made or given a new version; returns its id."""
        return str(self.call("PutSecret", {"name": name, "values": dict(values)})["id"])

    def resources(self) -> dict[str, list[str]]:
        """The ids of everything that there is in the cloud, by kind."""
        return dict(self.call("Resources"))

    def grants(self) -> list[dict[str, str]]:
        """Every access binding: `role`, `on` (a resource's id), `subject` (an account's id)."""
        return list(self.call("Grants"))

    def token(self, account_id: str) -> str:
        """A new IAM token of a service account, as its machines get them."""
        return str(self.call("Token", {"account": account_id})["token"])

    def metadata(self, account_id: str) -> str:
        """The address of a metadata endpoint, as a machine with that account has one (YC_METADATA_ADDR)."""
        return str(self.call("Metadata", {"account": account_id})["address"])

    def events(self, kind: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """Events of the log, oldest first; of one kind, and with these values."""
        files = (self.state / OLDER_EVENTS, self.state / "events.jsonl")
        lines = [line for path in files for line in _lines(path)]
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        wanted = fields if kind is None else {"event": kind, **fields}
        return [event for event in events if all(event.get(key) == value for key, value in wanted.items())]

    def log(self, job_id: str) -> str:
        """What a job's driver has written so far."""
        path = self.state / "jobs" / job_id / "driver.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def connection(self) -> dict[str, Any]:
        """An Airflow connection to this cloud; as JSON it is the value of AIRFLOW_CONN_YANDEXCLOUD_DEFAULT."""
        cloud = self.cloud
        extra = {
            "endpoint": cloud["endpoint"],
            "service_account_json_path": cloud["service_accounts"]["airflow"]["key"],
            "folder_id": cloud["folder_id"],
            "public_ssh_key": cloud["ssh_public_key"],
        }
        return {"conn_type": "yandexcloud", "extra": extra}

    def call(self, method: str, request: Mapping[str, object] | None = None) -> Any:
        """One control call."""
        cloud = self.cloud
        token = (self.state / "control.token").read_text()
        credentials = grpc.ssl_channel_credentials((self.state / "ca.pem").read_bytes())
        with grpc.secure_channel(cloud["endpoint"], credentials, options=_NO_PROXY) as channel:
            send: Any = channel.unary_unary(
                f"/emulator.Control/{method}",
                request_serializer=lambda value: json.dumps(value).encode(),
                response_deserializer=json.loads,
            )
            return send(dict(request or {}), timeout=_TIMEOUT, metadata=(("authorization", f"Bearer {token}"),))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []


@contextmanager
def serving(
    state: Path,
    settings: Mapping[str, object] | None = None,
    *,
    python: str = sys.executable,
) -> Iterator[Emulator]:
    """A new emulator, on a free port unless the settings name one; stopped with its jobs at the exit."""
    process = start(state, settings, python=python)
    try:
        yield Emulator(state)
    finally:
        stop(process)


def start(
    state: Path,
    settings: Mapping[str, object] | None = None,
    *,
    python: str = sys.executable,
) -> "subprocess.Popen[bytes]":
    """Start an emulator and wait until it answers. Raises EmulatorNotReadyError with its output."""
    state = state.absolute()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = state / "settings.json"  # JSON is YAML, too
    config.write_text(json.dumps({"port": 0, **(settings or {})}))
    (state / "cloud.json").unlink(missing_ok=True)  # of an earlier run, at another port
    output = state / "serve.log"
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    with output.open("ab") as log:
        process = subprocess.Popen(
            [python, "-m", "emulator", "serve", "--state", str(state), "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )
    emulator = Emulator(state)
    if not wait_for(lambda: process.poll() is not None or emulator.health(), _DEADLINE) or process.poll() is not None:
        stop(process)
        raise EmulatorNotReadyError(f"the emulator did not start: {output.read_text(errors='replace')[-2000:]}")
    return process


def stop(process: "subprocess.Popen[bytes]") -> int:
    """Stop an emulator by SIGTERM, and by SIGKILL if that fails; returns its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def wait_for(condition: Callable[[], bool], deadline: float = 10.0) -> bool:
    """Whether a condition came true within `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL)
    return True
