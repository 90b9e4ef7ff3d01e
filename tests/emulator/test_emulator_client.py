"""The API calls of Airflow's operators, through the client class that they use."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from fakes.emulated_cloud import BUCKET, GIB, Api, code, emulated
from google.protobuf.field_mask_pb2 import FieldMask
from yandex.cloud.dataproc.v1 import (
    cluster_pb2,
    cluster_service_pb2,
    job_pb2,
    job_service_pb2,
    subcluster_pb2,
    subcluster_service_pb2,
)
from yandex.cloud.lockbox.v1 import payload_service_pb2, secret_service_pb2
from yandex.cloud.operation.operation_service_pb2 import CancelOperationRequest, GetOperationRequest
from yandexcloud.operations import OperationError


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with emulated(tmp_path_factory.mktemp("cloud") / "state") as found:
        yield found


@pytest.fixture
def cluster(api: Api, request: pytest.FixtureRequest) -> cluster_pb2.Cluster:
    name = request.node.name.replace("_", "-")[:60].rstrip("-").lower()
    return api.create_cluster(name)


def test_a_run_of_the_operators_makes_a_lightweight_cluster_runs_the_job_and_deletes_the_cluster(api: Api) -> None:
    """Fails when a DAG with the real operators cannot create a cluster, run its job and delete the cluster."""
    wrapper = api.wrapper()
    created = wrapper.create_cluster(
        cluster_name="fraud-run-1",
        cluster_image_version="2.2",
        subnet_id=api.cloud["subnets"]["ru-central1-b"],
        zone="ru-central1-b",
        services=("YARN", "SPARK"),
        s3_bucket=BUCKET,
        service_account_id=api.cloud["service_accounts"]["dataproc"]["id"],
        masternode_resource_preset="s2.small",
        masternode_disk_type="network-ssd",
        masternode_disk_size=32,
        datanode_count=0,
        computenode_resource_preset="s2.small",
        computenode_disk_type="network-ssd",
        computenode_disk_size=32,
        computenode_count=1,
        properties={"yarn:yarn.nm.liveness-monitor.expiry-interval-ms": "15000"},
        security_group_ids=[api.cloud["security_group_id"]],
        labels={"run": "scheduled-1"},
        initialization_actions=[],
    ).response
    assert created.status == cluster_pb2.Cluster.RUNNING
    assert list(created.config.hadoop.services) == [cluster_pb2.HadoopConfig.YARN, cluster_pb2.HadoopConfig.SPARK]
    subclusters = api.subclusters.List(subcluster_service_pb2.ListSubclustersRequest(cluster_id=created.id)).subclusters
    # The wrapper leaves the data subcluster out where datanode_count is 0; the operator's own default is 1.
    assert [subcluster.name for subcluster in subclusters] == ["master", "compute"]
    job = wrapper.create_pyspark_job(
        main_python_file_uri=f"s3a://{BUCKET}/main.py",
        python_file_uris=[f"s3a://{BUCKET}/fraud_detection.zip"],
        archive_uris=[f"s3a://{BUCKET}/venv.tar.gz#venv"],
        args=["--input", f"s3a://{BUCKET}/input"],
        properties={"spark.submit.deployMode": "cluster"},
        name="train-1",
    ).response
    assert job.status == job_pb2.Job.DONE
    wrapper.delete_cluster()
    with pytest.raises(grpc.RpcError) as error:
        api.clusters.Get(cluster_service_pb2.GetClusterRequest(cluster_id=created.id))
    assert code(error) is grpc.StatusCode.NOT_FOUND
    [asked] = [one for one in api.emulator.cluster_requests() if one["clusterId"] == created.id]
    assert asked["securityGroupIds"] == [api.cloud["security_group_id"]], "the security group is lost"


def test_a_failed_job_raises_in_the_operator(api: Api, cluster: cluster_pb2.Cluster) -> None:
    """Fails when a failed training is a green task."""
    api.emulator.add_fault("job-exit-code", exit_code=65)
    with pytest.raises(OperationError, match="exit code 65"):
        api.wrapper().create_pyspark_job(main_python_file_uri="s3a://demo/main.py", cluster_id=cluster.id, name="fails")
    jobs = api.jobs.List(job_service_pb2.ListJobsRequest(cluster_id=cluster.id)).jobs
    assert [job_pb2.Job.Status.Name(job.status) for job in jobs] == ["ERROR"]


def test_the_sdk_finds_the_only_subnet_of_a_zone(api: Api) -> None:
    """Fails when a DAG that names no subnet works in the cloud but not in the emulator."""
    created = (
        api.wrapper()
        .create_cluster(
            cluster_name="no-subnet",
            s3_bucket=BUCKET,
            services=("YARN", "SPARK"),
            zone="ru-central1-d",
            service_account_id=api.cloud["service_accounts"]["dataproc"]["id"],
            datanode_count=0,
            computenode_count=1,
        )
        .response
    )
    request = subcluster_service_pb2.ListSubclustersRequest(cluster_id=created.id)
    subclusters = api.subclusters.List(request).subclusters
    assert {subcluster.subnet_id for subcluster in subclusters} == {api.cloud["subnets"]["ru-central1-d"]}
    assert {subcluster.resources.disk_size for subcluster in subclusters} == {128 * GIB}


def test_states_pass_in_the_order_of_the_real_thing(api: Api) -> None:
    """Fails when the emulator skips or adds a state, and a DAG is tested against an order that never happens."""
    cluster = api.create_cluster("states")
    job_id, operation = api.create_job(cluster.id)
    api.done(operation)
    api.delete_cluster(cluster.id)
    statuses = [event["status"] for event in api.emulator.events("cluster", cluster_id=cluster.id)]
    assert statuses == ["CREATING", "RUNNING", "DELETING", "DELETED"]
    statuses = [event["status"] for event in api.emulator.events("job", job_id=job_id)]
    assert statuses == ["PROVISIONING", "PENDING", "RUNNING", "DONE"]


def test_a_name_is_unique_in_its_folder(api: Api, cluster: cluster_pb2.Cluster) -> None:
    """Fails when a retried create makes a second cluster in the emulator but an error in the cloud."""
    with pytest.raises(grpc.RpcError) as error:
        api.clusters.Create(api.cluster_request(cluster.name))
    assert code(error) is grpc.StatusCode.ALREADY_EXISTS
    api.delete_cluster(cluster.id)
    assert api.create_cluster(cluster.name).id != cluster.id


def test_a_cluster_that_is_not_running_takes_no_job(api: Api) -> None:
    """Fails when a DAG that starts its job too early passes its tests."""
    api.emulator.add_fault("create-slow", seconds=2, match="slow")
    api.clusters.Create(api.cluster_request("slow"))
    (found,) = [cluster for cluster in api.emulator.clusters() if cluster["name"] == "slow"]
    with pytest.raises(grpc.RpcError, match="CREATING") as error:
        api.create_job(found["id"])
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION


def test_a_cluster_that_is_being_created_cannot_be_deleted(api: Api) -> None:
    """Fails when a teardown that does not wait passes its tests and leaks a cluster in the cloud."""
    api.emulator.add_fault("create-slow", seconds=0.5, match="young")
    operation = api.clusters.Create(api.cluster_request("young"))
    metadata = cluster_service_pb2.CreateClusterMetadata()
    operation.metadata.Unpack(metadata)
    with pytest.raises(grpc.RpcError, match="still running") as error:
        api.delete_cluster(metadata.cluster_id)
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION
    api.done(operation)
    assert not api.delete_cluster(metadata.cluster_id).HasField("error")


def test_deletion_protection_holds(api: Api) -> None:
    """Fails when code that cannot delete a protected cluster passes its tests."""
    cluster = api.create_cluster("protected", deletion_protection=True)
    with pytest.raises(grpc.RpcError, match="deletion protection") as error:
        api.delete_cluster(cluster.id)
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION
    mask = FieldMask(paths=["deletion_protection"])
    update = cluster_service_pb2.UpdateClusterRequest(cluster_id=cluster.id, update_mask=mask)
    api.done(api.clusters.Update(update))
    api.delete_cluster(cluster.id)


def test_lists_come_in_pages_and_filtered_by_name(api: Api) -> None:
    """Fails when code that reads only the first page of clusters passes its tests and leaks clusters in the cloud."""
    for number in range(3):
        api.create_cluster(f"page-{number}", labels={"search": "me"})
    found, token = [], ""
    while True:
        request = cluster_service_pb2.ListClustersRequest(folder_id=api.folder_id, page_size=2, page_token=token)
        page = api.clusters.List(request)
        assert len(page.clusters) <= 2
        found += [cluster.name for cluster in page.clusters if cluster.labels.get("search") == "me"]
        token = page.next_page_token
        if not token:
            break
    assert found == ["page-0", "page-1", "page-2"]
    for text in ('name="page-1"', "name=page-1"):
        request = cluster_service_pb2.ListClustersRequest(folder_id=api.folder_id, filter=text)
        assert [cluster.name for cluster in api.clusters.List(request).clusters] == ["page-1"]
    with pytest.raises(grpc.RpcError, match="filter"):
        api.clusters.List(cluster_service_pb2.ListClustersRequest(folder_id=api.folder_id, filter="labels.search=me"))


def test_one_idempotency_key_makes_one_cluster(api: Api) -> None:
    """Fails when a create repeated with the same idempotency key makes a second cluster."""
    request, metadata = api.cluster_request("once"), (("idempotency-key", "7f4e"),)
    first = api.clusters.Create(request, metadata=metadata)
    assert api.clusters.Create(request, metadata=metadata).id == first.id
    assert api.names().count("once") == 1


def test_of_many_that_ask_at_once_for_one_name_one_gets_a_cluster(api: Api) -> None:
    """Fails when simultaneous requests create two clusters with one name."""

    def ask(_: int) -> str:
        try:
            api.clusters.Create(api.cluster_request("race"))
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(ask, range(8)))
    assert outcomes == ["ALREADY_EXISTS"] * 7 + ["OK"]


def test_a_cluster_can_be_described_stopped_started_and_looked_into(api: Api, cluster: cluster_pb2.Cluster) -> None:
    """Fails when the client's other methods (update, stop, start, subclusters, hosts) do not work in the emulator."""
    wrapper = api.wrapper()
    assert wrapper.update_cluster_description("for the night", cluster_id=cluster.id).response.description
    wrapper.stop_cluster(cluster_id=cluster.id)
    with pytest.raises(grpc.RpcError) as error:
        api.create_job(cluster.id)
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION
    wrapper.start_cluster(cluster_id=cluster.id)
    subnet = api.cloud["subnets"]["ru-central1-b"]
    added = wrapper.create_subcluster("compute", "more", hosts_count=2, subnet_id=subnet, cluster_id=cluster.id)
    assert added.response.role == subcluster_pb2.COMPUTENODE
    hosts = api.clusters.ListHosts(cluster_service_pb2.ListClusterHostsRequest(cluster_id=cluster.id)).hosts
    assert len(hosts) == 4
    listed = api.clusters.ListOperations(cluster_service_pb2.ListClusterOperationsRequest(cluster_id=cluster.id))
    assert [operation.description.split()[0] for operation in listed.operations] == [
        "Start",
        "Stop",
        "Update",
        "Create",
    ]


