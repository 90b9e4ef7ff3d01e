"""Fixtures of a whole run: seven weeks of simulated transactions, and settings to match."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from click.testing import CliRunner

from fraud_detection.cli import main
from fraud_detection.proxies import exempt_loopback
from fraud_detection.registry import sqlite
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import World

hypothesis.settings.register_profile("busy machines", deadline=None)  # what an example takes depends on the machine
hypothesis.settings.load_profile("busy machines")
pytest.register_assert_rewrite("weak_champion")
exempt_loopback()  # the tests' own servers are on this machine, whatever proxy it has

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
"""A moment at which the small world can decide; its data goes on for two days."""

SETTINGS: dict[str, Any] = {
    "data": {"columns": {"label_available_at": "label_available_at"}},
    "windows": {"training_window_days": 21},
    "training": {"min_training_frauds": 20, "trees": 40},
    "comparison": {"minimum_holdout_frauds": 20, "look_every_hours": 1, "resamples": 200},
}


PACKAGES = {"ps": "procps", "shellcheck": "shellcheck"}
"""Programs that a test marked with `needs` may ask for, and Debian's package of each."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs more than this machine has; in `make test-extra` a missing program is a failure."""
    for need in (need for marker in item.iter_markers("needs") for need in marker.args):
        if need == "HANDBOOK_DATA":
            if not os.environ.get(need):  # it cannot be installed, so no target requires it
                pytest.skip("HANDBOOK_DATA names no file; run: make test-extra HANDBOOK_DATA=FILE")
        elif not shutil.which(need):
            missing = f"{need} is not installed (Debian: apt install {PACKAGES[need]})"
            if os.environ.get("TEST_EXTRA"):
                pytest.fail(missing)
            pytest.skip(f"{missing}; run then: make test-extra")


@pytest.fixture(scope="session", autouse=True)
def migrate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], None]]:
    """MLflow's tables are made once and then copied: its sixty migrations take a second. Yields what makes them."""
    made, migrate = tmp_path_factory.mktemp("tables") / "mlflow.db", sqlite._migrate

    def copy(file: Path) -> None:
        if not made.exists():
            migrate(made)
        shutil.copyfile(made, file)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite, "_migrate", copy)
        yield migrate


@pytest.fixture(scope="session")
def transactions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Parquet files: 51 days of 1,500 transactions. Shared, so copy it before changing it."""
    folder = tmp_path_factory.mktemp("world")
    for _ in write_days(World(3, 1500, regimes()), folder, date(2026, 1, 11), 51):
        pass
    return folder


@dataclass(frozen=True)
class CommandResult:
    """The result of a command: its exit code and its output."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found


Job = Callable[..., CommandResult]


@pytest.fixture
def job(tmp_path: Path, transactions: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Run one command in this process, with its own output folder; each option can be replaced."""

    def run(verb: str = "retrain", settings: dict[str, Any] | None = None, **options: object) -> CommandResult:
        config = tmp_path / "retraining.yaml"
        config.write_text(yaml.safe_dump(SETTINGS if settings is None else settings), encoding="utf-8")
        given: dict[str, object] = {"config": config, "output": tmp_path / "output"}
        if verb == "retrain":
            given |= {"input": transactions, "as-of": AS_OF.isoformat()}
        given |= {name.replace("_", "-"): value for name, value in options.items()}
        words = [word for name, value in given.items() for word in _option(name, value)]
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for the whole process
        result = CliRunner().invoke(main, [verb, *words], catch_exceptions=False)
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    return run


def _option(name: str, value: object) -> list[str]:
    if value is None:
        return []
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]
