"""The geometry of the charts: data in, positions out; `charts.html.j2` draws them as inline SVG.

Across, positions are percentages of the plot's width and down they are pixels, so that a chart fills a desktop and a
phone alike while its text and strokes keep their size. Curves cannot be given in percent: they are paths in a box
1000 units wide that is stretched to the plot.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from fraud_detection.data_health.counts import CountBand
from fraud_detection.evaluation import metrics
from fraud_detection.evaluation.metrics import CalibrationBin, precision_recall_curve
from fraud_detection.report.data import DailyCounts, DailyPrecision, FloatArray, LabelDelays
from fraud_detection.report.wording import duration, number, percent, signed
from fraud_detection.schema import Decision, Difference
from fraud_detection.window_spans import span_text

CURVE_POINTS = 300
"""A curve is thinned to at most this many points; a phone has fewer pixels across, a desktop hardly more."""

MOST_BARS = 180
"""More days than this are drawn as means over several days."""

CHART_HEIGHT = 240
ROW_HEIGHT = 84
MOST_GROUPS = 9
FEWEST_GROUP_ROWS = 100
SMALLEST_RATE = 1e-5
"""The lowest end of the calibration plot: a logarithmic axis has no zero."""


@dataclass(frozen=True)
class Axis:
    """A span of values on [0, 1], linear or logarithmic."""

    low: float
    high: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies; one beyond an end lies on that end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        return (at - low) / (high - low)


@dataclass(frozen=True)
class Tick:
    """A labelled position: percent across or pixels down."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """A path in a box 1000 wide, drawn in the style of `role`."""

    path: str
    role: str


@dataclass(frozen=True)
class Dot:
    """A mark at (percent, pixels) with a whisker from `top` to `bottom`; hollow where the value lies below the axis."""

    x: float
    y: float
    top: float
    bottom: float
    hollow: bool
    title: str
    role: str


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line, in percent across."""

    at: float
    label: str


@dataclass(frozen=True)
class Plot:
    """Curves, dots and vertical marks in a frame with two labelled axes."""

    height: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    dots: tuple[Dot, ...] = ()
    marks: tuple[Mark, ...] = ()
    zero: float | None = None
    """Pixels down to a line at zero."""


@dataclass(frozen=True)
class Bar:
    """A column at `x`, `width` percent wide, with its tooltip; `pending` where labels are still to come."""

    x: float
    width: float
    y: float
    height: float
    title: str
    pending: bool


@dataclass(frozen=True)
class Bars:
    """One row of columns over the time axis."""

    caption: str
    bars: tuple[Bar, ...]
    top_label: str


@dataclass(frozen=True)
class Band:
    """A span of the run on the time axis; `narrow` ones have no room for a label on a phone."""

    role: str
    label: str
    x: float
    width: float
    narrow: bool


@dataclass(frozen=True)
class Timeline:
    """The windows of a run, and under them the days' transactions and fraud rates, on one time axis."""

    bands: tuple[Band, ...]
    ticks: tuple[Tick, ...]
    rows: tuple[Bars, ...]


@dataclass(frozen=True)
class Forest:
    """A difference with its interval, zero, and the minimum effect, all in percent across."""

    low: float
    high: float
    value: float
    zero: float
    minimum: float | None
    ticks: tuple[Tick, ...]
    label: str
    minimum_label: str


def forest(difference: Difference, minimum_effect: float | None) -> Forest:
    """Draw a difference on an axis that always shows zero and the minimum effect."""
    shown = [difference.low, difference.high, difference.value, 0.0, minimum_effect or 0.0]
    room = 0.15 * (max(shown) - min(shown)) or 0.01
    axis = Axis(min(shown) - room, max(shown) + room)
    return Forest(
        low=across(axis(difference.low)),
        high=across(axis(difference.high)),
        value=across(axis(difference.value)),
        zero=across(axis(0.0)),
        minimum=across(axis(minimum_effect)) if minimum_effect else None,
        ticks=tuple(Tick(across(tick.at), tick.label) for tick in value_ticks(axis)),
        label=f"{signed(difference.value)}  [{signed(difference.low)}, {signed(difference.high)}]",
        minimum_label=f"needed {signed(minimum_effect)}" if minimum_effect else "",
    )


def value_ticks(axis: Axis) -> tuple[Tick, ...]:
    """Round signed values on a linear axis, at their place in [0, 1]."""
    step = round_step((axis.high - axis.low) / 5)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return tuple(Tick(axis(k * step), signed(k * step, decimals) if k else "0") for k in range(first, last + 1))


