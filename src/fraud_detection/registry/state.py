"""What MLflow says is in service: two aliases, and the pin that holds them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.connection import Connection

CHAMPION = "champion"
PREVIOUS_CHAMPION = "previous_champion"
PIN_TAG = "fraud_detection.pin"


class Pin(BaseModel):
    """A person's choice of version; no run promotes another until it is taken away.

    It is set before the aliases move and names both versions, so it is the intent of a rollback, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime
    who: str
    reason: str
    from_version: int
    to_version: int

    @property
    def text(self) -> str:
        return (
            f"version {self.to_version} is pinned by {self.who} since {self.at:%Y-%m-%d %H:%M} UTC ({self.reason});"
            " automatic promotion resumes with: fraud-detection unpin"
        )


@dataclass(frozen=True)
class Service:
    """The registered model at one moment; versions are None where there is no alias."""

    exists: bool
    champion: int | None = None
    previous_champion: int | None = None
    pin: Pin | None = None


def service(connection: Connection, name: str) -> Service:
    """Read aliases and pin together, in one request.

    Raises:
        FraudDetectionError: the pin is not one that this program wrote.
    """
    model = registered_model(connection, name)
    if model is None:
        return Service(exists=False)
    aliases = {alias: int(version) for alias, version in model.aliases.items()}
    pin = model.tags.get(PIN_TAG)
    return Service(True, aliases.get(CHAMPION), aliases.get(PREVIOUS_CHAMPION), None if pin is None else _pin(pin))


def registered_model(connection: Connection, name: str) -> Any | None:  # noqa: ANN401  (MLflow ships no types)
    """MLflow's registered model, or None before the first promotion."""
    from mlflow.exceptions import MlflowException

    try:
        return connection.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def apply_pin(connection: Connection, name: str, pin: Pin) -> None:
    """Put the pinned version into service."""
    connection.client.set_registered_model_alias(name, CHAMPION, str(pin.to_version))
    connection.client.set_registered_model_alias(name, PREVIOUS_CHAMPION, str(pin.from_version))


def _pin(text: str) -> Pin:
    try:
        return Pin.model_validate_json(text)
    except ValidationError as error:
        raise FraudDetectionError(
            f"the registered model's tag {PIN_TAG} is not a pin: {text[:100]!r}; delete the tag in MLflow, then set it"
            " again with: fraud-detection rollback"
        ) from error
