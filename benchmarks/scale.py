"""What an hourly run costs, and a full one, as history and cards grow tenfold.

    python -m benchmarks.scale --sizes 1,10h,10c --output benchmarks/results/scale.md
    python -m benchmarks.scale --check

1x is 1.75 million simulated transactions: 183 days with 9,585 a day. Tenfold is made in two ways: ten times the days,
with the same hourly volume, and ten times the cards. History is one file a day; from the first run on, one an hour.

Every run is a process of its own, the command that a scheduler starts. The first one finds no store and no champion:
it reads everything. The hourly runs after it are told apart by what they did: train candidates (fit), compare one with
the champion (look), or neither. The last one repeats a decided hour: it imports everything and opens MLflow, and that
is what a run costs before its own work. At last `features rebuild` computes the features of all days anew.
With `--label-table` labels come in files of their own, one a day and then one an hour, when they become known.
`--against FOLDER` runs the same hours on the first world with another clone of this repository, by its own environment
(.venv). The work proper of a run is what it takes without imports, the start of engine and MLflow, fits and the report.

CPU: seconds of all processes. Memory and bytes: see `benchmarks.measuring`. Ratios are of CPU seconds, since other
programs may use the cores. `--check` is the same with small worlds.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks.measuring import Cost, measure
from fraud_detection.cores import usable_cores
from fraud_detection.spark_session import Engine
from fraud_detection.transactions.columns import OF_LABEL
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days, write_table
from fraud_simulation.transactions import day_table
from fraud_simulation.world import Regime, World

ROOT = Path(__file__).resolve().parents[1]
CONFIG = Path("conf") / "retraining.yaml"
FIRST_RUN = datetime(2026, 3, 9, tzinfo=UTC)
DAYS, PER_DAY = 183, 9_585
HOURS = (0, 1, 2, 3)
"""As-of times of the first runs, in hours after the first one."""
FIRST, BOTH, FIT, LOOK, NEITHER = "first run", "hourly, fit and look", "hourly, fit", "hourly, look", "hourly, neither"
CATCH_UP = "catches up"
"""A run that finds many hours of new files: it is not hourly."""
REPEATED, REBUILD = "repeated", "features of all days"
LOOK_TRIES = 4
NOT_PROPER = {"open registry", "load champion", "start engine", "train", "report"}
MOST_SECONDS = 5.0
"""Of the work proper of an hourly run on Sail, with quiet cores."""


@dataclass(frozen=True)
class Size:
    """How much history there is at the first run."""

    name: str
    days: int = DAYS
    per_day: int = PER_DAY
    frauds: float = 1.0
    """Times those of the demo."""

    @property
    def rows(self) -> int:
        return self.days * self.per_day

    def world(self) -> World:
        regime = regimes(date.max)[0]
        return World(
            seed=11,
            transactions_per_day=self.per_day,
            regimes=(
                Regime(
                    date.min,
                    large_amounts=regime.large_amounts * self.frauds,
                    compromised_terminals=regime.compromised_terminals * self.frauds,
                    leaked_cards=regime.leaked_cards * self.frauds,
                    card_testing=regime.card_testing * self.frauds,
                ),
            ),
        )


@dataclass(frozen=True)
class Program:
    """A clone of this repository, and the engine that it uses."""

    name: str
    root: Path
    python: Path
    engine: Engine
    config: Path
    label_table: bool = False


@dataclass(frozen=True)
class Measured:
    """One run."""

    program: Program
    size: Size
    kind: str
    cost: Cost
    seconds: dict[str, float]
    """Wall seconds by phase."""
    load: float


CHECK_SIZES = (
    Size("1x", per_day=1_500, frauds=3.0),
    Size("10x history", days=10 * DAYS, per_day=1_500, frauds=3.0),
)
CHECK_SLACK = 1.1
CHECK_SETTINGS = (("trees: 200\n", "trees: 40\n"), ("minimum_holdout_frauds: 200 ", "minimum_holdout_frauds: 100 "))
"""What a small world needs to have a champion soon."""


SIZES = {
    "1": Size("1x"),
    "10h": Size("10x history", days=10 * DAYS),
    "10c": Size("10x cards", per_day=10 * PER_DAY),
    "100": Size("100x (10x history, 10x cards)", days=10 * DAYS, per_day=10 * PER_DAY),
}


def sizes(chosen: Iterable[str]) -> Iterator[Size]:
    """The worlds of these names."""
    for name in chosen:
        if name not in SIZES:
            raise SystemExit(f"size {name!r}: expected one of {', '.join(SIZES)}")
        yield SIZES[name]


def write_history(size: Size, folder: Path) -> Path:
    """The days before the first run, one file each, unless they are there."""
    history, done = folder / "history", folder / "complete"
    if not done.exists():
        for _ in write_days(size.world(), history, FIRST_RUN.date() - timedelta(days=size.days), size.days):
            pass
        done.touch()
    return history / "transactions"


class Feed:
    """The input folder of a series of runs: history as links, and what has arrived since, one file an hour."""

    def __init__(self, size: Size, history: Path, folder: Path, labels: Path | None) -> None:
        """`labels`: the folder of the label table; None without one."""
        self.size, self.folder, self.labels = size, folder, labels
        self.arrived = FIRST_RUN
        self.unknown = list[pa.Table]()  # labels that become known later
        folder.mkdir(parents=True)
        if labels is None:
            for path in history.iterdir():
                (folder / path.name).hardlink_to(path)
            return
        labels.mkdir()
        for path in sorted(history.iterdir()):
            write_table(self._without_labels(pq.read_table(path)), folder / path.name)
            start = datetime.combine(date.fromisoformat(path.stem), time(), UTC)
            self._bring(start, start + timedelta(days=1), labels / path.name)

    def deliver(self, until: datetime) -> None:
        """Write the files of the hours before a moment."""
        while self.arrived < until:
            day = day_table(self.size.world(), self.arrived.date())
            while self.arrived < until:
                start, self.arrived = self.arrived, self.arrived + timedelta(hours=1)
                name, rows = f"{start:%Y-%m-%dT%H}.parquet", _between(day, "transaction_time", start, self.arrived)
                if self.labels is not None:
                    rows = self._without_labels(rows)
                    self._bring(start, self.arrived, self.labels / name)
                write_table(rows, self.folder / name)
                if self.arrived.date() != start.date():
                    break

    def _without_labels(self, rows: pa.Table) -> pa.Table:
        self.unknown.append(rows.select(["transaction_id", *OF_LABEL]))
        return rows.drop_columns([*OF_LABEL])

    def _bring(self, start: datetime, end: datetime, path: Path) -> None:
        """Write the labels that become known between two moments."""
        unknown = pa.concat_tables(self.unknown)
        known = _between(unknown, "label_available_at", start, end)
        self.unknown = [_between(unknown, "label_available_at", end, datetime.max.replace(tzinfo=UTC))]
        if known.num_rows:
            write_table(known, path)


def _between(table: pa.Table, column: str, start: datetime, end: datetime) -> pa.Table:
    moment, kind = table[column], pa.timestamp("us", "UTC")
    low, high = (pa.scalar(one, kind) for one in (start, end))
    return table.filter(pc.and_(pc.greater_equal(moment, low), pc.less(moment, high)))


class Series:
    """Runs of one program on one world, hour by hour from nothing."""

    def __init__(self, program: Program, size: Size, history: Path, folder: Path) -> None:
        labels = folder / "labels" if program.label_table else None
        self.feed = Feed(size, history, folder / "input" / "transactions", labels)
        if labels is not None:
            program = replace(program, config=_label_table_settings(program.config, labels))
        self.program, self.size, self.folder = program, size, folder

    def runs(self, hours: Sequence[int], *, look: bool) -> Iterator[Measured]:
        """The runs at these hours; on request those up to the hourly one that takes a look and trains nothing."""
        for hour in hours:
            yield self.run(FIRST_RUN + timedelta(hours=hour))
        for _ in range(LOOK_TRIES if look else 0):
            due = self.next_look()
            if due is None:
                break
            waits = (due - self.feed.arrived) // timedelta(hours=1)
            # Labels that arrive meanwhile make a look due earlier than the last run has foreseen.
            yield (one := self.run(self.feed.arrived + timedelta(hours=max(1, waits * 2 // 3))))
            if one.kind == LOOK:
                break
        yield self.run(self.feed.arrived)
        if self.program.root == ROOT:
            yield self.rebuild()

    def rebuild(self) -> Measured:
        """The computation of the features of all days; an earlier release keeps none."""
        as_of = self.feed.arrived
        words = [*_command(self.program, self.folder, "features", as_of), "rebuild"]
        cost = measure(words, self.folder)
        found = json.loads(cost.output)
        say(f"{self.program.name}, {self.size.name}: features of {found['computed']} days: {cost.cpu:.1f} CPU-s")
        return Measured(self.program, self.size, REBUILD, cost, {}, os.getloadavg()[0])

    def run(self, as_of: datetime) -> Measured:
        """The run at an as-of time, once the files of the hours before it have arrived."""
        hours = (as_of - self.feed.arrived) // timedelta(hours=1)
        self.feed.deliver(as_of)
        words = _command(self.program, self.folder, "retrain", as_of)
        words += ["--tracking-uri", f"sqlite:///{self.folder}/mlflow.db"]
        cost = measure(words, self.folder)
        decision = json.loads(cost.output)
        kind = FIRST if as_of == FIRST_RUN else (REPEATED, _kind(decision))[hours] if hours < 2 else CATCH_UP
        say(f"{self.program.name}, {self.size.name}, {as_of:%m-%d %H:%M}: {kind}: {cost.cpu:.1f} CPU-s")
        say(f"  {decision['decision']}: {decision['reason']}")
        return Measured(self.program, self.size, kind, cost, decision["seconds"], os.getloadavg()[0])

    def next_look(self) -> datetime | None:
        """When the next look is due, as the last run has foreseen it; None where it has not."""
        found = self.folder / "output" / "schedule" / "fraud_detection.json"
        looks = json.loads(found.read_text())["looks"] if found.exists() else []
        return min((due for due in map(_due, looks) if due is not None), default=None)


def _due(look: dict[str, Any]) -> datetime | None:
    """When enough frauds will have matured."""
    frauds, cards = look["frauds"], look["fraud_cards"]
    for moment, more in sorted(look["maturing"].items()):
        frauds, cards = frauds + more["frauds"], cards + more["new_cards"]
        if frauds >= look["frauds_needed"] and cards >= look["fraud_cards_needed"]:
            return datetime.fromisoformat(moment)
    return None


def _command(program: Program, folder: Path, verb: str, as_of: datetime) -> list[str]:
    words = [str(program.python), "-c", "from fraud_detection.cli import main; main()", verb]
    words += ["--config", str(program.config), "--input", str(folder / "input"), "--output", str(folder / "output")]
    return [*words, "--engine", program.engine.value, "--as-of", as_of.isoformat(), "--json"]


def _kind(decision: dict[str, object]) -> str:
    """What an hourly run did; an earlier release trains and compares in every run, and says neither."""
    if "opened" not in decision:
        return BOTH
    return {(True, True): BOTH, (True, False): FIT, (False, True): LOOK, (False, False): NEITHER}[
        bool(decision["opened"]), bool(decision["looks"])
    ]


@dataclass(frozen=True)
class Ratio:
    """The ratio of two figures of this measurement, or a figure, and the largest one that is accepted."""

    what: str
    value: float
    limit: float

    @property
    def kept(self) -> bool:
        return self.value <= self.limit


class Results:
    """All runs of a measurement."""

    def __init__(self, found: Sequence[Measured]) -> None:
        self.found = found

    def typical(self, program: str, size: str, kind: str) -> Measured | None:
        """The run of this kind with the median CPU seconds; None without one."""
        key = program, size, kind
        chosen = [one for one in self.found if (one.program.name, one.size.name, one.kind) == key]
        return sorted(chosen, key=lambda one: one.cost.cpu)[(len(chosen) - 1) // 2] if chosen else None

    def ratios(self, slack: float = 1.0) -> Iterator[Ratio]:
        """What the hourly run must keep; limits are multiplied by `slack`."""
        for program in self._names(lambda one: one.program.name):
            for kind in (NEITHER, LOOK, FIT, BOTH):
                yield from self._growth(program, kind, slack)
                yield from self._against(program, kind, slack)
            yield from self._exponents(program, slack)
            yield from self._proper(program)

    def _proper(self, program: str) -> Iterator[Ratio]:
        """The seconds of the work proper; of the small worlds none, since a busy machine is no fault."""
        for kind in (NEITHER, LOOK, FIT, BOTH):
            one = self.typical(program, "1x", kind)
            if one and one.size.per_day == PER_DAY and program == Engine.SAIL.value:
                proper = sum(seconds for phase, seconds in one.seconds.items() if phase not in NOT_PROPER)
                yield Ratio(f"{program}, {kind}, 1x: wall seconds of the work proper", proper, MOST_SECONDS)

    def _growth(self, program: str, kind: str, slack: float) -> Iterator[Ratio]:
        small = self.typical(program, "1x", kind)
        for name in self._names(lambda one: one.size.name):
            large = self.typical(program, name, kind)
            if "history" in name and small and large and small.size.per_day == large.size.per_day:
                title = f"{program}, {kind}: {name} / 1x"
                yield Ratio(f"{title}, CPU", large.cost.cpu / small.cost.cpu, 1.2 * slack)
                yield Ratio(f"{title}, memory", large.cost.memory / small.cost.memory, 1.3 * slack)
                yield Ratio(f"{title}, bytes read", large.cost.read / small.cost.read, 1.2 * slack)
                yield from self._work(program, small, large, f"{title}, bytes read beyond a repeated run", slack)

    def _work(self, program: str, small: Measured, large: Measured, title: str, slack: float) -> Iterator[Ratio]:
        fixed = [self.typical(program, one.size.name, REPEATED) for one in (small, large)]
        if fixed[0] and fixed[1]:
            ratio = (large.cost.read - fixed[1].cost.read) / (small.cost.read - fixed[0].cost.read)
            yield Ratio(title, ratio, 1.2 * slack)

    def _against(self, program: str, kind: str, slack: float) -> Iterator[Ratio]:
        engine, now = program.partition(",")[0], self.typical(program, "1x", kind)
        for name in self._names(lambda one: one.program.name):
            before = self.typical(name, "1x", BOTH)
            if name.startswith(f"{engine},") and program == engine and now and before:
                yield Ratio(f"{program}, {kind}, 1x: CPU / {name}", now.cost.cpu / before.cost.cpu, 0.5 * slack)

    def _exponents(self, program: str, slack: float) -> Iterator[Ratio]:
        for kind in (FIRST, REBUILD):
            small = self.typical(program, "1x", kind)
            for name in self._names(lambda one: one.size.name):
                large = self.typical(program, name, kind)
                if small and large and large.size.rows > small.size.rows:
                    times = large.size.rows / small.size.rows
                    exponent = math.log(large.cost.cpu / small.cost.cpu) / math.log(times)
                    yield Ratio(f"{program}, {kind}: growth exponent of CPU, 1x to {name}", exponent, 1.1 * slack)

    def _names(self, of: Callable[[Measured], str]) -> list[str]:
        return list(dict.fromkeys(map(of, self.found)))


def table(found: Sequence[Measured]) -> Iterator[str]:
    """A line for each run, and its seconds by phase."""
    yield "| program | size | run | wall s | CPU s | memory MB | read MB | load |"
    yield "|---|---|---|---:|---:|---:|---:|---:|"
    for one in found:
        cost = one.cost
        yield (
            f"| {one.program.name} | {one.size.name} | {one.kind} | {cost.wall:.1f} | {cost.cpu:.1f}"
            f" | {cost.memory / 1e6:,.0f} | {cost.read / 1e6:,.0f} | {one.load:.1f} |"
        )
    yield ""
    for one in found:
        if one.kind in {REPEATED, REBUILD}:
            continue  # the one tells the phases of the run before, the other none
        phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in one.seconds.items() if seconds >= 0.05)
        rest = one.cost.wall - sum(one.seconds.values())
        yield f"- {one.program.name}, {one.size.name}, {one.kind}: {phases}, start and end {rest:.1f} (wall s)"


def ratio_table(ratios: Sequence[Ratio]) -> Iterator[str]:
    """A line for each ratio with its limit."""
    yield "| ratio | measured | limit | |"
    yield "|---|---:|---:|---|"
    for one in ratios:
        yield f"| {one.what} | {one.value:.2f} | {one.limit:.2f} | {'ok' if one.kept else 'MISSED'} |"


def machine() -> str:
    """Cores, memory, revision and versions, on one line."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pyarrow", "pysail", "pyspark", "xgboost-cpu"))
    cores = f"{usable_cores()} cores, {memory:.0f} GiB"
    return f"Revision {_revision(ROOT)}; {cores}; Python {platform.python_version()}, {versions}."


