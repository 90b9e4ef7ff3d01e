"""The cloud's API by its SDK, as one account."""

from collections.abc import Mapping
from typing import Any, Protocol

import yandexcloud


class Sdk(Protocol):
    """What the checks use of the SDK."""

    def client(self, stub: Any, /) -> Any:
        """The service of a gRPC stub."""


def connect(settings: Mapping[str, str], token: str) -> Sdk:
    """The SDK with a token; YC_ENDPOINT, which Terraform's provider reads too, names another cloud."""
    found: Sdk = yandexcloud.SDK(iam_token=token, endpoint=settings.get("YC_ENDPOINT") or None)
    return found
