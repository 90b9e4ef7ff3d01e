"""What looks cost: one on many rows, and a run with many candidates in shadow beside a run with few.

    python -m benchmarks.looks --check

The first part takes one look on 200,000 rows that have come to the driver: labels, known cards, the cards'
contributions, both limits, guardrails, slices and the bootstrap's interval. The second part freezes
candidates beside a champion on the simulator's transactions, 29 in one output folder and two in another, about a day
apart. Then the real program runs at the same as-of time in a copy of each, turn by turn: first while promotions are
frozen, so that it keeps the candidates and takes no look, then without, so that it takes a look at every candidate that
has frauds enough. That is the worst there can be, as after a freeze of weeks; else a few looks are due at once.

The limits are held to the processor's seconds, of all threads together: where others use the cores meanwhile, those of
the clock say little. Alone on two cores a look takes less time than processor time, as the bootstrap runs beside the
rest.
"""

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.revision import revision_of
from fraud_detection.cores import usable_cores
from fraud_detection.promotion.sequential import SequentialRule
from fraud_detection.recipe import recipe_hash
from fraud_detection.registry import Leases, NewCandidate, Registry
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.runs.looks import CHAMPION, Look, Scored, holdout_span, score_column, take_look
from fraud_detection.schema import CandidateKey, CandidateRecord, LookKey, Opening, Span
from fraud_detection.settings import Settings
from fraud_detection.storage import open_folder
from fraud_detection.time_windows import candidate_spans
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import World

ROOT = Path(__file__).resolve().parents[1]
_revision = partial(revision_of, "src", "benchmarks/looks.py")
ROWS, CARDS, DAYS, FRAUDS = 200_000, 20_000, 28, 1_250
HIDDEN = 0.17  # of the frauds: no model sees anything suspicious about them
MOST_SECONDS, MOST_RATIO = 1.0, 1.3
FEW, MANY = 2, 29  # alive: the oldest and that of the day
FIRST_DAY, SERVES, ENDS = date(2026, 1, 1), datetime(2026, 2, 5, tzinfo=UTC), datetime(2026, 3, 6, 5, tzinfo=UTC)
NO_LOOK = "no look is taken"
STEP = timedelta(hours=23)  # between two candidates: the oldest is not yet to be retired
FREEZE = {"from": "2026-01-01", "to": "2026-12-31", "reason": "the benchmark"}
SMALL: dict[str, Any] = {
    "data": {"columns": {"label_available_at": "label_available_at"}},
    "windows": {"training_window_days": 14},
    "training": {"min_training_frauds": 20},
    "comparison": {"minimum_holdout_frauds": 20, "look_every_hours": 1, "first_champion_floor": 1},
}


@dataclass(frozen=True)
class Cost:
    """Seconds, of the clock and of the processor."""

    clock: float
    processor: float


@dataclass(frozen=True)
class Pair:
    """What two runs cost that differ in the candidates alive, and the looks that each took."""

    few: Cost
    many: Cost
    few_looks: int
    many_looks: int


def look_costs(repetitions: int) -> list[Cost]:
    """Of one look on rows that were collected."""
    settings = Settings.model_validate({"data": SMALL["data"]})
    look, scored = synthetic(settings)
    rule, found = SequentialRule.of(settings.comparison), []
    for _ in range(repetitions):
        began = perf_counter(), process_time()
        taken = take_look(look, scored, rule, settings)
        found.append(Cost(perf_counter() - began[0], process_time() - began[1]))
        if taken.comparison is None or taken.record.holdout.transactions < 0.9 * ROWS:
            raise SystemExit(f"the look is of {taken.record.holdout.transactions} rows; expected about {ROWS}")
    return found


