"""Manifests as compressed text."""

import gzip
import zlib


def compressed(text: bytes) -> bytes:
    """Equal bytes for equal texts."""
    return gzip.compress(text, compresslevel=6, mtime=0)


def decompressed(content: bytes) -> bytes:
    """The text that was compressed; raises ValueError where the content is damaged."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"it cannot be decompressed: {error}") from error
