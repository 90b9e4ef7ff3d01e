"""Whether runs promote after a change of the world and hardly ever without one: real retraining of simulated days.

    python -m benchmarks.end_to_end --check    one world with a change, a run every three days
    python -m benchmarks.end_to_end --full     a run a day for 60 days, five quiet worlds and three that change

Each world has its own simulated transactions, decision log and MLflow in a temporary folder. The first champion is
trained on a full window; each run is `retrain` as the command line calls it, with the settings of
conf/retraining.yaml. Where a world changes, large amounts fade and card testing begins, as in the demo. Everything is
seeded, and dates are in the past, so the table is the same every time on one kind of processor.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import process_time

from fraud_detection.cli import default_tracking_uri
from fraud_detection.cores import usable_cores
from fraud_detection.runs.request import Request
from fraud_detection.runs.retrain import retrain
from fraud_detection.schema import Decision, Outcome
from fraud_detection.settings import Settings, load_settings
from fraud_detection.spark_session import Engine
from fraud_detection.time_windows import LOOK_BACK_DAYS, run_windows
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.fraud import Regime, World

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "conf" / "retraining.yaml"
RESULTS = ROOT / "benchmarks" / "results" / "end_to_end.md"
FIRST_RUN = datetime(2026, 3, 9, tzinfo=UTC)
TRANSACTIONS_PER_DAY = 3_600
FRAUD_FACTOR = 2.0
"""Half of the demo's transactions with as many frauds a day: looks are counted in frauds, and training is fast."""
MOST_QUIET_PROMOTIONS = 1
LAST_START = 3
"""The day by which a first champion serves; a hold-out may be just too small on the first."""


@dataclass(frozen=True)
class Story:
    """One world, and when it is retrained; days count from the first run."""

    seed: int
    days: int
    change: int | None = None
    """When the new pattern of fraud begins; None in a quiet world."""
    every: int = 1
    """Days from run to run."""

    @property
    def name(self) -> str:
        return "quiet" if self.change is None else f"change on day {self.change}"

    def world(self) -> World:
        drift = date.max if self.change is None else (FIRST_RUN + timedelta(days=self.change)).date()
        return World(self.seed, TRANSACTIONS_PER_DAY, tuple(_more_frauds(regime) for regime in regimes(drift)))


FULL = (
    *(Story(seed, days=60, change=20) for seed in range(1, 4)),
    *(Story(seed, days=60) for seed in range(1, 6)),
)
CHECK = (Story(1, days=45, change=12, every=3),)


@dataclass(frozen=True)
class Told:
    """What the runs of a story decided."""

    story: Story
    decisions: tuple[Decision, ...]
    seconds: float
    """Processor time of the runs."""

    @property
    def promotions(self) -> tuple[Decision, ...]:
        """Over a champion; not the first one's."""
        promoted = (one for one in self.decisions if one.outcome is Outcome.PROMOTED)
        return tuple(one for one in promoted if one.champion_version is not None)

    @property
    def began(self) -> Decision | None:
        """The promotion of the first champion."""
        promoted = (one for one in self.decisions if one.outcome is Outcome.PROMOTED)
        return next((one for one in promoted if one.champion_version is None), None)

    def day(self, decision: Decision) -> int:
        return (decision.as_of - FIRST_RUN).days

    @property
    def before_change(self) -> tuple[Decision, ...]:
        """Promotions that nothing in the world justifies."""
        change = self.story.change
        return tuple(one for one in self.promotions if change is None or self.day(one) < change)

    @property
    def after_change(self) -> tuple[Decision, ...]:
        return tuple(one for one in self.promotions if one not in self.before_change)


def tell(story: Story) -> Told:
    """Simulate a world and retrain through it."""
    settings = load_settings(CONFIG)
    decisions, seconds = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "input"), Path(folder, "output")
        start = (run_windows(FIRST_RUN, settings.windows).training_start - timedelta(days=LOOK_BACK_DAYS)).date()
        for _ in write_days(story.world(), source, start, (FIRST_RUN.date() - start).days + story.days):
            pass
        for day in range(0, story.days + 1, story.every):
            begun = process_time()
            decisions.append(_run(source, output, FIRST_RUN + timedelta(days=day), settings))
            seconds += process_time() - begun
            _say(f"seed {story.seed}, {story.name}, day {day}: {decisions[-1].outcome}: {decisions[-1].reason}")
    return Told(story, tuple(decisions), seconds)


def _run(source: Path, output: Path, as_of: datetime, settings: Settings) -> Decision:
    request = Request(
        settings=settings,
        config=str(CONFIG),
        input_path=str(source),
        output=str(output),
        tracking_uri=default_tracking_uri(str(output)),
        as_of=as_of,
        engine=Engine.SAIL,
        clock=datetime.now(UTC),
    )
    return retrain(request, lambda *_, **__: None)