def synthetic(settings: Settings, seed: int = 1) -> tuple[Look, Scored]:
    """A look at four weeks: frauds in series on few cards, some of them hidden from both models."""
    random = np.random.default_rng(seed)
    end = datetime(2026, 3, 1, tzinfo=UTC)
    start = end - timedelta(days=DAYS)
    card = random.integers(0, CARDS, ROWS)
    fraud = np.zeros(ROWS, np.int8)
    fraud[random.choice(np.flatnonzero(card < CARDS // 30), FRAUDS, replace=False)] = 1
    time = pd.Timestamp(start.replace(tzinfo=None)) + pd.to_timedelta(random.integers(0, DAYS * 86_400, ROWS), unit="s")
    suspicion = 0.6 * random.normal(size=CARDS)[card] + 4 * fraud * (random.random(ROWS) > HIDDEN)
    key, nothing = (
        CandidateKey(start + timedelta(days=7), "recipe"),
        Span(start=start, end=start, transactions=0, frauds=0),
    )
    record = CandidateRecord(
        key=key,
        training=nothing,
        growth=1.5,
        seed=7,
        opened_at=end,
        backfilled=False,
        run_id="",
        model_id="",
        sha256="",
    )
    scores = {
        name: 1 / (1 + np.exp(7 - suspicion - random.normal(size=ROWS))) for name in (CHAMPION, score_column(record))
    }
    as_of = end + timedelta(days=settings.windows.maturity_days)
    late = pd.to_timedelta(np.where(fraud == 1, random.integers(8, 20, ROWS), 1), unit="D")
    rows = pd.DataFrame(
        {
            "transaction_id": random.permutation(ROWS),
            "transaction_time": time,
            "amount": random.lognormal(3.0, 1.0, ROWS),
            "customer_id": card,
            "fraud": fraud,
            "label_available_at": (time + late).to_numpy().clip(max=np.datetime64(as_of.replace(tzinfo=None))),
            **scores,
        }
    )
    first_seen = rows.groupby("customer_id")["transaction_time"].min()
    look = Look(
        LookKey(candidate=key, champion_version=1, number=9),
        record,
        holdout_span(record, start, as_of, None, settings),
    )
    return look, Scored(rows, (), rows[rows["fraud"] == 1], first_seen, start - timedelta(days=60))


def pairs(repetitions: int, transactions_per_day: int) -> Iterator[tuple[str, Pair]]:
    """Time runs that take no look, and runs that take every look they can."""
    with tempfile.TemporaryDirectory(prefix="looks-") as name:
        folder = Path(name)
        days = (ENDS.date() - FIRST_DAY).days + 1
        for _ in write_days(World(3, transactions_per_day, regimes()), folder / "input", FIRST_DAY, days):
            pass
        (folder / "settings.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
        run(folder, folder / "champion", SERVES, [])
        few, many = (with_candidates(folder, count) for count in (FEW, MANY))
        for what, freezes in ((NO_LOOK, [FREEZE]), ("all looks are taken at once", [])):
            for number in range(repetitions):
                found = [timed(folder, each, freezes, number) for each in (few, many)]
                yield what, Pair(found[0][0], found[1][0], found[0][1], found[1][1])


def with_candidates(folder: Path, count: int) -> Path:
    """An output folder with a champion and so many candidates beside it: the youngest, and the oldest."""
    output = folder / f"alive-{count}"
    shutil.copytree(folder / "champion", output)
    settings, log = Settings.model_validate(SMALL), DecisionLog(open_folder(str(output)), "fraud_detection")
    registry = Registry(
        f"sqlite:///{output}/mlflow.db",
        settings.model_name,
        log,
        leases=Leases(open_folder(str(output)), settings.model_name),
        publish=lambda _decision, _content: {},
        config=str(folder / "settings.yaml"),
        output=str(output),
    )
    champion = registry.champion()
    if champion is None:
        raise SystemExit("the first run of the replay has promoted no champion")
    last = ENDS.replace(hour=0)
    records = []
    for steps in [*range(MANY - 1, MANY - count, -1), 0]:
        spans = candidate_spans(last - steps * STEP, settings.windows)
        training = Span(start=spans.training_start, end=spans.training_end, transactions=0, frauds=0)
        candidate = NewCandidate(CandidateKey(spans.label_cutoff, recipe_hash(settings)), training, 1.5, 7, last)
        records.append(registry.freeze_candidate(candidate, champion.model))
    opening = Opening(
        model_name=settings.model_name,
        as_of=last,
        opened_at=datetime.now(UTC),
        code_revision=None,
        candidates=tuple(records),
        looks=(),
    )
    registry.write_opening(opening, registry.verified_log(None).head)
    run(folder, output, last, [FREEZE])
    return output


def run(folder: Path, output: Path, as_of: datetime, freezes: list[dict[str, str]]) -> Cost:
    """Of the real program."""
    config = folder / "settings.yaml"
    config.write_text(yaml.safe_dump({**SMALL, "promotion": {"freezes": freezes}}), encoding="utf-8")
    words = ["--config", config, "--input", folder / "input", "--output", output, "--as-of", as_of.isoformat()]
    command = [sys.executable, "-m", "fraud_detection_model", *map(str, words)]
    began = perf_counter(), _processor_seconds()
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if ran.returncode:
        raise SystemExit(f"a run failed: {ran.stderr[-4000:]}")
    return Cost(perf_counter() - began[0], _processor_seconds() - began[1])


def _processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(folder: Path, output: Path, freezes: list[dict[str, str]], number: int) -> tuple[Cost, int]:
    """What the run that ends a replay costs, and the looks that it takes."""
    copy = folder / f"{output.name}-{len(freezes)}-{number}"
    shutil.copytree(output, copy)
    cost = run(folder, copy, ENDS, freezes)
    decided = DecisionLog(open_folder(str(copy)), "fraud_detection").find(ENDS)
    shutil.rmtree(copy)
    return cost, len(decided.looks) if decided else 0


def report(looks: list[Cost], found: list[tuple[str, Pair]]) -> Iterator[str]:
    """Markdown: both tables, and on what machine."""
    yield "# What looks cost"
    yield ""
    yield "Written by `python -m benchmarks.looks`, part of `make prove`; its docstring describes the method."
    yield ""
    yield f"Revision {_revision()}; {usable_cores()} cores, {platform.machine()}, Python {platform.python_version()};"
    yield f"load average at the end {os.getloadavg()[0]:.1f}."
    yield ""
    yield f"| one look on {ROWS:,} rows | median of {len(looks)}, s | best, s |"
    yield "|---|---|---|"
    for side in ("processor", "clock"):
        own = [getattr(cost, side) for cost in looks]
        yield f"| {side} | {statistics.median(own):.2f} | {min(own):.2f} |"
    yield ""
    yield f"The best may take {MOST_SECONDS:g} s of the processor."
    if found:
        yield from _whole_runs(found)


def _whole_runs(found: list[tuple[str, Pair]]) -> Iterator[str]:
    yield ""
    yield f"{MANY} alive may cost a run that takes no look {MOST_RATIO:g} of the processor time of one with {FEW}."
    yield ""
    yield "| a whole run, when | candidates alive | looks | processor, s | ratio | clock, s | ratio |"
    yield "|---|---|---|---|---|---|---|"
    for what in dict.fromkeys(name for name, _ in found):
        own = [pair for name, pair in found if name == what]
        yield f"| {what} | {FEW} | {own[0].few_looks} | {_median(own, 'few', 1.0)} |"
        yield f"| {what} | {MANY} | {own[0].many_looks} | {_median(own, 'many', None)} |"
    yield ""
    yield "Medians, the ratios of the pairs."


def _median(own: list[Pair], alive: str, ratio: float | None) -> str:
    """Seconds and ratio, of the processor and of the clock."""
    return " | ".join(
        f"{statistics.median(getattr(getattr(pair, alive), side) for pair in own):.1f} |"
        f" {_ratio(own, side) if ratio is None else ratio:.2f}"
        for side in ("processor", "clock")
    )


def _ratio(own: list[Pair], side: str) -> float:
    return float(statistics.median(getattr(pair.many, side) / getattr(pair.few, side) for pair in own))


def main() -> None:
    """Print the tables; with --check end with 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--transactions-per-day", type=int, default=3_000)
    parser.add_argument("--output", type=Path, help="write the tables into this file, too")
    parser.add_argument("--check", action="store_true", help="end with 1 if a limit is exceeded")
    parser.add_argument("--only-look", action="store_true", help="measure one look, not whole runs")
    given = parser.parse_args()
    looks = look_costs(2 * given.repetitions + 1)
    found = [] if given.only_look else list(pairs(given.repetitions, given.transactions_per_day))
    text = "\n".join(report(looks, found)) + "\n"
    print(text, end="")
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    kept = [pair for what, pair in found if what == NO_LOOK]
    slow = bool(kept) and _ratio(kept, "processor") > MOST_RATIO
    if given.check and (slow or min(cost.processor for cost in looks) > MOST_SECONDS):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
