"""The embedded MLflow: an SQLite file."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from fraud_detection.errors import FraudDetectionError

_MAGIC = b"SQLite format 3\0"


def prepare(file: Path) -> None:
    """Create MLflow's database if it does not exist, whole or not at all.

    MLflow would migrate an empty file in place, through 60 revisions; killed half-way, it leaves a database that it
    can neither use nor repair. And it would try a file that it cannot open ten times, for minutes.

    Raises:
        FraudDetectionError: the file is something else, or cannot be read and written.
    """
    try:
        if file.exists():
            _check(file)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            _create(file)
    except OSError as error:
        raise FraudDetectionError(
            f"MLflow's database {file} cannot be opened for writing: {error.strerror or error}; choose another --output"
            " or --tracking-uri"
        ) from error


def _check(file: Path) -> None:
    with file.open("rb+") as content:
        begin = content.read(len(_MAGIC))
    if begin not in (b"", _MAGIC):
        raise FraudDetectionError(
            f"{file} is not an SQLite database (it begins with {begin!r}); restore it from a copy, or move it away to"
            " start with an empty one"
        )


def _create(file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.tmp-", dir=file.parent) as folder:
        temporary = Path(folder, file.name)
        _migrate(temporary)
        with temporary.open("rb") as content:
            os.fsync(content.fileno())
        with suppress(FileExistsError):  # another run has created it meanwhile, with the same tables
            os.link(temporary, file)


def _migrate(file: Path) -> None:
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(file)))  # as it is
    sqlalchemy.event.listen(engine, "connect", _without_waiting_for_the_disk)
    try:
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


def _without_waiting_for_the_disk(connection: Any, _record: Any) -> None:  # noqa: ANN401  (SQLAlchemy decides the types)
    connection.execute("PRAGMA synchronous = OFF")  # the file is deleted unless it is complete
