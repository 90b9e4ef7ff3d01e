"""A month of operation, hour by hour: what happens to the feed, which alarms it must raise, and which were raised.

    python -m benchmarks.operation --check --output benchmarks/results/operation.md --dashboard month.html

A simulated bank delivers a file an hour. The DAG's own rule says whether an hour is worth a cluster; where it is, the
job runs in this process with the shipped settings, and scores after its decision. Three things happen, at known times:

- the fraud changes, so the champion's ranking fails, and a candidate that knows the new fraud replaces it;
- two days of the feed are missing, and arrive together later;
- for some days no label arrives, then all that were due; the labels of these days stay late, which a person accepts.

What each must raise, and when it must end, is written down below before anything runs. An alarm is told once, by the
run that raises it, as the DAG's notification does; `--check` ends with 1 where told and expected differ.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.revision import revision_of
from benchmarks.schedule import dag_schedule
from fraud_detection.cores import usable_cores
from fraud_detection.monitoring.history import AlarmSpan, History, with_entries
from fraud_detection.outputs import dashboard_file, schedule_file
from fraud_detection.runs.progress import Stopwatch
from fraud_detection.runs.request import Request
from fraud_detection.runs.retrain import retrain
from fraud_detection.runs.score import score_after
from fraud_detection.schema import AlarmName, Decision, Outcome
from fraud_detection.settings import AcceptedChange, HealthCheck, Settings, load_settings
from fraud_detection.spark_session import Engine
from fraud_detection.storage import open_folder
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_table
from fraud_simulation.transactions import day_table, hour_table
from fraud_simulation.world import World

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "conf" / "retraining.yaml"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST_RUN = datetime(2026, 3, 2, tzinfo=UTC)
HISTORY_DAYS, DAYS = 112, 35
TRANSACTIONS_A_DAY = 7_200
MAX_HOURS = 24.0
"""The DAG's setting `max_hours_between_runs`."""

DRIFT = date(2026, 3, 9)
FEED_BREAKS, FEED_IS_BACK = datetime(2026, 3, 16, tzinfo=UTC), datetime(2026, 3, 19, tzinfo=UTC)
LOST_UNTIL = datetime(2026, 3, 18, tzinfo=UTC)
"""The transactions of FEED_BREAKS to here arrive when the feed is back."""
LABELS_STOP, LABELS_ARE_BACK = datetime(2026, 3, 20, tzinfo=UTC), datetime(2026, 3, 28, tzinfo=UTC)
ACCEPTED_AT = datetime(2026, 3, 29, tzinfo=UTC)
ACCEPTED = AcceptedChange.model_validate(
    {
        "check": HealthCheck.LABEL_DELAY,
        "from": "2026-03-13",
        "to": "2026-04-30",
        "reason": "labels were late until 28 March",
    }
)
"""What a person sets when the labels are back, as the alarm's text and docs/data_health.md say."""


@dataclass(frozen=True)
class Expected:
    """What must be told in a span, each alarm once, and be over by the end of another."""

    cause: str
    names: frozenset[AlarmName]
    """One of them at least, unless `unless_replaced_by` applies."""
    told_from: datetime
    told_until: datetime
    over_by: datetime
    unless_replaced_by: datetime | None = None
    """Nothing has to be told where a candidate that knows the new fraud was promoted by then."""


EXPECTED = (
    Expected(
        "two days of the feed are missing",
        frozenset({AlarmName.UNSOUND_DATA}),
        FEED_BREAKS + 1 * DAY,
        FEED_BREAKS + 2 * DAY + 6 * HOUR,
        FEED_IS_BACK + 1 * DAY,
    ),
    Expected(
        "no label arrives",
        frozenset({AlarmName.UNSOUND_DATA}),
        LABELS_STOP + 3 * DAY,
        LABELS_STOP + 8 * DAY,
        ACCEPTED_AT + 1 * DAY,
    ),
    Expected(
        "the fraud has changed, and what serves knows little of the new one",
        frozenset({AlarmName.CHAMPION_DECAYED, AlarmName.CHAMPION_BELOW_FLOOR}),
        datetime.combine(DRIFT, datetime.min.time(), UTC) + 7 * DAY,
        datetime.combine(DRIFT, datetime.min.time(), UTC) + 24 * DAY,
        FIRST_RUN + 34 * DAY,
        unless_replaced_by=datetime(2026, 3, 23, tzinfo=UTC),
    ),
)
"""Alarms of the last cause follow the labels of the new fraud, which mature from a week after the change on. A champion
that was promoted on a few days of it may still be below the floor."""


