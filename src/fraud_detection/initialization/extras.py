"""The further columns: which can be features, and which are left out and why."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fraud_detection.data_health.leakage import ranking_precision
from fraud_detection.initialization import names
from fraud_detection.initialization.column import Column
from fraud_detection.initialization.numbers import Floats, NumberForm
from fraud_detection.initialization.personal import find_personal
from fraud_detection.initialization.roles import Roles
from fraud_detection.transactions.columns import RESERVED

MOST_CATEGORIES = 60
_LEAST_ROWS_EACH = 10
_LEAST_FRAUDS = 20
_LEAST_FILLED = 10
_ONLY_FRAUDS = 0.9
_MOST_WRONG = 0.001
_EXACT = 2**53  # what a float holds without rounding
_RUNS_WITH_TIME = 0.999


@dataclass(frozen=True)
class Extras:
    """Columns that are features without change, and the others with the reason why they are left out."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    left_out: dict[str, str]
    leaking: dict[str, str]
    """Of those left out the ones that know the label."""


def find_extras(columns: Iterable[Column], roles: Roles, form: NumberForm, most_precise: float) -> Extras:
    """Sort the columns that have no role.

    Args:
        columns: of the input.
        roles: the mapped ones, which are passed over.
        form: of the numbers of this input.
        most_precise: an average precision; a column that ranks the frauds better by itself leaks them.
    """
    numeric, categorical, left_out, leaking = [], [], {}, {}
    columns = list(columns)
    personal = find_personal(columns)
    for column in columns:
        if column.name in roles.taken:
            continue
        leak = _leak(column, roles, most_precise)
        if leak is not None:
            leaking[column.name] = leak
        elif (reason := _reason(column, roles, form, is_personal=column.name in personal)) is not None:
            left_out[column.name] = reason
        elif _is_category(column):
            categorical.append(column.name)
        else:
            numeric.append(column.name)
    return Extras(tuple(numeric), tuple(categorical), left_out | leaking, leaking)


def _reason(column: Column, roles: Roles, form: NumberForm, *, is_personal: bool) -> str | None:
    """Why a column cannot be a feature; None where it can."""
    rows = len(column.values)
    if column.name.lower() in RESERVED:
        return "the system uses this name itself; rename the column to use it"
    if column.distinct <= 1:
        return "constant" if column.distinct else "empty"
    if is_personal:
        return "looks personal"
    if column.time_form is not None:
        return "another time"
    if column.numbers is None:
        return _reason_of_text(column, rows)
    if column.number_form is not None and not _agrees(column, form):
        return "its numbers are written in another form than the amounts"
    if float(np.isinf(column.numbers).mean()) > _MOST_WRONG:
        return f"{float(np.isinf(column.numbers).mean()):.1%} of its values are no numbers"
    if column.is_integer and (np.abs(column.numbers[np.isfinite(column.numbers)]) > _EXACT).any():
        return "integers too large to be exact: an id or a key"
    if column.is_integer and column.distinct > 0.9 * int(column.filled.sum()) > 100:
        return "a number of the row or an id"
    if _runs_with_time(column, roles):
        return "rises with the time, so it says only when"
    return None


def _reason_of_text(column: Column, rows: int) -> str | None:
    filled = int(column.filled.sum())
    if column.distinct > MOST_CATEGORIES and column.distinct * _LEAST_ROWS_EACH > filled:
        return "free text or an id: nearly every row has a value of its own"
    if column.distinct > MOST_CATEGORIES:
        return f"{column.distinct:,} different texts; at most {MOST_CATEGORIES} are taken as categories"
    if filled < _LEAST_ROWS_EACH * column.distinct or rows < _LEAST_ROWS_EACH:
        return "too few rows for each of its values"
    return None


def _agrees(column: Column, form: NumberForm) -> bool:
    own = column.number_form
    plain = own is not None and own.decimal_mark == "." and own.thousands_mark is None and not own.currency
    if own == form or (plain and (form.decimal_mark == "." or column.is_integer)):
        return True
    return own is not None and (own.decimal_mark, own.thousands_mark) == (form.decimal_mark, form.thousands_mark)


def _is_category(column: Column) -> bool:
    """Texts; and whole numbers that are few and that a name calls a code."""
    if column.numbers is None:
        return True
    named = names.CODE.search(" ".join(names.words(column.name))) is not None
    return column.is_integer and named and 2 < column.distinct <= MOST_CATEGORIES


def _runs_with_time(column: Column, roles: Roles) -> bool:
    values = column.numbers
    if values is None or column.distinct < 100:
        return False
    used = roles.time.known & np.isfinite(values)
    ranks = pd.DataFrame({"time": roles.time.moments[used], "value": values[used]})[:200_000].rank()
    return bool(abs(ranks["time"].corr(ranks["value"])) > _RUNS_WITH_TIME)


def _leak(column: Column, roles: Roles, most_precise: float) -> str | None:
    """Why a column is taken for one that knows the label; None for others."""
    fraud = roles.label.is_fraud[roles.label.is_known]
    if names.OF_LABEL.search(column.name):
        return "its name says that it comes from the label"
    if fraud.sum() < _LEAST_FRAUDS or fraud.all() or column.distinct == 0:
        return None
    filled = column.filled[roles.label.is_known]
    if _LEAST_FILLED <= filled.sum() < 0.5 * len(filled) and fraud[filled].mean() >= _ONLY_FRAUDS:
        return f"filled nearly only for frauds ({fraud[filled].mean():.0%} of {int(filled.sum()):,} rows are frauds)"
    best = max(ranking_precision(score, fraud, np.ones(len(fraud))) for score in _rankings(column, roles))
    if best > most_precise:
        return f"alone it ranks the frauds with an average precision of {best:.2f}; it may be filled in afterwards"
    return None


def _rankings(column: Column, roles: Roles) -> list[Floats]:
    """Scores of the labelled rows by this column alone: upwards, downwards, by absence, by the share of frauds."""
    known = roles.label.is_known
    filled = column.filled[known]
    found = [filled.astype(np.float64), (~filled).astype(np.float64)]
    if column.numbers is not None:
        values = column.numbers[known]
        usable = np.isfinite(values)
        found += [np.where(usable, values, -np.inf), np.where(usable, -values, -np.inf)]
    if column.distinct <= MOST_CATEGORIES:
        codes = column.codes[known] + 1
        fraud = roles.label.is_fraud[known]
        shares = np.bincount(codes, weights=fraud) / np.maximum(np.bincount(codes), 1)
        found.append(shares[codes])
    return found
