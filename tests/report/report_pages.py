"""Pages of made-up decisions, parsed as a browser parses them, not searched for substrings of markup."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import factories
import numpy as np
from factories import metrics, span

from fraud_detection.evaluation import SliceMetrics
from fraud_detection.report import DailyCounts, ReportData, draw, render
from fraud_detection.schema import Check, Decision, Difference, Outcome
from fraud_detection.settings import Settings
from fraud_detection.time_windows import run_windows

AS_OF = datetime(2026, 5, 24, tzinfo=UTC)
CHECKS = (
    Check(name="holdout_frauds", value=385, limit=200, passed=True),
    Check(name="brier", value=0.003803, limit=0.00408408, passed=True, low=0.00004, high=0.0004),
    Check(name="card_precision_at_100", value=0.311, limit=0.305, passed=True, undecided=True, low=-0.012, high=0.021),
    Check(name="calibration", value=0.41, limit=0.3, passed=False, low=-0.3, high=-0.15),
    Check(name="slice_channel=web", value=0.4, limit=0.39, passed=True, low=-0.001, high=0.1),
    Check(name="slice_new_cards", value=None, limit=None, passed=True),
    Check(name="something_new", value=-0.0121, limit=-0.005, passed=False),
    Check(name="not_pinned", value=None, limit=None, passed=False),
    Check(name="minimum_effect", value=0.0099999, limit=0.01, passed=False),
)
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


def decision(**changes: Any) -> Decision:
    windows = run_windows(AS_OF, Settings().windows)
    values: dict[str, Any] = {
        "outcome": Outcome.PROMOTED,
        "as_of": AS_OF,
        "champion_version": 12,
        "reason": "average precision rose by 0.029",
        "version": 13,
        "decided_at": AS_OF + timedelta(minutes=3),
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


def report_data(**changes: Any) -> ReportData:
    random = np.random.default_rng(3)
    rows = 5_000
    fraud = (np.arange(rows) % 50 == 0).astype(np.int8)
    days = np.arange("2026-01-01", "2026-05-24", dtype="datetime64[D]")
    values: dict[str, Any] = {
        "fraud": fraud,
        "champion_score": np.clip(0.4 * fraud + random.random(rows) * 0.5, 0, 1),
        "challenger_score": np.clip(0.5 * fraud + random.random(rows) * 0.5, 0, 1),
        "windows": run_windows(AS_OF, Settings().windows),
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
    windows = run_windows(AS_OF, Settings().windows)
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


def html(decision: Decision, data: ReportData) -> str:
    """The page of a decision and its measurements."""
    return render(decision, draw(decision, data))
