"""The files of an input, checked before any engine reads them.

Engines do not check them: one reads a path that does not exist as an empty table, another assumes the types of the
first file for all. So headers and footers are read here, and all their problems are reported at once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fraud_detection import settings, storage
from fraud_detection.errors import DataError
from fraud_detection.transactions.columns import Field
from fraud_detection.transactions.csv_text import UNREADABLE, encoding_problem, is_in_encoding
from fraud_detection.transactions.headers import advice, column_problems
from fraud_detection.transactions.input_file import FileKind, InputFile, file_kind, first_line, open_file, some

_NOTES = (".txt", ".txt.gz", ".txt.bz2", ".txt.zst")
_EXPECTED = "files named .csv, .tsv, .txt (also with .gz, .bz2, .zst), .parquet or .pq"
_READERS = 8  # footers are small, and each is a request to an object storage
_SHOWN_FILES = 3


def list_files(url: str, leave_out: str | None = None) -> list[str]:
    """The paths of all CSV or Parquet files at a path; see `list_entries`."""
    return [entry.path for entry in list_entries(url, leave_out)]


def list_entries(url: str, leave_out: str | None = None) -> list[storage.InputEntry]:
    """All CSV or Parquet files at a path, without those at the path `leave_out`.

    Files named `.txt` are data only where there are no others: beside others they are notes.

    Raises:
        DataError: there is no such file, or there are CSV and Parquet files.
    """
    others = set(storage.input_files(leave_out)) if leave_out is not None else set()
    entries = [entry for entry in storage.input_entries(url) if entry.path not in others]
    known = [entry for entry in entries if file_kind(entry.path) is not None]
    known = [entry for entry in known if not entry.path.lower().endswith(_NOTES)] or known
    if not known:
        paths = [entry.path for entry in entries]
        found = f"found {some(paths, _SHOWN_FILES)}" if paths else "found no file"
        raise DataError(f"input {url} holds no data: {found}; expected {_EXPECTED}")
    if len({file_kind(entry.path) for entry in known}) > 1:
        paths = [entry.path for entry in known]
        raise DataError(
            f"input {url} mixes CSV and Parquet files: {some(paths, _SHOWN_FILES)}; keep one kind in one folder"
        )
    return known


def find_files(
    url: str, fields: tuple[Field, ...], form: settings.Format, leave_out: str | None = None
) -> tuple[InputFile, ...]:
    """All CSV or Parquet files at a path, each with the mapped columns in types that can be taken.

    Files at the path `leave_out` are not part of the input even when they lie inside it.

    Raises:
        DataError: there is no such file, files cannot be read, or columns are missing or of an unexpected type.
    """
    return open_files(url, list_files(url, leave_out), fields, form)


def open_files(url: str, paths: list[str], fields: tuple[Field, ...], form: settings.Format) -> tuple[InputFile, ...]:
    """Some files of the input at `url`, each with the mapped columns in types that can be taken.

    Raises:
        DataError: files cannot be read, or columns are missing or of an unexpected type.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        opened = list(pool.map(partial(open_file, form=form), paths))
    broken = [problem for problem in opened if isinstance(problem, str)]
    files = tuple(file for file in opened if isinstance(file, InputFile))
    problems = broken + column_problems(files, fields)
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise DataError(f"input {url} breaks the data contract:{lines}{advice(files, fields)}")
    return files


def first_unreadable(files: tuple[InputFile, ...], read: Callable[[InputFile], object]) -> str | None:
    """The first file whose `read` fails, with the reason; None where all can be read."""
    for file in files:
        try:
            read(file)
        except DataError as error:
            return f"{file.path}: {error}"
        except UNREADABLE as error:
            if file.kind is FileKind.CSV and not is_in_encoding(file.path, file.form):
                return f"{file.path}: {encoding_problem(file.path, file.form)}"
            return f"{file.path}: cannot be read to its end, it may be truncated or damaged: {first_line(error)}"
    return None
