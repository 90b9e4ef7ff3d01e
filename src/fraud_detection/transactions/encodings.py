"""The encoding of a text by its bytes: a byte order mark, zero bytes, valid UTF-8, or where its letters lie."""

import codecs
import re
from collections.abc import Iterable

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; that of UTF-16 begins that of UTF-32."""
_CONTROLS = [code for code in range(1, 32) if code not in b"\t\n\r\f\x01\x1b\x1f"]  # Hive separates fields by \x01
_WORD_LENGTH = 2.5  # letters that stand together on average
_HEAD = 4096


def find_encoding(blocks: Iterable[bytes]) -> str:
    """The encoding of a text.

    Args:
        blocks: the text, all of it where a late letter is to be seen.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    for place, block in enumerate(blocks):
        if place == 0 and (found := _marked(block) or _by_zeros(block[:_HEAD])) is not None:
            return found
        try:
            decoder.decode(block)
        except UnicodeDecodeError:
            return _one_byte(block)
    return "utf-8"


def is_binary(content: bytes) -> bool:
    """Whether some bytes are no text in any encoding, by their control characters."""
    return _marked(content) is None and sum(map(content.count, _CONTROLS)) > len(content) // 50


def _marked(content: bytes) -> str | None:
    return next((name for mark, name in _MARKS if content.startswith(mark)), None)


def _by_zeros(content: bytes) -> str | None:
    even, odd = content[0::2].count(0), content[1::2].count(0)
    if even + odd <= len(content) // 5:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _one_byte(content: bytes) -> str:
    """Of the encodings of one byte a character; letters of Cyrillic stand together, accented ones alone."""
    runs = re.findall(rb"[\x80-\xff]+", content)
    letters = b"".join(runs)
    if len(letters) >= _WORD_LENGTH * len(runs):
        capitals = sum(0xC0 <= byte <= 0xDF for byte in letters)
        return "koi8-r" if capitals > len(letters) - capitals else "cp1251"
    if not re.search(rb"[\x80-\x9f]", letters):
        return "latin-1"
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"
