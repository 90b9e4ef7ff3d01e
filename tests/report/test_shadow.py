"""What the page says of candidates in shadow, of guardrails, and of how a model scores."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from factories import candidate_record, look_record, metrics, schedule, span
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from report_pages import AS_OF, Page, decision, html, nothing_decided, report_data

from fraud_detection.data_health.counts import CountBand
from fraud_detection.data_health.examination import Health, Verdict
from fraud_detection.model.attribution import Attribution
from fraud_detection.promotion.sequential import HoldoutCounts, Look, LookState, NextLook, RiskLedger
from fraud_detection.report import ReportData, draw, plots, render
from fraud_detection.report.data import DailyPrecision, LabelDelays, LoggedLook, ShadowData
from fraud_detection.report.drawing import Drawing
from fraud_detection.runs.publication import Publication
from fraud_detection.schema import CandidateKey, Check, Difference, LookLimitsRecord, LookRecord, Outcome
from fraud_detection.settings import Settings

KEY = CandidateKey(AS_OF - timedelta(days=14), "0123456789abcdef")
YOUNG = CandidateKey(AS_OF, "0123456789abcdef")


def look(number: int, frauds: int, difference: float = 0.03, **changes: Any) -> LookRecord:
    known: dict[str, Any] = {
        "champion_version": 12,
        "holdout": span(AS_OF - timedelta(days=20), AS_OF - timedelta(days=7), 100 * frauds, frauds),
        "fraud_cards": frauds // 2,
        "difference": Difference(value=difference, low=difference - 0.05, high=difference + 0.05, confidence=0.95),
        "lower_bound": difference - 0.04,
        "limits": LookLimitsRecord(
            root=3.9, difference_for_unseen_cards=10 / (frauds // 2), difference_that_matters=0.01
        ),
        "root": 2.5,
    }
    return look_record(KEY, AS_OF, number, **{**known, **changes})


def logged(*looks: LookRecord) -> tuple[LoggedLook, ...]:
    return tuple(LoggedLook(AS_OF - timedelta(days=len(looks) - k), one) for k, one in enumerate(looks, start=1))


def waiting(key: CandidateKey = KEY, number: int = 4, frauds: int = 97, needed: int = 135) -> NextLook:
    return NextLook(Look(AS_OF, key, 12, number), LookState.WAITS_FOR_FRAUDS, HoldoutCounts(frauds, 50), needed)


def shadow(**changes: Any) -> ShadowData:
    known: dict[str, Any] = {
        "risk": 0.05,
        "ledger": RiskLedger(27, 270),
        "next_looks": (waiting(YOUNG, 1, 0, 40), waiting()),
        "records": {key: candidate_record(key.label_cutoff, key.recipe) for key in (KEY, YOUNG)},
        "life": logged(look(1, 40, champion_version=11), look(2, 60), look(3, 90)),
    }
    return ShadowData(**{**known, **changes})


def refused(**changes: Any) -> Any:
    return decision(outcome=Outcome.REFUSED, version=None, looks=(look(3, 90),), **changes)


def page(data: ShadowData | None = None, **changes: Any) -> Page:
    return Page(html(refused(), report_data(shadow=shadow() if data is None else data, **changes)))


def test_the_life_of_a_candidate_has_every_look_with_its_bound_and_the_next() -> None:
    """Fails when a risk officer cannot see how the evidence for a candidate grew, and what the next look waits for."""
    shown = page()
    assert shown.row("2 as of")[1:] == ["60", "30", "+0.030", "−0.010", "+0.333", "2.50 of 3.90", "not passed"]
    assert "number 4, is due with 135 matured frauds; it has 97" in shown.texts["life"]
    assert "next look: 135 frauds" in shown.texts["life"]
    assert "○ against an earlier champion" in shown.texts["life"]
    assert "R_EL = 2.50 and has to reach 3.90" in shown.texts["rule"]
    assert "none of the 45 fraud cards has shown" in shown.texts["rule"]


def test_the_figure_of_a_life_is_in_its_frame() -> None:
    """Fails when looks, the difference that was needed or the next look are drawn outside of the chart."""
    chart = draw(refused(), report_data(shadow=shadow())).shadow
    assert chart is not None
    assert chart.life is not None
    assert [dot.hollow for dot in chart.life.dots] == [True, False, False]
    assert len(chart.life.curves) == 3
    at = [dot.x for dot in chart.life.dots] + [mark.at for mark in chart.life.marks]
    assert at == sorted(at)
    assert all(0 <= x <= 100 for x in at)
    assert all(0 <= dot.top <= dot.y <= dot.bottom <= chart.life.height for dot in chart.life.dots)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            look,
            number=st.integers(1, 9),
            frauds=st.integers(2, 5000),
            difference=st.floats(-1, 1),
            lower_bound=st.none() | st.floats(-1, 0) | st.just(-math.inf),
            root=st.none() | st.floats(-9, 9) | st.just(math.inf),
            limits=st.none()
            | st.builds(
                LookLimitsRecord,
                root=st.just(math.inf) | st.floats(1, 9),
                difference_for_unseen_cards=st.just(math.inf) | st.floats(0, 1),
                difference_that_matters=st.floats(0, 0.1),
            ),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_any_looks_give_a_page_that_can_be_stored(looks: list[LookRecord]) -> None:
    """Fails when an infinite bound breaks the report, or a killed run cannot publish it from what it stored."""
    decided = refused().model_copy(update={"looks": (looks[-1],)})
    drawing = draw(decided, ReportData(shadow=shadow(life=logged(*looks))))
    stored = Publication(drawing=drawing, schedule=schedule(AS_OF)).model_dump_json()
    assert Publication.model_validate_json(stored).drawing.shadow == drawing.shadow
    assert "nan" not in Page(render(decided, drawing)).texts["life"]


def test_the_ledger_counts_looks_and_gives_the_share_of_the_risk() -> None:
    """Fails when the report does not say how much of the risk of a false promotion is spent."""
    text = page().texts["ledger"]
    assert "27 of 270 looks of the last 30 days are spent: 0.5 % of the 5 % risk" in text
    assert "243 are left" in text


def test_candidates_are_listed_with_what_they_wait_for() -> None:
    """Fails when nobody can see from the report which candidates are in shadow, and how far they are."""
    shown = page()
    assert shown.row("2026-05-10 00:00")[1:] == [
        "2026-05-03 00:00",
        "01234567",
        "4",
        "97 of 135",
        "waits for frauds",
    ]
    assert shown.row("2026-05-24 00:00")[3:5] == ["1", "0 of 40"]


def test_a_run_without_a_look_shows_ledger_candidates_and_label_delay_only() -> None:
    """Fails when a run that only waits for frauds has a broken report, or one that pretends to have compared."""
    data = ReportData(settings=Settings(), shadow=shadow(life=()), label_delays=delays())
    shown = Page(html(nothing_decided(champion_version=12), data))
    assert "27 of 270 looks" in shown.texts["ledger"]
    assert shown.row("2026-05-10 00:00")[4] == "97 of 135"
    assert "of 1,000 frauds were known" in shown.texts["label-delay"]
    assert not {"life", "card-precision", "attributions", "health", "rule"} & set(shown.texts)


def test_a_first_champion_has_a_test_and_no_life() -> None:
    """Fails when the report of a first champion speaks of looks against a champion that there is none of."""
    only = look(1, 90, champion_version=None, champion=None, limits=None, root=None, lower_bound=None)
    first = decision(champion_version=None, champion=None, version=1, looks=(only,))
    shown = Page(html(first, report_data(champion_score=None, shadow=shadow(life=logged(only), next_looks=()))))
    assert "A first champion is tested once" in shown.texts["shadow"]
    assert "life" not in shown.texts
    assert "vNone" not in shown.texts[""]


def test_a_winner_has_no_next_look() -> None:
    """Fails when the report of a promotion announces another look at the model that serves already."""
    shown = Page(html(decision(looks=(look(3, 90, passed=True),)), report_data(shadow=shadow())))
    assert "This candidate was promoted" in shown.texts["life"]
    assert "next look: 135 frauds" not in shown.texts["life"]
    assert "Against the new champion their hold-outs and looks begin anew" in shown.texts["shadow"]


def delays() -> LabelDelays:
    hours = np.arange(24 * 30)
    return LabelDelays(hours, np.minimum(1.0, (hours + 1) / (24 * 10)), 1000)


def test_the_delay_of_labels_is_shown_with_the_maturity() -> None:
    """Fails when a maturity that is far too short for the labels cannot be seen."""
    shown = Page(html(decision(), report_data(label_delays=delays())))
    assert (
        "70 % of 1,000 frauds were known at the maturity (windows.maturity_days: 7 days)" in shown.texts["label-delay"]
    )
    assert "maturity: 7 days" in shown.texts["label-delay"]
    plot = plots.label_delays(delays(), 7)
    assert plot is not None
    assert plot.marks[0].at == 50.0  # 7 of 14 days
    undated = Page(html(decision(), report_data(label_delays=None)))
    assert "do not say when labels became known" in undated.texts["label-delay"]
    unsettled = LabelDelays(np.arange(0), np.zeros(0), 0)
    assert "old enough" in Page(html(decision(), report_data(label_delays=unsettled))).texts["label-delay"]


@pytest.mark.parametrize("days", [1, 7, 28])
def test_card_precision_is_drawn_by_day_for_both_models(days: int) -> None:
    """Fails when a challenger that is good on one day only looks good on all of them."""
    day = np.datetime64("2026-05-01T00", "h") + 24 * np.arange(days)
    daily = DailyPrecision(day, np.linspace(0.2, 0.3, days), np.linspace(0.3, 0.2, days))
    plot = plots.card_precision(daily)
    assert plot is not None
    assert len(plot.dots) == 2 * days
    assert plot.dots[0].title == "2026-05-01: champion 0.200"
    assert len(plot.x_ticks) <= 7
    alone = plots.card_precision(replace(daily, champion=None))
    assert alone is not None
    assert {dot.role for dot in alone.dots} == {"challenger"}
    shown = Page(html(decision(), report_data(card_precision=daily)))
    assert "champion v12" in shown.texts["card-precision"]


def test_shap_values_say_how_much_and_in_which_direction() -> None:
    """Fails when the report does not show what drives a model's scores, or says it in colours alone."""
    found = (
        Attribution("amount", 0.8, (-0.5, -0.1, None, 0.2, 1.9)),
        Attribution("age", 0.2, (0.3, 0.1, 0.0, -0.1, -0.2)),
        Attribution("hour", 0.1, (0.1, -0.1, -0.2, -0.1, 0.3)),
        Attribution("weekend", 0.1, (None, None, 0.1, None, None)),
    )
    shown = Page(html(decision(), report_data(attributions=found, attributed_rows=1987)))
    texts = shown.texts["attributions"]
    for words in ("0.800", "higher → more suspicious", "lower → more suspicious", "highest values most suspicious"):
        assert words in texts
    assert "over 1,987 transactions" in texts


