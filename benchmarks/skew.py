"""What one hot key costs the kernels of the features: a terminal with 5 % of all rows, and a card with 1 %.

    python -m benchmarks.skew --output benchmarks/results/skew.md

An engine gives all rows of a key to one task, so a hot key sets the longest task of a stage. Each line is a process of
its own with one kernel on one core: the rows of the hot key alone, as many rows of ordinary keys, and the whole table
in a single key. Rows are spread over 183 days, one in a hundred is a fraud. Memory: the highest resident set of the
process, less what it had before the kernel, its inputs included.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fraud_detection.features.cards import card_features
from fraud_detection.features.terminals import KnownFrauds, terminal_features
from fraud_detection.labels import NEVER

ROOT = Path(__file__).resolve().parents[1]
DAY = 86_400_000_000
DAYS, DELAY = 183, 7 * DAY
ROWS_OF_A_KEY = {"card": 230, "terminal": 450}
"""Of an ordinary card and terminal in 183 days."""


@dataclass(frozen=True)
class Case:
    """Rows for one kernel."""

    kernel: str
    rows: int
    hot: bool
    """All rows of one key."""


def cases(sizes: tuple[int, ...]) -> Iterator[Case]:
    """The hot keys of tables of these sizes, ordinary keys of as many rows, and the largest table in one key."""
    for kernel, share in (("terminal", 0.05), ("card", 0.01)):
        for size in sizes:
            yield from (Case(kernel, round(size * share), hot) for hot in (False, True))
        yield Case(kernel, sizes[-1], hot=True)


def run(case: Case) -> dict[str, float]:
    """Seconds of processor time and bytes, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = _work(case)
    began = time.process_time()
    work()
    seconds = time.process_time() - began
    return {"seconds": seconds, "bytes": 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def _work(case: Case) -> Callable[[], object]:
    rng = np.random.default_rng(7)
    times = rng.integers(0, DAYS * DAY, case.rows)
    keys = np.zeros(case.rows, np.int64)
    if not case.hot:
        keys = rng.integers(0, max(1, case.rows // ROWS_OF_A_KEY[case.kernel]), case.rows)
    ids, cents = np.arange(case.rows), rng.integers(100, 50_000, case.rows)
    known = np.where(rng.random(case.rows) < 0.01, times + DELAY, NEVER)
    if case.kernel == "card":
        return lambda: card_features(keys, times, ids, cents, known, 0, 0, DELAY)
    frauds = KnownFrauds(known, None, known != NEVER, cents, cents / 5_000)
    return lambda: terminal_features(keys, times, ids, frauds, 0, DELAY)


def table(sizes: tuple[int, ...]) -> Iterator[str]:
    """A line for each case."""
    yield "| kernel | rows | keys | CPU s | µs a row | memory MB | bytes a row |"
    yield "|---|---:|---|---:|---:|---:|---:|"
    for case in cases(sizes):
        command = [sys.executable, "-m", "benchmarks.skew", "--case", json.dumps(vars(case))]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)
        keys = "one" if case.hot else "ordinary"
        figures = f"{found['seconds']:.2f} | {1e6 * found['seconds'] / case.rows:.2f}"
        memory = f"{found['bytes'] / 1e6:,.0f} | {found['bytes'] / case.rows:,.0f}"
        yield f"| {case.kernel} | {case.rows:,} | {keys} | {figures} | {memory} |"


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1750000,17500000", help="rows of the whole table")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run(Case(**json.loads(options.case)))))
        return
    lines = list(table(tuple(map(int, options.sizes.split(",")))))
    text = "# A hot key in the kernels\n\nWritten by `python -m benchmarks.skew`; its docstring says how.\n\n"
    text += "\n".join(lines) + "\n"
    if options.output is None:
        print(text)
    else:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
