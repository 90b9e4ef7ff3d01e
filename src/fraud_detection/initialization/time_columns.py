"""Which columns hold the time of the transactions, and which that of the labels: alone, or several that are joined."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_detection.errors import DataError
from fraud_detection.initialization import names, times
from fraud_detection.initialization.column import Column
from fraud_detection.initialization.search import Search

_MOST_EARLY = 0.005
_MOSTLY = 0.95
_DAY = 86_400_000_000
_PARTS = ((names.YEAR, 1970, 2100), (names.MONTH, 1, 12), (names.DAY_OF_MONTH, 1, 31))
_CLOCK = ((names.HOUR, 0, 23), (names.MINUTE, 0, 59), (names.SECOND, 0, 59))
_LEAST_SPAN = 7_200_000_000
_YEAR, _MONTH = 366, 31  # so many hours or days may be a part of a date that begins again and again
_WANTED = (
    "ISO 8601 or another written form, timestamps, or numbers that count over two hours or more; several columns are"
    " joined, such as Year+Month+Day+Time"
)


@dataclass(frozen=True)
class TimeColumns:
    """The column of a time, or those that are joined; with its form and moments."""

    names: tuple[str, ...]
    form: times.TimeForm
    moments: times.Micros
    why: str

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which rows have a time, (n,)."""
        found: NDArray[np.bool_] = self.moments != times.NO_TIME
        return found


def find_time(found: Search) -> TimeColumns:
    """The time of the transactions.

    Raises:
        DataError: there is none.
        SettingsError: the columns that the user has named hold none.
    """
    timed = _given(found, "transaction_time") if "transaction_time" in found.given else _guess(found)
    if timed is None:
        raise DataError(
            "found no transaction_time: expected a column with the time of each transaction;"
            f"{found.named_but_unfit(names.TIME, _is_no_time, 'times')}"
            f" {found.all_names()}; next: name it with --column transaction_time=NAME, or several that are joined,"
            " such as --column transaction_time=Year+Month+Day+Time"
        )
    for name in timed.names:
        found.free.pop(name, None)
    return timed


def find_label_time(found: Search) -> TimeColumns | None:
    """The time from which on labels were known, if a column has it.

    Raises:
        SettingsError: the columns that the user has named hold none.
    """
    if "label_available_at" in found.given:
        found.why["label_available_at"] = "given by --column"
        return _given(found, "label_available_at")
    column = found.take("label_available_at", names.LABEL_TIME, lambda column: column.time_form is not None)
    return None if column is None else _alone(column)


def checked_label_time(label: TimeColumns, time: TimeColumns, found: Search) -> TimeColumns | None:
    """The time of the label, unless labels are older than their transactions."""
    both = label.known & time.known
    early = float((label.moments[both] < time.moments[both]).mean()) if both.any() else 1.0
    if early > _MOST_EARLY:
        found.why["label_available_at"] = f"{label.names[0]} is not used: {early:.1%} lie before their transaction"
        return None
    return label


def _given(found: Search, canonical: str) -> TimeColumns:
    columns = found.given[canonical]
    timed = _joined(columns) if len(columns) > 1 else _alone(columns[0], most_unordered=_MONTH)
    if timed is None or not timed.known.any():
        raise found.unfit(canonical, f"it holds no usable time; expected {_WANTED}")
    return replace(timed, why="given by --column")


def _guess(found: Search) -> TimeColumns | None:
    dated = _date_parts(found)
    ranked = sorted(found.free.values(), key=lambda column: -_time_score(column))
    for column in (column for column in ranked if _time_score(column) > 0):
        whole = _time_of_day(column, found)
        if whole is not None:
            return _because(_joined(whole), "a date and a time of day, joined by a space")
        timed = _alone(column)
        if timed is not None and (timed.form.origin is None or dated is None):
            return _because(timed, "by its name and its form")
    if dated is not None:
        return _because(dated, "the parts of a date by their names, joined by spaces")
    unnamed = [column for column in found.free.values() if column.time_form is not None or _counts_since_1970(column)]
    return _because(_alone(unnamed[0]), "by its form; no name says time") if unnamed else None


def _because(timed: TimeColumns | None, why: str) -> TimeColumns | None:
    return None if timed is None else replace(timed, why=why)


