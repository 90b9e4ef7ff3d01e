"""How much each input moves a model's scores: SHAP values, exact for trees.

A SHAP value is what one input of one row adds to the log-odds of fraud, against the mean over the training data; the
values of a row sum to its log-odds less that mean. XGBoost computes them itself.

References:
    Lundberg, Lee, A unified approach to interpreting model predictions (2017).
    Lundberg et al., From local explanations to global understanding with explainable AI for trees (2020).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_detection.model.encoding import FloatArray
from fraud_detection.model.model import Model

FIFTHS = 5


@dataclass(frozen=True)
class Attribution:
    """One input: the mean |SHAP value|, and the mean SHAP value in each fifth of the rows, by the input's value.

    It describes no single row. `by_fifth` goes from the smallest values to the largest; None where a fifth is empty,
    because many rows have one value. Rows without a value are in no fifth.
    """

    name: str
    mean_absolute: float
    by_fifth: tuple[float | None, ...]


def shap_values(model: Model, values: FloatArray) -> NDArray[np.float32]:
    """What each input adds to the log-odds of each row, shape (rows, inputs); at least one row.

    Args:
        model: whose scores.
        values: of the inputs, shape (rows, inputs), NaN = missing; see `encoding.encode`.
    """
    import xgboost

    table = xgboost.DMatrix(values, feature_names=list(model.inputs))
    found: NDArray[np.float32] = model.booster.predict(table, pred_contribs=True)
    return found[:, :-1]  # the last column is the mean


def attributions(model: Model, values: FloatArray) -> tuple[Attribution, ...]:
    """The inputs by their mean |SHAP value|, largest first; those that move no score are left out.

    Args:
        model: whose scores.
        values: of the inputs, shape (rows, inputs), NaN = missing; see `encoding.encode`.
    """
    if not len(values):
        return ()
    shap = shap_values(model, values)
    found = (
        Attribution(name, float(np.mean(np.abs(shap[:, i]))), _by_fifth(values[:, i], shap[:, i]))
        for i, name in enumerate(model.inputs)
    )
    return tuple(
        sorted((one for one in found if one.mean_absolute > 0), key=lambda one: (-one.mean_absolute, one.name))
    )


def _by_fifth(values: FloatArray, shap: NDArray[np.float32]) -> tuple[float | None, ...]:
    present = ~np.isnan(values)
    if not present.any():
        return (None,) * FIFTHS
    values, shap = values[present], shap[present]
    # Equal values share a fifth: the middle of the places that they take in the order of all.
    ordered = np.sort(values)
    middle = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    fifth = np.minimum((FIFTHS * middle / len(values)).astype(np.int64), FIFTHS - 1)
    rows = np.bincount(fifth, minlength=FIFTHS)
    sums = np.bincount(fifth, weights=shap, minlength=FIFTHS)
    return tuple(float(total / count) if count else None for total, count in zip(sums, rows, strict=True))
