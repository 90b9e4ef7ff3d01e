"""The DAGs without running them: they load in any environment, and every task has a time limit and retries."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_cloud import ROOT, example_variables, load

from deployment import bucket

NAMES = ("fraud_detection_training", "fraud_detection_cluster_reaper")


@pytest.fixture(params=NAMES)
def dag(request: pytest.FixtureRequest) -> Any:
    return load(request.param).dag


@pytest.fixture
def training() -> Any:
    return load("fraud_detection_training").dag


def test_dags_load_without_a_database_and_without_a_network(tmp_path: Path) -> None:
    """Fails when loading a DAG file needs the database or the network, whose outage would remove the DAG."""
    program = f"""
import socket, sys
def refused(*_, **__):
    raise AssertionError("the network was used")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refused
sys.path.append({str(ROOT / "dags")!r})
import {", ".join(NAMES)}
print([dag.dag_id for dag in ({", ".join(f"{name}.dag" for name in NAMES)})])
"""
    environment = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/no/such/folder/airflow.db",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "HOME": str(tmp_path),
    }
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.splitlines()[-1] == str(list(NAMES))


def test_airflow_finds_both_dags_and_nothing_else_in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a DAG does not load, or Airflow lists a helper module as a DAG."""
    folder = ROOT / "dags"
    try:
        from airflow.dag_processing.dagbag import BundleDagBag
    except ImportError:  # before Airflow 3.2; there it is the DAG processor that makes the folder importable
        from airflow.models import DagBag

        monkeypatch.syspath_prepend(folder)
        bag = DagBag(str(folder))
    else:
        bag = BundleDagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder")
    assert bag.import_errors == {}
    assert sorted(bag.dag_ids) == sorted(NAMES)
    assert all(dag.doc_md for dag in bag.dags.values()), "its page in Airflow says nothing"


def _imported(path: Path) -> Iterator[str]:
    """The packages that a file imports, in its functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_the_dags_need_nothing_that_airflow_lacks() -> None:
    """Fails when a DAG imports the library, Spark or the emulator, which Airflow's environment lacks."""
    names = {name for path in (ROOT / "dags").rglob("*.py") for name in _imported(path)} - {"fraud_detection_common"}
    program = f"""
from importlib.util import find_spec
print([name for name in {sorted(names)} if find_spec(name) is None])
"""
    found = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_schedule_and_the_limits_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when changing the schedule or the time limit of training needs an edit of the DAG."""
    monkeypatch.setenv("AIRFLOW__FRAUD_DETECTION__SCHEDULE", "*/10 * * * *")
    monkeypatch.setenv("AIRFLOW__FRAUD_DETECTION__TRAIN_MINUTES", "7.5")
    module = load("fraud_detection_training")
    assert module.schedule.cron == "*/10 * * * *"
    timetable = module.dag.timetable
    assert (getattr(timetable, "expression", None) or timetable._expression) == "*/10 * * * *"
    assert module.dag.get_task("train").execution_timeout == timedelta(minutes=7.5)


def _as_the_scheduler_reads(dag: Any) -> Any:
    """The DAG, read back from the form in which Airflow stores it for the scheduler."""
    from airflow.serialization import serialized_objects

    form = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG  # Airflow 3, and 2
    return form.from_dict(form.to_dict(dag))


def test_a_run_never_overlaps_another(dag: Any) -> None:
    """Fails when the scheduler starts a run beside another, and both are compared with the same champion."""
    assert _as_the_scheduler_reads(dag).max_active_runs == 1


def test_only_the_newest_hour_runs_after_an_outage(dag: Any) -> None:
    """Fails when an outage is followed by a queue of outdated runs, each of which costs a cluster."""
    from airflow.timetables.base import DataInterval, TimeRestriction
    from pendulum import instance

    stored, now = _as_the_scheduler_reads(dag), datetime.now(UTC)
    last = instance(now.replace(minute=0, second=0, microsecond=0) - timedelta(days=30))
    due = stored.timetable.next_dagrun_info(
        last_automated_data_interval=DataInterval(last, last),
        restriction=TimeRestriction(instance(dag.start_date), None, stored.catchup),
    )
    assert due.run_after > now - timedelta(hours=2)


def test_every_task_has_a_limit_and_retries(dag: Any) -> None:
    """Fails when one hanging call stops the schedule for good, or a task's failure is not reported."""
    for task in dag.tasks:
        assert task.execution_timeout is not None, task.task_id
        assert 1 <= task.retries <= 3
        assert task.retry_delay >= timedelta(minutes=1)
        assert task.on_failure_callback, "the failure is not reported"


