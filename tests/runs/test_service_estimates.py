"""Before labels mature: what the champion may be worth, from stored scores and the labels that are known early."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.monitoring.service_weeks import ServiceEstimate, ServiceWeeks
from fraud_detection.runs import service
from fraud_detection.runs.service import estimate_service
from fraud_detection.settings import Settings
from fraud_detection.transactions.profile import HourlyDelays

END = datetime(2026, 3, 30, tzinfo=UTC)
DAYS, ROWS_A_DAY = 7, 4_000
DELAYS = np.array([12, 36, 60, 100, 160])
"""Hours after which the label of a fraud is known, all alike often."""


class World:
    """Scores of a week, their labels, and when these become known."""

    def __init__(self, seed: int, *, blind: bool = False) -> None:
        """`blind`: half of the frauds are of a kind that gets low probabilities."""
        rng = np.random.default_rng(seed)
        count = DAYS * ROWS_A_DAY
        self.probability = np.clip(rng.beta(0.2, 8.0, count), 1e-4, 0.999)
        self.fraud = rng.random(count) < self.probability
        if blind:
            self.fraud |= (self.probability < 0.01) & (rng.random(count) < 0.06)
        hours = np.sort(rng.integers(0, DAYS * 24, count))
        self.time = pd.Timestamp("2026-03-23") + pd.to_timedelta(hours, unit="h")
        self.known = self.time + pd.to_timedelta(rng.choice(DELAYS, count), unit="h")
        self.card = np.char.add("c", np.arange(count).astype(str))
        self.version = np.full(count, 2)

    @property
    def truth(self) -> float:
        return float(average_precision(self.fraud.astype(np.int8), self.probability))

    def estimate(
        self,
        monkeypatch: pytest.MonkeyPatch,
        known: ServiceWeeks | None = None,
        version: int = 2,
        as_of: datetime = END,
    ) -> ServiceEstimate | None:
        """As a batch would; each transaction has a card of its own, so that none is left out as known."""
        scores = pd.DataFrame(
            {
                "transaction_id": np.arange(len(self.fraud)).astype(str),
                "transaction_time": self.time.tz_localize("UTC"),
                "customer_id": self.card,
                "probability": self.probability,
                "model_version": self.version,
            }
        )
        by_day = dict(iter(scores.groupby(scores["transaction_time"].dt.date)))
        store = SimpleNamespace(rows=lambda _scored, day, _columns=None: _table(by_day.get(day)))
        manifest = SimpleNamespace(days=[SimpleNamespace(day=day) for day in by_day])
        frauds = pd.DataFrame(
            {
                "transaction_id": np.arange(len(self.fraud)),
                "transaction_time": self.time,
                "customer_id": self.card,
                "fraud": 1,
                "label_available_at": self.known,
            }
        )[self.fraud]
        monkeypatch.setattr(service, "collect_frauds", lambda *_: frauds)
        transactions: Any = SimpleNamespace(profile=SimpleNamespace(delays_by_hour=_delays()))
        parts: tuple[Any, ...] = (known or ServiceWeeks(), store, manifest, transactions, as_of, Settings(), version)
        return estimate_service(*parts)


def _table(rows: pd.DataFrame | None) -> pa.Table | None:
    return None if rows is None else pa.Table.from_pandas(rows, preserve_index=False)


def _delays() -> HourlyDelays:
    hours = np.array(["2026-03-01T00"] * len(DELAYS), "datetime64[h]")
    return HourlyDelays(hours, DELAYS, np.ones(len(DELAYS), np.int64))


def _mean(values: list[float | None]) -> float:
    found: NDArray[np.float64] = np.array(values, np.float64)
    return float(found.mean())


def test_both_estimates_are_near_the_truth_where_nothing_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a person who watches the estimates is alarmed, or calmed, by a fault of the arithmetic."""
    worlds = [World(seed) for seed in range(12)]
    found = [one.estimate(monkeypatch) for one in worlds]
    assert all(one is not None and (one.end, one.transactions) == (END, DAYS * ROWS_A_DAY) for one in found)
    truth = _mean([one.truth for one in worlds])
    assert _mean([one.expected for one in found if one]) == pytest.approx(truth, abs=0.02)
    assert _mean([one.provisional for one in found if one]) == pytest.approx(truth, abs=0.03)
    assert all(
        one is not None and 0 < one.known_frauds < world.fraud.sum() for one, world in zip(found, worlds, strict=True)
    )


def test_a_new_kind_of_fraud_is_seen_by_early_frauds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the gap between the two, which tells of a change before labels mature, does not open."""
    worlds = [World(seed, blind=True) for seed in range(6)]
    found = [one.estimate(monkeypatch) for one in worlds]
    truth = _mean([one.truth for one in worlds])
    assert _mean([one.provisional for one in found if one]) == pytest.approx(truth, abs=0.05)
    assert _mean([one.expected for one in found if one]) > truth + 0.05


def test_a_day_is_estimated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when each hourly batch reads the scores of a week again."""
    world = World(1)
    found = world.estimate(monkeypatch)
    assert found is not None
    known = ServiceWeeks(estimate=found)
    monkeypatch.setattr(service, "_scores", None)
    assert world.estimate(monkeypatch, known) is None
    assert world.estimate(monkeypatch, known, as_of=END + timedelta(hours=23)) is None
    assert known.with_weeks((), END).estimate == found, "weeks that mature later do not lose it"


def test_only_scores_of_the_version_in_service_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a new champion is told the worth of the one that it replaced."""
    world = World(1)
    world.version[: DAYS * ROWS_A_DAY // 2] = 1
    found = world.estimate(monkeypatch)
    assert found is not None
    assert found.transactions == DAYS * ROWS_A_DAY // 2
    none = world.estimate(monkeypatch, version=3)
    assert none is not None
    assert (none.transactions, none.expected) == (0, None), "nothing was scored by it yet"
    monkeypatch.setattr(service, "_scores", None)
    assert world.estimate(monkeypatch, ServiceWeeks(estimate=none), version=3) is None, "the scores are read once a day"


def test_without_label_times_there_is_no_early_fraud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when frauds that all become known after the same delay are taken for a sample of them."""
    world = World(1)
    world.known = world.time + pd.Timedelta(days=7)
    empty = HourlyDelays(np.array([], "datetime64[h]"), np.array([], np.int64), np.array([], np.int64))
    monkeypatch.setitem(globals(), "_delays", lambda: empty)
    found = world.estimate(monkeypatch)
    assert found is not None
    assert found.provisional is None
    assert found.expected is not None
    assert found.start == END - timedelta(days=7)


def test_a_repeated_batch_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a batch that was killed before it kept its estimate leaves MLflow two values for one day."""
    world = World(1)
    assert world.estimate(monkeypatch) == world.estimate(monkeypatch, as_of=END + timedelta(hours=5))
