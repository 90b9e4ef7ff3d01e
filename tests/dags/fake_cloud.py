"""Shared by the DAG tests: an installation with its settings, its runs, and what the emulated cloud recorded."""

import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from deployment import bucket
from emulator.client import Emulator, wait_for

ROOT = Path(__file__).parents[2]
EMULATOR_PYTHON = str(ROOT / ".venv" / "bin" / "python")
"""The emulator runs in its own environment: Airflow's lacks some of its packages."""

BUCKET = "demo"
QUICK = {
    "create_cluster": 0.3,
    "delete_cluster": 0.1,
    "job_provisioning": 0.05,
    "job_pending": 0.05,
    "job_grace": 0.5,
}


def example_variables() -> dict[str, Any]:
    """The settings of `variables.json.example`."""
    found: dict[str, Any] = json.loads((ROOT / "variables.json.example").read_text(encoding="utf-8"))["fraud_detection"]
    return found


def load(name: str) -> Any:
    """A module of the DAGs folder, freshly executed."""
    folder = str(ROOT / "dags")
    if folder not in sys.path:
        sys.path.append(folder)  # as Airflow does
    for module in [module for module in sys.modules if module == name or module.startswith("fraud_detection_common")]:
        del sys.modules[module]
    return importlib.import_module(name)


def library_outputs() -> ModuleType:
    """The library's names of objects: one file of the standard library alone, so Airflow's environment can load it."""
    spec = importlib.util.spec_from_file_location("library_outputs", ROOT / "src" / "fraud_detection" / "outputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OUTPUTS = library_outputs()


@dataclass
class Run:
    """A finished run: its state, those of its tasks, and what happened in the cloud meanwhile."""

    state: str
    tasks: dict[str, str]
    run_id: str
    xcom: Mapping[str, Any]
    note: str | None
    events: list[dict[str, Any]]

    def clusters(self, status: str) -> list[str]:
        return [
            event["cluster_id"] for event in self.events if event["event"] == "cluster" and event["status"] == status
        ]

    def jobs(self) -> list[str]:
        """The jobs that were started, by name."""
        return [e["name"] for e in self.events if e["event"] == "job" and e["status"] == "PROVISIONING"]

    def calls(self, service: str, method: str) -> list[str]:
        """The status codes of the calls of a method."""
        calls = [e for e in self.events if e["event"] == "call" and e["method"] == method]
        return [e["code"] for e in calls if e["service"].endswith(service)]

    @property
    def leaked(self) -> set[str]:
        return set(self.clusters("CREATING")) - set(self.clusters("DELETED"))


class Installation:
    """An installation: the DAGs, the settings, and the emulator."""

    def __init__(self, emulator: Emulator, patch: pytest.MonkeyPatch) -> None:
        self.emulator = emulator
        self.bucket = Path(emulator.state) / "buckets" / BUCKET
        self.output = self.bucket / "output_data"
        self.plan = emulator.state / "plan"
        self.plan.write_text("")
        self._patch = patch
        cloud = emulator.cloud
        self.variables = example_variables() | {
            "zone": "ru-central1-b",
            "folder_id": cloud["folder_id"],
            "subnet_id": cloud["subnets"]["ru-central1-b"],
            "security_group_id": cloud["security_group_id"],
            "service_account_id": cloud["service_accounts"]["dataproc"]["id"],
            "bucket": BUCKET,
            "code_uri": f"s3a://{BUCKET}/code",
            "input_uri": f"s3a://{BUCKET}/input_data",
            "output_uri": f"s3a://{BUCKET}/output_data",
            "storage_endpoint": f"file://{self.bucket.parent}",
            "check_mlflow": False,  # tests/dags/test_gate.py has one
        }
        self.upload("4f1c")
        # The SDK looks at an operation once a second.
        quick = SimpleNamespace(time=time.time, sleep=lambda _: time.sleep(0.1))
        patch.setattr("yandexcloud._operation_waiter.time", quick)
        patch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(cloud["ca"]))
        patch.setenv("AIRFLOW_CONN_YANDEXCLOUD_DEFAULT", json.dumps(emulator.connection()))
        self.configure()

    def cluster(self, **labels: str) -> str:
        """Create a cluster outside any run; returns its id."""
        from airflow.providers.yandex.hooks.dataproc import DataprocHook

        made = DataprocHook().dataproc_client.create_cluster(
            cluster_name=f"cluster-{len(self.emulator.events())}",
            labels=labels,
            services=["YARN", "SPARK"],
            computenode_count=1,
            subnet_id=self.variables["subnet_id"],
            service_account_id=self.variables["service_account_id"],
            s3_bucket=BUCKET,
        )
        return str(made.response.id)

    def job(self, cluster_id: str) -> str:
        """Start a job on a cluster outside any run; returns its id."""
        from airflow.providers.yandex.hooks.dataproc import DataprocHook
        from yandex.cloud.dataproc.v1 import job_pb2, job_service_pb2
        from yandex.cloud.dataproc.v1.job_service_pb2_grpc import JobServiceStub

        wanted = job_service_pb2.CreateJobRequest(
            cluster_id=cluster_id, name="job", pyspark_job=job_pb2.PysparkJob(main_python_file_uri="s3a://demo/main.py")
        )
        operation = DataprocHook().sdk.client(JobServiceStub).Create(wanted)
        metadata = job_service_pb2.CreateJobMetadata()
        operation.metadata.Unpack(metadata)
        return str(metadata.job_id)

    def cancel(self, cluster_id: str, job_id: str) -> None:
        """Cancel a job, and return when it has ended."""
        from airflow.providers.yandex.hooks.dataproc import DataprocHook
        from yandex.cloud.dataproc.v1 import job_service_pb2
        from yandex.cloud.dataproc.v1.job_service_pb2_grpc import JobServiceStub

        wanted = job_service_pb2.CancelJobRequest(cluster_id=cluster_id, job_id=job_id)
        DataprocHook().sdk.client(JobServiceStub).Cancel(wanted)
        assert wait_for(lambda: self._job_status(job_id) == "CANCELLED"), "the job goes on"

    def _job_status(self, job_id: str) -> str:
        return next(str(job["status"]) for job in self.emulator.jobs() if job["id"] == job_id)

    def jobs_do(self, *words: str) -> None:
        """What the next jobs do, in order: see `stub_job.sh`."""
        self.plan.write_text("".join(f"{word}\n" for word in words))

    def scheduled(self, as_of: datetime, next_candidate_at: datetime, **frauds: int) -> None:
        """Write the schedule of the last job, with a candidate that has 31 of the 40 frauds that it needs.

        Args:
            as_of: of that job.
            next_candidate_at: when the next candidate is opened.
            frauds: `h1=5` are five more that count an hour after `as_of`.
        """
        look = {
            "candidate": {"label_cutoff": as_of.replace(hour=0).isoformat(), "recipe": "recipe"},
            "number": 1,
            "holdout_start": (as_of - timedelta(days=7)).isoformat(),
            "frauds": 31,
            "frauds_needed": 40,
            "fraud_cards": 20,
            "fraud_cards_needed": 15,
            "maturing": {
                (as_of + timedelta(hours=int(name[1:]))).isoformat(): {"frauds": count, "new_cards": count}
                for name, count in frauds.items()
            },
        }
        content = {
            "schema_version": 1,
            "model_name": "fraud_detection",
            "as_of": as_of.isoformat(),
            "written_at": as_of.isoformat(),
            "champion_version": 12,
            "compared_with": 12,
            "next_candidate_at": next_candidate_at.isoformat(),
            "look_every_hours": 2,
            "block": None,
            "late_frauds_a_day": 0.0,
            "looks": [look],
            "changed": None,
        }
        self.leave(OUTPUTS.schedule_file("fraud_detection"), content)

    def leave(self, name: str, content: dict[str, Any]) -> None:
        """Write an object to the output folder."""
        path = self.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def upload(self, folder: str) -> None:
        """Let runs that start from now on take the code in this folder."""
        path = self.bucket.parent / self.variables["code_uri"].removeprefix("s3a://") / bucket.CURRENT
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.current(folder, "venvs/9b1c.tar.gz", "4f1c"))

    def forget_attempts(self) -> None:
        """Delete what runs of other tests left in Airflow's database."""
        from airflow.models import Variable
        from airflow.utils.session import create_session

        with create_session() as session:
            for name in ("fraud_detection_attempts", "fraud_detection_clusters"):
                session.query(Variable).filter_by(key=name).delete()

    def configure(self, **variables: object) -> None:
        self.variables |= variables
        self._patch.setenv("AIRFLOW_VAR_FRAUD_DETECTION", json.dumps(self.variables))

    def dag(self, name: str = "fraud_detection_training", retry_seconds: float = 0.1, **limits: float) -> Any:
        """The DAG, with retries and polling that hardly wait, and time limits in seconds for tasks by name."""
        dag = load(name).dag
        sys.modules["fraud_detection_common.clusters"].POLL_SECONDS = 0.2  # type: ignore[attr-defined]
        for task in dag.tasks:
            task.retry_delay = timedelta(seconds=retry_seconds)
        for task_id, seconds in limits.items():
            dag.get_task(task_id).execution_timeout = timedelta(seconds=seconds)
        return dag

    def run(
        self,
        dag: Any = None,
        *,
        at: datetime = datetime(2026, 5, 24, 10, tzinfo=UTC),
        conf: dict[str, Any] | None = None,
        unscheduled: str | None = None,
    ) -> Run:
        """One whole run in this process, as by `airflow dags test`; the task `unscheduled` never runs."""
        dag = dag or self.dag()
        seen = len(self.emulator.events())
        found = dag_test(dag, at, conf, unscheduled)
        events = self.emulator.events()[seen:]
        states = {ti.task_id: str(getattr(ti.state, "value", ti.state)) for ti in found.get_task_instances()}
        return Run(str(found.state), states, found.run_id, xcoms(found), note_of(found), events)


