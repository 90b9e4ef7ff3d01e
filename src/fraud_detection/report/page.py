"""The page: a decision and its measurements in words and charts."""

import math
from dataclasses import dataclass, replace

from fraud_detection.model.attribution import FIFTHS, Attribution
from fraud_detection.promotion import shown_look
from fraud_detection.report import plots, wording
from fraud_detection.report.alert_rows import alert_section
from fraud_detection.report.check_rows import check_tables
from fraud_detection.report.drawing import Drawing
from fraud_detection.report.templates import page_template
from fraud_detection.schema import DataCounts, Decision, LookRecord, Metrics, Outcome

TOP_FEATURES = 15


def render(decision: Decision, drawing: Drawing) -> str:
    """One HTML page without scripts or anything to fetch; the same input gives the same text.

    What the drawing lacks is left out or named as missing, so every outcome has a complete page.
    """
    comparison = drawing.comparison
    look = shown_look(decision.looks)
    return page_template("template.html.j2").render(
        d=decision,
        drawing=drawing,
        comparison=comparison,
        verdict=_verdict(decision),
        opponent=_opponent(decision),
        metrics=_metric_rows(decision.champion, decision.challenger),
        forest=plots.forest(decision.difference, _needed(decision, look, drawing)) if decision.difference else None,
        look=look,
        life=_life(decision, drawing),
        alerts=alert_section(look.threshold, look.by_card) if look is not None else None,
        checks=check_tables(decision.checks),
        health=check_tables(drawing.health).conditions,
        curve_names=_curve_names(decision, drawing),
        precision_recall=drawing.precision_recall,
        calibration=drawing.calibration,
        row_height=plots.ROW_HEIGHT,
        timeline=drawing.timeline,
        spans=_span_rows(decision),
        coverage=_coverage_rows(decision.data_counts),
        importances=_importance_rows(drawing),
        attributions=_attribution_rows(drawing.attributions),
        rollback=_rollback(decision, drawing),
        total_seconds=sum(decision.seconds.values()),
    )


def _life(decision: Decision, drawing: Drawing) -> plots.Plot | None:
    """The looks at the candidate; no next one is due at a candidate that serves."""
    life = drawing.shadow.life if drawing.shadow is not None else None
    return replace(life, marks=()) if life is not None and decision.outcome is Outcome.PROMOTED else life


def _needed(decision: Decision, look: LookRecord | None, drawing: Drawing) -> float | None:
    """The difference that the challenger had to reach; None for a first champion, whose floor is taken off already."""
    if decision.champion_version is None:
        return None
    if look is not None and look.limits is not None:
        needed = max(look.limits.difference_for_unseen_cards, look.limits.difference_that_matters)
        return needed if math.isfinite(needed) else None
    return drawing.comparison.minimum_effect if drawing.comparison else None


@dataclass(frozen=True)
class _Verdict:
    role: str
    sign: str
    title: str
    consequence: str


def _verdict(decision: Decision) -> _Verdict:
    in_service = decision.champion_version
    retired = decision.retired_version
    nothing = "No model is in service yet." if retired is None else f"No model is in service: v{retired} was retired."
    stays = f"v{in_service} stays in service." if in_service is not None else nothing
    new = f" v{decision.version}" if decision.version is not None else ""  # before it is registered it has no number
    match decision.outcome:
        case Outcome.PROMOTED if retired is not None:
            succeeded = f"It succeeds v{retired}, which was retired."
            return _Verdict("promoted", "✓", f"PROMOTED as{new}" if new else "PROMOTED", succeeded)
        case Outcome.PROMOTED if in_service is None:
            return _Verdict("promoted", "★", f"FIRST CHAMPION{new}", "The first model in service.")
        case Outcome.PROMOTED:
            replaced = f"It replaces v{in_service}."
            return _Verdict("promoted", "✓", f"PROMOTED as{new}" if new else "PROMOTED", replaced)
        case Outcome.NEEDS_REVIEW:
            return _Verdict("needs-review", "?", "NEEDS REVIEW", f"The challenger waits for approval. {stays}")
        case Outcome.REFUSED:
            return _Verdict("refused", "✕", "REFUSED", stays)
        case _:
            return _Verdict("no-decision", "○", "NO DECISION", stays)


