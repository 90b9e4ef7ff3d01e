"""What the report says of candidates in shadow: the looks at one, the next look at each, and the risk ledger."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fraud_detection.data_health.drift import drifted_text
from fraud_detection.promotion.sequential import NextLook
from fraud_detection.report.data import LoggedLook, ShadowData
from fraud_detection.report.plots import CHART_HEIGHT, Axis, Curve, Dot, Mark, Plot, Tick, across, down, value_ticks
from fraud_detection.report.wording import count, moment, signed
from fraud_detection.schema import CandidateKey, LookLimitsRecord


@dataclass(frozen=True)
class LookRow:
    """One look at the candidate; numbers that are not finite, or were not measured, are None."""

    as_of: datetime
    number: int
    champion_version: int | None
    frauds: int
    fraud_cards: int
    difference: float | None
    lower_bound: float | None
    needed: float | None
    """The difference that the look had to reach."""
    root: float | None
    root_needed: float | None
    passed: bool


@dataclass(frozen=True)
class CandidateRow:
    """The next look at one candidate."""

    label_cutoff: datetime
    recipe: str
    training_end: datetime | None
    backfilled: bool
    number: int
    frauds: int
    frauds_needed: int
    state: str
    early: str = ""
    """The drift for which it was opened early."""


@dataclass(frozen=True)
class Shadow:
    """Looks, candidates and ledger; nothing of it depends on how the decision comes out."""

    risk: float
    opened: int
    """Looks of the last 30 days."""
    allowed: int
    candidates: tuple[CandidateRow, ...]
    looks: tuple[LookRow, ...]
    """At the candidate that the decision shows, oldest first."""
    next_look: CandidateRow | None
    """At that candidate."""
    life: Plot | None


def draw_shadow(data: ShadowData) -> Shadow:
    """The rows and the figure of the candidates in shadow."""
    rows = {one.look.candidate: _candidate_row(one, data) for one in data.next_looks}
    shown: CandidateKey | None = data.life[-1].record.candidate if data.life else None
    looks = tuple(_look_row(one) for one in data.life)
    next_look = rows.get(shown) if shown is not None else None
    return Shadow(
        risk=data.risk,
        opened=data.ledger.opened,
        allowed=data.ledger.allowed,
        candidates=tuple(rows[key] for key in sorted(rows)),
        looks=looks,
        next_look=next_look,
        life=_life([look for look in looks if look.difference is not None], next_look),
    )


def _candidate_row(one: NextLook, data: ShadowData) -> CandidateRow:
    key, record = one.look.candidate, data.records.get(one.look.candidate)
    return CandidateRow(
        label_cutoff=key.label_cutoff,
        recipe=key.recipe[:8],
        training_end=None if record is None else record.training.end,
        backfilled=record is not None and record.backfilled,
        number=one.look.number,
        frauds=one.counts.frauds,
        frauds_needed=one.frauds_needed,
        state=one.state.value,
        early=drifted_text(record.drifted) if record is not None and record.drifted else "",
    )


def _look_row(one: LoggedLook) -> LookRow:
    record, limits = one.record, one.record.limits
    return LookRow(
        as_of=one.as_of,
        number=record.number,
        champion_version=record.champion_version,
        frauds=record.holdout.frauds,
        fraud_cards=record.fraud_cards,
        difference=None if record.difference is None else record.difference.value,
        lower_bound=_finite(record.lower_bound),
        needed=None if limits is None else _finite(_needed(limits)),
        root=_finite(record.root),
        root_needed=None if limits is None else _finite(limits.root),
        passed=record.passed,
    )


def _needed(limits: LookLimitsRecord) -> float:
    return max(limits.difference_for_unseen_cards, limits.difference_that_matters)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _life(looks: Sequence[LookRow], next_look: CandidateRow | None) -> Plot | None:
    """The difference at each look over the matured frauds, with its lower bound and what it had to reach.

    None without a bound: a first champion has one test, and no life in shadow.
    """
    if not looks or all(look.needed is None for look in looks):
        return None
    frauds = [max(1, look.frauds) for look in looks]
    ahead = [next_look.frauds_needed] if next_look is not None else []
    x_axis = Axis(0.85 * min(frauds), 1.15 * max(frauds + ahead), logarithmic=True)
    y_axis = _difference_axis(looks)
    return Plot(
        height=CHART_HEIGHT,
        x_ticks=_apart([Tick(across(x_axis(at)), count(at)) for at in sorted({*frauds})]),
        y_ticks=tuple(Tick(down(1 - tick.at), tick.label) for tick in value_ticks(y_axis)),
        curves=tuple(
            Curve(_segment(x_axis(at), y_axis(look.needed)), "needed")
            for at, look in zip(frauds, looks, strict=True)
            if look.needed is not None
        ),
        dots=tuple(_dot(at, look, looks[-1], x_axis, y_axis) for at, look in zip(frauds, looks, strict=True)),
        marks=tuple(Mark(across(x_axis(at)), f"next look: {count(at)} frauds") for at in ahead),
        zero=down(1 - y_axis(0.0)),
    )


def _difference_axis(looks: Sequence[LookRow]) -> Axis:
    """It shows zero, every difference and what it had to reach; a bound far below leaves at the lower end."""
    values = [0.0, *(value for look in looks for value in (look.difference, look.needed) if value is not None)]
    high, low = max(values), min(values)
    bounds = [look.lower_bound for look in looks if look.lower_bound is not None]
    low = min(low, max(min(bounds, default=0.0), low - (high - low)))
    room = 0.1 * (high - low) or 0.01
    return Axis(low - room, high + room)


def _segment(x: float, y: float) -> str:
    """A short horizontal line around a point of the unit square, y upwards."""
    return f"M{max(0, 1000 * x - 28):.0f} {down(1 - y)}H{min(1000, 1000 * x + 28):.0f}"


def _dot(frauds: int, look: LookRow, last: LookRow, x_axis: Axis, y_axis: Axis) -> Dot:
    difference = look.difference or 0.0
    bound = difference if look.lower_bound is None else look.lower_bound
    version = "the floor" if look.champion_version is None else f"v{look.champion_version}"
    return Dot(
        x=across(x_axis(frauds)),
        y=down(1 - y_axis(difference)),
        top=down(1 - y_axis(max(bound, difference))),
        bottom=down(1 - y_axis(bound)),
        hollow=look.champion_version != last.champion_version,
        title=f"look {look.number} against {version}, {moment(look.as_of)}: {signed(look.difference)},"
        f" at least {signed(look.lower_bound)} at the risk of the look; needed {signed(look.needed)}",
        role="challenger",
    )


def _apart(ticks: Sequence[Tick], distance: float = 7.0) -> tuple[Tick, ...]:
    """Without ticks whose labels would overlap on a phone; the last one stays."""
    kept: list[Tick] = []
    for tick in reversed(ticks):
        if not kept or kept[-1].at - tick.at >= distance:
            kept.append(tick)
    return tuple(reversed(kept))
