"""How a CSV file is written: its encoding, its separator, its quote, and the lines before its header.

Each form is tried on the first lines; the one in which the lines have the most fields, and equally many, fits.
"""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; that of UTF-32 begins with that of UTF-16."""
SEPARATORS = (",", ";", "\t", "|", "^", "~", "\x01")
_QUOTES = ('"', "'")
_MOST_SKIPPED = 50
_LEAST_ALIKE = 0.95
_LINES = 400
_VALUE = re.compile(r"[-+]?[\d.,:T -]*\d[\d.,:TZ -]*")


@dataclass(frozen=True)
class Layout:
    """The form of a CSV file; as `settings.Format`."""

    encoding: str = "utf-8"
    separator: str = ","
    quote: str | None = '"'
    skip_lines: int = 0
    columns: tuple[str, ...] = ()
    """The names in its header."""
    has_header: bool = True
    """False where the first line holds values."""


def find_encoding(blocks: Iterable[bytes]) -> str:
    """The encoding of a text, by its byte order mark, by zero bytes, as UTF-8, or by where its letters lie.

    Args:
        blocks: the text, all of it where a late letter is to be seen.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    first = True
    for block in blocks:
        if first and (marked := _marked(block)) is not None:
            return marked
        first = False
        try:
            decoder.decode(block)
        except UnicodeDecodeError:
            return _single_byte(block)
    return "utf-8"


def find_layout(start: bytes, encoding: str) -> Layout:
    """The form of a CSV file whose first bytes these are."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start).removeprefix("\ufeff")
    lines = re.split(r"\r\n|\r|\n", text)[: _LINES + _MOST_SKIPPED]
    lines = lines[:-1] if len(lines) > 2 else lines  # the last one may be cut
    tried = [
        found
        for quote in _QUOTES
        for separator in SEPARATORS
        if (found := _try(lines, separator, quote, encoding)) is not None and _quotes(lines, found[2])
    ]
    if not tried:
        return _one_column(lines, encoding)
    return max(tried, key=lambda found: (found[2].has_header, found[0], found[1]))[2]


def _marked(block: bytes) -> str | None:
    for mark, name in _MARKS:
        if block.startswith(mark):
            return name
    head = block[:4096]
    if b"\0" not in head:
        return None
    return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"


def _single_byte(block: bytes) -> str:
    """Cyrillic words are whole runs of high bytes; of Western ones only single letters are."""
    high = re.findall(rb"[\x80-\xff]+", block)
    total = sum(map(len, high))
    if sum(len(run) for run in high if len(run) > 2) > total / 2:
        letters = b"".join(high)
        capitals = sum(0xC0 <= byte <= 0xDF for byte in letters)
        return "koi8-r" if capitals > len(letters) - capitals else "cp1251"
    if any(0x80 <= byte <= 0x9F for byte in b"".join(high)):
        try:
            block.decode("cp1252")
        except UnicodeDecodeError:
            return "latin-1"
        return "cp1252"
    return "latin-1"


def _try(lines: list[str], separator: str, quote: str, encoding: str) -> tuple[int, float, Layout] | None:
    """Fields of a line, share of lines that have as many, and the layout; None where it does not fit."""
    rows = [_fields(line, separator, quote) for line in lines]
    filled = [len(row) for row, line in zip(rows, lines, strict=True) if line.strip()]
    if not filled:
        return None
    width = Counter(filled[len(filled) // 4 :]).most_common(1)[0][0]  # the first lines may be a title
    header = next((place for place, row in enumerate(rows) if len(row) == width), None)
    if width < 2 or header is None or header > _MOST_SKIPPED:
        return None
    below = [len(row) for row, line in zip(rows[header:], lines[header:], strict=True) if line.strip()]
    alike = sum(found == width for found in below) / len(below)
    if alike < _LEAST_ALIKE:
        return None
    names = tuple(rows[header])
    layout = Layout(encoding, separator, quote, header, names, not _holds_values(names))
    return width, alike, layout


def _fields(line: str, separator: str, quote: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, quotechar=quote), [])
    except csv.Error:
        return []


def _quotes(lines: list[str], layout: Layout) -> bool:
    """Whether the quote of a layout is one: an apostrophe that does not stand around a field is a letter."""
    if layout.quote == '"':
        return True
    edge = f"(^|{re.escape(layout.separator)})'[^']*'({re.escape(layout.separator)}|$)"
    return any(re.search(edge, line) for line in lines)


def _one_column(lines: list[str], encoding: str) -> Layout:
    name = next((line for line in lines if line.strip()), "")
    return Layout(encoding, columns=(name,) if name else (), has_header=not _holds_values((name,)))


def _holds_values(names: tuple[str, ...]) -> bool:
    return any(_VALUE.fullmatch(name.strip()) for name in names)
