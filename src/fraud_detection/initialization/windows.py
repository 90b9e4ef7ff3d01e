"""Windows, label delay and minimum counts that fit the length of the data and the number of its frauds."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_detection.holdout import holdout_rows
from fraud_detection.initialization.roles import Roles
from fraud_detection.runs.first_champion import first_holdout
from fraud_detection.sampling import training_rows
from fraud_detection.settings import ComparisonSettings, Settings, Training, Windows
from fraud_detection.time_windows import LOOK_BACK_DAYS, candidate_spans, first_champion_cutoff, whole_hour

_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULTS: dict[str, int] = Windows().model_dump()
_DELAY_QUANTILE = 0.9
LEAST_FRAUDS = 10
"""With fewer frauds on either side there is nothing to compare."""
_MARGIN = 0.8
_LONGEST_SHARE = 0.3
_LONGEST_HOLDOUT = 28
_WHOLE_DAYS = 3
_LONG_DAYS = 60


@dataclass(frozen=True)
class Span:
    """What the data hold: from when to when, and the frauds, in microseconds since 1970."""

    first: int
    last: int
    rows: int
    frauds: NDArray[np.int64]
    """Times of the frauds, sorted."""

    @property
    def days(self) -> float:
        """Its length."""
        return (self.last - self.first) / _DAY


@dataclass(frozen=True)
class Fit:
    """Settings that differ from their defaults, each with its value and the reason."""

    found: dict[str, tuple[object, str]] = field(default_factory=dict)
    training_frauds: int = 0
    """Of a first run with these settings, likewise below."""
    holdout_frauds: int = 0

    @property
    def is_enough(self) -> bool:
        """Whether a first run can decide."""
        return min(self.training_frauds, self.holdout_frauds) >= LEAST_FRAUDS


def find_span(roles: Roles, stride: int) -> Span:
    """The span of the rows with a time, and the times of the frauds (each stands for `stride` rows)."""
    moments = roles.time.moments[roles.time.known]
    frauds = np.sort(roles.time.moments[roles.time.known & roles.label.is_fraud])
    return Span(int(moments.min()), int(moments.max()), len(moments) * stride, np.repeat(frauds, stride))


def fit_windows(roles: Roles, span: Span) -> Fit:
    """The spans that fit this data, with the reason of each."""
    delay, reason = _label_delay(roles, span)
    maturity = max(delay, 1 / 24)
    matured = max(span.days - maturity, 2 / 24)
    holdout = _holdout(span, maturity, matured)
    training = _training(matured - holdout, looks_back=roles.card is not None or roles.terminal is not None)
    found = {
        "label_delay_days": as_days(delay),
        "maturity_days": as_days(maturity),
        "holdout_days": as_days(holdout),
        "training_window_days": as_days(training),
    }
    why = {
        "label_delay_days": reason,
        "maturity_days": "the label delay, at least an hour: after this a label counts as final",
        "holdout_days": "the newest matured rows, with enough frauds, and at most 30 % of the data",
        "training_window_days": f"what {span.days:.1f} days of data leave, after days that features look back to",
    }
    return Fit({name: (value, why[name]) for name, value in found.items() if value != _DEFAULTS[name]})


def fit_counts(settings: Settings, roles: Roles, span: Span, stride: int) -> Fit:
    """The minimum counts that a first run on this data meets, where the default ones are too high for it.

    Args:
        settings: with the columns and windows that were found.
        roles: the mapped columns.
        span: what the data hold.
        stride: every so many-th row was read.
    """
    training, holdout = count_frauds_of_a_run(settings, roles, span)
    training, holdout = training * stride, holdout * stride
    monthly = len(span.frauds) / max(span.days, 1.0) * settings.comparison.shadow_days
    wanted = {
        "min_training_frauds": (training, Training().min_training_frauds, "a first training window"),
        "minimum_holdout_frauds": (holdout, ComparisonSettings().minimum_holdout_frauds, "a first hold-out"),
        "first_look_frauds": (
            int(monthly),
            ComparisonSettings().first_look_frauds,
            "the time in shadow of a candidate",
        ),
    }
    found: dict[str, tuple[object, str]] = {}
    for name, (frauds, default, where) in wanted.items():
        if frauds * _MARGIN < default:
            least = max(LEAST_FRAUDS, math.floor(frauds * _MARGIN))
            if least < default:
                found[name] = (least, f"the default is {default}, and {where} of this data has about {frauds:,} frauds")
    return Fit(found, training, holdout)


def count_frauds_of_a_run(settings: Settings, roles: Roles, span: Span) -> tuple[int, int]:
    """Frauds in training window and hold-out of a first run on this data, as the run counts them."""
    frauds = _frauds(roles)
    as_of = whole_hour(_EPOCH + timedelta(microseconds=span.last)) + timedelta(hours=1)
    spans = candidate_spans(first_champion_cutoff(as_of, settings.windows), settings.windows)
    if not len(frauds):
        return 0, 0
    holdout = holdout_rows(frauds, frauds, first_holdout(spans, as_of, settings), settings)
    return int(training_rows(frauds, spans, settings)["fraud"].sum()), int(holdout["fraud"].sum())


def as_days(days: float) -> object:
    """A span as the settings write it: whole days, or hours where days are too coarse."""
    if days >= _WHOLE_DAYS or days == int(days):
        return int(days)
    return f"{max(1, math.floor(days * 24))}h"


def _frauds(roles: Roles) -> pd.DataFrame:
    """The frauds as the driver's tables have them."""
    used = roles.time.known & roles.label.is_fraud
    rows = pd.DataFrame(
        {
            "transaction_id": np.arange(int(used.sum())),
            "transaction_time": roles.time.moments[used].astype("datetime64[us]"),
            "fraud": np.ones(int(used.sum()), np.int8),
        }
    )
    if roles.card is not None:
        codes = roles.card.codes[used].astype(np.float64)
        rows["customer_id"] = np.where(codes < 0, np.nan, codes)
    if roles.label_time is not None:
        known = roles.label_time.moments[used]
        rows["label_available_at"] = known.astype("datetime64[us]")  # NO_TIME is numpy's own "not a time"
    return rows


