"""A limit for the length of a CSV line.

PyArrow's reader fails over a line longer than its block without a word about where, and crashes the process over a line
of millions of fields. So what it reads is looked at before.
"""

import io
from collections.abc import Callable

import pyarrow as pa

from fraud_detection.errors import DataError

LONGEST_LINE = 1 << 20
"""In bytes; no row of a table of payments is nearly as long."""

_CHUNK = 1 << 20


def without_long_lines(open_text: Callable[[], pa.NativeFile], lines_before: int = 0) -> pa.NativeFile:
    """A stream that raises `DataError`, with the number of the line, where a line is longer than `LONGEST_LINE`.

    Args:
        open_text: opens the text from its beginning, again to find the number.
        lines_before: lines of the file before the text.
    """
    return pa.PythonFile(_Guarded(open_text, lines_before), mode="r")


class _Guarded(io.RawIOBase):
    """Passes on what it reads, and looks for the last line end within each `LONGEST_LINE` bytes: few bytes are read."""

    def __init__(self, open_text: Callable[[], pa.NativeFile], lines_before: int) -> None:
        self._open_text = open_text
        self._lines_before = lines_before
        self._raw = open_text()
        self._passed = 0
        self._open_line = 0
        """Bytes of the line that has not ended yet."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, all where it is negative; none at the end."""
        found: bytes = self._raw.read() if size < 0 else self._raw.read(size)
        start = -self._open_line
        while len(found) - start > LONGEST_LINE:
            end = _last_line_end(found, max(start, 0), start + LONGEST_LINE + 1)
            if end < 0:
                raise DataError(self._problem(self._passed + start))
            start = end + 1
        self._passed += len(found)
        self._open_line = len(found) - start
        return found

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()

    def _problem(self, offset: int) -> str:
        with self._open_text() as text:
            number = 1 + self._lines_before + _line_ends(text, offset)
        return f"line {number:,} is longer than {LONGEST_LINE:,} bytes; expected one row of a table"


def _last_line_end(text: bytes, start: int, end: int) -> int:
    found = text.rfind(b"\n", start, end)
    return found if found >= 0 else text.rfind(b"\r", start, end)


def _line_ends(text: pa.NativeFile, size: int) -> int:
    """How many line ends the first `size` bytes have; a file has one kind of them."""
    feeds = returns = 0
    while size > 0 and (chunk := text.read(min(size, _CHUNK))):
        size -= len(chunk)
        feeds, returns = feeds + chunk.count(b"\n"), returns + chunk.count(b"\r")
    return max(feeds, returns)
