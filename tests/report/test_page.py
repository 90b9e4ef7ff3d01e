"""The report page, parsed as a browser parses it, not searched for substrings of markup."""

import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import factories
import numpy as np
import pytest
from factories import metrics, span
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.evaluation import SliceMetrics
from fraud_detection.report import DailyCounts, ReportData, plots, render, wording
from fraud_detection.schema import Check, Decision, Difference, Floor, Outcome
from fraud_detection.settings import Settings
from fraud_detection.time_windows import run_windows

T = datetime(2026, 5, 24, tzinfo=UTC)
HOSTILE = '<script>alert(1)</script><img src="https://evil.example/x.png" onerror=alert(1)>\'"&'
VOID = {"meta", "link", "wbr", "br", "img"}


@dataclass
class Page(HTMLParser):
    """A page's text by the nearest id, its table rows, and its elements; unbalanced tags are refused."""

    source: str
    texts: dict[str, str] = field(default_factory=lambda: defaultdict(str))
    rows: list[list[str]] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, str | None]] = []
        self.feed(self.source)
        self.close()
        assert not self._open, f"left open: {self._open}"
        self.texts = {name: " ".join(text.split()) for name, text in self.texts.items()}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id")))
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        if "td" in tags or "th" in tags:
            self.rows[-1][-1] += data
        if "style" not in tags:
            for name in {"", *(identity for _, identity in self._open if identity)}:
                self.texts[name] += data

    def row(self, beginning: str) -> list[str]:
        """The cells of the one table row whose first cell begins so."""
        found = [cells for cells in self.cells() if cells[0].startswith(beginning)]
        assert len(found) == 1, f"{len(found)} rows begin with {beginning!r}"
        return found[0]

    def cells(self) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in cells] for cells in self.rows]


CHECKS = (
    Check(name="holdout_frauds", value=385, limit=200, passed=True),
    Check(name="brier", value=0.003803, limit=0.00408408, passed=True),
    Check(name="slice_new_cards", value=None, limit=None, passed=True),
    Check(name="something_new", value=-0.0121, limit=-0.005, passed=False),
    Check(name="not_pinned", value=None, limit=None, passed=False),
    Check(name="minimum_effect", value=0.0099999, limit=0.01, passed=False),
)


def decision(**changes: Any) -> Decision:
    windows = run_windows(T, Settings().windows)
    values: dict[str, Any] = {
        "outcome": Outcome.PROMOTED,
        "as_of": T,
        "champion_version": 12,
        "reason": "average precision rose by 0.029",
        "version": 13,
        "decided_at": T + timedelta(minutes=3),
        "run_id": "4f0c2d6f",
        "training": span(windows.training_start, windows.training_end, 804_517, 6_218),
        "holdout": span(windows.holdout_start, windows.holdout_end, 58_264, 385),
        "champion": metrics(average_precision=0.6119, roc_auc=0.97123, card_precision_at_100=0.298, brier=0.004004),
        "challenger": metrics(average_precision=0.6412, roc_auc=0.97061, card_precision_at_100=0.311, brier=0.003803),
        "difference": Difference(value=0.02931, low=0.01234, high=0.04649, confidence=0.95),
        "checks": CHECKS,
        "rejected": {"duplicate_id": 412, "negative_amount": 23},
        "warnings": ("2026-05-17 03:00 has no transactions",),
        "seconds": {"read": 1.21, "train": 3.4},
        "report": "reports/x/report.html",
    }
    return factories.decision(**{**values, **changes})


def evidence(**changes: Any) -> ReportData:
    random = np.random.default_rng(3)
    rows = 5_000
    fraud = (np.arange(rows) % 50 == 0).astype(np.int8)
    days = np.arange("2026-01-01", "2026-05-24", dtype="datetime64[D]")
    values: dict[str, Any] = {
        "fraud": fraud,
        "champion_score": np.clip(0.4 * fraud + random.random(rows) * 0.5, 0, 1),
        "challenger_score": np.clip(0.5 * fraud + random.random(rows) * 0.5, 0, 1),
        "windows": run_windows(T, Settings().windows),
        "settings": Settings(),
        "daily": DailyCounts(days, np.full(len(days), 9_000), np.full(len(days), 60)),
        "rows_read": 1_000_000,
        "faults": {"duplicate_id": "transaction_id"},
        "slices": (SliceMetrics("new_cards", 812, 57, 0.412, 0.431), SliceMetrics("tiny", 10, 0, None, None)),
        "importances": {"amount": 30.0, "card_count_1d": 10.0},
        "data_fingerprint": "sha256:9b1c",
        "reasons": {"negative_amount": "an amount below zero"},
        "rollback_command": "fraud-detection rollback --output out",
        "unpin_command": 'fraud-detection unpin --output out --reason "…"',
    }
    return ReportData(**{**values, **changes})