def _counts_since_1970(column: Column) -> bool:
    """Whether whole numbers are times of a few years that never fall, as in a log."""
    values = column.numbers
    if values is None or not column.is_integer or not np.isfinite(values).all():
        return False
    form = times.find_number_time(values, column.name)
    return form is not None and form.origin is None and float((np.diff(values) >= 0).mean()) > _MOSTLY


def _is_no_time(name: str) -> bool:
    return names.NOT_TRANSACTION_TIME.search(name) is not None


def _time_score(column: Column) -> float:
    if _is_no_time(" ".join(names.words(column.name))):
        return 0.0
    worth = names.score(column.name, names.TIME)
    return worth + 2.0 if worth and (column.time_form is not None) else worth


def _time_of_day(date: Column, found: Search) -> list[Column] | None:
    """The column of a date together with that of the time of day, if there is one."""
    form = date.time_form
    if form is None or date.is_dated or not (form.has_no_time_of_day or (not form.formats and _all_midnight(date))):
        return None
    clock = next((column for column in _clocks(found) if column is not date), None)
    return None if clock is None else [date, clock]


def _clocks(found: Search) -> Iterator[Column]:
    """The columns with a time of day as text."""
    for column in found.free.values():
        if names.score(column.name, names.TIME) > 0 and column.is_text and _holds_times_of_day(column):
            yield column


def _holds_times_of_day(column: Column) -> bool:
    some = column.sample[:50]
    return bool(some) and times.find_time_form([f"2020-01-01 {text.strip()}" for text in some]) is not None


def _all_midnight(column: Column) -> bool:
    moments = column.moments
    return moments is not None and bool((moments[moments != times.NO_TIME] % _DAY == 0).all())


def _date_parts(found: Search) -> TimeColumns | None:
    """Year, month and day in columns of their own, with the time of day where there is one."""
    parts = [_part(found, *part) for part in _PARTS]
    columns = [column for column in parts if column is not None]
    if len(columns) < len(_PARTS):
        return None
    clock = next((column for column in _clocks(found) if column.number_form is None), None)
    if clock is not None:
        return _joined([*columns, clock])
    for part in _CLOCK:
        column = _part(found, *part)
        if column is None:
            break
        columns.append(column)
    return _joined(columns)


def _part(found: Search, words: frozenset[str], low: int, high: int) -> Column | None:
    """The column of whole numbers within bounds whose name ends in one of the words."""
    for column in found.free.values():
        said = names.words(column.name)
        if said and said[-1] in words and not _is_no_time(" ".join(said)):
            values = column.numbers if column.is_integer else None
            if values is not None and column.distinct and np.nanmin(values) >= low and np.nanmax(values) <= high:
                return column
    return None


def _alone(column: Column, most_unordered: int = _YEAR) -> TimeColumns | None:
    """The times of one column; numbers of a range up to `most_unordered` units are none, unless they never fall."""
    if column.time_form is not None and column.moments is not None:
        return TimeColumns((column.name,), column.time_form, column.moments, "")
    values = column.numbers
    form = None if values is None else times.find_number_time(values, column.name)
    if values is None or form is None:
        return None
    timed = TimeColumns((column.name,), form, times.numbers_to_micros(values, form), "")
    if form.origin is None:
        return timed
    known = values[np.isfinite(values)]
    lasts = np.ptp(timed.moments[timed.known]) if timed.known.any() else 0
    is_part = np.ptp(known) <= most_unordered and bool((np.diff(known) < 0).any())
    return None if lasts < _LEAST_SPAN or is_part else timed


def _joined(columns: Sequence[Column]) -> TimeColumns | None:
    texts = pc.binary_join_element_wise(*(pc.utf8_trim_whitespace(column.texts) for column in columns), " ")
    whole = Column(" ".join(column.name for column in columns), texts)
    form, moments = whole.time_form, whole.moments
    if form is None or moments is None:
        return None
    if _are_parts(columns):  # their names say which is the month
        formats = tuple(dict.fromkeys(one.replace("%Y %d %m", "%Y %m %d") for one in form.formats))
        form = replace(form, formats=formats, ambiguous=False)
        moments = times.to_micros(texts, form)
    return TimeColumns(tuple(column.name for column in columns), form, moments, "")


def _are_parts(columns: Sequence[Column]) -> bool:
    said = [names.words(column.name)[-1:] for column in columns[: len(_PARTS)]]
    return len(said) == len(_PARTS) and all(
        word and word[0] in words for word, (words, _, _) in zip(said, _PARTS, strict=True)
    )
