"""`schedule/MODEL.json`: the library writes it, the DAG reads it, and both have one description of it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from factories import MODEL_NAME, schedule

from benchmarks.schedule import SETTINGS, Installation, dag_schedule
from fraud_detection.outputs import intervention_file, schedule_file
from fraud_detection.schedule import (
    SCHEDULE_VERSION,
    Maturing,
    Schedule,
    ScheduleBlock,
    ScheduledLook,
    mark_schedule,
    write_schedule,
)
from fraud_detection.schema import CandidateKey
from fraud_detection.storage import open_folder

AS_OF = datetime(2026, 4, 20, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAG = dag_schedule()


def look(frauds: int = 31, cards: int = 20, **maturing: int) -> ScheduledLook:
    """The first look at a candidate of midnight; `h2=9` are nine frauds on new cards that count two hours later."""
    return ScheduledLook(
        candidate=CandidateKey(AS_OF.replace(hour=0), "recipe"),
        number=1,
        holdout_start=AS_OF - timedelta(days=7),
        frauds=frauds,
        frauds_needed=40,
        fraud_cards=cards,
        fraud_cards_needed=15,
        maturing={
            AS_OF + int(name[1:]) * HOUR: Maturing(frauds=count, new_cards=count) for name, count in maturing.items()
        },
    )


def due(content: Schedule | bytes | None, hours: int, max_hours: float = 24) -> Any:
    """What the DAG says of a run so many hours after the one that left the schedule."""
    stored = content.model_dump_json().encode() if isinstance(content, Schedule) else content
    return DAG.find_due(stored, AS_OF + hours * HOUR, max_hours)


class Recorder(dict[str, Any]):
    """A JSON object that notes which of its names are read."""

    seen: set[str]

    def __getitem__(self, name: str) -> Any:
        Recorder.seen.add(name)
        return super().__getitem__(name)


def test_the_dag_reads_what_the_job_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when job and DAG disagree on the file, and every scheduled run fails or costs a cluster."""
    block = ScheduleBlock(reason="frozen", until=AS_OF + 2 * HOUR)
    written = schedule(AS_OF, looks=(look(h2=9),), block=block, late_frauds_a_day=1.0)
    content = json.loads(written.model_dump_json(), object_pairs_hook=Recorder)
    Recorder.seen = set()
    monkeypatch.setattr(DAG, "_parsed", lambda _: content)
    for hours in (1, 6, 30):
        DAG.find_due(b"", AS_OF + hours * HOUR, 24)
    assert DAG.VERSION == SCHEDULE_VERSION == written.schema_version
    unread = {"schema_version", "model_name", "written_at", "recipe", "holdout_start", "commands"}
    described = {*Schedule.model_fields, *ScheduledLook.model_fields, *Maturing.model_fields}
    described |= {*ScheduleBlock.model_fields, "label_cutoff", "recipe"}
    assert Recorder.seen == described - unread


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"schema_version": 2}', b'{"as_of": "2026-04-20T07:00:00Z"}'])
def test_without_a_readable_schedule_a_run_is_due(content: bytes | None) -> None:
    """Fails when a new installation, or one after an upgrade, waits for a schedule that only a run can write."""
    assert due(content, 1).due


def test_nothing_due_says_what_is_waited_for() -> None:
    """Fails when people cannot see why an hour was skipped, or when the next run comes."""
    found = due(schedule(AS_OF, looks=(look(),), next_candidate_at=AS_OF + 17 * HOUR), 1)
    assert found == DAG.Due(
        False, "nothing due: candidate 2026-04-20 00:00 has 31 of 40 frauds; next candidate 2026-04-21 00:00"
    )


def test_a_candidate_is_opened_on_its_hour_and_after_it_was_missed() -> None:
    """Fails when an outage of Airflow at midnight costs the candidate of the day."""
    left = schedule(AS_OF, next_candidate_at=AS_OF + 3 * HOUR)
    assert [due(left, hours).due for hours in (1, 2, 3, 4)] == [False, False, True, True]
    assert due(left, 3).reason == "due: a candidate is to be opened since 2026-04-20 10:00"


def test_a_due_look_waits_for_the_next_hour_of_looks() -> None:
    """Fails when each look costs a cluster of its own, or a look waits longer than `look_every_hours`."""
    left = schedule(AS_OF, looks=(look(h2=8, h3=1),))
    # 10:00 has the frauds; looks are taken at 12:00, or in the first hour after it that has a run.
    assert [due(left, hours).due for hours in range(1, 8)] == [False] * 4 + [True] * 3
    assert due(left, 5).reason == "due: look 1 at candidate 2026-04-20 00:00 has 40 of 40 frauds"
    assert due(left, 4).reason.startswith(
        "nothing due: candidate 2026-04-20 00:00 has 40 of 40 frauds; looks are taken 2026-04-20 12:00;"
    )
    late = schedule(AS_OF, looks=(look(h6=9),))
    assert [hours for hours in range(1, 13) if due(late, hours).due] == [11, 12]


def test_few_cards_make_no_look_due() -> None:
    """Fails when the schedule pays each hour for a look that the rule does not allow."""
    left = schedule(AS_OF, looks=(look(40, 14),))
    assert not due(left, 5).due
    assert "has frauds on 14 of 15 cards" in due(left, 5).reason


def test_labels_that_usually_come_late_are_expected() -> None:
    """Fails when a look is a grid hour late because the last run could not know of the newest labels."""
    left = schedule(AS_OF, looks=(look(38),))
    assert not due(left, 5).due
    assert due(left.model_copy(update={"late_frauds_a_day": 6.0}), 5).due


