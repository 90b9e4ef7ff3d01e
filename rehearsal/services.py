"""What runs on this machine in place of the cloud's machines and managed services, until the rehearsal ends."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yandex.cloud.compute.v1.instance_pb2 import Instance
from yandex.cloud.compute.v1.instance_service_pb2 import FULL, GetInstanceRequest, ListInstancesRequest
from yandex.cloud.compute.v1.instance_service_pb2_grpc import InstanceServiceStub

from local_stack import airflow as local_airflow
from local_stack import passwords
from local_stack.settings import PORTS, Stack
from rehearsal import airflow, database, machine
from rehearsal.account import Account, administrator, http_json
from rehearsal.cloud import RehearsalError, RehearsedCloud
from rehearsal.folders import stack_in
from rehearsal.processes import free_port

_EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"


@dataclass
class Services:
    """Settings of the servers that have been started, and their end."""

    stack: Stack
    cloud: RehearsedCloud
    running: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def passwords(self) -> dict[str, str]:
        return passwords.passwords(self.stack.passwords)

    def start_database(self, cluster_id: str) -> str:
        """PostgreSQL with what the API says of the cluster; returns that in words."""
        self.running.enter_context(database.database_server(self.stack, self.passwords))
        return database.make_cluster(administrator(self.cloud), cluster_id, self.stack, self.passwords)

    def start_mlflow(self, outputs: Mapping[str, Any]) -> str:
        """The machine that answers to MLflow's name, from its cloud-init and with its account; returns who logs in."""
        found = _machine(administrator(self.cloud), str(urlsplit(outputs["mlflow_url"]).hostname))
        described = self.cloud.emulator.cloud
        own = f"http://{self.cloud.emulator.metadata(found.service_account_id)}"
        port = self.stack.ports["POSTGRES_PORT"]
        addresses = {
            "port": self.stack.ports["MLFLOW_PORT"],
            "postgres_host": "localhost",
            "postgres_port": self.running.enter_context(database.encrypted(self.cloud.emulator.state, port)),
            "ca_file": described["ca"],
            "storage_endpoint": described["storage"],
            "metadata_endpoint": own,
            "lockbox_endpoint": own,
        }
        boot = machine.boot_of(found.metadata["user-data"])
        mlflow = machine.machine_in(self.stack.folder / "mlflow", boot, addresses)
        self.running.enter_context(machine.started(mlflow))
        machine.make_accounts(mlflow)
        return self._logged_in(outputs)

    def start_airflow(self, outputs: Mapping[str, Any]) -> str:
        """Airflow with the cluster's account; returns its address."""
        extra = airflow.settings(self.cloud, self.stack, outputs["service_account_ids"]["airflow"])
        self.running.enter_context(airflow.airflow_server(self.stack, self.passwords, extra))
        return self.stack.airflow_url

    def load_dags(self, outputs: Mapping[str, Any]) -> str:
        """The DAGs of the bucket, in Airflow; returns them in words."""
        account = Account(self.cloud, outputs["service_account_ids"]["airflow"])
        files = airflow.sync_dags(account, outputs["bucket_names"]["code"], self.stack.folder / airflow.DAGS)
        api = local_airflow.connect(self.stack, self.passwords)
        return f"{files} files, {airflow.wait_for_dags(api, self.stack.logs / 'dag-processor.log')}"

    def errors_of_tasks(self) -> str:
        """What Airflow's tasks have logged as errors; Airflow itself is gone when the rehearsal has failed."""
        return "\n".join(airflow.errors_of_tasks(self.stack)) or "none"

    def champion(self, outputs: Mapping[str, Any]) -> str:
        """The version in service in MLflow."""
        password = administrator(self.cloud).payload(outputs["mlflow_admin_secret_id"])["password"]
        query = f"registered-models/alias?name={outputs['variables']['fraud_detection']['model_name']}&alias=champion"
        found = http_json(f"{self.stack.mlflow_url}/api/2.0/mlflow/{query}", "admin", password)
        return f"version {found['model_version']['version']} of {found['model_version']['name']} is the champion"

    def _logged_in(self, outputs: Mapping[str, Any]) -> str:
        """Log in as the administrator, and as the job with what the job's own account reads in Lockbox."""
        admin = administrator(self.cloud).payload(outputs["mlflow_admin_secret_id"])["password"]
        job = Account(self.cloud, outputs["service_account_ids"]["dataproc"]).payload(outputs["mlflow_job_secret_id"])
        for user, password in (("admin", admin), (job["username"], job["password"])):
            http_json(f"{self.stack.mlflow_url}{_EXPERIMENTS}", user, password)
        return f"admin and {job['username']} log in with their passwords of Lockbox"


def services_in(folder: Path, cloud: RehearsedCloud, airflow_password: str) -> Services:
    """Nothing started yet; the folder is one that PostgreSQL's account can enter."""
    folder.mkdir(mode=0o700)
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    stack = stack_in(folder, {name: free_port() for name in PORTS})
    for part in (stack.run, stack.logs, stack.airflow_home):
        part.mkdir(mode=0o700)
    airflow.keep_password(stack, airflow_password)
    return Services(stack, cloud)


def _machine(account: Account, host: str) -> Instance:
    """The machine of that name, with its metadata."""
    folder = account.cloud.emulator.cloud["folder_id"]
    listed = account.call(InstanceServiceStub, "List", ListInstancesRequest(folder_id=folder)).instances
    for found in listed:
        if found.fqdn == host:
            request = GetInstanceRequest(instance_id=found.id, view=FULL)
            answer: Instance = account.call(InstanceServiceStub, "Get", request)
            return answer
    names = ", ".join(found.fqdn for found in listed)
    raise RehearsalError(f"no machine has the name of mlflow_url; found: {names}; expected: {host}")
