"""What a run found and decided: frozen values, and the one schema of `--json`, the decision log and the report."""

import math
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
)

SCHEMA_VERSION = 2
"""Of a decision that compares candidates in shadow. Decisions of earlier releases have none, and count as 1."""

Unbounded = Annotated[
    float, PlainSerializer(lambda value: value if math.isfinite(value) else str(value), when_used="json")
]
"""A number that may be infinite: in JSON the text inf or -inf, since JSON has no such number."""


class Stored(BaseModel):
    """What is stored or printed as JSON: frozen, and read back only if every name is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Outcome(StrEnum):
    """What a run decided."""

    PROMOTED = "promoted"
    NEEDS_REVIEW = "needs_review"  # a look passed, and a person promotes its candidate
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
    card_precision_at_100: float | None  # None where so few cards a day cannot tell models apart
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
    value: Unbounded | None
    limit: Unbounded | None
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


@dataclass(frozen=True, order=True)
class CandidateKey:
    """What identifies a candidate: all else follows from it, the data and the seed."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    label_cutoff: datetime
    """Labels known by then were used; on the grid of `comparison.candidate_every_hours`."""
    recipe: str
    """Hash of training settings, feature version, mapped columns and XGBoost version."""
    refit: Annotated[bool, Field(exclude_if=lambda refit: not refit)] = False
    """Whether it is a winner that was trained once more, also on rows that had not matured."""


class ShiftedSample(Stored):
    """Rows whose distribution is compared with that of others, of [start, end)."""

    start: datetime
    end: datetime
    transactions: int
    independent: float  # as many independent rows they are worth; rows of one card, or terminal, are not


class Shift(Stored):
    """How much the distribution of an input, or of the champion's scores, has moved."""

    name: str
    psi: float  # population stability index
    drift_limit: float  # above it the input has drifted
    limit: float  # above it the data are taken for broken

    @property
    def ratio(self) -> float:
        return self.psi / self.drift_limit

    @property
    def drifted(self) -> bool:
        return self.psi > self.drift_limit


class DriftRecord(Stored):
    """The newest transactions, compared with those that the champion was trained on."""

    reference: ShiftedSample  # of its training
    fresh: ShiftedSample
    inputs: tuple[Shift, ...]  # those with the largest ratio to their drift limit first
    score: Shift

    @property
    def drifted(self) -> tuple[str, ...]:
        """What has drifted."""
        return tuple(one.name for one in (*self.inputs, self.score) if one.drifted)


class CandidateRecord(Stored):
    """A candidate: a model that was frozen, with what it takes to freeze the same one again."""

    key: CandidateKey
    training: Span
    growth: float  # the factor between the frauds of two looks
    seed: int
    opened_at: datetime  # the as-of time of the run that opened it
    backfilled: bool  # older than the run that opened it, because runs are rare
    run_id: str  # MLflow's, of the run that keeps it
    model_id: str  # MLflow's
    sha256: str  # of the model's file
    drifted: Annotated[tuple[str, ...], Field(exclude_if=lambda drifted: not drifted)] = ()
    """The inputs, or the score, for whose drift it was opened before the next point of the grid."""


class Estimate(Stored):
    """A value measured on a part of a hold-out, with a confidence interval."""

    value: float
    low: float | None  # None, as `high`, where a single card has all of it, so that there is no spread to measure
    high: float | None
    confidence: float  # two-sided


class AlertFigures(Stored):
    """What a threshold gives on the transactions of [start, end).

    An alert is a card on a day on which one of its scores reaches the threshold; a compromised card that an alert has
    found alerts on no later day. Without cards each transaction is one. Money is in the unit of the amounts.
    """

    start: datetime
    end: datetime
    alerts_a_day: float
    most_alerts: int  # on one day
    precision: float | None  # share of the alerts whose card has a fraud on that day; None without alerts
    recall: float | None  # share of the cards with a fraud that an alert has found; None without frauds
    value_precision: float | None  # share of the amounts that score as high that are frauds
    value_recall: float | None  # share of the amounts of all frauds that score as high
    value_a_day: Estimate  # amounts of the frauds that score as high, times the loss share
    net_value_a_day: Estimate | None  # the same less the reviews of all alerts; None without a review cost


class Threshold(Stored):
    """From which score on a model's transactions alert, fitted on the earlier part of the hold-out that judged it."""

    probability: Unbounded  # a transaction alerts if its score is at least this; infinite where no alert is worth it
    cards_a_day: int | None  # the alert budget; None: the costs alone decide
    review_cost: float | None  # of one alert, in the unit of the amounts; None: the budget alone decides
    loss_share: float  # of the amount of a fraud that is not found
    fitted: AlertFigures
    checked: AlertFigures | None  # on the later part; None where the whole hold-out had to be fitted


