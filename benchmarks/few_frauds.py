"""What a simpler model brings where frauds are few: simulated banks of one size and several fraud rates.

    python -m benchmarks.few_frauds --banks 10 --output benchmarks/results/few_frauds.md

Each bank has its own cards, terminals and frauds, which do not change. The shipped settings train a model on 84 days,
once with `training.few_frauds: 0` and once with what that setting makes of few frauds; both are measured on the same
long hold-out. Everything is seeded, so the table is the same every time on one kind of processor.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.features import feature_names, with_features
from fraud_detection.model.fit import fit
from fraud_detection.sampling import labelled, naive, training_rows, within
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.time_windows import LOOK_BACK_DAYS, candidate_spans, matured_until
from fraud_detection.transactions.reader import read_transactions
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import Regime, World

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CUTOFF = datetime(2026, 4, 4, tzinfo=UTC)
HOLDOUT_DAYS = 180
TRANSACTIONS_PER_DAY = 600
FRAUD_FACTORS = (0.125, 0.25, 0.5, 1.0)
"""Of the demo's 10 frauds in 1,000 transactions."""
SETTINGS = Settings.model_validate({"data": {"columns": {"label_available_at": "label_available_at"}}})
NEVER, ALWAYS = 0, 1_000_000
"""`training.few_frauds`: no number of frauds is few, or any."""


@dataclass(frozen=True)
class Bank:
    """One simulated bank, and the average precision of both models on its hold-out."""

    factor: float
    training_frauds: int
    holdout_frauds: int
    full: float
    simple: float


def measured(spark: "SparkSession", factor: float, seed: int) -> Bank:
    """Simulate a bank, train both models and score its hold-out."""
    rows, holdout = _bank(spark, factor, seed)
    fraud, found = holdout["fraud"].to_numpy(), []
    for few in (NEVER, ALWAYS):
        training = SETTINGS.training.model_copy(update={"few_frauds": few})
        model = fit(rows, None, training, feature_names(SETTINGS))
        found.append(average_precision(fraud, np.asarray(model.predict(holdout), np.float64)))
    return Bank(factor, int(rows["fraud"].sum()), int(fraud.sum()), *found)


def _bank(spark: "SparkSession", factor: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training rows and hold-out of a simulated bank."""
    spans = candidate_spans(CUTOFF, SETTINGS.windows)
    as_of = CUTOFF + timedelta(days=HOLDOUT_DAYS)
    first = (spans.training_start - timedelta(days=2 * LOOK_BACK_DAYS + SETTINGS.windows.maturity_days)).date()
    world = World(seed, TRANSACTIONS_PER_DAY, tuple(_scaled(regime, factor) for regime in regimes(date.max)))
    with tempfile.TemporaryDirectory() as name:
        for _ in write_days(world, Path(name), first, (as_of.date() - first).days):
            pass
        transactions = read_transactions(spark, SETTINGS.data, name, as_of)
        features = with_features(transactions.table, SETTINGS, spans.training_start, as_of).toPandas()
    matured = within(features["transaction_time"], naive(CUTOFF), naive(matured_until(as_of, SETTINGS.windows)))
    return training_rows(features, spans, SETTINGS), labelled(features[matured], as_of, SETTINGS)


def _scaled(regime: Regime, factor: float) -> Regime:
    return Regime(
        regime.start,
        regime.large_amounts * factor,
        regime.compromised_terminals * factor,
        regime.leaked_cards * factor,
        regime.card_testing * factor,
    )


def report(found: list[Bank]) -> Iterator[str]:
    """Markdown: one line for each fraud rate, with the mean gain over the banks and its standard error."""
    yield "# A simpler model where frauds are few"
    yield ""
    yield "Written by `python -m benchmarks.few_frauds`, part of `make prove`; its docstring describes the method."
    yield ""
    yield f"{TRANSACTIONS_PER_DAY:,} transactions a day; hold-outs of {HOLDOUT_DAYS} days. Full: the shipped settings."
    yield "Simple: what `training.few_frauds` makes of them. AP: average precision, the mean over the banks. The"
    yield "gain has its standard error over the banks."
    yield ""
    yield "| frauds in training | in the hold-out | banks | AP, full | AP, simple | gain | banks that gain |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for factor in FRAUD_FACTORS:
        banks = [bank for bank in found if bank.factor == factor]
        if len(banks) > 1:
            yield _line(banks)


def _line(banks: list[Bank]) -> str:
    full, simple = np.array([bank.full for bank in banks]), np.array([bank.simple for bank in banks])
    gain = simple - full
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    training, holdout = ([getattr(bank, name) for bank in banks] for name in ("training_frauds", "holdout_frauds"))
    counts = f"{np.mean(training):.0f} | {np.mean(holdout):.0f}"
    means = f"{full.mean():.3f} | {simple.mean():.3f} | {gain.mean():+.3f} ± {error:.3f}"
    return f"| {counts} | {len(banks)} | {means} | {int((gain > 0).sum())} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--banks", type=int, default=10, help="simulated banks of each fraud rate")
    parser.add_argument("--output", type=Path, help="write the table there, too")
    given = parser.parse_args()
    found = []
    with session(Engine.SAIL) as spark:
        for seed, factor in itertools.product(range(1, given.banks + 1), FRAUD_FACTORS):
            found.append(measured(spark, factor, seed))
            print(found[-1], flush=True)
    text = "\n".join(report(found)) + "\n"
    print(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
