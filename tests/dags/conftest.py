"""Fixtures: a real Airflow with its own database, the real operators, and the emulator with a stub job.

These tests run in Airflow's environment (`make test-dags`); elsewhere they are not collected.
"""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_cloud import BUCKET, EMULATOR_PYTHON, QUICK, Installation

from emulator.client import Emulator, serving

collect_ignore_glob: list[str] = []
if importlib.util.find_spec("airflow") is None:
    collect_ignore_glob.append("*")
else:
    # Airflow reads these once, when it is imported.
    _HOME = Path(tempfile.mkdtemp(prefix="airflow-"))
    os.environ |= {
        "AIRFLOW_HOME": str(_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[2] / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "false",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-the-tests-alone",
    }
    for variable in [name for name in os.environ if name.startswith(("AIRFLOW_VAR_", "AIRFLOW_CONN_", "YC_"))]:
        del os.environ[variable]


@pytest.fixture(scope="session", autouse=True)
def _database() -> Iterator[None]:
    """The metadata database, which runs need and parsing must not."""
    from airflow.utils.db import initdb

    initdb()
    yield
    shutil.rmtree(os.environ["AIRFLOW_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulated cloud, with a stub job that follows a plan."""
    state = tmp_path_factory.mktemp("cloud")
    command = [str(Path(__file__).with_name("stub_job.sh")), str(state / "plan")]
    command.append(str(state / "buckets" / BUCKET / "output_data" / "outcomes"))
    settings = {
        "names": {"buckets": [BUCKET]},
        "timing": QUICK,
        "jobs": {"runner": "stub", "stub": {"command": command}},
    }
    with serving(state, settings, python=EMULATOR_PYTHON) as served:
        yield served


@pytest.fixture
def installation(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """An installation in that cloud, which must have no cluster left at the end."""
    installation = Installation(emulator, monkeypatch)
    installation.forget_attempts()
    yield installation
    emulator.clear_faults()
    shutil.rmtree(installation.output, ignore_errors=True)
    assert emulator.clusters() == [], "a cluster was left"
