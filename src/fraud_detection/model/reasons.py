"""Score Features rows where they lie, say which alert, and why: the inputs that raised the score of an alert most.

The reasons of a row are the inputs with the largest positive SHAP values; see `attribution`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from fraud_detection.model.attribution import shap_values
from fraud_detection.model.encoding import FloatArray, columns_read, encode, require_columns
from fraud_detection.model.model import Model
from fraud_detection.model.scoring import loaded
from fraud_detection.shapes import without_values

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PROBABILITY, ALERT, REASONS = "probability", "alert", "reasons"


@dataclass(frozen=True)
class AlertRule:
    """Which scores alert, and how many reasons an alert has."""

    threshold: float | None
    """A row alerts if its probability is at least this; None: nothing says which rows do."""
    reasons: int


def with_alerts(
    features: "DataFrame", content: bytes, keep: Sequence[str], rule: AlertRule, missing: Sequence[str] = ()
) -> "DataFrame":
    """Some columns of the Features rows, with the score of each, whether it alerts, and the reasons of alerts.

    Args:
        features: with the columns that the model reads.
        content: the model's bytes (`Model.to_bytes`).
        keep: columns of `features`, in this order.
        rule: of the model's version.
        missing: columns that the model reads and the data no longer have; their values are missing.

    Returns:
        `keep`, probability (float32, as `Model.predict` gives it), alert (null without a threshold), reasons (names of
        inputs, the largest SHAP value first; null where a row does not alert).

    Raises:
        FraudDetectionError: columns that the model reads are neither there nor in `missing`; all are named.
    """
    from pyspark.sql.types import ArrayType, BooleanType, FloatType, StringType, StructField, StructType

    columns = pd.DataFrame(columns=[*features.columns, *missing])
    require_columns(columns_read(Model.from_bytes(content).inputs, columns), columns)
    given = {field.name: field for field in features.schema.fields}
    added = [
        StructField(PROBABILITY, FloatType()),
        StructField(ALERT, BooleanType()),
        StructField(REASONS, ArrayType(StringType())),
    ]
    schema = StructType([*(given[name] for name in keep), *added])
    return features.mapInArrow(_scoring(content, tuple(keep), rule, tuple(missing)), schema)


def top_reasons(model: Model, values: FloatArray, count: int) -> list[list[str]]:
    """The names of the inputs that raised the score of each row most, at most `count`, the largest first.

    Args:
        model: whose scores.
        values: of the inputs, shape (rows, inputs), NaN = missing.
        count: how many names a row has at most; inputs that did not raise its score are never among them.
    """
    if not len(values):
        return []
    shap = shap_values(model, values)
    order = np.argsort(-shap, axis=1, kind="stable")[:, :count]
    return [
        [model.inputs[place] for place in places if row[place] > 0] for row, places in zip(shap, order, strict=True)
    ]


def _scoring(
    content: bytes, keep: tuple[str, ...], rule: AlertRule, missing: tuple[str, ...]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `mapInArrow` that scores one batch after the other."""

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                rows = pa.Table.from_batches([batch])
                inputs = rows.to_pandas().assign(**dict.fromkeys(missing, np.nan))
                yield from _judged(loaded(content), inputs, rows.select(list(keep)), rule).to_batches()

    return without_values(score)


def _judged(model: Model, inputs: pd.DataFrame, kept: pa.Table, rule: AlertRule) -> pa.Table:
    probability = model.predict(inputs)
    # The threshold is one of the hold-out's scores as a double; as a single it could be another number.
    alert = None if rule.threshold is None else probability.astype(np.float64) >= rule.threshold
    reasons: list[list[str] | None] = [None] * len(inputs)
    if alert is not None and alert.any():
        found = top_reasons(model, encode(inputs[alert], model.inputs), rule.reasons)
        for place, names in zip(np.flatnonzero(alert).tolist(), found, strict=True):
            reasons[place] = names
    kept = kept.append_column(PROBABILITY, pa.array(probability))
    kept = kept.append_column(ALERT, pa.nulls(len(inputs), pa.bool_()) if alert is None else pa.array(alert))
    return kept.append_column(REASONS, pa.array(reasons, pa.list_(pa.string())))