@dataclass
class Month:
    """An installation that runs as its schedule says."""

    folder: Path
    seed: int
    days: int
    decisions: list[Decision] = field(default_factory=list)
    skipped: int = 0

    def __post_init__(self) -> None:
        self._world = World(self.seed, TRANSACTIONS_A_DAY, regimes(DRIFT))
        self._settings = load_settings(CONFIG)
        self._find_due = dag_schedule().find_due
        self._output = open_folder(str(self.folder / "output"))

    def run(self) -> None:
        """Every hour."""
        start = FIRST_RUN - HISTORY_DAYS * DAY
        for number in range(HISTORY_DAYS):
            day = (start + number * DAY).date()
            self._write(day_table(self._world, day), f"{day}")
        for hour in range(self.days * 24):
            as_of = FIRST_RUN + hour * HOUR
            if hour:
                self._deliver(as_of - HOUR)
            content = self._output.read(schedule_file(self._settings.model_name))
            if self._find_due(content, as_of, MAX_HOURS).due:
                self._decide(as_of)
            else:
                self.skipped += 1

    @property
    def told(self) -> list[AlarmSpan]:
        """The alarms of all runs, as the dashboard has them."""
        return list(with_entries(History(), self.decisions).alarms)

    def _deliver(self, hour: datetime) -> None:
        """The file of an hour, unless the feed is broken; when it is back, also the days that it has lost."""
        if FEED_BREAKS <= hour < LOST_UNTIL:
            return
        self._write(hour_table(self._world, hour), f"{hour:%Y-%m-%dT%H}")
        if hour == FEED_IS_BACK - HOUR:
            for day in _days(FEED_BREAKS, LOST_UNTIL):
                self._write(day_table(self._world, day), f"late-{day}")

    def _write(self, rows: pa.Table, name: str) -> None:
        write_table(_with_late_labels(rows), self.folder / "input" / f"{name}.parquet")

    def _decide(self, as_of: datetime) -> None:
        request = Request(
            settings=self._settings_at(as_of),
            config=str(CONFIG),
            input_path=str(self.folder / "input"),
            output=str(self.folder / "output"),
            tracking_uri=f"sqlite:///{self.folder}/mlflow.db",
            as_of=as_of,
            engine=Engine.SAIL,
            clock=as_of + timedelta(minutes=5),
        )
        began = time.process_time()
        decision = retrain(request, _nothing)
        score_after(request, as_of, _nothing, Stopwatch())
        self.decisions.append(decision)
        alarms = ", ".join(one.name.value for one in decision.alarms)
        print(
            f"{as_of:%m-%d %H:%M} {decision.outcome.value} {time.process_time() - began:.1f} CPU-s {alarms}",
            file=sys.stderr,
            flush=True,
        )

    def _settings_at(self, as_of: datetime) -> Settings:
        if as_of < ACCEPTED_AT:
            return self._settings
        health = self._settings.data_health.model_copy(update={"accepted": (ACCEPTED,)})
        return self._settings.model_copy(update={"data_health": health})


def _nothing(_step: str, _text: str) -> None:
    """Takes a step of a run, and says nothing."""


def _days(start: datetime, end: datetime) -> Iterator[date]:
    while start < end:
        yield start.date()
        start += DAY


def _with_late_labels(rows: pa.Table) -> pa.Table:
    """Labels that would have become known while none arrives become known when they are back."""
    known = rows["label_available_at"]
    stop, back = (pa.scalar(moment, known.type) for moment in (LABELS_STOP, LABELS_ARE_BACK))
    late = pc.fill_null(pc.and_(pc.greater_equal(known, stop), pc.less(known, back)), False)
    place = rows.column_names.index("label_available_at")
    return rows.set_column(place, "label_available_at", pc.if_else(late, back, known))


