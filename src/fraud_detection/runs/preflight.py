"""What can be said of a run before anything large is imported: wrong paths, a wrong address, a wrong time.

It looks at this machine alone. What an object storage or a service holds is asked later.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path

from fraud_detection.errors import DataError, FraudDetectionError, SettingsError
from fraud_detection.locations import is_object, local_path
from fraud_detection.settings import Settings
from fraud_detection.time_windows import whole_hour
from fraud_detection.tracking_address import checked_address, require_driver

AHEAD = timedelta(hours=1)
"""How far an as-of time may lie ahead of the clock: the default one ends the hour of the newest transaction."""


def check_paths(settings: Settings, input_path: str, output: str, tracking_uri: str, store: str | None = None) -> None:
    """Check the options of a run that name a place.

    Raises:
        SettingsError: one cannot be read, the output or the store is a file, or a database's driver is missing.
        DataError: the input or the label table does not exist.
        FraudDetectionError: the folder of the output or of the store cannot be written to.
    """
    require_driver(checked_address(tracking_uri))
    require_input("input", input_path)
    if settings.data.labels is not None:
        require_input("the label table, data.labels.path,", settings.data.labels.path)
    _require_writable("output", output)
    if store is not None:
        _require_writable("store", store)


def require_past(as_of: datetime | None, clock: datetime) -> None:
    """No decision is in the future: every later run would find its own time before that one, and decide nothing.

    Raises:
        SettingsError: the as-of time is.
    """
    as_of = as_of and whole_hour(as_of)
    if as_of is not None and as_of > clock + AHEAD:
        raise SettingsError(
            f"the as-of time {as_of:%Y-%m-%d %H:%M} is in the future; expected: at most {clock + AHEAD:%Y-%m-%d %H:%M},"
            " an hour after this machine's clock; next: correct --as-of, or the clock"
        )


def require_input(name: str, url: str) -> None:
    """Check that a path on this machine exists and can be read.

    Raises:
        DataError: it does not, or cannot.
    """
    if is_object(url):
        return
    path = local_path(url).absolute()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{name} {path} does not exist; expected a CSV or Parquet file, or a folder with such files"
        ) from error
    except OSError as error:
        raise DataError(f"{name} {path} cannot be read: {error.strerror}; allow it to this user") from error


def _require_writable(name: str, url: str) -> None:
    if is_object(url):
        return
    folder = local_path(url)
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{name} {url} is a file; expected a folder, or a path where one can be made")
    place = _nearest_folder(folder.absolute())
    if not os.access(place, os.W_OK | os.X_OK):
        raise FraudDetectionError(
            f"{name} {url} cannot be written: {place} refuses it to this user or is read-only; allow it, or choose"
            f" another --{name}"
        )


def _nearest_folder(path: Path) -> Path:
    """The path itself, or the innermost folder around it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())
