"""The rows that guesses rest on: all columns of all files, thinned out evenly where there are very many rows."""

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from fraud_detection import storage
from fraud_detection.errors import DataError
from fraud_detection.initialization.headers import holds_json, require_alike
from fraud_detection.initialization.layout import Layout, find_layout
from fraud_detection.settings import Format
from fraud_detection.shapes import column_names, library_text, shape
from fraud_detection.transactions.csv_text import UNREADABLE, open_csv_text
from fraud_detection.transactions.encodings import find_encoding
from fraud_detection.transactions.line_blocks import line_blocks, parsed

_CSV = re.compile(r"\.(csv|txt|tsv)(\.(gz|bz2|zst))?$", re.IGNORECASE)
_PARQUET = re.compile(r"\.(parquet|pq)$", re.IGNORECASE)
_PARTITION = re.compile(r"/([^\W\d][\w-]*)=[^/]*(?=/)")
_SHOWN = 10
_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}
_BLOCK = 4 << 20
_START = 1 << 20
_MOST_ROWS = 1_000_000
_PART = 65_536


@dataclass(frozen=True)
class Table:
    """The columns by name, and where they are from. CSV columns are text."""

    files: tuple[str, ...]
    layout: Layout | None
    """None: Parquet."""
    columns: dict[str, pa.Array]
    stride: int
    """Every so many-th row is here."""
    left_out: dict[str, str]
    """Columns that cannot be read, with the reason."""

    @property
    def rows(self) -> int:
        """Rows of the columns."""
        return len(next(iter(self.columns.values()), ()))

    @property
    def unread(self) -> str:
        """What the files have beside the columns and is not used, for messages."""
        keys = dict.fromkeys(key for path in self.files for key in _PARTITION.findall(path))
        names = column_names(list(self.left_out))[:_SHOWN]
        found = [f"{name} ({why})" for name, why in zip(names, self.left_out.values(), strict=False)]
        if keys:
            found.append(f"{', '.join(f'{key}=' for key in keys)} in the names of folders (not read as columns)")
        return ", ".join(found)


def read_table(url: str) -> Table:
    """Read the files at a path, which are all CSV or all Parquet.

    Raises:
        DataError: there are none, they have no rows or no header, or one cannot be read.
    """
    paths = storage.input_files(url)
    texts = tuple(path for path in paths if _CSV.search(path))
    tables = tuple(path for path in paths if _PARQUET.search(path))
    if bool(texts) == bool(tables):
        raise DataError(_no_files(url, texts))
    found = _read_csv(texts) if texts else _read_parquet(tables)
    if not found.rows:
        raise DataError(f"input {url} has no rows; expected at least some thousands")
    return found


def _no_files(url: str, texts: tuple[str, ...]) -> str:
    found = "CSV and Parquet files; keep one kind in one folder" if texts else "no CSV or Parquet file"
    return f"input {url}: found {found}; expected files named .csv, .txt, .tsv (also .gz, .bz2, .zst), .parquet or .pq"


def _read_csv(paths: tuple[str, ...]) -> Table:
    layout = _layout(paths[0])
    if not layout.has_header:
        shown = ", ".join(map(shape, layout.columns[:10]))
        raise DataError(f"{paths[0]}: the first line holds values ({shown}); expected a line with column names")
    headers = {path: _header(path, layout) if path != paths[0] else layout.columns for path in paths}
    require_alike(headers)
    left_out = _unreadable(headers)
    names = [name for name in layout.columns if name not in left_out]
    if not names:
        raise DataError(f"{paths[0]}: found no column that can be read: {', '.join(column_names(list(left_out))[:20])}")
    rows = _Rows()
    for path in paths:
        _add(rows, path, lambda path: _csv_batches(path, layout, names))
    return Table(paths, layout, rows.columns(names), rows.stride, left_out)


def _layout(path: str) -> Layout:
    with _readable(path), _open(path) as stream:
        encoding = find_encoding(iter(lambda: bytes(stream.read(_BLOCK)), b""))
    with _readable(path), _open(path) as stream:
        start = bytes(stream.read(_START))
    if holds_json(start.decode(encoding, "ignore")):
        raise DataError(f"{path}: holds JSON; expected CSV with a header line, or Parquet; next: convert it")
    layout = find_layout(start, encoding)
    if not layout.columns:
        raise DataError(f"{path}: the file is empty; expected a line with column names")
    if len(layout.columns) == 1 and layout.has_header and layout.separator in layout.columns[0]:
        raise DataError(
            f"{path}: most lines have another number of fields than the header, with every separator; expected as many;"
            " next: correct the file, or put fields with separators in quotes"
        )
    return layout


