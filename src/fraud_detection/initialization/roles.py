"""Which column is which: the time, the amount, the label, the ids, by their names and by what they hold."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fraud_detection.errors import DataError
from fraud_detection.initialization import names, times
from fraud_detection.initialization.column import Column
from fraud_detection.initialization.labels import LabelForm, find_label_form
from fraud_detection.shapes import column_names

_MOST_MISSING = 0.02
_MOSTLY = 0.95
_MOST_REPEATED_IDS = 0.005
_DAY = 86_400_000_000


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


@dataclass(frozen=True)
class Roles:
    """The mapped columns; None where there is none."""

    time: TimeColumns
    amount: Column
    fraud: Column
    label: LabelForm
    transaction_id: Column | None
    card: Column | None
    terminal: Column | None
    label_time: TimeColumns | None
    blocked: Column | None
    control: Column | None
    why: dict[str, str] = field(default_factory=dict)
    """Canonical name: why this column, or why none."""

    @property
    def taken(self) -> set[str]:
        """The names of all mapped columns."""
        single = (self.amount, self.fraud, self.transaction_id, self.card, self.terminal, self.blocked, self.control)
        names = {column.name for column in single if column is not None}
        return names | set(self.time.names) | set(self.label_time.names if self.label_time else ())


@dataclass
class _Search:
    """The columns that have no role yet."""

    free: dict[str, Column]
    given: dict[str, str]
    why: dict[str, str] = field(default_factory=dict)

    def take(
        self,
        canonical: str,
        vocabulary: Mapping[str, float],
        fits: Callable[[Column], bool],
        excluded: Callable[[str], bool] = lambda _: False,
    ) -> Column | None:
        """The column with the best name among those that fit, which is then no longer free."""
        if (name := self.given.get(canonical)) is not None:
            self.why[canonical] = "given by --column"
            return self.free.pop(name)
        named = [
            (names.score(name, vocabulary), column)
            for name, column in self.free.items()
            if not excluded(" ".join(names.words(name)))
        ]
        for _, column in sorted((pair for pair in named if pair[0] > 0), key=lambda pair: -pair[0]):
            if fits(column):
                return self.free.pop(column.name)
        return None


def find_roles(columns: Iterable[Column], given: dict[str, str]) -> Roles:
    """Find the column of each role.

    Args:
        columns: of the input.
        given: canonical name: column, where the user has said it.

    Raises:
        DataError: there is no time, no amount or no label.
    """
    found = _Search({column.name: column for column in columns}, given)
    label, form = _find_label(found)
    label_time = _find_label_time(found)
    time = _find_time(found)
    amount = _find_amount(found)
    blocked = found.take("blocked", names.BLOCKED, _is_flag)
    control = found.take("control_group", names.CONTROL, _is_flag)
    transaction_id = _find_id(found)
    card = _find_card(found)
    terminal = _find_terminal(found)
    if label_time is not None:
        label_time = _checked_label_time(label_time, time, found)
    return Roles(time, amount, label, form, transaction_id, card, terminal, label_time, blocked, control, why=found.why)


def _find_label(found: _Search) -> tuple[Column, LabelForm]:
    label = found.take(
        "fraud",
        names.LABEL,
        lambda column: find_label_form(column) is not None,
        lambda name: names.NOT_LABEL.search(name) is not None,
    )
    form = find_label_form(label) if label is not None else None
    if label is None or form is None:
        raise DataError(_without("fraud", "a column that says which transactions were frauds", found))
    return label, form


def _find_amount(found: _Search) -> Column:
    def fits(column: Column) -> bool:
        return column.amounts is not None and float(np.isinf(column.amounts).mean()) <= _MOST_MISSING

    amount = found.take("amount", names.AMOUNT, fits, lambda name: names.NOT_AMOUNT.search(name) is not None)
    if amount is None:
        raise DataError(_without("amount", "a column with the amount of each transaction", found))
    return amount


def _find_time(found: _Search) -> TimeColumns:
    if (given := found.given.get("transaction_time")) is not None:
        return _timed([found.free.pop(name) for name in given.split("+")], found, "given by --column")
    ranked = sorted(found.free.values(), key=lambda column: -_time_score(column))
    for column in (column for column in ranked if _time_score(column) > 0):
        if column.name not in found.free:
            continue
        whole = _time_of_day(column, found)
        if whole is not None:
            return _timed(whole, found, "a date and a time of day, joined by a space")
        timed = _try_time([column])
        if timed is not None:
            return _timed([column], found, "by its name and its form")
    unnamed = [column for column in found.free.values() if column.time_form is not None or _counts_since_1970(column)]
    if unnamed:
        return _timed([unnamed[0]], found, "by its form; no name says time")
    raise DataError(_without("transaction_time", "a column with the time of each transaction", found))


def _counts_since_1970(column: Column) -> bool:
    """Whether whole numbers are times of a few years that never fall, as in a log."""
    values = column.numbers
    if values is None or not column.is_integer or not np.isfinite(values).all():
        return False
    form = times.find_number_time(values, column.name)
    return form is not None and form.origin is None and float((np.diff(values) >= 0).mean()) > _MOSTLY


def _time_score(column: Column) -> float:
    if names.NOT_TRANSACTION_TIME.search(" ".join(names.words(column.name))):
        return 0.0
    worth = names.score(column.name, names.TIME)
    return worth + 2.0 if worth and (column.time_form is not None) else worth


def _time_of_day(date: Column, found: _Search) -> list[Column] | None:
    """The column of a date together with that of the time of day, if there is one."""
    form = date.time_form
    if form is None or date.is_dated or not (form.has_no_time_of_day or (not form.formats and _all_midnight(date))):
        return None
    for column in found.free.values():
        named = names.score(column.name, names.TIME) > 0
        if column is not date and named and column.is_text and _holds_times_of_day(column):
            return [date, column]
    return None


def _holds_times_of_day(column: Column) -> bool:
    some = column.sample[:50]
    return bool(some) and times.find_time_form([f"2020-01-01 {text.strip()}" for text in some]) is not None


def _all_midnight(column: Column) -> bool:
    moments = column.moments
    return moments is not None and bool((moments[moments != times.NO_TIME] % _DAY == 0).all())


def _try_time(columns: list[Column]) -> TimeColumns | None:
    names_ = tuple(column.name for column in columns)
    if len(columns) > 1:
        return _joined(columns)
    (column,) = columns
    if column.time_form is not None and column.moments is not None:
        return TimeColumns(names_, column.time_form, column.moments, "")
    if column.numbers is None:
        return None
    form = times.find_number_time(column.numbers, column.name)
    return None if form is None else TimeColumns(names_, form, times.numbers_to_micros(column.numbers, form), "")


def _joined(columns: list[Column]) -> TimeColumns | None:
    import pyarrow.compute as pc

    texts = pc.binary_join_element_wise(*(pc.utf8_trim_whitespace(column.texts) for column in columns), " ")
    whole = Column(" ".join(column.name for column in columns), texts)
    if whole.time_form is None or whole.moments is None:
        return None
    return TimeColumns(tuple(column.name for column in columns), whole.time_form, whole.moments, "")


def _timed(columns: list[Column], found: _Search, why: str) -> TimeColumns:
    timed = _try_time(columns)
    if timed is None:
        raise DataError(_without("transaction_time", "a column with the time of each transaction", found))
    for column in columns:
        found.free.pop(column.name, None)
    return TimeColumns(timed.names, timed.form, timed.moments, why)


def _find_label_time(found: _Search) -> TimeColumns | None:
    def fits(column: Column) -> bool:
        return column.time_form is not None

    column = found.take("label_available_at", names.LABEL_TIME, fits)
    return None if column is None else _try_time([column])


def _checked_label_time(label: TimeColumns, time: TimeColumns, found: _Search) -> TimeColumns | None:
    """The time of the label, unless labels are older than their transactions."""
    both = label.known & time.known
    early = float((label.moments[both] < time.moments[both]).mean()) if both.any() else 1.0
    if early > _MOST_MISSING / 4:
        found.why["label_available_at"] = f"{label.names[0]} is not used: {early:.1%} lie before their transaction"
        return None
    return label


def _find_id(found: _Search) -> Column | None:
    def fits(column: Column) -> bool:
        there = int(column.filled.sum())
        floating = column.numbers is not None and not column.is_integer
        return not floating and there == len(column.values) and there - column.distinct <= _MOST_REPEATED_IDS * there

    return found.take("transaction_id", names.ID, fits)


def _find_card(found: _Search) -> Column | None:
    def fits(column: Column) -> bool:
        there = int(column.filled.sum())
        return _names_something(column) and there >= 1.5 * column.distinct and column.distinct >= _least_cards(there)

    return found.take("customer_id", names.CARD, fits, lambda name: names.NOT_CARD.search(name) is not None)


def _least_cards(rows: int) -> int:
    """Fewer distinct values are categories; of small data few cards are enough."""
    return 20 if rows > 2_000 else 5


def _find_terminal(found: _Search) -> Column | None:
    def fits(column: Column) -> bool:
        there = int(column.filled.sum())
        return _names_something(column) and there >= 1.5 * column.distinct and column.distinct >= 5

    return found.take("terminal_id", names.TERMINAL, fits, lambda name: names.NOT_TERMINAL.search(name) is not None)


def _names_something(column: Column) -> bool:
    return column.time_form is None and (column.numbers is None or column.is_integer)


def _is_flag(column: Column) -> bool:
    return {text.lower() for text in column.counts} <= {"0", "1", "0.0", "1.0", "true", "false"} and column.distinct > 0


def _without(canonical: str, what: str, found: _Search) -> str:
    some = ", ".join(column_names(list(found.free))[:40])
    return f"found no {canonical}: expected {what}; columns found: {some}; next: name it with --column {canonical}=NAME"
