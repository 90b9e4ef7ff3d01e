"""Dirty rows, added to the clean ones: damaged copies, so that setting them aside leaves exactly the clean data."""

from datetime import date
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_simulation.randomness import IntArray, Stream, generator

_DAY_US = 86_400 * 1_000_000
_CENTURY_US = 36_525 * _DAY_US


class Damage(IntEnum):
    """What is wrong with a dirty row."""

    DUPLICATE_ID = 0
    NULL_ID = 1
    NEGATIVE_AMOUNT = 2
    FUTURE_TIME = 3
    BAD_LABEL = 4
    LABEL_BEFORE_TRANSACTION = 5


def dirty_rows(clean: pa.Table, seed: int, day: date, share: float) -> tuple[pa.Table, IntArray]:
    """Damaged copies of rows of a day, each kind as often: about `share` of the clean and dirty rows together.

    Returns:
        The dirty rows, and for each the position of the clean row that it copies.
    """
    rng = generator(seed, Stream.DIRT, day.toordinal())
    source = rng.integers(0, len(clean), rng.poisson(len(clean) * share / (1.0 - share)))
    damage = np.arange(len(source)) % len(Damage)
    unused_id = clean["transaction_id"][-1].as_py() + 1
    return _damaged(clean.take(source), damage, unused_id + np.arange(len(source))), source


def _damaged(rows: pa.Table, damage: IntArray, new_ids: IntArray) -> pa.Table:
    """The rows, each with its damage: (rows,)."""
    where = {kind: pa.array(damage == kind) for kind in Damage}
    columns = {name: rows[name] for name in rows.column_names}
    ids = pc.if_else(where[Damage.DUPLICATE_ID], rows["transaction_id"], pa.array(new_ids))
    columns["transaction_id"] = pc.if_else(where[Damage.NULL_ID], pa.scalar(None, pa.int64()), ids)
    columns["amount"] = pc.if_else(where[Damage.NEGATIVE_AMOUNT], pc.negate(rows["amount"]), rows["amount"])
    columns["fraud"] = pc.if_else(where[Damage.BAD_LABEL], pa.scalar(2, pa.int8()), rows["fraud"])
    for name in ("transaction_time", "label_available_at"):
        later = pc.add(rows[name], pa.scalar(_CENTURY_US, pa.duration("us")))
        columns[name] = pc.if_else(where[Damage.FUTURE_TIME], later, rows[name])
    too_early = pc.subtract(rows["transaction_time"], pa.scalar(_DAY_US, pa.duration("us")))
    columns["label_available_at"] = pc.if_else(
        where[Damage.LABEL_BEFORE_TRANSACTION], too_early, columns["label_available_at"]
    )
    return pa.table(columns, schema=rows.schema)
