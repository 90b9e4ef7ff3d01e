"""Which column is which: the time, the amount, the label, the ids, by their names and by what they hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from fraud_detection.errors import DataError
from fraud_detection.initialization import names
from fraud_detection.initialization.column import Column
from fraud_detection.initialization.labels import LabelForm, find_label_form, names_fraud, why_no_label
from fraud_detection.initialization.search import Search
from fraud_detection.initialization.time_columns import TimeColumns, checked_label_time, find_label_time, find_time

_MOST_MISSING = 0.02
_MOST_REPEATED_IDS = 0.005
_SURELY = 8


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
    remarks: tuple[str, ...] = ()
    """What the settings file says beside."""

    @property
    def taken(self) -> set[str]:
        """The names of all mapped columns."""
        single = (self.amount, self.fraud, self.transaction_id, self.card, self.terminal, self.blocked, self.control)
        names = {column.name for column in single if column is not None}
        return names | set(self.time.names) | set(self.label_time.names if self.label_time else ())


def find_roles(columns: Iterable[Column], given: dict[str, str], unread: str = "") -> Roles:
    """Find the column of each role.

    Args:
        columns: of the input.
        given: canonical name: column, where the user has said it.
        unread: what the files have beside the columns, for messages.

    Raises:
        DataError: there is no time, no amount or no label.
        SettingsError: `given` names a column that is not there, that is another role's, or that does not fit.
    """
    found = Search.of(columns, given, unread)
    label, form = _find_label(found)
    label_time = find_label_time(found)
    time = find_time(found)
    amount = _find_amount(found)
    blocked = _find_flag(found, "blocked", names.BLOCKED)
    control = _find_flag(found, "control_group", names.CONTROL)
    transaction_id = _find_id(found)
    card = _find_card(found)
    terminal = _find_terminal(found)
    if label_time is not None:
        label_time = checked_label_time(label_time, time, found)
    remarks = tuple(found.remarks)
    return Roles(
        time, amount, label, form, transaction_id, card, terminal, label_time, blocked, control, found.why, remarks
    )


def _find_label(found: Search) -> tuple[Column, LabelForm]:
    label = found.take_given("fraud") or _label_by_name(found) or _label_by_values(found)
    if label is None:
        raise DataError(
            "found no fraud: expected a column that says which transactions were frauds;"
            f"{_unfit_label(found)} {found.all_names()}; next: name it with --column fraud=NAME"
        )
    form = find_label_form(label)
    if form is not None and form.is_fraud.all():
        raise _one_value(label, f"holds one class only: all {len(form.is_fraud):,} rows are frauds", found)
    if label.distinct == 1 and (form is None or not form.is_fraud.any()):
        raise _one_value(label, "holds one value only", found)
    if form is None:
        raise found.unfit("fraud", f"it {why_no_label(label)}")
    return label, form


def _one_value(label: Column, what: str, found: Search) -> DataError:
    return DataError(
        f"column {label.name} {what}; expected frauds and genuine transactions; {found.all_names()};"
        " next: give all transactions, or name the column of the label with --column fraud=NAME"
    )


def _label_by_name(found: Search) -> Column | None:
    """The best named column that can be a label; one that must be by its name also where it holds one value."""
    for column in found.ranked(names.LABEL, _is_no_label):
        is_named = names.score(column.name, names.LABEL) >= _SURELY
        if find_label_form(column) is not None or (is_named and column.distinct == 1):
            return found.free.pop(column.name)
    return None


def _label_by_values(found: Search) -> Column | None:
    """The one column with a value that says fraud, whatever its name."""
    fits = [
        column
        for name, column in found.free.items()
        if not _is_no_label(" ".join(names.words(name))) and names_fraud(column) and find_label_form(column) is not None
    ]
    if len(fits) != 1:
        return None
    found.why["fraud"] = "by the words of its values; no name says fraud"
    return found.free.pop(fits[0].name)


def _is_no_label(name: str) -> bool:
    return names.NOT_LABEL.search(name) is not None


def _unfit_label(found: Search) -> str:
    """Why the column whose name fits best is no label."""
    best = next(iter(found.ranked(names.LABEL, _is_no_label)), None)
    return "" if best is None else f" column {best.name} {why_no_label(best)};"


def _find_amount(found: Search) -> Column:
    def fits(column: Column) -> bool:
        return column.amounts is not None and float(np.isinf(column.amounts).mean()) <= _MOST_MISSING

    def excluded(name: str) -> bool:
        return names.NOT_AMOUNT.search(name) is not None

    amount = found.take_given("amount", fits, "numbers, such as 12.50")
    amount = amount or found.take("amount", names.AMOUNT, fits, excluded)
    if amount is None:
        unfit = found.named_but_unfit(names.AMOUNT, excluded, "amounts")
        raise DataError(
            f"found no amount: expected a column with the amount of each transaction;{unfit} {found.all_names()};"
            " next: name it with --column amount=NAME"
        )
    return amount


def _find_flag(found: Search, canonical: str, vocabulary: Mapping[str, float]) -> Column | None:
    given = found.take_given(canonical, _is_flag, "0 and 1, or true and false")
    return given or found.take(canonical, vocabulary, _is_flag)


def _find_id(found: Search) -> Column | None:
    def fits(column: Column) -> bool:
        there = int(column.filled.sum())
        floating = column.numbers is not None and not column.is_integer
        return not floating and there == len(column.values) and there - column.distinct <= _MOST_REPEATED_IDS * there

    return found.take("transaction_id", names.ID, fits)


def _find_card(found: Search) -> Column | None:
    def fits(column: Column) -> bool:
        there = int(column.filled.sum())
        return _names_something(column) and there >= 1.5 * column.distinct and column.distinct >= _least_cards(there)

    def excluded(name: str) -> bool:
        return names.NOT_CARD.search(name) is not None

    card = found.take("customer_id", names.CARD, fits, excluded)
    if card is not None and "customer_id" not in found.given:
        worth = names.score(card.name, names.CARD)
        for part in found.ranked(names.CARD, excluded):
            if names.score(part.name, names.CARD) > worth and part.is_integer and 1 < part.distinct < card.distinct:
                found.remarks.append(
                    f"customer_id: {part.name} may number the cards of each {card.name}; a card is both together then:"
                    " join them to one column"
                )
                break
    return card


def _least_cards(rows: int) -> int:
    """Fewer distinct values are categories; of small data few cards are enough."""
    return 20 if rows > 2_000 else 5


def _find_terminal(found: Search) -> Column | None:
    def fits(column: Column) -> bool:
        there = int(column.filled.sum())
        return _names_something(column) and there >= 1.5 * column.distinct and column.distinct >= 5

    return found.take("terminal_id", names.TERMINAL, fits, lambda name: names.NOT_TERMINAL.search(name) is not None)


def _names_something(column: Column) -> bool:
    return column.time_form is None and (column.numbers is None or column.is_integer)


def _is_flag(column: Column) -> bool:
    return {text.lower() for text in column.counts} <= {"0", "1", "0.0", "1.0", "true", "false"} and column.distinct > 0
