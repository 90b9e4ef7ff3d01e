"""Create a Data Proc cluster, run a PySpark job on it and delete it, with Airflow's own operators for Yandex Cloud.

The ids come from the variable `cloud`, here the emulator's `cloud.json` (docs/emulator.md).
"""

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.yandex.operators.dataproc import (
    DataprocCreateClusterOperator,
    DataprocCreatePysparkJobOperator,
    DataprocDeleteClusterOperator,
)

BUCKET = "s3a://example"
ZONE = "ru-central1-b"
CLUSTER = "{{ ti.xcom_pull(task_ids='create_cluster', key='cluster_id') }}"


class CreateCluster(DataprocCreateClusterOperator):
    """The operator, with the ids as templates: they are read when the task runs."""

    template_fields = (*DataprocCreateClusterOperator.template_fields, "subnet_id", "service_account_id")


with DAG("pyspark_example", start_date=datetime(2025, 1, 1, tzinfo=UTC), schedule=None) as dag:
    create = CreateCluster(
        task_id="create_cluster",
        cluster_name="airflow-example",
        zone=ZONE,
        subnet_id=f"{{{{ var.json.cloud.subnets['{ZONE}'] }}}}",
        service_account_id="{{ var.json.cloud.service_accounts.dataproc.id }}",
        s3_bucket="example",
        services=["YARN", "SPARK"],
        datanode_count=0,
        computenode_count=1,
    )
    count = DataprocCreatePysparkJobOperator(
        task_id="count_words",
        name="word-count",
        cluster_id=CLUSTER,
        main_python_file_uri=f"{BUCKET}/word_count.py",
        args=[f"{BUCKET}/word_count.py", f"{BUCKET}/counts"],
    )
    delete = DataprocDeleteClusterOperator(task_id="delete_cluster", cluster_id=CLUSTER, trigger_rule="all_done")
    create >> count >> delete
