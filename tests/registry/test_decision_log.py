"""The decision log: the only history of decisions, so nothing in it may be lost, replaced or misread."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from factories import decision
from fakes.registry import NAME, T1, T2
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.decision_log import (
    Action,
    DecisionLog,
    Intervention,
    LogEntry,
    entry_name,
    stored_form,
)
from fraud_detection.registry.listing import entries_of_candidates
from fraud_detection.schema import Decision, Outcome
from fraud_detection.settings import Settings
from fraud_detection.storage import open_folder


@pytest.fixture
def log(tmp_path: Path) -> DecisionLog:
    return DecisionLog(open_folder(str(tmp_path)), NAME)


def intervention(at: datetime, action: Action = Action.ROLLBACK) -> Intervention:
    return Intervention(
        action=action,
        model_name=NAME,
        at=at,
        who="anna",
        reason="alerts doubled",
        from_version=2,
        to_version=1,
        pinned_at=at,
    )


def test_a_decision_is_read_back_as_it_was_written(log: DecisionLog, tmp_path: Path) -> None:
    """Fails when `fraud-detection decisions` shows something else than was decided."""
    given = decision(Outcome.REFUSED, T1)
    assert log.find(T1) is None
    assert log.write(given)
    assert log.find(T1) == given
    assert (tmp_path / "decisions" / NAME / "20180822T000000Z.json").is_file()


def test_a_stored_decision_stays_byte_for_byte_as_it_is(log: DecisionLog, tmp_path: Path) -> None:
    """Fails when an upgrade changes the stored form of decisions, and the DAGs or a user's scripts cannot read them."""
    stored = (Path(__file__).parent / "decision.json").read_text(encoding="utf-8").rstrip("\n")
    given = Decision.model_validate_json(stored)
    assert given.outcome is Outcome.PROMOTED
    assert log.write(given)
    assert (tmp_path / "decisions" / NAME / "20260524T100000Z.json").read_text(encoding="utf-8") == stored
    assert log.history() == (given,)


def test_a_decision_from_before_the_floor_was_recorded_is_read(log: DecisionLog, tmp_path: Path) -> None:
    """Fails when an upgrade makes earlier decisions unreadable, and runs, rollbacks and history stop working."""
    given = decision(Outcome.REFUSED, T1)
    assert log.write(given)
    path = tmp_path / "decisions" / NAME / "20180822T000000Z.json"
    content = json.loads(path.read_text())
    del content["floor"], content["data_fingerprint"], content["committed_at"], content["code_revision"]
    path.write_text(json.dumps(content))
    assert log.find(T1) == given


def test_the_previous_decision_is_that_of_the_newest_t_before(log: DecisionLog) -> None:
    """Fails when a run compares its data with those of a later as-of time, or of its own."""
    assert log.previous(T1) is None
    first, second = decision(Outcome.REFUSED, T1), decision(Outcome.NO_DECISION, T2)
    assert log.write(second)
    assert log.write(first)
    assert log.write(intervention(T2 + timedelta(days=1)))
    assert log.previous(T1) is None
    assert log.previous(T2) == first
    assert log.previous(T2 + timedelta(hours=1)) == log.previous(None) == second


def test_the_second_decision_at_the_same_moment_does_not_replace_the_first(log: DecisionLog) -> None:
    """Fails when a repeated run overwrites the decision that is already recorded."""
    first = decision(Outcome.REFUSED, T1)
    assert log.write(first)
    assert not log.write(decision(Outcome.NO_DECISION, T1, reason="another"))
    assert log.find(T1) == first


def test_a_moment_is_the_same_in_every_time_zone(log: DecisionLog) -> None:
    """Fails when the same as-of time, given in another time zone, is decided a second time."""
    from zoneinfo import ZoneInfo

    assert log.write(decision(Outcome.REFUSED, T1))
    assert log.find(T1.astimezone(ZoneInfo("Europe/Moscow"))) is not None


def test_history_is_in_the_order_in_which_things_happened(log: DecisionLog) -> None:
    """Fails when the history shows a rollback before the decision that it followed, or after the next one."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    late = decision(Outcome.PROMOTED, T1, decided_at=begin + timedelta(hours=2))
    early = decision(Outcome.PROMOTED, T2, decided_at=begin)
    between = intervention(begin + timedelta(hours=1))
    for entry in (late, early):
        assert log.write(entry)
    assert log.write(between)
    assert log.history() == (early, between, late)


def test_models_do_not_see_each_others_decisions(log: DecisionLog, tmp_path: Path) -> None:
    """Fails when two models in one output folder read each other's decisions."""
    other = DecisionLog(open_folder(str(tmp_path)), f"{NAME}_2")
    assert other.write(decision(Outcome.REFUSED, T1, model_name=f"{NAME}_2"))
    assert log.find(T1) is None
    assert log.history() == ()


