"""Rows that verify a registered model: generated from its trees alone, and enough to detect another model."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost
from fakes.registry import model, rows

from fraud_detection import settings
from fraud_detection.model.fit import fit
from fraud_detection.model.model import Model
from fraud_detection.registry.verification import FEWEST_ROWS, MOST_ROWS, generated_inputs

Tree = dict[str, Any]


def _content(one: Model) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(one.booster.save_raw("json")))
    return found


def _trees(content: dict[str, Any]) -> list[Tree]:
    found: list[Tree] = content["learner"]["gradient_booster"]["model"]["trees"]
    return found


def _leaves(tree: Tree) -> set[int]:
    return {node for node, child in enumerate(tree["left_children"]) if child == -1}


@pytest.fixture(scope="module")
def large() -> Model:
    """The shipped size, on data with missing values, counts and categories."""
    return fit(rows(), None, settings.Training(), ("amount", "count_1d", "mean_7d"), ("channel",))


def test_every_leaf_of_every_tree_is_reached(large: Model) -> None:
    """Fails when a part of the registered model could change without any verification row showing it."""
    generated = generated_inputs(large)
    assert FEWEST_ROWS <= len(generated) <= MOST_ROWS
    data = xgboost.DMatrix(generated, feature_names=list(large.inputs))
    reached = large.booster.predict(data, pred_leaf=True)
    for number, tree in enumerate(_trees(_content(large))):
        assert _leaves(tree) == set(reached[:, number].astype(int)), f"tree {number}"


def _changed_leaf(tree: Tree) -> None:
    leaf = max(_leaves(tree))
    tree["split_conditions"][leaf] += 0.01
    tree["base_weights"][leaf] += 0.01


def _swapped_children(tree: Tree) -> None:
    tree["left_children"][0], tree["right_children"][0] = tree["right_children"][0], tree["left_children"][0]


def _other_threshold(tree: Tree) -> None:
    tree["split_conditions"][0] += 0.2


def _other_direction(tree: Tree) -> None:
    tree["default_left"][0] = 1 - tree["default_left"][0]


@pytest.mark.parametrize("change", [_changed_leaf, _swapped_children, _other_threshold, _other_direction])
@pytest.mark.parametrize("number", [0, 17, 199])
def test_a_change_to_one_tree_changes_scores(large: Model, change: Callable[[Tree], None], number: int) -> None:
    """Fails when a registered model that differs in one of 200 trees passes for the one that won."""
    content, generated = _content(large), generated_inputs(large)
    change(_trees(content)[number])
    other = xgboost.Booster()
    other.load_model(bytearray(json.dumps(content).encode()))
    scores = large.predict(generated)
    assert np.count_nonzero(Model.from_booster(other).predict(generated) != scores) > 0
    np.testing.assert_array_equal(Model.from_bytes(large.to_bytes()).predict(generated), scores)


def test_the_same_model_and_seed_give_the_same_rows(large: Model) -> None:
    """Fails when the verification of a registered model cannot be repeated."""
    assert generated_inputs(large).equals(generated_inputs(Model.from_bytes(large.to_bytes())))
    assert not generated_inputs(large).equals(generated_inputs(large, seed=8))


def test_no_value_of_the_data_is_among_them(large: Model) -> None:
    """Fails when MLflow, which more people may read than the data, contains values of transactions."""
    generated = generated_inputs(large)
    for name in ("amount", "count_1d", "mean_7d"):
        common = set(generated[name].dropna()) & set(rows()[name].astype(np.float32).dropna())
        assert len(common) < 10, name  # of thousands; chance alone brings about one, since 24 bits hold few numbers


def test_values_stay_near_the_ranges_of_the_inputs_and_some_are_missing(large: Model) -> None:
    """Fails when MLflow's example has unrealistic values, or the verification tests no missing ones."""
    generated = generated_inputs(large)
    assert (generated.min() >= 0).all()
    assert (generated[["amount", "count_1d"]].max() <= 1.2).all()
    assert generated["mean_7d"].max() <= 2.3  # XGBoost parts missing values from all others at twice the largest one
    assert set(generated["channel=web"].dropna()) <= {0.0, 1.0}
    assert (generated.isna().mean() > 0.02).all()


NOTHING_TO_SPLIT = {"amount": 1.0, "count_1d": np.nan, "mean_7d": -3.0}
NEGATIVE = {"amount": -rows()["amount"]}


@pytest.mark.parametrize("values", [NOTHING_TO_SPLIT, NEGATIVE], ids=["nothing to split", "negative"])
def test_any_model_can_be_verified(values: dict[str, Any]) -> None:
    """Fails when a promotion ends in a stack trace because a model has no splits or negative inputs."""
    odd = fit(rows().assign(**values), None, settings.Training(trees=5), ("amount", "count_1d", "mean_7d"))
    generated = generated_inputs(odd)
    assert list(generated.columns) == list(odd.inputs)
    assert np.isfinite(odd.predict(generated)).all()


def test_of_a_model_with_very_many_leaves_some_are_drawn(monkeypatch: pytest.MonkeyPatch, large: Model) -> None:
    """Fails when the verification of a large model takes longer than its training."""
    monkeypatch.setattr("fraud_detection.registry.verification.MOST_ROWS", 50)
    monkeypatch.setattr("fraud_detection.registry.verification.FEWEST_ROWS", 10)
    assert len(generated_inputs(large)) == 50
    assert model(1).inputs == tuple(generated_inputs(model(1)).columns)
