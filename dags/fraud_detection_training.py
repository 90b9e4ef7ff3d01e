"""
### Retrain the fraud model, and promote it only if it is significantly better

    check_schedule → create_cluster → train → outcome
                              └────────┴→ delete_cluster

Every hour: check whether a candidate is to be opened or a look is due, create a Data Proc cluster, run the job on it,
delete the cluster, and report what was decided. A run with nothing due is skipped before it costs anything: all of its
tasks are skipped, and the first one's log and XCom say what the next run waits for, with the numbers.

| task | fails or retries |
|---|---|
| `check_schedule` | retries if the bucket cannot be read or MLflow does not answer; no cluster is created |
| `create_cluster` | retries once; takes over a cluster that its first try left behind |
| `train` | retries once, if the job says that this can help; attaches to a job that is running already |
| `outcome` | promoted, refused or no decision: in its XCom (and in the run's note on Airflow 2) |
| `delete_cluster` | always runs, whatever happened before; finds the cluster by the run's label |

The training requests the deletion of the cluster at its end, so that none is left if the DAG is paused meanwhile.
A failed training is a failed run, and its cluster is deleted. To try again, clear the whole run, not a single task.
To run although nothing is due, trigger the DAG with `force`. An hour that is already decided is refused even then.
After its decision the job scores new transactions with the champion, unless the setting `score` is false.
The first job of a day that decides also removes old results, unless the setting `retain` is false.
After `max_failed_runs` runs without a decision scheduled runs are skipped; a run with `force` ends that.

Settings are in the Airflow variable `fraud_detection` (`variables.json`), secrets in the connection and in Lockbox.
Every setting, and what happens when something breaks, is in `docs/orchestration.md`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    Param,
    conf,
    task,
)
from airflow.providers.yandex.hooks.dataproc import DataprocHook
from fraud_detection_common.code import current_code
from fraud_detection_common.gate import forget_attempts, record_attempt, require_few_failures, require_undecided, skip
from fraud_detection_common.mlflow import require_mlflow
from fraud_detection_common.naming import IDLE, LIFETIME, PROJECT, RUN, as_of, minutes_label, run_label
from fraud_detection_common.notifications import WebhookNotifier, send_heartbeat, write_run_note
from fraud_detection_common.operators import CreateCluster, DeleteClusters, Train, is_true
from fraud_detection_common.outputs import RunOutputs, is_repeated, message, summary
from fraud_detection_common.schedule import find_due
from fraud_detection_common.spending import require_budget, settle, spent_by_run


def minutes(option: str, default: float) -> timedelta:
    """A time limit, from the section [fraud_detection] of Airflow's configuration: readable without a database."""
    return timedelta(minutes=conf.getfloat("fraud_detection", option, fallback=default))


@dataclass(frozen=True)
class Schedule:
    """When runs begin, and how long each try of a task may take.

    The operators have no time limit of their own, so each task has one; tries × limits bound the run. There is no
    `dagrun_timeout`: it would skip the remaining tasks, including the deletion of the cluster.
    """

    cron: str
    check: timedelta
    create: timedelta
    train: timedelta
    delete: timedelta
    retry_delay: timedelta

    @property
    def cluster_lifetime(self) -> timedelta:
        """The longest a run needs its cluster: two tries to create, two to train, the pauses, and one to delete."""
        return 2 * self.create + 2 * self.train + 2 * self.retry_delay + self.delete

    @property
    def cluster_idle(self) -> timedelta:
        """The longest a run leaves its cluster without a job: two tries to create, and the pauses between tries."""
        return 2 * self.create + 2 * self.retry_delay


def setting(name: str, default: object = None) -> str:
    """A template for one setting of the variable `fraud_detection`, rendered when the task runs."""
    if default is None:
        return f"{{{{ var.json.fraud_detection.{name} }}}}"
    return f"{{{{ var.json.fraud_detection.get({name!r}, {default!r}) }}}}"


schedule = Schedule(
    cron=conf.get("fraud_detection", "schedule", fallback="0 * * * *"),
    check=minutes("look_minutes", 5),
    create=minutes("create_minutes", 20),
    train=minutes("train_minutes", 60),
    delete=minutes("delete_minutes", 20),
    retry_delay=minutes("retry_delay_minutes", 2),
)
project = setting("project", "fraud-detection")
connection = setting("connection", "yandexcloud_default")
folder_id = setting("folder_id", "")
storage = setting("storage_endpoint", "https://storage.yandexcloud.net")
code, output = "{{ ti.xcom_pull(task_ids='check_schedule')['code'] }}", setting("output_uri")
venv = "{{ ti.xcom_pull(task_ids='check_schedule')['venv'] }}"
webhook = setting("webhook_connection", "")
heartbeat = setting("heartbeat_connection", "")
master_preset, compute_preset = setting("master_preset", "s3-c4-m16"), setting("compute_preset", "s3-c4-m16")
compute_count, preemptible = setting("compute_count", 1), setting("preemptible", False)
host_prices = "{{ var.json.fraud_detection.get('host_prices', {}) | tojson }}"
currency = setting("currency", "")
labels = {PROJECT: project, RUN: "{{ run_label(dag_run) }}"}
# A name can be used again only once its cluster is deleted: a cleared run may find its old cluster still running.
name = f"{project}-{{{{ run_label(dag_run) }}}}-{{{{ ti.try_number }}}}"

