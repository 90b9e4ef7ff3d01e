"""What a simulated bank is made from, and how it is written: no more than the command line needs for its help."""

from dataclasses import dataclass
from datetime import date
from enum import IntEnum, StrEnum

RAMP_DAYS = 2
"""A regime takes over from the one before it in so many days."""


class FileFormat(StrEnum):
    """How a day is written."""

    PARQUET = "parquet"
    CSV = "csv"


class Scenario(IntEnum):
    """What a transaction really is. Never written with the data: no bank knows it."""

    GENUINE = 0
    LARGE_AMOUNT = 1
    COMPROMISED_TERMINAL = 2
    LEAKED_CARD = 3
    CARD_TESTING = 4


@dataclass(frozen=True)
class Regime:
    """Expected frauds of each scenario per 1,000 transactions, from a date on."""

    start: date
    large_amounts: float
    compromised_terminals: float
    leaked_cards: float
    card_testing: float

    def rate(self, scenario: Scenario) -> float:
        """Expected frauds of a scenario per transaction."""
        per_mille = {
            Scenario.LARGE_AMOUNT: self.large_amounts,
            Scenario.COMPROMISED_TERMINAL: self.compromised_terminals,
            Scenario.LEAKED_CARD: self.leaked_cards,
            Scenario.CARD_TESTING: self.card_testing,
        }
        return per_mille[scenario] / 1000.0


@dataclass(frozen=True)
class World:
    """What decides every row: two equal worlds hold the same transactions."""

    seed: int
    transactions_per_day: int
    regimes: tuple[Regime, ...]

    def expected(self, scenario: Scenario, day: int) -> float:
        """Expected frauds of a scenario on a day (an ordinal), were it a day of average volume."""
        begun = [regime for regime in self.regimes if regime.start.toordinal() <= day] or [self.regimes[0]]
        now, before = begun[-1], begun[-2] if len(begun) > 1 else begun[-1]
        progress = min(1.0, (day - now.start.toordinal() + 1) / RAMP_DAYS)
        rate = progress * now.rate(scenario) + (1.0 - progress) * before.rate(scenario)
        return rate * self.transactions_per_day
