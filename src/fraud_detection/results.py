"""What a run found and decided: frozen values, and the one schema of `--json`, the decision log and the report."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Outcome(StrEnum):
    """What a run decided."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    NO_DECISION = "no_decision"


class Span(_Result):
    """Transactions used from [start, end), after everything that was left out."""

    start: datetime
    end: datetime
    transactions: int
    frauds: int


class Metrics(_Result):
    """One model on the hold-out."""

    average_precision: float
    roc_auc: float
    card_precision_at_100: float
    brier: float


class Difference(_Result):
    """Average precision of the challenger minus that of its opponent, with a confidence interval."""

    value: float
    low: float
    high: float
    confidence: float


class Check(_Result):
    """One condition of the promotion rule. `value` and `limit` are null where there was nothing to measure."""

    name: str
    value: float | None
    limit: float | None
    passed: bool


class Decision(_Result):
    """The outcome of one run, for one model name and one T."""

    decision: Outcome
    reason: str
    version: int | None  # the version this run registered
    champion_version: int | None  # the version in service when the run compared
    model_name: str
    as_of: datetime
    decided_at: datetime
    run_id: str | None
    training: Span
    holdout: Span
    champion: Metrics | None
    challenger: Metrics | None
    difference: Difference | None
    checks: tuple[Check, ...]
    rejected: dict[str, int]
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    report: str | None
