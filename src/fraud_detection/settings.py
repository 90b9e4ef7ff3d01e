"""Every setting of a retraining run, validated, with its default.

The YAML file given by `--config` holds the same names. Unknown names are refused, so a misspelt setting never falls
back to its default in silence. Secrets are not settings: MLflow reads its credentials from the environment itself.
"""

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fraud_detection.errors import SettingsError

Days = Annotated[int, Field(ge=1, le=3650)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Columns(_Section):
    """The names that the input gives to the canonical columns; `null` for an optional one the input does not have."""

    transaction_id: str = "transaction_id"
    transaction_time: str = "transaction_time"
    amount: str = "amount"
    fraud: str | None = "fraud"  # null only where a label table brings it
    customer_id: str | None = "customer_id"
    terminal_id: str | None = "terminal_id"
    label_available_at: str | None = None
    extra_numeric: tuple[str, ...] = ()
    extra_categorical: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_source_column_once(self) -> Self:
        single = [self.transaction_id, self.transaction_time, self.amount, self.fraud]
        single += [self.customer_id, self.terminal_id, self.label_available_at]
        names = [name for name in single if name is not None] + [*self.extra_numeric, *self.extra_categorical]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns used twice: {', '.join(twice)}; map each source column once")
        return self


class LabelTable(_Section):
    """A table of labels of its own: chargebacks arrive later than transactions, and separately."""

    path: str
    transaction_id: str = "transaction_id"
    fraud: str = "fraud"
    label_available_at: str | None = "label_available_at"


class Data(_Section):
    """How the input is read, and what is demanded of it."""

    columns: Columns = Columns()
    labels: LabelTable | None = None
    max_rejected_share: Share = 0.01
    unlabelled_is_genuine: bool = True
    fraud_rate_band: tuple[Share, Share] = (0.0001, 0.05)
    retired_columns: tuple[str, ...] = ()
    """Columns that the input had once: a champion trained with them is scored with them missing."""

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
        low, high = self.fraud_rate_band
        if low >= high:
            raise ValueError(f"fraud_rate_band is [{low}, {high}]; its first number must be the smaller")
        return self


class Windows(_Section):
    """Lengths of the spans of time that a run looks at, in days."""

    label_delay_days: Days = 7
    holdout_days: Days = 7
    training_window_days: Days = 84
    known_card_window_days: Days = 14


class Training(_Section):
    """The gradient-boosted trees and their sample."""

    max_training_rows: Annotated[int, Field(ge=1000)] = 200_000
    min_training_frauds: Annotated[int, Field(ge=1)] = 50
    trees: Annotated[int, Field(ge=1, le=10_000)] = 200
    max_depth: Annotated[int, Field(ge=1, le=16)] = 4
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.08
    max_bin: Annotated[int, Field(ge=2, le=65_536)] = 1024
    max_categories: Annotated[int, Field(ge=1, le=1000)] = 20
    seed: Annotated[int, Field(ge=0)] = 7


class Comparison(_Section):
    """The promotion rule: when a challenger is really better."""

    minimum_holdout_frauds: Annotated[int, Field(ge=1)] = 200
    minimum_effect: Annotated[float, Field(ge=0.0)] = 0.01
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    planned_looks: Annotated[int, Field(ge=1)] = 720
    resamples: Annotated[int, Field(ge=100)] = 1000
    first_champion_floor: Annotated[float, Field(ge=1.0)] = 2.0
    card_precision_margin: Annotated[float, Field(ge=0.0)] = 0.005
    brier_margin: Annotated[float, Field(ge=0.0)] = 0.02
    slice_margin: Annotated[float, Field(ge=0.0)] = 0.02
    minimum_slice_frauds: Annotated[int, Field(ge=1)] = 50
    new_card_days: Days = 30
    seed: Annotated[int, Field(ge=0)] = 7


class Settings(_Section):
    """Everything a run can be told, by section."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$")] = "fraud_detection"
    progress_timeout_minutes: Annotated[float, Field(gt=0.0, le=1440.0)] = 30.0
    data: Data = Data()
    windows: Windows = Windows()
    training: Training = Training()
    comparison: Comparison = Comparison()

    @field_validator("data", "windows", "training", "comparison", mode="before")
    @classmethod
    def _empty_section_is_defaults(cls, value: object) -> object:
        return {} if value is None else value


def load_settings(path: Path) -> Settings:
    """Read and validate a YAML settings file.

    Raises:
        SettingsError: the file is absent, is not YAML, or breaks a rule; every broken rule is named at once.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} cannot be read: {error}; give another with --config") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"settings file {path} is not YAML: {_yaml_problem(error)}") from error
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"settings file {path} holds a {type(content).__name__}; expected names with values")
    try:
        return Settings.model_validate(content or {})
    except ValidationError as error:
        broken = "\n".join(f"  {_where(e['loc'])}: {e['msg']} (found {e['input']!r})" for e in error.errors())
        raise SettingsError(f"settings file {path} breaks {error.error_count()} rule(s):\n{broken}") from error


def _yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the piece of the line that PyYAML shows: it may be half an address."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return problem if mark is None else f"{problem}, in line {mark.line + 1}, column {mark.column + 1}"


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "file"