def test_the_checks_of_the_data_are_listed() -> None:
    """Fails when a reader cannot see whether the data were sound, or how close they came to stopping the run."""
    checks = (
        Check(name="volume_floor", value=612, limit=240, passed=True),
        Check(name="label_delay", value=0.3, limit=0.2, passed=False),
    )
    none = np.zeros(0)
    band = CountBand(none.astype("datetime64[D]"), none.astype(np.int64), none, none, none)
    found = Health(Verdict(checks=checks), band, band, None)
    shown = Page(html(decision(), report_data(health=found)))
    named = [cells for cells in shown.cells() if cells[0].endswith(("volume_floor", "label_delay"))]
    assert [cells[1] for cells in named] == ["0.3", "612"]
    assert [cells[-1] for cells in named] == ["✕ FAILED", "✓ passed"]
    assert "Data health" in shown.texts["health"]


def test_undecided_guardrails_are_explained() -> None:
    """Fails when a reader takes "undecided" for "harmless"."""
    text = Page(html(decision(), report_data())).texts["guardrails"]
    assert "Undecided: there are too few frauds to tell either way" in text
    assert "Not measured: a slice with too few frauds" in text


def test_what_an_earlier_release_stored_is_still_drawn() -> None:
    """Fails when a run of an earlier release that was killed cannot be published any more."""
    made = TypeAdapter(Drawing).dump_python(draw(decision(), report_data()), mode="json")
    later = (
        "attributions",
        "attributed_rows",
        "card_precision",
        "shadow",
        "label_delays",
        "health",
        "volume_band",
        "fraud_band",
    )
    old = TypeAdapter(Drawing).validate_python({name: made[name] for name in made if name not in later})
    assert old.shadow is None


