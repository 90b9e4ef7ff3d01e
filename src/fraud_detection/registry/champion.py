"""A version of the registered model, loaded."""

from dataclasses import dataclass
from datetime import datetime

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.model.model import Model
from fraud_detection.registry.aliases import service
from fraud_detection.registry.artifacts import ModelVersionTags, load_model
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.context import Context
from fraud_detection.schema import CandidateKey, Span, Threshold


@dataclass(frozen=True)
class Champion:
    """The model in service, and what it was trained on."""

    version: int
    run_id: str
    model: Model
    as_of: datetime
    training: Span
    recipe: str | None = None
    """See `recipe.recipe_hash`; a champion of an earlier release has none."""
    refit_of: CandidateKey | None = None
    """The winner whose refit it is; None where it was evaluated itself."""
    threshold: Threshold | None = None
    """From which score on its transactions alert; versions of earlier releases, and overrides, may have none."""
    sha256: str | None = None
    """Of its file, which was checked when it was loaded."""


def load_version(context: Context, version: int, serving: int | None) -> Champion:
    """Load a version from its native file.

    Args:
        context: the registry.
        version: which one.
        serving: the version in service, which the error names as the one to retire.

    Raises:
        FraudDetectionError: its file or its tags are missing or broken.
    """
    connection, name, commands = context.connection, context.name, context.commands
    try:
        return _loaded(connection, name, version)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError as error:
        without_another = "" if serving is None else f"; if there is none: {commands.retire_champion(serving)}"
        raise FraudDetectionError(
            f"version {version} of {name} in MLflow at {connection.shown_uri} cannot be loaded: {error}; restore its"
            f" artifacts, or put another version into service: {commands.rollback()}{without_another}"
        ) from error


def load_champion(tracking_uri: str, name: str) -> Champion:
    """The model in service, for whoever scores with it.

    Its file is XGBoost's own, and is checked against the version's digest. Unlike `mlflow.pyfunc.load_model`, nothing
    that the registry names is imported or run.

    Raises:
        SettingsError: the address is not one of an MLflow service.
        FraudDetectionError: no version is in service, or its file is missing or changed.
        ServiceUnavailableError: MLflow does not answer.
    """
    connection = Connection(tracking_uri, name)
    with connection.translate_errors():
        version = service(connection, name).champion
        if version is None:
            raise FraudDetectionError(
                f"no version of {name} in MLflow at {connection.shown_uri} is in service; expected the alias champion;"
                " next: fraud-detection decisions, which says why"
            )
        return _loaded(connection, name, version)


class ChampionAlias:
    """The alias `champion` of a model, for a process that follows it."""

    def __init__(self, tracking_uri: str, name: str) -> None:
        """Nothing is asked yet.

        Raises:
            SettingsError: the address is not one of an MLflow service.
        """
        self._connection, self._name = Connection(tracking_uri, name), name

    def version(self) -> int | None:
        """The version in service; None where there is none.

        Raises:
            FraudDetectionError: MLflow refuses.
            ServiceUnavailableError: MLflow does not answer.
        """
        with self._connection.translate_errors():
            return service(self._connection, self._name).champion

    def load(self, version: int) -> Champion:
        """A version, its file checked by its digest.

        Raises:
            FraudDetectionError: its file is missing or changed.
            ServiceUnavailableError: MLflow does not answer.
        """
        with self._connection.translate_errors():
            return _loaded(self._connection, self._name, version)


def _loaded(connection: Connection, name: str, version: int) -> Champion:
    found = connection.client.get_model_version(name, str(version))
    tags = ModelVersionTags.from_tags(found.tags)
    model = load_model(connection, name, version, tags.sha256)
    winner = None
    if tags.refit_of is not None and tags.recipe is not None:
        winner = CandidateKey(tags.refit_of, tags.recipe)
    run_id = str(found.run_id)
    trained = tags.as_of, tags.training, tags.recipe, winner
    return Champion(version, run_id, model, *trained, tags.threshold, tags.sha256)
