"""`fraud-detection features`: days are computed ahead, checked, and computed anew."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from fraud_detection.cli import main
from fraud_detection.outputs import STORES

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 6
LABEL_TABLE = """
data:
  columns: {fraud: null}
  labels: {path: labels}
"""


def write(folder: Path, name: str, days: list[int]) -> None:
    """Two transactions a day."""
    times = [FIRST + timedelta(days=day, hours=hour) for day in days for hour in (3, 9)]
    n = len(times)
    table = {
        "transaction_id": pa.array([f"{name}{number}" for number in range(n)]),
        "transaction_time": pa.array(times, pa.timestamp("us", "UTC")),
        "amount": pa.array([10.0 + number for number in range(n)]),
        "customer_id": pa.array([number % 3 for number in range(n)]),
        "terminal_id": pa.array([number % 2 for number in range(n)]),
        "fraud": pa.array([number % 2 for number in range(n)], pa.int8()),
    }
    (folder / "in").mkdir(exist_ok=True)
    pq.write_table(pa.table(table), folder / "in" / f"{name}.parquet")


def command(folder: Path, action: str, settings: str = "") -> Result:
    (folder / "settings.yaml").write_text(settings)
    as_of = FIRST + timedelta(days=DAYS - 1, hours=10)
    options = [
        "--as-of",
        as_of.isoformat(),
        "--config",
        folder / "settings.yaml",
        "--input",
        folder / "in",
        "--output",
        folder / "out",
        "--json",
    ]
    return CliRunner().invoke(main, ["features", action, *map(str, options)])


def files(folder: Path) -> list[Path]:
    return sorted((folder / "out" / STORES).glob("*/features/*/days/*/*.parquet"))


@pytest.mark.slow
def test_days_are_computed_checked_and_computed_anew(tmp_path: Path) -> None:
    """Fails when wrong features are called right, a damaged file stays, or days are computed that are there."""

    def found(action: str, exit_code: int = 0) -> dict[str, object]:
        result = command(tmp_path, action)
        assert result.exit_code == exit_code, result.output
        told: dict[str, object] = json.loads(result.stdout[: result.stdout.index("\n}") + 2])
        return told

    write(tmp_path, "a", [*range(DAYS)])
    told = found("materialize")
    assert (told["days"], told["computed"], told["missing"]) == (DAYS - 1, DAYS - 1, 0), "the last day is not over"
    assert found("materialize")["computed"] == 0
    assert found("verify")["different"] == []
    path = files(tmp_path)[2]
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 255]) + content[41:])
    assert found("verify", exit_code=1)["different"] == ["2026-03-03"]
    assert found("rebuild")["computed"] == DAYS - 1
    assert found("verify")["different"] == []
    write(tmp_path, "late", [2])
    assert found("materialize")["computed"] == 3, "from the day of the late rows on"


def test_a_label_table_has_no_features_to_keep(tmp_path: Path) -> None:
    """Fails when the command promises features that no run would read."""
    write(tmp_path, "a", [0])
    (tmp_path / "in" / "b.csv").write_text("")
    result = command(tmp_path, "materialize", LABEL_TABLE.replace("labels}", f"{tmp_path / 'in'}}}"))
    assert result.exit_code == 2, result.output
    assert "label table" in result.output
