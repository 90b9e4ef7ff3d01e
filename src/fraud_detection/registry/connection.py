"""A connection to one MLflow: an SQLite file with artifacts beside it, or a server with its own artifact root.

Nothing here prints, and no message contains an address with its password.
"""

import atexit
import errno
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp
from typing import Any

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.masking import MASK, mask
from fraud_detection.outputs import ARTIFACTS
from fraud_detection.proxies import exempt_loopback
from fraud_detection.registry import sqlite
from fraud_detection.storage import is_object, session
from fraud_detection.tracking_address import checked_address, is_database, is_misread, spellings
from fraud_detection.yandex.lockbox import take_from_lockbox

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Every failure is raised as an exception as well; the log would add its stack trace.
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    # A refused connection fails after 3 seconds, a silent server after a minute; with MLflow's limits after hours.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # A response that names another address gets no second request, which could carry password and content.
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "PGCONNECT_TIMEOUT": "20",  # of a PostgreSQL that MLflow reads directly; libpq would wait for ever
}
"""What MLflow reads from the environment; a variable that is already set stays."""

_LONGEST_CAUSE = 500
_NOT_ALLOWED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"})
_UNAVAILABLE = frozenset(
    {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
)


def import_mlflow(tracking_uri: str) -> None:
    """Import all of MLflow that `tracking_uri` needs.

    It takes 2 to 4 seconds, once in a process. Not in a thread of its own: Python's import locks can deadlock when two
    threads import at once.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _name_a_home()
    exempt_loopback()
    importlib.import_module("mlflow.xgboost")
    if is_database(tracking_uri):
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
        importlib.import_module("mlflow.store.model_registry.sqlalchemy_store")


def _name_a_home() -> None:
    """MLflow cannot be imported by a user without a home, as in a container that runs under a number."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = gettempdir()


class Connection:
    """An MLflow service and one experiment in it, opened at first use.

    Raises:
        SettingsError: the address is not one of an MLflow service.
    """

    def __init__(self, tracking_uri: str, experiment: str) -> None:
        self.uri = checked_address(tracking_uri)
        self.shown_uri = self.masked(self.uri)
        self._experiment = experiment

    @cached_property
    def client(self) -> Any:  # noqa: ANN401  (MLflow ships no types)
        """The `MlflowClient`; creating it opens the database, and creates that if it does not exist."""
        import_mlflow(self.uri)
        import mlflow

        if self._sqlite_file is not None:
            sqlite.prepare(self._sqlite_file)
        elif not is_database(self.uri):
            take_from_lockbox()

        # Without the second address MLFLOW_REGISTRY_URI would name another registry.
        return mlflow.MlflowClient(self.opened_uri, self.opened_uri)

    @cached_property
    def opened_uri(self) -> str:
        """The address as MLflow gets it: of a folder whose name it would misread, through a link of another name."""
        file = self._sqlite_file
        if file is None or not is_misread(str(file.parent)):
            return self.uri
        folder = Path(mkdtemp(prefix="fraud-detection-"))
        atexit.register(rmtree, folder, ignore_errors=True)
        (folder / "output").symlink_to(file.parent)
        return f"sqlite:///{folder}/output/{file.name}"

    @cached_property
    def experiment_id(self) -> str:
        """The experiment, created if it does not exist; its artifacts are the server's, or beside the SQLite file.

        `MLFLOW_DEFAULT_ARTIFACT_ROOT`, which MLflow's server reads too, sets another artifact root for an SQLite file.
        """
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                self.client.create_experiment(self._experiment, artifact_location=self._artifact_root)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run has created it meanwhile
                    raise
            found = self.client.get_experiment_by_name(self._experiment)
        if found.lifecycle_stage != "active":
            raise FraudDetectionError(
                f"experiment {self._experiment} of MLflow at {self.shown_uri} is deleted; restore it:"
                f" MLFLOW_TRACKING_URI={self.shown_uri}"
                f" mlflow experiments restore --experiment-id {found.experiment_id}"
            )
        if is_object(found.artifact_location):
            session.share_with_boto3()
        return str(found.experiment_id)

    def open_artifacts(self) -> None:
        """Prepare to read and write the artifacts of the experiment."""
        _ = self.experiment_id

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translate what MLflow and its storage raise into an error that names the next step.

        Raises:
            ServiceUnavailableError: the service does not answer.
            FraudDetectionError: the service refuses.
        """
        import_mlflow(self.uri)
        _make_global(self.opened_uri)
        try:
            yield
        except _failures(self.uri) as error:
            raise self._translated(error) from None  # the original text may contain the address with its password

    def masked(self, text: str) -> str:
        """The text without user and password of any address, nor the password of this one standing alone."""
        for secret in spellings(self.uri):
            text = text.replace(secret, f"{MASK}@" if secret.endswith("@") else MASK)
        return mask(text)

    @property
    def _artifact_root(self) -> str | None:
        """For a new experiment; None where a server decides."""
        if self._sqlite_file is None:
            return None
        chosen = os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT")
        if chosen:
            return chosen.replace("s3a://", "s3://", 1)  # the name that MLflow knows
        return (self._sqlite_file.parent / ARTIFACTS).as_uri()

    @property
    def _sqlite_file(self) -> Path | None:
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:") else None

    def _translated(self, error: Exception) -> FraudDetectionError:
        if "boto3" in sys.modules and isinstance(error, session.failures()):
            return session.explanation(error, f"artifacts of MLflow at {self.shown_uri}")
        text = self.masked(" ".join(str(error).partition("[SQL:")[0].split()))[:_LONGEST_CAUSE]
        at = f"MLflow at {self.shown_uri}"
        match _kind(error, self.uri):
            case "refused":
                return FraudDetectionError(
                    f"{at} refuses these credentials: {text}; set MLFLOW_TRACKING_USERNAME and"
                    " MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) of an account that may edit"
                    f" experiment and model {self._experiment}"
                )
            case "full":
                return FraudDetectionError(f"{at} failed: {text}; make room on the disk, then run this again")
            case "unavailable":
                return ServiceUnavailableError(
                    f"{at} cannot be reached: {text}; check that it runs and the --tracking-uri, then run this again"
                )
            case "not mlflow":
                return FraudDetectionError(
                    f"the service at {self.shown_uri} does not answer like MLflow 3: {text}; check the --tracking-uri"
                )
            case _:
                return FraudDetectionError(f"{at} failed: {text}")


def _failures(uri: str) -> tuple[type[Exception], ...]:
    """What MLflow and its storage raise; libraries that are not loaded cannot have raised anything."""
    from mlflow.exceptions import MlflowException

    kinds: tuple[type[Exception], ...] = (MlflowException, OSError)
    if is_database(uri):
        from sqlalchemy.exc import SQLAlchemyError

        kinds += (SQLAlchemyError, ImportError)  # a driver that is not installed
    return kinds + (session.failures() if "boto3" in sys.modules else ())


def _make_global(uri: str) -> None:
    """Let MLflow resolve models:/ here: its SQL registry does so through the address of the whole process.

    MLflow would put the address, with its password, into the environment, for whatever reads MLFLOW_TRACKING_URI.
    """
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


def _kind(error: Exception, uri: str) -> str:
    """Why a call failed: refused, full, unavailable, not mlflow, or other."""
    status = getattr(getattr(error, "response", None), "status_code", None)  # of a `requests.HTTPError`
    code = getattr(error, "error_code", None)
    if code in _NOT_ALLOWED or status in (401, 403):
        return "refused"
    if code == "ENDPOINT_NOT_FOUND" or "not in a valid JSON format" in str(error):
        return "not mlflow"
    if getattr(error, "errno", None) == errno.ENOSPC or "database or disk is full" in str(error):
        return "full"
    if uri.startswith("sqlite:"):
        return "unavailable" if "database is locked" in str(error) else "other"
    if code in _UNAVAILABLE or (status or 0) >= 500 or _is_network(error):
        return "unavailable"
    return "other"


def _is_network(error: Exception) -> bool:
    import requests

    broken = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError)
    return isinstance(error, broken) or type(error).__name__ == "OperationalError"
