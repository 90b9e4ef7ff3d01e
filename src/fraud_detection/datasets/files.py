"""The files of an input, checked before any engine reads them.

Engines cannot be asked: one reads a path that does not exist as an empty table, another takes the types of the first
file for those of all. So headers and footers are read here, and everything that is wrong with them is told at once.
"""

import csv
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_detection import storage
from fraud_detection.datasets.fields import EXPECTED, Field, Kind, family
from fraud_detection.errors import DataError
from fraud_detection.shapes import column_names, library_text


class Format(StrEnum):
    """How a file is written."""

    CSV = "csv"
    PARQUET = "parquet"


_SUFFIXES = {".csv": Format.CSV, ".csv.gz": Format.CSV, ".parquet": Format.PARQUET, ".pq": Format.PARQUET}
_HEADER_BYTES = 1 << 20
_READERS = 8  # footers are small and far away on object storage
_SHOWN_FILES = 3
_SHOWN_COLUMNS = 40


@dataclass(frozen=True)
class InputFile:
    """One file with the types of its columns; CSV columns are all text."""

    place: str
    format: Format
    types: dict[str, pa.DataType]
    layout: str = ""
    """Equal for files that may be read together: types that differ in columns nobody asked for stop an engine, too."""
    constant: frozenset[str] = frozenset()
    """Floating-point columns whose statistics name one single value; one engine then overlooks NaN between them."""


def find_files(url: str, fields: tuple[Field, ...], leave_out: str | None = None) -> tuple[InputFile, ...]:
    """All CSV or Parquet files at a path, each with the mapped columns in types that can be taken.

    Files at the path `leave_out` are not part of the input even when they lie inside it.

    Raises:
        DataError: there is no such file, files cannot be read, or columns are missing or of an unexpected type.
    """
    others = set(storage.input_files(leave_out)) if leave_out is not None else set()
    places = [place for place in storage.input_files(url) if place not in others]
    known = [place for place in places if _format(place) is not None]
    if not known:
        found = f"found {_some(places, _SHOWN_FILES)}" if places else "found no file"
        raise DataError(f"input {url} holds no data: {found}; expected files named {', '.join(_SUFFIXES)}")
    if len({_format(place) for place in known}) > 1:
        raise DataError(
            f"input {url} mixes CSV and Parquet files: {_some(known, _SHOWN_FILES)}; keep one kind in one folder"
        )
    with ThreadPoolExecutor(_READERS) as pool:
        opened = list(pool.map(_open, known))
    broken = [problem for problem in opened if isinstance(problem, str)]
    files = tuple(file for file in opened if isinstance(file, InputFile))
    problems = broken + _column_problems(files, fields)
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise DataError(f"input {url} breaks the data contract:{lines}{_advice(files, fields)}")
    return files


def parquet_file(place: str) -> pq.ParquetFile:
    """Open a Parquet file; times in the old INT96 form come as microseconds, as they were meant."""
    return pq.ParquetFile(storage.open_input(place), coerce_int96_timestamp_unit="us")


def _format(place: str) -> Format | None:
    name = place.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)


def _open(place: str) -> InputFile | str:
    """The file, or what is wrong with it."""
    try:
        if _format(place) is Format.CSV:
            return InputFile(place, Format.CSV, dict.fromkeys(csv_header(place), pa.string()))
        with parquet_file(place) as file:
            layout = str(file.schema).partition("\n")[2]  # without the address of the object
            return InputFile(place, Format.PARQUET, _parquet_types(file), layout, _constant_columns(file))
    except (DataError, OSError) as error:
        return f"{place}: {error}"
    except pa.ArrowException as error:
        return f"{place}: not a whole {_format(place)} file, it may be truncated: {_first_line(error)}"


def _parquet_types(file: pq.ParquetFile) -> dict[str, pa.DataType]:
    types = {field.name: field.type for field in file.schema_arrow}
    for index in range(len(file.schema)):
        column = file.schema.column(index)
        if column.physical_type == "INT96" and column.path in types:
            types[column.path] = pa.timestamp("us", "UTC")  # what engines take INT96 for
    return types


