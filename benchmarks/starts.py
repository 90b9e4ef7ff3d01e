"""Whether a run ever hangs: many starts of the real program, each with a deadline, on a machine with other work.

    python -m benchmarks.starts --check

The starts that once hung did so while MLflow and PySpark were imported in two threads, about one of 45. So every start
here is a process of its own that imports all, opens MLflow and the engine, reads a small input and decides; there is
too little history, so none trains. As many processes as there are cores keep the processors busy beside it. A start
that has not ended by its deadline is ended, and the stacks of its threads are shown.
"""

import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.revision import revision_of
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import World

_revision = partial(revision_of, "src", "benchmarks/starts.py")
DEADLINE = 300.0
FIRST_DAY = date(2026, 1, 11)
SETTINGS = "data: {columns: {label_available_at: label_available_at}}\nwindows: {training_window_days: 14}\n"
_COMMAND = (sys.executable, "-X", "faulthandler", "-m", "fraud_detection_model")


@dataclass(frozen=True)
class Start:
    """How one start ended; no exit code if it hung."""

    seconds: float
    exit_code: int | None
    load: float
    """Of the machine, averaged over a minute, when it ended."""
    error_output: str
    """The end of it, unless the start succeeded."""


def prepared(folder: Path) -> None:
    """A small input, settings, and an output folder with an MLflow that has been used before."""
    (folder / "settings.yaml").write_text(SETTINGS, encoding="utf-8")
    for _ in write_days(World(3, 200, regimes()), folder / "input", FIRST_DAY, 20):
        pass
    first = start(folder, folder / "template", datetime(2026, 1, 25, tzinfo=UTC), DEADLINE)
    if first.exit_code != 0:
        raise SystemExit(f"the first start failed already: {first.error_output}")


def start(folder: Path, output: Path, as_of: datetime, deadline: float) -> Start:
    """Run the program once, and end it if it hangs."""
    options = ["--config", folder / "settings.yaml", "--input", folder / "input", "--output", output]
    words = [*_COMMAND[1:], *map(str, options), "--as-of", as_of.isoformat()]
    began = perf_counter()
    process = subprocess.Popen(
        [_COMMAND[0], *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        _, error_output = process.communicate(timeout=deadline)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler shows the stacks
        _, error_output = process.communicate()
        code = None
    return Start(perf_counter() - began, code, os.getloadavg()[0], "" if code == 0 else error_output[-6000:])


def starts(count: int, parallel: int, deadline: float, load: int) -> Iterator[Start]:
    """Start the program so often, some at a time, with `load` busy processes beside them."""

    def one(folder: Path, number: int) -> Start:
        output = folder / str(number)
        shutil.copytree(folder / "template", output)
        try:
            return start(folder, output, datetime(2026, 1, 26, tzinfo=UTC), deadline)
        finally:
            shutil.rmtree(output)

    with tempfile.TemporaryDirectory(prefix="starts-") as name, ThreadPoolExecutor(parallel) as pool:
        folder = Path(name)
        prepared(folder)
        with busy(load):
            yield from pool.map(lambda number: one(folder, number), range(count))


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processors busy."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def report(found: list[Start], parallel: int, load: int) -> Iterator[str]:
    """Markdown: how they ended, how long they took, and on what machine."""
    seconds = sorted(entry.seconds for entry in found)
    yield "# Starts under load"
    yield ""
    yield "Written by `python -m benchmarks.starts`, part of `make prove`; its docstring describes the method."
    yield ""
    yield f"Revision {_revision()}; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()};"
    loads = [entry.load for entry in found]
    beside = f"{parallel} start(s) at a time beside {load} busy process(es)"
    yield f"{beside}; load average {min(loads):.1f} to {max(loads):.1f}."
    yield ""
    yield "| starts | succeeded | failed | hung | seconds: median | 95 % | longest |"
    yield "|---|---|---|---|---|---|---|"
    well = sum(entry.exit_code == 0 for entry in found)
    hung = sum(entry.exit_code is None for entry in found)
    late = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
    counts = f"| {len(found)} | {well} | {len(found) - well - hung} | {hung} "
    yield f"{counts}| {statistics.median(seconds):.1f} | {late:.1f} | {seconds[-1]:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Start the program many times under load, each with a deadline.")
    parser.add_argument("--starts", type=int, default=300)
    parser.add_argument("--parallel", type=int, default=2, help="starts at a time")
    parser.add_argument("--load", type=int, default=os.cpu_count() or 2, help="busy processes beside them")
    parser.add_argument("--deadline", type=float, default=DEADLINE, help="seconds that a start may take")
    parser.add_argument("--output", type=Path, help="write the table to this Markdown file as well")
    parser.add_argument("--check", action="store_true", help="fail unless every start succeeds")
    wanted = parser.parse_args()
    found = []
    for number, entry in enumerate(starts(wanted.starts, wanted.parallel, wanted.deadline, wanted.load), start=1):
        line = f"{number} {entry.exit_code} {entry.seconds:.1f} s {entry.error_output}"
        print(line.rstrip(), file=sys.stderr, flush=True)
        found.append(entry)
    text = "\n".join(report(found, wanted.parallel, wanted.load)) + "\n"
    print(text)
    if wanted.output:
        wanted.output.write_text(text, encoding="utf-8")
    if wanted.check and (bad := [entry for entry in found if entry.exit_code != 0]):
        raise SystemExit(f"{len(bad)} of {len(found)} starts did not succeed")


if __name__ == "__main__":
    main()
