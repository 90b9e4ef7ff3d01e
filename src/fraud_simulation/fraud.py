"""Frauds: four scenarios, each as frequent as the regime of the day says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fraud_simulation.population import TRANSACTIONS_PER_TERMINAL, Cards, closing_day, population
from fraud_simulation.randomness import FloatArray, IntArray, Stream, generator
from fraud_simulation.spending import DAY_SECONDS, Rows, normal_amount
from fraud_simulation.world import Scenario, World

TERMINAL_DAYS = (14, 35)
"""How long a terminal stays compromised."""
TERMINAL_SHARE = (0.6, 1.0)
"""Share of a compromised terminal's transactions that are frauds."""
CARD_DAYS = (7, 21)
"""How long a leaked card is used by others."""
CARD_FRAUDS_PER_DAY = 0.5
LEAKED_FACTOR = (1.6, 0.35)
"""Mean and standard deviation of the log factor on the amounts of a leaked card."""
LARGE_FACTOR = (2.1, 0.35)
"""The same for single large frauds."""
TESTS = (2, 5)
"""Small payments in a burst of card testing."""
TEST_AMOUNT = (0.5, 3.0)
USED_SHARE = 0.5
"""Share of the tested cards that are then used for a large purchase."""
_BURST_SECONDS = 300
_USE_SECONDS = 3 * 3600


@dataclass(frozen=True)
class Spells:
    """Things that go wrong for some weeks, from the day they began: a terminal, or a card."""

    target: IntArray  # terminal or slot
    last_day: IntArray
    strength: FloatArray


def at_compromised_terminals(world: World, rows: Rows, day: int) -> Rows:
    """Turn most transactions at compromised terminals into frauds; their amounts stay as the card spends."""
    share = np.zeros(population(world.seed, world.transactions_per_day).terminals)
    for spells in _under_way(_terminal_spells, world, day, TERMINAL_DAYS[1]):
        share[spells.target] = np.maximum(share[spells.target], spells.strength)
    chance = generator(world.seed, Stream.TERMINAL_FRAUDS, day).random(len(rows.slot))
    scenario = np.where(chance < share[rows.terminal], np.int8(Scenario.COMPROMISED_TERMINAL), rows.scenario)
    return Rows(rows.slot, rows.terminal, rows.second, rows.amount, scenario)


def large_amounts(world: World, cards: Cards, day: int) -> Rows:
    """Single large purchases with stolen card data."""
    rng = generator(world.seed, Stream.LARGE_AMOUNTS, day)
    slot = rng.integers(0, len(cards.level), rng.poisson(world.expected(Scenario.LARGE_AMOUNT, day)))
    return _raised(world, cards, rng, slot, Scenario.LARGE_AMOUNT, LARGE_FACTOR)


def leaked_cards(world: World, cards: Cards, day: int) -> Rows:
    """Some weeks of raised amounts on the same cards, beside the cardholders' own transactions."""
    rng = generator(world.seed, Stream.CARD_FRAUDS, day)
    under_way = _under_way(_card_spells, world, day, CARD_DAYS[1])
    slot = np.concatenate([np.repeat(s.target, rng.poisson(s.strength)) for s in under_way])
    return _raised(world, cards, rng, slot, Scenario.LEAKED_CARD, LEAKED_FACTOR)


def card_testing(world: World, cards: Cards, day: int) -> Rows:
    """Bursts of small payments that try whether a card works; cards that do are soon used for a large purchase."""
    rng = generator(world.seed, Stream.CARD_TESTING, day)
    bursts = rng.poisson(world.expected(Scenario.CARD_TESTING, day) / (sum(TESTS) / 2 + USED_SHARE))
    victim = rng.integers(0, len(cards.level), bursts)
    start = rng.integers(0, DAY_SECONDS - _BURST_SECONDS - _USE_SECONDS, bursts)
    shop = rng.integers(0, population(world.seed, world.transactions_per_day).terminals, bursts)
    burst = np.repeat(np.arange(bursts), rng.integers(TESTS[0], TESTS[1] + 1, bursts))
    second = start[burst] + rng.integers(0, _BURST_SECONDS, len(burst))
    amount = rng.uniform(*TEST_AMOUNT, len(burst))
    tests = Rows(victim[burst], shop[burst], second, amount, np.full(len(burst), Scenario.CARD_TESTING, np.int8))
    works = np.flatnonzero(rng.random(bursts) < USED_SHARE)
    purchases = _raised(world, cards, rng, victim[works], Scenario.CARD_TESTING, LARGE_FACTOR)
    soon = start[works] + _BURST_SECONDS + rng.integers(0, _USE_SECONDS, len(works))
    return Rows.concatenate([tests, replace(purchases, second=soon)])


def _raised(
    world: World,
    cards: Cards,
    rng: np.random.Generator,
    slot: IntArray,
    scenario: Scenario,
    factor: tuple[float, float],
) -> Rows:
    """Frauds at any terminal and any time of the day, of the card's normal amounts times a lognormal factor."""
    people = population(world.seed, world.transactions_per_day)
    terminal = rng.integers(0, people.terminals, len(slot))
    amount = normal_amount(people, cards, rng, slot, terminal) * np.exp(rng.normal(*factor, len(slot)))
    second = rng.integers(0, DAY_SECONDS, len(slot))
    return Rows(slot, terminal, second, amount, np.full(len(slot), scenario, np.int8))


@lru_cache(maxsize=64)
def _terminal_spells(world: World, day: int) -> Spells:
    """Terminals compromised from a day on."""
    rng = generator(world.seed, Stream.TERMINAL_SPELLS, day)
    frauds = TRANSACTIONS_PER_TERMINAL * sum(TERMINAL_DAYS) / 2 * sum(TERMINAL_SHARE) / 2
    count = rng.poisson(world.expected(Scenario.COMPROMISED_TERMINAL, day) / frauds)
    target = rng.integers(0, population(world.seed, world.transactions_per_day).terminals, count)
    last_day = day + rng.integers(TERMINAL_DAYS[0], TERMINAL_DAYS[1] + 1, count) - 1
    return Spells(target, last_day, rng.uniform(*TERMINAL_SHARE, count))


@lru_cache(maxsize=64)
def _card_spells(world: World, day: int) -> Spells:
    """Cards leaked on a day; a card that closes ends its spell."""
    rng = generator(world.seed, Stream.CARD_SPELLS, day)
    people = population(world.seed, world.transactions_per_day)
    frauds = CARD_FRAUDS_PER_DAY * sum(CARD_DAYS) / 2
    count = rng.poisson(world.expected(Scenario.LEAKED_CARD, day) / frauds)
    target = rng.integers(0, people.slots, count)
    last_day = day + rng.integers(CARD_DAYS[0], CARD_DAYS[1] + 1, count) - 1
    return Spells(target, np.minimum(last_day, closing_day(people, target, day)), np.full(count, CARD_FRAUDS_PER_DAY))


def _under_way(started: Callable[[World, int], Spells], world: World, day: int, longest: int) -> Iterator[Spells]:
    """The spells of a kind that are not over on a day, by the day they began."""
    for begun in range(day - longest + 1, day + 1):
        spells = started(world, begun)
        going = spells.last_day >= day
        yield Spells(spells.target[going], spells.last_day[going], spells.strength[going])
