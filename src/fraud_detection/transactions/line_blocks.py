"""CSV text in blocks of whole lines, none of which is too long, and the rows of such blocks.

PyArrow's streaming reader fails over a line longer than its block without a word about where, and crashes the process
over a line of millions of fields. It also reads ahead in threads of its own; if the stream is one of Python's and the
process ends before such a read, it aborts. So blocks are read here, and PyArrow parses them in memory.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import pyarrow as pa
import pyarrow.csv

from fraud_detection.errors import DataError

LONGEST_LINE = 1 << 20
"""In bytes; no row of a table of payments is nearly as long."""

_BLOCK = 4 << 20
_CHUNK = 1 << 20
_LINE = re.compile(rb"[^\r\n]+")
_LINE_END = re.compile(rb"\r\n|\n|\r|$")


class Text(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; none at the end."""


OpenText = Callable[[], AbstractContextManager[Text]]


def line_blocks(open_text: OpenText, lines_before: int = 0) -> Iterator[bytes]:
    """A text in blocks of whole lines.

    Args:
        open_text: opens the text from its beginning, again to find the number of a long line.
        lines_before: lines of the file before the text.

    Raises:
        DataError: a line is longer than `LONGEST_LINE`.
    """
    passed, rest = 0, b""
    with open_text() as text:
        while chunk := bytes(text.read(_BLOCK) or b""):
            start = -len(rest)  # of the line that has not ended yet
            while len(chunk) - start > LONGEST_LINE:  # the last line end of each part will do: few bytes are looked at
                end = _last_line_end(chunk, max(start, 0), start + LONGEST_LINE + 1)
                if end < 0:
                    raise DataError(_problem(open_text, lines_before, passed + start))
                start = end + 1
            cut = max(start, _last_line_end(chunk, max(start, 0), len(chunk)) + 1, 0)
            passed += len(chunk)
            if cut:
                yield b"".join((rest, memoryview(chunk)[:cut]))
                rest = b""
            rest += chunk[cut:]
    if rest:
        yield rest


def parsed(
    blocks: Iterable[bytes], parse: pyarrow.csv.ParseOptions, convert: pyarrow.csv.ConvertOptions
) -> Iterator[pa.RecordBatch]:
    """The rows of blocks whose first line has the names of the columns.

    Raises:
        pyarrow.ArrowException: a block is not UTF-8, or a quote takes the lines that follow for its value to the end.
    """
    names: list[str] | None = None
    for block in blocks:
        if names is None:
            block = block.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
            end = _LINE_END.search(block)
            if not block or end is None:
                continue
            header = pa.BufferReader(block[: end.start()] + b"\n")
            names = pyarrow.csv.read_csv(header, parse_options=parse).column_names
            block = block[end.end() :]
        if _LINE.search(block):
            yield from _rows(block, names, parse, convert)


def _rows(
    block: bytes, names: list[str], parse: pyarrow.csv.ParseOptions, convert: pyarrow.csv.ConvertOptions
) -> list[pa.RecordBatch]:
    broken = 0

    def counted(row: pyarrow.csv.InvalidRow) -> str:
        nonlocal broken
        broken += 1
        return str(parse.invalid_row_handler(row))

    options = pyarrow.csv.ParseOptions(
        delimiter=parse.delimiter, quote_char=parse.quote_char, invalid_row_handler=counted
    )
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names)
    table = pyarrow.csv.read_csv(pa.BufferReader(block), read, options, convert)
    quote = parse.quote_char.encode() if parse.quote_char else b""
    some_quote_is_open = quote and quote in block and block.count(quote) % 2
    if some_quote_is_open and table.num_rows + broken < len(_LINE.findall(block)):
        raise pa.ArrowInvalid("a quote is not closed on its line, and takes the lines that follow for its value")
    return list(table.to_batches())


def _problem(open_text: OpenText, lines_before: int, offset: int) -> str:
    with open_text() as text:
        number = 1 + lines_before + _line_ends(text, offset)
    return f"line {number:,} is longer than {LONGEST_LINE:,} bytes; expected one row of a table"


def _last_line_end(text: bytes, start: int, end: int) -> int:
    found = text.rfind(b"\n", start, end)
    return found if found >= 0 else text.rfind(b"\r", start, end)


def _line_ends(text: Text, size: int) -> int:
    """How many line ends the first `size` bytes have; a file has one kind of them."""
    feeds = returns = 0
    while size > 0 and (chunk := text.read(min(size, _CHUNK))):
        size -= len(chunk)
        feeds, returns = feeds + chunk.count(b"\n"), returns + chunk.count(b"\r")
    return max(feeds, returns)
