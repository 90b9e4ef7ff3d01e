"""What Compute does beyond keeping its fields: a machine's disk, addresses and name, and images by family."""

from collections.abc import Mapping
from typing import Any

from yandex.cloud.compute.v1 import disk_pb2, image_pb2, image_service_pb2, instance_pb2, instance_service_pb2

from emulator.carry import carry
from emulator.cloud import Cloud
from emulator.errors import not_found
from emulator.gateway import Method
from emulator.iam import Caller
from emulator.ids import new_id
from emulator.resources import Behaviour

IMAGE_FOLDER = "standard-images"
_MACHINE = "epd"


class Instances(Behaviour):
    """InstanceService: a machine runs nothing here, but it has what a caller asks about."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def methods(self) -> Mapping[str, Method]:
        return {"Get": self._get}

    def created(self, request: Any, resource: Any) -> None:
        resource.boot_disk.disk_id = request.boot_disk_spec.disk_id or self._new_disk(request)
        region = request.zone_id.rpartition("-")[0]
        resource.fqdn = f"{request.hostname}.{region}.internal" if request.hostname else f"{resource.id}.auto.internal"
        resource.scheduling_policy.SetInParent()
        resource.placement_policy.SetInParent()
        for number, interface in enumerate(resource.network_interfaces):
            interface.index = interface.index or str(number)
            interface.mac_address = f"d0:0d:00:00:{len(resource.id):02x}:{number:02x}"
            address = interface.primary_v4_address
            address.address = address.address or _address(resource.id)
            if address.HasField("one_to_one_nat"):
                address.one_to_one_nat.address = address.one_to_one_nat.address or _public_address(resource.id)

    def deleted(self, resource: Any) -> None:
        if resource.boot_disk.auto_delete:
            self._cloud.store.delete("disk", resource.boot_disk.disk_id)

    def _get(self, request: instance_service_pb2.GetInstanceRequest, _caller: Caller) -> instance_pb2.Instance:
        """A machine; its metadata only in the full view."""
        instance = self._cloud.store.require("instance", request.instance_id).message(instance_pb2.Instance)
        if request.view != instance_service_pb2.FULL:
            instance.ClearField("metadata")
        return instance

    def _new_disk(self, request: instance_service_pb2.CreateInstanceRequest) -> str:
        disk = disk_pb2.Disk(
            id=new_id(_MACHINE), folder_id=request.folder_id, zone_id=request.zone_id, status=disk_pb2.Disk.READY
        )
        carry(request.boot_disk_spec.disk_spec, disk)
        disk.source_image_id = request.boot_disk_spec.disk_spec.image_id
        disk.created_at.GetCurrentTime()
        self._cloud.store.put("disk", disk.id, disk, owner=disk.folder_id, name=disk.name)
        return disk.id


class Images(Behaviour):
    """ImageService: the newest image of a family; the settings name the families."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def methods(self) -> Mapping[str, Method]:
        return {"GetLatestByFamily": self._latest}

    def _latest(self, request: image_service_pb2.GetImageLatestByFamilyRequest, _caller: Caller) -> image_pb2.Image:
        images = [record.message(image_pb2.Image) for record in self._cloud.store.find("image", request.folder_id)]
        found = [image for image in images if image.family == request.family]
        if not found:
            raise not_found("Image of family", request.family)
        return found[-1]


def _address(id_: str) -> str:
    """A private address that stays the same for a machine."""
    return f"10.129.{_byte(id_, 0)}.{_byte(id_, 1)}"


def _public_address(id_: str) -> str:
    """An address of the block that is reserved for documentation."""
    return f"203.0.113.{_byte(id_, 0)}"


def _byte(id_: str, place: int) -> int:
    return 1 + int(id_[-2 - place :][:2], 36) % 253