def measured(
    programs: Sequence[Program], chosen: Iterable[Size], folder: Path, hours: Sequence[int], *, look: bool
) -> Iterator[Measured]:
    """Every program on the first world, this one on the others, too.

    They take turns, run by run, so that what else happens on the machine meets all of them.
    """
    with ExitStack() as stack:
        turns = []
        for place, size in enumerate(chosen):
            history = write_history(size, folder / f"{size.days}x{size.per_day}")
            for program in programs:
                if place == 0 or program.root == ROOT:
                    own = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
                    turns.append(Series(program, size, history, own).runs(hours, look=look))
        for together in zip_longest(*turns):
            yield from (one for one in together if one is not None)


def say(line: str) -> None:
    """Show what is going on."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print or write the tables."""
    options = _arguments()
    programs = list(_programs(options))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        if options.check:
            programs = [replace(one, config=_check_settings(folder)) for one in programs]
            found = list(measured(programs, CHECK_SIZES, folder, (0, 1, 2), look=False))
        else:
            chosen = list(sizes(options.sizes.split(",")))
            found = list(measured(programs, chosen, folder, HOURS, look=True))
    order = {(one.program.name, one.size.name): place for place, one in reversed([*enumerate(found)])}
    found.sort(key=lambda one: order[one.program.name, one.size.name])
    ratios = list(Results(found).ratios(CHECK_SLACK if options.check else 1.0))
    text = "\n".join([machine(), "", *table(found), "", *ratio_table(ratios)])
    if options.output:
        options.output.write_text(
            f"# Growth\n\nWritten by `python -m benchmarks.scale`; its docstring says how.\n\n{text}\n"
        )
    print(text)
    if options.check and not all(one.kept for one in ratios):
        raise SystemExit("an hourly run costs more as history grows, or a first run grows faster than its rows")


