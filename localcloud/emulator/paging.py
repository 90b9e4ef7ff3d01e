"""Pages and filters of List calls."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from localcloud.emulator.errors import Violation, invalid

T = TypeVar("T")

_DEFAULT_SIZE = 100
_NAME_FILTER = re.compile(r'\s*name\s*=\s*(?:"([a-z][-a-z0-9]{1,61}[a-z0-9])"|([a-z][-a-z0-9]{1,61}[a-z0-9]))\s*')


def page(items: Sequence[T], request: Any) -> tuple[list[T], str]:
    """The page that `request.page_size` and `request.page_token` ask for, and the next page's token ("" at the end)."""
    start = read_token(request.page_token)
    end = start + (request.page_size if request.page_size > 0 else _DEFAULT_SIZE)
    return list(items[start:end]), write_token(end) if end < len(items) else ""


def write_token(offset: int) -> str:
    return base64.urlsafe_b64encode(f"offset:{offset}".encode()).decode()


def read_token(token: str) -> int:
    """Raises INVALID_ARGUMENT for a token that no List call gave."""
    if not token:
        return 0
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, ValueError):
        text = ""
    match = re.fullmatch(r"offset:(\d{1,18})", text)
    if match is None:
        raise invalid([Violation("page_token", "is not a token that a List call returned")])
    return int(match[1])


def name_filter(text: str) -> str | None:
    """The name that a filter such as `name="my-cluster"` asks for; None without a filter.

    Names alone can be filtered, and only for equality, as the API documents: labels are the caller's to compare.
    """
    if not text:
        return None
    match = _NAME_FILTER.fullmatch(text)
    if match is None:
        raise invalid([Violation("filter", 'must be name="NAME", with a name of 3 to 63 characters')])
    return match[1] or match[2]
