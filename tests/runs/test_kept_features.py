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
  labels: {path: labels, label_available_at: null}
windows: {label_delay_days: 2}
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


@pytest.mark.slow
def test_features_are_kept_with_a_label_table(tmp_path: Path) -> None:
    """Fails when labels of a table are not part of what the features of a day depend on."""
    write(tmp_path, "a", [*range(DAYS)])
    rows = pq.read_table(tmp_path / "in" / "a.parquet")
    pq.write_table(rows.drop_columns(["fraud"]), tmp_path / "in" / "a.parquet")
    labels = tmp_path / "labels" / "a.parquet"
    labels.parent.mkdir()
    settings = LABEL_TABLE.replace("path: labels", f"path: {labels.parent}")
    for taken, computed in ((4, DAYS - 1), (6, 1)):
        pq.write_table(rows.select(["transaction_id", "fraud"]).slice(0, taken), labels)
        told = json.loads(command(tmp_path, "materialize", settings).stdout.partition("\n}")[0] + "\n}")
        assert (told["days"], told["computed"]) == (DAYS - 1, computed)
    assert json.loads(command(tmp_path, "verify", settings).stdout.partition("\n}")[0] + "\n}")["different"] == []