def _opponent(decision: Decision) -> str:
    """What the average precision of the challenger is compared with."""
    if decision.champion_version is not None:
        return f"that of champion v{decision.champion_version}"
    if decision.floor is None:  # a decision of an earlier release
        return "a multiple of that of ranking by amount alone"
    return f"the floor {wording.number(decision.floor.average_precision)} ({decision.floor.origin})"


@dataclass(frozen=True)
class _CoverageRow:
    what: str
    rows: int
    whole: int


def _coverage_rows(counts: DataCounts | None) -> list[_CoverageRow]:
    """How many rows there were, and how many lack something; what no row lacks is left out."""
    if counts is None:
        return []
    used, matured, blocked = counts.rows - counts.rejected_rows, counts.matured, counts.matured_blocked_unlabelled
    lacking = (
        _CoverageRow("Rejected", counts.rejected_rows, counts.rows),
        _CoverageRow("Equal to another row", counts.equal_rows, used),
        _CoverageRow("Refunds: negative amounts", counts.refunds, used),
        _CoverageRow("Card unknown", counts.unknown_cards, used),
        _CoverageRow("Terminal unknown", counts.unknown_terminals, used),
        _CoverageRow("Matured, blocked and without a label: not used", blocked, matured),
        _CoverageRow("Matured, otherwise without a label", counts.matured_unlabelled - blocked, matured),
        _CoverageRow("Matured alerts of the control group", counts.matured_control, matured),
        _CoverageRow("Frauds among them", counts.matured_control_frauds, counts.matured_control),
    )
    return [_CoverageRow("Read", counts.rows, counts.rows), *(row for row in lacking if row.rows)]


@dataclass(frozen=True)
class _MetricRow:
    label: str
    note: str
    champion: str
    challenger: str
    change: str
    relative: str
    judgement: str


_METRICS = (
    # attribute, label, note, decimals, whether more is better
    ("average_precision", "Average precision", "area under the precision–recall curve; the primary metric", 3, True),
    (
        "card_precision_at_100",
        "Card precision@100",
        "share of compromised cards among the 100 most suspicious of a day",
        3,
        True,
    ),
    ("brier", "Brier score", "mean squared error of the probability; lower is better", 5, False),
    ("roc_auc", "ROC AUC", "reported; not a check", 4, True),
)


def _metric_rows(champion: Metrics | None, challenger: Metrics | None) -> list[_MetricRow]:
    rows = []
    for attribute, label, note, decimals, more_is_better in _METRICS:
        old = getattr(champion, attribute) if champion else None
        new = getattr(challenger, attribute) if challenger else None
        change, relative, judgement = wording.MISSING, "", ""
        if old is not None and new is not None:
            change = wording.signed(new - old, decimals)
            judgement = _judgement(round(new - old, decimals), more_is_better)
            if attribute == "brier" and old > 0:  # its guardrail is relative
                relative = f"{wording.signed(100 * (new / old - 1), 1)} %"
        old_text, new_text = (
            "not measured" if metrics is not None and value is None else wording.number(value, decimals)
            for metrics, value in ((champion, old), (challenger, new))
        )
        rows.append(_MetricRow(label, note, old_text, new_text, change, relative, judgement))
    return rows


def _judgement(change: float, more_is_better: bool) -> str:
    if change == 0 or not math.isfinite(change):
        return ""
    return "better" if (change > 0) == more_is_better else "worse"


def _curve_names(decision: Decision, drawing: Drawing) -> dict[str, str]:
    version = f" v{decision.version}" if decision.version is not None else ""
    names = {
        "champion": f"champion v{decision.champion_version}" if decision.champion_version is not None else "champion",
        "challenger": f"challenger{version}",
        "amount": "ranking by amount alone",
        "ideal": "predicted = observed",
        "prevalence": "prevalence",
    }
    for role, metrics in (("champion", decision.champion), ("challenger", decision.challenger)):
        if metrics is not None:
            names[f"{role}_ap"] = f"{names[role]}, AP {wording.number(metrics.average_precision)}"
    if drawing.fraud_rate is not None:
        names["prevalence"] = f"prevalence {wording.percent(drawing.fraud_rate)}"
    return names


