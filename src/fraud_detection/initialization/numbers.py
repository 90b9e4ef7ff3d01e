"""Numbers in text: which marks and currency fit, and the values that they give."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraud_detection.initialization.odd_cells import most_odd
from fraud_detection.settings import Format
from fraud_detection.transactions import fitting
from fraud_detection.transactions.numbers import MISSING, read_numbers

Floats = NDArray[np.float64]

_MOST_PATTERNS = 5_000


@dataclass(frozen=True)
class NumberForm:
    """How a column writes its numbers; the names are those of `settings.Format`."""

    decimal_mark: str = "."
    thousands_mark: str | None = None
    currency: tuple[str, ...] = ()


PLAIN = NumberForm()


def find_number_form(counts: Mapping[str, int], *, letters: bool = False) -> NumberForm | None:
    """The plainest form that nearly all texts have; None where too many are no numbers.

    Args:
        counts: how often each text of a column occurs.
        letters: whether words beside the numbers, such as EUR, are a currency; signs, such as $, always are.
    """
    patterns: Counter[str] = Counter()
    for text, count in counts.items():
        patterns[re.sub(r"\d", "1", text.strip())] += count  # what a digit is does not matter
    if not patterns or len(patterns) > _MOST_PATTERNS:
        return None
    guess = _first_guess(patterns)
    if guess is None:
        return None
    found = Format.model_validate(guess)
    form = NumberForm(found.decimal_mark, found.thousands_mark, found.currency)
    is_word = any(word.isalpha() and word.isascii() for word in form.currency)
    return None if is_word and not letters else form


def to_numbers(texts: pa.Array, form: NumberForm) -> Floats:
    """The values, (n,); NaN where a text is missing, +inf where it is no number."""
    settings = Format(decimal_mark=form.decimal_mark, thousands_mark=form.thousands_mark, currency=form.currency)
    found: Floats = read_numbers(texts, settings).to_numpy(zero_copy_only=False)
    return found


def is_plain_missing(text: str) -> bool:
    """Whether a text means that there is no value."""
    return text.strip().lower() in MISSING


def _first_guess(patterns: Counter[str]) -> fitting.Guess | None:
    """The first guess that reads all patterns; or, without the rare ones, nearly all."""
    guesses = fitting.amounts(patterns)
    if guesses:
        return guesses[0]
    total = patterns.total()
    usual, seen = [], 0
    for pattern, count in patterns.most_common():
        if seen >= total - most_odd(total):
            break
        usual.append(pattern)
        seen += count
    guesses = fitting.amounts(usual)
    return guesses[0] if guesses else None
