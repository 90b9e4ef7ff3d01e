"""Rows generated from a model's own trees, to verify a registered model and as its input example.

They contain nothing of the data. Each row is led to one leaf of one tree: an input on the leaf's path is drawn between
the thresholds that lead there, or is missing where missing values are led there; any other input is drawn between two
neighbouring thresholds of the whole model, or is missing. So every leaf has a row that depends on it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fraud_detection.model.model import Model

if TYPE_CHECKING:
    import pandas as pd

FEWEST_ROWS, MOST_ROWS = 1000, 4000
"""200 trees of depth 4 have at most 3,200 leaves. With fewer, each leaf has several rows; of more, some are drawn."""

_SEED = 7
_SHARE_MISSING = 0.1
_LARGEST_COUNT = 100.0


@dataclass(frozen=True)
class _Limits:
    """What leads to a leaf: of each input on its path [low, high), and whether a missing value comes along."""

    low: float = -np.inf
    high: float = np.inf
    missing: bool = True

    def below(self, threshold: float, missing: bool) -> "_Limits":
        return _Limits(self.low, min(self.high, threshold), self.missing and missing)

    def from_(self, threshold: float, missing: bool) -> "_Limits":
        return _Limits(max(self.low, threshold), self.high, self.missing and missing)


_Path = dict[int, _Limits]
"""The limits by the number of the input."""


def generated_inputs(model: Model, seed: int = _SEED) -> "pd.DataFrame":
    """Rows as the model's booster takes them, float32, NaN = missing; the same for the same model and seed."""
    import pandas as pd

    random = np.random.default_rng(seed)
    trees = json.loads(bytes(model.booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    paths = list(chain.from_iterable(map(_paths, trees)))
    if len(paths) > MOST_ROWS:
        paths = [paths[place] for place in np.sort(random.choice(len(paths), MOST_ROWS, replace=False))]
    paths *= -(-FEWEST_ROWS // len(paths))
    thresholds = _thresholds(trees)
    columns = {
        name: _values([path.get(i) for path in paths], thresholds.get(i, _unused(name)), random)
        for i, name in enumerate(model.inputs)
    }
    return pd.DataFrame(columns)


def _paths(tree: dict[str, Any]) -> Iterator[_Path]:
    """The path of each leaf."""
    left, right = tree["left_children"], tree["right_children"]
    open_: list[tuple[int, _Path]] = [(0, {})]
    while open_:
        node, path = open_.pop()
        if left[node] == -1:
            yield path
            continue
        i, threshold, to_left = tree["split_indices"][node], tree["split_conditions"][node], tree["default_left"][node]
        limits = path.get(i, _Limits())
        open_.append((right[node], {**path, i: limits.from_(threshold, not to_left)}))
        open_.append((left[node], {**path, i: limits.below(threshold, bool(to_left))}))


def _thresholds(trees: list[dict[str, Any]]) -> dict[int, npt.NDArray[np.float64]]:
    """All thresholds of each input, ascending, each once."""
    found: dict[int, set[float]] = {}
    for tree in trees:
        for child, i, threshold in zip(
            tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True
        ):
            if child != -1:
                found.setdefault(i, set()).add(threshold)
    return {i: np.array(sorted(values)) for i, values in found.items()}


def _unused(name: str) -> npt.NDArray[np.float64]:
    """Thresholds of an input that no tree reads: `column=value` is 0 or 1."""
    return np.array([1.0] if "=" in name else [])


def _values(
    limits: list[_Limits | None], thresholds: npt.NDArray[np.float64], random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """One value of an input for each row, between the limits of the row where it has some."""
    edges, whole = _edges(thresholds)
    values: npt.NDArray[np.float32]
    first = np.array([0 if own is None else np.searchsorted(edges, own.low) for own in limits])
    last = np.array([len(edges) - 1 if own is None else np.searchsorted(edges, own.high) for own in limits])
    first, last = np.clip(first, 0, len(edges) - 2), np.clip(last, 1, len(edges) - 1)
    cell = first + (random.random(len(limits)) * (last - first)).astype(int)
    low, high = edges[cell], edges[cell + 1]
    values = (low + random.random(len(limits)) * (high - low)).astype(np.float32)
    below = np.nextafter(high.astype(np.float32), np.float32(-np.inf))
    values = np.minimum(np.maximum(values, low.astype(np.float32)), below)
    values = np.floor(values) if whole else values
    may_miss = np.array([own is None or own.missing for own in limits])
    values[may_miss & (random.random(len(limits)) < _SHARE_MISSING)] = np.nan
    return values


def _edges(thresholds: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], bool]:
    """The thresholds between two ends, and whether the input counts: then its values are small whole numbers.

    The ends come from the thresholds, too: the least and the largest value of a column are values of its rows.
    """
    if not len(thresholds):
        return np.array([0.0, 1.0]), False
    least, largest = thresholds[0], thresholds[-1]
    whole = bool(np.all(thresholds == np.floor(thresholds))) and max(abs(least), largest) <= _LARGEST_COUNT
    beyond = 1.0 if whole else max(largest - least, abs(largest), 1.0) / 10
    return np.array([0.0 if least > 0 else least - beyond, *thresholds, largest + beyond]), whole