def faults(month: Month) -> list[str]:
    """Where what was told is not what was expected."""
    left, found = list(month.told), list[str]()
    end = FIRST_RUN + month.days * DAY
    for one in EXPECTED:
        if one.told_until <= end:
            own = [told for told in left if told.name in one.names and one.told_from <= told.since <= one.told_until]
            left = [told for told in left if told not in own]
            found += _faults_of(one, own, month)
    return found + [
        f"{told.name}: told at {told.since} for no expected cause: {told.text.partition(';')[0]}" for told in left
    ]


def _faults_of(one: Expected, own: list[AlarmSpan], month: Month) -> list[str]:
    names = ", ".join(sorted(one.names))
    by = one.unless_replaced_by
    if not own and (by is None or not _replaced(month, by)):
        return [f"{names}: not told between {one.told_from} and {one.told_until}, though {one.cause}"]
    end = min(one.over_by, FIRST_RUN + month.days * DAY)
    versions = [(told.name, told.champion_version) for told in own]
    found = [
        f"{name}: told more than once of v{version}"
        for name, version in {*versions}
        if versions.count((name, version)) > 1
    ]
    return found + [
        f"{told.name}: over at {told.until}; expected by {one.over_by}"
        for told in own
        if one.over_by == end and (told.until is None or told.until > one.over_by)
    ]


def _replaced(month: Month, by: datetime) -> bool:
    """Whether a candidate was promoted after the change and by then."""
    return any(
        one.outcome is Outcome.PROMOTED
        and one.champion_version is not None
        and one.as_of.date() > DRIFT
        and one.as_of <= by
        for one in month.decisions
    )


def report(months: list[Month]) -> Iterator[str]:
    """Markdown."""
    yield "# A month of operation"
    yield ""
    yield "Written by `python -m benchmarks.operation`; its docstring says what happens in this month."
    yield ""
    revision = revision_of("src", "benchmarks/operation.py")
    yield f"Revision {revision}; {usable_cores()} cores, Python {platform.python_version()}; load average at the end"
    yield f"{os.getloadavg()[0]:.1f}. {TRANSACTIONS_A_DAY:,} transactions a day, Sail, shipped settings."
    for month in months:
        runs = len(month.decisions)
        promoted = [one for one in month.decisions if one.outcome is Outcome.PROMOTED]
        yield ""
        yield f"## Seed {month.seed}: {month.days} days"
        yield ""
        yield f"{runs} runs, {month.skipped} hours skipped. Promotions: " + ", ".join(
            f"v{one.version} at {one.as_of:%m-%d %H:%M}" for one in promoted
        )
        yield ""
        yield "| alarm told | at | over at | what it says |"
        yield "|---|---|---|---|"
        for told in month.told:
            over = f"{told.until:%m-%d %H:%M}" if told.until else "lasts"
            yield f"| `{told.name}` | {told.since:%m-%d %H:%M} | {over} | {told.text.partition(';')[0]} |"
        yield ""
        yield "Told as expected." if not (wrong := faults(month)) else "**Not as expected:** " + "; ".join(wrong)


def main() -> None:
    """Run the month for each seed, print the table, and with --check end with 1 where alarms differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1", help="with commas")
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--output", type=Path, help="write the tables there")
    parser.add_argument("--dashboard", type=Path, help="copy the dashboard of the last seed there")
    parser.add_argument("--check", action="store_true", help="end with 1 where told and expected differ")
    given = parser.parse_args()
    months = []
    for seed in map(int, given.seeds.split(",")):
        with tempfile.TemporaryDirectory(prefix="operation-") as name:
            month = Month(Path(name), seed, given.days)
            month.run()
            months.append(month)
            page = open_folder(f"{name}/output").read(dashboard_file("fraud_detection"))
            if given.dashboard and page is not None:
                given.dashboard.write_bytes(page)
    text = "\n".join(report(months)) + "\n"
    print(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    if given.check and any(map(faults, months)):
        raise SystemExit("alarms were told that were not expected, or not told that were")


if __name__ == "__main__":
    main()
