"""How many clusters an hourly schedule pays for, and how long looks wait, under the DAG's own rule.

    python -m benchmarks.schedule --output benchmarks/results/schedule.md

30 days, hour by hour, after the four weeks that fill the shadow: the code of the DAG decides whether an hour costs a
cluster, and where it does the code of the job opens candidates, takes looks and writes the schedule. Only the models
are left out: no look passes. Frauds and their label times are simulated; a look is late from the hour on in which a run
of every hour would have found it due. The rule before: a cluster for every 10 matured frauds, or 24 hours.
"""

import argparse
import importlib.util
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pandas as pd

from fraud_detection.model.model import Model
from fraud_detection.promotion.sequential import LookState
from fraud_detection.registry import Champion
from fraud_detection.runs.scheduling import Holdout, RunEnd, count_from, make_schedule
from fraud_detection.runs.shadow import PlannedCandidate, Shadow
from fraud_detection.sampling import naive
from fraud_detection.schema import CandidateKey, CandidateRecord, LookKey, Span
from fraud_detection.settings import Settings

ROOT = Path(__file__).parents[1]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 3, 2, tzinfo=UTC)
SETTINGS = Settings.model_validate({"data": {"columns": {"label_available_at": "label_available_at"}}})
MAX_HOURS = 24.0
_OLD_FRAUDS = 10
_FRAUDS_A_CARD = (1, 2, 3, 4, 5)


