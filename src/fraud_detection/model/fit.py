"""Fit gradient-boosted trees to a sample of the training window.

Native XGBoost on the driver. The same rows and settings give the same model, bit for bit, whatever the order of the
rows and the number of cores.

Bins are quantiles of weighted rows, with weights that give the frauds half of the total: they are fine where frauds
begin. The trees then learn with the true weights, so probabilities stay calibrated.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from fraud_detection import settings
from fraud_detection.cores import usable_cores
from fraud_detection.errors import FraudDetectionError
from fraud_detection.model.encoding import encode, escape, require_columns
from fraud_detection.model.model import Model

FIT_VERSION = 2
"""Raise it with any change by which the same rows and settings give another model."""

FEWEST_ROWS_OF_A_CATEGORY = 10

Weights = npt.NDArray[np.float64]


def fit(
    rows: pd.DataFrame,
    weights: Weights | None,
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
    require_columns({*numeric, *categorical, "fraud", "transaction_id"}, rows)
    order = np.argsort(rows["transaction_id"].to_numpy(), kind="stable")
    rows = rows.iloc[order]
    inputs = (*map(escape, numeric), *_vocabulary(rows, categorical, training.max_categories))
    fraud = rows["fraud"].to_numpy(np.float32)
    true_weights = np.ones(len(rows)) if weights is None else weights[order]
    data = xgboost.QuantileDMatrix(
        encode(rows, inputs),
        label=fraud,
        weight=_balanced(true_weights, fraud == 1),
        feature_names=list(inputs),
        max_bin=training.max_bin,
        nthread=usable_cores(),
    )
    data.set_weight(true_weights)
    training = for_frauds(training, int(fraud.sum()))
    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_bin": training.max_bin,
        "max_depth": training.max_depth,
        "learning_rate": training.learning_rate,
        "subsample": training.subsample,
        "colsample_bytree": training.colsample,
        "num_parallel_tree": training.parallel_trees,
        "seed": training.seed,
        "nthread": usable_cores(),
    }
    return Model(xgboost.train(parameters, data, num_boost_round=training.trees), inputs)


def for_frauds(training: settings.Training, frauds: int) -> settings.Training:
    """The settings to fit with: of few frauds, shallow trees of random rows and features, averaged, learn less noise.

    Measured in benchmarks/few_frauds.py.
    """
    if frauds >= training.few_frauds:
        return training
    simpler = {
        "max_depth": min(training.max_depth, 3),
        "subsample": min(training.subsample, 0.7),
        "colsample": min(training.colsample, 0.5),
        "parallel_trees": max(training.parallel_trees, 3),
    }
    return training.model_copy(update=simpler)


def _balanced(weights: Weights, fraud: npt.NDArray[np.bool_]) -> Weights:
    """Weights that give frauds and genuine rows half of the total each; the same ones where there is a single class."""
    total, frauds = weights.sum(), weights[fraud].sum()
    if not 0 < frauds < total:
        return weights
    balanced: Weights = weights * np.where(fraud, total / (2 * frauds), total / (2 * (total - frauds)))
    return balanced


def _vocabulary(rows: pd.DataFrame, categorical: tuple[str, ...], max_categories: int) -> Iterator[str]:
    """Inputs `column=value` for each column's most frequent values; equally frequent ones by their value.

    The names of inputs are shown, so rare values are left out: one may identify a person, and it adds no signal.
    """
    for column in categorical:
        counts = rows[column].dropna().astype(str).value_counts()
        counts = counts[counts >= FEWEST_ROWS_OF_A_CATEGORY]
        frequent = sorted(counts.index, key=lambda value: (-counts[value], value))[:max_categories]
        yield from (f"{escape(column)}={escape(value)}" for value in frequent)
