"""A model as MLflow keeps it: XGBoost's own file with a description, never a pickle."""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.connection import Connection
from fraud_detection.training import Model

MODEL_FILE = "model.ubj"
_DESCRIPTION = "MLmodel"
_EXAMPLE_ROWS = 5


def log_model(
    connection: Connection, run_id: str, model: Model, inputs: pd.DataFrame, facts: Mapping[str, object]
) -> str:
    """Log the model to a run, ready to be registered.

    What `mlflow.xgboost.log_model` does, without the copies of the run's parameters and metrics, and without loading
    the model twice more: registration verifies it anyway.

    Args:
        connection: where to.
        run_id: the run.
        model: the model.
        inputs: rows as the bare booster takes them; the first few become the example.
        facts: what `load_model` gives back; JSON values.

    Returns:
        The MLflow model id.
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
    digest = hashlib.sha256(model.to_bytes()).hexdigest()
    description = Description(
        artifact_path=logged.artifact_location,
        run_id=run_id,
        model_id=logged.model_id,
        model_uuid=logged.model_id,
        metadata={"facts": json.dumps(facts), "sha256": digest},
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


def load_model(connection: Connection, name: str, version: int) -> tuple[Model, dict[str, Any]]:
    """Load a registered version and the facts it was logged with.

    Raises:
        FraudDetectionError: files are missing or broken, or another program registered it.
    """
    description = download(connection, f"models:/{name}/{version}/{_DESCRIPTION}")
    content = download(connection, f"models:/{name}/{version}/{MODEL_FILE}")
    facts, digest = _metadata(description)
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise FraudDetectionError(
            f"{MODEL_FILE} is corrupted: found {len(content)} bytes with SHA-256 {found[:12]}…,"
            f" expected SHA-256 {digest[:12]}…"
        )
    return Model.from_bytes(content), facts


def _metadata(description: bytes) -> tuple[dict[str, Any], str]:
    import yaml

    try:
        known = yaml.safe_load(description)["metadata"]
        return json.loads(known["facts"]), str(known["sha256"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise FraudDetectionError(
            f"{_DESCRIPTION} does not say what the model was trained on ({type(error).__name__}); expected the metadata"
            " that this program logs with each model"
        ) from error


def download(connection: Connection, uri: str) -> bytes:
    """The content of one artifact.

    Raises:
        FraudDetectionError: it is not there.
    """
    import mlflow.artifacts
    import requests
    from mlflow.exceptions import MlflowException

    try:
        with TemporaryDirectory() as folder:
            file = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=connection.uri)
            return Path(file).read_bytes()
    except requests.HTTPError as error:
        if error.response is None or error.response.status_code != 404:
            raise
        raise _unreadable(uri, connection.masked(str(error))) from None
    except requests.RequestException:
        raise  # an OSError too, but one of the network
    except OSError as error:
        raise _unreadable(uri, str(error)) from error
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"):
            raise
        raise _unreadable(uri, connection.masked(str(error))) from None


def _unreadable(uri: str, cause: str) -> FraudDetectionError:
    return FraudDetectionError(f"{uri.rpartition('/')[2]} is missing or cannot be read: {cause}")


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
