"""What Managed Airflow does beyond keeping a cluster's fields: its address, and the role that its account must have."""

from collections.abc import Iterator
from typing import Any

from emulator.access import Need
from emulator.resources import Behaviour


class AirflowClusters(Behaviour):
    """ClusterService of Managed Airflow. No Airflow runs here."""

    def needs(self, method: str, request: Any) -> Iterator[Need]:
        """The service works in the folder as the cluster's account."""
        if method == "Create":
            permission = "managed-airflow.integrations.provide"
            yield Need(permission, "folder", request.folder_id, request.service_account_id)

    def created(self, _request: Any, resource: Any) -> None:
        resource.webserver_url = f"https://c-{resource.id}.airflow.yandexcloud.net"
