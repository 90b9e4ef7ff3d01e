"""The DAGs' own modules that need nothing of Airflow, loaded without it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_COMMON = Path(__file__).parents[1] / "dags" / "fraud_detection_common"


def dag_module(name: str) -> ModuleType:
    """A module of `dags/fraud_detection_common`."""
    spec = importlib.util.spec_from_file_location(f"dag_{name}", _COMMON / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
