"""Score Features rows where they lie: the engine's workers predict, and only scores travel to the driver."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from fraud_detection.model.encoding import columns_read, encode, require_columns
from fraud_detection.model.model import Model
from fraud_detection.shapes import without_values

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Scoring = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

INPUTS = "inputs of a sample"
"""The column of the inputs of a sample of the rows, to explain scores with."""

_MODELS_KEPT = 64  # in a worker; a run looks at fewer


def with_scores(
    features: "DataFrame",
    models: Mapping[str, bytes],
    keep: Sequence[str],
    missing: Sequence[str] = (),
    sample: float = 0.0,
) -> "DataFrame":
    """Some columns of the Features rows, and the score of each row by each model.

    Args:
        features: with the columns that the models read.
        models: by the name of the column of its scores, the model's bytes (`Model.to_bytes`).
        keep: columns of `features`, in this order.
        missing: columns that a model reads and the data no longer have; their values are missing.
        sample: a share of the rows, drawn by `sample_hash`, whose inputs are returned, too.

    Returns:
        `keep`, then the names of `models`, float32: the probabilities that `Model.predict` gives, bit for bit. With
        a sample, `INPUTS` as well: a list of float32 in the order of `all_inputs(models)`, null in rows not drawn.

    Raises:
        FraudDetectionError: columns that a model reads are neither there nor in `missing`; all are named.
    """
    from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

    columns = pd.DataFrame(columns=[*features.columns, *missing])
    for content in models.values():  # here, where an error has a reader
        model = Model.from_bytes(content)
        require_columns(columns_read(model.inputs, columns), columns)
    given = {field.name: field for field in features.schema.fields}
    scores = [StructField(name, FloatType(), nullable=False) for name in models]
    inputs = [StructField(INPUTS, ArrayType(FloatType()))] if sample > 0 else []
    schema = StructType([*(given[name] for name in keep), *scores, *inputs])
    return features.mapInArrow(_scoring(dict(models), tuple(keep), tuple(missing), sample), schema)


def all_inputs(models: Iterable[Model]) -> tuple[str, ...]:
    """The inputs of any of the models, sorted."""
    return tuple(sorted({name for model in models for name in model.inputs}))


def _scoring(models: dict[str, bytes], keep: tuple[str, ...], missing: tuple[str, ...], sample: float) -> Scoring:
    """A function for `mapInArrow` that scores one batch after the other."""

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                rows = pa.Table.from_batches([batch])
                inputs = rows.to_pandas().assign(**dict.fromkeys(missing, np.nan))
                table = rows.select(list(keep))
                for name, content in models.items():
                    table = table.append_column(name, pa.array(loaded(content).predict(inputs)))
                if sample > 0:
                    names = all_inputs(loaded(content) for content in models.values())
                    table = table.append_column(INPUTS, _sampled_inputs(inputs, names, sample))
                yield from table.to_batches()

    return without_values(score)


def _sampled_inputs(rows: pd.DataFrame, names: tuple[str, ...], share: float) -> pa.Array:
    """The inputs of the rows that are drawn, null for the others."""
    kind = pa.list_(pa.float32())
    drawn = rows["sample_hash"].to_numpy() < share
    found: list[NDArray[np.float32] | None] = [None] * len(rows)
    for place, values in zip(np.flatnonzero(drawn).tolist(), encode(rows[drawn], names), strict=True):
        found[place] = values
    return pa.array(found, kind)


@lru_cache(maxsize=_MODELS_KEPT)
def loaded(content: bytes) -> Model:
    """The model, loaded once in a worker. One thread each: the engine keeps the cores busy with workers."""
    model = Model.from_bytes(content)
    model.booster.set_param({"nthread": 1})
    return model