def _check_settings(folder: Path) -> Path:
    text, path = (ROOT / CONFIG).read_text(encoding="utf-8"), folder / "settings.yaml"
    for given, small in CHECK_SETTINGS:
        if given not in text:
            raise SystemExit(f"{CONFIG} has no {given!r}; change CHECK_SETTINGS in {__file__}")
        text = text.replace(given, small)
    path.write_text(text, encoding="utf-8")
    return path


def _label_table_settings(config: Path, labels: Path) -> Path:
    """The settings with labels from a table, in a file beside it."""
    found = yaml.safe_load(config.read_text(encoding="utf-8"))
    found["data"]["columns"] |= dict.fromkeys(OF_LABEL)
    found["data"]["labels"] = {"path": str(labels)}
    path = labels.with_name("settings.yaml")
    path.write_text(yaml.safe_dump(found), encoding="utf-8")
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="small worlds; fail where a ratio is exceeded")
    parser.add_argument(
        "--sizes", default="1", help="with commas: 1; 10h, ten times the history; 10c, ten times the cards; 100, both"
    )
    parser.add_argument("--engine", default="sail", help="sail, spark, or both: sail,spark")
    parser.add_argument("--label-table", action="store_true", help="labels come in a table of their own")
    parser.add_argument("--against", type=Path, help="a clone of another revision, with its environment in .venv")
    parser.add_argument("--folder", type=Path, help="keep the worlds there; the default is a temporary folder")
    parser.add_argument("--output", type=Path, help="write the tables there")
    return parser.parse_args()


def _programs(options: argparse.Namespace) -> Iterator[Program]:
    for engine in map(Engine, options.engine.split(",")):
        label_table = options.label_table
        yield Program(engine.value, ROOT, Path(sys.executable), engine, ROOT / CONFIG, label_table)
        if options.against:
            root = options.against.resolve()
            name = f"{engine.value}, {_revision(root)}"
            yield Program(name, root, root / ".venv/bin/python", engine, root / CONFIG, label_table)


def _revision(root: Path) -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