with DAG(
    "fraud_detection_training",
    doc_md=__doc__,
    description="Retrain the fraud model on fresh labels, and promote it only if it is significantly better",
    schedule=schedule.cron,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,  # the newest labels include those of all missed hours
    max_active_runs=1,  # two runs at once would compare with the same champion
    params={"force": Param(False, type="boolean", description="Run although nothing is due")},
    user_defined_macros={"as_of": as_of, "is_true": is_true, "run_label": run_label},
    default_args={
        "owner": "fraud-detection",
        "retry_delay": schedule.retry_delay,
        "on_failure_callback": WebhookNotifier(
            connection_id=webhook,
            text="{{ dag.dag_id }}: {{ task.task_id }} of {{ run_id }} failed: "
            "{{ exception | default('see its log') }}",
        ),
    },
    tags=["fraud-detection"],
) as dag:

    @task(
        execution_timeout=schedule.check,
        retries=2,
        on_skipped_callback=WebhookNotifier(
            connection_id=webhook,
            text="{% set found = ti.xcom_pull(task_ids='check_schedule') %}"
            "{% if found.get('announce') %}{{ dag.dag_id }}: {{ found.reason }}{% endif %}",
        ),
    )
    def check_schedule(settings: dict[str, str], **context: Any) -> dict[str, Any]:
        """Skip the run if nothing is due, or too many have failed; fail if MLflow does not answer."""
        hook = DataprocHook(yandex_conn_id=settings["connection"])
        settle(hook, settings["folder_id"], settings["project"])
        outputs = RunOutputs.at(hook, settings["storage"], settings["output"])
        found = find_due(
            outputs.schedule(settings["model_name"]),
            datetime.fromisoformat(settings["as_of"]),
            float(settings["max_hours_without_decision"]),
        )
        print(found.reason)
        answer = asdict(found) | current_code(hook, settings["storage"], settings["code"])
        forced = bool(context["params"]["force"])
        if not found.due and not forced:
            send_heartbeat(settings["heartbeat"])
            skip(context, answer)
        require_undecided(context, answer)
        if not forced:
            require_few_failures(context, answer, int(settings["max_failed_runs"]))
        require_budget(context, answer, settings, preemptible=is_true(settings["preemptible"]))
        if is_true(settings["check_mlflow"]):
            require_mlflow(hook, settings["tracking_uri"], settings["mlflow_secret_id"])
        record_attempt(context, forced=forced)
        return answer

    check = check_schedule(
        {
            "connection": connection,
            "storage": storage,
            "output": output,
            "code": setting("code_uri"),
            "model_name": setting("model_name", "fraud_detection"),
            "max_hours_without_decision": setting("max_hours_without_decision", 24),
            "max_failed_runs": setting("max_failed_runs", 3),
            "check_mlflow": setting("check_mlflow", True),
            "tracking_uri": setting("tracking_uri"),
            "mlflow_secret_id": setting("mlflow_secret_id", ""),
            "heartbeat": heartbeat,
            "as_of": "{{ as_of(dag_run) }}",
            "folder_id": folder_id,
            "project": project,
            "master_preset": master_preset,
            "compute_preset": compute_preset,
            "compute_count": compute_count,
            "preemptible": preemptible,
            "host_prices": host_prices,
            "currency": currency,
            "daily_budget": setting("daily_budget", 0),
        }
    )

    create = CreateCluster(
        task_id="create_cluster",
        execution_timeout=schedule.create,
        retries=1,
        connection_id=connection,
        folder_id=folder_id,
        cluster_name=name,
        cluster_description="Retraining of the fraud model; deleted at the end of its run",
        labels={
            **labels,
            LIFETIME: minutes_label(schedule.cluster_lifetime),
            IDLE: minutes_label(schedule.cluster_idle),
        },
        cluster_image_version=setting("image_version", "2.2"),
        zone=setting("zone"),
        subnet_id=setting("subnet_id"),
        security_group_ids=[setting("security_group_id", "")],
        service_account_id=setting("service_account_id"),
        s3_bucket=setting("bucket"),
        log_group_id=setting("log_group_id", ""),
        oslogin_enabled=setting("os_login", True),
        # A lightweight cluster: the data is in the bucket, so there is no HDFS and there are no data nodes.
        services=("YARN", "SPARK"),
        datanode_count=0,
        masternode_resource_preset=master_preset,
        masternode_disk_type=setting("disk_type", "network-ssd"),
        masternode_disk_size=setting("disk_gib", 64),
        computenode_resource_preset=compute_preset,
        computenode_disk_type=setting("disk_type", "network-ssd"),
        computenode_disk_size=setting("disk_gib", 64),
        computenode_count=compute_count,
        computenode_preemptible=preemptible,
        # The last resort if no Airflow is left to delete anything: the nodes shut themselves down.
        shutdown_script="{{ var.json.fraud_detection.get('shutdown_script', "
        "var.json.fraud_detection.code_uri ~ '/shutdown_host.sh') }}",
        shutdown_minutes=setting("shutdown_minutes", 240),
        host_prices=host_prices,
        currency=currency,
    )

    train = Train(
        task_id="train",
        execution_timeout=schedule.train,
        retries=1,
        connection_id=connection,
        cluster_id=create.output,  # the id that the provider passes on by itself is lost on Airflow 3
        name=name,
        main_python_file_uri=f"{code}/fraud_detection_model.py",
        python_file_uris=[f"{code}/fraud_detection.zip"],
        file_uris=[f"{code}/retraining.yaml"],
        archive_uris=[f"{venv}#venv"],
        args=[
            *("--config", "retraining.yaml"),
            *("--input", setting("input_uri")),
            *("--output", output),
            *(
                "--store",
                f"s3a://{setting('bucket')}/store",
            ),  # the job may delete there, and Airflow not read
            *("--tracking-uri", setting("tracking_uri")),
            *("--as-of", "{{ as_of(dag_run) }}"),
            *("--run-name", name),
            *("--engine", "spark"),
            # Once a day: the cluster is there, and its account may do all that the removal needs.
            "{{ '--retain' if is_true(var.json.fraud_detection.get('retain', true)) else '--no-retain' }}",
            # In the same cluster's life: a second one would cost more than the minutes that scoring adds.
            "{{ '--score' if is_true(var.json.fraud_detection.get('score', true)) else '--no-score' }}",
            "--debug",  # a defect's stack trace belongs into the log: a cluster does not fail twice for nothing
        ],
        properties={
            "spark.submit.deployMode": "cluster",
            "spark.yarn.maxAppAttempts": "1",  # or YARN runs a failed driver again
            "spark.yarn.appMasterEnv.PYTHONPATH": "./venv",
            "spark.executorEnv.PYTHONPATH": "./venv",
            # The id of the Lockbox secret with MLflow's credentials, not the secret.
            "spark.yarn.appMasterEnv.MLFLOW_LOCKBOX_SECRET_ID": setting("mlflow_secret_id", ""),
        },
        more_properties="{{ var.json.fraud_detection.get('spark_properties', {}) | tojson }}",
        storage_endpoint=storage,
        output_uri=output,
    )

    @task(
        execution_timeout=schedule.check,
        retries=2,
        on_success_callback=WebhookNotifier(
            connection_id=webhook,
            text="{% set told = ti.xcom_pull(task_ids='outcome').message %}"
            "{% if told %}{{ dag.dag_id }}: {{ told }}{% endif %}",
        ),
    )
    def outcome(job_name: str, settings: dict[str, str], **context: Any) -> dict[str, Any]:
        """Report what the job decided; fails without a decision, even if Data Proc says DONE."""
        hook = DataprocHook(yandex_conn_id=settings["connection"])
        found = RunOutputs.at(hook, settings["storage"], settings["output"]).outcome(job_name)
        if found is None or found["decision"] is None:
            raise AirflowFailException(f"job {job_name} ended with success but recorded no decision: {found}")
        repeated = is_repeated(found, context["dag_run"])
        line = f"{'decided before this run: ' if repeated else ''}{summary(found)}"
        print(line)
        write_run_note(context, line)
        forget_attempts()
        send_heartbeat(settings["heartbeat"])
        told = message(found, context["dag_run"])
        spent = spent_by_run(run_label(context["dag_run"]), settings["currency"])
        print(f"the run's clusters cost {spent.text} so far")
        if told and spent.currency:
            told = f"{told}; cost so far {spent.text}"
        return {**found, "repeated": repeated, "summary": line, "message": told, "cost_so_far": asdict(spent)}

    report_outcome = outcome(
        train.output,
        {"connection": connection, "storage": storage, "output": output, "heartbeat": heartbeat, "currency": currency},
    )

    # A teardown without setups always runs, even if the creation failed halfway: a failed setup would skip it. Its
    # failure fails the run, since the cluster costs money until the reaper deletes it. The training has already
    # requested the deletion, because this task is not scheduled while the DAG is paused.
    delete = DeleteClusters(
        task_id="delete_cluster",
        execution_timeout=schedule.delete,
        retries=3,
        connection_id=connection,
        folder_id=folder_id,
        labels=labels,
        currency=currency,
        cluster_id=create.output,
    ).as_teardown(on_failure_fail_dagrun=True)

    # The outcome runs beside the deletion, not before it: the last tasks decide the state of a run, and a successful
    # deletion after a failed training would make the run green.
    check >> create >> train >> report_outcome
    [create, train] >> delete
