"""Count where the rows lie how a model's inputs and scores are distributed: only counts travel to the driver.

The bins are those of `fine_bins`, which need no look at the data first.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from fraud_detection.model.encoding import FloatArray, columns_read, encode, require_columns, unescape
from fraud_detection.model.fine_bins import BINS, FIRST_BIN, Ints, category_bins, fine_bins
from fraud_detection.model.model import Model
from fraud_detection.model.scoring import loaded
from fraud_detection.shapes import without_values

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_NAMES = ["name", "bin", "rows"]

Counting = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def count_bins(features: "DataFrame", content: bytes, missing: Sequence[str] = ()) -> pd.DataFrame:
    """Rows by fine bin of each column that a model reads, and of its scores.

    Args:
        features: with the columns that the model reads.
        content: the model (`Model.to_bytes`).
        missing: columns that it reads and the data no longer have; they are not counted.

    Returns:
        name (of `counted_names`, the last one is of the scores), bin, rows: int64.

    Raises:
        FraudDetectionError: columns that the model reads are neither there nor in `missing`; all are named.
    """
    from pyspark.sql import functions as F  # noqa: N812
    from pyspark.sql.types import LongType, StructField, StructType

    columns = pd.DataFrame(columns=[*features.columns, *missing])
    require_columns(columns_read(Model.from_bytes(content).inputs, columns), columns)
    schema = StructType([StructField(name, LongType(), nullable=False) for name in _NAMES])
    counts = features.mapInArrow(_counting(content, tuple(missing)), schema)
    found: pd.DataFrame = counts.groupBy("name", "bin").agg(F.sum("rows").alias("rows")).toPandas()
    return found


def counted_columns(model: Model, missing: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
    """The columns that are counted, with the places of their inputs in the model: several of a category."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(model.inputs):
        found.setdefault(unescape(name.partition("=")[0]), []).append(place)
    return {name: tuple(places) for name, places in found.items() if name not in missing}


def is_category(model: Model, places: Sequence[int]) -> bool:
    """Whether a counted column is a category."""
    return "=" in model.inputs[places[0]]


def _counting(content: bytes, missing: tuple[str, ...]) -> Counting:
    """A function for `mapInArrow` that counts a partition."""

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = loaded(content)
        found = np.zeros((len(counted_columns(model, missing)) + 1, BINS), np.int64)
        for batch in batches:
            if batch.num_rows:
                rows = batch.to_pandas().assign(**dict.fromkeys(missing, np.nan))
                _add(found, model, encode(rows, model.inputs), model.predict(rows), missing)
        name, place = np.nonzero(found)
        if len(name):
            columns = [name, place + FIRST_BIN, found[name, place]]
            yield pa.RecordBatch.from_arrays([pa.array(column) for column in columns], _NAMES)

    return without_values(count)


def _add(counts: Ints, model: Model, inputs: FloatArray, scores: FloatArray, missing: tuple[str, ...]) -> None:
    """Add rows to the counts, in place."""
    columns = [
        category_bins(inputs[:, list(places)]) if is_category(model, places) else fine_bins(inputs[:, places[0]])
        for places in counted_columns(model, missing).values()
    ]
    for own, bins in zip(counts, [*columns, fine_bins(scores)], strict=True):
        own += np.bincount(bins - FIRST_BIN, minlength=BINS)