def _label_delay(roles: Roles, span: Span) -> tuple[float, str]:
    """In days, with the reason."""
    if roles.label_time is not None:
        used = roles.time.known & roles.label_time.known & roles.label.is_fraud
        delays = roles.label_time.moments[used] - roles.time.moments[used]
        if len(delays):
            days = max(1, math.ceil(float(np.quantile(delays, _DELAY_QUANTILE)) / _DAY))
            return min(days, max(1, int(span.days / 3))), f"90 % of the frauds are known after {days} days"
    unseen = "the files do not say when a label became known; set the delay of your chargebacks"
    if span.days >= _LONG_DAYS:
        return 7, unseen
    if span.days >= _WHOLE_DAYS * 4:
        return int(span.days / 12), f"{unseen}; a twelfth of this short history"
    return 0, f"{unseen}; in so short a history labels count as known at once"


def _holdout(span: Span, maturity: float, matured: float) -> float:
    """Days of the hold-out: enough for the frauds that a first champion is judged on, of short data at most 30 %."""
    end = span.last - maturity * _DAY
    longest = _LONGEST_SHARE * matured
    wanted = ComparisonSettings().minimum_holdout_frauds / _MARGIN * 1.2
    days = float(_DEFAULTS["holdout_days"])
    while days < min(longest, _LONGEST_HOLDOUT) and _between(span, end - days * _DAY, end) < wanted:
        days += 1
    days = min(days, longest)
    return math.floor(days) if days >= _WHOLE_DAYS else max(1, math.floor(days * 24)) / 24


def _training(days: float, *, looks_back: bool) -> float:
    """Days of the training window, of those before the hold-out: the rest is what features look back to."""
    wanted = float(_DEFAULTS["training_window_days"])
    found = min(wanted, max(days - LOOK_BACK_DAYS, 0.75 * days) if looks_back else days)
    return math.floor(found) if found >= _WHOLE_DAYS else max(1, math.floor(found * 24)) / 24


def _between(span: Span, start: float, end: float) -> int:
    first, last = np.searchsorted(span.frauds, [start, end])
    return int(last - first)
