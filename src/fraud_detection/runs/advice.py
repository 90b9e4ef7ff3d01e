"""What would have allowed a decision: a setting with a value, or how long to wait, for each way to make none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from fraud_detection.promotion.sequential import LookState, NextLook, SequentialRule
from fraud_detection.schema import Check, Span
from fraud_detection.settings import Settings
from fraud_detection.time_windows import matured_until, run_windows, training_gap
from fraud_detection.transactions.profile import Profile
from fraud_detection.window_spans import span_setting

_DAY = timedelta(days=1)
_WINDOW = {"training_frauds": "windows.training_window_days", "holdout_frauds": "windows.holdout_days"}
_LIMIT = {"training_frauds": "training.min_training_frauds", "holdout_frauds": "comparison.minimum_holdout_frauds"}


@dataclass(frozen=True)
class Shortage:
    """What a candidate would be trained on, and a first champion compared on, where one of them is too little."""

    checks: Sequence[Check]
    training: Span
    holdout: Span | None
    """None beside a champion: a candidate's hold-out grows."""
    as_of: datetime
    profile: Profile
    settings: Settings

    def advice(self) -> str:
        """The next steps, one of which would have allowed a decision, as the end of a reason; empty without one."""
        failed = [check for check in self.checks if not check.passed and check.name in _LIMIT]
        empty = [check for check in failed if not self._span(check).transactions]
        cause = ""
        if self.holdout is not None and any(check.name == "holdout_frauds" for check in failed):
            cause = known_cards(self.profile, self.holdout, self.settings)
        limits = [] if cause and self.holdout and not self.holdout.frauds else self._lower_limits(failed)
        steps = self._longer_history() if empty else [*limits, *self._longer_windows(failed)]
        if cause:
            steps.append("give frauds of more cards, or set windows.known_card_window_days to less")
        at = self._enough_at()
        if at is not None:
            steps.append(f"wait until about {at:%Y-%m-%d}")
        return f"{cause}; next: {', or '.join(steps)}" if steps else cause

    def _span(self, check: Check) -> Span:
        return self.training if check.name == "training_frauds" or self.holdout is None else self.holdout

    def _lower_limits(self, failed: Sequence[Check]) -> list[str]:
        found = [(_LIMIT[check.name], self._span(check).frauds) for check in failed]
        if any(frauds == 0 for _, frauds in found):
            return ["look at the labels: without one known fraud there is nothing to learn or to compare"]
        return ["set " + " and ".join(f"{name} to {frauds} or less" for name, frauds in found)] if found else []

    def _longer_windows(self, failed: Sequence[Check]) -> list[str]:
        """Where one longer window would do; a longer hold-out takes its days from the training window's end."""
        if len(failed) != 1:
            return []
        (check,) = failed
        days = self._days_with(check)
        return [] if days is None else [f"set {_WINDOW[check.name]} to about {days}"]

    def _days_with(self, check: Check) -> int | None:
        """How many days before the end of a window have frauds enough; None where the data are too short for it."""
        span, needed = self._span(check), check.limit or 0.0
        hours = self.profile.hours
        by_hour = self.profile.frauds_by_hour[hours < np.datetime64(span.end.replace(tzinfo=None), "h")][::-1]
        share = 1.0  # of the frauds that count: those of known cards do not
        counted = by_hour[: int((span.end - span.start) / timedelta(hours=1))].sum()
        if counted:
            share = min(1.0, span.frauds / float(counted))
        enough = np.flatnonzero(np.cumsum(by_hour) * share >= needed)
        days = math.ceil((int(enough[0]) + 1) / 24) if len(enough) else None
        longer = days is not None and days * _DAY > span.end - span.start
        fits = days is not None and (check.name != "holdout_frauds" or 2 * days * 24 <= len(by_hour))
        return days if longer and fits else None

    def _longer_history(self) -> list[str]:
        """Where a window has not one transaction: the data begin too late, or end too early."""
        first, windows = self.profile.first, run_windows(self.as_of, self.settings.windows)
        known = self.as_of - first
        maturity = self.as_of - windows.holdout_end
        if self.profile.newest < windows.holdout_start:
            return [f"give newer transactions, or an earlier --as-of: the newest are of {self.profile.newest:%Y-%m-%d}"]
        days = f"the data begin {known / _DAY:.0f} days before the as-of time"
        if known <= maturity:
            return [f"set windows.maturity_days and windows.label_delay_days to less than that: {days}", *_OLDER]
        hours = (known - maturity - training_gap(self.settings.windows)) / 2 // timedelta(hours=1)
        fits = hours // 24 if hours >= 24 else hours / 24
        set_to = self.settings.windows.holdout_days
        if 0 < fits < set_to:
            value = f"{span_setting(fits)} or less, it is {span_setting(set_to)}"
            return [f"set windows.holdout_days to {value}: {days}", *_OLDER]
        return _OLDER

    def _enough_at(self) -> datetime | None:
        """When the windows hold frauds enough at the rate of the matured days; None where waiting does not help."""
        first, settings = self.profile.first, self.settings
        windows = run_windows(self.as_of, settings.windows)
        matured = matured_until(self.as_of, settings.windows)
        rate = self._frauds_a_day(first, matured if matured - first > _DAY else self.as_of)
        if not rate:
            return None
        holdout = windows.holdout_end - windows.holdout_start if self.holdout is not None else timedelta()
        training = windows.training_end - windows.training_start
        needed = timedelta(days=math.ceil(settings.training.min_training_frauds / rate))
        if needed > training or (holdout and holdout / _DAY * rate < settings.comparison.minimum_holdout_frauds):
            return None
        gap, maturity = training_gap(settings.windows), self.as_of - matured
        at = first + max(needed, _DAY) + gap + holdout + maturity + _DAY
        return at if at > self.as_of else None

    def _frauds_a_day(self, start: datetime, end: datetime) -> float:
        before = self.profile.hours < np.datetime64(end.replace(tzinfo=None), "h")
        return float(self.profile.frauds_by_hour[before].sum()) / max((end - start) / _DAY, 1.0)


