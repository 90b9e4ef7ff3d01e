"""What reading the decision log costs after ten decisions and after 10,000.

    python -m benchmarks.decision_log --output benchmarks/results/decision_log.md

The log is on disk and generated: one decision an hour, each of the size of a real one, and an opening a day. Seconds
are the shortest of five, with warm caches of the operating system. A bucket adds a request for every 1,000 names.
"""

import argparse
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from fraud_detection.outputs import opening_file
from fraud_detection.registry.decision_log import DecisionLog, entry_name, stored_form
from fraud_detection.schema import Decision
from fraud_detection.storage import open_folder

_LIKE = Path(__file__).parents[1] / "tests" / "registry" / "decision.json"
_SIZES = (10, 1_000, 10_000)
_REPEATS = 5


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    output = parser.parse_args().output
    found = [_measure(size) for size in _SIZES]
    lines = [
        f"| what is read, seconds | {' | '.join(f'{size:,} decisions' for size in _SIZES)} | last / first |",
        "|---|" + "---:|" * (len(_SIZES) + 1),
    ]
    for what in found[0]:
        seconds = [one[what] for one in found]
        cells = " | ".join(f"{one:.4f}" for one in seconds)
        lines.append(f"| {what} | {cells} | {seconds[-1] / seconds[0]:.0f} |")
    text = "# Reading the decision log\n\nWritten by `python -m benchmarks.decision_log`.\n\n" + "\n".join(lines) + "\n"
    if output is None:
        print(text)
    else:
        output.write_text(text, encoding="utf-8")


def _measure(size: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        log, last = _generate(Path(folder), size)
        readers: dict[str, Callable[[], object]] = {
            "list the names": log.names,
            "run: entries in the future": lambda: log.after(last.as_of),
            "run: newest as-of time": log.newest_as_of,
            "run: decision before": lambda: log.previous(None),
            "run: unfinished openings": log.unfinished_openings,
            "`unpin`: last intervention": log.last_intervention,
            "`decisions --last 20`": lambda: log.newest(20),
            "`decisions`": log.history,
        }
        return {what: min(_seconds(read) for _ in range(_REPEATS)) for what, read in readers.items()}


def _generate(folder: Path, size: int) -> tuple[DecisionLog, Decision]:
    first = Decision.model_validate_json(_LIKE.read_bytes())
    last = first
    (folder / entry_name(first)).parent.mkdir(parents=True)
    for hour in range(size):
        as_of = first.as_of + timedelta(hours=hour)
        last = first.model_copy(update={"as_of": as_of, "committed_at": as_of})
        (folder / entry_name(last)).write_bytes(stored_form(last))
        if hour % 24 == 0:
            (folder / opening_file(first.model_name, as_of)).write_bytes(b"{}")  # a decided one is not read
    return DecisionLog(open_folder(str(folder)), first.model_name), last


def _seconds(read: Callable[[], object]) -> float:
    start = time.perf_counter()
    read()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