def test_an_intervention_is_written_once_for_each_pin(log: DecisionLog) -> None:
    """Fails when a rollback that was killed and completed appears twice in the history."""
    moment = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert log.write(intervention(moment))
    assert not log.write(intervention(moment))
    assert log.write(intervention(moment, Action.UNPIN))
    assert log.find_intervention(Action.ROLLBACK, moment) == intervention(moment)
    assert len(log.history()) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"decision": "promoted"}', b"\xff\xfe"])
def test_a_broken_decision_is_named(log: DecisionLog, tmp_path: Path, content: bytes) -> None:
    """Fails when a damaged decision file ends in a stack trace that does not say which of a thousand files it is."""
    assert log.write(decision(Outcome.REFUSED, T2))
    broken = tmp_path / "decisions" / NAME / "20180822T000000Z.json"
    broken.write_bytes(content)
    for read in (log.history, lambda: log.find(T1)):
        with pytest.raises(FraudDetectionError, match=r"20180822T000000Z\.json.* mv .*accept-log"):
            read()


def test_a_decision_under_another_name_is_refused(log: DecisionLog, tmp_path: Path) -> None:
    """Fails when a decision file copied under another name makes a run skip an as-of time that was never decided."""
    assert log.write(decision(Outcome.REFUSED, T1))
    folder = tmp_path / "decisions" / NAME
    (folder / "20180822T000000Z.json").rename(folder / "20180822T010000Z.json")
    with pytest.raises(FraudDetectionError, match=r"holds what belongs into .*20180822T000000Z\.json"):
        log.find(T2)


def test_a_file_that_is_no_decision_is_named(log: DecisionLog, tmp_path: Path) -> None:
    """Fails when a stray file among the decisions is skipped in silence, or breaks the history without being named."""
    assert log.write(decision(Outcome.REFUSED, T1))
    (tmp_path / "decisions" / NAME / "notes.json").write_text("{}")
    with pytest.raises(FraudDetectionError, match=r"notes\.json is not named like a decision"):
        log.history()


def _hourly_log(folder: Path, hours: int) -> "_CountedLog":
    for hour in range(hours):
        entry = decision(Outcome.REFUSED, T1 + timedelta(hours=hour))
        path = folder / entry_name(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored_form(entry))
    counted = _CountedLog(open_folder(str(folder)), NAME)
    for day in range(3):
        assert counted.write(intervention(T1 + timedelta(days=day, minutes=30), Action.PIN))
    return counted


class _CountedLog(DecisionLog):
    """Counts the entries that are parsed."""

    parsed = 0

    def parse(self, name: str, content: bytes) -> LogEntry:
        self.parsed += 1
        return super().parse(name, content)


def test_the_newest_entries_are_read_without_the_others(tmp_path: Path) -> None:
    """Fails when a look at the last decisions, or an unpin, takes longer with every hour that the schedule has run."""
    short, long_ = _hourly_log(tmp_path / "short", 10), _hourly_log(tmp_path / "long", 300)
    for log in (short, long_):
        assert log.newest(5) == log.history()[-5:]
        assert log.newest(1000) == log.history()
        log.parsed = 0
        assert len(log.newest(5)) == 5
        assert log.parsed == 5 + 3
        assert log.last_intervention() == intervention(T1 + timedelta(days=2, minutes=30), Action.PIN)
        assert log.parsed == 5 + 3 + 3


def test_the_entries_of_candidates_are_read_without_older_ones(tmp_path: Path) -> None:
    """Fails when the list of candidates takes longer with every hour, or lacks one that waits for approval."""
    hours, settings = 24 * 60, Settings()
    log = _hourly_log(tmp_path, hours)
    log.parsed = 0
    found = entries_of_candidates(log, settings)
    days = 45 + settings.promotion.approval_days
    assert log.parsed == len(found) == 24 * days + 1 + 3, "of hours, and the interventions"


@given(
    hours=st.sets(st.integers(0, 50), max_size=6),
    moment=st.datetimes(datetime(2018, 8, 21), datetime(2018, 8, 25), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_runs_after_a_moment_are_found_by_their_names(hours: set[int], moment: datetime) -> None:
    """Fails when a decision in the future is overlooked, or a past one stops every run as if it were in the future."""
    with TemporaryDirectory() as folder:
        log = DecisionLog(open_folder(folder), NAME)
        times = [T1 + timedelta(hours=hour) for hour in hours]
        for time in times:
            assert log.write(decision(Outcome.REFUSED, time))
        assert log.newest_as_of() == max(times, default=None)
        later = sorted(time for time in times if time > moment)
        assert log.after(moment) == tuple(f"{time:%Y%m%dT%H%M%SZ}.json" for time in later)
        for time in times:
            assert len(log.after(time)) == sum(other > time for other in times)
