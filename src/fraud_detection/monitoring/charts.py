"""The geometry of the dashboard's charts, on one time axis; see `report.plots` for its units."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fraud_detection.monitoring.history import History, Measurement
from fraud_detection.monitoring.service_weeks import ServiceWeek
from fraud_detection.report.plots import (
    CHART_HEIGHT,
    TOPS,
    Axis,
    Band,
    Dot,
    Mark,
    Plot,
    Tick,
    across,
    day_ticks,
    down,
    round_step,
)
from fraud_detection.report.wording import moment, number
from fraud_detection.schema import Outcome

SHOWN_DAYS = 180
"""The page looks back this far."""
RUNS_HEIGHT = 60
_SHOWN_RUN_DAYS = 42


@dataclass(frozen=True)
class ServiceChart:
    """Which version served when."""

    bands: tuple[Band, ...]
    ticks: tuple[Tick, ...]


def service(history: History, end: datetime) -> ServiceChart | None:
    """The versions in service up to `end`; None where none ever was."""
    axis = _axis(history, end)
    if axis is None or not history.changes:
        return None
    bands = []
    following = [*(change.at for change in history.changes[1:]), max(end, history.changes[-1].at)]
    for change, until in zip(history.changes, following, strict=True):
        begin, width = axis(change.at.timestamp()), axis(until.timestamp()) - axis(change.at.timestamp())
        if until.timestamp() <= axis.low:
            continue
        name = "none" if change.version is None else f"v{change.version}"
        role = "none" if change.version is None else "odd" if change.version % 2 else "even"
        bands.append(Band(role, name if width > 0.03 else "", across(begin), across(width), width < 0.08))
    return ServiceChart(tuple(bands), day_ticks(axis))


def quality(history: History, end: datetime) -> Plot | None:
    """Average precision of champion and challenger at each run that measured them; None without any."""
    shown = _shown(history)
    axis = _axis(history, end) if shown else None
    if axis is None:
        return None
    values = [value for one in shown for value in (one.champion, one.challenger) if value is not None]
    top = round_step(max(values) or 0.01, TOPS)
    marks = tuple(
        Mark(across(axis(change.at.timestamp())), f"v{change.version}")
        for change in history.changes
        if change.version is not None and axis.low <= change.at.timestamp() <= axis.high
    )
    return Plot(
        height=CHART_HEIGHT,
        x_ticks=day_ticks(axis),
        y_ticks=tuple(Tick(down(1 - k / 4), number(top * k / 4, 2)) for k in range(5)),
        curves=(),
        dots=tuple(dot for one in shown for dot in _dots(one, axis, top)),
        marks=marks,
    )


def service_weeks(weeks: Sequence[ServiceWeek]) -> Plot | None:
    """Average precision of each version in each week of its service, with its interval; None without any."""
    measured = [(one, one.average_precision) for one in weeks if one.average_precision is not None]
    if not measured:
        return None
    last = measured[-1][0].end
    shown = [(one, ap) for one, ap in measured if one.end > last - timedelta(days=SHOWN_DAYS)]
    margin = timedelta(days=2)
    axis = Axis((shown[0][0].start - margin).timestamp(), (last + margin).timestamp())
    top = round_step(max(ap.value if ap.high is None else ap.high for _, ap in shown) or 0.01, TOPS)
    dots, marks, before = [], [], None
    for one, ap in shown:
        if one.version != before:
            marks.append(Mark(across(axis(one.start.timestamp())), f"v{one.version}"))
        before = one.version
        middle = one.start + (one.end - one.start) / 2
        low, high = (ap.value if bound is None else bound for bound in (ap.low, ap.high))
        title = f"v{one.version}, {one.start:%Y-%m-%d} to {one.end:%Y-%m-%d}: {number(ap.value)}, {one.frauds:,} frauds"
        place = across(axis(middle.timestamp()))
        y, highest, lowest = (down(1 - value / top) for value in (ap.value, high, low))
        dots.append(Dot(place, y, highest, lowest, hollow=False, title=title, role="champion"))
    return Plot(
        height=CHART_HEIGHT,
        x_ticks=day_ticks(axis),
        y_ticks=tuple(Tick(down(1 - k / 4), number(top * k / 4, 2)) for k in range(5)),
        curves=(),
        dots=tuple(dots),
        marks=tuple(marks),
    )


def _dots(one: Measurement, axis: Axis, top: float) -> list[Dot]:
    x = across(axis(one.as_of.timestamp()))
    rows = f"as of {moment(one.as_of)}, {one.frauds:,} frauds of the hold-out to {moment(one.holdout_end)}"
    found = []
    name = f"champion v{one.champion_version}"
    for role, label, value in (("champion", name, one.champion), ("challenger", "challenger", one.challenger)):
        if value is not None:
            y = down(1 - value / top)
            hollow = role == "challenger" and one.outcome is not Outcome.PROMOTED
            found.append(Dot(x, y, y, y, hollow=hollow, title=f"{label}: {number(value)} {rows}", role=role))
    return found


@dataclass(frozen=True)
class Stack:
    """The runs of a day: parts from the bottom up, each with its outcome, height and place in pixels."""

    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    title: str


@dataclass(frozen=True)
class RunBars:
    """How the runs of each day ended."""

    stacks: tuple[Stack, ...]
    top: int
    ticks: tuple[Tick, ...]


_ORDER = (Outcome.PROMOTED, Outcome.NEEDS_REVIEW, Outcome.REFUSED, Outcome.NO_DECISION)


def runs_by_day(history: History) -> RunBars | None:
    """How the runs of the last six weeks ended, by day; a day without a bar had no run that decided anything."""
    if not history.days:
        return None
    last = history.days[-1].day
    first = max(history.days[0].day, last - timedelta(days=_SHOWN_RUN_DAYS - 1))
    days = (last - first).days + 1
    shown = [one for one in history.days if one.day >= first]
    top = max(sum(one.outcomes.values()) for one in shown)
    stacks = []
    for one in shown:
        parts, y = [], float(RUNS_HEIGHT)
        for outcome in _ORDER:
            height = RUNS_HEIGHT * one.outcomes.get(outcome, 0) / top
            if height:
                y -= height
                parts.append((outcome.value.replace("_", "-"), round(y, 1), round(height, 1)))
        said = ", ".join(
            f"{one.outcomes[name]} {name.value.replace('_', ' ')}" for name in _ORDER if name in one.outcomes
        )
        stacks.append(
            Stack(across((one.day - first).days / days), across(0.86 / days), tuple(parts), f"{one.day}: {said}")
        )
    begin = datetime.combine(first, datetime.min.time(), UTC).timestamp()
    return RunBars(tuple(stacks), top, day_ticks(Axis(begin, begin + 86_400 * days)))


def _shown(history: History) -> list[Measurement]:
    if not history.measurements:
        return []
    since = history.measurements[-1].as_of - timedelta(days=SHOWN_DAYS)
    return [one for one in history.measurements if one.as_of >= since]


def _axis(history: History, end: datetime) -> Axis | None:
    """From the first event of the last months to the end, with a margin; None where that is no span."""
    times = [one.at for one in history.changes] + [one.as_of for one in history.measurements]
    if not times:
        return None
    end = max(end, *times)
    begin = max(min(times), end - timedelta(days=SHOWN_DAYS))
    margin = max((end - begin) * 0.03, timedelta(hours=12))
    return Axis((begin - margin).timestamp(), (end + margin).timestamp())
