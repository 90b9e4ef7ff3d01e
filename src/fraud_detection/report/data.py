"""What a report shows besides the decision itself: plain arrays and values, each of them optional."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fraud_detection.data_health.examination import Health
from fraud_detection.evaluation import SliceMetrics
from fraud_detection.model.attribution import Attribution
from fraud_detection.promotion.sequential import NextLook, RiskLedger
from fraud_detection.schema import CandidateKey, CandidateRecord, LookRecord
from fraud_detection.settings import Settings
from fraud_detection.time_windows import RunWindows

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class DailyCounts:
    """Transactions and known frauds of each calendar day (UTC); three arrays of one length, days ascending."""

    day: NDArray[np.datetime64]
    transactions: NDArray[np.int64]
    frauds: NDArray[np.int64]


@dataclass(frozen=True)
class DailyPrecision:
    """Card precision@100 of each day of the hold-out (24 hours each); arrays of one length, days ascending."""

    day: NDArray[np.datetime64]
    champion: FloatArray | None
    challenger: FloatArray


@dataclass(frozen=True)
class LoggedLook:
    """A look with the as-of time of its run."""

    as_of: datetime
    record: LookRecord


@dataclass(frozen=True)
class ShadowData:
    """The candidates in shadow once the run's looks are taken, and what they have cost."""

    risk: float
    """Of any false promotion in the period of the ledger."""
    ledger: RiskLedger
    next_looks: tuple[NextLook, ...]
    """At each candidate alive."""
    records: Mapping[CandidateKey, CandidateRecord]
    """By key, at least of those alive."""
    life: tuple[LoggedLook, ...]
    """All looks at the candidate that the decision shows, oldest first; empty where no look was taken."""


@dataclass(frozen=True)
class LabelDelays:
    """The share of the frauds that were known so many hours after their transaction; arrays of one length."""

    hours: NDArray[np.int64]
    share: FloatArray
    frauds: int
    """That are counted."""


@dataclass(frozen=True)
class ReportData:
    """The measurements of one run. A run that stopped early gives what it has; the page says what is missing.

    `fraud` (0/1), the two scores (probabilities) and `amount` are one-dimensional over the same rows: the hold-out.
    `amount` draws the ranking by amount alone, which the first champion is measured against.
    """

    fraud: NDArray[np.generic] | None = None
    champion_score: FloatArray | None = None
    challenger_score: FloatArray | None = None
    amount: FloatArray | None = None
    windows: RunWindows | None = None
    settings: Settings | None = None
    daily: DailyCounts | None = None
    rows_read: int | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    """For each reason of rejection, the columns at fault with the masked shapes of their values; never a value."""
    quarantine: str | None = None
    """The file with the rejected rows."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """For each reason of rejection, what it means; one that is not here is shown by its name."""
    slices: tuple[SliceMetrics, ...] = ()
    importances: Mapping[str, float] = field(default_factory=dict)
    """Feature name to total gain in the challenger, in any order and unit."""
    attributions: tuple[Attribution, ...] = ()
    """SHAP values of the challenger on a sample of the hold-out."""
    attributed_rows: int = 0
    """Rows of that sample."""
    card_precision: DailyPrecision | None = None
    shadow: ShadowData | None = None
    label_delays: LabelDelays | None = None
    """None where the data have no label times."""
    health: Health | None = None
    """What the checks of the data found, with the bands to draw."""
    data_fingerprint: str | None = None
    override: str | None = None
    """Who promoted the champion without the promotion rule, when and why; None if nobody did."""
    rollback_command: str | None = None
    """`fraud-detection rollback` with this run's --config, --output and --tracking-uri; --to and --reason are added."""
    unpin_command: str | None = None
    """The complete `fraud-detection unpin`."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not describe the same rows.

        Raises:
            ValueError: a score or the amounts without labels, or of another length.
        """
        rows = None if self.fraud is None else self.fraud.shape
        for name in ("champion_score", "challenger_score", "amount"):
            values = getattr(self, name)
            if values is not None and values.shape != rows:
                raise ValueError(f"{name} has shape {values.shape}; expected that of fraud, {rows}")
