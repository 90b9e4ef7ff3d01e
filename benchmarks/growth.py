"""What runs leave behind: rows, files and bytes of a run, of 1,000, and of a year; and what listing costs at 10,000.

    python -m benchmarks.growth --check --output benchmarks/results/growth.md

Three parts, on SQLite and disk:

1. The real program (`fraud_detection_model`, Sail) runs on two months of simulated transactions with the shipped number
   of trees. What each run adds is counted by kind of run: rows of each table of MLflow, files and bytes.
2. 1,000 runs an hour apart are recorded through `Registry.record`, each with the decision, the publication and the
   parameters of the last real run of the commonest kind. Rows, bytes and seconds of the first and the last hundred say
   whether a run's share grows.
3. Copies of these runs fill MLflow (rows, copied in SQL, without files) and the decision log (entries, copied) up to
   10,000, and what a person or a run waits for is timed, in processor seconds.

MLflow has the same tables in PostgreSQL, so their rows are the same there; their bytes differ.
"""

import argparse
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.revision import revision_of
from fraud_detection.cores import usable_cores
from fraud_detection.registry import Leases, Registry, RunRecord
from fraud_detection.registry.candidates import KEY_TAG
from fraud_detection.registry.decision_log import DecisionLog, entry_name, stored_form
from fraud_detection.registry.log_chain import HEAD_TAG, RECENT, sha256
from fraud_detection.registry.mlflow_runs import AS_OF_TAG, search_runs
from fraud_detection.runs.publication import publish
from fraud_detection.schema import Decision, Outcome
from fraud_detection.settings import Settings, load_settings
from fraud_detection.storage import open_folder
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import FileFormat, World

_revision = partial(revision_of, "src", "benchmarks/growth.py")
NAME = "fraud_detection"
FIRST_DAY, SERVES = date(2026, 1, 1), datetime(2026, 2, 5, tzinfo=UTC)
TRANSACTIONS_A_DAY = 3_000
REJECTED_A_DAY = 3
HOUR = timedelta(hours=1)
A_YEAR, SCHEDULED = 8_760, 1_460
"""Hours of a year, and the runs that the shipped schedule does not skip: at 0, 6, 12 and 18 o'clock."""
FOLDERS = ("decisions", "reports", "outcomes", "leases", "quarantine")
MOST_RATIO, MOST_STARTS = 1.5, 4.0
"""Limits: of the last hundred runs to the first, in rows, bytes and seconds; of a wait at 10,000 runs, in starts."""
START, WHOLE_LOG = ("`decisions --last 20`, the whole command", "`decisions`, the whole command")
"""A command that does little, which is what a start costs; and the one that prints every entry, without a limit."""
SMALL: dict[str, Any] = {
    "data": {"columns": {"label_available_at": "label_available_at"}},
    "windows": {"training_window_days": 14},
    "training": {"min_training_frauds": 20},
    "comparison": {"minimum_holdout_frauds": 20, "look_every_hours": 1, "first_champion_floor": 1},
}


@dataclass(frozen=True)
class Left:
    """What an output folder holds: rows of MLflow's tables, and bytes and files by place."""

    rows: Counter[str]
    bytes: Counter[str]
    files: Counter[str]

    def since(self, earlier: "Left", runs: int = 1) -> "Share":
        """What has come since, for each run; a count that shrank is negative."""
        return Share(*(_share(getattr(self, one), getattr(earlier, one), runs) for one in ("rows", "bytes", "files")))


@dataclass(frozen=True)
class Share:
    """What one run adds."""

    rows: dict[str, float]
    bytes: dict[str, float]
    files: dict[str, float]


@dataclass(frozen=True)
class Real:
    """One run of the real program."""

    kind: str
    share: Share
    log_bytes: int
    replaced: int
    """Bytes of objects that it overwrote or removed: a bucket with versioning keeps them for a while."""


def _share(now: Counter[str], earlier: Counter[str], runs: int) -> dict[str, float]:
    return {name: (now[name] - earlier[name]) / runs for name in sorted({*now, *earlier})}