def test_the_deletion_runs_in_any_case_and_hides_nothing(training: Any) -> None:
    """Fails when a failed task skips the cluster's deletion, or the deletion turns a failed run green."""
    delete = training.get_task("delete_cluster")
    assert training.dagrun_timeout is None, "it would skip the deletion"
    assert delete.is_teardown
    assert delete.on_failure_fail_dagrun
    assert not any(task.is_setup for task in training.tasks)
    assert delete.upstream_task_ids == {"create_cluster", "train"}
    assert delete.downstream_task_ids == set()
    assert training.get_task("outcome").downstream_task_ids == set()


def test_a_cluster_lives_at_least_as_long_as_its_run_can(training: Any) -> None:
    """Fails when the reaper, or the hosts' own shutdown, takes a cluster from a run that is still within its limits."""
    needed = timedelta(0)
    for task_id in ("create_cluster", "train"):
        task = training.get_task(task_id)
        needed += (task.retries + 1) * task.execution_timeout + task.retries * task.retry_delay
    lifetime = training.get_task("create_cluster").labels["lifetime-minutes"]
    assert timedelta(minutes=int(lifetime)) >= needed
    assert example_variables()["shutdown_minutes"] > int(lifetime), "the hosts would go off under a run"


class Recorder(dict[str, Any]):
    """Settings that note which of them are read."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


def test_every_setting_that_the_dags_read_is_in_the_example_and_described() -> None:
    """Fails when a setting is missing from the example or the documentation, or one of the example has no effect."""
    settings = Recorder(example_variables())
    without_os_login = Recorder({**example_variables(), "os_login": False})
    for name in NAMES:
        for task in load(name).dag.tasks:
            for variables in (settings, without_os_login):
                _rendered(task.dag, task.task_id, variables)
    read = settings.read | without_os_login.read
    assert read == set(example_variables())
    described = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "orchestration.md").read_text(), re.M))
    assert read <= described, f"docs/orchestration.md does not describe {sorted(read - described)}"


def test_defaults_are_those_of_the_example(training: Any) -> None:
    """Fails when leaving out an optional setting gives another value than the example shows."""
    needed = {name: example_variables()[name] for name in example_variables() if _is_required(name)}
    for task_id in ("create_cluster", "train", "delete_cluster"):
        assert _rendered(training, task_id, needed) == _rendered(training, task_id, needed | _optional())


@pytest.fixture
def rendered(training: Any) -> Iterator[dict[str, dict[str, Any]]]:
    yield {task.task_id: _rendered(training, task.task_id, example_variables()) for task in training.tasks}


def test_the_job_gets_the_data_and_the_hour_of_its_run(rendered: dict[str, dict[str, Any]]) -> None:
    """Fails when a job reads or writes another folder than the settings say, or decides another hour than its run."""
    settings, train = example_variables(), rendered["train"]
    *words, retain, score, last = train["args"]
    assert retain == "--retain", "nothing bounds what runs leave"
    assert score == "--score", "the champion is at no work"
    assert last == "--debug", "a defect on a cluster leaves its stack trace in the log"
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options == {
        "--config": "retraining.yaml",
        "--input": settings["input_uri"],
        "--output": settings["output_uri"],
        "--store": f"s3a://{settings['bucket']}/store",
        "--tracking-uri": settings["tracking_uri"],
        "--as-of": "2026-05-24T10:00:00+00:00",
        "--run-name": train["name"],
        "--engine": "spark",
    }
    assert "{{" not in json.dumps(rendered, default=str), "a template was not rendered"


@pytest.mark.parametrize(("value", "said"), [(False, "--no-retain"), ("false", "--no-retain"), (True, "--retain")])
def test_the_removal_of_old_results_can_be_switched_off(training: Any, value: object, said: str) -> None:
    """Fails when results are removed although the installation keeps all of them, or are kept for good by mistake."""
    assert _rendered(training, "train", example_variables() | {"retain": value})["args"][-3] == said


@pytest.mark.parametrize(("value", "said"), [(False, "--no-score"), ("false", "--no-score"), (True, "--score")])
def test_scoring_can_be_switched_off(training: Any, value: object, said: str) -> None:
    """Fails when an installation that scores elsewhere scores in its jobs, or one that does not has no scores."""
    assert _rendered(training, "train", example_variables() | {"score": value})["args"][-2] == said


def test_a_job_mixes_no_two_revisions(rendered: dict[str, dict[str, Any]]) -> None:
    """Fails when a job takes its library or settings from another revision than the first task of its run found."""
    folder, train = _xcom(task_ids="check_schedule")["code"], rendered["train"]
    assert train["main_python_file_uri"] == f"{folder}/fraud_detection_model.py"
    assert train["python_file_uris"] == [f"{folder}/fraud_detection.zip"]
    assert train["file_uris"] == [f"{folder}/retraining.yaml"]
    assert train["archive_uris"] == [f"{_xcom(task_ids='check_schedule')['venv']}#venv"]


def test_the_job_is_where_it_is_uploaded(rendered: dict[str, dict[str, Any]]) -> None:
    """Fails when a cluster starts and its main file, library, settings or shutdown is not where the DAG looks."""
    text = json.dumps(rendered, default=str)
    read = set(re.findall(r"s3a://my-fraud-detection/code/4f1c/([\w.]+)", text))  # the folder of the revision
    assert read == {name for name, _ in bucket.code_files()}
    assert f"s3a://my-fraud-detection/code/{bucket.SHUTDOWN}" in text


def test_names_fit_the_rules_of_the_cloud(rendered: dict[str, dict[str, Any]]) -> None:
    """Fails when the cloud refuses the name or a label of a run's cluster, and the run fails."""
    for name in (rendered["create_cluster"]["cluster_name"], rendered["train"]["name"]):
        assert re.fullmatch(r"[a-z][-a-z0-9]{1,61}[a-z0-9]", name)
    for key, value in rendered["create_cluster"]["labels"].items():
        assert re.fullmatch(r"[a-z][-_0-9a-z]{0,62}", key)
        assert re.fullmatch(r"[-_0-9a-z]{0,63}", value)


