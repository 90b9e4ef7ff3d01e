"""What the values of one column are: numbers, times or texts, how many differ, how many are missing."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_detection.initialization import times
from fraud_detection.initialization.numbers import (
    PLAIN,
    Floats,
    NumberForm,
    find_number_form,
    is_plain_missing,
    to_numbers,
)

_SAMPLE = 4_000
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[a-zA-Z]{2,}")
_CARD_NUMBER = re.compile(r"\d{13,19}")
_LEAST_SHARE = 0.9


@dataclass(frozen=True)
class Column:
    """One column of the input."""

    name: str
    values: pa.Array

    @property
    def is_text(self) -> bool:
        """Whether its values are texts, as all of a CSV file are."""
        kind = self.values.type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))

    @property
    def is_integer(self) -> bool:
        """Whether its values are whole numbers, written as such."""
        if not self.is_text:
            return bool(pa.types.is_integer(self.values.type))
        return self.number_form is not None and all(re.fullmatch(r"[+-]?\d+", text.strip()) for text in self.sample)

    @property
    def is_dated(self) -> bool:
        """Whether its type is that of times."""
        return bool(pa.types.is_timestamp(self.values.type) or pa.types.is_date(self.values.type))

    @cached_property
    def texts(self) -> pa.Array:
        """Its values as text."""
        return self.values if self.values.type == pa.string() else self.values.cast(pa.string())

    @cached_property
    def filled(self) -> NDArray[np.bool_]:
        """Which rows have a value, (n,)."""
        if self.is_text:
            return self.codes >= 0
        present = pc.is_valid(self.values)
        if pa.types.is_floating(self.values.type):
            present = pc.and_(present, pc.invert(pc.fill_null(pc.is_nan(self.values), True)))
        found: NDArray[np.bool_] = present.to_numpy(zero_copy_only=False)
        return found

    @cached_property
    def encoded(self) -> tuple[list[str], NDArray[np.int64]]:
        """The distinct texts, and the place of each row's text among them, (n,); -1 where it is missing."""
        coded = pc.utf8_trim_whitespace(self.texts).dictionary_encode()
        words = coded.dictionary.to_pylist()
        codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        gone = np.array([is_plain_missing(word) for word in words] + [True])  # the last stands for null
        codes = np.where(gone[codes], -1, codes)
        return words, codes

    @property
    def codes(self) -> NDArray[np.int64]:
        """A number for each distinct text, (n,); -1 where it is missing."""
        return self.encoded[1]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How often each distinct text occurs, in the order of their first row."""
        words, codes = self.encoded
        found = np.bincount(codes[codes >= 0], minlength=len(words))
        return {word: int(count) for word, count in zip(words, found, strict=True) if count}

    @property
    def distinct(self) -> int:
        """How many texts differ, without missing ones."""
        return len(self.counts)

    @cached_property
    def sample(self) -> list[str]:
        """Some of the texts that are there, in the order of the rows, evenly spread."""
        there = np.flatnonzero(self.filled)
        chosen = there[:: max(1, len(there) // _SAMPLE)]
        return [str(text) for text in self.texts.take(pa.array(chosen)).to_pylist()]

    @cached_property
    def number_form(self) -> NumberForm | None:
        """How it writes numbers; None where it holds none."""
        if not self.is_text:
            return None if self.is_dated else PLAIN
        return find_number_form(self.counts)

    @cached_property
    def numbers(self) -> Floats | None:
        """Its numbers, NaN where missing and +inf where one is none; None where the column holds no numbers."""
        if self.number_form is None:
            return None
        if not self.is_text:
            return np.asarray(self.values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
        return to_numbers(self.texts, self.number_form)

    @cached_property
    def amount_form(self) -> NumberForm | None:
        """The same where it may be an amount: with the letters of a currency, which elsewhere are those of an id."""
        return find_number_form(self.counts, letters=True) if self.is_text else self.number_form

    @cached_property
    def amounts(self) -> Floats | None:
        """Its numbers, read as amounts."""
        if self.amount_form is None or not self.is_text:
            return self.numbers
        return to_numbers(self.texts, self.amount_form)

    @cached_property
    def time_form(self) -> times.TimeForm | None:
        """How it writes times; None where it holds none. A column of plain numbers has none."""
        if self.is_dated:
            return times.TimeForm()
        if not self.is_text or self.number_form is not None:
            return None
        return times.find_time_form(self.sample)

    @cached_property
    def moments(self) -> times.Micros | None:
        """Its times in microseconds since 1970; None where it holds none."""
        if self.time_form is None:
            return None
        return times.timestamps_to_micros(self.values) if self.is_dated else times.to_micros(self.texts, self.time_form)

    @property
    def holds_emails(self) -> bool:
        """Whether its values look like addresses of mail."""
        return self._share(lambda text: _EMAIL.fullmatch(text) is not None) > _LEAST_SHARE

    @property
    def holds_card_numbers(self) -> bool:
        """Whether its values are numbers of cards: 13 to 19 digits with the check digit of Luhn (ISO/IEC 7812-1)."""
        return self._share(lambda text: _CARD_NUMBER.fullmatch(text) is not None and luhn(text)) > _LEAST_SHARE

    def _share(self, holds: Callable[[str], bool]) -> float:
        some = self.sample[:200]
        return sum(holds(text.strip()) for text in some) / len(some) if some else 0.0


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (Luhn, 1960)."""
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    total = sum(map(int, digits[-1::-2])) + sum(value - 9 if value > 9 else value for value in doubled)
    return total % 10 == 0
