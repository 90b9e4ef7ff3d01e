"""Texts into numbers: decimal and thousands marks, currencies, signs."""

import re
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection.settings import Format

MISSING = frozenset({"", "null", "nan", "na", "n/a", "none", "\\n", "-", "?"})
"""Lower-case spellings of a missing time, number or label; of ids and categories only the empty text is missing."""

_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_INFINITY = r"[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY])?"
# Marks that look alike: a file that groups digits by spaces often has the ones that do not break a line.
_ALIKE = {" ": " \u00a0\u202f", "'": "'\u2019", "\u2019": "'\u2019"}
_NO_NUMBER = "x"


def read_numbers(texts: pa.StringArray, form: Format) -> pa.DoubleArray:
    """Decimal numbers; null for missing ones and +inf for text that is no number."""
    if form.decimal_mark == "." and form.thousands_mark is None and not form.currency:
        return _plain_numbers(texts)
    missing = is_missing(texts)
    bare = _without_currency(pc.utf8_trim_whitespace(texts), form.currency)
    fits = pc.match_substring_regex(bare, _pattern(form.decimal_mark, form.thousands_mark))
    if form.thousands_mark is not None:
        bare = pc.replace_substring_regex(bare, _one_of(form.thousands_mark), "")
    plain = bare if form.decimal_mark == "." else pc.replace_substring(bare, form.decimal_mark, ".")
    return _plain_numbers(pc.if_else(missing, None, pc.if_else(fits, plain, _NO_NUMBER)))


def is_missing(texts: pa.StringArray) -> pa.BooleanArray:
    """Whether a text stands for a missing time, number or label."""
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    return pc.or_(pc.is_null(texts), pc.is_in(plain, pa.array(sorted(MISSING))))


def _plain_numbers(texts: pa.StringArray) -> pa.DoubleArray:
    """All at once where all are numbers, else the rest one by one."""
    try:
        found = pc.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        fits = pc.fill_null(pc.match_substring_regex(texts, f"^{_NUMBER}$"), False)
        rest = pc.and_not(pc.is_valid(texts), fits)
        others = pa.array([_number(text.strip()) for text in texts.filter(rest).to_pylist()], pa.float64())
        found = pc.replace_with_mask(pc.if_else(fits, texts, None).cast(pa.float64()), rest, others)
    return pc.if_else(pc.is_nan(found), pa.scalar(None, pa.float64()), found)


def _number(text: str) -> float | None:
    word = text.lower()
    if word in MISSING or word.lstrip("+-") == "nan":
        return None
    return float(text) if re.fullmatch(f"{_NUMBER}|{_INFINITY}", text, re.ASCII) else float("inf")


def _without_currency(texts: pa.StringArray, currency: tuple[str, ...]) -> pa.StringArray:
    """Texts without a currency before or after them; a sign may stand on either side of one that comes before."""
    if not currency:
        return texts
    either = "|".join(re.escape(text) for text in sorted(currency, key=len, reverse=True))
    before = pc.replace_substring_regex(texts, rf"(?i)^([+-]?)\s*(?:{either})[\s\x{{A0}}\x{{202F}}]*", r"\1")
    return pc.replace_substring_regex(before, rf"(?i)[\s\x{{A0}}\x{{202F}}]*(?:{either})$", "")


@lru_cache(maxsize=64)
def _pattern(decimal_mark: str, thousands_mark: str | None) -> str:
    """The regular expression, for RE2, of a number with these marks. The last group of digits has three."""
    point = re.escape(decimal_mark)
    whole = "[0-9]+"
    if thousands_mark is not None:
        group = _one_of(thousands_mark)
        whole = f"(?:[0-9]{{1,3}}(?:{group}[0-9]{{2,3}})*{group}[0-9]{{3}}|[0-9]+)"
    return rf"^[+-]?(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?$"


def _one_of(mark: str) -> str:
    alike = _ALIKE.get(mark, mark)
    return f"[{''.join(re.escape(character) for character in alike)}]"
