"""Create a Data Proc cluster, run a PySpark job on it and delete it, with nothing but Yandex Cloud's SDK.

    python examples/sdk_run.py [STATE]      the emulator's state folder; default data/cloud

For the real cloud leave out `endpoint` and `root_certificates`, and use ids and a key of your own.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yandexcloud
from yandex.cloud.dataproc.v1.job_service_pb2 import ListJobLogRequest
from yandex.cloud.dataproc.v1.job_service_pb2_grpc import JobServiceStub

BUCKET = "s3a://example"
ZONE = "ru-central1-b"


def main(state: Path) -> None:
    cloud = json.loads((state / "cloud.json").read_text())
    sdk = yandexcloud.SDK(
        endpoint=cloud["endpoint"],
        root_certificates=Path(cloud["ca"]).read_bytes(),
        service_account_key=json.loads(Path(cloud["service_accounts"]["airflow"]["key"]).read_text()),
    )
    dataproc: Any = sdk.wrappers.Dataproc(  # type: ignore[no-untyped-call]
        default_folder_id=cloud["folder_id"], default_public_ssh_key=cloud["ssh_public_key"]
    )
    cluster = dataproc.create_cluster(
        cluster_name="sdk-example",
        zone=ZONE,
        subnet_id=cloud["subnets"][ZONE],
        service_account_id=cloud["service_accounts"]["dataproc"]["id"],
        s3_bucket="example",
        services=["YARN", "SPARK"],
        datanode_count=0,
        computenode_count=1,
    ).response
    print(f"cluster {cluster.id} is running")
    try:
        job = dataproc.create_pyspark_job(
            name="word-count",
            main_python_file_uri=f"{BUCKET}/word_count.py",
            args=[f"{BUCKET}/word_count.py", f"{BUCKET}/counts"],
        ).response
        log = sdk.client(JobServiceStub).ListLog(ListJobLogRequest(cluster_id=cluster.id, job_id=job.id))
        written = [line for line in log.content.splitlines() if " INFO " not in line]
        print(f"job {job.id} is done; its driver wrote:", *written[-3:], sep="\n")
    finally:
        dataproc.delete_cluster()
        print(f"cluster {cluster.id} is deleted")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/cloud"))
