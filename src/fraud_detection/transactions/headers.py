"""What is wrong with the columns of files, as their headers and footers show them, and what to set instead."""

import difflib
import re
from collections.abc import Iterable

import pyarrow as pa

from fraud_detection.settings import Format
from fraud_detection.shapes import column_names, shape
from fraud_detection.transactions import fitting
from fraud_detection.transactions.columns import CANONICAL, EXPECTED, KEY, RETIRABLE, Field, Kind, family, part_family
from fraud_detection.transactions.csv_text import all_first_lines
from fraud_detection.transactions.input_file import FileKind, InputFile, parquet_file, some
from fraud_detection.transactions.values import as_text

_SHOWN_COLUMNS = 40
_SAMPLE_ROWS = 1000
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_CLOSE = 0.8  # of 1: how alike two names are of which one is suggested for the other


def column_problems(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> list[str]:
    """All problems of the mapped columns, each in one line. Of a file without a header nothing else is said."""
    headless = _headless(files, fields)
    others = tuple(file for file in files if file.path not in headless)
    checks = (_missing, _twice, _unexpected, _disagreeing)
    return [*headless.values(), *(problem for check in checks for problem in check(others, fields))]


def advice(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> str:
    """The columns that were found, and what to do about those that were not."""
    if not files:
        return ""
    found = some(column_names(list(files[0].types)), _SHOWN_COLUMNS)
    missing = [field.name for field in fields if not {*field.columns} <= {*files[0].types}]
    needed = {*CANONICAL} - {*RETIRABLE}
    gone = [] if needed.intersection(missing) else missing  # otherwise it is another table, or the names are wrong
    unmap = (
        f"\ngone for good: unmap it in data.columns, and set data.retired_columns: [{', '.join(gone)}]" if gone else ""
    )
    without_id = "\nwithout a transaction id: data.columns.transaction_id: null" if missing == [KEY] else ""
    return f"\ncolumns found: {found}\ncorrect the files, or the names in the settings file{unmap}{without_id}"


def _headless(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> dict[str, str]:
    """By path, why a CSV file has not one of the mapped columns, where its first lines show it."""
    wanted = {name for field in fields for name in field.columns}
    without = [file for file in files if file.kind is FileKind.CSV and wanted.isdisjoint(file.types)]
    found = {file.path: _why_headless(file, wanted) for file in without}
    return {path: f"{path}: {why}" for path, why in found.items() if why is not None}


def _why_headless(file: InputFile, wanted: set[str]) -> str | None:
    form = file.form
    lines = all_first_lines(file.path, form)
    first = next(line for line in lines if line)
    guess = fitting.header(lines, wanted, form)
    if guess is None and len(file.types) == 1:
        separated = next(iter(fitting.separators(lines[:_SAMPLE_ROWS])), None)
        mark = None if separated is None else separated.get("separator", ",")
        guess = None if mark in {None, form.separator} else {"separator": mark}
    if guess:
        return f"{_layout(guess, first, form)}; next: {fitting.as_setting(guess)}"
    values = guess is None and _holds_values(file.types)
    return "the first line holds values; expected column names" if values else None


def _layout(guess: fitting.Guess, first: str, form: Format) -> str:
    parts = []
    if "skip_lines" in guess:
        before = int(str(guess["skip_lines"])) - form.skip_lines
        parts.append(
            f"the line with the column names comes after {before} other line(s), the first like {shape(first)};"
            " expected it first"
        )
    if "separator" in guess:
        found, expected = _named_mark(str(guess["separator"])), _named_mark(form.separator)
        parts.append(f"the fields are separated by {found}; expected {expected}")
    if "quote" in guess:
        parts.append(f"the names stand between {guess['quote']} and {guess['quote']}")
    return "; ".join(parts)


def _named_mark(separator: str) -> str:
    return _SEPARATORS.get(separator, repr(separator))


def _holds_values(names: Iterable[str]) -> bool:
    """Whether some names of a header are numbers or times: the values of a first row."""
    return any(re.fullmatch(r"[-+]?[\d.,:T -]*\d[\d.,:TZ -]*", name.strip()) for name in names)


def _missing(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    for field in fields:
        for name in field.columns:
            without = [file for file in files if name not in file.types]
            if without:
                alike = _alike(name, list(without[0].types))
                found = f"; did you mean {alike}?" if alike else ""
                yield f"missing column: {_named(field, name)}{found}{_where(without, files)}"


def _alike(name: str, names: list[str]) -> str | None:
    """The name that was probably meant; None where the names look like data."""
    if column_names(names) != names:
        return None
    plain = {_plain(other): other for other in reversed(names)}
    near = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_CLOSE)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _twice(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    for field in fields:
        for name in field.columns:
            having = [file for file in files if name in file.repeated]
            if having:
                yield f"column named twice: {_named(field, name)}{_where(having, files)}"


def _unexpected(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    for field in fields:
        for name in field.columns:
            wrong = [file for file in files if name in file.types and _family(file, field, name) is None]
            if wrong:
                expected = "text, date or integer" if field.parts else EXPECTED[field.kind]
                found = f"found {wrong[0].types[name]}, expected {expected}{_fitting_unit(wrong[0], field)}"
                yield f"unexpected type: {_named(field, name)} {found}{_where(wrong, files)}"


def _fitting_unit(file: InputFile, field: Field) -> str:
    """The unit that a column of numbers seems to count times in."""
    if field.kind is not Kind.TIME or field.parts or not _counts(file.types[field.source]):
        return ""
    with parquet_file(file.path) as opened:
        batch = next(opened.iter_batches(_SAMPLE_ROWS, columns=[field.source]), None)
    texts = [] if batch is None else as_text(batch.column(0)).drop_null().to_pylist()
    guess = next(iter(fitting.times(texts)), None)
    return f"; next: {fitting.as_setting(guess)}" if guess else ""


def _counts(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _disagreeing(files: tuple[InputFile, ...], fields: tuple[Field, ...]) -> Iterable[str]:
    """Only ids can disagree: an id that is text here and a number there would not be the same id."""
    for field in fields:
        if field.kind is not Kind.ID:
            continue
        name = field.source
        having = [file for file in files if name in file.types and _family(file, field, name) not in {None, "any"}]
        other = [file for file in having if _family(file, field, name) != _family(having[0], field, name)]
        if other:
            pair = (f"{file.types[name]} in {file.path}" for file in (having[0], other[0]))
            yield f"files disagree on the type of {_named(field, name)}: {', '.join(pair)}"


def _family(file: InputFile, field: Field, name: str) -> str | None:
    if file.kind is FileKind.CSV:
        return "string"
    return part_family(file.types[name]) if field.parts else family(field.kind, file.types[name], file.form)


def _named(field: Field, name: str) -> str:
    return name if name == field.name else f"{name} ({field.name})"


def _where(some_files: list[InputFile], files: tuple[InputFile, ...]) -> str:
    return f", in {len(some_files)} of {len(files)} files, such as {some_files[0].path}" if len(files) > 1 else ""
