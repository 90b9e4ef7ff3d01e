"""The recipe of a candidate: all settings and code that decide what a model learns from the same data."""

import hashlib
import json
from importlib import metadata

from fraud_detection.features.definitions import FEATURE_VERSION
from fraud_detection.model.fit import FIT_VERSION
from fraud_detection.settings import Settings

_DIGITS = 16
_POLICIES = {"refunds", "missing_cards", "missing_terminals"}
"""Settings of `data` that decide which rows are used."""
_LAYOUT = {"separator", "encoding", "quote", "skip_lines"}
"""Settings of `data.format` that do not change what a value means."""
_XGBOOST = ("xgboost-cpu", "xgboost")


def recipe_hash(settings: Settings) -> str:
    """A hash, 16 hexadecimal digits, that changes with whatever makes candidates of one label cut-off differ.

    Those are the training settings, the mapped columns and how their values are read, the windows and labels that rows
    are chosen and labelled by, the versions of the features, of the fit and of XGBoost. Where the data lie does not
    matter.
    """
    data, windows = settings.data, settings.windows
    # Only where they are used, as below.
    unused = {name for name in ("blocked", "control_group") if getattr(data.columns, name) is None}
    recipe: dict[str, object] = {
        "training": settings.training.model_dump(mode="json"),
        "columns": data.columns.model_dump(mode="json", exclude=unused),
        "labels": None if data.labels is None else data.labels.model_dump(mode="json", exclude={"path"}),
        "unlabelled_is_genuine": data.unlabelled_is_genuine,
        "windows": windows.model_dump(include={"training_window_days", "label_delay_days", "maturity_days"}),
        "features": FEATURE_VERSION,
        "fit": FIT_VERSION,
        "xgboost": _xgboost_version(),
    }
    # Only where they differ from the default: a candidate of an earlier release stays of its recipe.
    chosen = data.model_dump(mode="json", include=_POLICIES, exclude_defaults=True)
    recipe |= {"policies": chosen} if chosen else {}
    values = data.format.model_dump(mode="json", exclude=_LAYOUT, exclude_defaults=True)
    recipe |= {"format": values} if values else {}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _xgboost_version() -> str:
    """As installed; importing it would take a second."""
    for package in _XGBOOST:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "none"