class LookKey(Stored):
    """What identifies a look, beside the as-of time of the entry that opens it."""

    candidate: CandidateKey
    champion_version: int | None  # None: the first champion's one test, against the floor
    number: int  # from 1


class LookLimitsRecord(Stored):
    """What a look had to reach; all of it."""

    root: Unbounded
    difference_for_unseen_cards: Unbounded
    difference_that_matters: float


class LookRecord(Stored):
    """What one look measured, and what it had to reach."""

    candidate: CandidateKey
    champion_version: int | None  # None: the first champion's one test, against the floor
    number: int  # from 1
    training: Span  # of the candidate
    holdout: Span
    fraud_cards: int  # of the hold-out; without cards its frauds
    champion: Metrics | None
    challenger: Metrics | None
    difference: Difference | None  # with the interval of the bootstrap; None where there was nothing to measure
    root: Unbounded | None  # signed, of the empirical likelihood ratio; None in the test of a first champion
    lower_bound: float | None  # of the difference, by the same ratio, at the risk of the look
    limits: LookLimitsRecord | None
    risk: float
    checks: tuple[Check, ...]
    passed: bool  # the limits and every check
    by_card: bool = True  # False: the data have no cards, and each transaction stands for itself
    threshold: Annotated[Threshold | None, Field(exclude_if=lambda threshold: threshold is None)] = None
    """Of the candidate; None where nothing was measured, and in looks of earlier releases."""

    @property
    def key(self) -> LookKey:
        return LookKey(candidate=self.candidate, champion_version=self.champion_version, number=self.number)


class RollbackLookKey(Stored):
    """What identifies a look that asks whether the champion has to make room for its predecessor."""

    champion_version: int
    predecessor_version: int
    number: int  # from 1, over the life of the champion


class RollbackLook(Stored):
    """What such a look measured on matured rows later than those that promoted the champion."""

    key: RollbackLookKey
    holdout: Span
    fraud_cards: int  # of the hold-out; without cards its frauds
    champion: Metrics | None
    predecessor: Metrics | None
    difference: Difference | None  # predecessor minus champion; None where there was nothing to measure
    root: Unbounded | None  # signed, of the empirical likelihood ratio
    limits: LookLimitsRecord | None
    risk: float
    checks: tuple[Check, ...]
    passed: bool  # every check: the predecessor is the better one


class RetirementReason(StrEnum):
    """Why a candidate is no longer looked at."""

    EXPIRED = "expired"  # it has been in shadow for its whole life
    OVERTAKEN = "overtaken"  # the champion was trained on the rows that would compare them
    ALL_LOOKS_TAKEN = "all_looks_taken"
    CROWDED_OUT = "crowded_out"  # too many are alive, and others of about its age are among them
    LOST = "lost"  # its model is missing or damaged, and cannot be trained again
    COLUMNS_GONE = "columns_gone"  # it reads columns that the data no longer have
    REJECTED = "rejected"  # by a person


class RetirementRecord(Stored):
    """A candidate that a run retired."""

    candidate: CandidateKey
    reason: RetirementReason


class RefitRecord(Stored):
    """A winner that was trained once more, on all labels known at the as-of time (`promotion.refit_winner`)."""

    winner: CandidateKey
    refit: CandidateRecord  # its training span, and the files
    checks: tuple[Check, ...]  # its guards, on the winner's hold-out
    serves: bool  # all guards hold; otherwise the winner serves as it was evaluated

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)


class AlarmName(StrEnum):
    """What a person has to look into."""

    UNSOUND_DATA = "unsound_data"  # the checks of the data stop each run
    CHAMPION_TOO_OLD = "champion_too_old"
    CHAMPION_BELOW_FLOOR = "champion_below_floor"
    CHAMPION_DECAYED = "champion_decayed"  # it ranks worse in service than at first
    CHAMPION_ROLLED_BACK = "champion_rolled_back"  # by the rule, since its predecessor is the better one


class Alarm(Stored):
    """A state that a person has to look into. Every decision has it for as long as it lasts."""

    name: AlarmName
    champion_version: int | None  # None: it is about no version
    text: str
    raised_at: datetime  # `decided_at` of the first decision that has it


class Opening(Stored):
    """What a run is going to look at, recorded before anything is measured.

    Its looks are charged to the risk from here on. A run that is killed finishes them with this as-of time.
    """

    schema_version: int = SCHEMA_VERSION
    model_name: str
    as_of: datetime
    opened_at: datetime
    code_revision: str | None
    candidates: tuple[CandidateRecord, ...]
    looks: tuple[LookKey, ...]
    previous_entry: str | None = None  # SHA-256 of the log's entry before this one; the log fills it in
    rollback_look: Annotated[RollbackLookKey | None, Field(exclude_if=lambda look: look is None)] = None
    """Charged to `automatic_rollback.risk`; None where that is off, or no look is due."""


