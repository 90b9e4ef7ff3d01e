"""What a path or a URL means, without opening it: see `storage` for what is read and written there.

It imports no storage, so that a wrong path is answered before anything large is imported.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from fraud_detection.errors import SettingsError

_OBJECT_SCHEMES = ("s3a://", "s3://")


def is_object(url: str) -> bool:
    """Whether a URL means an object or a folder in an object storage."""
    return url.startswith(_OBJECT_SCHEMES)


def local_path(url: str) -> Path:
    """The path on this machine that a path or a file:// URL means.

    Raises:
        SettingsError: the URL is of another kind.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url)
    host, slash, path = rest.partition("/")
    if scheme != "file" or host not in {"", "localhost"}:
        expected = "expected a path on this machine, a file:/// URL or s3a://BUCKET/FOLDER"
        shown = scheme if scheme.isalnum() else "…"  # something else may be a password
        raise SettingsError(f"{shown}://… cannot be opened; {expected}")
    return Path(unquote(f"{slash}{re.split('[?#]', path)[0]}"))
