"""The demo's story: its transactions, and the dates on which `make demo` retrains."""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from fraud_detection.simulation.fraud import Regime, World

DRIFT_DATE = date(2026, 4, 13)


def regimes(drift_date: date = DRIFT_DATE) -> tuple[Regime, ...]:
    """Frauds before and after a date on which single large amounts fade and card testing appears."""
    before = Regime(date.min, large_amounts=2.5, compromised_terminals=3.5, leaked_cards=3.0, card_testing=0.0)
    after = Regime(drift_date, large_amounts=0.5, compromised_terminals=3.0, leaked_cards=2.0, card_testing=4.0)
    return before, after


@dataclass(frozen=True)
class Demo:
    """What `make create-data` makes and `make demo` replays."""

    world: World
    start: date
    days: int
    as_of: tuple[datetime, ...]


DEMO = Demo(
    world=World(seed=7, transactions_per_day=6_500, regimes=regimes()),
    start=date(2025, 11, 24),
    days=189,
    as_of=tuple(
        datetime(2026, month, day, tzinfo=UTC) for month, day in ((3, 30), (4, 13), (4, 27), (5, 18), (5, 25), (6, 1))
    ),
)
