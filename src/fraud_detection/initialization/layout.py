"""How a CSV file is written: its encoding, its separator, its quote, and the lines before its header.

Each form is tried on the first lines; the one in which the lines have the most fields, and equally many, fits.
"""

import codecs
import re
from collections import Counter
from dataclasses import dataclass

from fraud_detection.transactions import fitting

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


def find_layout(start: bytes, encoding: str) -> Layout:
    """The form of a CSV file whose first bytes these are."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start).removeprefix("\ufeff")
    lines = re.split(r"\r\n|\r|\n", text)[: _LINES + _MOST_SKIPPED]
    lines = lines[:-1] if len(lines) > 2 else lines  # the last one may be cut
    tried = [
        found
        for quote in fitting.QUOTES
        for separator in fitting.USUAL_SEPARATORS
        if (found := _try(lines, separator, quote, encoding)) is not None and _quotes(lines, found[2])
    ]
    if not tried:
        return _one_column(lines, encoding)
    return max(tried, key=lambda found: (found[2].has_header, found[0], found[1]))[2]


def _try(lines: list[str], separator: str, quote: str, encoding: str) -> tuple[int, float, Layout] | None:
    """Fields of a line, share of lines that have as many, and the layout; None where it does not fit."""
    rows = [fitting.split(line, separator, quote) for line in lines]
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


def _quotes(lines: list[str], layout: Layout) -> bool:
    """Whether the quote of a layout is one: an apostrophe that does not stand around a field is a letter."""
    if layout.quote in {None, '"'}:
        return True
    mark, separator = layout.quote, re.escape(layout.separator)
    edge = f"(^|{separator}){mark}[^{mark}]*{mark}({separator}|$)"
    return any(re.search(edge, line) for line in lines)


def _one_column(lines: list[str], encoding: str) -> Layout:
    name = next((line for line in lines if line.strip()), "")
    return Layout(encoding, columns=(name,) if name else (), has_header=not _holds_values((name,)))


def _holds_values(names: tuple[str, ...]) -> bool:
    return any(_VALUE.fullmatch(name.strip()) for name in names)