def nothing_decided(**changes: Any) -> Decision:
    windows = run_windows(T, Settings().windows)
    unused: dict[str, Any] = {
        "training": span(windows.training_start, windows.training_end, 0, 0),
        "holdout": span(windows.holdout_start, windows.holdout_end, 0, 0),
        **dict.fromkeys(("version", "champion_version", "run_id", "champion", "challenger", "difference", "report")),
        "checks": (),
        "rejected": {},
        "warnings": (),
        "seconds": {},
    }
    return decision(**{**unused, "outcome": Outcome.NO_DECISION, "reason": "no frauds in the hold-out", **changes})


@pytest.mark.parametrize(
    ("changes", "title", "consequence"),
    [
        ({}, "PROMOTED as v13", "It replaces v12."),
        (
            {"champion_version": None, "champion": None, "version": 1},
            "FIRST CHAMPION v1",
            "The first model in service.",
        ),
        ({"outcome": Outcome.REFUSED, "version": None}, "REFUSED", "v12 stays in service."),
        ({"outcome": Outcome.NO_DECISION, "version": None}, "NO DECISION", "v12 stays in service."),
        (
            {"outcome": Outcome.REFUSED, "version": None, "champion_version": None, "champion": None},
            "REFUSED",
            "No model is in service yet.",
        ),
    ],
)
def test_verdict_comes_first_with_its_reason(changes: dict[str, Any], title: str, consequence: str) -> None:
    """Fails when the report does not open with what was decided and which model is now in service."""
    page = Page(render(decision(**changes), evidence()))
    verdict = page.texts["verdict"]
    assert title in verdict
    assert "average precision rose by 0.029" in verdict
    assert consequence in verdict
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert ids[0] == "verdict"
    assert title in page.texts[""].split("·")[0]  # the browser's tab


def test_key_numbers_are_rounded_and_say_which_way_is_better() -> None:
    """Fails when a metric has the wrong digits, or a rising Brier score is shown as an improvement."""
    page = Page(render(decision(), evidence()))
    assert page.row("Average precision")[1:] == ["0.612", "0.641", "+0.029 better"]
    assert page.row("Card precision@100")[1:] == ["0.298", "0.311", "+0.013 better"]
    assert page.row("Brier score mean")[1:] == ["0.00400", "0.00380", "−0.00020 (−5.0 %) better"]
    assert page.row("ROC AUC reported; not a check")[1:] == ["0.9712", "0.9706", "−0.0006 worse"]


def test_difference_has_its_interval_confidence_and_pairing() -> None:
    """Fails when the deciding difference is shown without its interval, confidence, pairing or minimum effect."""
    text = Page(render(decision(), evidence())).texts["difference"]
    assert "minus that of champion v12: +0.029, 95 % interval [+0.012, +0.046], paired by card" in text
    assert "minimum effect +0.010" in text


def test_first_champion_is_measured_against_amount_not_a_champion() -> None:
    """Fails when the report of a first champion mentions a champion or a minimum effect that did not exist."""
    floor = Floor(average_precision=0.28, amount_average_precision=0.14, multiple=2.0)
    sure = Difference(value=0.3612, low=0.1, high=0.62, confidence=0.9)
    first = decision(champion_version=None, champion=None, version=1, difference=sure, floor=floor)
    page = Page(render(first, evidence(champion_score=None, amount=np.linspace(1, 2, 5_000))))
    text = page.texts["difference"]
    assert "minus the floor 0.280 (2 times ranking by amount, 0.140): +0.361, 90 % interval [+0.100, +0.620]" in text
    assert "tested once, one-sided at 95 %, which is the lower end of a two-sided 90 % interval" in text
    assert "planned runs" not in text
    assert "minimum effect" not in text
    assert "ranking by amount alone" in page.texts["precision-recall"]
    assert page.row("Average precision")[1:] == ["0.641"]


