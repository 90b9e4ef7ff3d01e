"""What may be said of a value outside the quarantine: its masked shape, such as `9999-99-99` or `$999.99`.

Messages, reports, decisions and MLflow are read by more people than the data is. A shape says what is wrong with a
value (a decimal comma, a day before the month, a currency sign) and does not say the value. The rule is in
`docs/security.md`.
"""

import re
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fraud_detection.errors import FraudDetectionError
from fraud_detection.masking import mask

LONGEST = 32
"""Characters of a shape: a time with fraction and zone fits, a free text does not."""

CLASSES = (
    (r"\p{Nd}", "9"),
    (r"[\p{Lu}\p{Lt}]", "A"),
    (r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", "a"),
    (r"[^ -~\p{Sc}]", "?"),
)
"""What characters become, as regular expressions of both engines; those that match none stay as they are."""

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")

_LONGEST_NAME = 100
_LONGEST_CAUSE = 500
# A number, a date, a time or a long row of digits: no column is called so, but a row of a file without a header is.
_DATA = re.compile(r"\s*[+-]?\d+([.,]\d*)?\s*|.*(\d[.,:/-]\d|\d{5}).*", re.DOTALL)
# An apostrophe within a word (couldn't, O'Brien) quotes nothing; a quote without an end reaches to the end of the text.
_QUOTED = re.compile(r"""(?<!\w)(['"`])(.*?)(?:\1(?!\w)|$)""")
_CSV_ROW = re.compile(r"(columns, got \d+: ).*")
_FILE = re.compile(r"\S+\.(parquet|pq|csv|tsv|txt|gz|bz2|zst|jar|py)\W*")


def shape(text: str) -> str:
    """The text with every digit as 9 and every letter as A or a, cut after `LONGEST` characters."""
    masked = "".join(map(_masked, text[:LONGEST]))
    return f"{masked}…" if len(text) > LONGEST else masked


def column_names(names: list[str]) -> list[str]:
    """The names, or their shapes where some look like data: then a file has no header, and this is its first row."""
    if any(_DATA.fullmatch(name) for name in names):
        return [shape(name) for name in names]
    return [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in names]


def library_text(text: str) -> str:
    """What a library says went wrong, in one line, without the values that it quotes: they may be of the data.

    Masked are what stands in quotes, words with three digits or more, and the row that a CSV parser repeats; names of
    files stay.
    """
    line = _CSV_ROW.sub(r"\1…", " ".join(mask(text).split()))  # masked first, while addresses are whole
    line = _QUOTED.sub(
        lambda quoted: quoted[0] if _FILE.fullmatch(quoted[0]) else f"{quoted[1]}{shape(quoted[2])}{quoted[1]}", line
    )
    return " ".join(map(_without_digits, line.split(" ")))[:_LONGEST_CAUSE]


def one_line(text: str) -> str:
    """The text with white space and control characters collapsed, so that it cannot begin a line of its own."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def stack_trace(error: BaseException) -> str:
    """The stack trace of a defect, with what its exceptions say as by `library_text`."""
    traces = [
        "Traceback (most recent call last):\n"
        f"{''.join(traceback.format_tb(one.__traceback__))}{type(one).__qualname__}: {library_text(str(one))}\n"
        for one in _chain(error)
    ]
    return "\nand then:\n\n".join(reversed(traces))


def without_values(work: Callable[[_Given], Iterable[_Made]]) -> Callable[[_Given], Iterator[_Made]]:
    """Work for an engine's workers whose failures say as little of the data as `stack_trace`: engines log them."""

    def guarded(given: _Given) -> Iterator[_Made]:
        try:
            yield from work(given)
        except FraudDetectionError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, an engine would write it down in full)
            raise RuntimeError(stack_trace(error)) from None

    return guarded


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, what it came from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _masked(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Nd":
        return "9"
    if kind in {"Lu", "Lt"}:
        return "A"
    if kind[0] in "LM":
        return "a"
    return character if " " <= character <= "~" or kind == "Sc" else "?"


def _without_digits(word: str) -> str:
    if sum(character.isdigit() for character in word) < 3 or _FILE.fullmatch(word):
        return word
    return re.sub(r"\d", "9", word)
