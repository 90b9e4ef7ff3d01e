"""How often the first run of the local stack ends with a champion, and how often something useless would.

    python -m benchmarks.first_champion --check

For each of 60 start dates the stack's own seeding writes the transactions that `make up` would write on that date, and
with the stack's own settings the first run reads them, trains and decides. On the same hold-out the rule then judges
three challengers that deserve no promotion: the model trained on shuffled labels, random scores, and the amount itself.
Everything is seeded, and dates are in the past, so the table is the same every time on one kind of processor.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.revision import revision_of
from benchmarks.split import Split, collect_split
from fraud_detection.cores import usable_cores
from fraud_detection.evaluation import measure_alone
from fraud_detection.features import feature_names
from fraud_detection.model.fit import fit
from fraud_detection.promotion import (
    check_first_champion,
    check_first_champion_possible,
    explain_checks,
    explain_measurement,
)
from fraud_detection.schema import Difference, Floor, Metrics, Outcome
from fraud_detection.settings import Settings, load_settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.transactions.reader import read_transactions
from local_stack import seeding
from local_stack.settings import DEFAULTS, ROOT

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_revision = partial(revision_of, "src", "emulator", "conf", "benchmarks/first_champion.py")
FIRST_START = datetime(2025, 1, 1, 0, 30, tzinfo=UTC)
STEP = timedelta(days=6, hours=5)  # every weekday and every hour of the day comes up within the year
MODEL, SHUFFLED, RANDOM, AMOUNT = "model", "shuffled labels", "random scores", "amount"
OUTCOMES = (Outcome.PROMOTED, Outcome.REFUSED, Outcome.NO_DECISION)
# Of 60 dates: the model is promoted on at least so many, each of the others is refused on at least so many.
LEAST = {MODEL: 59, SHUFFLED: 57, RANDOM: 57, AMOUNT: 57}

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What the rule says of one challenger on one date; None where no decision was possible."""

    outcome: Outcome
    reason: str
    challenger: Metrics | None = None
    difference: Difference | None = None
    floor: Floor | None = None


@dataclass(frozen=True)
class Start:
    """One start date: what the first run had, and how each challenger fared."""

    at: datetime
    frauds: int
    """Of the hold-out."""
    judged: dict[str, Judged]

    def is_right(self, challenger: str) -> bool:
        expected = Outcome.PROMOTED if challenger == MODEL else Outcome.REFUSED
        return self.judged[challenger].outcome is expected


def starts(count: int) -> Iterator[Start]:
    """The first run on each of so many dates, spread evenly over those of the whole benchmark."""
    settings = load_settings(ROOT / DEFAULTS["TRAINING_SETTINGS"])
    with session(Engine.SAIL) as spark:
        for number in np.linspace(0, 59, count).astype(int).tolist():
            at = FIRST_START + number * STEP
            with tempfile.TemporaryDirectory() as folder:
                seeding.seed(Path(folder), at)
                rows = _rows(spark, seeding.data_folder(Path(folder)), at, settings)
            yield Start(at, rows.holdout_span.frauds, dict(_judge_all(rows, settings, seed=number)))


def _rows(spark: "SparkSession", data: Path, at: datetime, settings: Settings) -> Split:
    transactions = read_transactions(spark, settings.data, str(data), at)
    return collect_split(transactions, at, settings)


def _judge_all(rows: Split, settings: Settings, seed: int) -> Iterator[tuple[str, Judged]]:
    """Each challenger with what the rule says of it."""
    fraud, amount = rows.training.rows["fraud"].to_numpy(), rows.holdout["amount"].to_numpy(np.float64)
    random = np.random.default_rng(seed)
    challengers: dict[str, Callable[[], Scores]] = {
        MODEL: lambda: _trained(rows, fraud, settings),
        SHUFFLED: lambda: _trained(rows, random.permutation(fraud), settings),
        RANDOM: lambda: random.random(len(rows.holdout)),
        AMOUNT: lambda: amount / amount.max(),
    }
    for name, score in challengers.items():
        yield name, _judge(rows, score, settings)


def _trained(rows: Split, fraud: NDArray[np.generic], settings: Settings) -> Scores:
    numeric, categorical = feature_names(settings), settings.data.columns.extra_categorical
    labelled = rows.training.rows.assign(fraud=fraud)
    model = fit(labelled, rows.training.weights, settings.training, numeric, categorical)
    return model.predict(rows.holdout).astype(np.float64)