@pytest.mark.parametrize(
    ("until", "looks"), [(None, []), (AS_OF + 6 * HOUR, [11, 12]), (AS_OF + 5 * HOUR, [5, 6, 7, 8, 9, 10, 11, 12])]
)
def test_a_block_stops_looks_until_it_ends(until: datetime | None, looks: list[int]) -> None:
    """Fails when a pin or a freeze costs clusters, or looks do not resume after it."""
    left = schedule(AS_OF, looks=(look(50),), block=ScheduleBlock(reason="pinned by ann", until=until))
    found = [hours for hours in range(1, 13) if due(left, hours).due]
    assert found == ([6, 7, 8, 9, 10, 11, 12] if until == AS_OF + 6 * HOUR else looks)
    if until is None:
        assert due(left, 5).reason == "nothing due: pinned by ann; next candidate 2026-04-21 07:00"


def test_after_a_promotion_looks_are_counted_against_the_new_champion() -> None:
    """Fails when candidates younger than a new champion wait a day for their looks against it."""
    left = schedule(AS_OF, champion_version=13)
    assert [hours for hours in range(1, 8) if due(left, hours).due] == [5, 6, 7]
    assert "version 13 serves since the last run" in due(left, 5).reason


def test_without_a_champion_the_next_test_is_named() -> None:
    """Fails when data that cannot have a champion costs a cluster every hour."""
    left = schedule(AS_OF, champion_version=None, compared_with=None, next_candidate_at=AS_OF + 5 * HOUR)
    assert due(left, 4).reason == ("nothing due: no champion is in service; the next model is tested 2026-04-20 12:00")
    assert due(left, 5).due


def test_a_person_s_change_starts_the_next_run(tmp_path: Path) -> None:
    """Fails when a rollback leaves the schedule waiting for looks at a champion that serves no longer."""
    output = open_folder(str(tmp_path))
    mark_schedule(output, MODEL_NAME, "rollback")
    assert list(tmp_path.iterdir()) == [], "a schedule without counts would stop the runs"
    write_schedule(output, schedule(AS_OF))
    mark_schedule(output, MODEL_NAME, "rollback at 2026-04-20 07:20")
    content = (tmp_path / schedule_file(MODEL_NAME)).read_bytes()
    found = due(content, 1)
    assert found.reason == "due: what serves was changed since the last run (rollback at 2026-04-20 07:20)"
    assert found.due
    write_schedule(output, schedule(AS_OF + HOUR))
    assert not due((tmp_path / schedule_file(MODEL_NAME)).read_bytes(), 2).due


def test_a_command_during_a_run_starts_the_next_one(tmp_path: Path) -> None:
    """Fails when a run that began before an approval or a pin writes over its mark, and looks go on against what served
    before, or nothing happens for a day.
    """
    output, path = open_folder(str(tmp_path)), tmp_path / schedule_file(MODEL_NAME)
    write_schedule(output, schedule(AS_OF, commands=0))
    output.write_once(intervention_file(MODEL_NAME, "pin", AS_OF + HOUR), b"{}")
    mark_schedule(output, MODEL_NAME, "pin at 2026-04-20 08:00")
    for _ in range(2):  # a killed run's publication is repeated
        write_schedule(output, schedule(AS_OF + HOUR, commands=0))
        assert due(path.read_bytes(), 2).reason == (
            "due: what serves was changed since the last run (pin at 2026-04-20 08:00)"
        )
    write_schedule(output, schedule(AS_OF + 2 * HOUR, commands=1))
    assert not due(path.read_bytes(), 3).due, "a run that began after the command knows of it"


def test_a_command_during_the_first_run_is_marked(tmp_path: Path) -> None:
    """Fails when a command that found no schedule to mark is forgotten by the run that writes the first one."""
    output = open_folder(str(tmp_path))
    output.write_once(intervention_file(MODEL_NAME, "pin", AS_OF), b"{}")
    mark_schedule(output, MODEL_NAME, "pin")
    write_schedule(output, schedule(AS_OF, commands=0))
    assert "a command while the last run went on" in due((tmp_path / schedule_file(MODEL_NAME)).read_bytes(), 1).reason


def test_an_hour_that_is_decided_is_not_decided_again() -> None:
    """Fails when a run of a decided hour pays for a cluster that changes nothing."""
    left = schedule(AS_OF, next_candidate_at=AS_OF)
    assert due(left, 0) == DAG.Due(False, "2026-04-20 07:00 is decided already", "2026-04-20T07:00:00+00:00")
    assert due(left, 1).due


def test_an_old_schedule_is_not_trusted() -> None:
    """Fails when labels that came after the last run are never counted, where candidates are rare."""
    left = schedule(AS_OF, next_candidate_at=AS_OF + timedelta(days=7))
    assert not due(left, 23).due
    assert due(left, 24).reason == "due: the last run was at 2026-04-20 07:00, 24 hours ago or more"


@pytest.mark.parametrize(
    ("a_day", "days"),
    [(45.0, 5), *(pytest.param(each, 30, marks=[pytest.mark.slow, pytest.mark.proof]) for each in (45.0, 450.0))],
)
def test_an_hourly_schedule_costs_few_clusters_and_no_look_waits_long(a_day: float, days: int) -> None:
    """Fails when the schedule pays for more than five clusters a day, or a look is more than six hours late."""
    warm_up = 28 if days == 30 else 8
    found = Installation(a_day, 1, SETTINGS, days, warm_up)
    found.run_all()
    assert len(found.runs) <= 5 * days
    assert len(found.late) > days, "hardly any look was taken"
    assert max(found.late) <= SETTINGS.comparison.look_every_hours * HOUR
    skipped = [reason for reason in found.reasons if not reason.startswith("due: ")]
    assert len(skipped) == 24 * days - len(found.runs)
    assert all(reason.startswith("nothing due: candidate ") for reason in skipped)