def left_in(output: Path) -> Left:
    """Count what an output folder holds."""
    found = Left(Counter(), Counter(), Counter())
    for path in (path for path in output.rglob("*") if path.is_file()):
        place = path.relative_to(output).parts[0]
        place = place if place in FOLDERS else "artifacts" if place == "mlartifacts" else "others"
        if place == "artifacts":
            place = "models" if "models" in path.parts else "artifacts"
        if not path.name.startswith("mlflow.db"):
            found.bytes[place] += path.stat().st_size
            found.files[place] += 1
    with sqlite3.connect(output / "mlflow.db") as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            found.rows[table] = int(database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])  # noqa: S608
        found.bytes["mlflow.db"] = int(database.execute("SELECT sum(pgsize) FROM dbstat").fetchone()[0])
    return found


def objects_in(output: Path) -> dict[Path, tuple[int, int]]:
    """Time of change and bytes of each file that is an object of the bucket on a cluster."""
    files = [path for path in output.rglob("*") if path.is_file() and not path.name.startswith("mlflow.db")]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def real_runs(folder: Path, output: Path, days: int) -> list[Real]:
    """Run the real program at midnight and in the hour after it, for some days."""
    span = (SERVES.date() - FIRST_DAY).days + days
    for _ in write_days(
        World(3, TRANSACTIONS_A_DAY, regimes()), folder / "input", FIRST_DAY, span, form=FileFormat.CSV
    ):
        pass
    _spoil(folder / "input")
    (folder / "settings.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    times = [SERVES + timedelta(days=day) + hour for day in range(days) for hour in (timedelta(), HOUR)]
    return [one for number, as_of in enumerate(times) if (one := _real_run(folder, output, as_of, number))]


def _spoil(folder: Path) -> None:
    """Let a few rows of each day be rejected."""
    for path in sorted(folder.rglob("*.csv")):
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        column = head.replace('"', "").split(",").index("amount")
        for number in range(REJECTED_A_DAY):
            cells = lines[number].split(",")
            lines[number] = ",".join([*cells[:column], "-1", *cells[column + 1 :]])
        path.write_text("\n".join([head, *lines, ""]), encoding="utf-8")


def _real_run(folder: Path, output: Path, as_of: datetime, number: int) -> Real | None:
    before = left_in(output) if number else None
    objects = objects_in(output)
    words = ["--config", "settings.yaml", "--input", "input", "--output", output.name, "--as-of", as_of.isoformat()]
    command = [sys.executable, "-m", "fraud_detection_model", *words, "--run-name", f"run-{number}"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    if ran.returncode:
        raise SystemExit(f"a run failed: {ran.stderr[-4000:]}")
    log = DecisionLog(open_folder(str(output)), NAME)
    decided, opening = log.find(as_of), log.find_opening(as_of)
    if decided is None:
        raise SystemExit(f"the run of {as_of} has decided nothing")
    steps = ["opens a candidate"] if opening is not None and opening.candidates else []
    steps += ["takes looks"] if decided.looks else []
    steps += ["promotes"] if decided.outcome is Outcome.PROMOTED else []
    kind = " and ".join(steps) or "neither opens nor looks"
    print(f"{as_of:%Y-%m-%d %H:%M} {decided.outcome.value}: {kind}", file=sys.stderr, flush=True)
    if before is None:  # it makes tables and folders as well
        return None
    now = objects_in(output)
    replaced = sum(size for path, (changed, size) in objects.items() if now.get(path, (0, 0))[0] != changed)
    return Real(kind, left_in(output).since(before), len(ran.stdout) + len(ran.stderr), replaced)


@dataclass(frozen=True)
class Recorded:
    """Runs that were recorded through the registry."""

    runs: int
    first: Share
    last: Share
    first_seconds: float
    last_seconds: float


def record_runs(output: Path, config: Path, runs: int) -> Recorded:
    """Record copies of the newest decision an hour apart, as runs do."""
    _do_not_wait_for_the_disk()
    settings = load_settings(config)
    registry, log = registry_of(output, settings)
    like = log.previous(None)
    if like is None:
        raise SystemExit("there is no decision to copy")
    publication = next((output / "mlartifacts").rglob(f"{like.run_id}/artifacts/publication.json")).read_bytes()
    record = RunRecord(publication=publication, parameters=settings.model_dump(mode="json"), tags={"engine": "sail"})
    block = max(1, runs // 10)
    seconds, counts = [], [left_in(output)]
    for number in range(1, runs + 1):
        as_of = like.as_of + number * HOUR
        given = like.model_copy(
            update={"as_of": as_of, "outcome": Outcome.NO_DECISION, "run_id": None, "previous_entry": None}
        )
        began = _processor_seconds()
        registry.record(given, record)
        open_folder(str(output)).write_atomic(f"outcomes/copy-{number}.json", b"x" * 1_100)
        seconds.append(_processor_seconds() - began)
        if number in (block, runs - block, runs):
            counts.append(left_in(output))
    first, last = counts[1].since(counts[0], block), counts[-1].since(counts[-2], block)
    return Recorded(runs, first, last, statistics.median(seconds[:block]), statistics.median(seconds[-block:]))


def registry_of(output: Path, settings: Settings) -> tuple[Registry, DecisionLog]:
    """The registry of an output folder, as a run opens it."""
    storage = open_folder(str(output))
    log = DecisionLog(storage, settings.model_name)
    leases = Leases(storage, settings.model_name)
    registry = Registry(
        f"sqlite:///{output}/mlflow.db", settings.model_name, log, leases=leases, publish=partial(publish, storage)
    )
    return registry, log


def _do_not_wait_for_the_disk() -> None:
    """SQLite without fsync: the seconds are those of MLflow and of this program, not of the disk."""
    import sqlalchemy

    sqlalchemy.event.listen(
        sqlalchemy.Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF")
    )


def fill(output: Path, config: Path, runs: int) -> None:
    """Copy runs and decisions until there are so many."""
    log = DecisionLog(open_folder(str(output)), NAME)
    like = log.previous(None)
    names = [name for name in log.names() if name.endswith("Z.json")]
    if like is None or not names:
        raise SystemExit("there is no decision to copy")
    decided, head = datetime.now(UTC), sha256(stored_form(like))
    copied: Decision = like
    for number in range(1, runs - len(names) + 1):
        as_of = like.as_of + number * HOUR
        changed = {"as_of": as_of, "decided_at": decided, "committed_at": decided + number * timedelta(milliseconds=1)}
        copied = like.model_copy(update={**changed, "previous_entry": head})
        (output / entry_name(copied)).write_bytes(stored_form(copied))
        head = sha256(stored_form(copied))
    client = registry_of(output, load_settings(config))[0]._context.connection.client
    client.set_registered_model_tag(NAME, HEAD_TAG, f"{entry_name(copied)} {head}")
    with sqlite3.connect(output / "mlflow.db") as database:
        _copy_rows(database, str(like.run_id), runs)


def _copy_rows(database: sqlite3.Connection, run_id: str, runs: int) -> None:
    """Copy one run of MLflow, with its tags, parameters and metrics, until there are so many."""
    have = int(database.execute("SELECT count(*) FROM runs").fetchone()[0])
    numbers = [(f"{number:032x}", number) for number in range(1, runs - have + 1)]
    database.execute("CREATE TEMP TABLE copies (id TEXT, number INTEGER)")
    database.executemany("INSERT INTO copies VALUES (?, ?)", numbers)
    for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
        columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
        later = {"run_uuid": "copies.id", "start_time": "start_time + copies.number", "end_time": "end_time + number"}
        chosen = ", ".join(later.get(column, f'"{table}"."{column}"') for column in columns)
        database.execute(
            f'INSERT INTO "{table}" SELECT {chosen} FROM "{table}", copies WHERE run_uuid = ?',  # noqa: S608
            (run_id,),
        )


def waits(output: Path, config: Path) -> dict[str, float]:
    """Processor seconds of what a person or a run waits for."""
    registry, log = registry_of(output, load_settings(config))
    context, experiment = registry._context, registry._context.connection.experiment_id
    client = context.connection.client
    newest = log.previous(None)
    now = datetime.now(UTC)
    readers: dict[str, Callable[[], object]] = {
        "run: newest decision": lambda: log.previous(None),
        "run: the log of 45 days, verified": lambda: registry.verified_log(newest.as_of - RECENT if newest else now),
        "`retain`: the whole log, verified": registry.verified_log,
        "run: openings of killed runs": log.unfinished_openings,
        "run: open intents in MLflow": lambda: search_runs(context, "tags.`fraud_detection.intent` = 'open'"),
        "run: one candidate in MLflow": lambda: search_runs(context, f"tags.`{KEY_TAG}` = 'none'"),
        "run: one as-of time in MLflow": lambda: search_runs(
            context, f"tags.`{AS_OF_TAG}` = '{newest.as_of.isoformat() if newest else ''}'"
        ),
        "MLflow's page of the newest 100 runs": lambda: client.search_runs(
            [experiment], max_results=100, order_by=["attributes.start_time DESC"]
        ),
        "`retain` with nothing old": lambda: registry.find_removable(now - 365 * 24 * HOUR, now - 365 * 24 * HOUR),
    }
    found = {what: min(_seconds(read) for _ in range(2)) for what, read in readers.items()}
    base = ["--config", str(config), "--output", str(output)]
    for words in (["decisions", "--last", "20"], ["decisions"], ["candidates"]):
        command = [str(Path(sys.executable).with_name("fraud-detection")), *words, *base]
        found[f"`{' '.join(words)}`, the whole command"] = _seconds(partial(_succeed, command))
    return found


def _succeed(command: list[str]) -> None:
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {ran.stderr[-2000:]}")


def _seconds(read: Callable[[], object]) -> float:
    """Processor seconds of this process and its children, since other programs may use the cores."""
    began = _processor_seconds()
    read()
    return _processor_seconds() - began


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@dataclass(frozen=True)
class Found:
    """All three parts."""

    real: list[Real]
    recorded: Recorded
    few: dict[str, float]
    """Waits with the real runs alone."""
    many: dict[str, float]
    many_runs: int

    @property
    def broken(self) -> list[str]:
        """The limits that are exceeded."""
        first, last = self.recorded.first, self.recorded.last
        pairs = {
            "rows of a run": (sum(first.rows.values()), sum(last.rows.values())),
            "bytes of a run": (sum(first.bytes.values()), sum(last.bytes.values())),
            "processor seconds to record a run": (self.recorded.first_seconds, self.recorded.last_seconds),
        }
        found = [
            f"{what}: {late:.3g} after {self.recorded.runs} runs, {early:.3g} at first"
            for what, (early, late) in pairs.items()
            if late > MOST_RATIO * early
        ]
        most = MOST_STARTS * self.few[START]
        return found + [
            f"{what}: {seconds:.1f} s with {self.many_runs} runs; the limit is {most:.1f} s, {MOST_STARTS:g} starts"
            for what, seconds in self.many.items()
            if what != WHOLE_LOG and seconds > most
        ]


def measure(days: int, runs: int, many: int) -> Found:
    """Take all three parts."""
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        folder = Path(name)
        output, config = folder / "output", folder / "settings.yaml"
        real = real_runs(folder, output, days)
        few = waits(output, config)
        recorded = record_runs(output, config, runs)
        fill(output, config, many)
        return Found(real, recorded, few, waits(output, config), many)


def report(found: Found) -> Iterator[str]:
    """Markdown: a run by kind, rows by table, 1,000 recorded runs, waits, and on what machine."""
    yield "# What runs leave behind"
    yield ""
    yield "Written by `python -m benchmarks.growth`; its docstring describes the method."
    yield ""
    yield f"Revision {_revision()}; {usable_cores()} cores, {platform.machine()}, Python {platform.python_version()};"
    yield f"load average at the end {os.getloadavg()[0]:.1f}. MLflow on SQLite, artifacts on disk."
    yield ""
    yield from _by_kind(found.real)
    yield from _by_year(found.real)
    yield from _tables(found.real)
    yield from _recorded(found.recorded)
    yield ""
    yield f"| processor seconds of what one waits for | {len(found.real) + 1} runs | {found.many_runs:,} runs |"
    yield "|---|---:|---:|"
    for what, seconds in found.many.items():
        yield f"| {what} | {found.few[what]:.3f} | {seconds:.3f} |"
    yield ""
    yield f"`--check` fails above {MOST_STARTS:g} times the seconds of a command that shows little, but for the one"
    yield f"that prints every entry, and where the last runs leave or take {MOST_RATIO:g} times as much as the first."


def _row(head: str, cells: Iterable[str]) -> str:
    return f"| {head} | {' | '.join(cells)} |"


def _kinds(real: list[Real]) -> dict[str, list[Real]]:
    return {kind: [one for one in real if one.kind == kind] for kind in sorted({one.kind for one in real})}


def _mean(runs: list[Real], what: str, name: str) -> float:
    return float(statistics.mean(getattr(one.share, what).get(name, 0.0) for one in runs))


def _by_kind(real: list[Real]) -> Iterator[str]:
    kinds, places = _kinds(real), [*FOLDERS, "artifacts", "models", "mlflow.db"]
    yield f"| bytes of one run that … (runs) | {' | '.join(f'{kind} ({len(own)})' for kind, own in kinds.items())} |"
    yield "|---|" + "---:|" * len(kinds)
    for place in places:
        yield _row(place, [f"{_mean(own, 'bytes', place):,.0f}" for own in kinds.values()])
    logs = [f"{statistics.mean(one.log_bytes for one in own):,.0f}" for own in kinds.values()]
    yield _row("its log on standard output and error", logs)
    replaced = [f"{statistics.mean(one.replaced for one in own):,.0f}" for own in kinds.values()]
    yield _row("objects that it replaced or removed", replaced)
    files = [f"{statistics.mean(sum(one.share.files.values()) for one in own):,.1f}" for own in kinds.values()]
    yield _row("files, of all places", files)
    yield ""


def _by_year(real: list[Real]) -> Iterator[str]:
    """Means of all kinds, weighed by how often they come: one run a day opens a candidate."""
    kinds = _kinds(real)
    opening = [one for kind, own in kinds.items() if "opens" in kind for one in own] or real
    others = [one for kind, own in kinds.items() if "opens" not in kind for one in own] or real
    yield "| bytes | 1,000 runs, one in 24 opens a candidate | a year, every hour | a year, shipped schedule |"
    yield "|---|---:|---:|---:|"
    total = [0.0, 0.0, 0.0]
    for place in (*FOLDERS, "artifacts", "models", "mlflow.db"):
        day, rest = _mean(opening, "bytes", place), _mean(others, "bytes", place)
        sums = [
            1_000 / 24 * day + (1_000 - 1_000 / 24) * rest,
            365 * day + (A_YEAR - 365) * rest,
            365 * day + (SCHEDULED - 365) * rest,
        ]
        total = [a + b for a, b in zip(total, sums, strict=True)]
        yield f"| {place} | {' | '.join(_megabytes(one) for one in sums)} |"
    yield f"| together | {' | '.join(map(_megabytes, total))} |"
    yield ""
    yield "Models are those of candidates, before those that are retired are deleted: 28 are alive with the shipped"
    yield "settings, and each version stays. A quarantine holds the rejected rows of all files that its run has read:"
    yield f"here {REJECTED_A_DAY} a day."
    yield ""


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _tables(real: list[Real]) -> Iterator[str]:
    kinds = _kinds(real)
    tables = sorted({table for one in real for table, rows in one.share.rows.items() if rows})
    yield f"| rows in MLflow's tables of one run that … | {' | '.join(kinds)} |"
    yield "|---|" + "---:|" * len(kinds)
    for table in tables:
        yield _row(f"`{table}`", [f"{_mean(own, 'rows', table):,.1f}" for own in kinds.values()])
    yield ""


def _recorded(recorded: Recorded) -> Iterator[str]:
    block = max(1, recorded.runs // 10)
    yield f"| {recorded.runs:,} runs through the registry, each | of the first {block} | of the last {block} |"
    yield "|---|---:|---:|"
    for what in ("rows", "bytes", "files"):
        first, last = (sum(getattr(share, what).values()) for share in (recorded.first, recorded.last))
        yield f"| {what} | {first:,.1f} | {last:,.1f} |"
    yield f"| processor seconds, median | {recorded.first_seconds:.3f} | {recorded.last_seconds:.3f} |"


def main() -> None:
    """Print the tables; with --check end with 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=6, help="of two real runs each")
    parser.add_argument("--runs", type=int, default=1_000, help="that are recorded through the registry")
    parser.add_argument("--many", type=int, default=10_000, help="that the listing is timed with")
    parser.add_argument("--output", type=Path, help="write the tables into this file, too")
    parser.add_argument("--check", action="store_true", help="end with 1 if a limit is exceeded")
    given = parser.parse_args()
    found = measure(given.days, given.runs, given.many)
    text = "\n".join(report(found)) + "\n"
    print(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    if given.check and found.broken:
        raise SystemExit("\n".join(found.broken))


if __name__ == "__main__":
    main()
