"""The inputs of a model: how columns become numbers. Serving needs this and the model; it needs no training code.

An input is either a numeric column, under its own name, or `column=value`: 1 where the categorical column has the
value, 0 where it has another, missing where it is missing. In names, the characters that XGBoost or this notation
reserves ("[", "]", "<", "=", "%") are percent-encoded.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fraud_detection.errors import FraudDetectionError

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float32]

_LARGEST = np.finfo(np.float32).max


def encode(rows: "pd.DataFrame", inputs: tuple[str, ...]) -> FloatArray:
    """The inputs of each row, shape (rows, inputs)."""
    matrix = np.empty((len(rows), len(inputs)), dtype=np.float32)
    strings: dict[str, pd.Series[str]] = {}
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is brought back by _finite
        for i, name in enumerate(inputs):
            column, is_category, value = name.partition("=")
            if name in rows or not is_category:
                matrix[:, i] = rows[name if name in rows else unescape(name)].to_numpy(np.float32, na_value=np.nan)
                continue
            if column not in strings:
                strings[column] = rows[unescape(column)].astype("string")
            matrix[:, i] = (strings[column] == unescape(value)).to_numpy(np.float32, na_value=np.nan)
    return _finite(matrix)


class RowEncoder:
    """As `encode`, of one row at a time: without a table, in microseconds."""

    def __init__(self, inputs: tuple[str, ...], columns: Iterable[str]) -> None:
        """Prepare the inputs of a model, given the columns that rows have."""
        self._plan = [_source(name, {*columns}) for name in inputs]

    def __call__(self, row: Mapping[str, float | str | None]) -> FloatArray:
        """The inputs of a row, shape (1, inputs); a missing value is None or NaN."""
        values = np.array([_value(row[column], category) for column, category in self._plan], np.float64)
        with np.errstate(over="ignore"):
            return _finite(values.astype(np.float32)[np.newaxis])


def _source(name: str, columns: set[str]) -> tuple[str, str | None]:
    """The column that an input comes from, and the value that it compares with."""
    column, is_category, value = name.partition("=")
    if name in columns or not is_category:
        return name if name in columns else unescape(name), None
    return unescape(column), unescape(value)


def _value(value: float | str | None, category: str | None) -> float:
    if value is None:
        return math.nan
    return float(value) if category is None else float(value == category)


def _finite(matrix: FloatArray) -> FloatArray:
    """With the largest number in place of infinity, which XGBoost does not take."""
    infinite = np.isinf(matrix)
    if infinite.any():
        matrix[infinite] = np.copysign(_LARGEST, matrix[infinite])
    return matrix


def columns_read(inputs: tuple[str, ...], rows: "pd.DataFrame") -> set[str]:
    """The columns that the inputs come from; an input that is itself a column of `rows` is taken as it is."""
    return {name if name in rows else unescape(name.partition("=")[0]) for name in inputs}


def require_columns(columns: set[str], rows: "pd.DataFrame") -> None:
    """Refuse rows that lack columns.

    Raises:
        FraudDetectionError: columns are missing; all are named.
    """
    missing = sorted(columns - set(rows.columns))
    if missing:
        found = ", ".join(map(str, rows.columns))
        raise FraudDetectionError(f"columns that the model reads are missing: {', '.join(missing)}; found: {found}")


def escape(text: str) -> str:
    """A column or a value as it is written in the name of an input."""
    return re.sub(r"[%=\[\]<]", lambda match: f"%{ord(match[0]):02X}", text)


def unescape(name: str) -> str:
    """What was escaped."""
    return re.sub(r"%([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), name)