def precision_recall(fraud: NDArray[np.generic], scores: dict[str, FloatArray]) -> Plot | None:
    """Precision over recall for each role's score, with the prevalence; None without a fraud in the hold-out."""
    if not fraud.any():
        return None
    curves = [Curve(f"M0 {down(1 - float(fraud.mean()))}H1000", "prevalence")]
    for role, score in scores.items():
        curves.append(Curve(_path(*_precision_recall_points(fraud, score)), role))
    ticks = [k / 5 for k in range(6)]
    return Plot(
        height=CHART_HEIGHT,
        x_ticks=tuple(Tick(across(at), number(at, 1)) for at in ticks),
        y_ticks=tuple(Tick(down(1 - at), number(at, 1)) for at in ticks),
        curves=tuple(curves),
    )


def _precision_recall_points(fraud: NDArray[np.generic], score: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Recall and precision, thinned evenly along recall, from recall zero on."""
    curve = precision_recall_curve(fraud, score)
    keep = np.unique(np.searchsorted(curve.recall, np.linspace(curve.recall[0], 1.0, CURVE_POINTS)))
    recall, precision = curve.recall[keep], curve.precision[keep]
    return np.append(0.0, recall), np.append(precision[0], precision)


def calibration(fraud: NDArray[np.generic], scores: dict[str, FloatArray]) -> Plot | None:
    """Mean predicted against observed fraud rate, by score quantile, on logarithmic axes; None without any fraud.

    The lowest group is half of the rows, the next a quarter, and so on: nearly all frauds are in the highest few
    percent, where equal groups would show a single point. Whiskers are 95 % Wilson intervals of the observed rate.
    """
    if not fraud.any():
        return None
    bins = {role: metrics.calibration(fraud, score, _halving_edges(score)) for role, score in scores.items()}
    rates = [rate for rows in bins.values() for group in rows for rate in (group.mean_probability, group.fraud_rate)]
    smallest = min((rate for rate in rates if rate > SMALLEST_RATE), default=SMALLEST_RATE)
    lowest_decade = min(-1, math.floor(math.log10(smallest)))
    axis = Axis(10.0**lowest_decade, 1.0, logarithmic=True)
    decades = [10.0**power for power in range(lowest_decade, 1)]
    return Plot(
        height=CHART_HEIGHT,
        x_ticks=tuple(Tick(across(axis(at)), percent(at)) for at in decades),
        y_ticks=tuple(Tick(down(1 - axis(at)), percent(at)) for at in decades),
        curves=(Curve(f"M0 {CHART_HEIGHT}L1000 0", "ideal"),),
        dots=tuple(_calibration_dot(role, group, axis) for role, rows in bins.items() for group in rows),
    )


def _halving_edges(score: FloatArray) -> tuple[float, ...]:
    """The score quantiles 0, 1/2, 3/4, 7/8 … 1, as long as a group holds enough rows."""
    groups = min(MOST_GROUPS, max(1, int(math.log2(max(1.0, len(score) / FEWEST_GROUP_ROWS))) + 1))
    shares = [1 - 0.5**k for k in range(groups)]
    return tuple(np.quantile(score, [*shares, 1.0]).tolist())


def _calibration_dot(role: str, group: CalibrationBin, axis: Axis) -> Dot:
    frauds = round(group.fraud_rate * group.transactions)
    low, high = _wilson(frauds, group.transactions)
    return Dot(
        x=across(axis(group.mean_probability)),
        y=down(1 - axis(group.fraud_rate)),
        top=down(1 - axis(high)),
        bottom=down(1 - axis(low)),
        hollow=group.fraud_rate < axis.low,
        title=f"{role}: predicted {percent(group.mean_probability)}, observed {percent(group.fraud_rate)} "
        f"({frauds:,} of {group.transactions:,})",
        role=role,
    )


def _wilson(hits: int, rows: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927)."""
    z = 1.96
    rate, spread = hits / rows, z * z / rows
    centre = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / rows + spread / (4 * rows))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def card_precision(daily: DailyPrecision) -> Plot | None:
    """Card precision@100 over the days of the hold-out, of each model; None without a day."""
    scores = {role: values for role in ("champion", "challenger") if (values := getattr(daily, role)) is not None}
    if not len(daily.day):
        return None
    top = round_step(max(float(np.max(values)) for values in scores.values()) or 0.01, TOPS)
    days = len(daily.day)
    at = (np.arange(days) + 0.5) / days
    step = math.ceil(days / 7)
    dots = [
        Dot(across(x), down(1 - y / top), down(1 - y / top), down(1 - y / top), hollow=False, title=title, role=role)
        for role, values in scores.items()
        for x, y, title in zip(at.tolist(), values.tolist(), _day_titles(role, daily.day, values), strict=True)
    ]
    return Plot(
        height=CHART_HEIGHT,
        x_ticks=tuple(Tick(across(float(at[k])), str(daily.day[k])[5:10]) for k in range(0, days, step)),
        y_ticks=tuple(Tick(down(1 - k / 4), number(top * k / 4, 3 if top < 0.1 else 2)) for k in range(5)),
        curves=tuple(Curve(_path(at, values / top), role) for role, values in scores.items()),
        dots=tuple(dots),
    )