def test_a_first_champion_of_an_earlier_release_still_has_its_page() -> None:
    """Fails when the report of a decision from before the floor was recorded can no longer be shown."""
    first = decision(champion_version=None, champion=None, version=1)
    assert first.floor is None
    text = Page(render(first, evidence(champion_score=None))).texts["difference"]
    assert "minus a multiple of that of ranking by amount alone" in text


def test_every_check_is_listed_with_failed_ones_first_and_in_words() -> None:
    """Fails when a failed check is missing, far down the list, or marked by colour alone."""
    page = Page(render(decision(), evidence()))
    assert "3 failed, 2 passed, 1 not measured" in page.texts["checks"]
    results = [cells[-1] for cells in page.cells() if cells[-1] in {"✓ passed", "✕ FAILED", "– not measured"}]
    assert results == ["✕ FAILED"] * 3 + ["✓ passed"] * 2 + ["– not measured"]
    for check in CHECKS:
        assert check.name in page.texts["checks"]
    assert page.row("Enough matured frauds in the hold-out")[1:3] == ["385", "≥ 200"]
    assert page.row("Brier score not above")[1:3] == ["0.0038", "≤ 0.00408"]
    assert page.row("Something new")[1:3] == ["−0.0121", "−0.005"]
    assert page.row("No version is pinned")[1:3] == ["–", "–"]
    assert page.row("New cards: average precision not below")[1:3] == ["–", "–"]
    passed = Page(render(decision(checks=CHECKS[:1]), evidence()))
    assert "Checks: 1 passed" in passed.texts["checks"]


def test_failed_check_never_shows_equal_numbers() -> None:
    """Fails when a narrowly failed check reads `0.01 ≥ 0.01 FAILED`, which no reader believes."""
    page = Page(render(decision(), evidence()))
    assert page.row("Large enough to matter")[1:3] == ["0.0099999", "≥ 0.01"]
    assert wording.value_and_limit(0.5, 0.5) == ("0.5", "0.5")


def test_data_summary_shows_windows_rejections_and_warnings() -> None:
    """Fails when the report does not show which data the decision is based on, and what was rejected."""
    page = Page(render(decision(), evidence()))
    training = ["2026-02-08 00:00", "2026-05-03 00:00", "84 d", "804,517", "6,218", "0.77 %"]
    assert page.row("Training")[1:] == training
    assert page.row("Gap")[3] == "7 d"
    assert page.row("Hold-out")[4:] == ["58,264", "385", "0.66 %"]
    assert page.row("Label delay")[2] == "2026-05-24 00:00"
    assert page.row("Duplicate id")[1:] == ["412", "0.041 %", "transaction_id"]
    assert page.row("an amount below zero")[3] == "–"
    assert "2026-05-17 03:00 has no transactions" in page.texts["warnings"]
    bars = [element for element in page.elements if "bar" in element[1].get("class", "").split()]
    assert len(bars) == 2 * 105  # each day from the start of training to T, twice
    assert sum("pending" in attributes["class"] for _, attributes in bars) == 7  # fraud rates of the label delay


def test_slices_and_features_are_shown() -> None:
    """Fails when a slice that got worse, or a feature that leaks, is not visible in the report."""
    page = Page(render(decision(), evidence()))
    assert page.row("New cards new_cards")[1:] == ["812", "57", "0.412", "0.431", "+0.019"]
    assert page.row("Tiny")[3:] == ["–", "–", "–"]
    assert page.row("amount")[-1] == "75 %"


def test_details_and_rollback() -> None:
    """Fails when the report lacks the rollback command, or the run and version that it is about."""
    page = Page(render(decision(), evidence()))
    assert "bring v12 back" in page.texts["rollback"]
    # By its number: later, the previous champion may be another.
    assert 'fraud-detection rollback --output out --to 12 --reason "…"' in page.texts["rollback"]
    assert 'resumes after: fraud-detection unpin --output out --reason "…"' in page.texts["rollback"]
    for fact in ("2026-05-24 00:00 UTC", "fraud_detection", "v13", "4f0c2d6f", "sha256:9b1c", "total 4.6"):
        assert fact in page.texts["details"]


