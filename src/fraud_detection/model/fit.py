"""Fit gradient-boosted trees on a sample of the training window, and predict with them.

Native XGBoost on the driver. The same rows and settings give the same model, bit for bit, whatever the order of the
rows and the number of cores. XGBoost is imported inside the functions that need it: importing it costs seconds.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from fraud_detection import settings
from fraud_detection.errors import FraudDetectionError

if TYPE_CHECKING:
    import xgboost

# OpenMP reads it when XGBoost is first imported. By default its threads spin while they wait for each other: with other
# work on the same cores (an engine, a second job) a fit then took 2 to 5 times as long, in wall and in CPU seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

FloatArray = npt.NDArray[np.float32]

_CHUNK_ROWS = 250_000  # a chunk of 60 inputs is 60 MB, whatever the number of rows to predict
_LARGEST = np.finfo(np.float32).max
FEWEST_ROWS_OF_A_CATEGORY = 10


def sample_rate(genuine: int, frauds: int, max_training_rows: int) -> float:
    """The share p of genuine rows to keep so that all frauds and they are about `max_training_rows` together.

    Every fraud is kept. Should frauds alone fill more than half of the sample, genuine rows still get the other half's
    worth on top of them: a model cannot be taught frauds alone.
    """
    wanted = max(max_training_rows - frauds, max_training_rows // 2)
    return min(1.0, wanted / genuine) if genuine else 1.0


def sample(rows: pd.DataFrame, rate: float) -> tuple[pd.DataFrame, npt.NDArray[np.float64] | None]:
    """Keep every fraud, and the genuine rows whose `sample_hash` is below `rate`.

    Args:
        rows: training rows with `fraud` (0 or 1) and `sample_hash` in [0, 1).
        rate: as given by `sample_rate`. Rows may have been sampled at this rate already: nothing more is lost then.

    Returns:
        The kept rows, and a weight for each: 1/rate for genuine rows, so that sums over the sample estimate sums over
        all rows and probabilities stay calibrated. No weights (None) where everything was kept.
    """
    if rate >= 1.0:
        return rows, None
    fraud = rows["fraud"].to_numpy() == 1
    kept = fraud | (rows["sample_hash"].to_numpy() < rate)
    return rows[kept], np.where(fraud[kept], 1.0, 1.0 / rate)


@dataclass(frozen=True)
class Model:
    """Trees with the names of their inputs, in the order that the trees know them.

    An input is either a numeric column, under its own name, or `column=value`: 1 where the categorical column has the
    value, 0 where it has another, missing where it is missing. The names live in the model's file, so each model keeps
    the vocabulary it was trained with. In names, the characters that XGBoost or this notation reserves ("[", "]", "<",
    "=", "%") are percent-encoded.
    """

    booster: "xgboost.Booster"
    inputs: tuple[str, ...]

    def predict(self, rows: pd.DataFrame) -> FloatArray:
        """The probability of fraud of each row, shape (rows,).

        Equal to what the bare booster gives for `inputs_of(rows)`.

        Raises:
            FraudDetectionError: columns that the model reads are missing; all are named.
        """
        _require_columns(_columns_read(self.inputs, rows), rows)
        parts = [
            self.booster.inplace_predict(_matrix(part, self.inputs), validate_features=False) for part in _chunks(rows)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def missing_columns(self, rows: pd.DataFrame) -> tuple[str, ...]:
        """The columns that the model reads and the rows lack, sorted."""
        return tuple(sorted(_columns_read(self.inputs, rows) - set(rows.columns)))

    def inputs_of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The table that the bare booster takes: exactly the columns `inputs`, float32, NaN = missing.

        Raises:
            FraudDetectionError: columns that the model reads are missing; all are named.
        """
        _require_columns(_columns_read(self.inputs, rows), rows)
        return pd.DataFrame(_matrix(rows, self.inputs), columns=list(self.inputs), index=rows.index)

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
        booster.set_param({"nthread": real_cores()})
        return cls(booster, tuple(booster.feature_names))


