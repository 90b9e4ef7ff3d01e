"""Pages and filters of List calls."""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from emulator.errors import Violation
from emulator.store import Record

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_DEFAULT_SIZE = 100
_NAME_FILTER = re.compile(r'\s*name\s*=\s*(?:"([a-z][-a-z0-9]{1,61}[a-z0-9])"|([a-z][-a-z0-9]{1,61}[a-z0-9]))\s*')


def page(items: Sequence[T], request: Any) -> tuple[list[T], str]:
    """The page that `request.page_size` and `request.page_token` ask for, and the next page's token ("" at the end)."""
    start = read_token(request.page_token)
    end = start + (request.page_size if request.page_size > 0 else _DEFAULT_SIZE)
    return list(items[start:end]), write_token(end) if end < len(items) else ""


def page_of_messages(records: Sequence[Record], request: Any, type_: type[M]) -> tuple[list[M], str]:
    """The page's messages, and the next page's token."""
    shown, token = page(records, request)
    return [record.message(type_) for record in shown], token


def write_token(offset: int) -> str:
    return base64.urlsafe_b64encode(f"offset:{offset}".encode()).decode()


def check_page(request: Any) -> Iterator[Violation]:
    """A violation if a request holds a page token that no List call gave."""
    if (token := getattr(request, "page_token", "")) and _offset(token) is None:
        yield Violation("page_token", "is not a token that a List call returned")


def check_filter(request: Any) -> Iterator[Violation]:
    """A violation if the filter of a List call is invalid."""
    if request.filter and _NAME_FILTER.fullmatch(request.filter) is None:
        yield Violation("filter", 'must be name="NAME", with a name of 3 to 63 characters')


def read_token(token: str) -> int:
    """The offset that a checked token stands for."""
    return _offset(token) or 0


def _offset(token: str) -> int | None:
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, ValueError):
        text = ""
    match = re.fullmatch(r"offset:(\d{1,18})", text)
    return int(match[1]) if match else None


def name_filter(text: str) -> str | None:
    """The name that a checked filter such as `name="my-cluster"` asks for; None without a filter.

    Names alone can be filtered, and only for equality, as the API documents: the caller compares labels.
    """
    match = _NAME_FILTER.fullmatch(text)
    return (match[1] or match[2]) if match else None
