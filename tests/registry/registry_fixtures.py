"""Registries to begin with: without a run, and with a champion; and processes that can be stopped."""

from pathlib import Path

import pytest
from factories import opening
from fakes.candidates import FIRST, SECOND, frozen, passed
from fakes.registry import T0, T1, World, world
from fakes.registry_processes import stop_before_steps

from fraud_detection.schema import LookKey, Outcome


@pytest.fixture(scope="session")
def _empty(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = world(tmp_path_factory.mktemp("empty"))
    made.registry.resume_open_intents()
    (made.output / "decisions").mkdir()
    return made


@pytest.fixture
def empty(tmp_path: Path, _empty: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An MLflow without a run. Its artifacts are shared between tests; each run has a folder of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return world(tmp_path / "output", _empty)


@pytest.fixture
def served(empty: World) -> World:
    """Version 1 has been in service since T0."""
    empty.record(Outcome.PROMOTED, T0, seed=0)
    return empty


@pytest.fixture
def two(served: World) -> World:
    """Version 2 is in service, version 1 was before."""
    served.record(Outcome.PROMOTED, T1)
    return served


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes stop before each step of the protocol; files of models are left out."""
    stop_before_steps(monkeypatch)


@pytest.fixture(scope="session")
def _waiting(tmp_path_factory: pytest.TempPathFactory) -> World:
    here = world(tmp_path_factory.mktemp("waiting"))
    here.record(Outcome.PROMOTED, T0, seed=0)
    records = (frozen(here, FIRST, 1), frozen(here, SECOND, 2))
    looks = (LookKey(candidate=FIRST, champion_version=1, number=1),)
    given = opening(T1, records, looks)
    here.registry.write_opening(given, here.registry.verified_log().head)
    passed(here, T1, FIRST)
    return here


@pytest.fixture
def waiting(tmp_path: Path, _waiting: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Version 1 serves; a candidate has passed a look and waits for approval, a second one is in shadow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return world(tmp_path / "output", _waiting)