def _day_titles(role: str, days: NDArray[np.datetime64], values: FloatArray) -> list[str]:
    return [f"{str(day)[:10]}: {role} {number(float(value))}" for day, value in zip(days, values, strict=True)]


def count_band(band: CountBand) -> Plot | None:
    """Counts by day with the limits between which each passes; None where no day has limits.

    Days outside are marked. The axis ends at twice the largest count or expectation, with limits beyond it on its end.
    """
    judged = np.flatnonzero(~np.isnan(band.expected))
    if not len(judged):
        return None
    shown = slice(int(judged[0]), None)
    days, count = band.days[shown], band.count[shown].astype(np.float64)
    low, high, expected = band.low[shown], band.high[shown], band.expected[shown]
    top = round_step(2 * max(float(count.max()), float(np.nanmax(expected))) or 1.0, TOPS)
    at = (np.arange(len(days)) + 0.5) / len(days)
    known = ~np.isnan(expected)
    beyond = known & ((count < low) | (count > high))
    step = math.ceil(len(days) / 7)
    limits = [Curve(_path(at[known], np.clip(values[known] / top, 0, 1)), "needed") for values in (low, high)]
    return Plot(
        height=CHART_HEIGHT,
        x_ticks=tuple(Tick(across(float(at[k])), str(days[k])[5:10]) for k in range(0, len(days), step)),
        y_ticks=tuple(Tick(down(1 - k / 4), number(top * k / 4, 0 if top >= 4 else 1)) for k in range(5)),
        curves=(*limits, Curve(_path(at, np.minimum(count / top, 1)), "challenger")),
        dots=tuple(_band_dot(float(at[k]), band, int(judged[0] + k), top) for k in np.flatnonzero(beyond).tolist()),
    )


def _band_dot(x: float, band: CountBand, place: int, top: float) -> Dot:
    y = down(1 - min(float(band.count[place]) / top, 1.0))
    title = f"{band.days[place]}: {int(band.count[place]):,}; {band.low[place]:,.0f} to {band.high[place]:,.0f} pass"
    return Dot(across(x), y, y, y, hollow=False, title=title, role="challenger")


def label_delays(delays: LabelDelays, maturity_days: float) -> Plot | None:
    """The share of frauds that were known, by days since the transaction, with the maturity as a vertical line."""
    if not delays.frauds:
        return None
    late = int(delays.hours[np.searchsorted(delays.share, 0.995)]) if delays.share[-1] >= 0.995 else 0
    days = max(math.ceil(2 * maturity_days), math.ceil(late / 24), 1)
    shown = delays.hours <= 24 * days
    hours, share = np.append(delays.hours[shown], 24 * days), delays.share[shown]
    share = np.append(share, share[-1] if len(share) else 0.0)
    step = max(1, math.ceil(days / 7))
    return Plot(
        height=CHART_HEIGHT,
        x_ticks=tuple(Tick(across(k / days), f"{k}") for k in range(0, days + 1, step)),
        y_ticks=tuple(Tick(down(1 - k / 4), percent(k / 4)) for k in range(5)),
        curves=(Curve(_steps(hours / (24 * days), share), "challenger"),),
        marks=(Mark(across(maturity_days / days), f"maturity: {span_text(maturity_days)}"),),
    )