@pytest.mark.parametrize("champion_version", [None, 12])
def test_page_of_a_promotion_before_its_version_is_registered(champion_version: int | None) -> None:
    """Fails when a run killed during registration leaves a report that names a version vNone."""
    page = Page(render(decision(version=None, champion_version=champion_version), evidence()))
    assert ("FIRST CHAMPION" if champion_version is None else "PROMOTED") in page.texts["verdict"]
    assert "None" not in page.texts[""]


def test_refusal_says_that_nothing_changed() -> None:
    """Fails when the report of a refusal does not say that the champion is unchanged, and somebody rolls it back."""
    refused = decision(outcome=Outcome.REFUSED, version=None)
    assert "This run changed nothing: v12 stays in service." in Page(render(refused, evidence())).texts["rollback"]


def test_page_of_a_run_that_measured_nothing_is_complete() -> None:
    """Fails when a run without scores ends in a broken report instead of an explained one."""
    page = Page(render(nothing_decided(), ReportData()))
    assert "NO DECISION" in page.texts["verdict"]
    assert "no frauds in the hold-out" in page.texts["verdict"]
    assert "No difference was measured" in page.texts["difference"]
    assert "before any check" in page.texts["checks"]
    assert "no curves to draw" in page.texts["precision-recall"]
    assert page.row("Hold-out")[4:] == ["0", "0", "–"]
    for word in ("vNone", "nan"):
        assert word not in page.texts[""]


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_holdout_without_frauds_has_no_curves(rows: int) -> None:
    """Fails when a hold-out without a fraud ends in a division by zero instead of a report."""
    data = ReportData(fraud=np.zeros(rows, np.int8), challenger_score=np.full(rows, 0.01), settings=Settings())
    assert "no frauds in the hold-out" in Page(render(nothing_decided(), data)).texts["precision-recall"]


@pytest.mark.parametrize("rows", [1, 150, 1000])
def test_extreme_scores_are_drawn(rows: int) -> None:
    """Fails when scores that are all equal, 0 or 1 break the report's plots."""
    fraud = np.ones(rows, np.int8)
    for score in (np.zeros(rows), np.ones(rows)):
        page = Page(render(decision(), evidence(fraud=fraud, champion_score=score, challenger_score=score)))
        assert "Calibration" in page.texts["calibration"]


def test_page_fetches_nothing_and_runs_nothing() -> None:
    """Fails when the report needs the network, or runs code in the reader's browser."""
    html = render(decision(), evidence())
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("href", "data:,").startswith("data:")
        assert "src" not in attributes
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_text_from_data_is_escaped() -> None:
    """Fails when a transaction id or column name can inject markup into the report."""
    hostile = decision(
        reason=HOSTILE,
        run_id=HOSTILE,
        checks=(Check(name=HOSTILE, value=1, limit=1, passed=False),),
        rejected={HOSTILE: 1},
        warnings=(HOSTILE,),
        seconds={HOSTILE: 1.0},
        report=HOSTILE,
    )
    data = evidence(
        faults={HOSTILE: HOSTILE},
        quarantine=HOSTILE,
        slices=(SliceMetrics(HOSTILE, 1, 1, 0.1, 0.2),),
        importances={HOSTILE: 1.0},
        data_fingerprint=HOSTILE,
        rollback_command=HOSTILE,
    )
    page = Page(render(hostile, data))
    assert not {tag for tag, _ in page.elements} & {"script", "img"}
    assert HOSTILE in page.texts["reason"]
    assert page.texts[""].count(HOSTILE) >= 10


def test_same_run_gives_the_same_page() -> None:
    """Fails when a repeated run, on another machine too, writes another page than the stored one."""
    program = "import sys, test_page as t; sys.stdout.buffer.write(t.render(t.decision(), t.evidence()).encode())"
    folders = os.pathsep.join(map(str, (Path(__file__).parent, Path(factories.__file__).parent)))
    pages = []
    for seed, zone, language in (("1", "Pacific/Auckland", "C"), ("2", "America/New_York", "ru_RU.UTF-8")):
        environment = {"PYTHONHASHSEED": seed, "TZ": zone, "LANG": language, "PYTHONPATH": folders}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        pages.append(done.stdout.decode())
    assert pages[0] == pages[1]
    Page(pages[0])


