"""What guards could see of a winner's refit: sound refits, and refits on young data that went wrong.

    python -m benchmarks.refit

Simulated worlds as in benchmarks/end_to_end.py, quiet ones and some whose fraud has changed, with the settings as
shipped. At several as-of times the library trains a candidate opened two weeks before, which has won, and its refit: a
sound one, and one for each fault of the young rows that no hold-out has judged. The tables have each measure's least,
median and largest value.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.end_to_end import FRAUD_FACTOR, TRANSACTIONS_PER_DAY, more_frauds
from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.features import feature_names, with_features
from fraud_detection.model.fit import fit
from fraud_detection.model.model import Model
from fraud_detection.sampling import labelled, naive, training_rows, within
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.time_windows import LOOK_BACK_DAYS, candidate_spans, matured_until, refit_spans
from fraud_detection.transactions.reader import read_transactions
from fraud_simulation.demo import regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import World

FIRST, STEP = datetime(2026, 4, 4, tzinfo=UTC), timedelta(days=4)
OPENED_BEFORE = timedelta(days=14)
SETTINGS = Settings.model_validate({"data": {"columns": {"label_available_at": "label_available_at"}}})
WORLDS = {"Quiet worlds": date.max, "Worlds that changed": (FIRST - timedelta(days=24)).date()}
"""When the fraud changes; ten days after a change of its world the first winner was opened."""
TOP_CARDS = 100
Scores = NDArray[np.float64]
Change = Callable[[pd.DataFrame, datetime, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class Agreement:
    """Of a refit with its winner; on the winner's hold-out, where nothing else is said."""

    difference: float
    top_percent: float
    cards: float
    mean: float
    """Mean score of the refit, as a multiple of the winner's."""
    young: float
    """Average precision of the winner on the refit's younger rows, as a share of that on its hold-out."""


def _young(rows: pd.DataFrame, as_of: datetime, days: float) -> NDArray[np.bool_]:
    return np.asarray(rows["transaction_time"] >= naive(as_of - timedelta(days=days)))


def _swapped_day(rows: pd.DataFrame, as_of: datetime, _: np.random.Generator) -> pd.DataFrame:
    day = _young(rows, as_of, 2) & ~_young(rows, as_of, 1)
    return rows.assign(fraud=np.where(day, 1 - rows["fraud"], rows["fraud"]).astype(np.int8))


def _random_frauds(rows: pd.DataFrame, as_of: datetime, random: np.random.Generator) -> pd.DataFrame:
    """Of a week's labels each fraud belongs to another row."""
    fraud, young = rows["fraud"].to_numpy(copy=True), _young(rows, as_of, 7)
    fraud[young] = random.permutation(fraud[young])
    return rows.assign(fraud=fraud)


def _no_frauds(rows: pd.DataFrame, as_of: datetime, _: np.random.Generator) -> pd.DataFrame:
    return rows.assign(fraud=np.where(_young(rows, as_of, 14), 0, rows["fraud"]).astype(np.int8))


def _broken_amount(rows: pd.DataFrame, as_of: datetime, _: np.random.Generator) -> pd.DataFrame:
    young = _young(rows, as_of, 7)
    return rows.assign(amount=np.where(young, rows["amount"] * 100, rows["amount"]))


CASES: dict[str, Change] = {
    "sound": lambda rows, *_: rows,
    "labels of a day swapped": _swapped_day,
    "a week's frauds on other rows": _random_frauds,
    "no frauds for two weeks": _no_frauds,
    "amounts of a week in cents": _broken_amount,
}


def measured(change: date, times: int, seed: int) -> Iterator[tuple[str, Agreement]]:
    """Each case at each as-of time."""
    world = World(seed, TRANSACTIONS_PER_DAY, tuple(more_frauds(regime) for regime in regimes(change)))
    last = FIRST + (times - 1) * STEP
    start = candidate_spans(FIRST - OPENED_BEFORE, SETTINGS.windows).training_start
    first_day = (start - timedelta(days=LOOK_BACK_DAYS)).date()
    with tempfile.TemporaryDirectory() as name, session(Engine.SAIL) as spark:
        for _ in write_days(world, Path(name), first_day, (last.date() - first_day).days):
            pass
        transactions = read_transactions(spark, SETTINGS.data, name, last + STEP, last)
        features = with_features(transactions.table, SETTINGS, start, last).toPandas()
    random = np.random.default_rng(seed)
    for number in range(times):
        yield from _agreements(features, FIRST + number * STEP, random)


