"""The columns of a table: their canonical names, where each comes from, and what kind of value it holds."""

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from fraud_detection import settings
from fraud_detection.errors import SettingsError
from fraud_detection.labels import EARLIER_HISTORY, HISTORY


class Kind(StrEnum):
    """What a column holds; it decides which source types are taken and how they are converted."""

    ID = "id"
    TIME = "time"
    AMOUNT = "amount"
    LABEL = "label"
    FLAG = "flag"
    NUMBER = "number"
    CATEGORY = "category"


EXPECTED = {
    Kind.ID: "whole number or text",
    Kind.TIME: "timestamp, date or text; or a number, with data.format.time_unit or time_formats",
    Kind.AMOUNT: "number or text",
    Kind.LABEL: "number, boolean or text",
    Kind.FLAG: "number, boolean or text",
    Kind.NUMBER: "number, boolean or text",
    Kind.CATEGORY: "text, number or boolean",
}
"""The source types that each kind takes, as messages name them."""


@dataclass(frozen=True)
class Field:
    """One mapped column."""

    name: str  # canonical
    source: str  # as messages and the quarantine name it
    kind: Kind
    parts: tuple[str, ...] = ()  # of several columns that are joined

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the file that it is read from."""
        return self.parts or (self.source,)


CANONICAL = {
    "transaction_id": Kind.ID,
    "transaction_time": Kind.TIME,
    "amount": Kind.AMOUNT,
    "fraud": Kind.LABEL,
    "customer_id": Kind.ID,
    "terminal_id": Kind.ID,
    "label_available_at": Kind.TIME,
    "blocked": Kind.FLAG,
    "control_group": Kind.FLAG,
}
"""The canonical columns in their order; `settings.Columns` maps each to a source column. Extra columns come after."""
KEY = "transaction_id"
OF_LABEL = ("fraud", "label_available_at")
"""The columns that hold the label."""
RETIRABLE = ("customer_id", "terminal_id")
"""The columns that may be gone for good: a model knows them only by the features made of them."""
FLAGS = tuple(name for name, kind in CANONICAL.items() if kind is Kind.FLAG)
RESERVED = {*CANONICAL, HISTORY, EARLIER_HISTORY, "sample_hash", "reason", "broken_line"}
"""Names that no extra column may have."""


def reserved(columns: settings.Columns) -> set[str]:
    """Names that no extra column may have; a flag's only where it is mapped."""
    return RESERVED - {name for name in FLAGS if getattr(columns, name) is None}


def transaction_fields(columns: settings.Columns) -> tuple[Field, ...]:
    """The mapped columns of the transactions, in canonical order.

    Raises:
        SettingsError: an extra column has the name of a canonical one.
    """
    extra = [*columns.extra_numeric, *columns.extra_categorical]
    taken = sorted(name for name in extra if name.lower() in reserved(columns))  # engines ignore the case of names
    if taken:
        raise SettingsError(f"extra columns cannot be called {', '.join(taken)}: the system uses these names itself")
    alike = sorted(name for name in extra if [other.lower() for other in extra].count(name.lower()) > 1)
    if alike:
        raise SettingsError(f"extra columns must differ in more than case: {', '.join(alike)}; rename or leave out one")
    numeric = (Field(name, name, Kind.NUMBER) for name in columns.extra_numeric)
    categorical = (Field(name, name, Kind.CATEGORY) for name in columns.extra_categorical)
    return (*_mapped(columns, tuple(CANONICAL)), *numeric, *categorical)


def label_fields(labels: settings.LabelTable) -> tuple[Field, ...]:
    """The mapped columns of a label table."""
    return _mapped(labels, (KEY, *OF_LABEL))


def feature_table_columns(columns: settings.Columns) -> tuple[str, ...]:
    """The canonical columns of the Features table that are always there: which transaction it is, and its label."""
    return tuple(
        name
        for name in CANONICAL
        if name in {KEY, "fraud"} or (name not in OF_LABEL and getattr(columns, name) is not None)
    )


def _mapped(columns: settings.Columns | settings.LabelTable, names: tuple[str, ...]) -> tuple[Field, ...]:
    sources = {name: getattr(columns, name) for name in names}
    return tuple(_field(name, source) for name, source in sources.items() if source is not None)


def _field(name: str, source: str | tuple[str, ...]) -> Field:
    if isinstance(source, str):
        return Field(name, source, CANONICAL[name])
    return Field(name, " + ".join(source), CANONICAL[name], source if len(source) > 1 else ())


def family(kind: Kind, source: pa.DataType, form: settings.Format) -> str | None:
    """The canonical type that a column of this source type gets, or None where the kind does not take it.

    An all-null column may come without a type (`null`); it belongs to any family, and is given as "any".
    """
    if pa.types.is_dictionary(source):
        source = source.value_type
    if pa.types.is_null(source):
        return "any"
    if kind is Kind.TIME and _counts_time(source, form):
        return "timestamp"
    return _TAKES[kind](source)


def _counts_time(source: pa.DataType, form: settings.Format) -> bool:
    """Whether the settings read numbers as times: as a count, or their digits by a form such as %Y%m%d."""
    digits = bool(form.time_formats) and pa.types.is_integer(source)
    return digits or (form.time_unit is not None and _is_number(source))


def part_family(source: pa.DataType) -> str | None:
    """As `family`, of one of several columns that are joined to a time."""
    if pa.types.is_dictionary(source):
        source = source.value_type
    taken = is_text(source) or pa.types.is_integer(source) or pa.types.is_temporal(source) or pa.types.is_null(source)
    return "timestamp" if taken and not pa.types.is_duration(source) else None


def _id_family(source: pa.DataType) -> str | None:
    if (pa.types.is_integer(source) and source != pa.uint64()) or pa.types.is_floating(source):
        return "bigint"  # a column of integers of which some are missing comes as numbers with a fraction of zero
    whole = pa.types.is_decimal(source) and source.scale == 0
    return "string" if whole or source == pa.uint64() or is_text(source) else None


def _time_family(source: pa.DataType) -> str | None:
    taken = pa.types.is_timestamp(source) or pa.types.is_date(source) or is_text(source)
    return "timestamp" if taken else None


def _amount_family(source: pa.DataType) -> str | None:
    return "double" if _is_number(source) or is_text(source) else None


def _number_family(source: pa.DataType) -> str | None:
    return "double" if pa.types.is_boolean(source) else _amount_family(source)


def _label_family(source: pa.DataType) -> str | None:
    return "tinyint" if _number_family(source) else None


def _category_family(source: pa.DataType) -> str | None:
    taken = is_text(source) or pa.types.is_boolean(source) or _is_number(source)
    return "string" if taken else None


def _is_number(source: pa.DataType) -> bool:
    return bool(pa.types.is_integer(source) or pa.types.is_floating(source) or pa.types.is_decimal(source))


def is_text(source: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    return bool(pa.types.is_string(source) or pa.types.is_large_string(source) or pa.types.is_string_view(source))


_TAKES = {
    Kind.ID: _id_family,
    Kind.TIME: _time_family,
    Kind.AMOUNT: _amount_family,
    Kind.LABEL: _label_family,
    Kind.FLAG: _label_family,
    Kind.NUMBER: _number_family,
    Kind.CATEGORY: _category_family,
}
