"""Files into one lazy table with canonical columns; nothing is checked yet, and nothing is read before an action.

The engine reads Parquet itself where it can. CSV, and Parquet that one of the engines cannot read (nanoseconds,
dictionaries, names with wildcards; on Sail whatever is in an object storage), is read by PyArrow inside `mapInArrow`, a
few files a task, alike on all engines.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know
from pyspark.sql import types as T  # noqa: N812

from fraud_detection import storage
from fraud_detection.errors import DataError
from fraud_detection.shapes import without_values
from fraud_detection.transactions.columns import Field, Kind, family
from fraud_detection.transactions.csv import csv_batches, csv_schema
from fraud_detection.transactions.files import first_unreadable
from fraud_detection.transactions.input_file import FileKind, InputFile, parquet_file
from fraud_detection.transactions.values import converted_type, needs_conversion, typed_batch

EngineError = (PySparkException, Py4JError)
"""What the engines raise: Sail the former, Apache Spark both."""

_PLAIN_NAME = re.compile(r"(s3a:/)?(/[A-Za-z0-9_.=+@ -]+)+")
_BATCH = 65_536
_TASKS = 64  # at most, for files that PyArrow reads: each costs an engine some milliseconds
_ENGINE_TYPES: dict[pa.DataType, T.DataType] = {
    pa.bool_(): T.BooleanType(),
    pa.int8(): T.ByteType(),
    pa.int16(): T.ShortType(),
    pa.int32(): T.IntegerType(),
    pa.int64(): T.LongType(),
    pa.uint8(): T.ShortType(),
    pa.uint16(): T.IntegerType(),
    pa.uint32(): T.LongType(),
    pa.float32(): T.FloatType(),
    pa.float64(): T.DoubleType(),
    pa.string(): T.StringType(),
    pa.large_string(): T.StringType(),
}
_SIGNED = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
}
_CANONICAL_TYPES = {
    Kind.TIME: "timestamp",
    Kind.AMOUNT: "double",
    Kind.LABEL: "tinyint",
    Kind.FLAG: "tinyint",
    Kind.NUMBER: "double",
    Kind.CATEGORY: "string",
}


def typed_rows(
    spark: SparkSession, files: tuple[InputFile, ...], fields: tuple[Field, ...], *, with_source: bool = False
) -> DataFrame:
    """All rows in canonical columns and `defect` (see `csv.csv_batches`).

    Invalid labels are encoded as 2; NaN is null, except as an amount. `with_source` adds what the files
    said, as text: `source_<name>` for each column and, for CSV, `broken_line`.
    """
    ids = id_types(files, fields)
    groups: dict[tuple[object, ...], list[InputFile]] = {}
    for file in files:
        native = file.kind is FileKind.PARQUET and _engine_reads(spark, file, fields)
        key = (file.kind, native, file.layout, *(file.types[name] for field in fields for name in field.columns))
        groups.setdefault(key, []).append(file)
    parts = [_group(spark, group, fields, with_source=with_source) for group in groups.values()]
    columns = [_canonical(field, ids).alias(field.name) for field in fields] + [F.col("defect")]
    if with_source:
        columns += [F.col(name) for name in _source_names(files, fields)]
    return union_all([part.select(*columns) for part in parts])


def union_all(parts: list[DataFrame]) -> DataFrame:
    """The rows of all parts, at least one, in their order.

    Apache Spark analyses the whole plan at each union, so a chain takes the square of the number of parts. Pairs of
    pairs keep the plan shallow.
    """
    while len(parts) > 1:
        pairs = [one.unionByName(other) for one, other in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


@contextmanager
def translate_read_errors(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterator[None]:
    """Turn an engine's failure over a file that cannot be read into a `DataError` that names the file.

    The engines do not name the file, or not in a readable message: each file is read again here to find it. A failure
    that no file explains is the engine's own and is raised unchanged.
    """
    try:
        yield
    except EngineError as error:
        problem = first_unreadable(files, lambda file: read_through(file, fields))
        if problem is None:
            raise
        raise DataError(f"a file of the input cannot be read\n  {problem}") from error


def read_through(file: InputFile, fields: tuple[Field, ...]) -> None:
    """Read a file to its end; raises what a task of an engine would raise."""
    for _ in file_batches(file, fields, with_source=False):
        pass


def _group(spark: SparkSession, files: list[InputFile], fields: tuple[Field, ...], *, with_source: bool) -> DataFrame:
    """Files of one format and one set of types: raw columns under canonical names, `defect`, and the source texts."""
    if files[0].kind is FileKind.CSV:
        return _read_by_pyarrow(spark, files, fields, with_source=with_source)
    if _engine_reads(spark, files[0], fields):
        rows = _read_by_engine(spark, files, fields)
        rows = rows if files[0].stored else rows.withColumn("defect", F.lit(None).cast("string"))
    else:
        rows = _read_by_pyarrow(spark, files, fields, with_source=with_source)
    if not with_source:
        return rows
    others = [field for field in fields if f"source_{field.name}" not in rows.columns]
    return rows.select("*", *(F.col(f"`{f.name}`").cast("string").alias(f"source_{f.name}") for f in others))


def _read_by_engine(spark: SparkSession, files: list[InputFile], fields: tuple[Field, ...]) -> DataFrame:
    types = {field.source: _engine_type(files[0].types[field.source]) for field in fields}
    defect = ["defect"] if files[0].stored else []
    read = types | dict.fromkeys(defect, T.StringType())
    schema = T.StructType([T.StructField(name, kind) for name, kind in read.items() if kind is not None])
    # Times before 1582 are rejected later; by default Spark would stop at the first one.
    reader = spark.read.option("datetimeRebaseMode", "CORRECTED").option("int96RebaseMode", "CORRECTED")
    rows = reader.schema(schema).parquet(*(file.path for file in files))
    absent = F.lit(None).cast("string")  # a column of nulls without a type
    columns = ((F.col(f"`{f.source}`") if types[f.source] else absent).alias(f.name) for f in fields)
    return rows.select(*columns, *defect)


def _read_by_pyarrow(
    spark: SparkSession, files: list[InputFile], fields: tuple[Field, ...], *, with_source: bool
) -> DataFrame:
    schema = _batch_schema(files[0], fields, with_source=with_source)
    needed = {name for field in fields for name in field.columns}
    slim = [InputFile(f.path, f.kind, f.form, {name: f.types[name] for name in needed}, stored=f.stored) for f in files]
    tasks = min(len(files), _TASKS)
    read = _reader([slim[task::tasks] for task in range(tasks)], fields, with_source=with_source)
    return spark.range(0, tasks, 1, tasks).mapInArrow(without_values(read), _engine_schema(schema))


def _reader(
    tasks: list[list[InputFile]], fields: tuple[Field, ...], *, with_source: bool
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def read(numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                for file in tasks[number]:
                    yield from file_batches(file, fields, with_source=with_source)

    return read


def file_batches(file: InputFile, fields: tuple[Field, ...], *, with_source: bool) -> Iterator[pa.RecordBatch]:
    """Read a file: raw columns under canonical names, `defect`, and on request the source texts."""
    if file.kind is FileKind.CSV:
        yield from csv_batches(file.path, fields, file.form, with_source=with_source)
        return
    schema = _batch_schema(file, fields, with_source=with_source)
    names = list(dict.fromkeys(name for field in fields for name in field.columns))
    with parquet_file(file.path) as opened:
        for batch in opened.iter_batches(_BATCH, columns=[*names, "defect"] if file.stored else names):
            yield batch.select(schema.names) if file.stored else typed_batch(batch, fields, file.form, schema)


def _batch_schema(file: InputFile, fields: tuple[Field, ...], *, with_source: bool) -> pa.Schema:
    """Canonical names and `defect`; of Parquet the source texts only where the engine cannot tell them any more."""
    if file.kind is FileKind.CSV:
        return csv_schema(fields, with_source=with_source)
    converted = {field.name for field in fields if _is_converted(file, field)}
    columns = [
        pa.field(f.name, converted_type(f.kind) if f.name in converted else _plain(file.types[f.source]))
        for f in fields
    ]
    texts = [pa.field(f"source_{field.name}", pa.string()) for field in fields if field.name in converted]
    return pa.schema([*columns, pa.field("defect", pa.string()), *(texts if with_source else [])])


def _is_converted(file: InputFile, field: Field) -> bool:
    return needs_conversion(field.kind, [file.types[name] for name in field.columns], file.form)


def _plain(source: pa.DataType) -> pa.DataType:
    """The nearest type that both engines and Arrow agree on."""
    if pa.types.is_dictionary(source):
        source = source.value_type
    if pa.types.is_timestamp(source):
        return pa.timestamp("us", "UTC")
    if pa.types.is_null(source) or pa.types.is_large_string(source) or pa.types.is_string_view(source):
        return pa.string()
    if pa.types.is_decimal256(source):
        return pa.string()
    return _SIGNED.get(source, source)


def _engine_schema(schema: pa.Schema) -> T.StructType:
    return T.StructType([T.StructField(field.name, _engine_type(field.type) or T.StringType()) for field in schema])


def _is_apache_spark(spark: object) -> bool:
    return isinstance(spark, SparkSession)  # Sail's is a session of Spark Connect, a class of its own


def _engine_reads(spark: SparkSession, file: InputFile, fields: tuple[Field, ...]) -> bool:
    """Whether the engine reads these columns of a Parquet file by itself, and rightly.

    Of objects only Apache Spark does: Sail signs with access keys and cannot show a token of Yandex Cloud.
    """
    if storage.is_object(file.path) and not _is_apache_spark(spark):
        return False
    if any(_is_converted(file, field) for field in fields):
        return False
    types = [file.types[field.source] for field in fields]
    known = all(pa.types.is_null(kind) or _engine_type(kind) is not None for kind in types)
    whole = file.constant.isdisjoint(field.source for field in fields)
    # Engines ignore the case of names.
    names = Counter(name.casefold() for name in file.types)
    alone = all(names[field.source.casefold()] == 1 for field in fields)
    return known and whole and alone and _PLAIN_NAME.fullmatch(file.path) is not None


def _engine_type(source: pa.DataType) -> T.DataType | None:
    if pa.types.is_timestamp(source) and source.unit != "ns":
        return T.TimestampNTZType() if source.tz is None else T.TimestampType()
    if pa.types.is_decimal128(source):
        return T.DecimalType(source.precision, source.scale)
    return T.DecimalType(20, 0) if source == pa.uint64() else _ENGINE_TYPES.get(source)


def id_types(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> dict[str, str]:
    """bigint or string for each id; the files were found to agree."""
    found = {}
    for field in fields:
        if field.kind is Kind.ID:
            kinds = {family(Kind.ID, file.types[field.source], file.form) for file in files} - {"any", None}
            found[field.name] = kinds.pop() if kinds else "string"
    return {name: str(kind) for name, kind in found.items()}


def _source_names(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> list[str]:
    lines = ["broken_line"] if files[0].kind is FileKind.CSV else []
    return [f"`source_{field.name}`" for field in fields] + lines


def _canonical(field: Field, ids: dict[str, str]) -> Column:
    column = F.col(f"`{field.name}`")
    if field.kind is Kind.ID:
        text = column.cast(ids[field.name])
        return F.when(F.trim(text) != "", text) if ids[field.name] == "string" else text
    if field.kind is Kind.LABEL:
        return _label(column.cast("double"))
    if field.kind is Kind.FLAG:
        return F.coalesce(_label(column.cast("double")), F.lit(0).cast("tinyint"))
    converted = column.cast(_CANONICAL_TYPES[field.kind])
    return F.when(~F.isnan(converted), converted) if field.kind is Kind.NUMBER else converted


def _label(value: Column) -> Column:
    known = value.isNotNull() & ~F.isnan(value)
    return F.when(known, F.when(value == 0, 0).when(value == 1, 1).otherwise(2)).cast("tinyint")
