"""What a run found and decided: frozen values, and the one schema of `--json`, the decision log and the report."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer


class Stored(BaseModel):
    """What is stored or printed as JSON: frozen, and read back only if every name is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Outcome(StrEnum):
    """What a run decided."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    NO_DECISION = "no_decision"


class Span(Stored):
    """Transactions used from [start, end), after everything that was left out."""

    start: datetime
    end: datetime
    transactions: int
    frauds: int


class Metrics(Stored):
    """One model on the hold-out."""

    average_precision: float
    roc_auc: float
    card_precision_at_100: float
    brier: float


class Difference(Stored):
    """Average precision of the challenger minus that of its opponent, with a confidence interval."""

    value: float
    low: float
    high: float
    confidence: float  # two-sided: at 0.9 the truth is below `low` in 5 % of the cases, and above `high` in 5 %


class Floor(Stored):
    """What the first champion has to exceed."""

    average_precision: float  # the floor: min(multiple · amount_average_precision, (1 + amount_average_precision) / 2)
    amount_average_precision: float  # of ranking by amount alone
    multiple: float  # the setting `comparison.first_champion_floor`

    @property
    def origin(self) -> str:
        """Which of the two bounds the floor is."""
        if self.average_precision < self.multiple * self.amount_average_precision:
            return f"half the way from ranking by amount, {self.amount_average_precision:.3f}, to 1"
        return f"{self.multiple:g} times ranking by amount, {self.amount_average_precision:.3f}"


class CheckVerdict(StrEnum):
    """What a check says."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"  # too little data to tell: an automatic promotion may go on, a person should look


class Check(Stored):
    """One condition of the promotion rule. `value` and `limit` are null where there was nothing to measure."""

    name: str
    value: float | None
    limit: float | None
    passed: bool  # also where the check is undecided
    # Only harm tests have these, and only they write them, so decisions of earlier releases stay as they are.
    undecided: bool = False
    low: float | None = None  # one-sided bounds of the change, positive = better; absent where unbounded
    high: float | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        absent = {name for name, field in type(self).model_fields.items() if getattr(self, name) is field.default}
        return {name: value for name, value in write(self).items() if name not in absent}

    @property
    def verdict(self) -> CheckVerdict:
        if not self.passed:
            return CheckVerdict.FAILED
        return CheckVerdict.UNDECIDED if self.undecided else CheckVerdict.PASSED


class Decision(Stored):
    """The recorded result of one run, for one model name and one as-of time.

    Its outcome is stored and printed under the key "decision".
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    outcome: Outcome = Field(alias="decision")
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
    floor: Floor | None = None  # where no champion was in service; decisions of earlier releases do not have it
    checks: tuple[Check, ...]
    rejected: dict[str, int]
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    report: str | None
    retired_version: int | None = None  # the champion that was retired before this run, which found none in service
    committed_at: datetime | None = None  # when it came into force; None in decisions of earlier releases
    code_revision: str | None = None  # of the program that decided; None in decisions of earlier releases
    data_fingerprint: str | None = None  # of the data as known at the as-of time; None in old decisions
