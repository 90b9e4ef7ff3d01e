"""The search for the columns of the roles: those that are free, those that the user has named, and why."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from fraud_detection.errors import SettingsError
from fraud_detection.initialization import names
from fraud_detection.initialization.column import Column
from fraud_detection.shapes import column_names, shape

_SHOWN = 40
_FORMS = 4
_TIMES = frozenset({"transaction_time", "label_available_at"})


@dataclass
class Search:
    """The columns of an input while roles are found for them."""

    columns: tuple[Column, ...]
    given: dict[str, tuple[Column, ...]]
    """Canonical name: the columns that the user has named; several of a time."""
    free: dict[str, Column]
    """The columns that have no role yet and that the user has not named."""
    why: dict[str, str] = field(default_factory=dict)
    """Canonical name: why this column, or why none."""
    remarks: list[str] = field(default_factory=list)
    """What the settings file says beside."""
    unread: str = ""
    """What the files have beside the columns, for messages."""

    @classmethod
    def of(cls, columns: Iterable[Column], given: Mapping[str, str], unread: str = "") -> Self:
        """The search at its begin.

        Raises:
            SettingsError: `given` names a column that is not there, or one twice.
        """
        there = {column.name: column for column in columns}
        found = {canonical: _named(canonical, name, there) for canonical, name in given.items()}
        taken = Counter(column.name for parts in found.values() for column in parts)
        twice = next((name for name, count in taken.items() if count > 1), None)
        if twice is not None:
            raise SettingsError(f"--column: {twice} is named more than once; expected one role for each column")
        free = {name: column for name, column in there.items() if name not in taken}
        return cls(tuple(there.values()), found, free, unread=unread)

    def take(
        self,
        canonical: str,
        vocabulary: Mapping[str, float],
        fits: Callable[[Column], bool],
        excluded: Callable[[str], bool] = lambda _: False,
    ) -> Column | None:
        """The column with the best name among those that fit, which is then no longer free.

        A column that the user has named is taken as it is.
        """
        if (column := self.take_given(canonical)) is not None:
            return column
        for column in self.ranked(vocabulary, excluded):
            if fits(column):
                return self.free.pop(column.name)
        return None

    def take_given(
        self, canonical: str, fits: Callable[[Column], bool] = lambda _: True, wanted: str = ""
    ) -> Column | None:
        """The one column that the user has named for a role.

        Raises:
            SettingsError: it does not fit; `wanted` says what was expected.
        """
        if canonical not in self.given:
            return None
        (column,) = self.given[canonical]
        if not fits(column):
            raise self.unfit(canonical, f"expected {wanted}")
        self.why[canonical] = "given by --column"
        return column

    def ranked(self, vocabulary: Mapping[str, float], excluded: Callable[[str], bool]) -> list[Column]:
        """The free columns whose names say something, the best first."""
        scored = [
            (names.score(name, vocabulary), column)
            for name, column in self.free.items()
            if not excluded(" ".join(names.words(name)))
        ]
        return [column for _, column in sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: -pair[0])]

    def unfit(self, canonical: str, reason: str) -> SettingsError:
        """The error for a column that the user has named."""
        name = "+".join(column.name for column in self.given[canonical])
        return SettingsError(f"--column {canonical}={name}: the column does not fit: {reason}")

    def named_but_unfit(self, vocabulary: Mapping[str, float], excluded: Callable[[str], bool], what: str) -> str:
        """What the column with the best name holds instead, for messages; empty where no name says anything."""
        best = next(iter(self.ranked(vocabulary, excluded)), None)
        return "" if best is None else f" column {best.name} does not hold {what} ({_forms(best)});"

    def all_names(self) -> str:
        """The names of the columns for a message."""
        found = column_names([column.name for column in self.columns])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        unread = f"; not used: {self.unread}" if self.unread else ""
        return f"columns found: {', '.join(found[:_SHOWN])}{more}{unread}"


def _forms(column: Column) -> str:
    """The usual masked shapes of a column's texts with their share, or its type."""
    if not column.is_text:
        return f"its type is {column.values.type}"
    shapes: Counter[str] = Counter()
    for text, count in column.counts.items():
        shapes[shape(text)] += count
    usual = [f"{form}: {count / shapes.total():.1%}" for form, count in shapes.most_common(_FORMS)]
    return "of its texts " + ", ".join(usual) if usual else "it is empty"


def _named(canonical: str, name: str, columns: Mapping[str, Column]) -> tuple[Column, ...]:
    parts = name.split("+") if canonical in _TIMES and name not in columns else [name]
    absent = [part for part in parts if part not in columns]
    if absent:
        raise SettingsError(f"--column {canonical}={name}: the input has no column {absent[0]}")
    return tuple(columns[part] for part in parts)
