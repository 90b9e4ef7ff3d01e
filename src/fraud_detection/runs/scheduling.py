"""What is due after a run: the content of `schedule/MODEL.json`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from fraud_detection.holdout import EverFrauds, HoldoutSpan, holdout_rows
from fraud_detection.labels import Labels
from fraud_detection.promotion.sequential import HoldoutCounts, NextLook, next_opening, risk_returns
from fraud_detection.runs.blocks import Block
from fraud_detection.runs.shadow import Shadow
from fraud_detection.sampling import DAY, naive
from fraud_detection.schedule import Maturing, Schedule, ScheduleBlock, ScheduledLook
from fraud_detection.schema import CandidateKey, Check, Decision, Outcome
from fraud_detection.settings import Settings
from fraud_detection.time_windows import matured_until

_HOUR = timedelta(hours=1)
_LATE = timedelta(days=7)
"""In which late labels are counted."""


@dataclass(frozen=True)
class RunEnd:
    """What a run leaves behind."""

    shadow: Shadow
    """With the candidates that the run opened, and the looks that it took."""
    block: Block | None
    checks: tuple[Check, ...]
    """That failed, so that there was no test of a first champion."""
    clock: datetime
    commands: int
    """Of people, in the log when the run began to read it."""


@dataclass(frozen=True)
class Holdout:
    """The known frauds of a candidate's hold-out, matured or not."""

    start: datetime
    frauds: pd.DataFrame
    """See `count_from`."""

    @property
    def new_card(self) -> "pd.Series[bool]":
        """Whether the card of each fraud has no earlier one here; without card ids every transaction is a card."""
        card = self.frauds["card"]
        return card.isna() | ~card.duplicated()

    def counts_at(self, as_of: datetime) -> HoldoutCounts:
        """Those that count at an as-of time."""
        matured = self.frauds["counts"] <= naive(as_of)
        return HoldoutCounts(int(matured.sum()), int(self.new_card[matured].sum()))


def make_schedule(end: RunEnd, holdouts: Mapping[CandidateKey, Holdout]) -> Schedule:
    """What is due after a run, as long as its decision does not change what serves; see `after_decision`."""
    shadow = end.shadow
    block = end.block or _risk_block(shadow)
    champion = shadow.champion.version if shadow.champion else None
    return Schedule(
        model_name=shadow.settings.model_name,
        as_of=shadow.as_of,
        written_at=end.clock,
        champion_version=champion,
        compared_with=champion,
        next_candidate_at=_next_candidate(end),
        look_every_hours=shadow.settings.comparison.look_every_hours,
        block=block and ScheduleBlock(reason=block.reason, until=block.until),
        late_frauds_a_day=_late_frauds_a_day(holdouts.values(), shadow),
        commands=end.commands,
        looks=tuple(_scheduled(look, holdouts[look.look.candidate], shadow) for look in _next_looks(holdouts, shadow)),
    )


def after_decision(schedule: Schedule, decision: Decision) -> Schedule:
    """The schedule once the decision stands: what serves now. Beside a first champion candidates are opened at once."""
    if decision.outcome is not Outcome.PROMOTED:
        return schedule
    first = schedule.compared_with is None
    opens = schedule.as_of + _HOUR if first else schedule.next_candidate_at
    return schedule.model_copy(update={"champion_version": decision.version, "next_candidate_at": opens})


def count_from(frauds: pd.DataFrame, span: HoldoutSpan, settings: Settings) -> pd.DataFrame:
    """From when on each known fraud of a hold-out counts, known cards left out.

    Args:
        frauds: the rows that ever were frauds; see `holdout.holdout_rows`.
        span: to the last transaction there is, labelled as known when it has matured.
        settings: of the run.

    Returns:
        A row for each, oldest first: `counts` (the first whole hour as of which it is in the hold-out, with its label
        known), `known` (when its label became known) and `new_card` (whether its card has no earlier one).
    """
    rows = holdout_rows(frauds, frauds, span, settings)
    rows = rows[rows["fraud"] == 1]
    windows = settings.windows
    delay, maturity = timedelta(days=windows.label_delay_days), timedelta(days=windows.maturity_days)
    spans = Labels.of_frame(rows, delay).fraud_spans()[0]
    known = pd.Series(spans.min(axis=0).astype("datetime64[us]"), index=rows.index)
    # The transactions of [hour, hour + 1) are all before as_of − maturity from as_of = hour + 1 + maturity on.
    matured = rows["transaction_time"].dt.floor("h") + _HOUR + pd.Timedelta(maturity)
    found = pd.DataFrame({"counts": np.maximum(matured, known.dt.ceil("h")), "known": known})
    found["time"], found["card"] = rows["transaction_time"], rows.get("customer_id")
    return found.sort_values("counts", kind="stable", ignore_index=True)


