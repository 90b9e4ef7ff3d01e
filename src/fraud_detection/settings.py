"""Every setting of a retraining run, validated, with its default.

The YAML file given by `--config` holds the same names. Unknown and repeated names are refused, so a setting never falls
back to its default in silence; the error of a removed one names its successor. Secrets are not settings: MLflow reads
its credentials from the environment itself.
"""

from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from fraud_detection import format_rules, window_spans
from fraud_detection.errors import SettingsError
from fraud_detection.settings_errors import broken_rules
from fraud_detection.strict_yaml import StrictLoader
from fraud_detection.window_spans import span_setting, span_text

Span = Annotated[int | float, BeforeValidator(window_spans.positive_span_days), WithJsonSchema({"type": "span"})]
"""In days, on whole hours; text with a unit (`12h`, `7d`) is taken, too."""
SpanOrZero = Annotated[int | float, BeforeValidator(window_spans.span_days), WithJsonSchema({"type": "span"})]
Days = Annotated[int, Field(ge=1, le=3650)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

TimeColumns = str | Annotated[tuple[str, ...], Field(min_length=1)]
"""One column, or several whose texts are joined by a space."""

_LONGEST = 1_000_000
"""Characters of a settings file; one that is longer is something else."""

CARDS_A_DAY = 100
"""The usual alert budget, and the k of card precision@k."""

RISK_PERIOD_DAYS = 30
"""The looks of any such period share `comparison.risk`."""

REMOVED = {
    "comparison.planned_looks": "looks are counted in matured frauds now: comparison.looks sets how many there are at"
    " one candidate, and comparison.candidate_every_hours how often a candidate is opened",
    "comparison.confidence": "set comparison.risk, the probability of any false promotion in 30 days; 0.05 is what a"
    " confidence of 0.95 was",
}
"""Settings of earlier releases, with what to set instead."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` for a number: pydantic would take it as 1. Spans have their own words for it."""
        field = cls.model_fields[info.field_name or ""]
        has_own_check = any(isinstance(one, BeforeValidator) for one in field.metadata)
        kinds = {field.annotation, *get_args(field.annotation)}
        if isinstance(value, bool) and kinds & {int, float} and not kinds & {bool, str} and not has_own_check:
            raise PydanticKnownError("float_type" if float in kinds else "int_type")
        return value


class Columns(_Section):
    """Canonical column: its name in your files. An optional column that the files do not have is `null`."""

    transaction_id: str | None = "transaction_id"
    """Integer or text; unique. `null`: ids are derived from the content of the rows."""
    transaction_time: TimeColumns = "transaction_time"
    """Timestamp; without a time zone it is of `data.format.time_zone`. Several columns are joined: `[DATE, TIME]`."""
    amount: str = "amount"
    """Number, not negative."""
    fraud: str | None = "fraud"
    """0, 1, or null while it is unknown. `null` here with a label table."""
    customer_id: str | None = "customer_id"
    """The card. `null`: no card features."""
    terminal_id: str | None = "terminal_id"
    """The terminal. `null`: no terminal features."""
    label_available_at: TimeColumns | None = None
    """When the label became known. `null`: `windows.label_delay_days` after the transaction."""
    blocked: str | None = None
    """1 or true: the payment was stopped, so its label will never come. Such rows are not presumed genuine."""
    control_group: str | None = None
    """1 or true: an alert that was let through on purpose, at random. Its label says what blocked payments are."""
    extra_numeric: tuple[str, ...] = ()
    """Further numeric columns, used as features without change, such as `[V1, V2]`."""
    extra_categorical: tuple[str, ...] = ()
    """Further columns with few distinct values, such as `[channel, country]`."""

    @model_validator(mode="after")
    def _each_source_column_once(self) -> Self:
        extra = [*self.extra_numeric, *self.extra_categorical]
        mapped = [source for name, source in self if source is not None and not name.startswith("extra_")]
        names = [name for source in mapped for name in ((source,) if isinstance(source, str) else source)] + extra
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns used twice: {', '.join(twice)}; map each source column once")
        return self


class LabelTable(_Section):
    """A separate table of labels, for chargebacks that arrive later than the transactions.

    With it, set `data.columns.fraud` and `data.columns.label_available_at` to `null`.
    """

    path: str
    """A file or a folder, CSV or Parquet, on disk or `s3a://`."""
    transaction_id: str = "transaction_id"
    """The id of the labelled transaction."""
    fraud: str = "fraud"
    """0 or 1."""
    label_available_at: TimeColumns | None = "label_available_at"
    """When the label became known. `null`: `windows.label_delay_days` after the transaction."""


class TimeUnit(StrEnum):
    """What a time that is a number counts."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"
    MINUTES = "min"
    HOURS = "h"
    DAYS = "d"


Mark = Annotated[str, AfterValidator(format_rules.mark)]
LabelValue = Annotated[str, BeforeValidator(format_rules.label_value)]


class Format(_Section):
    """How files write their values: of CSV everything, of Parquet what is stored as text or as a bare number."""

    separator: Annotated[str, AfterValidator(format_rules.separator)] = ","
    r"""Between the fields of a CSV file; `"\t"` for a tab."""
    encoding: Annotated[str, AfterValidator(format_rules.encoding)] = "utf-8"
    """Of a CSV file, by a name of Python: `latin-1`, `cp1251`, `utf-16`. A byte order mark is dropped."""
    quote: Annotated[str, AfterValidator(format_rules.quote)] | None = '"'
    """Encloses fields of a CSV file that hold the separator. `null`: none."""
    skip_lines: Annotated[int, Field(ge=0, le=1000)] = 0
    """Lines before the header of a CSV file."""
    time_formats: tuple[Annotated[str, AfterValidator(format_rules.time_format)], ...] = ()
    """Forms of `strptime`, tried in this order: `["%d.%m.%Y %H:%M"]`. Empty: ISO 8601."""
    time_unit: TimeUnit | None = None
    """Times are numbers: so many of this unit since `time_origin`."""
    time_origin: datetime = datetime.fromisoformat("1970-01-01")
    """The moment that numbers count from; without a zone it is UTC."""
    time_zone: Annotated[str, AfterValidator(format_rules.time_zone)] = "UTC"
    """Of times without a zone; a name of the IANA database, such as `Europe/Berlin`."""
    decimal_mark: Mark = "."
    """Before the fraction of a number."""
    thousands_mark: Mark | None = None
    """Between groups of digits: `1,234.56`. `null`: none."""
    currency: Annotated[tuple[str, ...], AfterValidator(format_rules.currency)] = ()
    """Texts before or after an amount, which are dropped: `["$", "EUR"]`."""
    fraud_values: tuple[LabelValue, ...] = ()
    """Labels that mean fraud, beside 1 and true: `["Y", "fraud"]`. Case does not matter."""
    genuine_values: tuple[LabelValue, ...] = ()
    """Labels that mean genuine, beside 0 and false."""
    unknown_values: tuple[LabelValue, ...] = ()
    """Labels that mean not known yet, beside a missing one."""

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.quote == self.separator:
            raise ValueError("separator and quote are the same character; give two")
        if self.thousands_mark == self.decimal_mark:
            raise ValueError(
                "decimal_mark and thousands_mark are the same character; give two, or thousands_mark: null"
            )
        return self

    @model_validator(mode="after")
    def _times_are_texts_or_numbers(self) -> Self:
        if self.time_formats and self.time_unit is not None:
            raise ValueError("time_formats reads texts and time_unit numbers; set one of them")
        return self

    @model_validator(mode="after")
    def _each_label_means_one_thing(self) -> Self:
        lists = {name: getattr(self, name) for name in ("fraud_values", "genuine_values", "unknown_values")}
        format_rules.require_disjoint_labels(lists, self.decimal_mark)
        return self


class MissingId(StrEnum):
    """What a row without a card, or without a terminal, is."""

    UNKNOWN = "unknown"
    REJECT = "reject"


class Refunds(StrEnum):
    """What a negative amount is."""

    REJECT = "reject"
    EXCLUDE = "exclude"
    ABSOLUTE = "absolute"


class Data(_Section):
    """How the input is read and checked."""

    columns: Columns = Columns()
    format: Format = Format()
    labels: LabelTable | None = None
    max_rejected_share: Share = 0.01
    """A larger share of rejected rows stops the run before training (exit code 65)."""
    unlabelled_is_genuine: bool = True
    """A transaction without a label after the label delay: `true` genuine, `false` left out."""
    max_unlabelled_share: Share = 0.1
    """More matured transactions without a label give a warning, unless only frauds are labelled at all."""
    refunds: Refunds = Refunds.REJECT
    """Negative amounts: `reject` quarantines them, `exclude` counts and leaves them out, `absolute` drops the sign."""
    missing_cards: MissingId = MissingId.UNKNOWN
    """Rows without a card: `unknown` uses them, each like a card's first transaction; `reject` quarantines them."""
    missing_terminals: MissingId = MissingId.UNKNOWN
    """Rows without a terminal, likewise."""
    fraud_rate_band: tuple[Share, Share] = (0.0001, 0.05)
    """A share of frauds outside this band gives a warning."""
    retired_columns: tuple[str, ...] = ()
    """Columns that the input no longer has. A champion that was trained with them is scored with them missing."""

    @property
    def required_ids(self) -> frozenset[str]:
        """The canonical ids without which a row is rejected."""
        policies = {"customer_id": self.missing_cards, "terminal_id": self.missing_terminals}
        return frozenset({"transaction_id", *(name for name, policy in policies.items() if policy is MissingId.REJECT)})

    @model_validator(mode="after")
    def _a_retired_column_is_not_mapped(self) -> Self:
        columns = self.columns
        optional = {"customer_id": columns.customer_id, "terminal_id": columns.terminal_id}
        mapped = {name for name, source in optional.items() if source is not None}
        both = sorted({*self.retired_columns} & {*mapped, *columns.extra_numeric, *columns.extra_categorical})
        if both:
            raise ValueError(
                f"retired_columns lists {', '.join(both)}, which columns maps, too; set it to null there, or remove it"
                " from extra_numeric or extra_categorical"
            )
        return self

    @model_validator(mode="after")
    def _labels_come_from_one_place(self) -> Self:
        if self.labels is None and self.columns.fraud is None:
            raise ValueError("columns.fraud is null and there is no label table; name one of them")
        if self.labels is not None and (self.columns.fraud is not None or self.columns.label_available_at is not None):
            raise ValueError("labels come from the label table; set columns fraud and label_available_at to null")
        if self.labels is not None and self.columns.transaction_id is None:
            raise ValueError(
                "columns.transaction_id is null, but labels are joined by it; map the id that labels.transaction_id"
                " names, or columns.fraud instead of a label table"
            )
        low, high = self.fraud_rate_band
        if low >= high:
            raise ValueError(f"fraud_rate_band is [{low}, {high}]; its first number must be the smaller")
        return self


class Windows(_Section):
    """Time spans of a run: days (`7`), or text with a unit (`12h`, `7d`), on whole hours."""

    label_delay_days: SpanOrZero = 7
    """When a label without a time of its own becomes known, after its transaction. 0: at once, when it is over."""
    maturity_days: Span = 7
    """After this a label counts as final; at least the time in which 90 % of the frauds become known."""
    training_gap_days: SpanOrZero = 0
    """Between training window and hold-out. The Fraud Detection Handbook leaves the label delay, 7 days."""
    holdout_days: Span = 7
    """Length of the first champion's hold-out; any later one grows with the labels."""
    training_window_days: Span = 84
    """Length of the training window of the challenger."""
    known_card_window_days: Span = 14
    """Cards with a known fraud this long before the hold-out are left out of it."""


class Training(_Section):
    """The training sample and the gradient-boosted trees (XGBoost)."""

    max_training_rows: Annotated[int, Field(ge=1000)] = 200_000
    """Above it the sample keeps every fraud and a weighted share of the genuine transactions."""
    min_training_frauds: Annotated[int, Field(ge=1)] = 50
    """With fewer frauds in the training window the run makes no decision."""
    trees: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Number of trees."""
    max_depth: Annotated[int, Field(ge=1, le=16)] = 4
    """Depth of each tree."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.08
    """Shrinkage of each tree."""
    max_bin: Annotated[int, Field(ge=2, le=65_536)] = 256
    """Histogram bins of each feature. They are fine where frauds begin."""
    subsample: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the rows that each tree is grown on."""
    colsample: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the features that each tree is grown on."""
    parallel_trees: Annotated[int, Field(ge=1, le=100)] = 1
    """Trees of a round, averaged; 3 take a fit five times as long. They differ where rows or features are sampled."""
    few_frauds: Annotated[int, Field(ge=0)] = 200
    """With fewer training frauds: depth 3, `subsample` 0.7, `colsample` 0.5 at most, at least 3 `parallel_trees`."""
    max_categories: Annotated[int, Field(ge=1, le=1000)] = 20
    """Categories kept for each extra categorical column. Rarer ones, and those of fewer than 10 rows, get no input."""
    seed: Annotated[int, Field(ge=0)] = 7
    """The same data and settings give the same model, bit for bit."""


class ComparisonSettings(_Section):
    """How candidates are compared with the champion: when, at what risk, and what they must not lose."""

    risk: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Probability of any false promotion in 30 days; of the first champion's one test."""
    candidate_every_hours: Annotated[int, Field(ge=1, le=24 * RISK_PERIOD_DAYS)] = 24
    """How often a candidate is frozen. More of them leave less risk for each look; at most 29 are alive."""
    look_every_hours: Annotated[int, Field(ge=1, le=24 * RISK_PERIOD_DAYS)] = 6
    """Due looks wait for the next of these hours, so that one cluster serves several."""
    shadow_days: Days = 28
    """How long a candidate is compared before it is retired."""
    looks: Annotated[int, Field(ge=1, le=100)] = 9
    """Looks at one candidate against one champion; each is due when its matured frauds have grown by a factor."""
    first_look_frauds: Annotated[int, Field(ge=1)] = 40
    """Matured frauds with which a candidate's first look is due."""
    minimum_effect: Annotated[float, Field(ge=0.0)] = 0.01
    """Smallest gain in average precision that is worth a promotion."""
    unseen_card_bound: bool = True
    """Whether the gain must also exceed what patterns could cost that no card of the hold-out has shown."""
    minimum_holdout_frauds: Annotated[int, Field(ge=1)] = 200
    """With fewer frauds in its hold-out a first champion is not judged."""
    resamples: Annotated[int, Field(ge=100)] = 1000
    """Resamples of the paired bootstrap over cards."""
    first_champion_floor: Annotated[float, Field(ge=1.0)] = 2.0
    """m in the floor of the first champion: min(m · a, (1 + a) / 2), a = AP of ranking by amount."""
    card_precision_margin: Annotated[float, Field(ge=0.0)] = 0.005
    """Largest accepted loss of card precision@100."""
    calibration_margin: Annotated[float, Field(ge=0.0)] = 0.1
    """Largest accepted rise of the calibration error, the distance of expected from found frauds as a share of them."""
    brier_margin: Annotated[float, Field(ge=0.0)] = 0.02
    """Largest accepted rise of the Brier score, as a share of the champion's."""
    slice_margin: Annotated[float, Field(ge=0.0)] = 0.02
    """Largest accepted loss of average precision in any slice."""
    slices: tuple[str, ...] = ()
    """Columns of `data.columns.extra_categorical` whose values are slices, too, such as `[channel]`."""
    minimum_slice_frauds: Annotated[int, Field(ge=1)] = 50
    """Slices with fewer frauds are shown and decide nothing."""
    new_card_days: Days = 30
    """A card is new for this long after its first transaction."""
    seed: Annotated[int, Field(ge=0)] = 7
    """Seed of the bootstrap."""

    @property
    def looks_in_period(self) -> int:
        """How many looks share the risk of 30 days."""
        return self.looks * 24 * RISK_PERIOD_DAYS // self.candidate_every_hours


class Mode(StrEnum):
    """Who promotes a winner."""

    AUTOMATIC = "automatic"
    APPROVAL = "approval"


class Freeze(_Section):
    """Days on which nothing is promoted."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    first: date = Field(alias="from")
    """First day, UTC."""
    last: date = Field(alias="to")
    """Last day, UTC; belongs to the freeze."""
    reason: str
    """For the log and the report."""

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"the freeze ends on {self.last}, before it begins on {self.first}; swap from and to")
        return self


class Promotion(_Section):
    """What follows a look that a candidate has passed."""

    mode: Mode = Mode.AUTOMATIC
    """`automatic` promotes the winner; `approval` leaves that to `fraud-detection approve`."""
    approval_days: Days = 7
    """How long a winner waits for approval."""
    freezes: tuple[Freeze, ...] = ()
    """Spans of days without promotions: `[{from: 2026-12-20, to: 2027-01-02, reason: holidays}]`."""
    champion_max_age_days: Days = 90
    """An older champion raises an alarm, counted from the end of its training; nothing replaces it for that."""
    hours_between_promotions: Annotated[int, Field(ge=0)] = 0
    """At most one promotion in so many hours."""
    refit_winner: bool = False
    """Whether a winner is trained once more, on all labels known by then, before it serves; not in approval mode."""
    trust_past_evidence: bool = False
    """Whether a new recipe is also judged on rows from before its settings were first seen."""


class AutomaticRollback(_Section):
    """The return to the previous champion, and a pin, where later transactions say that it was the better one."""

    enabled: bool = False
    """Whether the champion is compared with the one that it replaced; `false`: only people roll back."""
    risk: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01
    """Probability that a champion which is no worse than its predecessor is ever rolled back."""


class Alerts(_Section):
    """From which score on a transaction alerts: an alert budget, or what reviews and frauds cost, or both."""

    cards_a_day: Annotated[int | None, Field(ge=1)] = CARDS_A_DAY
    """Alert budget: cards that can be reviewed a day, transactions without cards. `null`: the costs alone decide."""
    review_cost: Annotated[float | None, Field(gt=0.0)] = None
    """Cost of reviewing one alert, in the unit of the amounts. `null`: the budget alone decides."""
    loss_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of a fraud's amount that is lost unless an alert finds it."""

    @model_validator(mode="after")
    def _something_decides(self) -> Self:
        if self.cards_a_day is None and self.review_cost is None:
            raise ValueError(
                "alerts.cards_a_day and alerts.review_cost are both null, so nothing says when a transaction alerts;"
                " set one of them"
            )
        return self


class Scoring(_Section):
    """What `fraud-detection score` does."""

    first_days: Days = 1
    """Days before the as-of time whose transactions the first batch scores; later ones score all since."""
    reasons: Annotated[int, Field(ge=1, le=100)] = 3
    """Inputs that an alert names: at most so many of those that raised its score, the largest SHAP value first."""


class HealthCheck(StrEnum):
    """A check of the data, by its name in decisions."""

    VOLUME_FLOOR = "volume_floor"
    VOLUME_CEILING = "volume_ceiling"
    FRAUD_RATE_FLOOR = "fraud_rate_floor"
    FRAUD_RATE_CEILING = "fraud_rate_ceiling"
    LABEL_DELAY = "label_delay"
    KNOWN_FRAUDS_KEPT = "known_frauds_kept"
    KNOWN_LABELS_KEPT = "known_labels_kept"
    INPUT_PSI = "input_psi"
    SCORE_PSI = "score_psi"
    NO_LEAKING_FEATURE = "no_leaking_feature"


class AcceptedChange(_Section):
    """Days on which a check of the data may fail."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    check: HealthCheck
    """Its name."""
    first: date = Field(alias="from")
    """First day of the data, UTC."""
    last: date = Field(alias="to")
    """Last day of the data, UTC; belongs to the span."""
    reason: str
    """For the log and the report."""

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"the span ends on {self.last}, before it begins on {self.first}; swap from and to")
        return self


class DataHealth(_Section):
    """What stops a run before it decides, because its data are not sound."""

    stop: tuple[HealthCheck, ...] = tuple(HealthCheck)
    """Checks that stop a run when they fail; the others only warn."""
    accepted: tuple[AcceptedChange, ...] = ()
    """Known changes, which only warn: `[{check: volume_floor, from: 2026-05-01, to: 2026-05-03, reason: strike}]`."""
    false_alarm: Annotated[float, Field(gt=0.0, le=0.01)] = 1e-6
    """Probability that chance alone takes the counts of a day, or a PSI, beyond the limit."""
    late_transactions_hours: Annotated[int, Field(ge=0, le=24 * 30)] = 24
    """So late transactions may arrive: the volume of the hours before the as-of time is not judged yet."""
    least_day_volume: Share = 0.25
    """A day with a smaller share of its normal volume fails; a holiday has more."""
    least_three_day_volume: Share = 0.6
    """Three days in a row with a smaller share of their normal volume fail."""
    most_day_volume: Annotated[float, Field(gt=1.0)] = 3.0
    """A day with more than so many times its normal volume fails."""
    fraud_rate_factor: Annotated[float, Field(gt=1.0)] = 3.0
    """A matured day with so many times more, or fewer, frauds than the days around it fails."""
    label_delay_distance: Share = 0.2
    """Largest accepted share of frauds that used to be known by some delay and are not any more."""
    lost_label_share: Share = 0.02
    """Largest accepted share of known frauds, or labels, that may be missing later."""
    drift_psi: Annotated[float, Field(gt=0.0)] = 0.1
    """An input, or the champion's scores, with a larger PSI have drifted: a candidate is opened early."""
    broken_psi: Annotated[float, Field(gt=0.0)] = 1.0
    """With a larger PSI the data are taken for broken, and the check fails."""
    leaking_average_precision: Share = 0.9
    """An input that alone ranks the training frauds better than this average precision leaks them."""

    @model_validator(mode="after")
    def _broken_is_more_than_drift(self) -> Self:
        if self.broken_psi < self.drift_psi:
            raise ValueError(
                f"data_health.broken_psi is {self.broken_psi:g}, below data_health.drift_psi, {self.drift_psi:g}: what"
                " stops a run would not even be drift; raise broken_psi or lower drift_psi"
            )
        return self


class Retention(_Section):
    """What `fraud-detection retain` removes, by its age; so does, once a day, a run with `--retain`."""

    reports_days: Days = 365
    """Reports, since they were written."""
    outcomes_days: Days = 90
    """Outcomes of runs, since they were written."""
    quarantine_days: Days = 90
    """Rejected rows, since they were written."""
    scores_days: Days = 365
    """Scores and lists of alerts, since the day of their transactions; later ones of such a day are not scored."""
    mlflow_runs_days: Days = 365
    """MLflow runs with their files, since they ended."""
    model_versions_days: Days = 365
    """Versions of the model, since they last served."""


class Settings(_Section):
    """Settings of one retraining run."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$")] = "fraud_detection"
    """The registered model in MLflow, and the key of its decisions."""
    progress_timeout_minutes: Annotated[float, Field(gt=0.0, le=1440.0)] = 30.0
    """A phase that takes longer ends the run as stalled (exit code 75)."""
    data: Data = Data()
    windows: Windows = Windows()
    training: Training = Training()
    comparison: ComparisonSettings = ComparisonSettings()
    promotion: Promotion = Promotion()
    automatic_rollback: AutomaticRollback = AutomaticRollback()
    alerts: Alerts = Alerts()
    scoring: Scoring = Scoring()
    data_health: DataHealth = DataHealth()
    retention: Retention = Retention()

    @field_validator(
        "data",
        "windows",
        "training",
        "comparison",
        "promotion",
        "automatic_rollback",
        "alerts",
        "scoring",
        "data_health",
        "retention",
        mode="before",
    )
    @classmethod
    def _empty_section_is_defaults(cls, value: object) -> object:
        return {} if value is None else value

    @property
    def has_label_times(self) -> bool:
        """Whether the data say when a label became known."""
        labels = self.data.labels
        return (labels or self.data.columns).label_available_at is not None

    @model_validator(mode="after")
    def _mature_labels_are_known(self) -> Self:
        delay, maturity = self.windows.label_delay_days, self.windows.maturity_days
        if maturity < delay and not self.has_label_times:
            raise ValueError(
                f"windows.maturity_days is {span_setting(maturity)} and windows.label_delay_days {span_setting(delay)}:"
                " the data have no label times (label_available_at), so the frauds of the youngest"
                f" {span_text(delay - maturity)} of a hold-out would not be known; set maturity_days to at least"
                f" {span_setting(delay)}, or map label_available_at"
            )
        return self

    @model_validator(mode="after")
    def _slices_are_columns(self) -> Self:
        unknown = sorted({*self.comparison.slices} - {*self.data.columns.extra_categorical})
        if unknown:
            raise ValueError(
                f"comparison.slices names {', '.join(unknown)}, which data.columns.extra_categorical does not list"
            )
        return self


def load_settings(path: Path) -> Settings:
    """Read and validate a YAML settings file.

    Raises:
        SettingsError: the file is absent, is not YAML, or breaks a rule; every broken rule is named at once.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise SettingsError(
                f"settings file {path} has more than {_LONGEST:,} characters; give another with --config"
            )
        content = yaml.load(text, Loader=StrictLoader)  # noqa: S506  (a SafeLoader)
    except (OSError, ValueError) as error:  # no file, or no text
        raise SettingsError(f"settings file {path} cannot be read: {error}; give another with --config") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"settings file {path} is not valid YAML: {_yaml_problem(error)}") from error
    if content is not None and not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise SettingsError(f"settings file {path} holds {kind}; expected names with values")
    try:
        return Settings.model_validate(content or {})
    except ValidationError as error:
        broken = broken_rules(error, Settings, REMOVED)
        lines = "".join(f"\n  {rule}" for rule in broken)
        raise SettingsError(f"settings file {path} breaks {len(broken)} rule(s):{lines}") from error


def _yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the piece of the line that PyYAML shows: it may be half an address."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return problem if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