def _judge(rows: Split, score: Callable[[], Scores], settings: Settings) -> Judged:
    """The rule's verdict where no champion is in service, as a run asks for it."""
    possible = check_first_champion_possible(rows.evidence, settings)
    if not all(check.passed for check in possible):
        return Judged(Outcome.NO_DECISION, explain_checks(possible, rows.evidence))
    measured = measure_alone(rows.as_holdout(), score(), settings.comparison)
    if measured is None:
        return Judged(Outcome.NO_DECISION, "the hold-out holds nothing but frauds")
    checks = check_first_champion(measured)
    outcome = Outcome.PROMOTED if all(check.passed for check in checks) else Outcome.REFUSED
    reason = f"{explain_measurement(measured.difference, measured.floor)}; {explain_checks(checks, rows.evidence)}"
    return Judged(outcome, reason, measured.challenger, measured.difference, measured.floor)


def failures(found: list[Start]) -> list[str]:
    """Which challengers did worse than `LEAST` asks for, in proportion to the number of dates, and how."""
    missed = []
    for name, least in LEAST.items():
        wrong, allowed = [start for start in found if not start.is_right(name)], (60 - least) * len(found) // 60
        if len(wrong) > allowed:
            missed.append(f"{name}: {len(wrong)} of {len(found)} not as expected; allowed: {allowed}")
            missed += [f"  {start.at:%Y-%m-%d %H:%M} {start.judged[name].reason}" for start in wrong]
    return missed


def report(found: list[Start], settings: Settings) -> Iterator[str]:
    """Markdown: a summary, and a line for each date."""
    yield "# The first champion, on many start dates"
    yield ""
    yield "Written by `python -m benchmarks.first_champion`, part of `make prove`; its docstring describes the method."
    yield ""
    yield f"Revision {_revision()}; {usable_cores()} cores. Seeds: {seeding.SEED} (the simulated bank),"
    yield f"{settings.training.seed} (training), {settings.comparison.seed} (bootstrap), and for shuffled labels and"
    yield "random scores the number of the date, 0 to 59."
    yield f"Settings: `{DEFAULTS['TRAINING_SETTINGS']}`, {seeding.TRANSACTIONS_PER_DAY:,} transactions a day."
    yield ""
    yield f"| challenger | {' | '.join(outcome.value.replace('_', ' ') for outcome in OUTCOMES)} | target |"
    yield "|---|---|---|---|---|"
    for name, least in LEAST.items():
        counts = [sum(start.judged[name].outcome is outcome for start in found) for outcome in OUTCOMES]
        target = f"{'promoted' if name == MODEL else 'refused'} on at least {least} of 60"
        yield f"| {name} | {' | '.join(map(str, counts))} | {target} |"
    yield ""
    yield "Frauds and AP, the average precision, are those of the hold-out. Bound: the lower bound of AP of model minus"
    yield "floor, one-sided at 95 %."
    yield ""
    yield f"| start (UTC) | frauds | AP of amount | floor | AP of model | bound | {' | '.join(LEAST)} |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    yield from map(_line, found)


def _line(start: Start) -> str:
    model = start.judged[MODEL]
    measured = [""] * 4
    if model.floor and model.challenger and model.difference:
        numbers = (
            model.floor.amount_average_precision,
            model.floor.average_precision,
            model.challenger.average_precision,
        )
        measured = [*(f"{number:.3f}" for number in numbers), f"{model.difference.low:+.3f}"]
    outcomes = [start.judged[name].outcome.value.replace("_", " ") for name in LEAST]
    return f"| {start.at:%Y-%m-%d %H:%M} | {start.frauds} | {' | '.join([*measured, *outcomes])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the first run of the local stack ends with a champion.")
    parser.add_argument("--dates", type=int, default=60, help="how many of the 60 start dates (default: all)")
    parser.add_argument("--output", type=Path, help="write the table to this Markdown file as well")
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    wanted = parser.parse_args()
    found = []
    for start in starts(wanted.dates):
        print(_line(start), file=sys.stderr, flush=True)
        found.append(start)
    text = "\n".join(report(found, load_settings(ROOT / DEFAULTS["TRAINING_SETTINGS"]))) + "\n"
    print(text)
    if wanted.output:
        wanted.output.write_text(text, encoding="utf-8")
    if wanted.check and (missed := failures(found)):
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