def test_the_largest_page_is_below_three_megabytes() -> None:
    """Fails when a page with everything on it can no longer be mailed, or opened on a phone."""
    keys = [CandidateKey(AS_OF - timedelta(days=k), f"{k:064x}") for k in range(29)]
    looks = logged(*(look(k, round(40 * 1.5**k)) for k in range(1, 10)))
    data = shadow(
        next_looks=tuple(waiting(key) for key in keys),
        records={key: candidate_record(key.label_cutoff, key.recipe) for key in keys},
        life=looks,
    )
    rows = 200_000
    fraud = (np.arange(rows) % 100 == 0).astype(np.int8)
    score = np.linspace(0, 1, rows)
    names = tuple(f"feature_{k}" for k in range(200))
    day = np.datetime64("2026-05-01T00", "h") + 24 * np.arange(28)
    made = html(
        refused(champion=metrics()),
        report_data(
            fraud=fraud,
            champion_score=score,
            challenger_score=score,
            shadow=data,
            attributions=tuple(Attribution(name, 0.1, (0.1, 0.2, 0.3, 0.4, 0.5)) for name in names),
            importances=dict.fromkeys(names, 1.0),
            label_delays=delays(),
            card_precision=DailyPrecision(day, np.full(28, 0.2), np.full(28, 0.3)),
        ),
    )
    Page(made)
    assert len(made.encode()) < 3_000_000