def find_holdouts(shadow: Shadow, ever_frauds: EverFrauds) -> dict[CandidateKey, Holdout]:
    """The hold-out of each candidate alive, to the last transaction there is."""
    spans = shadow.maturing_spans()
    if not spans:
        return {}
    frauds = ever_frauds.covering(spans.values())
    return {key: Holdout(span.start, count_from(frauds, span, shadow.settings)) for key, span in spans.items()}


def _next_looks(holdouts: Mapping[CandidateKey, Holdout], shadow: Shadow) -> tuple[NextLook, ...]:
    return shadow.following_looks({key: holdout.counts_at(shadow.as_of) for key, holdout in holdouts.items()})


def _scheduled(one: NextLook, holdout: Holdout, shadow: Shadow) -> ScheduledLook:
    counts, cards_needed = one.counts, shadow.rule.minimum_fraud_cards
    young = holdout.frauds["counts"] > naive(shadow.as_of)
    by_hour = holdout.new_card[young].groupby(holdout.frauds["counts"][young]).agg(["size", "sum"])
    before = by_hour.cumsum().shift(fill_value=0)  # hours after the one in which the look becomes due are left out
    waits = (counts.frauds + before["size"] < one.frauds_needed) | (counts.fraud_cards + before["sum"] < cards_needed)
    return ScheduledLook(
        candidate=one.look.candidate,
        number=one.look.number,
        holdout_start=holdout.start,
        frauds=counts.frauds,
        frauds_needed=one.frauds_needed,
        fraud_cards=counts.fraud_cards,
        fraud_cards_needed=cards_needed,
        maturing={
            hour.to_pydatetime().replace(tzinfo=UTC): Maturing(frauds=int(frauds), new_cards=int(cards))
            for hour, frauds, cards in by_hour[waits].itertuples()
        },
    )


def _late_frauds_a_day(holdouts: Collection[Holdout], shadow: Shadow) -> float:
    """How many frauds a day began to count within a day after their label became known, in the longest hold-out.

    0 where the data have no label times: nobody can say then when a label came.
    """
    if not holdouts or not shadow.settings.has_label_times:
        return 0.0
    longest = min(holdouts, key=lambda holdout: holdout.start)
    period = min(matured_until(shadow.as_of, shadow.settings.windows) - longest.start, _LATE)
    if period < timedelta(days=1):
        return 0.0
    found, now = longest.frauds, naive(shadow.as_of)
    recent = found[(found["counts"] <= now) & (found["counts"] > now - period)]
    late = int((recent["known"] > recent["counts"] - DAY).sum())
    return round(late / (period / timedelta(days=1)), 2)


def _next_candidate(end: RunEnd) -> datetime:
    """When a candidate is to be opened next; without a champion, when a model is tested that may become the first.

    Where a test was not possible, or is not allowed, a day's more labels are waited for.
    """
    shadow = end.shadow
    if shadow.champion is not None:
        return next_opening(shadow.as_of, shadow.rule)
    if end.block is None and not end.checks:
        return shadow.next_look_time()
    return shadow.as_of + timedelta(days=1)


def _risk_block(shadow: Shadow) -> Block | None:
    until = risk_returns(shadow.entries, shadow.as_of, shadow.rule)
    if until is None:
        return None
    looks = shadow.rule.looks_in_period
    reason = f"all {looks} looks of the last 30 days are taken; the next can be at {until:%Y-%m-%d %H:%M}"
    return Block(reason, until=until)
