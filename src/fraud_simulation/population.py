"""Who pays and where: terminals with places, and cards with a home, a spending level and a pace of their own.

Cards live in slots. A slot is an address: when its card closes, the next day a new card with another number, level and
pace opens there. So the number of open cards is the same every day, and which card is open on a day needs no history.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import ndtri

from fraud_simulation.randomness import FloatArray, IntArray, Stream, generator, uniform

PACE = 1.3
"""Transactions of an average card in a day."""
TRANSACTIONS_PER_TERMINAL = 2.5
"""Transactions of an average terminal in a day."""
NEIGHBOURS = 15
"""Terminals near home that a card uses."""
VALIDITY_DAYS = (200, 1000)
_CITIES = 12
_REGION_KM = 100.0
_CITY_KM = 4.0


@dataclass(frozen=True)
class Population:
    """What no day changes."""

    seed: int
    neighbours: IntArray  # (slots, NEIGHBOURS) terminal indices, nearest first
    price: FloatArray  # (terminals,) factor on amounts
    validity: IntArray  # (slots,) days
    phase: IntArray  # (slots,) days

    @property
    def slots(self) -> int:
        """Number of cards open on any day."""
        return len(self.validity)

    @property
    def terminals(self) -> int:
        """Number of terminals."""
        return len(self.price)


@dataclass(frozen=True)
class Cards:
    """The cards open on one day, one for each slot."""

    customer_id: IntArray
    level: FloatArray  # median amount
    spread: FloatArray  # standard deviation of log amount
    pace: FloatArray  # relative to the average card


@lru_cache(maxsize=2)
def population(seed: int, transactions_per_day: int) -> Population:
    """Settle cards and terminals of a region whose cards make so many transactions on an average day."""
    slots = max(10, round(transactions_per_day / PACE))
    terminals = max(2 * NEIGHBOURS, round(transactions_per_day / TRANSACTIONS_PER_TERMINAL))
    rng = generator(seed, Stream.PLACES)
    cities = rng.uniform(0.0, _REGION_KM, (_CITIES, 2))
    shops, homes = _places(rng, cities, terminals), _places(rng, cities, slots)
    _, neighbours = cKDTree(shops).query(homes, NEIGHBOURS)
    ids = np.arange(slots)
    shortest, longest = VALIDITY_DAYS
    return Population(
        seed=seed,
        neighbours=neighbours.astype(np.int64),
        price=np.exp(0.25 * ndtri(uniform(seed, Stream.PRICES, np.arange(terminals)))),
        validity=shortest + ((longest - shortest) * uniform(seed, Stream.VALIDITY, ids)).astype(np.int64),
        phase=(longest * uniform(seed, Stream.PHASE, ids)).astype(np.int64),
    )


def cards_on(people: Population, day: int) -> Cards:
    """The cards open on a day (an ordinal). A card's own traits depend on the seed and its number alone."""
    slot = np.arange(people.slots)
    generation = (day + people.phase) // people.validity
    customer_id = 1 + slot + people.slots * generation
    seed = people.seed
    sigma = 0.6
    return Cards(
        customer_id=customer_id,
        level=27.0 * np.exp(0.7 * ndtri(uniform(seed, Stream.LEVEL, customer_id))),
        spread=0.3 + 0.3 * uniform(seed, Stream.SPREAD, customer_id),
        pace=np.exp(sigma * ndtri(uniform(seed, Stream.PACE, customer_id)) - sigma**2 / 2),
    )


def closing_day(people: Population, slot: IntArray, day: int) -> IntArray:
    """The last day (an ordinal) of the cards that are open in these slots on a day."""
    return day + people.validity[slot] - (day + people.phase[slot]) % people.validity[slot] - 1


def _places(rng: np.random.Generator, cities: FloatArray, count: int) -> FloatArray:
    """Points in the region, four of five of them in a city: (count, 2) kilometres."""
    in_city = cities[rng.integers(0, _CITIES, count)] + rng.normal(0.0, _CITY_KM, (count, 2))
    outside = rng.uniform(0.0, _REGION_KM, (count, 2))
    return np.where(rng.random((count, 1)) < 0.8, in_city, outside)
