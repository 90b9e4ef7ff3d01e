"""Columns of Arrow tables as the arrays that the kernels take, and back."""

from typing import Any

import numpy as np
import pyarrow as pa

from fraud_detection.features.timeline import ComputedFeatures, Floats, Ints
from fraud_detection.labels import HISTORY, NEVER, UNKNOWN, Labels


def with_computed(rows: pa.Table, result: ComputedFeatures) -> pa.Table:
    """The result's rows with its features, NaN as null."""
    table = rows.take(pa.array(result.positions))
    for name, values in result.features.items():
        table = table.append_column(name, pa.array(values, from_pandas=True))
    return table


def times_of(column: pa.ChunkedArray) -> Ints:
    """Times as microseconds since 1970."""
    times: Ints = _as_microseconds(column).to_numpy()
    return times


def labels_of(rows: pa.Table, label_delay: int) -> Labels:
    """The labels of rows of the canonical table.

    Args:
        rows: transaction_time, fraud, [label_available_at], [label_history].
        label_delay: in microseconds.
    """
    columns = rows.column_names
    available = _label_times(rows["label_available_at"]) if "label_available_at" in columns else None
    history = rows[HISTORY].combine_chunks() if HISTORY in columns else None
    fraud = rows["fraud"].cast(pa.int8()).fill_null(UNKNOWN).to_numpy()
    return Labels.of(times_of(rows["transaction_time"]), fraud, available, history, label_delay)


def _label_times(column: pa.ChunkedArray) -> Ints:
    """Times as microseconds since 1970; null is NEVER."""
    times: Ints = _as_microseconds(column).fill_null(NEVER).to_numpy()
    return times


def _as_microseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())


def codes_of(column: pa.ChunkedArray) -> Ints:
    """Keys of any type as small integers. A missing key is unknown and equals no other one."""
    indices = column.combine_chunks().dictionary_encode().indices
    codes: Ints = indices.fill_null(-1).to_numpy().astype(np.int64)
    unknown = np.flatnonzero(codes < 0)
    codes[unknown] = codes.max(initial=-1) + 1 + np.arange(len(unknown))
    return codes


def ids_of(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[Any]]:
    """Ids of any type as they are."""
    ids: np.ndarray[Any, np.dtype[Any]] = column.to_numpy()
    return ids


def sample_hashes(ids: pa.ChunkedArray) -> Floats:
    """A number in [0, 1) from each id, evenly spread and the same on every engine and machine."""
    import pandas as pd

    hashes = pd.util.hash_array(ids_of(ids), categorize=False)
    return (hashes >> np.uint64(11)) * 2.0**-53  # 53 bits: all that a double holds below 1
