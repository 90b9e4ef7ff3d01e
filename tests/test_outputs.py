"""The names of the objects under the output folder."""

import inspect
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from fraud_detection import outputs
from fraud_detection.registry.decision_log import Action

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
PINNED_AT = datetime(2026, 3, 1, 9, 15, 0, 123456, tzinfo=UTC)
EXAMPLES = {
    "decision_file": outputs.decision_file("MODEL", AS_OF),
    "opening_file": outputs.opening_file("MODEL", AS_OF),
    "intervention_file": outputs.intervention_file("MODEL", "rollback", PINNED_AT),
    "lease_file": outputs.lease_file("MODEL", 12),
    "report_file": outputs.report_file("MODEL", AS_OF),
    "dashboard_file": outputs.dashboard_file("MODEL"),
    "service_weeks_file": outputs.service_weeks_file("MODEL"),
    "dashboard_history_file": outputs.dashboard_history_file("MODEL"),
    "known_labels_file": outputs.known_labels_file("MODEL"),
    "retention_file": outputs.retention_file("MODEL"),
    "score_manifest_file": outputs.score_manifest_file("MODEL", 12),
    "scores_file": outputs.scores_file("MODEL", AS_OF.date(), 12, "1f3a9c20"),
    "alerts_file": outputs.alerts_file("MODEL", AS_OF.date()),
    "forgotten_file": outputs.forgotten_file("HASH"),
    "schedule_file": outputs.schedule_file("MODEL"),
    "journal_file": outputs.journal_file("MODEL"),
    "outcome_file": outputs.outcome_file("NAME"),
    "quarantine_file": outputs.quarantine_file(datetime(2026, 3, 1, 0, 15, tzinfo=UTC)),
}


def test_the_table_of_the_documentation_names_every_object() -> None:
    """Fails when docs/storage.md lacks an object below `--output`, or names one that no run writes."""
    functions = {name for name, _ in inspect.getmembers(outputs, inspect.isfunction) if name.endswith("_file")}
    assert EXAMPLES.keys() == functions
    page = (Path(__file__).parents[1] / "docs" / "storage.md").read_text(encoding="utf-8")
    [table] = re.findall(r"^\| object \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, flags=re.MULTILINE)
    named = {word for row in table.splitlines() for word in re.findall(r"`([^`]+)`", row.split("|")[1])}
    store = outputs.store_folder("KEY")
    folders = {store, outputs.features_folder(store, "KEY"), outputs.ARTIFACTS}
    others = {f"-{action.value}" for action in Action if action is not Action.ROLLBACK}
    assert named == {*EXAMPLES.values(), *others, *folders, outputs.DATABASE, outputs.SALT}


def test_a_time_is_named_in_utc() -> None:
    """Fails when the same as-of time, given in another time zone, has a decision of another name."""
    moscow = AS_OF.astimezone(timezone(timedelta(hours=3)))
    assert outputs.decision_file("MODEL", moscow) == EXAMPLES["decision_file"]


def test_the_name_says_whether_it_is_a_decision_an_opening_or_an_intervention() -> None:
    """Fails when a rollback is taken for a decision, or a stray file for any of them."""
    decision, intervention = EXAMPLES["decision_file"], EXAMPLES["intervention_file"]
    assert outputs.is_decision(decision)
    assert not outputs.is_decision(intervention)
    assert outputs.is_intervention(intervention)
    assert not outputs.is_intervention(decision)
    opening = EXAMPLES["opening_file"]
    assert outputs.is_opening(opening)
    assert not outputs.is_opening(decision)
    assert not outputs.is_decision(opening)
    assert not outputs.is_intervention(opening)
    for stray in (f"{decision}.bak", decision.replace("MODEL/", "MODEL/old/"), "decisions/MODEL/notes.json"):
        assert not outputs.is_decision(stray)
        assert not outputs.is_opening(stray)
        assert not outputs.is_intervention(stray)


def test_names_sort_like_the_times_of_entries() -> None:
    """Fails when a run leaves out recent entries of the log, and looks that were taken are taken again."""
    first = outputs.first_name_since("MODEL", AS_OF)
    for name in (EXAMPLES["opening_file"], EXAMPLES["decision_file"], EXAMPLES["intervention_file"]):
        assert outputs.first_name_since("MODEL", AS_OF - timedelta(seconds=1)) < first <= name
        assert name < outputs.first_name_since("MODEL", PINNED_AT + timedelta(seconds=1))
    assert EXAMPLES["opening_file"] < EXAMPLES["decision_file"]
    assert outputs.time_in(EXAMPLES["opening_file"]) == outputs.time_in(EXAMPLES["decision_file"]) == AS_OF
    assert outputs.time_in(EXAMPLES["intervention_file"]) == PINNED_AT.replace(microsecond=0)
