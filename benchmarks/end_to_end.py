"""Whether runs promote after a change of the world and hardly ever without one: real retraining of simulated days.

    python -m benchmarks.end_to_end --check    one world that changes: a run before, and two of the weeks after
    python -m benchmarks.end_to_end --full     five quiet worlds and two that change, every two days for 60 days

Each world has its own simulated transactions, decision log and MLflow. The first champion is trained on a full window;
each run is `retrain` as the command line calls it, with the settings of conf/retraining.yaml. Where a world changes,
large amounts fade and card testing begins, as in the demo. Everything is seeded, and dates are in the past, so the
table is the same every time on one kind of processor. With `--folder` an interrupted benchmark goes on where it was:
what a world's log has decided is not decided again.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from time import process_time

from benchmarks.revision import revision_of
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
from fraud_simulation.world import Regime, World

ROOT = Path(__file__).resolve().parents[1]
_revision = partial(revision_of, "src", "conf", "benchmarks/*.py")
CONFIG = ROOT / "conf" / "retraining.yaml"
RESULTS = ROOT / "benchmarks" / "results" / "end_to_end.md"
FIRST_RUN = datetime(2026, 3, 9, tzinfo=UTC)
TRANSACTIONS_PER_DAY = 3_600
FRAUD_FACTOR = 2.0
"""Half of the demo's transactions with as many frauds a day: looks are counted in frauds, and training is fast."""
MOST_QUIET_PROMOTIONS = 1
LAST_START = 14
"""The day by which a first champion serves: on the first its lower bound may be just below the floor."""


@dataclass(frozen=True)
class Story:
    """One world, and when it is retrained; days count from the first run."""

    seed: int
    days: int
    every: int
    """Days from run to run."""
    change: int | None = None
    """When the new pattern of fraud begins; None in a quiet world."""

    @property
    def name(self) -> str:
        return "quiet" if self.change is None else f"change on day {self.change}"

    def world(self) -> World:
        drift = date.max if self.change is None else (FIRST_RUN + timedelta(days=self.change)).date()
        return World(self.seed, TRANSACTIONS_PER_DAY, tuple(more_frauds(regime) for regime in regimes(drift)))


FULL = (
    *(Story(seed, days=60, every=2, change=20) for seed in range(1, 3)),
    *(Story(seed, days=60, every=2) for seed in range(1, 6)),
)
CHECK = (Story(1, days=22, every=11, change=1),)


@dataclass(frozen=True)
class Replay:
    """What the runs of a story decided."""

    story: Story
    decisions: tuple[Decision, ...]

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


def replay(story: Story, folder: Path) -> Replay:
    """Simulate a world and retrain through it; what the folder's log has decided is taken from there."""
    settings = load_settings(CONFIG)
    source, output = folder / "input", folder / "output"
    start = (run_windows(FIRST_RUN, settings.windows).training_start - timedelta(days=LOOK_BACK_DAYS)).date()
    for _ in write_days(story.world(), source, start, (FIRST_RUN.date() - start).days + story.days):
        pass
    decisions = []
    for day in range(0, story.days + 1, story.every):
        begun = process_time()
        decision = _run(source, output, FIRST_RUN + timedelta(days=day), settings)
        _say(f"{_title(story)}, day {day}: {decision.outcome}: {decision.reason} ({process_time() - begun:.0f} CPU-s)")
        decisions.append(decision)
    return Replay(story, tuple(decisions))


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


def more_frauds(regime: Regime) -> Regime:
    """The regime with `FRAUD_FACTOR` times its frauds."""
    return Regime(
        regime.start,
        large_amounts=regime.large_amounts * FRAUD_FACTOR,
        compromised_terminals=regime.compromised_terminals * FRAUD_FACTOR,
        leaked_cards=regime.leaked_cards * FRAUD_FACTOR,
        card_testing=regime.card_testing * FRAUD_FACTOR,
    )


def replay_all(stories: Sequence[Story], processes: int, folder: Path) -> list[Replay]:
    """Each story in a process of its own, which uses one core: a processor's cores do not wait for each other then."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit the engine's threads
    cores = context.Queue()
    for core in sorted(os.sched_getaffinity(0))[:processes]:
        cores.put(core)
    with ProcessPoolExecutor(processes, context, initializer=_take_core, initargs=(cores,)) as pool:
        waiting = [pool.submit(replay, story, folder / _title(story).replace(" ", "_")) for story in stories]
        return [one.result() for one in waiting]


def _take_core(cores: "multiprocessing.Queue[int]") -> None:
    os.sched_setaffinity(0, {cores.get()})


def failures(found: Sequence[Replay]) -> Iterator[str]:
    """Which targets are missed."""
    for one in found:
        if one.began is None or one.day(one.began) > LAST_START:
            yield f"{_title(one.story)}: no first champion by day {LAST_START}: {one.decisions[0].reason}"
        if one.story.change is not None and not one.after_change:
            yield f"{_title(one.story)}: the change was not followed by a promotion in {one.story.days} days"
    promoted = sum(len(one.before_change) for one in found)
    if promoted > MOST_QUIET_PROMOTIONS:
        yield f"{promoted} promotions in unchanged worlds; at most {MOST_QUIET_PROMOTIONS} expected"


def report(found: Sequence[Replay]) -> Iterator[str]:
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
        " A world that changes is unchanged until its change. Serves from: the first champion. First difference:"
        " average precision of the first model promoted over a champion minus that of the champion, with its 95 %"
        " interval.",
        width=120,
    )
    yield ""
    yield (
        "| world | seed | days | runs | serves from | looks | candidates | promotions over a champion"
        " | first difference |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    yield from map(_line, found)
    quiet = sum(len(one.before_change) for one in found)
    yield ""
    yield f"Promotions in unchanged worlds: {quiet}; at most {MOST_QUIET_PROMOTIONS} allowed."
    missed = list(failures(found))
    yield ""
    yield "Every target is met." if not missed else "Missed:"
    yield from (f"- {one}" for one in missed)


def _line(one: Replay) -> str:
    looks = sum(len(decision.looks) for decision in one.decisions)
    candidates = sum(len(decision.opened) for decision in one.decisions)
    began = "never" if one.began is None else f"day {one.day(one.began)}"
    days = ", ".join(f"day {one.day(decision)}" for decision in one.promotions) or "none"
    difference = one.promotions[0].difference if one.promotions else None
    measured = "" if difference is None else f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    story = one.story
    cells = (story.name, story.seed, story.days, len(one.decisions), began, looks, candidates, days, measured)
    return f"| {' | '.join(map(str, cells))} |"


def _title(story: Story) -> str:
    return f"seed {story.seed}, {story.name}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Retrain simulated worlds day by day; fail if a target is missed.")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--check", dest="stories", action="store_const", const=CHECK, help="one world, a minute or two")
    size.add_argument("--full", dest="stories", action="store_const", const=FULL, help="seven worlds; writes the table")
    parser.add_argument("--processes", type=int, default=usable_cores())
    parser.add_argument("--folder", type=Path, help="keep the worlds there; the default is a temporary folder")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = replay_all(wanted.stories, wanted.processes, (wanted.folder or Path(temporary)).resolve())
    text = "\n".join(report(found)) + "\n"
    print(text)
    if wanted.stories is FULL:
        RESULTS.write_text(text, encoding="utf-8")
    if missed := list(failures(found)):
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