def dag_test(dag: Any, at: datetime, conf: dict[str, Any] | None, unscheduled: str | None = None) -> Any:
    """One run at a given time, which Airflow 3 and 2 call by different names."""
    import inspect

    with suppress(ImportError):  # Airflow 2 keeps tables there that a note refers to
        import airflow.providers.fab.auth_manager.models  # noqa: F401

    when = "logical_date" if "logical_date" in inspect.signature(dag.test).parameters else "execution_date"
    extra = {"run_after": at} if when == "logical_date" else {}
    return dag.test(**{when: at}, **extra, run_conf=conf, mark_success_pattern=unscheduled)


def xcoms(run: Any) -> dict[str, Any]:
    """What each task returned."""
    from airflow.models import xcom
    from airflow.utils.session import create_session

    model = getattr(xcom, "XComModel", xcom.XCom)  # Airflow 3, and 2
    with create_session() as session:
        rows = session.query(model).filter_by(dag_id=run.dag_id, run_id=run.run_id, key="return_value").all()
        return {row.task_id: _value(row.value) for row in rows}


def _value(stored: Any) -> Any:
    """Decode an XCom, which Airflow 3 stores as JSON text in a JSON column."""
    try:
        return json.loads(stored) if isinstance(stored, bytes | str) else stored
    except ValueError:
        return stored


def note_of(run: Any) -> str | None:
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        found: str | None = session.query(DagRun).filter_by(dag_id=run.dag_id, run_id=run.run_id).one().note
        return found