class KnownLabels(Stored):
    """The most frauds and labels of each day that any run has known, for the next one to compare with."""

    schema_version: int = 1
    model_name: str
    as_of: datetime  # of the newest run
    frauds: dict[date, int]  # by the day of the transactions, UTC
    labels: dict[date, int]


def _is_none(value: object) -> bool:
    return value is None


class DataCounts(Stored):
    """What a run found in its input. Matured rows are those whose labels count as final, and that a run can use."""

    rows: int  # read, without refunds that are left out
    rejected_rows: int
    refunds: int  # negative amounts, left out or turned positive
    unknown_cards: int
    unknown_terminals: int
    matured: int
    matured_frauds: int
    matured_unlabelled: int
    equal_rows: int = 0  # that say the same as another one, where ids are derived
    matured_blocked: int = 0  # payments that were stopped
    matured_blocked_unlabelled: int = 0  # used for nothing: their labels will never come
    matured_control: int = 0  # alerts that were let through on purpose
    matured_control_frauds: int = 0
    matured_control_unlabelled: int = 0
    last_day: Annotated[int | None, Field(exclude_if=_is_none)] = None
    """Transactions of the 24 hours before the as-of time; this and the next two: absent in earlier releases."""
    age_hours: Annotated[float | None, Field(exclude_if=_is_none)] = None
    """Of the newest transaction at the as-of time."""
    label_delay_days: Annotated[float | None, Field(exclude_if=_is_none)] = None
    """90 % of the frauds were known after this time; absent where labels have no times."""

    @property
    def unlabelled_share(self) -> float:
        """Of the matured transactions; blocked ones, which get no label, count as neither."""
        expected = self.matured - self.matured_blocked_unlabelled
        return (self.matured_unlabelled - self.matured_blocked_unlabelled) / expected if expected else 0.0

    @property
    def only_frauds_labelled(self) -> bool:
        """Whether no label says genuine: then labels are reports of fraud, and none is expected for other rows."""
        return self.matured_unlabelled + self.matured_frauds == self.matured


def _stated(reason: object) -> object:
    return reason if not isinstance(reason, str) or reason.strip() else "no reason was recorded"


Reason = Annotated[str, BeforeValidator(_stated)]
"""Why a decision came out as it did; never empty, also where an earlier release recorded none."""


class RunCost(Stored):
    """What the run's cluster cost from its creation to the decision.

    What comes later is not in it: scoring, the removal of old results, the deletion. Clusters of failed tries neither.
    """

    amount: float
    currency: str
    seconds: float  # from the creation of the cluster to the decision
    price_per_hour: float  # of all its hosts


class Decision(Stored):
    """The recorded result of one run, for one model name and one as-of time.

    Its outcome is stored and printed under the key "decision". What belongs to one comparison (spans, metrics,
    difference, checks) is that of the look with the largest root.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    outcome: Outcome = Field(alias="decision")
    reason: Reason
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
    schema_version: int = 1
    alarms: tuple[Alarm, ...] = ()  # what a person has to look into
    looks: tuple[LookRecord, ...] = ()
    opened: tuple[CandidateKey, ...] = ()  # the candidates that the run opened; their records are in its opening
    retired_candidates: tuple[RetirementRecord, ...] = ()
    refit: RefitRecord | None = None  # of promotions, where `promotion.refit_winner` is set
    previous_entry: str | None = None  # SHA-256 of the log's entry before this one; the log fills it in
    drift: DriftRecord | None = None  # None where it was not measured, and in decisions of earlier releases
    data_counts: DataCounts | None = None  # None in decisions of earlier releases
    rollback_look: Annotated[RollbackLook | None, Field(exclude_if=lambda look: look is None)] = None
    """Whether the champion's predecessor is the better one; None where the run did not ask."""
    cost: Annotated[RunCost | None, Field(exclude_if=lambda cost: cost is None)] = None
    """Absent where the run was not told prices."""

    @property
    def served_training(self) -> Span:
        """What the promoted files were trained on: the challenger's span, or that of its refit."""
        return self.refit.refit.training if self.refit is not None and self.refit.serves else self.training

    @model_serializer(mode="wrap")
    def _as_its_release_wrote_it(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        content: dict[str, object] = write(self)
        if self.schema_version >= SCHEMA_VERSION:
            return content
        fields = tuple(type(self).model_fields)
        later = fields[fields.index("schema_version") :]
        return {name: value for name, value in content.items() if name not in later or value not in (1, [], (), None)}
