"""Rows of a file in canonical columns, as `table.typed_rows` gives them, without an engine."""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection.transactions.columns import Field, Kind
from fraud_detection.transactions.input_file import InputFile
from fraud_detection.transactions.table import file_batches

FILE = "_file"
"""The number of the input file that a row is from."""
_TIME = pa.timestamp("us", "UTC")
_ID_TYPES = {"bigint": pa.int64(), "string": pa.string()}
_TYPES = {
    Kind.TIME: _TIME,
    Kind.AMOUNT: pa.float64(),
    Kind.LABEL: pa.int8(),
    Kind.FLAG: pa.int8(),
    Kind.NUMBER: pa.float64(),
    Kind.CATEGORY: pa.string(),
}


def canonical_schema(fields: tuple[Field, ...], ids: Mapping[str, str]) -> pa.Schema:
    """The columns of a day's file: the canonical ones, `defect`, and the number of the input file.

    Args:
        fields: the mapped columns.
        ids: bigint or string for each id.
    """
    columns = [pa.field(f.name, _ID_TYPES[ids[f.name]] if f.kind is Kind.ID else _TYPES[f.kind]) for f in fields]
    return pa.schema([*columns, pa.field("defect", pa.string()), pa.field(FILE, pa.int32())])


def canonical_batches(
    file: InputFile, number: int, fields: tuple[Field, ...], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in the columns of `canonical_schema`; raises as `table.read_through`."""
    for batch in file_batches(file, fields, with_source=False):
        columns = [_canonical(field, batch.column(field.name), schema.field(field.name).type) for field in fields]
        numbers = pa.repeat(pa.scalar(number, pa.int32()), batch.num_rows)
        yield pa.RecordBatch.from_arrays([*columns, batch.column("defect"), numbers], schema=schema)


def _canonical(field: Field, column: pa.Array, wanted: pa.DataType) -> pa.Array:
    match field.kind:
        case Kind.ID:
            ids = column.cast(wanted)
            return pc.if_else(pc.equal(pc.utf8_trim(ids, " "), ""), None, ids) if pa.types.is_string(wanted) else ids
        case Kind.LABEL:
            return _label(column)
        case Kind.FLAG:
            return _label(column).fill_null(0)
        case Kind.AMOUNT:
            return _number(column)
        case Kind.NUMBER:
            numbers = _number(column)
            return pc.if_else(pc.is_nan(numbers), None, numbers)
        case Kind.TIME | Kind.CATEGORY:
            return column.cast(wanted)


def _number(column: pa.Array) -> pa.DoubleArray:
    """As floating-point numbers; a decimal as the nearest one, which a division by a power of ten is not always."""
    exact = column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
    return exact.cast(pa.float64(), safe=False)


def _label(column: pa.Array) -> pa.Int8Array:
    values = _number(column)
    known = pc.and_(pc.is_valid(values), pc.invert(pc.fill_null(pc.is_nan(values), False)))
    conditions = pc.make_struct(pc.invert(known), pc.equal(values, 0), pc.equal(values, 1))
    choices = [pa.scalar(value, pa.int8()) for value in (None, 0, 1, 2)]
    return pc.case_when(conditions, *choices)
