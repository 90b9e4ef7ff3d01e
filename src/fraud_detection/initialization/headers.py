"""Files that cannot be read together or are no tables: which one is odd."""

import json
from collections import Counter
from collections.abc import Mapping

from fraud_detection.errors import DataError
from fraud_detection.shapes import column_names

_SHOWN = 12


def require_alike(headers: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a file that has other columns than most.

    A file that lacks a few columns is read: those are left out then.

    Args:
        headers: path: the names of its columns.

    Raises:
        DataError: a file lacks at least half of the columns that most files have, or two share none.
    """
    counts = Counter(name for header in headers.values() for name in set(header))
    usual = [name for name, count in counts.items() if 2 * count > len(headers)]
    for path, header in headers.items():
        if usual and 2 * len(set(usual) - set(header)) >= len(usual):
            raise DataError(_odd(path, header, f"most of the {len(headers):,} files have {_some(usual)}"))
    if not usual and len(headers) > 1:
        (first, names), (path, header) = list(headers.items())[:2]
        raise DataError(_odd(path, header, f"{first} has {_some(list(names))}"))


def holds_json(text: str) -> bool:
    """Whether a file begins with JSON: an object on its first line, or a list of them."""
    line = text.removeprefix("\ufeff").lstrip().partition("\n")[0].strip()
    if line.startswith("["):
        return line == "[" or line[1:].lstrip().startswith("{")
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _odd(path: str, header: tuple[str, ...], others: str) -> str:
    return (
        f"{path}: has other columns than the rest: found {_some(list(header)) or 'none'}; expected the same columns in"
        f" every file, and {others}; next: correct this file, or leave it out of the input"
    )


def _some(names: list[str]) -> str:
    found = column_names(names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
