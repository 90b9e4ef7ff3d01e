"""The text of a CSV file: decompressed, in UTF-8, from the header on."""

import codecs
import io
import re
import zlib
from itertools import islice

import pyarrow as pa

from fraud_detection import storage
from fraud_detection.errors import DataError
from fraud_detection.settings import Format
from fraud_detection.transactions import fitting

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""By the end of a file's name."""

UNREADABLE = (pa.ArrowException, OSError, UnicodeError, EOFError, zlib.error)
"""What reading a damaged or wrongly encoded file raises."""

_HEADER_BYTES = 1 << 20
_CHUNK = 1 << 20
_MOST_CHUNKS = 64
_LONGEST_SKIPPED = 16 << 20
_SEARCHED_LINES = 1000
_UTF8 = frozenset({"utf-8", "utf-8-sig"})
_LINE_END = re.compile(r"\r\n|\n|\r")


def open_csv_text(path: str, form: Format) -> pa.NativeFile | io.RawIOBase:
    """Open a CSV file as UTF-8 text that begins with the header; to be closed by the caller.

    Reading it raises UnicodeError where the file is in another encoding.
    """
    raw = _open_bytes(path)
    if codecs.lookup(form.encoding).name in _UTF8 and form.skip_lines == 0:
        return raw
    return _Recoded(raw, form)


def csv_header(path: str, form: Format) -> list[str]:
    """The column names of a CSV file, as its first line gives them.

    Raises:
        DataError: the file is empty, or is not text of its encoding.
        OSError: it cannot be read.
    """
    lines = first_lines(path, form)
    if not lines:
        raise DataError("the file is empty; expected a line with column names")
    return fitting.split(lines[0], form.separator, form.quote)


def first_lines(path: str, form: Format) -> list[str]:
    """The first lines that are not empty, from the header on, whatever they end with.

    Raises:
        DataError: the first of them is not text of its encoding.
    """
    return [line for line in all_first_lines(path, form) if line]


def all_first_lines(path: str, form: Format) -> list[str]:
    """As `first_lines`, with empty ones."""
    try:
        with open_csv_text(path, form) as stream:
            start = stream.read(_HEADER_BYTES)
    except UnicodeError as error:
        raise DataError(encoding_problem(path, form)) from error
    if start.startswith(codecs.BOM_UTF8):
        start = start[len(codecs.BOM_UTF8) :]
    ends = re.finditer(rb"([^\r\n]*)(?:\r\n|\n|\r|$)", start)
    lines = [match[1] for match in islice(ends, _SEARCHED_LINES)]
    header = next((line for line in lines if line), b"")
    if b"\0" in header:
        raise DataError(encoding_problem(path, form))
    try:
        header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(encoding_problem(path, form)) from error
    return [line.decode("utf-8", errors="replace") for line in lines]


def is_in_encoding(path: str, form: Format) -> bool:
    """Whether all of a CSV file, as far as it can be decompressed, is text of its encoding."""
    decoder = codecs.getincrementaldecoder(form.encoding)("strict")
    try:
        with _open_bytes(path) as stream:
            while chunk := bytes(stream.read(_CHUNK)):
                decoder.decode(chunk)
    except UnicodeError:
        return False
    except UNREADABLE:
        return True
    return True


def encoding_problem(path: str, form: Format) -> str:
    """That a file is not in its encoding, and which one fits."""
    content = _first_other_bytes(path)
    guess = fitting.encoding(content)
    if not guess and _is_utf8(content):
        guess = {"encoding": "utf-8"}
    advice = f"next: {fitting.as_setting(guess)}" if guess else "it may be no text at all; expected CSV"
    if guess.get("encoding") == codecs.lookup(form.encoding).name:
        advice = "the file is damaged, or of several encodings"
    name = "UTF-8" if form.encoding == Format().encoding else form.encoding
    return f"not {name} text; {advice}"


def _is_utf8(content: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _first_other_bytes(path: str) -> bytes:
    """The first part of a file that holds more than ASCII, or zero bytes."""
    with _open_bytes(path) as stream:
        for _ in range(_MOST_CHUNKS):
            chunk = bytes(stream.read(_CHUNK))
            if not chunk or not chunk.isascii() or b"\0" in chunk:
                return chunk
    return b""


def _open_bytes(path: str) -> pa.NativeFile:
    raw = storage.open_input(path)
    compression = next((kind for end, kind in COMPRESSIONS.items() if path.lower().endswith(end)), None)
    return pa.CompressedInputStream(raw, compression) if compression else raw


class _Recoded(io.RawIOBase):
    """UTF-8 text made of a stream in another encoding, without byte order mark and the lines before the header."""

    def __init__(self, raw: pa.NativeFile, form: Format) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(form.encoding)("strict")
        self._skip = form.skip_lines
        self._ready = b""
        self._ended = False
        self._started = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, all where it is negative; none at the end."""
        while not self._ended and (size < 0 or len(self._ready) < size):
            self._ready += self._next().encode("utf-8")
        end = len(self._ready) if size < 0 else size
        found, self._ready = self._ready[:end], self._ready[end:]
        return found

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()

    def _next(self) -> str:
        text = self._decoded()
        if self._started:
            return text
        self._started = True
        while self._skip > 0:
            end = _LINE_END.search(text)
            if end is not None and (end.end() < len(text) or self._ended):
                text, self._skip = text[end.end() :], self._skip - 1
            elif self._ended:
                return ""
            elif len(text) > _LONGEST_SKIPPED:
                raise pa.ArrowInvalid("the lines before the header do not end")
            else:
                text += self._decoded()
        while not text and not self._ended:
            text = self._decoded()
        return text.removeprefix("\ufeff")

    def _decoded(self) -> str:
        chunk = bytes(self._raw.read(_CHUNK))
        self._ended = not chunk
        return self._decoder.decode(chunk, final=self._ended)