def test_a_run_is_named_alike_on_every_try_and_unlike_any_other() -> None:
    """Fails when two runs of the same second share a label, and one deletes the other's cluster."""
    naming = load("fraud_detection_common.naming")
    labels = {naming.run_label(_dag_run(run_id=name)) for name in ("manual__1", "manual__2", "scheduled__1")}
    assert len(labels) == 3
    assert naming.run_label(_dag_run()) == naming.run_label(_dag_run())


def test_a_run_by_hand_and_a_run_of_airflow_2_have_a_moment() -> None:
    """Fails when a manual run on Airflow 3, or any run on Airflow 2, has no as-of time."""
    naming = load("fraud_detection_common.naming")
    old = SimpleNamespace(dag_id="d", run_id="r", data_interval_end=datetime(2026, 5, 24, 10, 30, tzinfo=UTC))
    assert naming.as_of(old) == naming.as_of(_dag_run()) == "2026-05-24T10:00:00+00:00"


def _dag_run(run_id: str = "manual__1") -> SimpleNamespace:
    moment = datetime(2026, 5, 24, 10, 30, tzinfo=UTC)
    return SimpleNamespace(dag_id="fraud_detection_training", run_id=run_id, run_after=moment, logical_date=None)


def _is_required(name: str) -> bool:
    return f'setting("{name}")' in (ROOT / "dags" / "fraud_detection_training.py").read_text()


def _optional() -> dict[str, Any]:
    """Settings that the example leaves at their defaults."""
    own = {"security_group_id", "mlflow_secret_id"}
    return {name: value for name, value in example_variables().items() if name not in own}


def _xcom(*_: object, task_ids: object = None, **__: object) -> Any:
    code = "s3a://my-fraud-detection/code"
    return {"code": f"{code}/4f1c", "venv": f"{code}/venvs/9b1c.tar.gz"} if task_ids == "check_schedule" else "found"


def _rendered(dag: Any, task_id: str, variables: dict[str, Any]) -> dict[str, Any]:
    """A task's templated fields, rendered without a run."""
    from copy import copy

    task = copy(dag.get_task(task_id))
    context = {
        "var": SimpleNamespace(json=SimpleNamespace(fraud_detection=variables)),
        "dag_run": _dag_run(),
        "dag": dag,
        "ti": SimpleNamespace(try_number=2, xcom_pull=_xcom),
        "params": {"force": False},
    }
    environment = dag.get_template_env()
    fields = [name for name in task.template_fields if name not in ("op_args", "op_kwargs", "templates_dict")]
    if task_id in ("check_schedule", "outcome"):
        return {"op_args": _render(task, [a for a in task.op_args if not hasattr(a, "operator")], context, environment)}
    callbacks = task.on_failure_callback if isinstance(task.on_failure_callback, list) else [task.on_failure_callback]
    webhooks = [_render(task, callback.connection_id, context, environment) for callback in callbacks]
    return {"webhooks": webhooks} | {
        name: _render(task, getattr(task, name), context, environment)
        for name in fields
        if not hasattr(getattr(task, name), "operator")
    }


def _render(task: Any, value: Any, context: dict[str, Any], environment: Any) -> Any:
    return task.render_template(value, context, environment)
