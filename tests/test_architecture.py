"""What an import loads; which room may import which is held by import-linter (`make lint`)."""

import subprocess
import sys

import pytest

HEAVY = {"pyspark", "pysail", "mlflow", "airflow", "yandexcloud"}


@pytest.mark.parametrize("module", ["fraud_detection.evaluation", "fraud_detection.features.kernels"])
def test_pure_rooms_load_no_engine(module: str) -> None:
    """Fails when a test or notebook that needs only the mathematics must wait for Spark or MLflow to load."""
    program = f"import sys, {module}; print(sorted({HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_is_quick_because_it_loads_no_engine() -> None:
    """Fails when `fraud-detection --help` takes seconds because it loads Spark, MLflow or pandas."""
    program = "import sys, fraud_detection.cli; print(sorted({'pyspark', 'mlflow', 'pandas'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
