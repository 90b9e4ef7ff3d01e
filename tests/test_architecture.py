"""What an import loads, and the form of the tests. Import-linter checks which room may import which (`make lint`)."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OTHER_ROOMS = ("src/fraud_simulation", "dags", "emulator", "local_stack", "deployment", "infra", "tests/fakes")

PURE = (
    "fraud_detection.evaluation",
    "fraud_detection.promotion",
    "fraud_detection.features.cards",
    "fraud_detection.features.terminals",
    "fraud_detection.model.model",
)
HEAVY = {"pyspark", "pysail", "mlflow", "airflow", "yandexcloud"}
ARRAYS = {"numpy", "pandas", "pyarrow", "scipy", "xgboost"}


@pytest.mark.parametrize(
    "module",
    [
        "fraud_detection.evaluation",
        "fraud_detection.promotion",
        "fraud_detection.features.cards",
        "fraud_detection.features.terminals",
    ],
)
def test_pure_rooms_load_no_engine(module: str) -> None:
    """Fails when a test or notebook that needs only the mathematics must wait for Spark or MLflow to load."""
    program = f"import sys, {module}; print(sorted({HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def _loaded_by(arguments: list[str], cwd: Path) -> set[str]:
    """The packages that are loaded when a command has ended."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', *{name.split('.')[0] for name in sys.modules}))\n"
        f"from fraud_detection.cli import main; main({arguments!r})"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=cwd)
    assert "LOADED" in found.stdout, found.stderr
    return set(found.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("arguments", [["--help"], ["create-data", "--help"], ["retrain", "--help"]], ids=" ".join)
def test_help_is_quick_because_it_loads_nothing_large(tmp_path: Path, arguments: list[str]) -> None:
    """Fails when help takes seconds because some command loads Spark, MLflow, pandas or SciPy to describe itself."""
    assert _loaded_by(arguments, tmp_path) & (HEAVY | ARRAYS) == set()


@pytest.mark.parametrize("verb", ["decisions", "candidates", "approve one", "rollback --reason r"])
def test_a_wrong_folder_is_named_without_mlflow_or_an_engine(tmp_path: Path, verb: str) -> None:
    """Fails when a mistyped --output is answered only after seconds of imports."""
    (tmp_path / "settings.yaml").touch()
    arguments = [*verb.split(), "--config", "settings.yaml", "--output", "absent"]
    assert _loaded_by(arguments, tmp_path) & (HEAVY | {"pandas", "scipy", "xgboost"}) == set()


def test_a_settings_file_is_written_without_an_engine(tmp_path: Path) -> None:
    """Fails when `init`, which reads a sample of the files by itself, makes a user wait for Spark and MLflow."""
    times = [f"2026-{1 + day // 28:02}-{1 + day % 28:02}T10:00:00" for day in range(280)]
    lines = [f"{row},{time},{row % 7},{row % 5},{row % 90}.5,{int(row % 20 == 0)}" for row, time in enumerate(times)]
    header = "transaction_id,transaction_time,customer_id,terminal_id,amount,fraud"
    (tmp_path / "rows.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    loaded = _loaded_by(["init", "--input", "rows.csv", "--config", "settings.yaml"], tmp_path)
    assert (tmp_path / "settings.yaml").exists()
    assert loaded & (HEAVY | {"xgboost", "scipy"}) == set()


def test_what_stays_in_memory_loads_no_arrays() -> None:
    """Fails when the stack's supervisor and its upkeep hold SciPy and Arrow in memory for as long as the stack runs."""
    program = f"import sys, local_stack.supervision, local_stack.upkeep; print({ARRAYS!r} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "set()"


def test_the_map_shows_who_may_import_whom() -> None:
    """Fails when the map shows another order of the library's rooms than `make lint` enforces."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["fraud_detection"])
    table = re.findall(
        r"^\| (\d+) \| \[[\w./]+\]\(src/fraud_detection/(\w+)(?:\.py)?\) \|",
        (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert table == [(str(number), room) for number, layer in enumerate(layers, 1) for room in layer.split(" | ")]


def _without_form(path: Path) -> list[str]:
    """Tests of a file whose docstring is not "Fails when …", in one or two lines."""
    tests = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    texts = {test.name: (ast.get_docstring(test) or "").split("\n\n")[0] for test in tests}
    return [
        name
        for name, text in texts.items()
        if not text.startswith("Fails when ") or not text.endswith(".") or text.count("\n") > 1
    ]


def test_every_test_says_what_a_user_would_suffer() -> None:
    """Fails when a failed test does not tell an engineer what is broken for the user."""
    found = {str(path.relative_to(ROOT)): _without_form(path) for path in TESTS}
    assert len(found) > 50
    assert {path: names for path, names in found.items() if names} == {}


def test_each_folder_of_tests_is_named_like_the_room_that_it_tests() -> None:
    """Fails when an engineer cannot find the tests of a room by the room's name."""
    rooms = [*(ROOT / "src" / "fraud_detection").glob("*/"), *(ROOT / name for name in OTHER_ROOMS)]
    assert all(room.is_dir() for room in rooms)
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in TESTS if path.parent != ROOT / "tests"}
    assert folders - {room.name for room in rooms} == set()
