"""`make up`, top to bottom."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from deployment.airflow import Airflow
from emulator.client import Emulator
from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.schema import Decision
from fraud_detection.storage import open_folder
from local_stack import airflow, bucket, mlflow, ports, postgres, runs, seeding, serving
from local_stack.components import BY_NAME, COMPONENTS, base_environment
from local_stack.console import Progress, tail
from local_stack.passwords import passwords
from local_stack.settings import BUCKET, MODEL, PORTS, REAPER_DAG, TRAINING_DAG, Stack, StackError
from local_stack.supervision import Supervisor, configuration, log_file, start_supervisord, wait_gone

ZONE = "ru-central1-b"
FIRST_RUN_SECONDS = 900.0
_SCHEDULED_RUN_SECONDS = 3.0  # Airflow makes up for the last missed run at once where a DAG is unpaused
_POLL = 0.5
_PORT_OF = {
    "postgres": "POSTGRES_PORT",
    "emulator": "EMULATOR_PORT",
    "mlflow": "MLFLOW_PORT",
    "airflow-api": "AIRFLOW_PORT",
    "serving": "SERVING_PORT",
}
_BAD_RUN_STATES = ("failed",)


def up(stack: Stack, *, first_run: bool = True) -> None:
    """Start everything that is not running. Raises StackError with the cause and the next command."""
    progress = Progress()
    _prepare_folder(stack)
    with _locked(stack):
        secret = passwords(stack.passwords)
        supervisor = _supervisor(stack)
        try:
            _start_all(stack, supervisor, secret, progress)
            mlflow.make_job_account(stack, secret)
            api = airflow.connect(stack, secret)
            configure(stack, api, secret)
            _schedule(stack, api, secret, progress, first_run=first_run)
            _wait_ready(stack, supervisor, "serving")  # it has waited for the first champion
            for what, text in runs.attention(stack, runs.training(stack)):
                progress.report(what, text)
        finally:  # whatever failed, what has started can be inspected
            _show_addresses(stack, supervisor, progress)
        _show_service(stack, progress)
    progress.report("up", f"in {progress.seconds:.0f} s; next: make status, make logs, make down")


def _start_all(stack: Stack, supervisor: Supervisor, secret: Mapping[str, str], progress: Progress) -> None:
    """Start every component, after the data and the bucket's content that it needs."""
    with progress.step("postgres") as line:
        made = postgres.initialise(stack, secret["postgres"])
        _start(stack, supervisor, "postgres")
        _wait_ready(stack, supervisor, "postgres")
        postgres.create_databases(stack, secret)
        line.text = f"{'created, ' if made else ''}ready at {BY_NAME['postgres'].url(stack)}"
    for name in ("emulator", "mlflow"):  # they start while the data and Airflow's tables are created
        _start(stack, supervisor, name)
    with progress.step("demo data") as line:
        files = seeding.seed(stack.folder, datetime.now(UTC), stack.transactions_per_day)
        bank = seeding.story(stack.folder, datetime.now(UTC))
        line.text = f"{files} files written; transactions from {bank.first_day} to the last full hour"
    with progress.step("environment") as line:
        made = bucket.create_archive()
        size = bucket.ARCHIVE.stat().st_size / 1e6
        line.text = f"{'created' if made else 'up to date'}: {stack.shown(bucket.ARCHIVE)}, {size:.0f} MB"
    with progress.step("bucket") as line:
        line.text = f"{bucket.upload(stack)} objects uploaded to {stack.shown(stack.bucket)}"
    with progress.step("airflow tables") as line:
        environment = base_environment(stack) | airflow.environment(stack, secret)
        line.text = "created" if airflow.migrate(stack, environment) else "up to date"
    for name in ("airflow-api", "scheduler", "dag-processor", "feeder", "upkeep", "serving"):
        _start(stack, supervisor, name)
    for component in COMPONENTS[1:]:
        with progress.step(component.name) as line:
            _wait_ready(stack, supervisor, component.name)
            line.text = f"ready {component.url(stack)}".rstrip()


