"""Whole runs against the emulator: what goes wrong in the cloud must neither leak a cluster nor hide a failed training."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from world import BUCKET, QUICK, World

from localcloud.client import Emulator, serving

HOUR = datetime(2026, 5, 24, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    state = tmp_path_factory.mktemp("cloud")
    command = [str(Path(__file__).with_name("stub_job.sh")), str(state / "plan")]
    command.append(str(state / "buckets" / BUCKET / "output_data" / "outcomes"))
    settings = {
        "names": {"buckets": [BUCKET]},
        "timing": QUICK,
        "jobs": {"runner": "stub", "stub": {"command": command}},
    }
    with serving(state, settings, python=sys.executable) as served:
        yield served


@pytest.fixture
def world(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    import shutil

    yield World(emulator, monkeypatch, tmp_path)
    emulator.clear_faults()
    assert emulator.clusters() == [], "a test left a cluster"
    shutil.rmtree(emulator.state / "buckets" / BUCKET / "output_data", ignore_errors=True)


def test_a_run_makes_one_cluster_trains_once_and_leaves_nothing(world: World) -> None:
    """Every hour a cluster would stay behind, or the decision would be nowhere to be seen."""
    run = world.run()
    assert run.state == "success"
    assert len(run.clusters("CREATING")) == len(run.clusters("DELETED")) == 1
    assert len(run.jobs()) == 1
    assert run.xcom["outcome"]["decision"] == "promoted"