def test_a_cancelled_operation_ends_its_job(api: Api, cluster: cluster_pb2.Cluster) -> None:
    """Fails when cancelling an operation leaves its job running."""
    api.emulator.add_fault("job-hangs")
    job_id, operation = api.create_job(cluster.id)
    api.operations.Cancel(CancelOperationRequest(operation_id=operation.id))
    assert api.done(operation).error.code == grpc.StatusCode.CANCELLED.value[0]
    assert api.job_status(cluster.id, job_id) == "CANCELLED"


def test_a_call_that_is_not_emulated_says_so(api: Api) -> None:
    """Fails when a call that is not emulated looks like the caller's mistake."""
    with pytest.raises(grpc.RpcError, match="not emulated") as error:
        api.secrets.Deactivate(secret_service_pb2.DeactivateSecretRequest(secret_id="x"))  # noqa: S106
    assert code(error) is grpc.StatusCode.UNIMPLEMENTED


def test_what_does_not_exist_is_not_found(api: Api) -> None:
    """Fails when a teardown cannot tell that its cluster is already deleted."""
    calls = (
        lambda: api.clusters.Get(cluster_service_pb2.GetClusterRequest(cluster_id="c9qnone")),
        lambda: api.delete_cluster("c9qnone"),
        lambda: api.create_job("c9qnone"),
        lambda: api.job("c9qnone", "c9qnone"),
        lambda: api.operations.Get(GetOperationRequest(operation_id="c9qnone")),
        lambda: api.payloads.Get(payload_service_pb2.GetPayloadRequest(secret_id="e6qnone")),  # noqa: S106
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as error:
            call()
        assert code(error) is grpc.StatusCode.NOT_FOUND


def test_a_secret_is_found_by_id_and_by_name_in_its_newest_version(api: Api) -> None:
    """Fails when a job or Airflow reads no secret, or an outdated one, from the emulated Lockbox."""
    change = secret_service_pb2.PayloadEntryChange
    entries = [change(key="password", text_value="one"), change(key="user", text_value="mlflow")]
    operation = api.secrets.Create(
        secret_service_pb2.CreateSecretRequest(
            folder_id=api.folder_id, name="airflow/connections/mlflow", version_payload_entries=entries
        )
    )
    metadata = secret_service_pb2.CreateSecretMetadata()
    assert operation.done
    assert operation.metadata.Unpack(metadata)
    changed = [change(key="password", text_value="two")]
    api.secrets.AddVersion(secret_service_pb2.AddVersionRequest(secret_id=metadata.secret_id, payload_entries=changed))
    payload = api.payloads.Get(payload_service_pb2.GetPayloadRequest(secret_id=metadata.secret_id))
    assert {entry.key: entry.text_value for entry in payload.entries} == {"password": "two", "user": "mlflow"}
    by_name = payload_service_pb2.GetExRequest(
        folder_and_name=payload_service_pb2.FolderAndName(
            folder_id=api.folder_id,
            secret_name="airflow/connections/mlflow",  # noqa: S106
        )
    )
    assert dict(api.payloads.GetEx(by_name).entries)["password"] == b"two"
    old = payload_service_pb2.GetPayloadRequest(secret_id=metadata.secret_id, version_id=metadata.version_id)
    assert "one" in {entry.text_value for entry in api.payloads.Get(old).entries}
    listed = api.secrets.List(secret_service_pb2.ListSecretsRequest(folder_id=api.folder_id)).secrets
    (secret,) = [secret for secret in listed if secret.id == metadata.secret_id]
    assert secret.current_version.id == payload.version_id


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_silent_proxy_is_not_asked_for_the_emulator(api: Api, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Fails when `make up` and `make status` hang at a proxy that cannot reach this machine."""
    for exempt in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(exempt, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert api.emulator.health()
