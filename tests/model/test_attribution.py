"""SHAP values of a model, summed up over a sample."""

import numpy as np
import pandas as pd
import pytest
from test_fit import CATEGORICAL, NUMERIC, SMALL, _table

from fraud_detection.model.attribution import attributions
from fraud_detection.model.encoding import encode
from fraud_detection.model.fit import fit
from fraud_detection.model.model import Model


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return _table(3000, seed=2)


@pytest.fixture(scope="module")
def trained(rows: pd.DataFrame) -> Model:
    return fit(rows, None, SMALL, NUMERIC, CATEGORICAL)


def test_attributions_sum_to_what_the_model_says(trained: Model, rows: pd.DataFrame) -> None:
    """Fails when the report explains other scores than the model's."""
    one = encode(rows.iloc[[5]], trained.inputs)
    of_row = sum(value for found in attributions(trained, one) for value in found.by_fifth if value is not None)
    score = float(trained.predict(rows.iloc[[5]])[0])
    import xgboost

    table = xgboost.DMatrix(one, feature_names=list(trained.inputs))
    mean = float(trained.booster.predict(table, pred_contribs=True)[0, -1])
    missing = one[0][np.isnan(one[0])]
    assert not len(missing), "the row has a missing value, which is in no fifth; take another"
    assert of_row + mean == pytest.approx(np.log(score / (1 - score)), abs=1e-4)


def test_the_order_is_that_of_the_mean_and_the_fifths_follow_the_values(trained: Model, rows: pd.DataFrame) -> None:
    """Fails when a feature that decides nothing is named first, or its direction is the wrong one."""
    values = encode(rows, trained.inputs)
    found = attributions(trained, values)
    means = [one.mean_absolute for one in found]
    assert means == sorted(means, reverse=True)
    assert all(mean > 0 for mean in means)
    shuffled = np.random.default_rng(0).permutation(len(values))
    again = attributions(trained, values[shuffled])
    assert [one.name for one in again] == [one.name for one in found]
    for one, other in zip(found, again, strict=True):
        assert one.mean_absolute == pytest.approx(other.mean_absolute, rel=1e-4)
        for left, right in zip(one.by_fifth, other.by_fifth, strict=True):
            assert (left is None) == (right is None)
            assert left is None or left == pytest.approx(right, abs=1e-5)


def test_equal_values_share_a_fifth_and_missing_ones_are_in_none(trained: Model, rows: pd.DataFrame) -> None:
    """Fails when a feature with one value, or none, seems to have a direction."""
    values = encode(rows, trained.inputs)
    first = trained.inputs.index(attributions(trained, values)[0].name)
    constant = values.copy()
    constant[:, first] = values[0, first]
    by_fifth = {one.name: one.by_fifth for one in attributions(trained, constant)}[trained.inputs[first]]
    assert sum(value is not None for value in by_fifth) == 1
    constant[:, first] = np.nan
    by_fifth = {one.name: one.by_fifth for one in attributions(trained, constant)}[trained.inputs[first]]
    assert by_fifth == (None,) * 5


def test_without_rows_nothing_is_explained(trained: Model) -> None:
    """Fails when an empty sample ends a run in an error."""
    assert attributions(trained, np.empty((0, len(trained.inputs)), np.float32)) == ()
