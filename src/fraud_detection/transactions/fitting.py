"""Settings of `data.format` that would read given texts: for messages, and for new settings files.

Pure functions over lists of texts. Each result is a mapping from names of `settings.Format` to values: `{}` where the
defaults fit. Where several settings read all texts, all are given, the likeliest first; none, where nothing was found.
A setting is only given after the texts were read with it by the parsers of a run.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection import format_rules
from fraud_detection.format_rules import plain_label
from fraud_detection.settings import Format
from fraud_detection.transactions.encodings import find_encoding, is_binary
from fraud_detection.transactions.label_words import meanings
from fraud_detection.transactions.numbers import MISSING, read_numbers
from fraud_detection.transactions.times import read_times

Guess = dict[str, object]
"""Names of `settings.Format` with values."""

USUAL_SEPARATORS = (",", ";", "\t", "|", "^", "~", "\x01")
"""What separates fields in files and seldom stands in them, the usual first."""
SEPARATORS = (*USUAL_SEPARATORS, " ", ":")
"""The same with those that times and texts hold, too."""
QUOTES = ('"', "'", "`")
"""What encloses fields, the usual first."""
UNSEEN_ORIGIN = "2000-01-01T00:00:00"
"""What times that count from an unknown start are taken to count from."""
YEAR_2100 = 4_102_444_800
"""Seconds since 1970; no time of a transaction is later."""

_UNDERSTOOD = {"0", "1", "true", "false"}
_MARKS = [(".", None), (",", None), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")]
_LONGEST_CURRENCY = 4
_LONGEST_NUMBER = 64  # no amount is longer, and the search for currencies in a long text takes long
_CURRENCIES = {
    "AED", "AMD", "ARS", "AUD", "AZN", "BGN", "BRL", "BYN", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK",
    "EGP", "EUR", "GBP", "GEL", "HKD", "HUF", "IDR", "ILS", "INR", "JPY", "KES", "KRW", "KZT", "MAD", "MXN",
    "MYR", "NGN", "NOK", "NZD", "PEN", "PHP", "PKR", "PLN", "RON", "RSD", "RUB", "SAR", "SEK", "SGD", "THB",
    "TRY", "TWD", "UAH", "USD", "UYU", "UZS", "VND", "ZAR", "KR", "KR.", "ZŁ", "KČ", "FT", "LEI", "FR", "FR.",
    "RS", "RS.", "R", "EURO", "EUROS", "DOLLARS", "Р", "Р.", "РУБ", "РУБ.",
}  # fmt: skip
_MOST_CURRENCIES = 10
_MOST_FORMS = 3
_THOUSAND = re.compile(r"[^\d]*\d{1,3}(,\d{3})+[^\d]*|[^\d]*\d{1,3}(\.\d{3})+[^\d]*")
_MONTH = re.compile(r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)", re.IGNORECASE)
_WEEKDAY = re.compile(r"(mon|tue|wed|thu|fri|sat|sun)", re.IGNORECASE)
_SHORT_NAME = 3
_COMPACT = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 8: "%Y%m%d"}
_SINCE_1970 = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_YEAR_1990 = 631_152_000  # seconds since 1970
_SERIAL_DAYS = (36_526, 73_051)  # the years 2000 to 2100 in days since 30 December 1899, as spreadsheets count
_HOURS_OF_YEARS = 20_000
_FURTHEST = 1e300  # larger than any time, and finite


def as_setting(guess: Guess) -> str:
    """How a guess is written into a settings file: `data.format.separator: ";"`, several with semicolons between."""
    return "; ".join(f"data.format.{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in guess.items())


def split(line: str, separator: str, quote: str | None = '"') -> list[str]:
    """The fields of one line of CSV; the line as one field where it cannot be split."""
    try:
        if quote is None:
            return line.split(separator)
        return next(csv.reader([line], delimiter=separator, quotechar=quote), [""])
    except csv.Error:  # a field that is longer than any name
        return [line]


def separators(lines: Sequence[str]) -> tuple[Guess, ...]:
    """The separators that split all of the lines into the same number of fields, two or more; most fields first."""
    found = []
    for separator in SEPARATORS:
        counts = {len(split(line, separator)) for line in lines if line}
        if len(counts) == 1 and (count := counts.pop()) > 1:
            found.append((-count, SEPARATORS.index(separator), separator))
    return tuple({} if separator == "," else {"separator": separator} for _, _, separator in sorted(found))


def header(lines: Sequence[str], wanted: set[str], form: Format) -> Guess | None:
    """What to set so that the wanted columns are found in one of the first lines; None where that is not known.

    Args:
        lines: from the first line that is read on, with empty ones.
        wanted: the names of the mapped columns.
        form: the present settings.
    """
    filled = [(before, line) for before, line in enumerate(lines) if line.strip()]
    quotes = dict.fromkeys([form.quote, *QUOTES])
    for (before, line), separator, quote in product(filled, dict.fromkeys([form.separator, *SEPARATORS]), quotes):
        names = {name.strip().casefold() for name in split(line, separator, quote)}
        here = {name.casefold() for name in wanted} & names
        first = before == filled[0][0]
        if separator != quote and here and (first or len(here) > 1):
            guess: Guess = {} if first else {"skip_lines": form.skip_lines + before}
            guess |= {} if separator == form.separator else {"separator": separator}
            return guess | ({} if quote == form.quote else {"quote": quote})
    return None


def encoding(content: bytes) -> Guess:
    """The encoding of some bytes; `{}` for UTF-8 and where there is nothing to tell it from."""
    found = "utf-8" if is_binary(content) else find_encoding([content])
    return {} if found == "utf-8" else {"encoding": found}


def times(texts: Iterable[str]) -> tuple[Guess, ...]:
    """Settings that read all texts as times."""
    found = _present(texts)
    if not found or _reads_times(found, {}):
        return ({},) if found else ()
    if all(re.fullmatch(r"\d+\.?\d*([eE]\+?\d+)?|\.\d+", text) for text in found):
        return _numbers_as_times(found)
    alone = _forms_of_all(found, _candidates(found))
    if alone:
        return tuple({"time_formats": [form]} for form in alone)
    several = _several_forms(found)
    return ({"time_formats": several},) if several else ()


def _several_forms(texts: list[str]) -> list[str]:
    """Forms that read all texts together, each as many as it can; none where there are too many."""
    rest = texts
    forms: list[str] = []
    while rest and len(forms) < _MOST_FORMS:
        readable = {form: _rest(rest, form) for form in _candidates(rest)}
        best = min(readable, key=lambda form: len(readable[form]), default=None)
        if best is None or len(readable[best]) == len(rest):
            return []
        forms, rest = [*forms, best], readable[best]
    return [] if rest else forms


def _rest(texts: list[str], form: str) -> list[str]:
    read = read_times(pa.array(texts, pa.string()), Format(time_formats=(form,)))
    return [text for text, valid in zip(texts, pc.is_valid(read).to_pylist(), strict=True) if not valid]


def _numbers_as_times(texts: list[str]) -> tuple[Guess, ...]:
    lengths = {len(text) for text in texts}
    compact = _COMPACT.get(lengths.pop()) if len(lengths) == 1 else None
    if compact is not None and _reads_times(texts, {"time_formats": [compact]}):
        return ({"time_formats": [compact]},)
    values = np.array([min(float(text), _FURTHEST) for text in texts])
    low, high = float(values.min()), float(values.max())
    unit = unit_since_1970(low, high)
    if unit is not None:
        return ({"time_unit": unit},)
    if _SERIAL_DAYS[0] <= low and high <= _SERIAL_DAYS[1] and (values % 1 != 0).any():
        return ({"time_unit": "d", "time_origin": "1899-12-30T00:00:00"},)
    likely = ("h", "s", "d") if high < _HOURS_OF_YEARS and (values % 1 == 0).all() else ("s", "h", "d")
    guesses: list[Guess] = [{"time_unit": unit, "time_origin": UNSEEN_ORIGIN} for unit in likely]
    return tuple(guess for guess in guesses if _reads_times(texts, guess))


def unit_since_1970(low: float, high: float) -> str | None:
    """The unit in which numbers between these count times of the years 1990 to 2100 since 1970; None: no unit does."""
    fits = (unit for unit, scale in _SINCE_1970.items() if _YEAR_1990 * scale <= low and high <= YEAR_2100 * scale)
    return next(fits, None)


def _reads_times(texts: list[str], guess: Guess) -> bool:
    read = read_times(pa.array(texts, pa.string()), Format.model_validate(guess))
    return bool(read.null_count == 0)


def _forms_of_all(texts: list[str], forms: Iterable[str]) -> list[str]:
    """The forms that read all texts: first those under which the rows are in order, then those of the shortest span."""
    array = pa.array(texts, pa.string())
    ranked = []
    for place, form in enumerate(forms):
        read = read_times(array, Format(time_formats=(form,)))
        if read.null_count == 0:
            micros = read.cast(pa.int64()).to_numpy()
            backwards = int((np.diff(micros) < 0).sum())
            ranked.append((backwards, int(micros.max() - micros.min()), place, form))
    return [form for *_, form in sorted(ranked)]


def _candidates(texts: list[str]) -> list[str]:
    """Forms that the first text may have, and the longest: one may have a fraction that another lacks."""
    shown = dict.fromkeys([texts[0], max(texts, key=len), min(texts, key=len)])
    return list(dict.fromkeys(form for text in shown for form in _forms(text) if _is_form(form)))


def _is_form(form: str) -> bool:
    """Whether the settings take a form; that of a damaged text may name a part twice."""
    try:
        Format(time_formats=(form,))
    except ValueError:
        return False
    return True


def _forms(text: str) -> list[str]:
    """Forms of `strptime` that a text may have, by its digits, its words and what stands between them."""
    text = re.sub(r"(?i)\b([ap])\.\s?m\.?", r"\1m", text.strip())
    tokens = re.findall(r"\d+|[^\W\d_]+|[\W_]+", text)
    begin = next((place for place, token in enumerate(tokens) if token.isdigit() or _MONTH.match(token)), None)
    if begin is None:
        return []
    lead = "".join(_word(token) for token in tokens[:begin])
    date = tokens[begin : begin + 5]
    if len(date) < 5 or not all(token.isdigit() or _MONTH.match(token) for token in date[::2]):
        return []
    time = _time_form(tokens[begin + 5 :])
    return [lead + date_form + time for date_form in _date_forms(date, first_month=time.endswith("%p"))]


def _date_forms(date: list[str], *, first_month: bool) -> list[str]:
    one, _, two, _, three = date
    if not two.isdigit():
        return [_joined(date, (_year(one), _name(two), "%d") if len(one) == 4 else ("%d", _name(two), _year(three)))]
    if not one.isdigit():
        return [_joined(date, (_name(one), "%d", _year(three)))]
    if len(one) == 4:
        return [_joined(date, ("%Y", *order)) for order in (("%m", "%d"), ("%d", "%m"))]
    orders = [("%d", "%m"), ("%m", "%d")]
    forms = [_joined(date, (*order, _year(three))) for order in (orders[::-1] if first_month else orders)]
    return forms if len(three) == 4 else [*forms, _joined(date, ("%y", "%m", "%d"))]


def _joined(date: list[str], parts: tuple[str, ...]) -> str:
    return f"{parts[0]}{_literal(date[1])}{parts[1]}{_literal(date[3])}{parts[2]}"


def _time_form(tokens: list[str]) -> str:
    """The form of what follows the date: hours, minutes, seconds, a fraction, AM or PM, a zone."""
    twelve = any(token.lower() in {"am", "pm"} for token in tokens)
    directives = ["%I" if twelve else "%H", "%M", "%S", "%f"]
    parts: list[str] = []
    for place, token in enumerate(tokens):
        if token.isdigit():
            before = tokens[place - 1] if place else ""
            if place and before.strip() in {"+", "-"} and len(directives) <= 2:
                return "".join([*parts[:-1], _literal(before.rstrip("+-")), "%z"])
            if len(token) in {4, 6} and len(directives) == 4:
                parts.append("".join(directives[: len(token) // 2]))
                directives = directives[len(token) // 2 :]
            elif directives:
                parts.append(directives.pop(0))
        else:
            parts.append(_word(token))
    return "".join(parts)


def _word(token: str) -> str:
    lower = token.lower()
    if lower in {"am", "pm"}:
        return "%p"
    if lower in {"z", "utc", "gmt"}:
        return "%Z"
    if _WEEKDAY.match(token):
        return "%a" if len(token) == _SHORT_NAME else "%A"
    return _literal(token)


def _literal(token: str) -> str:
    return token.replace("%", "%%")


def _name(token: str) -> str:
    return "%b" if len(token) == _SHORT_NAME else "%B"


def _year(token: str) -> str:
    return "%Y" if len(token) == 4 else "%y"


def amounts(texts: Iterable[str]) -> tuple[Guess, ...]:
    """Settings that read all texts as numbers."""
    found = _present(texts)
    if not found or max(map(len, found)) > _LONGEST_NUMBER:
        return ()
    currencies = _currencies(found)
    if currencies is None:
        return ()
    guesses = []
    for decimal, thousands in _MARKS:
        if thousands is not None and not any(re.search(rf"\d{re.escape(thousands)}\d", text) for text in found):
            continue
        guess: Guess = {"decimal_mark": decimal} if decimal != "." else {}
        guess |= {"thousands_mark": thousands} if thousands else {}
        guess |= {"currency": currencies} if currencies else {}
        if _reads_numbers(found, guess):
            guesses.append(guess)
    if guesses and guesses[0].get("decimal_mark") == "," and all(map(_THOUSAND.fullmatch, found)):
        guesses.sort(key=lambda guess: guess.get("thousands_mark") != ",")  # 1,234 rather is a thousand than a fraction
    return tuple(guesses)


def _reads_numbers(texts: list[str], guess: Guess) -> bool:
    read = read_numbers(pa.array(texts, pa.string()), Format.model_validate(guess))
    return read.null_count == 0 and bool(pc.all(pc.is_finite(read)).as_py())


def _currencies(texts: list[str]) -> list[str] | None:
    """The texts that stand before or after the numbers; None where they are no currencies."""
    found: set[str] = set()
    for text in texts:
        match = re.fullmatch(r"[+-]?\s*([^\d+-]*?)\s*[+-]?[.,]?(?:\d(?:.*\d)?)[.,]?\s*([^\d]*?)", text, re.DOTALL)
        if match is None:
            return None
        found |= {part for part in match.groups() if part and part not in {".", ","}}
        if len(found) > _MOST_CURRENCIES:
            return None
    return sorted(found) if all(map(_is_currency, found)) else None


def _is_currency(text: str) -> bool:
    """Whether a text is a currency; others might be of the data, and messages would show them."""
    if text.upper() in _CURRENCIES:
        return True
    has_sign = any(unicodedata.category(character) == "Sc" for character in text)
    return has_sign and len(text) <= _LONGEST_CURRENCY and not re.search(r"[()]", text) and _is_accepted(text)


def _is_accepted(text: str) -> bool:
    """Whether the settings take a currency; a superscript digit or the like is refused there."""
    try:
        return format_rules.currency([text]) == (text,)
    except ValueError:
        return False


def labels(values: Iterable[str]) -> Guess | None:
    """What to set so that all distinct values of a label column are known; None where their words say too little."""
    written = {plain_label(value): value.strip() for value in values}
    found = meanings(written)
    if None in found.values():
        return None
    told = {plain: meaning for plain, meaning in found.items() if plain not in _UNDERSTOOD}
    return {
        f"{meaning}_values": [written[plain] for plain in sorted(told) if told[plain] == meaning]
        for meaning in ("fraud", "genuine", "unknown")
        if meaning in told.values()
    }


def _present(texts: Iterable[str]) -> list[str]:
    """The texts that are not missing, trimmed, each once, in their order."""
    return list(dict.fromkeys(text.strip() for text in texts if text.strip().lower() not in MISSING))
