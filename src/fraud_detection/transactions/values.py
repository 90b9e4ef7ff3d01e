"""Columns of a file into typed columns, as `data.format` says; CSV and Parquet alike."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection.errors import DataError
from fraud_detection.format_rules import plain_label
from fraud_detection.settings import Format
from fraud_detection.transactions.columns import Field, Kind, is_text
from fraud_detection.transactions.numbers import is_missing, read_numbers
from fraud_detection.transactions.times import TIME, counted_times, localized, read_times

_EXACT = 2.0**53  # above it floating-point numbers leave out integers
_LABEL_VALUES = ("fraud_values", "genuine_values", "unknown_values")
CONVERTED = {
    Kind.TIME: TIME,
    Kind.AMOUNT: pa.float64(),
    Kind.LABEL: pa.float64(),
    Kind.FLAG: pa.float64(),
    Kind.NUMBER: pa.float64(),
}
"""The types that `convert` gives; ids and categories are not converted, but where they are floating-point numbers."""


def convert(kind: Kind, arrays: Sequence[pa.Array], form: Format) -> pa.Array:
    """One typed column of one source column, or of several whose texts are joined (times).

    An amount or a number that is none becomes +inf and a label that is none becomes 2, values that the checks refuse. A
    time that is none becomes null, as a missing value does.
    """
    match kind:
        case Kind.TIME:
            return _time(arrays, form)
        case Kind.LABEL:
            return _label(arrays[0], form)
        case Kind.FLAG:
            return _label(arrays[0], form.model_copy(update=dict.fromkeys(_LABEL_VALUES, ())))
        case Kind.AMOUNT | Kind.NUMBER:
            array = _decoded(arrays[0])
            return read_numbers(as_text(array), form) if is_text(array.type) else array.cast(pa.float64(), safe=False)
        case Kind.ID:
            return _as_integers(_decoded(arrays[0]))
        case Kind.CATEGORY:
            return pc.if_else(pc.is_finite(_decoded(arrays[0]).cast(pa.float64())), as_text(arrays[0]), None)


def needs_conversion(kind: Kind, types: Sequence[pa.DataType], form: Format) -> bool:
    """Whether an engine would read other values from columns of these types than `convert` gives."""
    plain = [one.value_type if pa.types.is_dictionary(one) else one for one in types]
    if kind is Kind.TIME:
        usual = pa.types.is_timestamp(plain[0]) and (plain[0].tz is not None or form.time_zone == "UTC")
        return len(plain) > 1 or not (usual or pa.types.is_null(plain[0]))
    if kind is Kind.LABEL:
        listed = bool(form.fraud_values or form.genuine_values or form.unknown_values)
        return is_text(plain[0]) or (listed and not pa.types.is_null(plain[0]))
    if kind in {Kind.ID, Kind.CATEGORY}:
        return bool(pa.types.is_floating(plain[0]))
    return is_text(plain[0])


def converted_type(kind: Kind) -> pa.DataType:
    """The type of a column that `needs_conversion`."""
    return {**CONVERTED, Kind.ID: pa.int64(), Kind.CATEGORY: pa.string()}[kind]


def typed_batch(batch: pa.RecordBatch, fields: Sequence[Field], form: Format, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of a file's columns in the columns of a schema: canonical ones, `defect`, and of others those it names.

    `defect` is unparseable_time where a label has a time that is none. `source_…` is what the file says, as text.
    """
    columns = {"defect": pa.nulls(batch.num_rows, pa.string()), "broken_line": pa.nulls(batch.num_rows, pa.string())}
    for field in fields:
        arrays = [batch.column(name) for name in field.columns]
        converted = needs_conversion(field.kind, [array.type for array in arrays], form)
        if converted:
            columns[field.name] = convert(field.kind, arrays, form)
        else:  # not `safe`: nanoseconds are cut to microseconds
            columns[field.name] = arrays[0].cast(schema.field(field.name).type, safe=False)
        if f"source_{field.name}" in schema.names:
            columns[f"source_{field.name}"] = source_text(arrays)
        if field.name == "label_available_at" and converted:
            lost = _lost(source_text(arrays), columns[field.name])
            columns["defect"] = pc.if_else(lost, "unparseable_time", columns["defect"])
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _lost(texts: pa.StringArray, converted: pa.Array) -> pa.BooleanArray:
    """Whether a text is not missing, and no value came of it (times)."""
    return pc.and_(pc.is_null(converted), pc.invert(is_missing(texts)))


