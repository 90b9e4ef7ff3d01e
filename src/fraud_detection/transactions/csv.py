"""CSV: columns as text into typed columns, the same on every engine because no engine takes part.

Rules of a CSV file: UTF-8, comma, a header line, quotes doubled inside quotes, a value on one line. A line with too few
or too many fields becomes a row of nulls whose `broken_line` holds its text.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from fraud_detection.transactions.columns import Field, Kind
from fraud_detection.transactions.files import has_rows, open_csv_text

TIME = pa.timestamp("us", "UTC")
MISSING = frozenset({"", "null", "nan", "na", "n/a", "none", "\\n"})
"""Lower-case spellings of a missing time, number or label; of ids and categories only the empty text is missing."""

_BLOCK = 4 << 20
_TYPES = {
    Kind.ID: pa.string(),
    Kind.TIME: TIME,
    Kind.AMOUNT: pa.float64(),
    Kind.LABEL: pa.float64(),
    Kind.NUMBER: pa.float64(),
    Kind.CATEGORY: pa.string(),
}
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_INFINITY = r"[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY])?"
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d+))?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)
# The common forms, tight enough that every text of a form converts: one bad value must not slow down its neighbours.
_DAY = (
    r"\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    r"[ T]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
)
_TIME_FORMS = {rf"^{_DAY}$": pa.timestamp("us"), rf"^{_DAY}(Z|[+-](0\d|1[0-4]):[0-5]\d)$": TIME}
_NUMBER_FORMS = {f"^{_NUMBER}$": pa.float64()}


def csv_schema(fields: tuple[Field, ...], *, with_source: bool) -> pa.Schema:
    """Columns of `csv_batches`: canonical names, `defect`, and on request the texts as `source_…` and `broken_line`."""
    columns = [pa.field(field.name, _TYPES[field.kind]) for field in fields]
    columns.append(pa.field("defect", pa.string()))
    if with_source:
        columns += [pa.field(f"source_{field.name}", pa.string()) for field in fields]
        columns.append(pa.field("broken_line", pa.string()))
    return pa.schema(columns)


def csv_batches(path: str, fields: tuple[Field, ...], *, with_source: bool) -> Iterator[pa.RecordBatch]:
    """Read one file. `defect` names what a typed value does not show: broken_line or unparseable_time.

    An amount or a number that is none becomes +inf and a label that is none becomes 2, values that the checks refuse; a
    missing value stays null.

    Raises:
        pyarrow.ArrowException, OSError: the file cannot be read as CSV.
    """
    schema = csv_schema(fields, with_source=with_source)
    broken: list[str] = []

    def keep(row: pyarrow.csv.InvalidRow) -> str:
        broken.append(row.text)
        return "skip"

    names = [field.source for field in fields]
    convert = pyarrow.csv.ConvertOptions(
        include_columns=names,
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
    )
    with open_csv_text(path) as stream:
        try:
            reader = pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, use_threads=False),
                parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=keep),
                convert_options=convert,
            )
        except pa.ArrowInvalid:
            if has_rows(path):
                raise
            return  # PyArrow takes a header that no line end follows for nothing
        for batch in reader:
            yield _typed(batch, fields, schema)
    if broken:
        yield _broken(broken, schema)


def _typed(batch: pa.RecordBatch, fields: tuple[Field, ...], schema: pa.Schema) -> pa.RecordBatch:
    columns = {field.name: _PARSERS[field.kind](batch.column(field.source)) for field in fields}
    columns["defect"] = pa.nulls(batch.num_rows, pa.string())
    if "label_available_at" in columns:
        text = batch.column(next(field.source for field in fields if field.name == "label_available_at"))
        lost = pc.and_(pc.is_null(columns["label_available_at"]), pc.invert(_is_missing(text)))
        columns["defect"] = pc.if_else(lost, "unparseable_time", columns["defect"])
    if "broken_line" in schema.names:
        columns |= {f"source_{field.name}": batch.column(field.source) for field in fields}
        columns["broken_line"] = pa.nulls(batch.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _broken(lines: list[str], schema: pa.Schema) -> pa.RecordBatch:
    filled = {"defect": pa.array(["broken_line"] * len(lines)), "broken_line": pa.array(lines, pa.string())}
    columns = [filled.get(field.name, pa.nulls(len(lines), field.type)) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def times(texts: pa.StringArray) -> pa.TimestampArray:
    """ISO 8601 dates and times in UTC: `T` or a space, optional fraction and zone (none means UTC); null for others.

    Fractions are cut to microseconds. A time before 1970 is none: cards were not read by machines then, and it is what
    an unset field turns into.
    """
    found = _converted(texts, _TIME_FORMS, _time, TIME)
    return pc.if_else(pc.less(found, pa.scalar(0, pa.int64()).cast(TIME)), pa.scalar(None, TIME), found)


def numbers(texts: pa.StringArray) -> pa.DoubleArray:
    """Decimal numbers; null for missing ones and +inf for text that is no number."""
    found = _converted(texts, _NUMBER_FORMS, _number, pa.float64())
    return pc.if_else(pc.is_nan(found), pa.scalar(None, pa.float64()), found)


def labels(texts: pa.StringArray) -> pa.DoubleArray:
    """0 and 1, also written 0.0, 1.0, false, true; null for missing ones and 2 for anything else."""
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    one = pc.is_in(plain, pa.array(["1", "1.0", "true"]))
    zero = pc.is_in(plain, pa.array(["0", "0.0", "false"]))
    found = pc.case_when(pc.make_struct(one, zero), pa.scalar(1.0), pa.scalar(0.0), pa.scalar(2.0))
    return pc.if_else(_is_missing(texts), pa.scalar(None, pa.float64()), found)


def _converted(
    texts: pa.StringArray, forms: dict[str, pa.DataType], one: Callable[[str], object], kind: pa.DataType
) -> pa.Array:
    """Convert texts to `kind`, all at once where they are in one form, else form by form and the rest one by one."""
    for form in forms.values():
        try:
            return pc.cast(texts, form).cast(kind)
        except pa.ArrowInvalid:
            continue
    found = pa.nulls(len(texts), kind)
    rest = pc.is_valid(texts)
    for pattern, form in forms.items():
        fits = pc.and_(rest, pc.fill_null(pc.match_substring_regex(texts, pattern), False))
        found = pc.coalesce(found, pc.if_else(fits, texts, None).cast(form).cast(kind))
        rest = pc.and_not(rest, fits)
    values = pa.array([one(text.strip()) for text in texts.filter(rest).to_pylist()], kind)
    return pc.replace_with_mask(found, rest, values)


def _is_missing(texts: pa.StringArray) -> pa.BooleanArray:
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    return pc.or_(pc.is_null(texts), pc.is_in(plain, pa.array(sorted(MISSING))))


def _number(text: str) -> float | None:
    if text.lower().lstrip("+-") in MISSING:
        return None
    return float(text) if re.fullmatch(f"{_NUMBER}|{_INFINITY}", text, re.ASCII) else float("inf")


def _time(text: str) -> datetime | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    *numbers_, fraction, zone = match.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        moment = datetime(*(int(number or 0) for number in numbers_), micros, tzinfo=_zone(zone))  # type: ignore[misc, arg-type]
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # such as 30 February
        return None


def _zone(text: str | None) -> timezone:
    if text in {None, "Z"}:
        return UTC
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return timezone(-offset if text[0] == "-" else offset)


def _unchanged(texts: pa.StringArray) -> pa.StringArray:
    return texts


_PARSERS: dict[Kind, Callable[[pa.StringArray], pa.Array]] = {
    Kind.ID: _unchanged,
    Kind.TIME: times,
    Kind.AMOUNT: numbers,
    Kind.LABEL: labels,
    Kind.NUMBER: numbers,
    Kind.CATEGORY: _unchanged,
}
