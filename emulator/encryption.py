"""What KMS does beyond keeping a key's fields: its versions."""

from typing import Any

from yandex.cloud.kms.v1.symmetric_key_pb2 import SymmetricKeyVersion

from emulator.ids import new_id
from emulator.resources import Behaviour


class SymmetricKeys(Behaviour):
    """SymmetricKeyService. Nothing is encrypted here: a key is a thing that grants are on."""

    def created(self, _request: Any, resource: Any) -> None:
        version = SymmetricKeyVersion(
            id=new_id("abj"),
            key_id=resource.id,
            status=SymmetricKeyVersion.ACTIVE,
            algorithm=resource.default_algorithm,
            primary=True,
        )
        version.created_at.GetCurrentTime()
        resource.primary_version.CopyFrom(version)