def known_cards(profile: Profile, holdout: Span, settings: Settings) -> str:
    """How many frauds of a hold-out do not count, since their cards were known as compromised; empty where all count.

    Args:
        profile: of the data.
        holdout: with the frauds that count.
        settings: of the run.
    """
    left_out = _labelled(profile, holdout) - holdout.frauds
    if settings.data.columns.customer_id is None or left_out <= 0:
        return ""
    days = span_setting(settings.windows.known_card_window_days)
    return (
        f"; {left_out:,} more frauds of the hold-out are left out: their cards had a known fraud within"
        f" windows.known_card_window_days ({days}) before"
    )


def _labelled(profile: Profile, span: Span) -> int:
    """The frauds of a span, of all cards."""
    start, end = (np.datetime64(moment.replace(tzinfo=None), "h") for moment in (span.start, span.end))
    return int(profile.frauds_by_hour[(profile.hours >= start) & (profile.hours < end)].sum())


_OLDER = ["give older transactions, too"]


def waiting_advice(one: NextLook, rule: SequentialRule, holdout_days: float, as_of: datetime) -> str:
    """Which setting a look waits for, and a value with which it would have been due.

    Args:
        one: the look.
        rule: of the run.
        holdout_days: how long its hold-out is so far.
        as_of: of the run.
    """
    match one.state:
        case LookState.WAITS_FOR_FRAUDS:
            needed, frauds = one.frauds_needed, one.counts.frauds
            least = rule.first_look_frauds * frauds // needed
            lower = f"set comparison.first_look_frauds, {rule.first_look_frauds}, to {least} or less" if least else ""
            days = holdout_days * (needed - frauds) / frauds if frauds else 0.0
            wait = f"wait until about {as_of + timedelta(days=math.ceil(days)):%Y-%m-%d}" if days else "wait"
            return f"; next: {', or '.join(filter(None, (wait, lower)))}"
        case LookState.WAITS_FOR_CARDS:
            return f"; next: wait; no setting lets a look rest on fewer than {rule.minimum_fraud_cards} cards"
        case LookState.WAITS_FOR_RISK:
            return "; next: wait; comparison.looks and comparison.candidate_every_hours say how many there are"
    return ""
