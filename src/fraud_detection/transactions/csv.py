"""CSV: columns as text into typed columns, the same on every engine because no engine takes part.

Rules of a CSV file: a header line, quotes doubled inside quotes, a value on one line; the rest is `data.format`. A line
with too few or too many fields becomes a row of nulls whose `broken_line` holds its text.
"""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.csv

from fraud_detection.settings import Format
from fraud_detection.transactions.columns import Field
from fraud_detection.transactions.csv_text import open_csv_text
from fraud_detection.transactions.line_blocks import line_blocks, parsed
from fraud_detection.transactions.values import CONVERTED, typed_batch


def csv_schema(fields: tuple[Field, ...], *, with_source: bool) -> pa.Schema:
    """Columns of `csv_batches`: canonical names, `defect`, and on request the texts as `source_…` and `broken_line`."""
    columns = [pa.field(field.name, CONVERTED.get(field.kind, pa.string())) for field in fields]
    columns.append(pa.field("defect", pa.string()))
    if with_source:
        columns += [pa.field(f"source_{field.name}", pa.string()) for field in fields]
        columns.append(pa.field("broken_line", pa.string()))
    return pa.schema(columns)


def csv_batches(path: str, fields: tuple[Field, ...], form: Format, *, with_source: bool) -> Iterator[pa.RecordBatch]:
    """Read one file. `defect` names what a typed value does not show: broken_line or unparseable_time.

    An amount or a number that is none becomes +inf and a label that is none becomes 2, values that the checks refuse; a
    missing value stays null.

    Raises:
        DataError: a line is longer than `line_blocks.LONGEST_LINE`.
        pyarrow.ArrowException, OSError, UnicodeError: the file cannot be read as CSV.
    """
    schema = csv_schema(fields, with_source=with_source)
    broken: list[str] = []

    def keep(row: pyarrow.csv.InvalidRow) -> str:
        broken.append(row.text)
        return "skip"

    names = list(dict.fromkeys(name for field in fields for name in field.columns))
    convert = pyarrow.csv.ConvertOptions(
        include_columns=names,
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
    )
    parse = pyarrow.csv.ParseOptions(delimiter=form.separator, quote_char=form.quote or False, invalid_row_handler=keep)
    _keep_quiet_of_undecodable_lines()
    blocks = line_blocks(partial(open_csv_text, path, form), form.skip_lines)
    for batch in parsed(blocks, parse, convert):
        yield typed_batch(batch, fields, form, schema)
    if broken:
        yield _broken(broken, schema)


def _keep_quiet_of_undecodable_lines() -> None:
    """Keep Python from printing a stack trace where PyArrow cannot decode a broken line for the handler of such lines.

    The reader fails then anyway, with an error that the caller gets.
    """
    before = sys.unraisablehook
    if getattr(before, "__qualname__", "").startswith("_keep_quiet_of_undecodable_lines"):
        return

    def quiet(unraisable: Any) -> None:  # noqa: ANN401  (the type has no name at run time)
        if not isinstance(unraisable.exc_value, UnicodeDecodeError):
            before(unraisable)

    sys.unraisablehook = quiet


def _broken(lines: list[str], schema: pa.Schema) -> pa.RecordBatch:
    filled = {"defect": pa.array(["broken_line"] * len(lines)), "broken_line": pa.array(lines, pa.string())}
    columns = [filled.get(field.name, pa.nulls(len(lines), field.type)) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