def test_page_of_a_large_run_stays_small() -> None:
    """Fails when a long training window and a large hold-out make a page too large to open or to mail."""
    random = np.random.default_rng(0)
    fraud = (random.random(200_000) < 0.01).astype(np.int8)
    score = np.clip(random.random(200_000) * 0.5 + 0.3 * fraud, 0, 1)
    days = np.arange("2016-01-01", "2026-05-24", dtype="datetime64[D]")
    daily = DailyCounts(days, np.full(len(days), 9_000), np.full(len(days), 60))
    windows = run_windows(T, Settings().windows)
    training = span(T - timedelta(days=3600), windows.training_end, 10, 1)
    data = evidence(fraud=fraud, champion_score=score, challenger_score=score, daily=daily)
    page = render(decision(training=training), data)
    assert len(page.encode()) < 150_000
    Page(page)


def test_arrays_of_different_rows_are_refused() -> None:
    """Fails when the labels of one table are plotted against the scores of another."""
    with pytest.raises(ValueError, match="champion_score has shape"):
        evidence(champion_score=np.zeros(3))
    with pytest.raises(ValueError, match="expected that of fraud, None"):
        ReportData(challenger_score=np.zeros(3))


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.2))
def test_interval_always_shows_zero_and_the_minimum_effect(value: float, down: float, up: float, effect: float) -> None:
    """Fails when the plot of the difference leaves out zero or the minimum effect, and its size cannot be judged."""
    difference = Difference(value=value, low=value - down, high=value + up, confidence=0.95)
    chart = plots.forest(difference, effect)
    marks = [chart.zero, chart.low, chart.value, chart.high] + ([chart.minimum] if chart.minimum is not None else [])
    assert all(0 <= mark <= 100 for mark in marks)
    assert chart.low <= chart.value <= chart.high
    assert (chart.minimum is None) == (effect == 0)
    assert "0" in {tick.label for tick in chart.ticks}
    assert 2 <= len(chart.ticks) <= 8


def test_precision_recall_curve_passes_through_known_points() -> None:
    """Fails when the drawn curve is not the one that average precision is computed from."""
    fraud = np.array([1, 0, 1, 0])
    plot = plots.precision_recall(fraud, {"challenger": np.array([0.9, 0.8, 0.7, 0.1])})
    assert plot is not None
    prevalence, curve = plot.curves
    assert prevalence.path == f"M0 {0.5 * plot.height}H1000"
    # recall 0 and 1/2 at precision 1, recall 1 at precision 2/3
    assert curve.path == f"M0 0.0L500 0.0L1000 {plot.height / 3:.1f}"


def test_calibration_groups_hold_every_row_once() -> None:
    """Fails when the calibration plot leaves out rows, such as the highest scores, where the frauds are."""
    random = np.random.default_rng(5)
    score = random.random(3_000)
    fraud = (random.random(3_000) < score).astype(np.int8)
    plot = plots.calibration(fraud, {"challenger": score})
    assert plot is not None
    groups = [dot.title.split("(")[1].rstrip(")").replace(",", "").split(" of ") for dot in plot.dots]
    assert sum(int(hits) for hits, _ in groups) == fraud.sum()
    assert sum(int(rows) for _, rows in groups) == 3_000
    assert [dot.x for dot in plot.dots] == sorted(dot.x for dot in plot.dots)
    assert all(dot.top <= dot.y <= dot.bottom for dot in plot.dots)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.confidence(0.95), "95 %"),
        (wording.confidence(0.975), "97.5 %"),
        (wording.confidence(1 - 0.05 / 720), "99.993 %"),
        (wording.signed(-0.0001), "±0.000"),
        (wording.signed(-0.0121), "−0.012"),
        (wording.significant(200.0), "200"),
        (wording.significant(1_234_567), "1,234,567"),
        (wording.significant(-0.005), "−0.005"),
        (wording.significant(0.000123), "0.000123"),
        (wording.significant(0), "0"),
        (wording.significant(float("nan")), "–"),
        (wording.percent(0.0004), "0.04 %"),
        (wording.percent(0.05), "5 %"),
        (wording.percent(0.6), "60 %"),
        (wording.percent(0), "0 %"),
        (wording.share(1, 0), "–"),
        (wording.duration(timedelta(hours=36)), "36 h"),
        (wording.moment(datetime(2026, 5, 24, 3, 0, tzinfo=UTC)), "2026-05-24 03:00"),
        (wording.words("new_thing_at_100"), "New thing at 100"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    """Fails when the report rounds a number to zero or shows digits that mean nothing."""
    assert text == expected
