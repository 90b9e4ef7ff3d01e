"""Whole runs that compare the champion with its predecessor, and roll it back."""

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import AS_OF, Job
from weak_champion import EASY, NAME, decided, entry, first_champion, later, opening_of

from fraud_detection.registry import Leases, Registry, RunRecord
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.schema import Outcome
from fraud_detection.storage import open_folder

pytest_plugins = ["weak_champion"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

FROZEN = {
    **EASY,
    "promotion": {**EASY["promotion"], "freezes": [{"from": "2026-02-01", "to": "2026-04-01", "reason": "holidays"}]},
}
"""No look at a candidate: what happens to the champion is the rule's doing."""
ON = {**FROZEN, "automatic_rollback": {"enabled": True, "risk": 0.4}}


class KilledError(BaseException):
    """A kill, which no handler of errors sees."""


@dataclass(frozen=True)
class Shelf:
    """A registry, and its log."""

    registry: Registry
    log: DecisionLog


def _shelf(output: Path) -> Shelf:
    storage = open_folder(str(output))
    log = DecisionLog(storage, NAME)
    leases = Leases(storage, NAME)
    return Shelf(Registry(f"sqlite:///{output}/mlflow.db", NAME, log, leases=leases, publish=lambda *_: {}), log)


@pytest.fixture(scope="module")
def changed_back(tmp_path_factory: pytest.TempPathFactory, transactions: Path, template: Path) -> Path:
    """A good version 1 was replaced by a weak version 2, which was better on the rows of a world that is gone."""
    output = first_champion(tmp_path_factory.mktemp("good-then-weak"), EASY, transactions)
    weak = _shelf(template).registry.champion()
    here = _shelf(output)
    first = here.log.previous(None)
    assert weak is not None
    assert first is not None
    none = {"version": None, "run_id": None, "committed_at": None, "previous_entry": None, "floor": None}
    at = {"as_of": first.as_of + timedelta(hours=1), "champion_version": 1, "looks": (), "opened": ()}
    given = first.model_copy(update=none | at)
    assert here.registry.record(given, RunRecord(challenger=weak.model)).outcome is Outcome.PROMOTED
    return output


@pytest.fixture
def output(tmp_path: Path, changed_back: Path) -> Path:
    """A copy, where the fixture `job` works; its artifacts are shared."""
    folder = tmp_path / "output"
    folder.mkdir()
    shutil.copy(changed_back / "mlflow.db", folder)
    shutil.copytree(changed_back / "decisions", folder / "decisions")
    return folder


def _alarms(decision: dict[str, Any]) -> list[str]:
    return [alarm["name"] for alarm in decision["alarms"]]


@pytest.mark.slow
def test_a_champion_that_became_worse_than_its_predecessor_is_rolled_back_whatever_is_killed(
    job: Job, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a worse champion stays, or a kill repeats its look, loses the rollback or makes it silently."""

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    for step in ("runs.automatic_rollback.RollbackWatch.take", "registry.Registry.roll_back_automatically"):
        with monkeypatch.context() as patched:
            patched.setattr(f"fraud_detection.{step}", killed)
            with pytest.raises(KilledError):
                job(settings=ON)
    key = {"champion_version": 2, "predecessor_version": 1, "number": opening_of(output)["rollback_look"]["number"]}
    assert opening_of(output)["rollback_look"] == key
    ran = job(json=True, settings=ON)
    assert ran.exit_code == 0, ran.stderr
    look = decided(output)["rollback_look"]
    assert (look["key"], look["passed"]) == (key, True)
    first = entry(output, f"{AS_OF - timedelta(hours=191):%Y%m%dT%H%M%SZ}")
    assert look["holdout"]["start"] >= first["holdout"]["end"], "later rows than those that promoted it"
    assert "v2 → v1, which is pinned: v1 is better than v2 by" in ran.stderr
    assert "champion_rolled_back" in _alarms(ran.json)
    assert "automatic rollback: v1 is better than v2" in ran.json["reason"]
    following = job(json=True, settings=ON, as_of=later(1))
    assert (following.exit_code, following.json["champion_version"]) == (0, 1), following.stderr
    assert "is pinned by automatic rollback" in following.json["reason"]
    (still,) = (alarm for alarm in following.json["alarms"] if alarm["name"] == "champion_rolled_back")
    assert still["raised_at"] == next(a for a in ran.json["alarms"] if a["name"] == still["name"])["raised_at"]
    assert "rollback_look" not in following.json


@pytest.mark.slow
@pytest.mark.proof
def test_nothing_is_compared_where_the_rule_is_off(job: Job, output: Path) -> None:
    """Fails when an installation that never asked for it rolls back, or writes other entries than before."""
    ran = job(json=True, settings=FROZEN)
    assert ran.exit_code == 0, ran.stderr
    assert "rollback_look" not in decided(output)
    assert "rollback_look" not in opening_of(output)
    assert ran.json["champion_version"] == 2
    assert _shelf(output).registry.pinned() is None