def source_text(arrays: Sequence[pa.Array]) -> pa.StringArray:
    """What the file says, as text; several columns are joined by a space, and are null where one is."""
    texts = [as_text(array) for array in arrays]
    return texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*map(pc.utf8_trim_whitespace, texts), " ")


def as_text(array: pa.Array) -> pa.StringArray:
    """A column as text; the midnight of a timestamp is a date."""
    array = _decoded(array)
    if pa.types.is_timestamp(array.type):  # without its zone: it is UTC, and Arrow would look for a database of zones
        moments = array.cast(pa.timestamp("us", array.type.tz), safe=False).cast(pa.int64()).cast(pa.timestamp("us"))
        days = moments.cast(pa.date32(), safe=False)
        whole = pc.equal(days.cast(pa.timestamp("us")), moments)
        return pc.if_else(whole, days.cast(pa.string()), moments.cast(pa.string()))
    return array.cast(pa.string())


def read_labels(texts: pa.StringArray, form: Format) -> pa.DoubleArray:
    """Labels as 0 and 1; null for those that are missing or not known, and 2 for anything else.

    0 and 1 may be written 0.0, 1.0, false and true. The values that the settings list come first.
    """
    encoded = texts.dictionary_encode()  # there are few distinct ones
    return _distinct_labels(encoded.dictionary, form).take(encoded.indices)


def _distinct_labels(texts: pa.StringArray, form: Format) -> pa.DoubleArray:
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    for point in dict.fromkeys([".", form.decimal_mark]):
        mark = f"\\x{{{ord(point):x}}}"
        plain = pc.replace_substring_regex(plain, rf"^([+-]?[0-9]+){mark}0+$", r"\1")
    listed = {
        name: pa.array([plain_label(text, form.decimal_mark) for text in values], pa.string())
        for name, values in (("one", form.fraud_values), ("zero", form.genuine_values), ("none", form.unknown_values))
    }
    conditions = [
        pc.is_in(plain, listed["one"]),
        pc.is_in(plain, listed["zero"]),
        pc.or_(pc.is_in(plain, listed["none"]), is_missing(texts)),
        pc.is_in(plain, pa.array(["1", "true"])),
        pc.is_in(plain, pa.array(["0", "false"])),
    ]
    values = [1.0, 0.0, None, 1.0, 0.0, 2.0]
    return pc.case_when(pc.make_struct(*conditions), *(pa.scalar(value, pa.float64()) for value in values))


def _label(array: pa.Array, form: Format) -> pa.DoubleArray:
    array = _decoded(array)
    if needs_conversion(Kind.LABEL, [array.type], form):
        return read_labels(as_text(array), form)
    return array.cast(pa.float64(), safe=False)


def _as_integers(array: pa.Array) -> pa.Int64Array:
    """Ids that were stored as floating-point numbers.

    Raises:
        DataError: one has a fraction, or so many digits that it may be another id.
    """
    numbers = array.cast(pa.float64())
    known = pc.if_else(pc.is_nan(numbers), None, numbers)
    exact = pc.and_(pc.equal(known, pc.floor(known)), pc.less(pc.abs(known), _EXACT))
    if pc.all(exact).as_py() is False:
        raise DataError("an id is a number with a fraction, or of more than 15 digits; store ids as integers or text")
    return known.cast(pa.int64())


def _time(arrays: Sequence[pa.Array], form: Format) -> pa.TimestampArray:
    arrays = [_decoded(array) for array in arrays]
    if len(arrays) > 1:
        typed = not any(is_text(array.type) for array in arrays) and any(map(_is_date, arrays))
        written = form.model_copy(update={"time_formats": ()}) if typed else form  # as `as_text` writes it
        return read_times(source_text(arrays), written)
    [array] = arrays
    if is_text(array.type) or pa.types.is_null(array.type):
        return read_times(as_text(array), form)
    if pa.types.is_timestamp(array.type):
        micros = array.cast(pa.timestamp("us", array.type.tz), safe=False)
        return micros.cast(TIME) if array.type.tz is not None else localized(micros, form.time_zone)
    if _is_date(array):
        return localized(
            array.cast(pa.timestamp("ms"), safe=False).cast(pa.timestamp("us"), safe=False), form.time_zone
        )
    return counted_times(array, form) if form.time_unit is not None else read_times(as_text(array), form)


def _is_date(array: pa.Array) -> bool:
    return bool(pa.types.is_date(array.type) or pa.types.is_timestamp(array.type))


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