def _agreements(
    features: pd.DataFrame, as_of: datetime, random: np.random.Generator
) -> Iterator[tuple[str, Agreement]]:
    won = candidate_spans(as_of - OPENED_BEFORE, SETTINGS.windows)
    matured = naive(matured_until(as_of, SETTINGS.windows))
    wanted = within(features["transaction_time"], naive(won.training_end), matured)
    holdout = labelled(features[wanted], as_of, SETTINGS).reset_index(drop=True)
    winner = _fit(training_rows(features, won, SETTINGS))
    rows = training_rows(features, refit_spans(as_of, SETTINGS.windows, label_times=True), SETTINGS)
    for name, change in CASES.items():
        changed = change(rows, as_of, random)
        young = changed[changed["transaction_time"] >= matured]
        yield name, _agreement(holdout, young, winner, _fit(changed))


def _fit(rows: pd.DataFrame) -> Model:
    return fit(rows, None, SETTINGS.training, feature_names(SETTINGS))


def _agreement(holdout: pd.DataFrame, young: pd.DataFrame, winner: Model, refit: Model) -> Agreement:
    fraud = holdout["fraud"].to_numpy()
    scores, again = (np.asarray(one.predict(holdout), np.float64) for one in (winner, refit))
    precision = average_precision(fraud, scores)
    known = young["fraud"].to_numpy()
    return Agreement(
        average_precision(fraud, again) - precision,
        _top_agreement(scores, again),
        _common_cards(holdout, scores, again),
        float(again.mean() / scores.mean()),
        (average_precision(known, winner.predict(young)) if known.any() else 0.0) / precision,
    )


def _top_agreement(winner: Scores, refit: Scores) -> float:
    """Spearman's rank correlation on the 1 % of the rows that the winner finds most suspicious."""
    top = np.argsort(-winner, kind="stable")[: len(winner) // 100]
    return float(spearmanr(winner[top], refit[top]).statistic)


def _common_cards(holdout: pd.DataFrame, winner: Scores, refit: Scores) -> float:
    """The mean over days of the share of the winner's top cards that are the refit's, too."""
    days = holdout.assign(day=holdout["transaction_time"].dt.floor("D"), winner=winner, refit=refit)
    highest = days.groupby(["day", "customer_id"])[["winner", "refit"]].max()
    shares = []
    for _, today in highest.groupby(level="day"):
        count = min(TOP_CARDS, max(1, len(today) // 20))
        both = set(today["winner"].nlargest(count).index) & set(today["refit"].nlargest(count).index)
        shares.append(len(both) / count)
    return float(np.mean(shares))


def report(world: str, found: list[tuple[str, Agreement]]) -> Iterator[str]:
    """A table: of each case the least, the median and the largest of each measure."""
    yield f"## {world}"
    yield ""
    yield (
        "| refit | cases | AP − winner's | Spearman, top 1 % | common cards of a day | mean score / winner's"
        " | winner's AP on young rows / on its hold-out |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name in CASES:
        own = [one for case, one in found if case == name]
        cells = []
        for measure in fields(Agreement):
            values = np.array([getattr(one, measure.name) for one in own])
            cells.append(f"{values.min():.2f} / {np.median(values):.2f} / {values.max():.2f}")
        yield f"| {name} | {len(own)} | {' | '.join(cells)} |"
    yield ""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="as-of times in each world")
    parser.add_argument("--seeds", type=int, default=2, help="worlds of each kind")
    parser.add_argument("--output", type=Path, help="write the tables there, too")
    given = parser.parse_args()
    lines = [
        "# What the guards of a refit see",
        "",
        "Written by `python -m benchmarks.refit`, part of `make prove`; its docstring says how.",
        f"{TRANSACTIONS_PER_DAY:,} transactions a day with {FRAUD_FACTOR:g} times the demo's frauds; seeds 1 to"
        f" {given.seeds}. Each cell: least / median / largest.",
        "",
    ]
    for world, change in WORLDS.items():
        found = [one for seed in range(1, given.seeds + 1) for one in measured(change, given.times, seed)]
        lines += report(world, found)
    text = "\n".join(lines)
    print(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
