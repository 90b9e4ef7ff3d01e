"""
### Delete clusters that outlived their run

`fraud_detection_training` deletes its cluster itself, even if the DAG is paused after its job began. It cannot if
Airflow is lost, or if the DAG is paused before its job begins. Three times an hour, this DAG finds the project's
clusters by their label and deletes those that

- are older than their label `lifetime-minutes` allows: no try of any task of their run can still be running;
- have had no job for longer than their label `idle-minutes` allows: their run was paused, deleted or lost.

It keeps clusters within these limits and those with another project's label. Clusters are deleted side by side, so one
that cannot be deleted delays no other; the task then fails with a list.

Leave it on when you pause the training. It is safe to run it again, or twice at once. See `docs/orchestration.md`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, conf
from fraud_detection_common.naming import PROJECT
from fraud_detection_common.notifications import WebhookNotifier
from fraud_detection_common.operators import DeleteExpiredClusters

SCHEDULE = conf.get("fraud_detection", "reaper_schedule", fallback="*/20 * * * *")
UNLABELLED_LIFETIME = timedelta(hours=6)  # of a cluster whose label was removed

with DAG(
    "fraud_detection_cluster_reaper",
    doc_md=__doc__,
    description="Delete Data Proc clusters that outlived their run",
    schedule=SCHEDULE,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["fraud-detection"],
) as dag:
    DeleteExpiredClusters(
        task_id="delete_outlived_clusters",
        execution_timeout=timedelta(minutes=30),
        retries=2,
        retry_delay=timedelta(minutes=2),
        connection_id="{{ var.json.fraud_detection.get('connection', 'yandexcloud_default') }}",
        folder_id="{{ var.json.fraud_detection.get('folder_id', '') }}",
        labels={PROJECT: "{{ var.json.fraud_detection.get('project', 'fraud-detection') }}"},
        unlabelled_lifetime=UNLABELLED_LIFETIME,
        on_failure_callback=WebhookNotifier(
            connection_id="{{ var.json.fraud_detection.get('webhook_connection', '') }}",
            text="{{ dag.dag_id }}: {{ exception | default('see its log') }}",
        ),
    )
