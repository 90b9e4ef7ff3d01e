"""The files of an input, checked before any engine reads them.

Engines do not check them: one reads a path that does not exist as an empty table, another assumes the types of the
first file for all. So headers and footers are read here, and all their problems are reported at once.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_detection import storage
from fraud_detection.errors import DataError
from fraud_detection.shapes import column_names, library_text
from fraud_detection.transactions.columns import CANONICAL, EXPECTED, RETIRABLE, Field, Kind, family


class Format(StrEnum):
    """How a file is written."""

    CSV = "csv"
    PARQUET = "parquet"


_SUFFIXES = {".csv": Format.CSV, ".csv.gz": Format.CSV, ".parquet": Format.PARQUET, ".pq": Format.PARQUET}
_HEADER_BYTES = 1 << 20
_READERS = 8  # footers are small, and each is a request to an object storage
_SHOWN_FILES = 3
_SEARCHED_LINES = 20
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SHOWN_COLUMNS = 40


@dataclass(frozen=True)
class InputFile:
    """One file with the types of its columns; CSV columns are all text."""

    path: str
    format: Format
    types: dict[str, pa.DataType]
    layout: str = ""
    """Equal for files that can be read together: engines stop over types that differ, even in unread columns."""
    repeated: frozenset[str] = frozenset()
    """Names that several columns have; only a mapped one does harm."""
    constant: frozenset[str] = frozenset()
    """Floating-point columns whose statistics name one single value; one engine then overlooks NaN between them."""


def find_files(url: str, fields: tuple[Field, ...], leave_out: str | None = None) -> tuple[InputFile, ...]:
    """All CSV or Parquet files at a path, each with the mapped columns in types that can be taken.

    Files at the path `leave_out` are not part of the input even when they lie inside it.

    Raises:
        DataError: there is no such file, files cannot be read, or columns are missing or of an unexpected type.
    """
    others = set(storage.input_files(leave_out)) if leave_out is not None else set()
    paths = [path for path in storage.input_files(url) if path not in others]
    known = [path for path in paths if _format(path) is not None]
    if not known:
        found = f"found {_some(paths, _SHOWN_FILES)}" if paths else "found no file"
        raise DataError(f"input {url} holds no data: {found}; expected files named {', '.join(_SUFFIXES)}")
    if len({_format(path) for path in known}) > 1:
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


def parquet_file(path: str) -> pq.ParquetFile:
    """Open a Parquet file; times in the old INT96 form come as microseconds, as they were meant."""
    return pq.ParquetFile(storage.open_input(path), coerce_int96_timestamp_unit="us")


def _format(path: str) -> Format | None:
    name = path.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)


def _open(path: str) -> InputFile | str:
    """The file, or what is wrong with it."""
    try:
        if _format(path) is Format.CSV:
            names = csv_header(path)
            return InputFile(path, Format.CSV, dict.fromkeys(names, pa.string()), repeated=_repeated(names))
        with parquet_file(path) as file:
            layout = str(file.schema).partition("\n")[2]  # without the address of the object
            repeated = _repeated(file.schema_arrow.names)
            return InputFile(path, Format.PARQUET, _parquet_types(file), layout, repeated, _constant_columns(file))
    except (DataError, OSError) as error:
        return f"{path}: {error}"
    except pa.ArrowException as error:
        return f"{path}: not a complete {_format(path)} file; it may be truncated: {_first_line(error)}"


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


def _repeated(names: list[str]) -> frozenset[str]:
    return frozenset(name for name in names if names.count(name) > 1)


def csv_header(path: str) -> list[str]:
    """The column names of a CSV file, as its first line gives them.

    Raises:
        DataError: the file is empty or is not UTF-8 text.
        OSError: it cannot be read.
    """
    start = _start(path)
    if not start.strip():
        raise DataError("the file is empty; expected a line with column names")
    return _fields(_lines(start)[0])


def has_rows(path: str) -> bool:
    """Whether a CSV file has anything after its header."""
    return len(_lines(_start(path))) > 1


def _start(path: str) -> bytes:
    with open_csv_text(path) as stream:
        return bytes(stream.read(_HEADER_BYTES))


def _lines(start: bytes) -> list[str]:
    """The first lines that are not empty, whatever they end with.

    Raises:
        DataError: the first one is not UTF-8 text.
    """
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("not UTF-8 text but UTF-16; save the file as UTF-8")
    lines = [match[0] for match in islice(re.finditer(rb"[^\r\n]+", start), _SEARCHED_LINES)]
    try:
        lines[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason}); save the file as UTF-8") from error
    return [line.decode("utf-8-sig", errors="replace") for line in lines]


def _fields(line: str, separator: str = ",") -> list[str]:
    return next(csv.reader([line], delimiter=separator))


def open_csv_text(path: str) -> pa.NativeFile:
    """Open a CSV file, decompressed where its name says that it is compressed."""
    raw = storage.open_input(path)
    return pa.CompressedInputStream(raw, "gzip") if path.lower().endswith(".gz") else raw


def _column_problems(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> list[str]:
    return [
        problem
        for check in (_headless, _missing, _twice, _unexpected, _disagreeing)
        for problem in check(files, fields)
    ]


def _headless(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    """Why a CSV file has not one of the mapped columns, where its first lines show it."""
    for file in files:
        if file.format is Format.CSV and not _has_some(file, fields):
            why = _why_headless(_lines(_start(file.path)), {field.source for field in fields})
            if why is not None:
                yield f"{file.path}: {why}"


def _has_some(file: InputFile, fields: tuple[Field, ...]) -> bool:
    return any(field.source in file.types for field in fields)


def _why_headless(lines: list[str], wanted: set[str]) -> str | None:
    for separator, name in _SEPARATORS.items():
        if wanted & set(_fields(lines[0], separator)):
            return f"the fields are separated by {name}; expected commas"
    for before, line in enumerate(lines[1:], start=1):
        if wanted <= set(_fields(line)):
            return f"the line with the column names comes after {before} other line(s); expected it first"
    return "the first line holds values; expected column names" if _holds_values(_fields(lines[0])) else None


def _holds_values(names: Iterable[str]) -> bool:
    """Whether some names of a header are numbers or times: the values of a first row."""
    return any(re.fullmatch(r"[-+]?[\d.,:T -]*\d[\d.,:TZ -]*", name.strip()) for name in names)


def _missing(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    for field in fields:
        without = [file for file in files if field.source not in file.types]
        if without:
            alike = [name for name in without[0].types if name.casefold() == field.source.casefold()]
            found = f", but there is {alike[0]}: names must agree in case" if alike else ""
            yield f"missing column: {_named(field)}{found}{_where(without, files)}"


def _twice(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    for field in fields:
        having = [file for file in files if field.source in file.repeated]
        if having:
            yield f"column named twice: {_named(field)}{_where(having, files)}"


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
            pair = (f"{file.types[field.source]} in {file.path}" for file in (having[0], other[0]))
            yield f"files disagree on the type of {_named(field)}: {', '.join(pair)}"


def _family(file: InputFile, field: Field) -> str | None:
    if file.format is Format.CSV:
        return "string"
    return family(field.kind, file.types[field.source])


def _named(field: Field) -> str:
    return field.source if field.source == field.name else f"{field.source} ({field.name})"


def _where(some: list[InputFile], files: tuple[InputFile, ...]) -> str:
    return f", in {len(some)} of {len(files)} files, such as {some[0].path}" if len(files) > 1 else ""


def _advice(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> str:
    if not files:
        return ""
    found = _some(column_names(list(files[0].types)), _SHOWN_COLUMNS)
    missing = [field.name for field in fields if field.source not in files[0].types]
    needed = {*CANONICAL} - {*RETIRABLE}
    gone = [] if needed.intersection(missing) else missing  # otherwise it is another table, or the names are wrong
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
            if "UTF8" in str(error):
                return f"{file.path}: not UTF-8 text; save the file as UTF-8"
            return f"{file.path}: cannot be read to its end, it may be truncated or damaged: {_first_line(error)}"
    return None