def _prepare_folder(stack: Stack) -> None:
    stack.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # If PostgreSQL runs as another user, it has to enter this folder; everything else inside is closed to it.
    stack.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for folder in (stack.run, stack.logs, stack.cloud, stack.airflow_home, stack.mlflow):
        folder.mkdir(exist_ok=True, mode=0o700)


@contextmanager
def _locked(stack: Stack) -> Iterator[None]:
    """Hold the stack's lock. Raises StackError if another `make up` holds it."""
    lock = FileLock(stack.run / "up.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise StackError("another make up is running on this stack; next: wait for it, see make status") from error
    try:
        yield
    finally:
        lock.release()


def _supervisor(stack: Stack) -> Supervisor:
    """supervisord with this stack's configuration; one with another configuration is stopped first."""
    supervisor = Supervisor(stack)
    config = stack.run / "supervisord.conf"
    if supervisor.is_up() and config.exists() and config.read_text(encoding="utf-8") != configuration(stack):
        supervisor.shut_down()
        if not wait_gone(stack, 120.0):
            raise StackError(
                "supervisord runs with other settings and cannot be stopped; next: make down, then make up"
            )
    running = {state.name for state in supervisor.states() if state.is_running}
    _require_free_ports(stack, running)
    stack.save()
    return start_supervisord(stack)


def _require_free_ports(stack: Stack, running: set[str]) -> None:
    """Raises StackError naming every port that another program uses."""
    kept = _recorded(stack)
    taken = []
    for component, name in _PORT_OF.items():
        port = stack.ports[name]
        own = component in running and kept.get(component, {}).get("port") == port
        if not own and not ports.is_free(port):
            taken.append(ports.complaint(name, PORTS[name], port))
    if taken:
        raise StackError("\n".join(taken) + "\nnext: make up")


def _start(stack: Stack, supervisor: Supervisor, name: str) -> None:
    """Start a component; one that runs with other settings is restarted."""
    kept, wanted = _recorded(stack), _fingerprint(stack, name)
    if supervisor.state(name).is_running and kept.get(name) != wanted:
        supervisor.stop(name)
    supervisor.start(name)
    _record(stack, {**kept, name: wanted})


def _fingerprint(stack: Stack, name: str) -> dict[str, Any]:
    """What a component was started with, without showing its secrets."""
    launch = BY_NAME[name].launch(stack)
    own = launch.environment.items() - base_environment(stack).items()
    text = json.dumps([launch.command, sorted(own)])
    port = stack.ports.get(_PORT_OF.get(name, ""))
    return {"port": port, "digest": hashlib.sha256(text.encode()).hexdigest()}


def _recorded(stack: Stack) -> dict[str, Any]:
    path = stack.run / "started.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _record(stack: Stack, started: Mapping[str, Any]) -> None:
    (stack.run / "started.json").write_text(json.dumps(started, indent=2), encoding="utf-8")


def _wait_ready(stack: Stack, supervisor: Supervisor, name: str) -> None:
    """Wait for a component. Raises StackError with the end of its log if it fails or takes too long."""
    component = BY_NAME[name]
    end = time.monotonic() + component.deadline
    while True:
        state = supervisor.state(name)
        if state.is_running and component.is_ready(stack, state.started):
            return
        if state.has_given_up or time.monotonic() > end:
            what = "has ended" if state.has_given_up else f"is not ready after {component.deadline:.0f} s"
            log = log_file(stack, name)
            raise StackError(
                f"{name} {what}. The end of {stack.shown(log)}:\n{tail(log)}\n"
                f"next: make logs COMPONENT={name}, fix the cause, then make up again"
            )
        time.sleep(_POLL)


def configure(stack: Stack, api: Airflow, secret: Mapping[str, str], **changed: str) -> None:
    """Write the job's credentials to Lockbox, and the connection and settings of the DAGs, some changed, to Airflow."""
    emulator = Emulator(stack.cloud)
    account = {"username": mlflow.JOB, "password": secret["mlflow_job"]}
    cloud = emulator.cloud
    airflow.set_connection(api, emulator)
    airflow.merge_variable(
        api,
        "fraud_detection",
        {
            "zone": ZONE,
            "folder_id": cloud["folder_id"],
            "subnet_id": cloud["subnets"][ZONE],
            "security_group_id": cloud["security_group_id"],
            "service_account_id": cloud["service_accounts"]["dataproc"]["id"],
            "bucket": BUCKET,
            "storage_endpoint": stack.buckets.as_uri(),
            "code_uri": f"s3a://{BUCKET}/code",
            "input_uri": f"s3a://{BUCKET}/input_data",
            "output_uri": f"s3a://{BUCKET}/output_data",
            "tracking_uri": stack.mlflow_url,
            "mlflow_secret_id": emulator.put_secret("mlflow-job", account),
            "model_name": MODEL,
            **changed,
        },
    )


def _schedule(stack: Stack, api: Airflow, secret: Mapping[str, str], progress: Progress, *, first_run: bool) -> None:
    """Unpause the DAGs, and follow the first run if there is no champion yet."""
    for dag in (TRAINING_DAG, REAPER_DAG):
        airflow.wait_for_dag(api, dag)
    for dag in (TRAINING_DAG, REAPER_DAG):
        api.set_paused(dag, paused=False)
    progress.report("schedule", f"{TRAINING_DAG} runs at {stack.schedule} (SCHEDULE in .env)")
    if first_run and mlflow.champion(stack, secret) is None:
        run_id = _first_run(stack, api)
        if run_id is not None:
            _follow(stack, api, run_id, progress)
    champion = mlflow.champion(stack, secret)
    if champion is not None:
        progress.report("champion", f"version {champion} of {MODEL} is in service")
    else:
        _report_verdict(stack, api, progress)


def _first_run(stack: Stack, api: Airflow) -> str | None:
    """The run that may promote the first champion: one that the schedule has started, or else one triggered now.

    None if this hour is decided already: another run would be skipped.
    """
    end = time.monotonic() + _SCHEDULED_RUN_SECONDS
    while time.monotonic() < end:
        for run in api.last_runs(TRAINING_DAG):
            if run["state"] in ("queued", "running"):
                return str(run["dag_run_id"])
        time.sleep(_POLL)
    decision = _newest_decision(stack)
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    if decision is not None and decision.as_of >= this_hour:
        return None
    return api.trigger(TRAINING_DAG, "make_up")


def _newest_decision(stack: Stack) -> Decision | None:
    """The newest decision; None before the first. Raises StackError if it cannot be read."""
    with _readable_decisions():
        history = _decision_log(stack).history()
    return next((entry for entry in reversed(history) if isinstance(entry, Decision)), None)


def _require_no_lost_champion(stack: Stack) -> None:
    """Raises StackError if a version should be in service, and MLflow has no champion."""
    with _readable_decisions():
        last = _decision_log(stack).last_change()
    version = last.version if isinstance(last, Decision) else last and last.to_version
    if version is not None:
        raise StackError(
            f"the champion is lost: version {version} of {MODEL} should be in service, and MLflow has no champion; the "
            "next run names the command that restores it\nnext: make logs COMPONENT=job"
        )


def _decision_log(stack: Stack) -> DecisionLog:
    return DecisionLog(open_folder(str(stack.bucket / "output_data")), MODEL)


@contextmanager
def _readable_decisions() -> Iterator[None]:
    try:
        yield
    except FraudDetectionError as error:
        raise StackError(f"{error}\nnext: make up") from error


def _report_verdict(stack: Stack, api: Airflow, progress: Progress) -> None:
    """Report why there is no champion, and when the next run is. A refused model is not an error; a lost one is."""
    _require_no_lost_champion(stack)
    decision = _newest_decision(stack)
    if decision is None:
        progress.report("verdict", "no run has decided yet")
    else:
        outcome = decision.outcome.value.replace("_", " ")
        progress.report("verdict", f"{outcome} at {decision.as_of:%Y-%m-%d %H:%M} UTC: {decision.reason}")
        if decision.report is not None:
            report = stack.buckets / decision.report.removeprefix("s3a://")
            progress.report("report", stack.shown(report))
    at = api.next_run(TRAINING_DAG)
    due = f"{at:%Y-%m-%d %H:%M} UTC" if at else f"as {stack.schedule} says"
    progress.report("next run", f"{due} (SCHEDULE in .env); it says in its first task when a model is tested again")


def _follow(stack: Stack, api: Airflow, run_id: str, progress: Progress) -> None:
    """Report the tasks of a run until it ends. Raises StackError if it fails."""
    end, shown, started = time.monotonic() + FIRST_RUN_SECONDS, dict[str, str](), time.monotonic()
    while time.monotonic() < end:
        state, tasks = api.run_state(TRAINING_DAG, run_id), api.tasks(TRAINING_DAG, run_id)
        for task, task_state in tasks.items():
            if shown.get(task) != task_state and task_state not in ("scheduled", "queued", "None"):
                progress.report("first run", f"{time.monotonic() - started:5.0f} s  {task}: {task_state}")
            shown[task] = task_state
        if state == "success":
            return
        if state in _BAD_RUN_STATES:
            raise StackError(_failed_run(stack, run_id, tasks))
        time.sleep(1.0)
    raise StackError(
        f"the first run has not ended after {FIRST_RUN_SECONDS:.0f} s: {shown}\nnext: make status, make logs"
    )


def _failed_run(stack: Stack, run_id: str, tasks: Mapping[str, str]) -> str:
    failed = [task for task, state in tasks.items() if state == "failed"]
    parts = [f"the first run failed, at {', '.join(failed) or 'no task'}."]
    for task in failed:
        log = airflow.task_log(stack, TRAINING_DAG, run_id, task)
        if log is not None:
            parts.append(f"The end of {stack.shown(log)}:\n{tail(log, 8)}")
    if "train" in failed:
        driver = newest_driver_log(stack)
        parts.append(f"The end of what the job wrote:\n{tail(driver, 15)}" if driver else "The job wrote nothing.")
    return "\n".join([*parts, "next: make logs COMPONENT=job, fix the cause, then make up again"])


def newest_driver_log(stack: Stack) -> Any:
    """The log of the last job; None before the first."""
    logs = [path for path in (stack.cloud / "jobs").glob("*/driver.log") if path.exists()]  # links into the bucket
    return max(logs, default=None, key=lambda path: path.stat().st_mtime)


def _show_addresses(stack: Stack, supervisor: Supervisor, progress: Progress) -> None:
    """Report every address, the file with the passwords, and what is not running."""
    where = stack.shown(stack.passwords)
    running = {state.name for state in supervisor.states() if state.is_running}
    for component, name, text in (
        ("airflow-api", "Airflow", f"user {airflow.ADMIN}, password airflow_admin in {where}"),
        ("mlflow", "MLflow", f"user {mlflow.ADMIN}, password mlflow_admin in {where}"),
        ("emulator", "cloud", f"state in {stack.shown(stack.cloud)}"),
        ("postgres", "PostgreSQL", f"user postgres, password postgres in {where}"),
    ):
        state = "" if component in running else "  (not running)"
        progress.report(name, f"{BY_NAME[component].url(stack)}  {text}{state}")


def _show_service(stack: Stack, progress: Progress) -> None:
    """Report where the champion's dashboard is, and how a transaction is scored."""
    page = serving.dashboard(stack)
    if page is not None:
        progress.report("dashboard", f"{page}  every run makes it anew")
    if serving.answers(stack):
        progress.report("score", serving.example(stack, datetime.now(UTC)))
