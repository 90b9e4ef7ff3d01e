"""The dashboard: self-contained, complete in every state, and made anew from what is there."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from factories import MODEL_NAME, alert_figures, candidate_record, decision, look_record, opening

from fraud_detection.monitoring import write_dashboard
from fraud_detection.monitoring.service_weeks import ServiceEstimate, ServiceWeek, ServiceWeeks, write_service_weeks
from fraud_detection.outputs import dashboard_file, dashboard_history_file, report_file
from fraud_detection.registry.decision_log import Action, Intervention, LogEntry
from fraud_detection.schema import (
    Alarm,
    AlarmName,
    CandidateKey,
    DataCounts,
    DriftRecord,
    Estimate,
    LookKey,
    Outcome,
    Shift,
    ShiftedSample,
)
from fraud_detection.settings import Settings
from fraud_detection.storage import Storage, open_folder

T = datetime(2026, 4, 20, tzinfo=UTC)
DAY = timedelta(days=1)
CANDIDATE = candidate_record(T)
SAMPLE = ShiftedSample(start=T - 7 * DAY, end=T, transactions=4321, independent=400.0)
DRIFT = DriftRecord(
    reference=SAMPLE,
    fresh=SAMPLE,
    inputs=(Shift(name="amount", psi=0.31, drift_limit=0.1, limit=1.0),),
    score=Shift(name="score", psi=0.02, drift_limit=0.1, limit=1.0),
)
LOOK = look_record(CANDIDATE.key, T + 3 * DAY)
UNSOUND = Alarm(name=AlarmName.UNSOUND_DATA, champion_version=None, text="checks <b>failed</b>", raised_at=T + 3 * DAY)
LOG: list[LogEntry] = [
    decision(Outcome.PROMOTED, T, version=1),
    opening(T + DAY, (CANDIDATE,), (LookKey(candidate=CANDIDATE.key, champion_version=1, number=1),)),
    decision(Outcome.NO_DECISION, T + DAY, 1, champion=None, challenger=None, difference=None, reason="waits"),
    decision(Outcome.REFUSED, T + 3 * DAY, 1, looks=(LOOK,), drift=DRIFT, alarms=(UNSOUND,)),
]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_folder(str(tmp_path))


def page_of(storage: Storage, entries: list[LogEntry], *, anew: bool = False) -> str:
    write_dashboard(storage, entries, Settings(), T + 4 * DAY, anew=anew)
    return (storage.read(dashboard_file(MODEL_NAME)) or b"").decode()


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)
    assert found, name
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", found[1]))


def test_it_tells_what_serves_what_is_compared_and_what_happened(storage: Storage) -> None:
    """Fails when the page lacks the version in service, evidence, a drift, an alarm or a decision."""
    page = page_of(storage, LOG)
    assert " v1 since 2026-04-20 00:00 UTC (promoted)" in section(page, "champion")
    assert "0.700" in section(page, "measured")
    candidates = section(page, "candidates")
    assert "2026-04-20T00:00" in candidates
    assert "1.10 of 3.90" in candidates
    assert "needed +0.280" in candidates
    assert "Drift: drift of amount" in section(page, "drift")
    assert "checks &lt;b&gt;failed&lt;/b&gt;" in page
    events = section(page, "events")
    assert events.index("Refused") < events.index("Promoted as v1")
    assert "2 runs" not in events
    for entry in (LOG[0], LOG[3]):
        assert f'href="../{report_file(MODEL_NAME, entry.as_of)}"' in page  # type: ignore[union-attr]


def test_it_tells_how_fresh_data_and_labels_are(storage: Storage) -> None:
    """Fails when a feed that stands still looks like one that runs, or the page of a run breaks on its counts."""
    counts = DataCounts(
        rows=123_456, rejected_rows=3, refunds=0, unknown_cards=0, unknown_terminals=0,
        matured=99, matured_frauds=7, matured_unlabelled=0,
    )  # fmt: skip
    fresh = counts.model_copy(update={"last_day": 9_876, "age_hours": 2.25, "label_delay_days": 6.04})
    undated = fresh.model_copy(update={"label_delay_days": None})
    told = [
        section(page_of(storage, [decision(Outcome.PROMOTED, T, version=1, data_counts=one)]), "data")
        for one in (counts, undated, fresh)
    ]
    assert all("123,456 transactions read; 3 rejected; 7 matured frauds" in one for one in told)
    assert "last 24 hours" not in told[0]
    assert "9,876 in the last 24 hours, the newest 2.2 h before the as-of time" in told[1]
    assert ("90 %" in told[1], "90 % of the frauds known after 6.0 days" in told[2]) == (False, True)


def test_runs_that_wait_are_told_in_one_line(storage: Storage) -> None:
    """Fails when hundreds of hourly runs that decided nothing push the decisions off the page."""
    idle = [
        decision(Outcome.NO_DECISION, T + 4 * DAY + k * DAY / 24, 1, champion=None, challenger=None, difference=None)
        for k in range(50)
    ]
    page = page_of(storage, [*LOG, *idle])
    assert "No decision in the last 50 runs" in section(page, "events")
    assert section(page, "events").count("Refused") == 1


@pytest.mark.parametrize("entries", [[], LOG[:1], LOG[:2], LOG[:3], LOG], ids=len)
def test_every_state_has_a_complete_page_that_fetches_nothing(storage: Storage, entries: list[LogEntry]) -> None:
    """Fails when the page of a new installation breaks, or a page loads something from elsewhere."""
    page = page_of(storage, entries)
    assert page.rstrip().endswith("</html>")
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!\.\./reports/|data:)', page)
    assert "http" not in page.replace("http-equiv", "")


def test_what_a_run_no_longer_reads_stays_on_the_page(storage: Storage) -> None:
    """Fails when the promotion of the model in service leaves the page once the runs stop reading its entry."""
    page_of(storage, LOG[:2])
    assert "v1" in section(page_of(storage, LOG[3:]), "champion")
    assert "v1" not in section(page_of(storage, LOG[3:], anew=True), "champion")


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema_version": 99}', b'{"changes": 3}'])
def test_a_damaged_or_foreign_history_stops_no_run(storage: Storage, content: bytes) -> None:
    """Fails when a derived file that is damaged, or of another release, stops the page."""
    storage.write_atomic(dashboard_history_file(MODEL_NAME), content)
    assert "v1" in section(page_of(storage, LOG), "champion")


def test_a_retired_champion_is_not_shown_in_service(storage: Storage) -> None:
    """Fails when the page says that a version serves that a person has taken out of service."""
    retired = Intervention(
        action=Action.RETIRE,
        model_name=MODEL_NAME,
        at=T + 4 * DAY,
        who="anna",
        reason="<script>alert(1)</script>",
        from_version=1,
        to_version=None,
        pinned_at=T + 4 * DAY,
    )
    page = page_of(storage, [*LOG, retired])
    assert "none since 2026-04-24 00:00 UTC (retire-champion)" in section(page, "champion").replace("  ", " ")
    assert "<script" not in page


def test_candidates_of_the_same_cutoff_are_told_apart(storage: Storage) -> None:
    """Fails when two candidates have one name on the page, so that nobody can approve the right one."""
    other = candidate_record(T, recipe="another")
    page = page_of(storage, [*LOG, opening(T + 4 * DAY, (other,))])
    names = re.findall(r"2026-04-20T00:00-\w+", section(page, "candidates"))
    assert len(set(names)) == 2
    assert CandidateKey(T, "another") == other.key


def test_it_shows_what_each_version_was_worth_week_by_week(storage: Storage) -> None:
    """Fails when the weeks of a champion that decays, or of one without a threshold, are not on the page."""
    assert 'id="weeks"' not in page_of(storage, LOG)
    ap = Estimate(value=0.612, low=0.55, high=0.67, confidence=0.95)
    known = {"transactions": 900, "frauds": 40, "version": 1}
    weeks = (
        ServiceWeek(
            start=T - 14 * DAY, end=T - 7 * DAY, average_precision=ap, alerts=alert_figures(T, T + DAY), **known
        ),
        ServiceWeek(start=T - 7 * DAY, end=T, average_precision=None, alerts=None, **known),
    )
    write_service_weeks(storage, MODEL_NAME, ServiceWeeks(weeks=weeks))
    page = page_of(storage, LOG)
    shown = section(page, "weeks")
    assert "2026-04-06 v1 40 0.612 0.550 … 0.670" in shown
    assert shown.index("2026-04-13") < shown.index("2026-04-06 v1"), "the newest first"
    assert "v1, 2026-04-06 to 2026-04-13: 0.612, 40 frauds" in page


def test_estimates_are_marked_as_such(storage: Storage) -> None:
    """Fails when an estimate before labels mature is taken for what the champion was worth, or is not shown."""
    estimate = ServiceEstimate(
        start=T, end=T + 4 * DAY, version=1, transactions=1234, expected=0.61, provisional=None, known_frauds=0
    )
    write_service_weeks(storage, MODEL_NAME, ServiceWeeks(estimate=estimate))
    shown = section(page_of(storage, LOG), "weeks")
    assert "Not matured yet" in shown
    assert "1,234 transactions" in shown
    assert "0.610 by its own probabilities" in shown
    assert "Estimates, and no evidence" in shown
    assert "became known early" not in shown
    assert "<table" not in shown, "no week has matured"


def test_an_alarm_that_is_over_stays_on_the_page(storage: Storage) -> None:
    """Fails when a person who looks after the weekend does not learn that the feed was broken."""
    later = decision(Outcome.NO_DECISION, T + 4 * DAY, 1, champion=None, challenger=None, difference=None)
    shown = section(page_of(storage, [*LOG, later]), "events")
    told, over = T + 3 * DAY, T + 4 * DAY
    assert f"{told:%Y-%m-%d %H:%M} {over:%Y-%m-%d %H:%M} Unsound data checks &lt;b&gt;failed&lt;/b&gt;" in shown
    assert f"{told:%Y-%m-%d %H:%M} lasts Unsound data" in section(page_of(storage, LOG, anew=True), "events")
