"""What is in service according to MLflow: two aliases, and the tag of the last rollback or retirement."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError

from fraud_detection.commands import Commands
from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.connection import Connection
from fraud_detection.schema import Stored
from fraud_detection.shapes import one_line

CHAMPION = "champion"
PREVIOUS_CHAMPION = "previous_champion"
PIN_TAG = "fraud_detection.pin"
"""Holds a pin or a retirement, whichever came last."""


_OneLine = Annotated[str, AfterValidator(one_line)]
"""Text that is shown in messages and in decisions; earlier releases stored it as it was typed."""


class _Change(Stored):
    """A user's decision about the model in service. The tag is set before an alias moves, so it is the intent."""

    at: datetime
    who: _OneLine
    reason: _OneLine


class Pin(_Change):
    """A user's choice of version; nothing else is promoted until it is removed."""

    from_version: int | None  # None: no champion was in service
    to_version: int

    @property
    def rolls_back(self) -> bool:
        """Whether it put another version into service; otherwise it keeps the one that was."""
        return self.from_version != self.to_version

    @property
    def text(self) -> str:
        return f"version {self.to_version} is pinned by {self.who} since {self.at:%Y-%m-%d %H:%M} UTC ({self.reason})"


class Retirement(_Change):
    """A champion taken out of service without another; the next promotion is that of a first champion."""

    version: int

    @property
    def text(self) -> str:
        return f"version {self.version} was retired by {self.who} on {self.at:%Y-%m-%d %H:%M} UTC ({self.reason})"


@dataclass(frozen=True)
class Service:
    """The registered model at one time. An alias is None if it is not set, or if its version is missing."""

    exists: bool
    versions: tuple[int, ...] = ()
    champion: int | None = None
    previous_champion: int | None = None
    missing_champion: int | None = None
    """The version that the alias `champion` names, if it does not exist."""
    pin: Pin | None = None
    retirement: Retirement | None = None
    unreadable_tag: str | None = None
    """The tag's text, if it is neither a pin nor a retirement."""

    def require_readable_tag(self, commands: Commands) -> None:
        """Stop if it is unknown whether a version is pinned.

        Raises:
            FraudDetectionError: the tag is not one that this program wrote.
        """
        if self.unreadable_tag is not None:
            raise FraudDetectionError(
                f"the registered model's tag {PIN_TAG} is not a pin: {self.unreadable_tag[:100]!r}; remove it:"
                f" {commands.unpin}, or pin a version: {commands.rollback()}"
            )


def service(connection: Connection, name: str) -> Service:
    """Read versions, aliases and the tag."""
    model = registered_model(connection, name)
    if model is None:
        return Service(exists=False)
    versions = registered_versions(connection, name)
    aliases = {alias: int(version) for alias, version in model.aliases.items()}
    existing = {alias: version for alias, version in aliases.items() if version in versions}
    change = _change(model.tags.get(PIN_TAG))
    return Service(
        exists=True,
        versions=versions,
        champion=existing.get(CHAMPION),
        previous_champion=existing.get(PREVIOUS_CHAMPION),
        missing_champion=None if CHAMPION in existing else aliases.get(CHAMPION),
        pin=change if isinstance(change, Pin) else None,
        retirement=change if isinstance(change, Retirement) else None,
        unreadable_tag=change if isinstance(change, str) else None,
    )


def registered_model(connection: Connection, name: str) -> Any | None:  # noqa: ANN401  (MLflow ships no types)
    """MLflow's registered model, or None before the first promotion."""
    from mlflow.exceptions import MlflowException

    try:
        return connection.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def registered_versions(connection: Connection, name: str) -> tuple[int, ...]:
    """The versions that exist, in ascending order."""
    return tuple(sorted(int(found.version) for found in connection.client.search_model_versions(f"name = '{name}'")))


def set_change(connection: Connection, name: str, change: Pin | Retirement) -> None:
    """Write the tag, in place of an earlier one."""
    connection.client.set_registered_model_tag(name, PIN_TAG, change.model_dump_json())


def delete_change(connection: Connection, name: str) -> None:
    """Remove the tag."""
    connection.client.delete_registered_model_tag(name, PIN_TAG)


def apply_pin(connection: Connection, name: str, pin: Pin, commands: Commands) -> None:
    """Put the pinned version into service.

    Raises:
        FraudDetectionError: it does not exist.
    """
    now = service(connection, name)
    if pin.to_version not in now.versions:
        raise FraudDetectionError(
            f"version {pin.to_version} of {name} is pinned by {pin.who} and does not exist; existing versions:"
            f" {listed(now.versions)}; pin another: {commands.rollback()}, or remove the pin: {commands.unpin}"
        )
    connection.client.set_registered_model_alias(name, CHAMPION, str(pin.to_version))
    if not pin.rolls_back:
        return
    if pin.from_version in now.versions:
        connection.client.set_registered_model_alias(name, PREVIOUS_CHAMPION, str(pin.from_version))
    elif now.previous_champion in (None, pin.to_version):
        connection.client.delete_registered_model_alias(name, PREVIOUS_CHAMPION)  # else it would name a missing version


def apply_retirement(connection: Connection, name: str, retirement: Retirement) -> None:
    """Take the retired version out of service, and keep it as the previous champion."""
    now = service(connection, name)
    if now.champion in (None, retirement.version):
        connection.client.delete_registered_model_alias(name, CHAMPION)
        if retirement.version in now.versions:
            connection.client.set_registered_model_alias(name, PREVIOUS_CHAMPION, str(retirement.version))


def listed(versions: tuple[int, ...]) -> str:
    """Versions in human-readable form."""
    return ", ".join(map(str, versions)) or "none"


def _change(text: str | None) -> Pin | Retirement | str | None:
    """What the tag contains; its text if it is neither."""
    if text is None:
        return None
    for kind in (Pin, Retirement):
        try:
            return kind.model_validate_json(text)
        except ValidationError:
            continue
    return text
