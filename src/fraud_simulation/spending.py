"""Genuine transactions of a day, and the rows that everything else is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fraud_simulation.population import NEIGHBOURS, PACE, Cards, Population
from fraud_simulation.randomness import FloatArray, IntArray, Stream, generator

DAY_SECONDS = 86_400
_FAR_SHARE = 0.08  # of transactions: travel and online shops
_LARGE_SHARE = 0.003  # of transactions: furniture, flights; a large amount is not a fraud
_SESSION_SHARE = 0.0015  # of transactions: parking, vending, games; many small amounts are not a fraud
_SESSION_PAYMENTS = (2, 5)  # that follow
_PURCHASES = PACE / (1.0 + _SESSION_SHARE * sum(_SESSION_PAYMENTS) / 2)  # of an average card in a day
_WEEKDAY = np.array([0.94, 0.95, 0.99, 1.02, 1.14, 1.12, 0.84])  # Monday first; mean 1
_WORKDAY_HOURS = [4, 2, 1, 1, 2, 6, 18, 42, 55, 52, 54, 64, 78, 70, 56, 54, 62, 80, 86, 72, 50, 34, 20, 10]
_WEEKEND_HOURS = [14, 9, 6, 4, 3, 3, 6, 14, 32, 56, 76, 86, 84, 78, 74, 72, 70, 70, 66, 60, 52, 44, 36, 25]


@dataclass(frozen=True)
class Rows:
    """Transactions of one day, in any order: arrays of one length."""

    slot: IntArray  # of the card
    terminal: IntArray
    second: IntArray  # of the day
    amount: FloatArray  # not yet rounded
    scenario: NDArray[np.int8]  # 0 is genuine

    @classmethod
    def concatenate(cls, parts: Sequence["Rows"]) -> Self:
        """All rows of the parts."""
        columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        return cls(**columns)

    def take(self, where: IntArray | NDArray[np.bool_]) -> "Rows":
        """The rows at these positions."""
        return Rows(**{field.name: getattr(self, field.name)[where] for field in fields(self)})


def genuine(people: Population, cards: Cards, day: int) -> Rows:
    """What the cardholders themselves do on a day (an ordinal)."""
    rng = generator(people.seed, Stream.SPENDING, day)
    weekday = (day - 1) % 7  # ordinal 1 is a Monday
    slot = np.repeat(np.arange(people.slots), rng.poisson(_PURCHASES * _WEEKDAY[weekday] * cards.pace))
    terminal = _terminals(people, rng, slot)
    amount = normal_amount(people, cards, rng, slot, terminal)
    amount *= np.where(rng.random(len(slot)) < _LARGE_SHARE, np.exp(rng.normal(1.5, 0.4, len(slot))), 1.0)
    second = _seconds(rng, len(slot), _WEEKEND_HOURS if weekday >= 5 else _WORKDAY_HOURS)
    bought = Rows(slot, terminal, second, amount, np.zeros(len(slot), np.int8))
    return Rows.concatenate([bought, _sessions(rng, bought)])


def normal_amount(
    people: Population, cards: Cards, rng: np.random.Generator, slot: IntArray, terminal: IntArray
) -> FloatArray:
    """Amounts as each card spends at each terminal: lognormal around the card's level times the terminal's prices."""
    log_factor = cards.spread[slot] * rng.standard_normal(len(slot))
    amount: FloatArray = cards.level[slot] * people.price[terminal] * np.exp(log_factor)
    return amount


def _terminals(people: Population, rng: np.random.Generator, slot: IntArray) -> IntArray:
    """Mostly one of the terminals near home, the nearest preferred; sometimes any."""
    rank = (NEIGHBOURS * rng.random(len(slot)) ** 1.5).astype(np.int64)
    anywhere = rng.integers(0, people.terminals, len(slot))
    return np.where(rng.random(len(slot)) < _FAR_SHARE, anywhere, people.neighbours[slot, rank])


def _seconds(rng: np.random.Generator, count: int, hours: Sequence[int]) -> IntArray:
    """Seconds of the day after an hourly profile."""
    share = np.concatenate([[0.0], np.cumsum(hours)]) / np.sum(hours)
    return np.interp(rng.random(count), share, np.arange(25) * 3600.0).astype(np.int64)


def _sessions(rng: np.random.Generator, bought: Rows) -> Rows:
    """A few small payments within minutes of some purchases, at the same terminal, before midnight."""
    first = np.flatnonzero(rng.random(len(bought.slot)) < _SESSION_SHARE)
    payments = rng.integers(_SESSION_PAYMENTS[0], _SESSION_PAYMENTS[1] + 1, len(first))
    source = np.repeat(first, payments)
    step = 1 + np.arange(len(source)) - np.repeat(np.cumsum(payments) - payments, payments)
    second = bought.second[source] + step * rng.integers(180, 1200, len(source))
    amount = rng.uniform(2.0, 10.0, len(source))
    return Rows(bought.slot[source], bought.terminal[source], second, amount, np.zeros(len(source), np.int8)).take(
        second < DAY_SECONDS
    )