def _steps(x: FloatArray, y: FloatArray) -> str:
    """A path that rises at each x to its y, from zero on."""
    moves = [f"H{1000 * a:.0f}V{CHART_HEIGHT * (1 - b):.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return f"M0 {CHART_HEIGHT}" + "".join(moves)


def timeline(decision: Decision, daily: DailyCounts | None) -> Timeline | None:
    """The windows of a run from the start of training to the as-of time; None where they do not follow each other."""
    edges = [decision.training.start, decision.training.end, decision.holdout.start, decision.holdout.end]
    moments = [_seconds(moment) for moment in (*edges, decision.as_of)]
    if sorted(moments) != moments or moments[0] == moments[-1]:
        return None
    axis = Axis(moments[0], moments[-1])
    names = (("training", "training"), ("gap", "gap"), ("holdout", "hold-out"), ("delay", "delay"))
    spans = zip(names, moments, moments[1:], strict=False)
    bands = tuple(_band(role, label, begin, end, axis) for (role, label), begin, end in spans if end > begin)
    return Timeline(bands, day_ticks(axis), _day_rows(daily, axis, moments[3]) if daily is not None else ())


def _band(role: str, label: str, begin: float, end: float, axis: Axis) -> Band:
    width = axis(end) - axis(begin)
    length = duration(timedelta(seconds=end - begin))
    label = f"{label} {length}" if width > 0.12 else label
    return Band(role, label, across(axis(begin)), across(width), width < 0.18)


def day_ticks(axis: Axis) -> tuple[Tick, ...]:
    """Days of an axis in seconds since 1970, at most seven."""
    days = (axis.high - axis.low) / 86_400
    step = next((step for step in (1, 2, 7, 14, 28, 56, 91, 182) if days / step <= 6), 365 * math.ceil(days / 2190))
    first = math.ceil(axis.low / 86_400)
    last = math.floor(axis.high / 86_400)
    return tuple(
        Tick(across(axis(day * 86_400)), f"{datetime.fromtimestamp(day * 86_400, UTC):%m-%d}")
        for day in range(first, last + 1, step)
    )


def _day_rows(daily: DailyCounts, axis: Axis, matured: float) -> tuple[Bars, ...]:
    """Transactions and fraud rate a day; of many days, the means over several."""
    begin = daily.day.astype("datetime64[s]").astype(np.int64)
    inside = (begin + 86_400 > axis.low) & (begin < axis.high)
    if not inside.any():
        return ()
    begin, transactions, frauds = begin[inside], daily.transactions[inside], daily.frauds[inside]
    days = math.ceil(len(begin) / MOST_BARS)
    starts = np.arange(0, len(begin), days)
    rows = np.add.reduceat(transactions, starts)
    hits = np.add.reduceat(frauds, starts)
    spans = [
        (float(at), float(begin[min(k + days, len(begin)) - 1]) + 86_400)
        for k, at in zip(starts, begin[starts], strict=True)
    ]
    lengths = np.diff(np.append(starts, len(begin)))
    rate = np.divide(hits, rows, out=np.zeros(len(rows)), where=rows > 0)
    return (
        _bars("transactions per day", rows / lengths, spans, axis, lambda value: number(value, 0), math.inf),
        _bars("fraud rate", rate, spans, axis, percent, matured),
    )


def _bars(
    caption: str,
    values: FloatArray,
    spans: list[tuple[float, float]],
    axis: Axis,
    text: Callable[[float], str],
    matured: float,
) -> Bars:
    top = round_step(float(values.max()) or 1.0, TOPS)
    bars = []
    for value, (begin, end) in zip(values.tolist(), spans, strict=True):
        tall = down(value / top, ROW_HEIGHT)
        x = across(axis(begin))
        date = f"{datetime.fromtimestamp(begin, UTC):%Y-%m-%d}"
        width = round(across(axis(end)) - x, 2)
        bars.append(Bar(x, width, round(ROW_HEIGHT - tall, 1), tall, f"{date}: {text(value)}", end > matured))
    return Bars(caption, tuple(bars), text(top))


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


_STEPS = (1, 2, 5, 10)
TOPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


def round_step(rough: float, rounds: tuple[float, ...] = _STEPS) -> float:
    """The smallest round number, times a power of ten, that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in rounds if step * power >= rough * (1 - 1e-9))


def across(fraction: float) -> float:
    """Percent of the width."""
    return round(100 * fraction, 2)


def down(fraction: float, height: int = CHART_HEIGHT) -> float:
    """Pixels of the height."""
    return round(height * fraction, 1)


def _path(x: FloatArray, y: FloatArray) -> str:
    """A path through points of the unit square, y upwards."""
    points = [f"{1000 * a:.0f} {CHART_HEIGHT * (1 - b):.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return "M" + "L".join(points)
