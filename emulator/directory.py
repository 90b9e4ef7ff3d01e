"""What exists before any cluster: endpoints, resource presets."""

from collections.abc import Callable

from yandex.cloud.dataproc.v1 import resource_preset_pb2, resource_preset_service_pb2
from yandex.cloud.endpoint import api_endpoint_pb2, api_endpoint_service_pb2

from emulator.errors import not_found
from emulator.iam import Caller
from emulator.paging import page

# Names under which the SDK looks services up. Those not emulated are here too: their calls say so themselves.
ENDPOINT_IDS = (
    "endpoint",
    "iam",
    "operation",
    "dataproc",
    "dataproc-manager",
    "lockbox",
    "lockbox-payload",
    "vpc",
    "compute",
    "resource-manager",
    "storage-api",
    "logging",
    "kms",
    "managed-postgresql",
    "managed-airflow",
    "connection-manager",
)
_SIZES = {"micro": 2, "small": 4, "medium": 8, "large": 12, "xlarge": 16, "2xlarge": 20, "3xlarge": 24}
_GIB_PER_CORE = {"s2": 4, "m2": 8, "b2": 4, "s3": 4, "m3": 8, "c3": 2}


class Endpoints:
    """ApiEndpointService: every service is at this server's own address."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address

    def get(
        self, request: api_endpoint_service_pb2.GetApiEndpointRequest, _caller: Caller
    ) -> api_endpoint_pb2.ApiEndpoint:
        if request.api_endpoint_id not in ENDPOINT_IDS:
            raise not_found("Endpoint", request.api_endpoint_id)
        return api_endpoint_pb2.ApiEndpoint(id=request.api_endpoint_id, address=self._address())

    def list(
        self, _request: api_endpoint_service_pb2.ListApiEndpointsRequest, _caller: Caller
    ) -> api_endpoint_service_pb2.ListApiEndpointsResponse:
        address = self._address()
        endpoints = [api_endpoint_pb2.ApiEndpoint(id=id_, address=address) for id_ in ENDPOINT_IDS]
        return api_endpoint_service_pb2.ListApiEndpointsResponse(endpoints=endpoints)


class ResourcePresets:
    """ResourcePresetService: a table."""

    def __init__(self, zones: tuple[str, ...]) -> None:
        self._presets = {
            f"{family}.{size}": resource_preset_pb2.ResourcePreset(
                id=f"{family}.{size}", zone_ids=zones, cores=cores, memory=cores * gib * 1024**3
            )
            for family, gib in _GIB_PER_CORE.items()
            for size, cores in _SIZES.items()
        }

    def get(
        self, request: resource_preset_service_pb2.GetResourcePresetRequest, _caller: Caller
    ) -> resource_preset_pb2.ResourcePreset:
        preset = self._presets.get(request.resource_preset_id)
        if preset is None:
            raise not_found("Resource preset", request.resource_preset_id)
        return preset

    def list(
        self, request: resource_preset_service_pb2.ListResourcePresetsRequest, _caller: Caller
    ) -> resource_preset_service_pb2.ListResourcePresetsResponse:
        shown, token = page(list(self._presets.values()), request)
        return resource_preset_service_pb2.ListResourcePresetsResponse(resource_presets=shown, next_page_token=token)
