"""The demo's story: its transactions, and the dates on which `make demo` retrains."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from fraud_simulation.world import Regime, World

DRIFT_DATE = date(2026, 3, 30)


def regimes(drift_date: date = DRIFT_DATE) -> tuple[Regime, ...]:
    """Frauds before and after a date on which single large amounts fade and card testing appears."""
    before = Regime(date.min, large_amounts=3.0, compromised_terminals=4.5, leaked_cards=2.5, card_testing=0.0)
    after = Regime(drift_date, large_amounts=1.8, compromised_terminals=4.5, leaked_cards=2.0, card_testing=2.2)
    return before, after


@dataclass(frozen=True)
class Demo:
    """What `make create-data` makes and `make demo` replays."""

    world: World
    start: date
    days: int
    as_of: tuple[datetime, ...]
    new_fraud_known_by: date
    """A model that knows the new frauds is promoted by then."""


DEMO = Demo(
    world=World(seed=7, transactions_per_day=7_200, regimes=regimes()),
    start=date(2025, 12, 1),
    days=182,
    as_of=tuple(datetime(2026, 3, 9, tzinfo=UTC) + timedelta(weeks=3 * run) for run in range(5)),
    new_fraud_known_by=date(2026, 4, 20),
)
