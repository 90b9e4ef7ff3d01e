"""
### Delete clusters that outlived their run

`fraud_detection_training` deletes its cluster itself, also where it is paused after its job began. It cannot where
Airflow is lost, or where it is paused before its job begins. This DAG looks for the project's clusters by their label,
three times an hour, and deletes those that

- are older than their label `lifetime-minutes` allows: no try of any task of their run can still be going on;
- have had no job for longer than their label `idle-minutes` allows: their run was paused, deleted or lost.

A cluster of a run within its bounds is left alone, and so is one that bears another project's label. One that cannot be
deleted holds up no other: all are deleted side by side, and the task fails at its end with a list.

Leave it on when you pause the training. Running it again or beside itself does no harm. See `docs/orchestration.md`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, conf
from fraud_detection_cloud import PROJECT, DeleteOutlivedClusters, Tell

SCHEDULE = conf.get("fraud_detection", "reaper_schedule", fallback="*/20 * * * *")
UNLABELLED_LIFETIME = timedelta(hours=6)  # of a cluster whose own label was taken away

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
    DeleteOutlivedClusters(
        task_id="delete_outlived_clusters",
        execution_timeout=timedelta(minutes=30),
        retries=2,
        retry_delay=timedelta(minutes=2),
        connection_id="{{ var.json.fraud_detection.get('connection', 'yandexcloud_default') }}",
        folder_id="{{ var.json.fraud_detection.get('folder_id', '') }}",
        labels={PROJECT: "{{ var.json.fraud_detection.get('project', 'fraud-detection') }}"},
        unlabelled_lifetime=UNLABELLED_LIFETIME,
        on_failure_callback=Tell(
            connection_id="{{ var.json.fraud_detection.get('webhook_connection', '') }}",
            text="{{ dag.dag_id }}: {{ exception | default('see its log') }}",
        ),
    )
