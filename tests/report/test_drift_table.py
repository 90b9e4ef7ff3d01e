"""What the report shows of drift and of the limits of the counts."""

from datetime import date, timedelta

import numpy as np
from factories import candidate_record, decision
from report_pages import AS_OF, Page, html, report_data
from test_shadow import shadow, waiting

from fraud_detection.data_health.counts import CountBand
from fraud_detection.data_health.examination import Health, Verdict
from fraud_detection.report.plots import count_band
from fraud_detection.schema import CandidateKey, Check, DriftRecord, Outcome, Shift, ShiftedSample


def _shift(name: str, psi: float) -> Shift:
    return Shift(name=name, psi=psi, drift_limit=0.1, limit=1.0)


def _band(count: int) -> CountBand:
    days = np.arange(np.datetime64("2026-05-01"), np.datetime64("2026-05-11"))
    expected = np.full(10, 100.0)
    expected[:2] = np.nan
    counts = np.full(10, 100)
    counts[-1] = count
    return CountBand(days, counts, expected, expected * 0.5, expected * 1.5)


SOUND = Verdict(checks=(Check(name="volume_floor", value=612, limit=240, passed=True),))
DRIFT = DriftRecord(
    reference=ShiftedSample(start=AS_OF - timedelta(days=60), end=AS_OF, transactions=90_000, independent=812.4),
    fresh=ShiftedSample(start=AS_OF - timedelta(days=8), end=AS_OF, transactions=20_000, independent=700.0),
    inputs=(_shift("amount", 2.5), _shift("night", 0.3), _shift("weekend", 0.001)),
    score=_shift("score", 0.02),
)


def test_each_input_is_shown_with_its_psi_limits_and_verdict() -> None:
    """Fails when nobody can see what has drifted, how far, and what would stop a run."""
    shown = Page(html(decision(Outcome.REFUSED, AS_OF, 1, drift=DRIFT), report_data()))
    rows = [cells for cells in shown.cells() if cells[-1].startswith(("✕ broken", "✕ drifted", "✓ as in"))]
    assert [(cells[0], cells[1], cells[-1]) for cells in rows] == [
        ("its scores", "0.020", "✓ as in training"),
        ("amount", "2.500", "✕ broken"),
        ("night", "0.300", "✕ drifted"),
        ("weekend", "0.001", "✓ as in training"),
    ]
    assert "Drift: 2 of 4 have drifted" in shown.texts["drift"]
    assert "700 and 812 independent rows" in shown.texts["drift"]


def test_of_many_inputs_those_that_moved_most_are_shown() -> None:
    """Fails when thirty rows of zeros bury the rest of the report, or an input that has drifted is left out."""
    still = tuple(_shift(f"still_{number}", 0.02 - number / 1_000) for number in range(12))
    moved = tuple(_shift(f"moved_{number}", 0.9) for number in range(10))

    def told(inputs: tuple[Shift, ...]) -> str:
        drift = DRIFT.model_copy(update={"inputs": inputs})
        return Page(html(decision(Outcome.REFUSED, AS_OF, 1, drift=drift), report_data())).texts["drift"]

    text = told(still)
    assert all(f"still_{number}" in text for number in range(8))
    assert "still_8" not in text
    assert "4 more have a PSI of at most 0.012" in text
    text = told(moved + still)
    assert all(f"moved_{number}" in text for number in range(10))
    assert "still_0" not in text
    assert "12 more have a PSI of at most 0.020" in text


def test_drift_that_was_not_measured_is_said_to_be_so() -> None:
    """Fails when a reader takes a missing table for the absence of drift."""
    found = Health(SOUND, _band(100), _band(100), None)
    shown = Page(html(decision(Outcome.REFUSED, AS_OF, 1), report_data(health=found)))
    assert "Drift was not measured" in shown.texts["drift"]


def test_a_candidate_opened_early_is_shown_with_the_drift_behind_it() -> None:
    """Fails when a candidate appears between two points of the grid without a word."""
    key = CandidateKey(AS_OF - timedelta(hours=3), "a" * 64)
    record = candidate_record(key.label_cutoff, key.recipe, drifted=("amount", "night", "weekend", "score"))
    data = shadow(next_looks=(waiting(key),), records={key: record})
    text = Page(html(decision(Outcome.REFUSED, AS_OF, 1), report_data(shadow=data))).texts["candidates"]
    assert "early: drift of amount, night, weekend and 1 more" in text


def test_the_limits_of_the_counts_are_drawn_and_days_outside_are_marked() -> None:
    """Fails when a reader cannot see how close a day came to stopping the run, or which day did."""
    plot = count_band(_band(20))
    assert plot is not None
    assert [curve.role for curve in plot.curves] == ["needed", "needed", "challenger"]
    (dot,) = plot.dots
    assert dot.title == f"{date(2026, 5, 10)}: 20; 50 to 150 pass"
    assert (count_band(_band(100)) or plot).dots == ()
    never = CountBand(_band(1).days, _band(1).count, *[np.full(10, np.nan)] * 3)
    assert count_band(never) is None
    shown = Page(html(decision(Outcome.REFUSED, AS_OF, 1), report_data(health=Health(SOUND, _band(20), never, None))))
    assert "limits, which the history and chance set" in shown.texts["health"]
