"""Whether the product's model is worth its features on foreign data: against a plain XGBoost on the raw columns.

    python -m benchmarks.foreign --data FILE --config FILE

Both models are trained on the same rows with the same number, depth and learning rate of trees, and rank the same
hold-out; the difference in average precision has a paired bootstrap interval (95 %, over cards; over transactions where
there are none). Three cases: as the settings say, without card ids, and on a short history. It exits with 1 where the
product is significantly worse: the interval lies below zero.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from benchmarks.split import Split, collect_split
from fraud_detection.evaluation.bootstrap import paired_difference
from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.features import feature_names
from fraud_detection.model.fit import fit
from fraud_detection.schema import Difference
from fraud_detection.settings import Settings, load_settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.transactions.reader import Transactions, read_transactions

SHORT_DAYS = 21
"""Of the training window of a short history; nothing before it is known."""
RAW_IDS = ("customer_id", "terminal_id")

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    training_frauds: int
    holdout_frauds: int
    plain: float
    product: float
    difference: Difference | None

    @property
    def is_worse(self) -> bool:
        """Whether the product is significantly worse."""
        return self.difference is not None and self.difference.high < 0.0


def measure(name: str, transactions: Transactions, as_of: datetime, settings: Settings) -> Case:
    """Train and compare both models of one case."""
    split = collect_split(transactions, as_of, settings)
    product, plain = score_product(split, settings), score_plain(split, settings)
    fraud = split.holdout["fraud"].to_numpy()
    found = paired_difference(
        fraud, plain, product, split.as_holdout().card, 0.95, settings.comparison.resamples, settings.comparison.seed
    )
    return Case(
        name,
        split.training.span.frauds,
        int(fraud.sum()),
        average_precision(fraud, plain),
        average_precision(fraud, product),
        found,
    )


def score_product(split: Split, settings: Settings) -> Scores:
    """The product's model on the hold-out."""
    categorical = settings.data.columns.extra_categorical
    sample = split.training
    model = fit(sample.rows, sample.weights, settings.training, feature_names(settings), categorical)
    return np.asarray(model.predict(split.holdout), np.float64)


def score_plain(split: Split, settings: Settings) -> Scores:
    """XGBoost on the columns as the files have them: amount, time, extra columns, and ids as categories."""
    columns, rows = settings.data.columns, split.training.rows
    numeric = ["amount", *columns.extra_numeric]
    names = [*columns.extra_categorical, *(name for name in RAW_IDS if getattr(columns, name) is not None)]
    levels = {name: sorted(rows[name].dropna().astype(str).unique()) for name in names}

    def raw(table: pd.DataFrame) -> pd.DataFrame:
        made = table[numeric].astype(np.float64).assign(time=table["transaction_time"].astype("int64"))
        made["hour"] = table["transaction_time"].dt.hour
        for name in names:
            made[name] = pd.Categorical(table[name].astype("string"), categories=levels[name])
        return made

    training = settings.training
    model = xgboost.XGBClassifier(
        n_estimators=training.trees,
        max_depth=training.max_depth,
        learning_rate=training.learning_rate,
        enable_categorical=True,
        random_state=training.seed,
    )
    model.fit(raw(rows), rows["fraud"], sample_weight=split.training.weights)
    return np.asarray(model.predict_proba(raw(split.holdout))[:, 1], np.float64)


def cases(data: str, settings: Settings) -> list[Case]:
    """All cases of one input."""
    clock = datetime.now(UTC)
    without = _with_columns(settings, customer_id=None)
    found = []
    with session(Engine.SAIL) as spark:
        transactions = read_transactions(spark, settings.data, data, clock)
        as_of = transactions.profile.default_as_of
        found.append(measure("as it is", transactions, as_of, settings))
        if settings.data.columns.customer_id is not None:
            anonymous = read_transactions(spark, without.data, data, clock)
            found.append(measure("without card ids", anonymous, as_of, without))
        found.append(measure("short history", *_shortened(transactions, as_of, settings)))
    return found


def _with_columns(settings: Settings, **changes: object) -> Settings:
    columns = settings.data.columns.model_copy(update=changes)
    return settings.model_copy(update={"data": settings.data.model_copy(update={"columns": columns})})


def _shortened(
    transactions: Transactions, as_of: datetime, settings: Settings
) -> tuple[Transactions, datetime, Settings]:
    """The newest days alone: a training window of `SHORT_DAYS`, and no earlier transaction for features to read."""
    from pyspark.sql import functions as F  # noqa: N812

    windows = settings.windows.model_copy(update={"training_window_days": SHORT_DAYS})
    short = settings.model_copy(update={"windows": windows})
    days = timedelta(days=SHORT_DAYS) + (as_of - _training_end(as_of, settings))
    kept = transactions.table.where(F.col("transaction_time") >= F.lit(as_of - days))
    return replace(transactions, make_table=lambda: kept), as_of, short


def _training_end(as_of: datetime, settings: Settings) -> datetime:
    from fraud_detection.time_windows import candidate_spans, first_champion_cutoff

    return candidate_spans(first_champion_cutoff(as_of, settings.windows), settings.windows).training_end


def table(found: list[Case]) -> str:
    """The cases as Markdown."""
    lines = [
        "| case | frauds trained / tested | plain XGBoost, AP | product, AP | difference, 95 % |",
        "|---|---:|---:|---:|---|",
    ]
    for case in found:
        gap = case.difference
        shown = "no frauds" if gap is None else f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
        counts = f"{case.training_frauds:,} / {case.holdout_frauds:,}"
        lines.append(f"| {case.name} | {counts} | {case.plain:.3f} | {case.product:.3f} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Measure one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--data", required=True, help="a file or a folder")
    parser.add_argument("--config", type=Path, required=True, help="settings that fit it: fraud-detection init")
    given = parser.parse_args()
    found = cases(given.data, load_settings(given.config))
    print(table(found))
    worse = [case.name for case in found if case.is_worse]
    if worse:
        print(f"significantly worse than a plain XGBoost: {', '.join(worse)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
