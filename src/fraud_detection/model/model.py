"""A trained model: predict with it, store it, say what it reads.

XGBoost is imported inside the functions that need it: importing it costs seconds.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from fraud_detection.cores import usable_cores
from fraud_detection.errors import FraudDetectionError
from fraud_detection.model.encoding import FloatArray, columns_read, encode, require_columns

if TYPE_CHECKING:
    import pandas as pd
    import xgboost

# OpenMP reads it when XGBoost is first imported. By default its threads spin while they wait for each other: with other
# work on the same cores (an engine, a second job) a fit then took 2 to 5 times as long, in wall and in CPU seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_CHUNK_ROWS = 250_000  # a chunk of 60 inputs is 60 MB, whatever the number of rows to predict


@dataclass(frozen=True)
class Model:
    """Trees with the names of their inputs, in the order that the trees know them.

    The names are those of `encoding`. They live in the model's file, so each model keeps the vocabulary it was trained
    with.
    """

    booster: "xgboost.Booster"
    inputs: tuple[str, ...]

    def predict(self, rows: "pd.DataFrame") -> FloatArray:
        """The probability of fraud of each row, shape (rows,).

        Equal to what the bare booster gives for `inputs_of(rows)`.

        Raises:
            FraudDetectionError: columns that the model reads are missing; all are named.
        """
        require_columns(columns_read(self.inputs, rows), rows)
        parts = [self.predict_inputs(encode(part, self.inputs)) for part in _chunks(rows)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def predict_inputs(self, values: FloatArray) -> FloatArray:
        """The probability of fraud of each row of inputs, shape (rows, inputs), NaN = missing."""
        found: FloatArray = self.booster.inplace_predict(values, validate_features=False)
        return found

    def missing_columns(self, rows: "pd.DataFrame") -> tuple[str, ...]:
        """The columns that the model reads and the rows lack, sorted."""
        return tuple(sorted(columns_read(self.inputs, rows) - set(rows.columns)))

    def inputs_of(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """The table that the bare booster takes: exactly the columns `inputs`, float32, NaN = missing.

        Raises:
            FraudDetectionError: columns that the model reads are missing; all are named.
        """
        require_columns(columns_read(self.inputs, rows), rows)
        import pandas as pd

        return pd.DataFrame(encode(rows, self.inputs), columns=list(self.inputs), index=rows.index)

    def importance(self) -> dict[str, float]:
        """The share of the total gain that each input brought, largest first; inputs never used are absent."""
        scores = self.booster.get_score(importance_type="total_gain")
        gain = {name: float(np.sum(score)) for name, score in scores.items()}
        total = sum(gain.values()) or 1.0
        return {name: gain[name] / total for name in sorted(gain, key=lambda name: (-gain[name], name))}

    def to_bytes(self) -> bytes:
        """The model in XGBoost's own UBJSON format: loading it runs no code."""
        return bytes(self.booster.save_raw("ubj"))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            FraudDetectionError: the content is not such a model.
        """
        import xgboost

        booster = xgboost.Booster()
        try:
            booster.load_model(bytearray(content))
        except xgboost.core.XGBoostError as error:
            cause = str(error).splitlines()[0]
            raise FraudDetectionError(f"the model's {len(content)} bytes are not an XGBoost model: {cause}") from error
        return cls.from_booster(booster)

    @classmethod
    def from_booster(cls, booster: "xgboost.Booster") -> Self:
        """Wrap a booster that was loaded elsewhere (MLflow).

        Raises:
            FraudDetectionError: the booster does not name its inputs.
        """
        if not booster.feature_names:
            raise FraudDetectionError("the XGBoost model does not name its inputs; it was not trained by this program")
        booster.set_param({"nthread": usable_cores()})
        return cls(booster, tuple(booster.feature_names))


def _chunks(rows: "pd.DataFrame") -> Iterator["pd.DataFrame"]:
    return (rows.iloc[start : start + _CHUNK_ROWS] for start in range(0, len(rows), _CHUNK_ROWS))
