"""Models as MLflow artifacts: XGBoost's own file with a description, never a pickle."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import ValidationError

from fraud_detection.errors import FraudDetectionError
from fraud_detection.model.model import Model
from fraud_detection.registry.connection import Connection
from fraud_detection.schema import Span, Threshold

if TYPE_CHECKING:
    import pandas as pd

MODEL_FILE = "model.ubj"
_EXAMPLE_ROWS = 5
_THRESHOLD_TAG = "threshold"


@dataclass(frozen=True)
class ModelVersionTags:
    """What is known about a version beside its file. MLflow sets the tags in the request that creates the version."""

    as_of: datetime
    training: Span
    sha256: str
    """Of the model's file."""
    recipe: str | None = None
    """See `recipe.recipe_hash`; versions of earlier releases have none."""
    promoted_by: str | None = None
    """The person who approved or promoted it, with the verb; None where a run promoted it."""
    refit_of: datetime | None = None
    """The label cut-off of the winner whose refit it is, of the same recipe; None where the winner itself serves."""
    threshold: Threshold | None = None
    """From which score on its transactions alert; versions of earlier releases have none."""

    def as_tags(self) -> dict[str, str]:
        refit = {} if self.refit_of is None else {"refit_of": self.refit_of.isoformat()}
        span = {f"training_{name}": str(value) for name, value in self.training.model_dump(mode="json").items()}
        threshold = None if self.threshold is None else self.threshold.model_dump_json()
        optional = {"recipe": self.recipe, "promoted_by": self.promoted_by, _THRESHOLD_TAG: threshold}
        given = {name: value for name, value in optional.items() if value is not None}
        return {"as_of": self.as_of.isoformat(), "sha256": self.sha256} | given | refit | span

    @classmethod
    def from_tags(cls, tags: dict[str, str]) -> Self:
        """Read what `as_tags` wrote.

        Raises:
            FraudDetectionError: tags are missing or changed; another program may have registered the version.
        """
        try:
            training = Span.model_validate({name: tags[f"training_{name}"] for name in Span.model_fields})
            refit_of = datetime.fromisoformat(tags["refit_of"]) if "refit_of" in tags else None
            as_of = datetime.fromisoformat(tags["as_of"])
            sha256, recipe, by = tags["sha256"], tags.get("recipe"), tags.get("promoted_by")
            return cls(as_of, training, sha256, recipe, by, refit_of, _threshold(tags))
        except KeyError as error:
            raise FraudDetectionError(f"its tag {error} is missing; expected those that retraining sets") from error
        except (ValidationError, ValueError) as error:
            raise FraudDetectionError(f"its tags do not say what it was trained on: {error}") from error


def _threshold(tags: dict[str, str]) -> Threshold | None:
    """The threshold of a version; None where it has none.

    Raises:
        FraudDetectionError: the tag is damaged.
    """
    if _THRESHOLD_TAG not in tags:
        return None
    try:
        return Threshold.model_validate_json(tags[_THRESHOLD_TAG])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise FraudDetectionError(
            f"its tag {_THRESHOLD_TAG} is damaged ({place}: {first['msg']}); expected what retraining wrote; next: copy"
            " it from the look that the version passed, in the decision log, or delete the tag: then the version has no"
            " threshold"
        ) from error


def log_model(connection: Connection, run_id: str, model: Model, inputs: "pd.DataFrame") -> str:
    """Log the model to a run, ready to be registered, and return MLflow's id of it.

    What `mlflow.xgboost.log_model` does, without the copies of the run's parameters and metrics, and without loading
    the model twice more: registration verifies it anyway.

    Args:
        connection: the MLflow service.
        run_id: the run.
        model: the model.
        inputs: generated rows as the bare booster takes them; the first few become the example.
    """
    import mlflow.xgboost
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model as Description
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    client = connection.client
    logged = client.create_logged_model(
        connection.experiment_id, name="model", source_run_id=run_id, model_type="classifier"
    )
    signature = ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in model.inputs]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1,))]),
    )
    description = Description(
        artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id, model_uuid=logged.model_id
    )
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "model")
        mlflow.xgboost.save_model(
            model.booster,
            path,
            mlflow_model=description,
            signature=signature,
            input_example=inputs.head(_EXAMPLE_ROWS).astype("float64"),
            pip_requirements=_requirements(),  # inferring them would load the model in another process
            model_format="ubj",
        )
        client.log_model_artifacts(logged.model_id, path)
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def load_model(connection: Connection, name: str, version: int, sha256: str) -> Model:
    """Load a registered version from its native file.

    Raises:
        FraudDetectionError: the file is missing or broken.
    """
    content = download(connection, connection.client.get_model_version_download_uri(name, str(version)), MODEL_FILE)
    found = digest(content)
    if found != sha256:
        raise FraudDetectionError(
            f"{MODEL_FILE} is corrupted: found {len(content)} bytes with SHA-256 {found[:12]}…,"
            f" expected SHA-256 {sha256[:12]}…"
        )
    return Model.from_bytes(content)


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def download(connection: Connection, root: str, name: str) -> bytes:
    """The content of one artifact under a root.

    Raises:
        FraudDetectionError: it does not exist.
    """
    from mlflow.exceptions import MlflowException

    repository = _repository(connection, root)
    try:
        with TemporaryDirectory() as folder:
            return Path(repository.download_artifacts(name, folder)).read_bytes()
    except (MlflowException, OSError) as error:
        if name in {Path(file.path).name for file in repository.list_artifacts()}:
            raise  # it exists; the service failed
        raise FraudDetectionError(f"{name} is missing under {connection.masked(root)}") from error


def delete_artifacts(connection: Connection, root: str) -> None:
    """Delete every artifact under a root; nothing where there is none."""
    repository = _repository(connection, root)
    for found in repository.list_artifacts():
        repository.delete_artifacts(found.path)


def artifact_bytes(connection: Connection, root: str) -> int:
    """The size of all artifacts under a root."""
    repository = _repository(connection, root)
    folders, total = [""], 0
    while folders:
        for found in repository.list_artifacts(folders.pop()):
            if found.is_dir:
                folders.append(found.path)
            else:
                total += found.file_size or 0
    return total


def _repository(connection: Connection, root: str) -> Any:  # noqa: ANN401  (MLflow ships no types)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    connection.open_artifacts()
    return get_artifact_repository(root, tracking_uri=connection.opened_uri, registry_uri=connection.opened_uri)


def _requirements() -> list[str]:
    """The packages that serve the model, as installed here."""
    pinned = []
    for choices in (("mlflow", "mlflow-skinny"), ("xgboost-cpu", "xgboost"), ("numpy",), ("pandas",), ("scipy",)):
        for package in choices:
            try:
                pinned.append(f"{package}=={metadata.version(package)}")
                break
            except metadata.PackageNotFoundError:
                continue
    return pinned
