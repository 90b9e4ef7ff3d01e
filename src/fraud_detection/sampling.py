"""Which rows train a candidate.

The engine selects the rows that a model may need and the driver labels and samples them; both apply the predicates
`within` and `kept_in_sample`. On the driver, tables are pandas with naive times in UTC. Spans are half open. What is
known when says `labels`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.features import features_between
from fraud_detection.labels import HISTORY, UNKNOWN, WAS_FRAUD, Labels, microseconds
from fraud_detection.schema import Span
from fraud_detection.settings import Settings
from fraud_detection.time_windows import CandidateSpans
from fraud_detection.transactions.columns import FLAGS, RETIRABLE

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from fraud_detection.transactions.profile import Profile
    from fraud_detection.transactions.reader import Transactions

DAY = pd.Timedelta(days=1)
_MISSING_ID = -(2**63) + 1
_COMPARED = (
    "transaction_id",
    "transaction_time",
    "amount",
    "fraud",
    "customer_id",
    "label_available_at",
    HISTORY,
    *FLAGS,
)


@dataclass(frozen=True)
class TrainingSample:
    """The Features rows that train a candidate, on the driver."""

    rows: pd.DataFrame
    weights: NDArray[np.float64] | None
    span: Span
    """Counts are of all rows of the window, also where only a sample was collected."""


def collect_training_sample(transactions: "Transactions", spans: CandidateSpans, settings: Settings) -> TrainingSample:
    """Compute the features of the training window, and bring a sample of its rows to the driver."""
    profile = transactions.profile
    rate = _sample_rate(transactions, spans, settings)
    rows, weights = sample(training_rows(_collect(transactions, spans, settings, rate), spans, settings), rate)
    span = Span(
        start=spans.training_start,
        end=spans.training_end,
        transactions=len(rows) if weights is None else _training_transactions(profile, spans, settings),
        frauds=int(rows["fraud"].sum()),
    )
    return TrainingSample(rows, weights, span)


def within(time: Any, start: Any, end: Any) -> Any:  # noqa: ANN401  (a column of Spark, or of pandas)
    """Whether times lie in [start, end)."""
    return (time >= start) & (time < end)


def kept_in_sample(fraud: Any, sample_hash: Any, rate: float) -> Any:  # noqa: ANN401  (likewise)
    """Whether rows belong to the training sample: every fraud, and the genuine rows with a hash below the rate."""
    return fraud | (sample_hash < rate)


def training_rows(features: pd.DataFrame, spans: CandidateSpans, settings: Settings) -> pd.DataFrame:
    """Rows of [training_start, training_end), labelled with what was known at the label cut-off.

    A row whose label was not known then is presumed genuine (`data.unlabelled_is_genuine`) or left out.

    Returns:
        The columns of `features`, `fraud` as int8 without nulls, sorted by transaction_id, index 0..n-1.
    """
    wanted = within(features["transaction_time"], naive(spans.training_start), naive(spans.training_end))
    return labelled(features[wanted], spans.label_cutoff, settings).reset_index(drop=True)


def sample_rate(genuine: int, frauds: int, max_training_rows: int) -> float:
    """The share p of genuine rows to keep so that all frauds and they are about `max_training_rows` together.

    Every fraud is kept. Should frauds alone fill more than half of the sample, genuine rows still get the other half's
    worth on top of them: a model cannot be taught frauds alone.
    """
    wanted = max(max_training_rows - frauds, max_training_rows // 2)
    return min(1.0, wanted / genuine) if genuine else 1.0


def sample(rows: pd.DataFrame, rate: float) -> tuple[pd.DataFrame, NDArray[np.float64] | None]:
    """Keep every fraud, and the genuine rows whose `sample_hash` is below `rate`.

    Args:
        rows: training rows with `fraud` (0 or 1) and `sample_hash` in [0, 1).
        rate: as given by `sample_rate`. Rows may have been sampled at this rate already: nothing more is lost then.

    Returns:
        The kept rows, and a weight for each: 1/rate for genuine rows, so that sums over the sample estimate sums over
        all rows and probabilities stay calibrated. No weights (None) where everything was kept.
    """
    if rate >= 1.0:
        return rows, None
    fraud = rows["fraud"].to_numpy() == 1
    kept = kept_in_sample(fraud, rows["sample_hash"].to_numpy(), rate)
    return rows[kept], np.where(fraud[kept], 1.0, 1.0 / rate)


def collect_frauds(transactions: "Transactions", start: datetime, end: datetime) -> pd.DataFrame:
    """The rows of [start, end) that ever were frauds, without features: looks are counted in them."""
    table = transactions.between(start, end)
    return to_pandas(table.where(_ever_fraud(table)).select(*compared_columns(table.columns)))


def compared_columns(columns: Sequence[str]) -> list[str]:
    """Of these columns those that a comparison reads, beside scores."""
    return [name for name in _COMPARED if name in columns]


def labelled(rows: pd.DataFrame, at: datetime, settings: Settings) -> pd.DataFrame:
    """The rows with `fraud` as it was known at a moment, int8 without nulls, sorted by transaction_id.

    A row whose label was not known is presumed genuine (`data.unlabelled_is_genuine`) or left out; a blocked payment is
    always left out.
    """
    delay = timedelta(days=settings.windows.label_delay_days)
    label = Labels.of_frame(rows, delay).at(int(microseconds(naive(at))))
    known = label != UNKNOWN
    if settings.data.unlabelled_is_genuine:  # but a blocked payment never gets a label
        known |= (rows["blocked"] != 1).to_numpy() if "blocked" in rows else True
    rows, label = rows[known], label[known]
    return rows.assign(fraud=(label == 1).astype(np.int8)).sort_values("transaction_id", kind="stable")


def to_pandas(table: "DataFrame") -> pd.DataFrame:
    """The table on the driver. Integer ids stay exact where some are missing: pandas would make them floats."""
    from pyspark.sql import functions as F  # noqa: N812

    gaps = [name for name, kind in table.dtypes if name in RETIRABLE and kind == "bigint"]
    filled = {name: F.coalesce(name, F.lit(_MISSING_ID)) for name in gaps}
    rows: pd.DataFrame = (table.withColumns(filled) if filled else table).toPandas()  # no columns are refused
    for name in gaps:
        missing = rows[name] == _MISSING_ID
        if missing.any():
            rows[name] = rows[name].astype("Int64").mask(missing)
    return rows


def naive(moment: datetime) -> pd.Timestamp:
    """A time as the driver's tables have it: in UTC, without a zone."""
    return pd.Timestamp(moment.astimezone(UTC).replace(tzinfo=None))


