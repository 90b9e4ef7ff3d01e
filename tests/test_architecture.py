"""Imports point one way; where they do not, no kernel can be tested without Spark, nor the job run without a desk."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "fraud_detection"
HEAVY = {"pyspark", "pysail", "mlflow", "airflow", "yandexcloud"}

# Each room with the rooms it may import. What is not listed may be imported by all.
ALLOWED = {
    "evaluation": {"evaluation"},
    "labels": set[str](),
    "features": {"features", "labels", "windows"},
    "datasets": {"datasets", "labels", "storage", "windows"},
    "storage": {"storage"},
    "split": {"labels", "windows"},
    "training": set[str](),
    "registry": {"training", "decisions", "storage", "registry"},
    "report": {"report", "evaluation", "windows"},
    "simulation": {"simulation", "windows"},
}
EVERYWHERE = {"errors", "masking", "proxies", "settings", "results", "shapes"}


def _own_imports(path: Path) -> set[str]:
    """The rooms of this package that a file imports, also inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "fraud_detection":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fraud_detection."):
            rooms.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("fraud_detection.")}
    return rooms


def _files(room: str) -> list[Path]:
    package = SOURCE / room
    return sorted(package.rglob("*.py")) if package.is_dir() else [SOURCE / f"{room}.py"]


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_point_one_way(room: str) -> None:
    """A cycle between rooms makes every change reach everywhere."""
    files = _files(room)
    assert files
    for path in files:
        assert _own_imports(path) <= ALLOWED[room] | EVERYWHERE, path


@pytest.mark.parametrize("module", ["fraud_detection.evaluation", "fraud_detection.features.kernels"])
def test_pure_rooms_load_no_engine(module: str) -> None:
    """Whoever reads or tests the mathematics must not wait for Spark or MLflow to load."""
    program = f"import sys, {module}; print(sorted({HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_is_quick_because_it_loads_no_engine() -> None:
    """`fraud-detection --help` must answer at once."""
    program = "import sys, fraud_detection.cli; print(sorted({'pyspark', 'mlflow', 'pandas'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