def _header(path: str, layout: Layout) -> tuple[str, ...]:
    with _readable(path), _open(path) as stream:
        lines = bytes(stream.read(_START)).decode(layout.encoding, "replace").removeprefix("\ufeff").splitlines()
    below = [line for line in lines[layout.skip_lines :] if line.strip()]
    return tuple(next(csv.reader(below[:1], delimiter=layout.separator, quotechar=layout.quote), ()))


def _unreadable(headers: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The columns that not every file has exactly once, and those without a name."""
    found = {}
    for name in {name: None for header in headers.values() for name in header}:
        without = [path for path, header in headers.items() if name not in header]
        if not name.strip():
            found[name] = "no name"
        elif any(header.count(name) > 1 for header in headers.values()):
            found[name] = "several columns have this name"
        elif without:
            some = PurePosixPath(without[0]).name
            found[name] = f"{len(without):,} of {len(headers):,} files lack it, such as {some}"
    return found


def _csv_batches(path: str, layout: Layout, names: list[str]) -> Iterator[pa.RecordBatch]:
    form = Format(encoding=layout.encoding, skip_lines=layout.skip_lines)
    blocks = line_blocks(partial(open_csv_text, path, form), layout.skip_lines)
    yield from parsed(
        blocks,
        pyarrow.csv.ParseOptions(
            delimiter=layout.separator, quote_char=layout.quote or False, invalid_row_handler=lambda _: "skip"
        ),
        pyarrow.csv.ConvertOptions(
            include_columns=names,
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        ),
    )


def _open(path: str) -> pa.NativeFile:
    raw = storage.open_input(path)
    codec = _CODECS.get(path.lower().rpartition(".")[2])
    return raw if codec is None else pa.CompressedInputStream(raw, codec)


def _read_parquet(paths: tuple[str, ...]) -> Table:
    try:
        schemas = {path: pq.read_schema(storage.open_input(path)) for path in paths}
    except pa.ArrowException as error:
        raise DataError(f"a Parquet file cannot be read: {library_text(str(error))}") from error
    headers = {path: tuple(schema.names) for path, schema in schemas.items()}
    require_alike(headers)
    left_out = _unreadable(headers)
    left_out |= {field.name: "nested" for field in schemas[paths[0]] if pa.types.is_nested(field.type)}
    names = [name for name in headers[paths[0]] if name not in left_out]
    rows = _Rows()
    for path in paths:
        _add(rows, path, lambda path: pq.ParquetFile(storage.open_input(path)).iter_batches(_PART, columns=names))
    return Table(paths, None, rows.columns(names), rows.stride, left_out)


def _add(rows: "_Rows", path: str, read: Callable[[str], Iterator[pa.RecordBatch]]) -> None:
    with _readable(path):
        for batch in read(path):
            rows.add(batch)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Name the file that cannot be read."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read to its end: {library_text(str(error))}") from error


class _Rows:
    """Keeps every `stride`-th row, and doubles the stride when they become too many."""

    def __init__(self) -> None:
        self.stride = 1
        self._seen = 0
        self._kept = 0
        self._parts: list[pa.Table] = []

    def add(self, batch: pa.RecordBatch) -> None:
        part = pa.Table.from_batches([batch])
        first = -self._seen % self.stride
        self._seen += part.num_rows
        self._keep(part.take(pa.array(range(first, part.num_rows, self.stride), pa.int64())))
        while self._kept > _MOST_ROWS:
            self.stride *= 2
            whole = pa.concat_tables(self._parts, promote_options="permissive")
            self._parts, self._kept = [], 0
            self._keep(whole.take(pa.array(range(0, whole.num_rows, 2), pa.int64())))

    def columns(self, names: list[str]) -> dict[str, pa.Array]:
        if not self._parts:
            return {}
        whole = pa.concat_tables(self._parts, promote_options="permissive")
        return {name: _one_array(whole.column(name)) for name in names}

    def _keep(self, part: pa.Table) -> None:
        self._parts.append(part)
        self._kept += part.num_rows


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    return whole.dictionary_decode() if pa.types.is_dictionary(whole.type) else whole
