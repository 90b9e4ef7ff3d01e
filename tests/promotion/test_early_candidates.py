"""When drift opens a candidate before the next point of the grid."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from fraud_detection.promotion.sequential import (
    Candidate,
    Champion,
    LogEntry,
    SequentialRule,
    candidates_to_open,
    early_candidate,
    risk_ledger,
)
from fraud_detection.settings import ComparisonSettings

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
MATURITY = timedelta(days=7)
CHAMPION = Champion(1, MIDNIGHT - timedelta(days=30))
RULE = SequentialRule.of(ComparisonSettings())


def _run(log: list[LogEntry], as_of: datetime, rule: SequentialRule = RULE) -> int:
    """Open what a run under lasting drift opens, and return how many were early."""
    keys = candidates_to_open(log, "recipe", CHAMPION, as_of, rule, MATURITY)
    early = early_candidate(log, "recipe", CHAMPION, as_of, rule, MATURITY)
    for key in (*keys, *([early] if early else [])):
        log.append(Candidate(key, key.label_cutoff - MATURITY, 1.5, as_of))
    return int(early is not None)


@pytest.mark.parametrize("every", [1, 6, 24, 48])
def test_lasting_drift_opens_at_most_one_early_candidate_in_a_period(every: int) -> None:
    """Fails when drift that lasts trains a model each hour, or none at all where candidates are rare."""
    rule = SequentialRule.of(ComparisonSettings(candidate_every_hours=every))
    log: list[LogEntry] = []
    early = [hour for hour in range(24 * 8) if _run(log, MIDNIGHT + timedelta(hours=hour), rule)]
    assert all(later - earlier >= every for earlier, later in pairwise(early))
    assert bool(early) == (every > 1)


def test_an_early_candidate_is_as_young_as_its_run_and_costs_no_look() -> None:
    """Fails when a candidate opened for drift is an old one, or its opening uses up risk."""
    log: list[LogEntry] = []
    assert _run(log, MIDNIGHT) == 0, "a candidate of the grid is opened anyway"
    at = MIDNIGHT + timedelta(hours=5)
    key = early_candidate(log, "recipe", CHAMPION, at, RULE, MATURITY)
    assert key is not None
    assert (key.label_cutoff, key.recipe) == (at, "recipe")
    before = risk_ledger(log, at, RULE)
    assert _run(log, at) == 1
    assert risk_ledger(log, at, RULE) == before
    assert early_candidate(log, "recipe", CHAMPION, at, RULE, MATURITY) is None, "the same run, repeated"


def test_the_grid_goes_on_beside_early_candidates() -> None:
    """Fails when an early candidate takes the place of the next one on the grid."""
    log: list[LogEntry] = []
    for hour in range(0, 49, 6):
        _run(log, MIDNIGHT + timedelta(hours=hour))
    cutoffs = {one.key.label_cutoff for one in log if isinstance(one, Candidate)}
    assert {MIDNIGHT + timedelta(days=day) for day in range(3)} <= cutoffs
