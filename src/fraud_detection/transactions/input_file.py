"""One file of an input: its kind, its columns and their types, as its header or footer says."""

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_detection import settings, storage
from fraud_detection.errors import DataError
from fraud_detection.shapes import library_text
from fraud_detection.transactions.csv_text import COMPRESSIONS, UNREADABLE, csv_header


class FileKind(StrEnum):
    """How a file is stored."""

    CSV = "csv"
    PARQUET = "parquet"


_TEXT = {f"{end}{packed}": FileKind.CSV for end in (".csv", ".tsv", ".txt") for packed in ("", *COMPRESSIONS)}
_SUFFIXES = {**_TEXT, ".parquet": FileKind.PARQUET, ".pq": FileKind.PARQUET}


@dataclass(frozen=True)
class InputFile:
    """One file with the types of its columns; CSV columns are all text."""

    path: str
    kind: FileKind
    form: settings.Format
    types: dict[str, pa.DataType]
    layout: str = ""
    """Equal for files that can be read together: engines stop over types that differ, even in unread columns."""
    repeated: frozenset[str] = frozenset()
    """Names that several columns have; only a mapped one does harm."""
    constant: frozenset[str] = frozenset()
    """Floating-point columns whose statistics name one single value; one engine then overlooks NaN between them."""
    stored: bool = False
    """Whether it is a file of the store: its columns are canonical, and it has `defect`."""


def parquet_file(path: str) -> pq.ParquetFile:
    """Open a Parquet file; times in the old INT96 form come as microseconds, as they were meant."""
    return pq.ParquetFile(storage.open_input(path), coerce_int96_timestamp_unit="us")


def file_kind(path: str) -> FileKind | None:
    """By the end of its name; None for a file that is no data."""
    name = path.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)


def open_file(path: str, form: settings.Format) -> InputFile | str:
    """The file, or what is wrong with it."""
    try:
        if file_kind(path) is FileKind.CSV:
            names = csv_header(path, form)
            return InputFile(path, FileKind.CSV, form, dict.fromkeys(names, pa.string()), repeated=_repeated(names))
        with parquet_file(path) as file:
            layout = str(file.schema).partition("\n")[2]  # without the address of the object
            repeated = _repeated(file.schema_arrow.names)
            types = _parquet_types(file)
            return InputFile(path, FileKind.PARQUET, form, types, layout, repeated, _constant_columns(file))
    except DataError as error:
        return f"{path}: {error}"
    except pa.ArrowException as error:
        return f"{path}: not a complete {file_kind(path)} file; it may be truncated: {first_line(error)}"
    except UNREADABLE as error:
        return f"{path}: cannot be read, it may be damaged or not be what its name says: {first_line(error)}"


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


def some(names: list[str], most: int) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def first_line(error: BaseException) -> str:
    """The first line of what a library says, without values."""
    return library_text(str(error).split("\n", 1)[0])
