"""Addresses as people may see them: without user and password.

Standard library alone, and no parser of addresses: a password with `#`, `/`, `?` or `@` in it leads every parser to
cut the address at the wrong place. So everything from `://` to the last `@` of the line is hidden, however it reads.
"""

import re

MASK = "***"

# Not hidden: a path that begins right after the slashes, and a bucket's key, which may hold an @ of its own.
_NO_USER = r"(?:file|sqlite):///|s3a?://[a-z0-9][a-z0-9.-]*(?:[/\s'\"]|$)"
# What was hidden before stays as it is; a text may be put together of several that were masked.
_USERINFO = re.compile(
    rf"(?<![A-Za-z0-9+.-])(?!{_NO_USER})([A-Za-z][A-Za-z0-9+.-]*://)(?:\*\*\*@|(?:(?!://\*\*\*@)[^\n])*@)",
    re.MULTILINE,
)
_QUERY = re.compile(r"([?&;][\w.-]*(?:passw|pwd|secret|token|key)[\w.-]*=)[^\s&]+", re.IGNORECASE)


def mask(text: str) -> str:
    """The text with `***` in place of every user and password in an address, and of every secret in a query."""
    return _QUERY.sub(rf"\1{MASK}", _USERINFO.sub(rf"\1{MASK}@", text))