def dag_schedule() -> ModuleType:
    """The DAG's own module; it needs nothing of Airflow."""
    path = ROOT / "dags" / "fraud_detection_common" / "schedule.py"
    spec = importlib.util.spec_from_file_location("dag_schedule", path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def simulated_frauds(a_day: float, days: int, seed: int) -> pd.DataFrame:
    """Frauds of `days` days from START on, with label times: 90 % are known after 7 days."""
    random = np.random.default_rng(seed)
    cards = random.poisson(a_day * days / np.mean(_FRAUDS_A_CARD))
    count = random.choice(_FRAUDS_A_CARD, cards)
    card = np.repeat(np.arange(cards), count)
    first = np.repeat(random.uniform(0, days, cards), count)
    at = first + random.exponential(0.5, len(card)) * (
        np.arange(len(card)) - np.repeat(np.cumsum(count) - count, count) > 0
    )
    known = at + np.minimum(random.lognormal(np.log(2.0), 0.98, len(card)), 60.0)
    origin = pd.Timestamp(naive(START))
    rows = pd.DataFrame(
        {
            "transaction_id": np.arange(len(card)),
            "transaction_time": (origin + pd.to_timedelta(at, unit="D")).astype("datetime64[us]"),
            "amount": 1.0,
            "fraud": pd.Series(1, index=range(len(card)), dtype="Int8"),
            "customer_id": card,
            "label_available_at": (origin + pd.to_timedelta(known, unit="D")).astype("datetime64[us]"),
        }
    )
    early: pd.DataFrame = rows[at < days].reset_index(drop=True)
    return early


@dataclass
class Installation:
    """An installation that runs as its schedule says."""

    a_day: float
    seed: int
    settings: Settings
    days: int = 30
    warm_up: int = 28
    runs: list[datetime] = field(default_factory=list)
    idle: int = 0
    """Runs that neither opened a candidate nor took a look."""
    late: list[timedelta] = field(default_factory=list)
    """How long each look was due before it was taken."""
    reasons: list[str] = field(default_factory=list)
    _content: bytes | None = None
    _complete: dict[CandidateKey, Holdout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        maturity = math.ceil(self.settings.windows.maturity_days)
        self._first = START + (maturity + 21) * DAY
        length = maturity + 21 + self.warm_up + self.days
        self._frauds = simulated_frauds(self.a_day, length, self.seed)
        self._end = START + length * DAY
        champion = Champion(1, "run", cast("Model", None), self._first, _span(START, START + DAY), "recipe")
        self._shadow = Shadow.of((), champion, self._first, "recipe", self.settings)
        self._find_due: Any = dag_schedule().find_due

    def run_all(self) -> None:
        """Every hour of warm-up and measurement."""
        measured = self._first + self.warm_up * DAY
        for hour in range((self.warm_up + self.days) * 24):
            at = self._first + hour * HOUR
            due = self._find_due(self._content, at, MAX_HOURS)
            if at >= measured:
                self.reasons.append(due.reason)
            if due.due:
                opened, late = self._run(at)
                if at >= measured:
                    self.runs.append(at)
                    self.idle += not opened and not late
                    self.late += late

    def old_runs(self) -> int:
        """How many clusters the rule before would have cost in the same days."""
        from_hour = self._first + self.warm_up * DAY
        maturity = pd.Timedelta(days=self.settings.windows.maturity_days)
        matured = self._frauds["transaction_time"].dt.floor("h") + HOUR + maturity
        known = self._frauds["label_available_at"]
        runs, last = 0, naive(from_hour)
        for hour in range(1, self.days * 24 + 1):
            now = naive(from_hour + hour * HOUR)
            new = int(((matured > last) & (matured <= now) & (known <= last)).sum())
            if new >= _OLD_FRAUDS or now - last >= timedelta(hours=MAX_HOURS):
                runs, last = runs + 1, now
        return runs

    def _run(self, at: datetime) -> tuple[bool, list[timedelta]]:
        """What the job does, without its models: whether it opened a candidate, and how late its looks are."""
        shadow = replace(self._shadow, as_of=at)
        opened = [self._record(planned, at) for planned in shadow.planned()]
        shadow = shadow.with_opened(opened)
        holdouts = {key: self._known(key, shadow, at) for key in shadow.spans()}
        found = shadow.following_looks({key: holdout.counts_at(at) for key, holdout in holdouts.items()})
        due = [one for one in found if one.state is LookState.DUE] if shadow.takes_looks() else []
        late = [self._lateness(one.look.candidate, shadow, at) for one in due]
        keys = [LookKey(candidate=one.look.candidate, champion_version=1, number=one.look.number) for one in due]
        self._shadow = shadow.with_looks(keys)
        end = RunEnd(self._shadow, None, (), at, commands=0)
        self._content = make_schedule(end, holdouts).model_dump_json().encode()
        return bool(opened), late

    def _record(self, planned: PlannedCandidate, at: datetime) -> CandidateRecord:
        expected = self.a_day * self.settings.comparison.shadow_days
        return CandidateRecord(
            key=planned.key,
            training=_span(planned.spans.training_start, planned.spans.training_end),
            growth=self._shadow.rule.growth(expected),
            seed=7,
            opened_at=at,
            backfilled=planned.backfilled,
            run_id="run",
            model_id="model",
            sha256="0",
        )

    def _all(self, key: CandidateKey, shadow: Shadow) -> Holdout:
        """A hold-out with all that is ever known of it."""
        if key not in self._complete:
            later = replace(shadow, as_of=self._end).maturing_span(key)
            self._complete[key] = Holdout(later.start, count_from(self._frauds, later, self.settings))
        return self._complete[key]

    def _known(self, key: CandidateKey, shadow: Shadow, at: datetime) -> Holdout:
        complete = self._all(key, shadow)
        frauds = complete.frauds
        return Holdout(complete.start, frauds[(frauds["known"] <= naive(at)) & (frauds["time"] < naive(at))])

    def _lateness(self, key: CandidateKey, shadow: Shadow, at: datetime) -> timedelta:
        """Since when the look after the last one was due."""
        [following] = [one for one in shadow.following_looks({}) if one.look.candidate == key]
        complete = self._all(key, shadow)
        hours = complete.frauds["counts"]
        enough = hours.iloc[following.frauds_needed - 1]
        cards = hours[complete.new_card].iloc[shadow.rule.minimum_fraud_cards - 1]
        return timedelta(seconds=(naive(at) - max(enough, cards)).total_seconds())


def _span(start: datetime, end: datetime) -> Span:
    return Span(start=start, end=end, transactions=0, frauds=0)


def table(found: list[Installation]) -> Iterator[str]:
    """Markdown: a line for each volume."""
    yield "| frauds a day | clusters a day before | clusters a day | of these for nothing | looks a day |"
    yield " hours from due to taken: median | 95 % | most |\n"
    yield "|---|---|---|---|---|---|---|---|\n"
    for one in found:
        hours = np.array([late / HOUR for late in one.late])
        a_day = [number / one.days for number in (one.old_runs(), len(one.runs), one.idle, len(hours))]
        waits = (np.median(hours), np.quantile(hours, 0.95), hours.max())
        numbers = " | ".join([*(f"{number:.1f}" for number in a_day), *(f"{number:.0f}" for number in waits)])
        yield f"| {one.a_day:g} | {numbers} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Clusters a day of an hourly schedule, and how long looks wait.")
    parser.add_argument("--output", type=Path, help="write the table to this Markdown file as well")
    wanted = parser.parse_args()
    found = [Installation(a_day, 1, SETTINGS) for a_day in (5.0, 45.0, 450.0)]
    for one in found:
        one.run_all()
    text = "".join(table(found))
    print(text)
    if wanted.output:
        wanted.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
