"""Score Features rows where they lie: the engine's workers predict, and only scores travel to the driver."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from fraud_detection.model.encoding import columns_read, require_columns
from fraud_detection.model.model import Model
from fraud_detection.shapes import without_values

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Scoring = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_MODELS_KEPT = 64  # in a worker; a run looks at fewer


def with_scores(
    features: "DataFrame", models: Mapping[str, bytes], keep: Sequence[str], missing: Sequence[str] = ()
) -> "DataFrame":
    """Some columns of the Features rows, and the score of each row by each model.

    Args:
        features: with the columns that the models read.
        models: by the name of the column of its scores, the model's bytes (`Model.to_bytes`).
        keep: columns of `features`, in this order.
        missing: columns that a model reads and the data no longer have; their values are missing.

    Returns:
        `keep`, then the names of `models`, float32: the probabilities that `Model.predict` gives, bit for bit.

    Raises:
        FraudDetectionError: columns that a model reads are neither there nor in `missing`; all are named.
    """
    from pyspark.sql.types import FloatType, StructField, StructType

    columns = pd.DataFrame(columns=[*features.columns, *missing])
    for content in models.values():  # here, where an error has a reader
        model = Model.from_bytes(content)
        require_columns(columns_read(model.inputs, columns), columns)
    given = {field.name: field for field in features.schema.fields}
    scores = [StructField(name, FloatType(), nullable=False) for name in models]
    schema = StructType([*(given[name] for name in keep), *scores])
    return features.mapInArrow(_scoring(dict(models), tuple(keep), tuple(missing)), schema)


def _scoring(models: dict[str, bytes], keep: tuple[str, ...], missing: tuple[str, ...]) -> Scoring:
    """A function for `mapInArrow` that scores one batch after the other."""

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                rows = pa.Table.from_batches([batch])
                inputs = rows.to_pandas().assign(**dict.fromkeys(missing, np.nan))
                table = rows.select(list(keep))
                for name, content in models.items():
                    table = table.append_column(name, pa.array(_model(content).predict(inputs)))
                yield from table.to_batches()

    return without_values(score)


@lru_cache(maxsize=_MODELS_KEPT)
def _model(content: bytes) -> Model:
    """The model, loaded once in a worker. One thread each: the engine keeps the cores busy with workers."""
    model = Model.from_bytes(content)
    model.booster.set_param({"nthread": 1})
    return model