@dataclass(frozen=True)
class _SpanRow:
    role: str
    label: str
    start: str
    end: str
    length: str
    transactions: str
    frauds: str
    rate: str


def _span_rows(decision: Decision) -> list[_SpanRow]:
    training, holdout = decision.training, decision.holdout
    rows = []
    for role, label, start, end, span in (
        ("training", "Training", training.start, training.end, training),
        ("gap", "Training gap", training.end, holdout.start, None),
        ("holdout", "Hold-out", holdout.start, holdout.end, holdout),
        ("delay", "Maturity of labels, to the as-of time", holdout.end, decision.as_of, None),
    ):
        if role == "gap" and end <= start:
            continue
        counts = (wording.MISSING,) * 3
        if span is not None:
            rate = wording.share(span.frauds, span.transactions)
            counts = (wording.count(span.transactions), wording.count(span.frauds), rate)
        rows.append(
            _SpanRow(role, label, wording.moment(start), wording.moment(end), wording.duration(end - start), *counts)
        )
    return rows


@dataclass(frozen=True)
class _ImportanceRow:
    name: str
    share: str
    width: float


def _importance_rows(drawing: Drawing) -> list[_ImportanceRow]:
    total = sum(drawing.importances.values())
    if total <= 0:
        return []
    ranked = sorted(drawing.importances.items(), key=lambda item: (-item[1], item[0]))[:TOP_FEATURES]
    return [
        _ImportanceRow(name, wording.share(gain, total), round(100 * gain / ranked[0][1], 1)) for name, gain in ranked
    ]


@dataclass(frozen=True)
class _AttributionRow:
    name: str
    value: str
    width: float
    cells: tuple[tuple[str, float], ...]
    """Of each fifth whether it moves to fraud or to genuine, and how far, from 0 to 1."""
    direction: str


def _attribution_rows(found: tuple[Attribution, ...]) -> list[_AttributionRow]:
    top = found[:TOP_FEATURES]
    largest = max((abs(value) for one in top for value in one.by_fifth if value is not None), default=0.0) or 1.0
    return [
        _AttributionRow(
            one.name,
            wording.number(one.mean_absolute),
            round(100 * one.mean_absolute / top[0].mean_absolute, 1),
            tuple(_cell(value, largest) for value in one.by_fifth),
            _direction(one.by_fifth),
        )
        for one in top
    ]


def _cell(value: float | None, largest: float) -> tuple[str, float]:
    if value is None:
        return "empty", 0.0
    return "fraud" if value > 0 else "genuine", round(0.08 + 0.92 * math.sqrt(abs(value) / largest), 2)


def _direction(by_fifth: tuple[float | None, ...]) -> str:
    """In words what the fifths show, for who cannot tell the colours apart."""
    values = [value for value in by_fifth if value is not None]
    if len(values) < 2:
        return wording.MISSING
    if values == sorted(values):
        return "higher → more suspicious"
    if values == sorted(values, reverse=True):
        return "lower → more suspicious"
    place = next(k for k, value in enumerate(by_fifth) if value == max(values))
    where = {0: "lowest values", FIFTHS - 1: "highest values"}.get(place, "middle values")
    return f"{where} most suspicious"


@dataclass(frozen=True)
class _Rollback:
    sentence: str
    command: str | None


def _rollback(decision: Decision, drawing: Drawing) -> _Rollback:
    command = drawing.rollback_command or "fraud-detection rollback"
    old, retired = decision.champion_version, decision.retired_version
    if retired is not None:
        sentence = f"v{retired} was retired before this run. To bring it back:"
        return _Rollback(sentence, f'{command} --to {retired} --reason "…"')
    if decision.outcome is Outcome.PROMOTED and old is None:
        return _Rollback("This is the first champion: there is no earlier version to roll back to.", None)
    if decision.outcome is Outcome.PROMOTED:
        new = f"v{decision.version}" if decision.version is not None else "the new version"
        sentence = f"To take {new} out of service and bring v{old} back:"
        return _Rollback(sentence, f'{command} --to {old} --reason "…"')
    if old is None:
        return _Rollback("This run changed nothing, and no model is in service.", None)
    sentence = f"This run changed nothing: v{old} stays in service. To roll back to the champion before v{old}:"
    return _Rollback(sentence, f'{command} --reason "…"')
