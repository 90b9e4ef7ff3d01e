"""Two candidates are of one recipe exactly if the same data would make them the same model."""

import ast
import hashlib
from pathlib import Path
from typing import Any

import pytest

from fraud_detection import recipe
from fraud_detection.features import definitions
from fraud_detection.features.definitions import FEATURE_VERSION, feature_columns
from fraud_detection.model.fit import FIT_VERSION
from fraud_detection.recipe import recipe_hash
from fraud_detection.settings import Columns, Settings

SOURCE = Path(recipe.__file__).parent
FEATURE_CODE = (
    *(f"features/{name}.py" for name in ("arrow", "calendar", "cards", "compute", "order_statistics", "terminals")),
    "features/spans.py",
    "features/timeline.py",
    "labels.py",
    "model/encoding.py",
)
FIT_CODE = ("model/fit.py", "model/encoding.py")
KNOWN_FEATURES = (2, "eed3173e444dc156")
"""The version of the features, and the digest of their names and code at that version."""
KNOWN_FIT = (2, "115c31bc27f33e5d")
"""Likewise of the fit."""


def _hash(**changes: Any) -> str:
    return recipe_hash(Settings.model_validate(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"trees": 201}},
        {"training": {"seed": 8}},
        {"data": {"columns": {"terminal_id": None}}},
        {"data": {"columns": {"amount": "value"}}},
        {"data": {"columns": {"extra_numeric": ["V1"]}}},
        {"data": {"unlabelled_is_genuine": False}},
        {"data": {"columns": {"fraud": None}, "labels": {"path": "labels"}}},
        {"data": {"refunds": "absolute"}},
        {"data": {"missing_cards": "reject"}},
        {"data": {"format": {"time_zone": "Europe/Berlin"}}},
        {"data": {"format": {"fraud_values": ["2"]}}},
        {"windows": {"training_window_days": 85}},
        {"windows": {"maturity_days": 8}},
    ],
)
def test_what_changes_the_model_changes_the_recipe(changes: dict[str, Any]) -> None:
    """Fails when a changed recipe is judged on the rows that it was tuned on, as if it were the old one."""
    assert _hash(**changes) != _hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"format": {"separator": ";", "encoding": "utf-16", "skip_lines": 1}}},
        {"comparison": {"risk": 0.01, "looks": 3}},
        {"promotion": {"mode": "approval"}},
        {"windows": {"training_gap_days": 7, "holdout_days": 14}},
        {"data": {"max_rejected_share": 0.5}},
        {"progress_timeout_minutes": 1},
    ],
)
def test_what_changes_the_comparison_alone_is_the_same_recipe(changes: dict[str, Any]) -> None:
    """Fails when a changed threshold throws away the evidence of every candidate."""
    assert _hash(**changes) == _hash()


def test_the_place_of_the_labels_is_not_part_of_the_recipe() -> None:
    """Fails when moving the label table throws away the evidence of every candidate."""
    columns = {"columns": {"fraud": None}}
    one, other = ({"data": {**columns, "labels": {"path": path}}} for path in ("a", "b"))
    assert _hash(**one) == _hash(**other)


def test_versions_of_features_fit_and_xgboost_are_part_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when candidates that were made by other code count as the same recipe."""
    before = _hash()
    for version in ("FEATURE_VERSION", "FIT_VERSION"):
        monkeypatch.setattr(recipe, version, getattr(recipe, version) + 1)
        assert _hash() != before
        monkeypatch.undo()
    monkeypatch.setattr(recipe, "_xgboost_version", lambda: "9.9.9")
    assert _hash() != before
    assert recipe._xgboost_version() == "9.9.9"
    monkeypatch.undo()
    assert recipe._xgboost_version()[0].isdigit()


def test_the_feature_version_follows_the_code() -> None:
    """Fails when a feature gets other values and its version stays, so that old and new candidates are one recipe.

    If no value changes (a renamed variable, say), replace only the digest. Otherwise raise `FEATURE_VERSION`, too.
    """
    names = feature_columns(Columns())
    constants = {name: getattr(definitions, name) for name in ("WINDOW_DAYS", "LOOK_BACK", "LARGEST_AMOUNT")}
    assert (FEATURE_VERSION, _digest([*names, str(constants)], FEATURE_CODE)) == KNOWN_FEATURES


def test_the_fit_version_follows_the_code() -> None:
    """Fails when the same rows give another model and the version stays, so that old and new candidates are one recipe.

    If no model changes, replace only the digest. Otherwise raise `FIT_VERSION`, too.
    """
    assert (FIT_VERSION, _digest([], FIT_CODE)) == KNOWN_FIT


def _digest(texts: list[str], modules: tuple[str, ...]) -> str:
    """16 hexadecimal digits of texts and of the code of modules."""
    code = [_without_comments(SOURCE / name) for name in modules]
    return hashlib.sha256("\n".join([*texts, *code]).encode()).hexdigest()[:16]


def _without_comments(path: Path) -> str:
    """The code of a module, without comments and docstrings, the same in every version of Python."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree).replace(", type_params=[]", "")  # a field of Python 3.12