def _constant_columns(file: pq.ParquetFile) -> frozenset[str]:
    found = set()
    for index in range(len(file.schema)):
        column = file.schema.column(index)
        if column.physical_type in {"FLOAT", "DOUBLE"}:
            groups = (file.metadata.row_group(group).column(index) for group in range(file.num_row_groups))
            known = [group.statistics for group in groups if group.is_stats_set and group.statistics.has_min_max]
            if len({value for group in known for value in (group.min, group.max)}) == 1:
                found.add(column.path)
    return frozenset(found)


def csv_header(place: str) -> list[str]:
    """The column names of a CSV file.

    Raises:
        DataError: the file is empty, is not UTF-8 text, or names a column twice.
        OSError: it cannot be read.
    """
    with open_csv_text(place) as stream:
        start = stream.read(_HEADER_BYTES)
    if not start.strip():
        raise DataError("the file is empty; expected a line with column names")
    line = start.split(b"\n", 1)[0]
    try:
        names = next(csv.reader(io.StringIO(line.decode("utf-8-sig"))))
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error}") from error
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"columns named twice: {', '.join(column_names(twice))}")
    return names


def open_csv_text(place: str) -> pa.NativeFile:
    """Open a CSV file, decompressed where its name says that it is compressed."""
    raw = storage.open_input(place)
    return pa.CompressedInputStream(raw, "gzip") if place.lower().endswith(".gz") else raw


def _column_problems(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> list[str]:
    return [problem for check in (_missing, _unexpected, _disagreeing) for problem in check(files, fields)]


_NEEDED = ("transaction_id", "transaction_time", "amount", "fraud", "label_available_at")
"""Columns that no model reads as such, or that there is no data without: they cannot be retired."""


def _missing(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    for field in fields:
        without = [file for file in files if field.source not in file.types]
        if without:
            yield f"missing column: {_named(field)}{_where(without, files)}"


def _unexpected(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    for field in fields:
        wrong = [file for file in files if field.source in file.types and _family(file, field) is None]
        if wrong:
            found = wrong[0].types[field.source]
            expected = EXPECTED[field.kind]
            yield f"unexpected type: {_named(field)} found {found}, expected {expected}{_where(wrong, files)}"


def _disagreeing(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    """Only ids can disagree: an id that is text here and a number there would not be the same id."""
    for field in fields:
        having = [file for file in files if field.source in file.types and _family(file, field) not in {None, "any"}]
        other = [file for file in having if _family(file, field) != _family(having[0], field)]
        if field.kind is Kind.ID and other:
            pair = (f"{file.types[field.source]} in {file.place}" for file in (having[0], other[0]))
            yield f"files disagree on the type of {_named(field)}: {', '.join(pair)}"


def _family(file: InputFile, field: Field) -> str | None:
    if file.format is Format.CSV:
        return "string"
    return family(field.kind, file.types[field.source])


def _named(field: Field) -> str:
    return field.source if field.source == field.name else f"{field.source} ({field.name})"


def _where(some: list[InputFile], files: tuple[InputFile, ...]) -> str:
    return f", in {len(some)} of {len(files)} files, such as {some[0].place}" if len(files) > 1 else ""


def _advice(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> str:
    if not files:
        return ""
    found = _some(column_names(list(files[0].types)), _SHOWN_COLUMNS)
    gone = [field.name for field in fields if field.name not in _NEEDED and field.source not in files[0].types]
    unmap = (
        f"\ngone for good: unmap it in data.columns, and set data.retired_columns: [{', '.join(gone)}]" if gone else ""
    )
    return f"\ncolumns found: {found}\ncorrect the files, or the names in the settings file{unmap}"


def _some(names: list[str], most: int) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _first_line(error: BaseException) -> str:
    return library_text(str(error).split("\n", 1)[0])


def first_unreadable(files: tuple[InputFile, ...], read: Callable[[InputFile], object]) -> str | None:
    """The first file whose `read` fails, with the reason; None where all can be read."""
    for file in files:
        try:
            read(file)
        except (pa.ArrowException, OSError) as error:
            return f"{file.place}: {_first_line(error)}"
    return None
