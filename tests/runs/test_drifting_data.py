"""Whole runs on data whose amounts change: what they open, say and leave."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import AS_OF, SETTINGS, Job

from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import World

CHANGE = date(2026, 2, 21)
"""The newest whole week begins two days later."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `transactions`, but with a month more: features of the champion's training can look back."""
    folder = tmp_path_factory.mktemp("long")
    for _ in write_days(World(3, 1500, regimes()), folder, date(2025, 12, 20), 73):
        pass
    return folder


def _multiply(folder: Path, factor: float) -> None:
    """Change the amounts since `CHANGE`."""
    for path in folder.rglob("*.parquet"):
        if date.fromisoformat(path.stem) >= CHANGE:
            table = pq.read_table(path)
            place = table.schema.get_field_index("amount")
            amounts = pc.multiply(table["amount"], factor).cast(table.schema.field("amount").type, safe=False)
            pq.write_table(table.set_column(place, "amount", amounts), path)


def _copy(world: Path, folder: Path) -> Path:
    for path in world.rglob("*.parquet"):
        target = folder / path.relative_to(world)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def _later(job: Job, folder: Path, hours: int, **options: Any) -> Any:
    return job(json=True, input=folder, as_of=(AS_OF + timedelta(hours=hours)).isoformat(), **options)


def test_drift_opens_one_candidate_early_and_promotes_nothing(job: Job, world: Path, tmp_path: Path) -> None:
    """Fails when drift goes unnoticed, opens a candidate each hour, is not given as the reason, or spends risk."""
    data = _copy(world, tmp_path / "world")
    first = job(json=True, input=data)
    assert first.exit_code == 0, first.stderr
    assert first.json["drift"] is None, "there is no champion to compare with"
    quiet = _later(job, data, 1).json
    assert quiet["drift"]["score"]["psi"] < 0.1
    assert [one["name"] for one in quiet["drift"]["inputs"] if one["psi"] > one["drift_limit"]] == []
    assert len(quiet["opened"]) > 0, "those of the grid"
    _multiply(data, 1.8)
    seen = _later(job, data, 2)
    assert seen.json["drift"]["inputs"][0]["psi"] > seen.json["drift"]["inputs"][0]["drift_limit"]
    at = (AS_OF + timedelta(hours=2)).isoformat().replace("+00:00", "Z")
    assert [one["label_cutoff"] for one in seen.json["opened"]] == [at]
    assert "(early: drift of " in seen.stderr
    assert (seen.json["version"], seen.json["decision"] in ("no_decision", "refused")) == (None, True)
    page = tmp_path / "output" / "reports" / "fraud_detection" / f"{at[:10].replace('-', '')}T020000Z" / "report.html"
    assert "early: drift of " in page.read_text()
    lasting = _later(job, data, 3).json
    assert lasting["drift"]["inputs"][0]["psi"] > 0.1
    assert lasting["opened"] == []


def test_amounts_in_another_unit_stop_the_run_unless_that_is_accepted(job: Job, world: Path, tmp_path: Path) -> None:
    """Fails when a feed that changed from roubles to kopecks trains and judges models."""
    data = _copy(world, tmp_path / "world")
    job(input=data)
    _multiply(data, 100.0)
    stopped = _later(job, data, 1).json
    assert (stopped["decision"], stopped["opened"], stopped["looks"]) == ("no_decision", [], [])
    assert "input_psi" in [check["name"] for check in stopped["checks"] if not check["passed"]]
    assert "has a unit changed" in stopped["reason"]
    days = {"from": CHANGE, "to": AS_OF.date(), "reason": "kopecks"}
    accepted = [{"check": name, **days} for name in ("input_psi", "score_psi")]
    ran = _later(job, data, 2, settings={**SETTINGS, "data_health": {"accepted": accepted}}).json
    assert ran["opened"], ran["reason"]
    assert any(text.startswith("accepted (kopecks): the input ") for text in ran["warnings"])
