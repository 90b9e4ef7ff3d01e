"""What a run gives its report: the looks at a candidate from the log, the risk ledger, and explained scores."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from conftest import AS_OF, Job
from factories import candidate_record, decision, look_record, opening, span

from fraud_detection.registry import Champion
from fraud_detection.registry.decision_log import Action, Intervention, LogEntry
from fraud_detection.runs.comparison import Measured, Shown
from fraud_detection.runs.planning import Plan
from fraud_detection.runs.proposal import Evidence
from fraud_detection.runs.reporting import label_delays, override_text, shadow_data
from fraud_detection.runs.shadow import Shadow
from fraud_detection.schema import LookKey, Outcome
from fraud_detection.settings import Settings
from fraud_detection.transactions.profile import HourlyDelays

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

RECORD = candidate_record(AS_OF - timedelta(days=10))
OTHER = candidate_record(AS_OF - timedelta(days=9))
EARLIER, LATER = AS_OF - timedelta(days=2), AS_OF + timedelta(days=1)


def _looked(at: Any, number: int, record: Any = RECORD) -> tuple[LogEntry, LogEntry]:
    """An opening and its decision."""
    key = LookKey(candidate=record.key, champion_version=1, number=number)
    return (
        opening(at, (record,), (key,)),
        decision(Outcome.REFUSED, at, 1, schema_version=2, looks=(look_record(record.key, at, number),)),
    )


def _shadow(log: tuple[LogEntry, ...]) -> Shadow:
    champion = Champion.__new__(Champion)
    training = span(AS_OF - timedelta(days=90), AS_OF - timedelta(days=60))
    for name, value in {"version": 1, "training": training, "recipe": None}.items():
        object.__setattr__(champion, name, value)
    return Shadow.of(log, champion, AS_OF, "recipe", Settings())


def test_an_override_is_told_for_as_long_as_its_version_serves() -> None:
    """Fails when a report hides that the champion came into service without the promotion rule, or blames another."""
    entries = [
        Intervention(
            action=action,
            model_name="fraud_detection",
            at=EARLIER,
            who="anna",
            reason="the champion misses the new fraud",
            from_version=1,
            to_version=version,
            pinned_at=EARLIER,
        )
        for action, version in ((Action.PROMOTE, 2), (Action.APPROVE, 3), (Action.ROLLBACK, 2))
    ]
    at = f"{EARLIER:%Y-%m-%d %H:%M} UTC"
    assert override_text(2, entries) == (
        f"v2 came into service as an override by anna, {at}: the champion misses the new fraud"
    )
    assert [override_text(version, entries) for version in (None, 1, 3)] == [None, None, None]


def test_a_candidates_life_is_read_from_the_log_up_to_the_run() -> None:
    """Fails when the report leaves out earlier looks at a candidate, mixes in another's, or knows the future."""
    log = (
        *_looked(AS_OF - timedelta(days=1), 2),
        *_looked(EARLIER, 1),
        *_looked(EARLIER + timedelta(hours=1), 1, OTHER),
        *_looked(LATER, 9),
    )
    record = look_record(RECORD.key, AS_OF, 3)
    shown = Shown.__new__(Shown)
    object.__setattr__(shown, "record", record)
    evidence = Evidence(Plan(_shadow(log)), (), Measured((record,), shown), (), log)
    found = shadow_data(evidence, AS_OF)
    assert [(one.as_of, one.record.number) for one in found.life] == [
        (EARLIER, 1),
        (AS_OF - timedelta(days=1), 2),
        (AS_OF, 3),
    ]
    assert (found.ledger.opened, found.ledger.allowed) == (4, 270)
    numbers = {one.look.candidate: one.look.number for one in found.next_looks}
    assert numbers == {RECORD.key: 4, OTHER.key: 2}


def test_without_a_look_there_is_a_ledger_and_no_life() -> None:
    """Fails when a run that took no look has no report."""
    log = _looked(EARLIER, 1)
    found = shadow_data(Evidence(Plan(_shadow(log)), (), Measured(), (), log), AS_OF)
    assert found.life == ()
    assert found.ledger.opened == 1


def test_the_observed_delay_is_that_of_settled_labels() -> None:
    """Fails when young frauds, of which only the fast labels have arrived, make labels look faster than they are."""
    hours = np.datetime64("2026-03-01T00", "h") - np.array([24 * 40, 24 * 40, 24 * 29, 24 * 5])
    delays = HourlyDelays(hours, np.array([24, 72, 24, 1]), np.array([2, 1, 1, 50]))
    found = label_delays(delays, AS_OF)
    assert found is not None
    assert found.frauds == 4
    assert [found.share[hour] for hour in (23, 24, 71, 72)] == [0.0, 0.75, 0.75, 1.0]
    empty = HourlyDelays(hours[:0], delays.frauds[:0], delays.frauds[:0])
    assert label_delays(empty, AS_OF) is None
    young = label_delays(HourlyDelays(hours[3:], np.array([1]), np.array([50])), AS_OF)
    assert young is not None
    assert young.frauds == 0


def test_the_reports_of_a_first_champion_and_of_a_refusal(job: Job, tmp_path: Path) -> None:
    """Fails when a run does not give its report what it measured, or MLflow not the verdict on the version."""
    first = job(json=True).json
    page = Path(first["report"]).read_text(encoding="utf-8")
    for section in ("attributions", "card-precision", "shadow", "label-delay"):
        assert f'id="{section}"' in page
    assert 'id="life"' not in page
    assert "0 of 270 looks" in page
    sample = re.search(r"over ([\d,]+) transactions of the hold-out drawn at random", page)
    assert sample is not None
    assert 100 < int(sample[1].replace(",", "")) <= first["holdout"]["transactions"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/output/mlflow.db")
    assert first["report"] in str(client.get_model_version("fraud_detection", "1").description)

    refused = job(json=True, as_of=(AS_OF + timedelta(hours=1)).isoformat()).json
    page = Path(refused["report"]).read_text(encoding="utf-8")
    assert refused["decision"] == "refused"
    assert 'id="life"' in page
    assert "1 of 270 looks" in page
    assert "waits for frauds" in page