def _sample_rate(transactions: "Transactions", spans: CandidateSpans, settings: Settings) -> float:
    """From what was known at the label cut-off alone, so that a candidate trained later is the same one."""
    known = training_rows(collect_frauds(transactions, spans.training_start, spans.training_end), spans, settings)
    frauds = int(known["fraud"].sum())
    hours = transactions.profile.hours_between(spans.training_start, spans.training_end)
    # Blocked rows with a label, too: how many those are depends on the run.
    let_through = transactions.profile.transactions_by_hour - transactions.profile.flags.blocked
    genuine = max(0, int(let_through[hours].sum()) - frauds)
    return sample_rate(genuine, frauds, settings.training.max_training_rows)


def _training_transactions(profile: "Profile", spans: CandidateSpans, settings: Settings) -> int:
    hours = profile.hours_between(spans.training_start, spans.training_end)
    return int((profile.transactions_by_hour - profile.left_out_by_hour(settings.data))[hours].sum())


def _collect(transactions: "Transactions", spans: CandidateSpans, settings: Settings, rate: float) -> pd.DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    features = features_between(transactions, settings, spans.training_start, spans.training_end)
    return to_pandas(features.where(kept_in_sample(_ever_fraud(features), F.col("sample_hash"), rate)))


def _ever_fraud(table: "DataFrame") -> "Column":
    """For the engine what `labels.ever_fraud` is for the driver."""
    from pyspark.sql import functions as F  # noqa: N812

    fraud = F.col("fraud") == 1
    if HISTORY in table.columns:
        fraud |= F.coalesce(F.col(HISTORY).contains(WAS_FRAUD), F.lit(False))
    return fraud
