"""Managed Airflow: a real Airflow with the account that Terraform gave the cluster, and the bucket's DAGs."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from deployment.airflow import Airflow
from local_stack import airflow
from local_stack.components import BY_NAME, base_environment
from local_stack.passwords import write_private
from local_stack.settings import REAPER_DAG, TRAINING_DAG, Stack
from rehearsal.account import Account
from rehearsal.cloud import RehearsalError, RehearsedCloud
from rehearsal.processes import running, wait_for

DAGS = "dags"
_SYNC_TIMEOUT = 60.0
_KEY = re.compile(r"<Key>([^<]+)</Key>")


def settings(cloud: RehearsedCloud, stack: Stack, account_id: str) -> dict[str, str]:
    """What Managed Airflow sets for its processes, and what leads them to the emulated cloud.

    Without a key in the connection the provider takes tokens from the metadata: those of the cluster's account.
    """
    described = cloud.emulator.cloud
    connection = {"conn_type": "yandexcloud", "extra": {"endpoint": described["endpoint"]}}
    return {
        "YC_METADATA_ADDR": cloud.emulator.metadata(account_id),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": described["ca"],
        "AIRFLOW_CONN_YANDEXCLOUD_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__DAGS_FOLDER": str(stack.folder / DAGS),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # the one run is started by hand
    }


@contextmanager
def airflow_server(stack: Stack, secrets: Mapping[str, str], extra: Mapping[str, str]) -> Iterator[None]:
    """API server, DAG processor and scheduler, ready. Raises RehearsalError with a log."""
    (stack.folder / DAGS).mkdir()
    airflow.migrate(stack, {**base_environment(stack), **airflow.environment(stack, secrets), **extra})
    since = time.time()
    with ExitStack() as started:
        for name in ("airflow-api", "dag-processor", "scheduler"):
            component, log = BY_NAME[name], stack.logs / f"{name}.log"
            launch = component.launch(stack)
            process = started.enter_context(running(launch.command, {**launch.environment, **extra}, log))
            if name == "airflow-api":  # a task that begins before it answers has used up a try
                wait_for(lambda: airflow.answers(stack), name, component.deadline, process, log)
        for name in ("dag-processor", "scheduler"):
            ready = BY_NAME[name].is_ready
            wait_for(lambda ready=ready: ready(stack, since), name, 180.0, log=stack.logs / f"{name}.log")  # type: ignore[misc]
        yield


def sync_dags(account: Account, bucket: str, folder: Path) -> int:
    """Copy the bucket's DAGs as Managed Airflow does, with the grants of its account; returns how many there are."""
    storage = account.cloud.emulator.cloud["storage"]
    names = _KEY.findall(_get(account, f"{storage}/{bucket}?list-type=2&prefix={DAGS}/").decode())
    for name in names:
        path = folder / name.removeprefix(f"{DAGS}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_get(account, f"{storage}/{bucket}/{quote(name)}"))
    return len(names)


def wait_for_dags(api: Airflow, log: Path) -> str:
    """Wait until both DAGs are loaded; returns their names. Raises RehearsalError with what is wrong with a file."""
    names = (TRAINING_DAG, REAPER_DAG)
    try:
        wait_for(lambda: all(map(api.has_dag, names)), "Airflow", 120.0, log=log)
    except RehearsalError as error:
        raise RehearsalError(f"{error}\nerrors of the DAGs: {api.import_errors() or 'none'}") from error
    return " and ".join(names)


def errors_of_tasks(stack: Stack) -> list[str]:
    """What tasks have logged as errors, oldest first, as `TASK: WORDS`."""
    logs = (stack.logs / "airflow").glob("dag_id=*/run_id=*/task_id=*/attempt=*.log")
    found = []
    for log in sorted(logs, key=lambda path: path.stat().st_mtime):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            entry = json.loads(line)
            if entry["level"] in ("error", "critical"):
                causes = [f"{cause['exc_type']}: {cause['exc_value']}" for cause in entry.get("error_detail", [])]
                found.append(f"{log.parent.name.removeprefix('task_id=')}: {'; '.join([entry['event'], *causes])}")
    return found


def keep_password(stack: Stack, password: str) -> None:
    """Let Airflow's administrator have the password that Terraform was given."""
    write_private(stack.passwords, json.dumps({"airflow_admin": password}))


def _get(account: Account, url: str) -> bytes:
    request = urllib.request.Request(url, headers={"X-YaCloud-SubjectToken": account.token})  # noqa: S310  (http)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SYNC_TIMEOUT) as answer:
            content: bytes = answer.read()
            return content
    except OSError as error:
        raise RehearsalError(f"GET {url} as Airflow's account failed; found: {error}; expected: 200") from error