def _more_frauds(regime: Regime) -> Regime:
    return Regime(
        regime.start,
        large_amounts=regime.large_amounts * FRAUD_FACTOR,
        compromised_terminals=regime.compromised_terminals * FRAUD_FACTOR,
        leaked_cards=regime.leaked_cards * FRAUD_FACTOR,
        card_testing=regime.card_testing * FRAUD_FACTOR,
    )


def tell_all(stories: Sequence[Story], processes: int) -> list[Told]:
    """Each story in a process of its own, which uses one core: a processor's cores do not wait for each other then."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit the engine's threads
    cores = context.Queue()
    for core in sorted(os.sched_getaffinity(0))[:processes]:
        cores.put(core)
    with ProcessPoolExecutor(processes, context, initializer=_take_core, initargs=(cores,)) as pool:
        waiting = {pool.submit(tell, story): story for story in stories}
        told = {waiting[done]: done.result() for done in as_completed(waiting)}
    return [told[story] for story in stories]


def _take_core(cores: "multiprocessing.Queue[int]") -> None:
    os.sched_setaffinity(0, {cores.get()})


def failures(found: Sequence[Told]) -> Iterator[str]:
    """Which targets are missed."""
    for told in found:
        if told.began is None or told.day(told.began) > LAST_START:
            yield f"{_title(told)}: no first champion by day {LAST_START}: {told.decisions[0].reason}"
        if told.story.change is not None and not told.after_change:
            yield f"{_title(told)}: the change was not followed by a promotion in {told.story.days} days"
    promoted = sum(len(told.before_change) for told in found)
    if promoted > MOST_QUIET_PROMOTIONS:
        yield f"{promoted} promotions in unchanged worlds; at most {MOST_QUIET_PROMOTIONS} expected"


def report(found: Sequence[Told]) -> Iterator[str]:
    """Markdown: the method, and a line for each world."""
    settings = load_settings(CONFIG)
    yield "# Real retraining, day by day"
    yield ""
    yield "Written by `python -m benchmarks.end_to_end --full`, part of `make prove`; its docstring says how."
    yield ""
    yield from textwrap.wrap(
        f"Revision {_revision()}; {usable_cores()} cores. Seeds: of the world in the table, {settings.training.seed}"
        f" (training), {settings.comparison.seed} (bootstrap). {TRANSACTIONS_PER_DAY:,} transactions a day with"
        f" {FRAUD_FACTOR:g} times the demo's share of frauds; every setting as shipped. Days count from the first run."
        " First difference: average precision of the first promoted model minus that of the champion, with its 95 %"
        " interval. Seconds: processor time of a run on one core, the mean of the world.",
        width=120,
    )
    yield ""
    yield "| world | seed | runs | looks | candidates | promotions over a champion | first difference | seconds |"
    yield "|---|---|---|---|---|---|---|---|"
    yield from map(_line, found)
    quiet = sum(len(told.before_change) for told in found)
    yield ""
    yield f"Promotions in unchanged worlds: {quiet}; at most {MOST_QUIET_PROMOTIONS} allowed."


def _line(told: Told) -> str:
    looks = sum(len(decision.looks) for decision in told.decisions)
    candidates = sum(len(decision.opened) for decision in told.decisions)
    days = ", ".join(f"day {told.day(one)}" for one in told.promotions) or "none"
    difference = told.promotions[0].difference if told.promotions else None
    measured = "" if difference is None else f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    runs = len(told.decisions)
    numbers = (told.story.name, told.story.seed, runs, looks, candidates, days, measured, f"{told.seconds / runs:.1f}")
    return f"| {' | '.join(map(str, numbers))} |"


def _title(told: Told) -> str:
    return f"seed {told.story.seed}, {told.story.name}"


def _revision() -> str:
    """The commit, and whether the code differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "conf", "benchmarks/*.py")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Retrain simulated worlds day by day; fail if a target is missed.")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--check", dest="stories", action="store_const", const=CHECK, help="one world, some minutes")
    size.add_argument("--full", dest="stories", action="store_const", const=FULL, help="eight worlds; writes the table")
    parser.add_argument("--processes", type=int, default=usable_cores())
    wanted = parser.parse_args()
    found = tell_all(wanted.stories, wanted.processes)
    text = "\n".join(report(found)) + "\n"
    print(text)
    if wanted.stories is FULL:
        RESULTS.write_text(text, encoding="utf-8")
    if missed := list(failures(found)):
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