def fit(
    rows: pd.DataFrame,
    weights: npt.NDArray[np.float64] | None,
    training: settings.Training,
    numeric: tuple[str, ...],
    categorical: tuple[str, ...] = (),
) -> Model:
    """Fit boosted trees to `fraud` (0 or 1).

    Args:
        rows: Features rows, in any order; `transaction_id` sets the order of the fit.
        weights: one for each row, or None for equal ones (see `sample`).
        training: numbers and depth of the trees, bins, seed.
        numeric: columns used as they are; null or NaN is missing.
        categorical: columns of strings, one-hot encoded for their `max_categories` most frequent values,
            of those that enough rows have.

    Raises:
        FraudDetectionError: there are no rows, or columns are missing; all are named.
    """
    import xgboost

    if rows.empty:
        raise FraudDetectionError("there are no training rows; expected at least one")
    _require_columns({*numeric, *categorical, "fraud", "transaction_id"}, rows)
    order = np.argsort(rows["transaction_id"].to_numpy(), kind="stable")
    rows = rows.iloc[order]
    inputs = (*map(_escape, numeric), *_vocabulary(rows, categorical, training.max_categories))
    data = xgboost.QuantileDMatrix(
        _matrix(rows, inputs),
        label=rows["fraud"].to_numpy(np.float32),
        weight=None if weights is None else weights[order],
        feature_names=list(inputs),
        max_bin=training.max_bin,
        nthread=real_cores(),
    )
    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_bin": training.max_bin,  # the default of 256 bins cannot tell large amounts apart
        "max_depth": training.max_depth,
        "learning_rate": training.learning_rate,
        "seed": training.seed,
        "nthread": real_cores(),
    }
    return Model(xgboost.train(parameters, data, num_boost_round=training.trees), inputs)


def real_cores() -> int:
    """Cores this process may really use: its affinity, cut by the quota of its cgroup (v2).

    OpenMP counts the machine's cores instead; in a container with a quota its threads then spin for their turn.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def _vocabulary(rows: pd.DataFrame, categorical: tuple[str, ...], max_categories: int) -> Iterator[str]:
    """Inputs `column=value` for each column's most frequent values; equally frequent ones by their value.

    The names of inputs are shown, so a value of a few rows is none of them: it may be a person's, and teaches nothing.
    """
    for column in categorical:
        counts = rows[column].dropna().astype(str).value_counts()
        counts = counts[counts >= FEWEST_ROWS_OF_A_CATEGORY]
        frequent = sorted(counts.index, key=lambda value: (-counts[value], value))[:max_categories]
        yield from (f"{_escape(column)}={_escape(value)}" for value in frequent)


def _matrix(rows: pd.DataFrame, inputs: tuple[str, ...]) -> FloatArray:
    """The inputs of each row, shape (rows, inputs)."""
    matrix = np.empty((len(rows), len(inputs)), dtype=np.float32)
    strings: dict[str, pd.Series[str]] = {}
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is brought back below
        for i, name in enumerate(inputs):
            column, is_category, value = name.partition("=")
            if name in rows or not is_category:
                matrix[:, i] = rows[name if name in rows else _unescape(name)].to_numpy(np.float32, na_value=np.nan)
                continue
            if column not in strings:
                strings[column] = rows[_unescape(column)].astype("string")
            matrix[:, i] = (strings[column] == _unescape(value)).to_numpy(np.float32, na_value=np.nan)
    infinite = np.isinf(matrix)
    if infinite.any():  # XGBoost takes no infinity
        matrix[infinite] = np.copysign(_LARGEST, matrix[infinite])
    return matrix


def _columns_read(inputs: tuple[str, ...], rows: pd.DataFrame) -> set[str]:
    """The columns that the inputs come from; an input that is itself a column of `rows` is taken as it is."""
    return {name if name in rows else _unescape(name.partition("=")[0]) for name in inputs}


def _require_columns(columns: set[str], rows: pd.DataFrame) -> None:
    missing = sorted(columns - set(rows.columns))
    if missing:
        found = ", ".join(map(str, rows.columns))
        raise FraudDetectionError(f"columns that the model reads are missing: {', '.join(missing)}; found: {found}")


def _chunks(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    return (rows.iloc[start : start + _CHUNK_ROWS] for start in range(0, len(rows), _CHUNK_ROWS))


def _escape(text: str) -> str:
    return re.sub(r"[%=\[\]<]", lambda match: f"%{ord(match[0]):02X}", text)


def _unescape(name: str) -> str:
    return re.sub(r"%([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), name)
